/* SPDX-License-Identifier: MIT */
/* The words of reasons, and why a cheaper point was not chosen. */
#include "state.h"

static const struct {
	const char *word, *text;
} refusals[] = {
	[REFUSED_NOT] = {"", ""},
	[REFUSED_LATE] = {"late", "it is too likely to be late"},
	[REFUSED_MOVE] = {"move", "it is fast enough, but not with the time that setting the clocks takes"},
	[REFUSED_SHARED] =
		{"shared",
		 "it is fast enough for this request alone, but not with other deadlines: of other requests, or "
		 "a shorter one of late"},
	[REFUSED_CEILING] = {"ceiling", "it is above a ceiling set by flamed.conf, another program or the kernel"},
	[REFUSED_FLOOR] = {"floor", "it is below the floor set in flamed.conf"},
	[REFUSED_CAP] = {"cap", "it draws more than power_max of flamed.conf"},
	[REFUSED_DWELL] = {"dwell", "the memory clock moved too recently"},
	[REFUSED_PRICE] = {"price", "it saves too little for its risk and the cost of the move"},
};

const char *refusal_word(enum refusal refusal)
{
	return (size_t)refusal < sizeof(refusals) / sizeof(*refusals) ? refusals[refusal].word : "unknown";
}

const char *refusal_text(enum refusal refusal)
{
	return (size_t)refusal < sizeof(refusals) / sizeof(*refusals) ? refusals[refusal].text : "";
}

static const struct {
	const char *word, *text;
} reasons[] = {
	[REASON_CHEAPEST] = {"cheapest", "is the cheapest point that meets the deadline"},
	[REASON_UNKNOWN] = {"unknown", "is the highest point allowed, as nothing was measured yet"},
	[REASON_EXPLORE] = {"explore", "is explored, as its expected saving is worth the risk"},
	[REASON_WAY] = {"way", "is on the way to a cheaper point that cannot be reached in time at once"},
	[REASON_STAY] = {"stay", "is kept, as moving costs more than it would save"},
	[REASON_BUY] = {"buy",
			"makes later requests meet the deadline, although the move is likely to make this one late"},
	[REASON_FASTEST] = {"fastest", "is the fastest point allowed, but too slow for the deadline"},
	[REASON_CAP] = {"cap", "is the fastest point under the power cap, but too slow for the deadline"},
};

const char *reason_word(enum reason reason)
{
	return (size_t)reason < sizeof(reasons) / sizeof(*reasons) ? reasons[reason].word : "unknown";
}

const char *reason_text(enum reason reason)
{
	return (size_t)reason < sizeof(reasons) / sizeof(*reasons) ? reasons[reason].text : "";
}

static enum refusal refusal_of(const struct governor_task *t, size_t point)
{
	const struct party *newest = &t->party[t->newest];
	size_t axis[CLOCK_COUNT];
	struct cost there = cost_at(t, point, 0);

	grid_axes(t->board.grid, point, axis);
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (axis[c] < t->low[c] || axis[c] > t->high[c])
			return axis[c] > t->high[c] ? REFUSED_CEILING : REFUSED_FLOOR;
	if (!cost_allowed(t, point, t->low))
		return REFUSED_CAP;
	if (!cost_allowed(t, point, t->soft))
		return REFUSED_DWELL;
	if (there.worst > t->risk_max)
		return cost_late(t, newest, point, cost_end(t, newest, point), newest->slack_ns) > t->risk_max ?
			       REFUSED_LATE :
			       REFUSED_SHARED;
	return cost_now(t, point, moves_up_ns(&t->board, t->from, axis)).worst > t->risk_max ? REFUSED_MOVE :
											       REFUSED_PRICE;
}

/* Upper quantile of the newest request's end. */
double explain_bound_ns(const struct governor_task *t, size_t point)
{
	const struct party *p = &t->party[t->newest];
	const struct surface *s = p->surface;
	double sd = sqrt((double)s->sd[point] * (double)s->sd[point] + (double)s->slow_sd * (double)s->slow_sd +
			 p->doubt_var);

	return cost_end(t, p, point) * exp(hypot(t->governor->quantile_sd * sd, (double)s->noise_log));
}

/* Of the cheaper points the one of least cost; points that are not allowed at any deadline come last. */
void governor_explain(const struct governor *governor, struct decision *decision)
{
	const struct governor_task *t = governor->task;
	const struct party *newest = &t->party[t->newest];
	size_t best = SIZE_MAX, axis[CLOCK_COUNT];
	bool best_allowed = false;
	double least = INFINITY;

	decision->runner_up.point = SIZE_MAX;
	if (t->target == SIZE_MAX || decision->reason == REASON_UNKNOWN)
		return;
	for (size_t i = t->board.grid->points; i-- > 0;) {
		bool allowed;
		if (cost_power_uw(t, i) >= cost_power_uw(t, decision->point))
			continue;
		allowed = cost_allowed(t, i, t->low);
		if (best_allowed && !allowed)
			continue;
		struct cost cost = cost_floor(t, i, 0, INFINITY, best_allowed ? least : INFINITY);
		double sum = cost.power_uw + cost.misses_uw;
		if (best_allowed == allowed && sum >= least)
			continue;
		best = i;
		least = sum;
		best_allowed = allowed;
	}
	if (best == SIZE_MAX)
		return;
	grid_axes(t->board.grid, best, axis);
	decision->runner_up.point = best;
	decision->runner_up.refused = refusal_of(t, best);
	decision->runner_up.bound_ns = (uint64_t)explain_bound_ns(t, best);
	decision->runner_up.settle_ns = (uint64_t)moves_up_ns(&t->board, t->from, axis);
	decision->runner_up.power_uw = (double)newest->surface->power_uw[best];
	decision->runner_up.late = cost_now(t, best, (double)decision->runner_up.settle_ns).newest;
	decision->runner_up.deadline_ns = 0;
	if (decision->runner_up.refused == REFUSED_LATE || decision->runner_up.refused == REFUSED_MOVE)
		decision->runner_up.deadline_ns =
			decision->runner_up.bound_ns + decision->runner_up.settle_ns + newest->request->settling_ns;
}
