/* SPDX-License-Identifier: MIT */
#include "clocks.h"

#include <string.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "../common/units.h"

#define WRITE_STEP_NS (200 * NS_PER_US)
#define SETTLE_MARGIN 1.25 /* head room on a write time */
#define WRITE_SMOOTHING 4  /* one write moves the estimate by a quarter of the way */
#define WRITE_FORGET  256  /* requests over which a time that keeps us from moving is doubted, */
#define WRITE_FORGET_EVERY 16 /* so many at once: each time all costs of moving are made anew */
#define MOVES_KNOWN   2    /* moves of a clock that tell what the least is; one alone may have been a long one */

static void init_axis(struct clocks *clocks, enum clock_id id, const struct config *config, const uint64_t **hz, size_t *count)
{
	const struct clock_domain *domain = &clocks->board->clock[id];

	clocks->managed[id] = domain->devices > 0 && config->use[id] == CLOCK_MANAGE;
	if (clocks->managed[id]) {
		*hz = domain->device[domain->lead].hz;
		*count = domain->device[domain->lead].count;
		return;
	}
	clocks->found.hz[id] = domain->fixed_hz;
	*hz = &clocks->found.hz[id];
	*count = 1;
}

/* A ceiling below the whole axis leaves its lowest entry. */
static void take_ceilings(struct clocks *clocks, const struct keeper_reply *reply)
{
	for (int i = 0; i < CLOCK_COUNT; i++) {
		uint64_t ceiling_hz = reply->ceiling.hz[i] ? reply->ceiling.hz[i] : UINT64_MAX;

		clocks->view.ceiling_hz[i] = ceiling_hz < clocks->grid.hz[i][0] ? clocks->grid.hz[i][0] : ceiling_hz;
	}
}

int clocks_init(struct clocks *clocks, const struct board *board, const struct config *config)
{
	const uint64_t *hz[CLOCK_COUNT];
	size_t count[CLOCK_COUNT];

	clocks->board = board;
	for (int i = 0; i < CLOCK_COUNT; i++) {
		init_axis(clocks, (enum clock_id)i, config, &hz[i], &count[i]);
		clocks->view.settle_ns[i] = clocks->managed[i] ? board->clock[i].settle_ns : 0;
		clocks->view.write_ns[i] = clocks->view.settle_ns[i];
	}
	int rc = grid_init(&clocks->grid, hz, count);
	if (rc < 0)
		return rc;
	clocks->view.grid = &clocks->grid;
	clocks_configure(clocks, config);
	take_ceilings(clocks, &clocks->last);
	return 0;
}

/* A limit that would leave no entry of the axis is brought to the nearest. */
void clocks_configure(struct clocks *clocks, const struct config *config)
{
	for (int i = 0; i < CLOCK_COUNT; i++) {
		const uint64_t *axis = clocks->grid.hz[i];
		uint64_t lowest = axis[0], highest = axis[clocks->grid.count[i] - 1];

		clocks->view.floor_hz[i] = config->min_hz[i] > highest ? highest : config->min_hz[i];
		clocks->view.ceiling_config_hz[i] = config->max_hz[i] < lowest ? lowest : config->max_hz[i];
	}
}

static bool anything_managed(const struct clocks *clocks)
{
	return clocks->managed[CLOCK_CPU] || clocks->managed[CLOCK_GPU] || clocks->managed[CLOCK_MEM];
}

/* From the point in force to another. */
static uint64_t move_ns(const struct clocks *clocks, size_t point)
{
	size_t from[CLOCK_COUNT], to[CLOCK_COUNT];
	uint64_t sum_ns = 0;

	grid_axes(&clocks->grid, clocks->view.current, from);
	grid_axes(&clocks->grid, point, to);
	for (int i = 0; i < CLOCK_COUNT; i++)
		if (!clocks->view.current_known || from[i] != to[i])
			sum_ns += clocks->view.write_ns[i];
	return sum_ns;
}

uint64_t clocks_apply(struct clocks *clocks, size_t point)
{
	struct op_point target = grid_point(&clocks->grid, point);

	for (int i = 0; i < CLOCK_COUNT; i++)
		if (!clocks->managed[i])
			target.hz[i] = 0;
	if (!anything_managed(clocks) || !clocks->keeper)
		return 0;
	/* Under way, or there. A knob that did not take its value is tried again with the next request. */
	if (clocks->held && clocks->target == point && clocks->last.serial < clocks->serial)
		return clocks->serial;
	if (clocks->held && clocks->target == point && !clocks_fault(clocks)[0])
		return 0;
	clocks->epoch += !clocks->held || clocks->target != point;
	clocks->held = true;
	clocks->released = false;
	clocks->target = point;
	clocks->target_point = target;
	uint64_t serial = keeper_link_apply(clocks->keeper, target);
	if (!serial)
		return 0;
	clocks->serial = serial;
	clocks->arrives_ns = clock_now_ns() + move_ns(clocks, point);
	clocks->view.current = point;
	clocks->view.current_known = true;
	return serial;
}

uint64_t clocks_flight_ns(const struct clocks *clocks)
{
	uint64_t now_ns = clock_now_ns();

	if (!clocks->held || clocks->last.serial >= clocks->serial || now_ns >= clocks->arrives_ns)
		return 0;
	return clocks->arrives_ns - now_ns;
}

