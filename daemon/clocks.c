/* SPDX-License-Identifier: MIT */
#include "clocks.h"

#include <string.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "../common/units.h"

#define WRITE_STEP_NS     (200 * NS_PER_US)
#define SETTLE_MARGIN     1.25 /* headroom on a measured write time */
#define WRITE_SMOOTHING   4    /* one write moves the estimate a quarter of the way */
#define WRITE_DECAY       256  /* decay time constant of write times, in requests, */
#define WRITE_DECAY_EVERY 16   /* applied in steps of this many requests: each step rebuilds every transition cost */
#define ANSWER_NS_MAX     NS_PER_S /* the slowest boards take 0.3 s to move every clock */
/* moves of a clock before their minimum is used: a single one may have been slow by chance */
#define MOVES_KNOWN 2

static void init_axis(struct clocks *clocks, enum clock_id id, const struct config *config, const uint64_t **hz,
		      size_t *count)
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

/* A ceiling below the whole axis leaves its lowest entry allowed. */
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
		clocks->view.up_ns[i] = clocks->view.down_ns[i] = clocks->managed[i] ? board->clock[i].settle_ns : 0;
		clocks->times[0][i].write_ns = clocks->times[1][i].write_ns = clocks->view.up_ns[i];
	}
	int rc = grid_init(&clocks->grid, hz, count);
	if (rc < 0)
		return rc;
	clocks->view.grid = &clocks->grid;
	clocks->shadow = config->mode == MODE_SHADOW;
	clocks_configure(clocks, config);
	take_ceilings(clocks, &clocks->last);
	return 0;
}

/* A limit that would exclude every entry of the axis is set to the nearest entry. */
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

/* Time to move from the point in force to `point`. */
static uint64_t move_ns(const struct clocks *clocks, size_t point)
{
	size_t from[CLOCK_COUNT], to[CLOCK_COUNT];
	uint64_t sum_ns = 0;

	grid_axes(&clocks->grid, clocks->view.current, from);
	grid_axes(&clocks->grid, point, to);
	for (int i = 0; i < CLOCK_COUNT; i++)
		if (!clocks->view.current_known || from[i] != to[i])
			sum_ns += clocks->times[!clocks->view.current_known || to[i] > from[i]][i].write_ns;
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
	clocks_stop_pretending(clocks);
	bool same = clocks->held && !clocks->unsent && clocks->target == point;
	/* The move is under way, or done. A knob that did not take its value is written again with
	 * the next request. */
	if (same && clocks->last.serial < clocks->serial)
		return clocks->serial;
	if (same && !clocks_fault(clocks)[0])
		return 0;
	clocks->epoch += !same;
	clocks->held = true;
	clocks->released = false;
	clocks->target = clocks->wanted = point;
	clocks->target_point = target;
	uint64_t serial = keeper_link_apply(clocks->keeper, target);
	clocks->unsent = !serial;
	if (!serial)
		return 0;
	if (clocks->last.serial >= clocks->serial)
		clocks->asked_ns = clock_now_ns();
	clocks->serial = serial;
	clocks->arrives_ns = clock_now_ns() + move_ns(clocks, point);
	clocks->view.current = point;
	clocks->view.current_known = true;
	return serial;
}

void clocks_pretend(struct clocks *clocks, size_t point)
{
	if (clocks->held)
		return;
	clocks->view.current = point;
	clocks->view.current_known = true;
	clocks->pretended = true;
}

void clocks_stop_pretending(struct clocks *clocks)
{
	if (!clocks->pretended)
		return;
	clocks->view.current_known = false;
	clocks->pretended = false;
}

