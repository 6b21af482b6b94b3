/* SPDX-License-Identifier: MIT */
#include "governor.h"

#include <math.h>
#include "../common/clock.h"
#include "memory.h"
#include "moves.h"
#include "task.h"
#include "trial.h"

#define MEM_BURST 4.0          /* moves down before mem_dwell_ns spaces them out */
#define FASTEST_TOLERANCE 1.02 /* every clock up, unless another point is this much faster */
#define HOME_RESERVE 0.01      /* what is learned on the way may make a goal a little slower */
#define AWAY_RESERVE 0.03      /* of who was late to get there, and should not be so again */
#define STEPS 3                /* on the way to a cheaper point, one after the other */
#define WAYS 3                 /* where a clock may stand on a stepping stone: as now, as at home, as high as it goes */
#define IDLE_GAP_NS (50 * NS_PER_MS)
#define NO_GAP_NS NS_PER_MS    /* the next request is about to decide by itself */
#define IDLE_GAP_SETTLES 10    /* gap over cost of the moves, to come down for it */

void governor_options_default(struct governor_options *options)
{
	*options = (struct governor_options){
		.objective = OBJECTIVE_POWER, .mem_dwell_ns = 2 * NS_PER_S, .hold_requests = 8, .gain_min = 0.01};
}

void governor_init(struct governor *governor, const struct governor_options *options)
{
	memset(governor, 0, sizeof(*governor));
	governor->options = *options;
	governor->mem_tokens = MEM_BURST;
	for (uint32_t i = 0; i < SESSIONS_MAX; i++)
		governor_session_reset(governor, i);
}

static size_t top_point(const struct governor_task *t)
{
	return grid_index(t->board.grid, t->high);
}

/* ---- the memory clock's dwell ---- */

static void refill_mem(struct governor *governor, uint64_t now_ns)
{
	uint64_t dwell_ns = governor->options.mem_dwell_ns;

	if (dwell_ns == 0)
		governor->mem_tokens = MEM_BURST;
	else if (now_ns > governor->mem_moved_ns)
		governor->mem_tokens = fmin(governor->mem_tokens + (double)(now_ns - governor->mem_moved_ns) / (double)dwell_ns, MEM_BURST);
	governor->mem_moved_ns = now_ns;
}

static void note_mem(struct governor *governor, const struct grid *grid, size_t point)
{
	size_t axis[CLOCK_COUNT];

	grid_axes(grid, point, axis);
	if (axis[CLOCK_MEM] < governor->mem_axis)
		governor->mem_tokens = fmax(governor->mem_tokens - 1, 0);
	governor->mem_axis = axis[CLOCK_MEM];
}

/* Lower limits of thrift and caution, never above the ceilings. */
static void soft_limits(struct governor_task *t)
{
	size_t current[CLOCK_COUNT];

	memcpy(t->soft, t->low, sizeof(t->soft));
	if (t->board.current_known && t->governor->mem_tokens < 1) {
		grid_axes(t->board.grid, t->board.current, current);
		if (t->soft[CLOCK_MEM] < current[CLOCK_MEM])
			t->soft[CLOCK_MEM] = current[CLOCK_MEM];
	}
	memory_standby(t->governor, &t->newest, t->board.settle_ns, t->now_ns, t->soft);
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (t->soft[c] > t->high[c])
			t->soft[c] = t->high[c];
}

/* ---- the choice ---- */

/* Bring the cost of moving up to date for these limits. */
static void move_from(struct governor_task *t, const size_t low[CLOCK_COUNT])
{
	moves_to(&t->governor->moves, &t->board, low, t->high, t->newest.waits);
}

static size_t cheapest(struct governor_task *t, const size_t low[CLOCK_COUNT])
{
	move_from(t, low);
	return scan_cheapest(t->demand, t->count, &t->price, t->governor->moves.ns, t->board.grid->points,
			     t->board.current_known ? t->board.current : SIZE_MAX);
}

/* The cheapest point that would fit once there. */
static size_t cheapest_standing(struct governor_task *t)
{
	struct governor_board there = {.grid = t->board.grid};
	const float *none_ns = moves_to(&t->governor->standing, &there, t->soft, t->high, false);

	return scan_cheapest(t->demand, t->count, &t->price, none_ns, t->board.grid->points, t->board.current_known ? t->board.current : SIZE_MAX);
}

/* The same for a home that takes more than one request to come to: by then it has to fit still, whatever is learned meanwhile. */
static size_t cheapest_lasting(struct governor_task *t, double reserve)
{
	struct demand now = t->demand[0];
	size_t home;

	if (t->count > 1)
		return t->home;
	t->demand[0].scale *= (float)(1 + reserve);
	home = cheapest_standing(t);
	t->demand[0] = now;
	return home == SIZE_MAX ? t->home : home;
}

