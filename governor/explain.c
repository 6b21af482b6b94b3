/* SPDX-License-Identifier: MIT */
/* Why a decision was not a cheaper one. */
#include "moves.h"
#include "task.h"

const char *refusal_text(enum refusal refusal)
{
	static const char *const text[] = {
		[REFUSED_NOT] = "", [REFUSED_BOUND] = "bound", [REFUSED_SETTLE] = "settle", [REFUSED_SHARED] = "shared",
		[REFUSED_CEILING] = "ceiling", [REFUSED_FLOOR] = "floor", [REFUSED_HOLD] = "hold", [REFUSED_DWELL] = "dwell",
		[REFUSED_GAIN] = "gain", [REFUSED_STANDBY] = "standby",
	};

	return (size_t)refusal < sizeof(text) / sizeof(*text) ? text[refusal] : "unknown";
}

/* The rule that refused a point that is cheaper than the chosen one. */
static enum refusal why_not(const struct governor_task *t, size_t point)
{
	size_t axis[CLOCK_COUNT], from[CLOCK_COUNT], newest = 0;
	struct demand alone;

	grid_axes(t->board.grid, point, axis);
	for (int c = 0; c < CLOCK_COUNT; c++) {
		if (axis[c] > t->high[c])
			return REFUSED_CEILING;
		if (axis[c] < t->low[c])
			return REFUSED_FLOOR;
	}
	grid_axes(t->board.grid, t->board.current, from);
	float move_ns = moves_cost(&t->board, from, axis, t->newest.waits);
	if (task_fits(t, point, move_ns)) {
		if (axis[CLOCK_MEM] < t->soft[CLOCK_MEM] && t->governor->mem_tokens < 1)
			return REFUSED_DWELL;
		return moves_within(axis, t->soft, t->high) ? REFUSED_GAIN : REFUSED_STANDBY;
	}
	if (task_fits(t, point, 0))
		return REFUSED_SETTLE;
	while (newest + 1 < t->count && t->session[newest] != t->newest.session)
		newest++;
	alone = t->demand[newest];
	if (t->count > 1 && scan_late(&alone, 1, point) + move_ns <= 0)
		return REFUSED_SHARED;
	alone.scale /= (float)task_past_factor(t, t->newest.session);
	return t->count == 1 && scan_late(&alone, 1, point) + move_ns <= 0 ? REFUSED_HOLD : REFUSED_BOUND;
}

void governor_explain(const struct governor *governor, struct decision *decision)
{
	const struct governor_task *t = &governor->task;
	float price;

	if (t->count == 0)
		return; /* a surface is not known yet: nothing was compared */
	price = scan_price(&t->price, decision->point);
	if (decision->step)
		decision->runner_up = t->home;
	else if (t->thrifty != SIZE_MAX && scan_price(&t->price, t->thrifty) < price)
		decision->runner_up = t->thrifty;
	else
		decision->runner_up = scan_next_cheaper(&t->price, price, t->board.grid->points);
	if (decision->runner_up == SIZE_MAX)
		return;
	decision->runner_up_refused = why_not(t, decision->runner_up);
	decision->runner_up_bound_ns = (uint64_t)(t->surface->bound_ns[decision->runner_up] * decision->factor);
	decision->runner_up_settle_ns = moves_settle_ns(&t->board, decision->runner_up);
	decision->runner_up_power_uw = t->surface->power_uw[decision->runner_up];
}