uint64_t clocks_raise(struct clocks *clocks, size_t point)
{
	size_t from[CLOCK_COUNT], to[CLOCK_COUNT];
	uint64_t serial;

	if (!clocks->view.current_known)
		return clocks_apply(clocks, point);
	grid_axes(&clocks->grid, clocks->view.current, from);
	grid_axes(&clocks->grid, point, to);
	for (int i = 0; i < CLOCK_COUNT; i++)
		to[i] = to[i] > from[i] ? to[i] : from[i];
	serial = clocks_apply(clocks, grid_index(&clocks->grid, to));
	clocks->wanted = point;
	return serial;
}

uint64_t clocks_lower(struct clocks *clocks)
{
	uint64_t ns;

	if (!clocks->held || clocks->wanted == clocks->target)
		return 0;
	ns = move_ns(clocks, clocks->wanted);
	clocks_apply(clocks, clocks->wanted);
	return ns;
}

uint64_t clocks_settling_ns(const struct clocks *clocks)
{
	uint64_t now_ns = clock_now_ns();

	if (!clocks->held || clocks->last.serial >= clocks->serial || now_ns >= clocks->arrives_ns)
		return 0;
	return clocks->arrives_ns - now_ns;
}

bool clocks_allow(const struct clocks *clocks, size_t point)
{
	const struct governor_board *view = &clocks->view;
	struct op_point at = grid_point(&clocks->grid, point);

	for (int c = 0; c < CLOCK_COUNT; c++)
		if (clocks->grid.count[c] > 1 && (at.hz[c] < view->floor_hz[c] || at.hz[c] > view->ceiling_hz[c] ||
						  at.hz[c] > view->ceiling_config_hz[c]))
			return false;
	return true;
}