/* Over its slack by the bound alone, and moving elsewhere takes longer than that is over: it will hardly be late. */
static bool about_in_time(const struct governor_task *t, size_t point)
{
	return t->count == 1 && isfinite(t->governor->moves.ns[point]) && task_risk(t, point, 0) <= RISK_SMALL && t->home != SIZE_MAX;
}

/* Nothing fits: as we are if that is about in time; else every clock up, or where the bound is clearly lower. */
static size_t fastest(struct governor_task *t)
{
	size_t top = top_point(t), best;

	move_from(t, t->low);
	if (t->board.current_known && about_in_time(t, t->board.current))
		return t->board.current;
	best = scan_fastest(t->demand, t->count, t->governor->moves.ns, t->board.grid->points);
	if (best == SIZE_MAX || t->surface->bound_ns[top] <= FASTEST_TOLERANCE * t->surface->bound_ns[best])
		return top;
	return best;
}

/* Late whatever is done, but only for the time to move: this one request goes to where those that follow it fit. */
static size_t way_out(struct governor_task *t, size_t best)
{
	if (t->count > 1 || (t->board.current_known && about_in_time(t, t->board.current)))
		return best;
	t->home = cheapest_standing(t);
	return t->home == SIZE_MAX ? best : cheapest_lasting(t, AWAY_RESERVE);
}

/* Not held up by past misses any more, as nothing fits with them. */
static size_t without_past(struct governor_task *t, const struct governor_request *requests, size_t count, bool *feasible)
{
	size_t best = fastest(t), other;

	task_demands(t, requests, count, false);
	*feasible = task_fits(t, best, t->governor->moves.ns[best]);
	if (*feasible)
		return best;
	other = cheapest(t, t->low);
	*feasible = other != SIZE_MAX;
	return *feasible ? other : way_out(t, best);
}

/* It pays only where nothing else moves the clocks meanwhile, and the next request wants the same. */
static bool may_step(const struct governor_task *t, size_t best)
{
	const struct governor_session *s = &t->governor->session[t->newest.session];

	return t->count == 1 && t->board.current_known && s->wanted == t->home && s->point == t->board.current &&
	       (s->steps < STEPS || s->requests % TRIAL_EVERY == 0) && task_gain(t, best, t->home) >= task_gain_needed(t, t->home);
}

/* Of the time between two requests, what may go into moving after one at this point. Where they follow each other at once
 * now, they will there, too. */
static double rest_ns(const struct governor_task *t, size_t i)
{
	return task_gap_ns(t, t->board.current) > NO_GAP_NS ? GAP_SHARE * fmax(task_gap_ns(t, i), 0) : 0;
}

/* The k-th of all points whose clocks stand one of these ways each. */
static size_t mixture(const struct grid *grid, size_t way[WAYS][CLOCK_COUNT], unsigned k, size_t axis[CLOCK_COUNT])
{
	for (int c = 0; c < CLOCK_COUNT; c++, k /= WAYS)
		axis[c] = way[k % WAYS][c];
	return grid_index(grid, axis);
}

/* A point with some clocks of home, some of today and, where there are gaps, some as high as they go, from where home can be
 * reached in the next request or the gap before it: the cheapest of them, if that pays. SIZE_MAX: none. */
static size_t stepping_stone(const struct governor_task *t, size_t best)
{
	size_t way[WAYS][CLOCK_COUNT], axis[CLOCK_COUNT], stone = SIZE_MAX;
	float price = scan_price(&t->price, best), most = price + PAYBACK_REQUESTS * (price - scan_price(&t->price, t->home));

	grid_axes(t->board.grid, t->board.current, way[0]);
	grid_axes(t->board.grid, t->home, way[1]);
	memcpy(way[2], rest_ns(t, t->board.current) > 0 ? t->high : way[0], sizeof(way[2]));
	for (unsigned k = 0; k < WAYS * WAYS * WAYS; k++) {
		size_t i = mixture(t->board.grid, way, k, axis);
		if (i == t->board.current || i == t->home || !(scan_price(&t->price, i) < most) || !task_fits(t, i, t->governor->moves.ns[i]) ||
		    !task_fits(t, t->home, fmax(moves_cost(&t->board, axis, way[1], t->newest.waits) - rest_ns(t, i), 0)))
			continue;
		most = scan_price(&t->price, i);
		stone = i;
	}
	return stone;
}