void clocks_release(struct clocks *clocks)
{
	if (!clocks->held)
		return;
	clocks->held = false;
	clocks->epoch++;
	clocks->view.current_known = false;
	uint64_t serial = clocks->keeper ? keeper_link_release(clocks->keeper) : 0;
	if (serial)
		clocks->serial = serial;
}

struct op_point clocks_point(const struct clocks *clocks)
{
	struct op_point point = grid_point(&clocks->grid, clocks->held ? clocks->target : clocks->grid.points - 1);

	for (int i = 0; i < CLOCK_COUNT && clocks->held; i++)
		if (clocks->managed[i] && clocks->last.actual.hz[i])
			point.hz[i] = clocks->last.actual.hz[i];
	return point;
}

/* These return from write(2) when the clock has changed (measured on Orin:
 * CPU 1.4 ms, GPU 5.2 ms, EMC 9.3 ms, in effect as the write returns). */
static bool write_is_settle(const struct clock_domain *domain)
{
	switch (domain->device[domain->lead].method) {
	case METHOD_CPUFREQ_LIMITS:
	case METHOD_CPUFREQ_SETSPEED:
	case METHOD_DEVFREQ_LIMITS:
	case METHOD_DEVFREQ_USERSPACE:
	case METHOD_BPMP_EMC:
		return true;
	default:
		return false;
	}
}

/* What writes really took replaces a guess; a documented settle time only grows.
 * `last` is still the answer before. */
static void learn_settle(struct clocks *clocks, const struct keeper_reply *reply)
{
	struct governor_board *view = &clocks->view;

	for (int i = 0; i < CLOCK_COUNT; i++) {
		const struct clock_domain *domain = &clocks->board->clock[i];
		uint64_t seen_ns = (uint64_t)((double)reply->write_ns[i] * SETTLE_MARGIN);
		bool moved = reply->actual.hz[i] != clocks->last.actual.hz[i];

		if (!clocks->managed[i] || seen_ns == 0)
			continue;
		/* A clock that stayed where it was tells nothing about moving it. */
		if (clocks->timed[i] && !moved)
			continue;
		if (moved && (clocks->moves[i]++ == 0 || seen_ns < clocks->least_ns[i]))
			clocks->least_ns[i] = seen_ns;
		/* A lone long one is the scheduler's; a board that got slower shows again. */
		if (clocks->timed[i] && seen_ns > 2 * view->write_ns[i] + WRITE_STEP_NS)
			seen_ns = 2 * view->write_ns[i] + WRITE_STEP_NS;
		if (!clocks->timed[i])
			view->write_ns[i] = seen_ns;
		else
			view->write_ns[i] += (uint64_t)(((int64_t)seen_ns - (int64_t)view->write_ns[i]) / WRITE_SMOOTHING);
		clocks->timed[i] = true;
		if (view->write_ns[i] > view->settle_ns[i] || (!domain->settle_documented && write_is_settle(domain)))
			view->settle_ns[i] = view->write_ns[i];
	}
}

void clocks_take(struct clocks *clocks, const struct keeper_reply *reply)
{
	take_ceilings(clocks, reply);
	for (int i = 0; i < CLOCK_COUNT; i++) {
		if (reply->state[i] != clocks->last.state[i] && reply->text[0])
			log_warning("%s clock: %s", clock_name((enum clock_id)i), reply->text);
	}
	if (reply->op == KEEPER_APPLIED)
		learn_settle(clocks, reply);
	clocks->last = *reply;
	if (clocks->held && reply->serial >= clocks->serial) {
		clocks->view.current = grid_nearest(&clocks->grid, clocks_point(clocks));
		clocks->view.current_known = true;
	}
}

void clocks_lose(struct clocks *clocks)
{
	memset(&clocks->last, 0, sizeof(clocks->last));
	clocks->held = false;
	clocks->epoch++;
	clocks->view.current_known = false;
	for (int i = 0; i < CLOCK_COUNT; i++)
		clocks->view.ceiling_hz[i] = UINT64_MAX;
	clocks->serial = 0;
}

void clocks_forget(struct clocks *clocks)
{
	if (++clocks->forgets % WRITE_FORGET_EVERY)
		return;
	for (int i = 0; i < CLOCK_COUNT; i++) {
		const struct clock_domain *domain = &clocks->board->clock[i];
		uint64_t least_ns = clocks->moves[i] >= MOVES_KNOWN ? clocks->least_ns[i] : 0;
		uint64_t doubted_ns = clocks->view.write_ns[i] - clocks->view.write_ns[i] * WRITE_FORGET_EVERY / WRITE_FORGET;

		if (clocks->view.write_ns[i] > least_ns)
			clocks->view.write_ns[i] = doubted_ns > least_ns ? doubted_ns : least_ns;
		if (clocks->managed[i] && !domain->settle_documented && write_is_settle(domain) && clocks->timed[i])
			clocks->view.settle_ns[i] = clocks->view.write_ns[i];
	}
}

const char *clocks_fault(const struct clocks *clocks)
{
	if (clocks->last.journal_error)
		return "the journal cannot be written, so no knob is";
	for (int i = 0; i < CLOCK_COUNT; i++)
		if (clocks->last.state[i] != KNOB_OK)
			return clocks->last.text[0] ? clocks->last.text : "a clock does not follow";
	return "";
}