void clocks_release(struct clocks *clocks)
{
	clocks_stop_pretending(clocks);
	if (!clocks->held)
		return;
	clocks->held = false;
	clocks->epoch++;
	clocks->view.current_known = false;
	uint64_t serial = clocks->keeper ? keeper_link_release(clocks->keeper) : 0;
	if (!serial)
		return;
	if (clocks->last.serial >= clocks->serial)
		clocks->asked_ns = clock_now_ns();
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

bool clocks_in_force(const struct clocks *clocks, const struct sysroot *root)
{
	const struct keeper_reply *last = &clocks->last;

	if (!anything_managed(clocks))
		return true;
	if (!clocks->held || clocks->unsent || last->serial < clocks->serial || last->journal_error)
		return false;
	/* A device that sleeps is not set, but its clock is off. One that has woken since is at another clock. */
	for (int i = 0; i < CLOCK_COUNT; i++) {
		const struct clock_domain *domain = &clocks->board->clock[i];

		if (clocks->managed[i] && !last->actual.hz[i] &&
		    (last->state[i] != KNOB_OK || !board_suspended(root, domain->device[domain->lead].dir)))
			return false;
	}
	return true;
}

/* With these methods write(2) returns once the clock has changed (measured on Orin: CPU 1.4 ms, GPU
 * 5.2 ms, EMC 9.3 ms). */
static bool write_is_settle(const struct clock_domain *domain)
{
	switch (domain->device[domain->lead].method) {
	case METHOD_CPUFREQ_LIMITS:
	case METHOD_CPUFREQ_SETSPEED:
	case METHOD_DEVFREQ_LIMITS:
	case METHOD_DEVFREQ_USERSPACE:
	case METHOD_BPMP_EMC: return true;
	default: return false;
	}
}

/* A documented settle time only grows. */
static void show_times(struct clocks *clocks, int i)
{
	const struct clock_domain *domain = &clocks->board->clock[i];
	bool learned = !domain->settle_documented && write_is_settle(domain);
	uint64_t *shown[2] = {&clocks->view.down_ns[i], &clocks->view.up_ns[i]};

	for (int up = 0; up < 2; up++)
		if (clocks->times[up][i].timed && (learned || clocks->times[up][i].write_ns > *shown[up]))
			*shown[up] = clocks->times[up][i].write_ns;
}

/* The measured time of writes replaces a guess. `last` is still the previous reply. */
static void learn_settle(struct clocks *clocks, const struct keeper_reply *reply)
{
	for (int i = 0; i < CLOCK_COUNT; i++) {
		uint64_t seen_ns = (uint64_t)((double)reply->write_ns[i] * SETTLE_MARGIN);
		uint64_t last_hz = clocks->last.actual.hz[i];
		bool moved = last_hz && reply->actual.hz[i] != last_hz;
		struct clock_times *times = &clocks->times[reply->actual.hz[i] > last_hz][i];

		if (!clocks->managed[i] || seen_ns == 0)
			continue;
		/* A write that may not have moved its clock is no measurement of a move. */
		if (times->timed && !moved)
			continue;
		/* A lone long one is the scheduler's; a board that got slower shows again. */
		if (times->moves && seen_ns > 2 * times->write_ns + WRITE_STEP_NS)
			seen_ns = 2 * times->write_ns + WRITE_STEP_NS;
		if (!times->moves)
			times->write_ns = seen_ns;
		else
			times->write_ns += (uint64_t)(((int64_t)seen_ns - (int64_t)times->write_ns) / WRITE_SMOOTHING);
		if (moved && (times->moves++ == 0 || seen_ns < times->least_ns))
			times->least_ns = seen_ns;
		times->timed = true;
		show_times(clocks, i);
	}
}

void clocks_take(struct clocks *clocks, const struct keeper_reply *reply)
{
	bool changed = false;

	take_ceilings(clocks, reply);
	for (int i = 0; i < CLOCK_COUNT; i++)
		changed |= reply->state[i] != clocks->last.state[i];
	if (changed && reply->text[0]) /* the text names the device */
		log_warning("%s", reply->text);
	if (reply->op == KEEPER_APPLIED)
		learn_settle(clocks, reply);
	clocks->last = *reply;
	if (clocks->held && !clocks->unsent && reply->serial >= clocks->serial) {
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

void clocks_decay_times(struct clocks *clocks)
{
	if (++clocks->decays % WRITE_DECAY_EVERY)
		return;
	for (int i = 0; i < CLOCK_COUNT; i++) {
		for (int up = 0; up < 2; up++) {
			struct clock_times *times = &clocks->times[up][i];
			uint64_t least_ns = times->moves >= MOVES_KNOWN ? times->least_ns : 0;
			uint64_t decayed_ns = times->write_ns - times->write_ns * WRITE_DECAY_EVERY / WRITE_DECAY;

			if (times->write_ns > least_ns)
				times->write_ns = decayed_ns > least_ns ? decayed_ns : least_ns;
		}
		if (clocks->managed[i])
			show_times(clocks, i);
	}
}

const char *clocks_fault(const struct clocks *clocks)
{
	enum keeper_link_state keeper = keeper_link_state(clocks->keeper);

	if (!anything_managed(clocks))
		return "no clock of this board can be moved";
	if (clocks->shadow)
		return "";
	if (keeper == KEEPER_ABSENT || keeper == KEEPER_RESTARTING)
		return "the keeper is not running, so no clock is moved";
	if (clocks->last.journal_error)
		return "the journal cannot be written, so no knob is written";
	if (clocks->last.serial < clocks->serial && clock_now_ns() - clocks->asked_ns > ANSWER_NS_MAX)
		return "the keeper does not answer: a write may be blocked, and the clocks are unknown";
	for (int i = 0; i < CLOCK_COUNT; i++)
		if (clocks->last.state[i] != KNOB_OK)
			return clocks->last.text[0] ? clocks->last.text : "a clock does not follow";
	return "";
}

const char *clocks_owner(const struct clocks *clocks, enum clock_id id)
{
	if (clocks->last.state[id] == KNOB_FOREIGN)
		return "foreign";
	return clocks->held && !clocks->unsent && clocks->managed[id] &&
			       keeper_link_state(clocks->keeper) == KEEPER_RUNNING ?
		       "flamed" :
		       "kernel";
}