/* The cheapest point that can be had now, or a step on the way to one that is cheaper still. */
static size_t within_reach(struct governor_task *t)
{
	size_t best, stone;

	t->home = cheapest_standing(t);
	if (t->home == SIZE_MAX)
		return SIZE_MAX;
	move_from(t, t->soft);
	if (task_fits(t, t->home, t->governor->moves.ns[t->home]))
		return t->home;
	best = cheapest(t, t->soft);
	t->home = cheapest_lasting(t, HOME_RESERVE);
	stone = best != SIZE_MAX && may_step(t, best) ? stepping_stone(t, best) : SIZE_MAX;
	t->steps = stone != SIZE_MAX;
	return t->steps ? stone : best;
}

static bool worth_staying(const struct governor_task *t, size_t best)
{
	size_t current = t->board.current;

	return t->board.current_known && isfinite(t->governor->moves.ns[current]) && task_fits(t, current, 0) &&
	       task_gain(t, current, best) < task_gain_needed(t, best);
}

/* ---- the verbs ---- */

static void remember(struct governor_task *t, const struct decision *out)
{
	struct governor_session *s = &t->governor->session[t->newest.session];

	s->back = !out->feasible && !out->trial && t->home != SIZE_MAX && ((s->trial && s->feasible) || s->back);
	s->trial = out->trial;
	s->feasible = out->feasible && t->count > 0; /* of a model not known at all nothing could be told */
	s->seen = out->measured;
	s->steps = out->point == t->home ? 0 : s->steps + t->steps;
	s->wanted = t->home;
	s->point = out->point;
	s->ahead = SIZE_MAX;
	if (out->feasible && memory_is_tight(s, t->newest.deadline_ns - t->newest.begin_ns))
		grid_axes(t->board.grid, out->point, s->home);
	note_mem(t->governor, t->board.grid, out->point);
}

static void choose(struct governor_task *t, const struct governor_request *requests, size_t count, struct decision *out)
{
	t->thrifty = SIZE_MAX;
	task_demands(t, requests, count, true);
	task_price(t, (float)t->newest.deadline_ns - (float)t->now_ns);
	soft_limits(t);
	out->feasible = true;
	out->point = within_reach(t);
	if (out->point == SIZE_MAX)
		out->point = cheapest(t, t->low);
	if (out->point == SIZE_MAX) {
		out->point = without_past(t, requests, count, &out->feasible);
	} else if (!t->steps && worth_staying(t, out->point)) {
		t->thrifty = out->point;
		out->point = t->board.current;
	}
	size_t trial = trial_now(t, out->point, out->feasible);
	out->trial = trial != SIZE_MAX;
	if (out->trial) {
		out->point = trial;
		out->feasible = out->feasible || trial == t->governor->session[t->newest.session].ahead; /* it was, before the gap */
	}
	out->step = t->steps = t->steps && !out->trial;
	out->late_once = !out->feasible && count == 1 && task_fits(t, out->point, 0);
	out->stays = !out->feasible && t->board.current_known && out->point == t->board.current && about_in_time(t, out->point);
	task_describe(t, out);
}

static bool any_unknown(const struct governor_request *requests, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (requests[i].surface->state == SURFACE_NONE)
			return true;
	return false;
}

void governor_decide(struct governor *governor, const struct governor_board *board, const struct governor_request *requests,
		     size_t count, uint64_t now_ns, struct decision *out)
{
	const struct governor_request *newest = &requests[count - 1];
	struct governor_task *t = &governor->task;

	t->governor = governor;
	t->board = *board;
	t->newest = *newest;
	t->surface = newest->surface;
	t->now_ns = now_ns;
	t->past = true;
	t->count = 0;
	t->home = SIZE_MAX;
	t->steps = false;
	*out = (struct decision){.runner_up = SIZE_MAX, .feasible = true};
	for (int c = 0; c < CLOCK_COUNT; c++)
		moves_limits(board, c, &t->low[c], &t->high[c]);
	refill_mem(governor, now_ns);
	memory_begin(governor, newest, (uint64_t)(t->surface->bound_ns[top_point(t)] * task_base_factor(t, t->surface)));
	for (size_t i = 0; i < count; i++)
		out->learning = out->learning || requests[i].surface->state != SURFACE_READY;
	if (any_unknown(requests, count)) {
		out->point = top_point(t);
		task_describe(t, out);
	} else {
		choose(t, requests, count, out);
	}
	remember(t, out);
}

/* ---- between requests ---- */

/* Where the session's next request will want to be, once there. */
static size_t next_home(struct governor_task *t, uint64_t relative_ns)
{
	task_demands(t, &t->newest, 1, true);
	t->demand[0].slack_ns = (float)relative_ns;
	task_price(t, (float)relative_ns);
	soft_limits(t);
	return cheapest_standing(t);
}

/* The least idle power from where the next request still makes it home. */
static size_t idle_home(const struct governor_task *t, size_t home, uint64_t gap_ns)
{
	const float *idle_uw = t->surface->idle_power_uw;
	size_t best = home, to[CLOCK_COUNT], axis[CLOCK_COUNT];
	float best_uw = idle_uw[home];

	grid_axes(t->board.grid, home, to);
	for (size_t i = 0; i < t->board.grid->points; i++) {
		if (!(idle_uw[i] < best_uw))
			continue;
		grid_axes(t->board.grid, i, axis);
		double back_ns = moves_cost(&t->board, axis, to, true);
		bool memory_moves = axis[CLOCK_MEM] != to[CLOCK_MEM] && gap_ns < t->governor->options.mem_dwell_ns;
		double saved = (double)(idle_uw[home] - idle_uw[i]) * (double)gap_ns;
		if (memory_moves || !moves_within(axis, t->soft, t->high) || back_ns * IDLE_GAP_SETTLES > (double)gap_ns ||
		    !task_fits(t, home, back_ns) || saved < t->surface->power_uw[home] * 2 * back_ns)
			continue;
		best = i;
		best_uw = idle_uw[i];
	}
	return best;
}

/* In time for the next request: over within the gap, or inside its slack. */
static bool in_time(const struct governor_task *t, size_t point, uint64_t gap_ns)
{
	double move_ns = (double)moves_settle_ns(&t->board, point), rest_ns = GAP_SHARE * (double)gap_ns;

	return move_ns <= rest_ns || task_fits(t, point, move_ns - rest_ns);
}

/* Home, or as much of the way down as there is time for: one clock in this gap, another in the next. */
static size_t towards(const struct governor_task *t, size_t home, uint64_t gap_ns)
{
	float best = scan_price(&t->price, t->board.current) * (float)(1 - t->governor->options.gain_min);
	size_t point = home, axis[CLOCK_COUNT];

	if (in_time(t, home, gap_ns))
		return home;
	for (size_t i = 0; i < t->board.grid->points; i++) {
		if (!(scan_price(&t->price, i) < best) || !task_fits(t, i, 0) || !in_time(t, i, gap_ns))
			continue;
		grid_axes(t->board.grid, i, axis);
		if (!moves_within(axis, t->soft, t->high))
			continue;
		best = scan_price(&t->price, i);
		point = i;
	}
	return point;
}

/* A view of the board with one request yet to come, of this relative deadline. */
static void expect(struct governor_task *t, struct governor *governor, const struct governor_board *board,
		   const struct surface *surface, uint32_t session, uint64_t relative_ns, uint64_t now_ns)
{
	t->governor = governor;
	t->board = *board;
	t->newest = (struct governor_request){
		.surface = surface, .session = session, .begin_ns = now_ns, .deadline_ns = now_ns + relative_ns};
	t->surface = surface;
	t->now_ns = now_ns;
	for (int c = 0; c < CLOCK_COUNT; c++)
		moves_limits(board, c, &t->low[c], &t->high[c]);
}

size_t governor_prepare(struct governor *governor, const struct governor_board *board, const struct surface *surface,
			uint32_t session, uint64_t relative_ns, uint64_t now_ns)
{
	struct governor_task t;
	size_t home = SIZE_MAX;

	expect(&t, governor, board, surface, session, relative_ns, now_ns);
	if (surface->state != SURFACE_NONE)
		home = next_home(&t, relative_ns);
	return home == SIZE_MAX ? top_point(&t) : home;
}

bool governor_idle(struct governor *governor, const struct governor_board *board, const struct surface *surface,
		   uint64_t expected_gap_ns, uint64_t now_ns, size_t *point)
{
	struct governor_session *s = &governor->session[governor->last_session];
	uint64_t relative_ns = memory_tight_ns(s);
	struct governor_task t;

	if (expected_gap_ns < NO_GAP_NS || !s->known || relative_ns == UINT64_MAX || !board->current_known || surface->state == SURFACE_NONE)
		return false;
	expect(&t, governor, board, surface, governor->last_session, relative_ns, now_ns);
	size_t home = next_home(&t, relative_ns);
	if (home == SIZE_MAX)
		return false;
	if (governor->task.steps) /* is on its way home: there and nowhere else */
		*point = home;
	else
		*point = expected_gap_ns >= IDLE_GAP_NS ? idle_home(&t, home, expected_gap_ns) : towards(&t, home, expected_gap_ns);
	if (*point == board->current) {
		t.newest.waits = true; /* it may */
		move_from(&t, t.soft);
		*point = trial_ahead(&t, GAP_SHARE * (double)expected_gap_ns);
		s->ahead = *point;
		return *point != SIZE_MAX;
	}
	return in_time(&t, *point, expected_gap_ns) &&
	       (*point != home || task_gain(&t, board->current, home) >= governor->options.gain_min);
}
