/* SPDX-License-Identifier: MIT */
/* The governor on random surfaces, against a search that tries every point. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "planes.h"

#define ROUNDS 3000

/* What rises has to settle, what comes down has to be written before that, or before one who waits. */
static double settle_to(const struct governor_board *board, size_t point, bool waits)
{
	size_t from[CLOCK_COUNT], to[CLOCK_COUNT];
	double settled = 0, written = 0;
	bool up = false;

	grid_axes(&grid, board->current, from);
	grid_axes(&grid, point, to);
	for (int c = 0; c < CLOCK_COUNT; c++) {
		up = up || to[c] > from[c];
		settled += to[c] > from[c] ? (double)board->settle_ns[c] : 0;
		written += to[c] < from[c] ? (double)board->write_ns[c] : 0;
	}
	return settled + (up || waits ? written : 0);
}

/* Lateness at a point by the book: earliest deadline first. */
static double late_at(const struct governor_board *board, const struct governor_request *request, size_t count, size_t point,
		      uint64_t now_ns)
{
	double end = settle_to(board, point, request[count - 1].waits), worst = -INFINITY;
	bool done[8] = {false};

	for (size_t n = 0; n < count; n++) {
		size_t next = SIZE_MAX;
		for (size_t r = 0; r < count; r++)
			if (!done[r] && (next == SIZE_MAX || request[r].deadline_ns < request[next].deadline_ns))
				next = r;
		done[next] = true;
		end += request[next].surface->bound_ns[point] * request[next].surface->slowdown_bound * (1 - request[next].done);
		worst = fmax(worst, end - ((double)request[next].deadline_ns - (double)now_ns));
	}
	return worst;
}

static bool allowed(const struct governor_board *board, size_t point)
{
	struct op_point at = grid_point(&grid, point);

	for (int c = 0; c < CLOCK_COUNT; c++)
		if (at.hz[c] > board->ceiling_hz[c] || at.hz[c] > board->ceiling_config_hz[c] || at.hz[c] < board->floor_hz[c])
			return false;
	return true;
}

static size_t random_case(struct governor_board *board, struct governor_request *request, uint64_t now_ns)
{
	size_t count = 1 + random_below(8);

	make_grid(1 + random_below(29), 1 + random_below(11), 1 + random_below(4));
	*board = make_board();
	board->current = random_below(grid.points);
	for (int c = 0; c < CLOCK_COUNT; c++) {
		board->settle_ns[c] = random_below(3) ? random_below(5 * MS) : 0;
		board->write_ns[c] = board->settle_ns[c] / (1 + random_below(3));
		if (random_below(4) == 0)
			board->ceiling_hz[c] = grid.hz[c][random_below(grid.count[c])];
		if (random_below(4) == 0)
			board->floor_hz[c] = grid.hz[c][0];
	}
	for (size_t i = 0; i < 4; i++)
		random_plane(&plane[i]);
	for (size_t r = 0; r < count; r++)
		request[r] = (struct governor_request){.surface = &plane[random_below(4)].surface, .session = (uint32_t)r, .begin_ns = now_ns,
						       .deadline_ns = now_ns + (uint64_t)(uniform(3, 60) * 1e6 * (double)count),
						       .done = random_below(2) ? 0 : uniform(0, 0.9), .waits = random_below(2) == 0};
	return count;
}

/* A move has to gain so much. */
static double gain_needed(const struct governor_board *board, const struct governor_request *newest, size_t point)
{
	return fmax(0.01, settle_to(board, point, newest->waits) / (32.0 * (double)(newest->deadline_ns - newest->begin_ns)));
}

/* Where the request after a single one is in time: with 3 % to spare where any point has that, and the cheapest of these. */
static void check_next(const struct governor_board *board, const struct governor_request *request, uint64_t now_ns, size_t point)
{
	const struct surface *s = request->surface;
	double slack_ns = (double)(request->deadline_ns - now_ns), factor = s->slowdown_bound * (1 - request->done);
	bool spare = s->bound_ns[point] * factor * 1.03 <= slack_ns + 1e3;

	assert_true(s->bound_ns[point] * factor <= slack_ns + 1e3);
	for (size_t i = 0; i < grid.points; i++)
		if (allowed(board, i) && s->bound_ns[i] * factor * 1.03 < slack_ns - 1e3)
			assert_true(spare && s->power_uw[i] >= s->power_uw[point] * 0.99999);
}

static void check_choice(const struct governor_board *board, const struct governor_request *request, size_t count, uint64_t now_ns,
			 const struct decision *d)
{
	const struct surface *s = request[count - 1].surface;
	double slack = 1e3; /* single precision */
	size_t cheapest = SIZE_MAX, fastest = SIZE_MAX;

	for (size_t i = 0; i < grid.points; i++) {
		if (!allowed(board, i))
			continue;
		if (fastest == SIZE_MAX || s->bound_ns[i] < s->bound_ns[fastest])
			fastest = i;
		if (late_at(board, request, count, i, now_ns) < -slack && (cheapest == SIZE_MAX || s->power_uw[i] < s->power_uw[cheapest]))
			cheapest = i;
	}
	assert_true(d->point < grid.points);
	assert_true(allowed(board, d->point));
	if (d->trial) {
		assert_true(count == 1 && s->measured[d->point] == 0);
		return;
	}
	if (cheapest == SIZE_MAX) {
		assert_true(!d->feasible || late_at(board, request, count, d->point, now_ns) <= slack);
		assert_true(!d->late_once || (count == 1 && !d->feasible));
		/* As fast as it may go; or, where only the move takes too long, where the next one is in time. */
		if (d->late_once)
			check_next(board, request, now_ns, d->point);
		else if (count == 1 && !d->feasible)
			assert_true(s->bound_ns[d->point] <= 1.0201 * s->bound_ns[fastest]);
		return;
	}
	assert_true(d->feasible);
	assert_true(late_at(board, request, count, d->point, now_ns) <= slack);
	/* What is dearer than the cheapest is where we are, kept as the gain is too small. */
	if (s->power_uw[d->point] > s->power_uw[cheapest] * 1.00001) {
		assert_int_equal(d->point, board->current);
		assert_true(1 - s->power_uw[cheapest] / s->power_uw[d->point] <= gain_needed(board, &request[count - 1], cheapest) + 1e-5);
		assert_int_equal(d->runner_up_refused, REFUSED_GAIN);
	}
}

static void check_runner_up(const struct surface *s, const struct decision *d)
{
	bool cheaper = false;

	for (size_t i = 0; i < grid.points; i++)
		cheaper = cheaper || s->power_uw[i] < s->power_uw[d->point];
	assert_int_equal(cheaper, d->runner_up != SIZE_MAX);
	if (cheaper) {
		assert_true(s->power_uw[d->runner_up] < s->power_uw[d->point]);
		assert_int_not_equal(d->runner_up_refused, REFUSED_NOT);
		assert_true(refusal_text(d->runner_up_refused)[0]);
	}
}

static void test_random(void **state)
{
	(void)state;
	uint64_t now_ns = 10 * NS_PER_S;
	size_t infeasible = 0, moved = 0;

	random_state = 0x1234567;
	for (int round = 0; round < ROUNDS; round++, now_ns += 100 * NS_PER_S) {
		struct governor_board board;
		struct governor_request request[8];
		struct decision decision;
		size_t count = random_case(&board, request, now_ns);

		fresh();
		/* What other sessions may ask next is another test. */
		for (size_t r = 0; r + 1 < count; r++)
			request[r].session = request[count - 1].session;
		governor_decide(&governor, &board, request, count, now_ns, &decision);
		governor_explain(&governor, &decision);
		check_choice(&board, request, count, now_ns, &decision);
		check_runner_up(request[count - 1].surface, &decision);
		infeasible += !decision.feasible;
		moved += decision.point != board.current;
	}
	assert_in_range(infeasible, ROUNDS / 20, ROUNDS - ROUNDS / 20);
	assert_in_range(moved, ROUNDS / 2, ROUNDS);
}

static void test_nothing_measured(void **state)
{
	(void)state;
	struct governor_board board = make_board();

	one_model();
	board = make_board();
	plane[0].surface.state = SURFACE_NONE;
	for (size_t i = 0; i < grid.points; i++)
		plane[0].latency[i] = plane[0].bound[i] = plane[0].power[i] = 0;
	board.ceiling_hz[CLOCK_GPU] = grid.hz[CLOCK_GPU][5] + 1;
	board.current = 0;
	struct decision d = decide(&board, 0, NS_PER_S, 20 * MS);
	struct op_point at = grid_point(&grid, d.point);

	assert_true(d.feasible && d.learning);
	assert_true(at.hz[CLOCK_CPU] == grid.hz[CLOCK_CPU][19] && at.hz[CLOCK_GPU] == grid.hz[CLOCK_GPU][5] &&
		    at.hz[CLOCK_MEM] == grid.hz[CLOCK_MEM][3]);
}

/* After a miss: up at once, held so many requests, down again in the end. */
static void test_hold(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S, deadline_ns;

	one_model();
	struct governor_board board = make_board();
	deadline_ns = (uint64_t)plane[0].bound[grid.points / 2];
	struct decision before = decide(&board, 3, now_ns, deadline_ns);
	board.current = before.point;
	governor_ended(&governor, 3, deadline_ns * 11 / 10, deadline_ns, before.bound_ns);
	uint32_t held = 0;
	for (int i = 0; i < 200; i++) {
		struct decision d = decide(&board, 3, now_ns += 50 * MS, deadline_ns);
		if (i <= 8) {
			assert_true(d.held && plane[0].bound[d.point] * 1.05 <= (double)deadline_ns);
			assert_true(d.power_uw >= before.power_uw);
		}
		held += d.held;
		board.current = d.point;
		governor_ended(&governor, 3, deadline_ns / 2, deadline_ns, d.bound_ns);
	}
	assert_in_range(held, 9, 25);
	assert_int_equal(board.current, before.point);
	/* What nothing could have met holds nothing up. */
	governor_session_reset(&governor, 3);
	struct decision d = decide(&board, 3, now_ns += 50 * MS, MS / 10);
	assert_false(d.feasible);
	governor_ended(&governor, 3, deadline_ns, MS / 10, d.bound_ns);
	assert_false(decide(&board, 3, now_ns + 50 * MS, deadline_ns).held);
}

/* The share of misses stays below its target though the bound is a quantile of 0.98 only. */
static void test_share_of_misses(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S, deadline_ns;
	size_t missed = 0, requests = 20000;

	one_model();
	struct governor_board board = make_board();
	for (size_t i = 0; i < grid.points; i++) {
		plane[0].bound[i] = plane[0].latency[i] * 1.02F;
		plane[0].measured[i] = 5;
	}
	deadline_ns = (uint64_t)plane[0].bound[grid.points / 2];
	for (size_t i = 0; i < requests; i++) {
		struct decision d = decide(&board, 0, now_ns += 50 * MS, deadline_ns);
		double u = uniform(0, 1), ratio = u < 0.98 ? uniform(0.98, 1.02) : uniform(1.02, 1.05);
		uint64_t total_ns = (uint64_t)(plane[0].latency[d.point] * ratio);
		board.current = d.point;
		missed += total_ns > deadline_ns;
		governor_ended(&governor, 0, total_ns, deadline_ns, d.bound_ns);
	}
	assert_true((double)missed < 0.005 * (double)requests);
}

static void test_memory_dwell(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S;
	size_t downs = 0, axis[CLOCK_COUNT], last;

	one_model();
	struct governor_board board = make_board();
	/* Memory costs nothing in time and much in power, in turns. */
	for (int i = 0; i < 1000; i++, now_ns += 10 * MS) {
		for (size_t p = 0; p < grid.points; p++) {
			plane[0].latency[p] = plane[0].bound[p] = (float)MS;
			plane[0].power[p] = (float)(1e6 * (i & 1 ? 4.0 - (double)(p % 4) : 1.0 + (double)(p % 4)));
		}
		grid_axes(&grid, board.current, axis);
		last = axis[CLOCK_MEM];
		board.current = decide(&board, 0, now_ns, 20 * MS).point;
		grid_axes(&grid, board.current, axis);
		downs += axis[CLOCK_MEM] < last;
		if (i & 1)
			assert_int_equal(axis[CLOCK_MEM], 3); /* up at once */
	}
	assert_in_range(downs, 5, 9); /* 10 s, one in two seconds, and a burst of four */
}

static void test_energy(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S;

	one_model();
	struct governor_board board = make_board();
	governor.options.objective = OBJECTIVE_ENERGY;
	for (int round = 0; round < 50; round++, now_ns += 50 * MS) {
		double deadline_ns = uniform(1.2, 4) * plane[0].bound[grid.points - 1], least = INFINITY, got;
		for (size_t i = 0; i < grid.points; i++)
			if (plane[0].bound[i] <= deadline_ns)
				least = fmin(least, plane[0].power[i] * plane[0].latency[i] + plane[0].idle[i] * (deadline_ns - plane[0].latency[i]));
		board.current = grid.points - 1;
		governor.mem_tokens = 4;
		size_t p = decide(&board, 0, now_ns, (uint64_t)deadline_ns).point;
		got = plane[0].power[p] * plane[0].latency[p] + plane[0].idle[p] * (deadline_ns - plane[0].latency[p]);
		assert_true(got <= least * 1.0102);
	}
}

/* A deadline too tight to come up for keeps the clocks where it had them. */
static void test_standby(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S, tight_ns;

	one_model();
	struct governor_board board = make_board();
	board.settle_ns[CLOCK_CPU] = 1400000, board.settle_ns[CLOCK_GPU] = 5 * MS, board.settle_ns[CLOCK_MEM] = 9 * MS;
	tight_ns = (uint64_t)(plane[0].bound[grid.points - 1] * 1.1);
	for (int i = 0; i < 100; i++) {
		uint32_t session = (uint32_t)(i & 1);
		struct decision d = decide(&board, session, now_ns += 30 * MS, session ? 200 * MS : tight_ns);
		assert_true(d.feasible);
		board.current = d.point;
		governor_ended(&governor, session, d.predicted_ns, session ? 200 * MS : tight_ns, d.bound_ns);
	}
	/* Once the tight one is silent for long, down it goes. */
	size_t held = board.current;
	board.current = decide(&board, 1, now_ns + 20 * NS_PER_S, 200 * MS).point;
	assert_true(plane[0].power[board.current] < plane[0].power[held]);
}

/* Only a request that waits pays for a move down. */
static void test_waits(void **state)
{
	(void)state;

	one_model();
	struct governor_board board = make_board();
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.settle_ns[c] = board.write_ns[c] = 30 * MS;
	governor.session[0].credit = 0; /* nothing is risked */
	struct governor_request request = {.surface = &plane[0].surface, .begin_ns = NS_PER_S, .deadline_ns = NS_PER_S + 25 * MS};
	struct decision waiting, running;

	request.waits = true;
	governor_decide(&governor, &board, &request, 1, NS_PER_S, &waiting);
	assert_int_equal(waiting.point, board.current);
	fresh();
	governor.session[0].credit = 0;
	request.waits = false;
	governor_decide(&governor, &board, &request, 1, NS_PER_S, &running);
	assert_true(running.feasible && running.power_uw < waiting.power_uw);
}

static void test_idle(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S, deadline_ns;
	size_t point = 0;

	one_model();
	struct governor_board board = make_board();
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.settle_ns[c] = 5 * MS;
	assert_false(governor_idle(&governor, &board, &plane[0].surface, NS_PER_S, now_ns, &point)); /* nobody was here */
	deadline_ns = (uint64_t)(plane[0].bound[grid.points - 1] * 1.3);
	struct decision d = decide(&board, 0, now_ns, deadline_ns);
	governor_ended(&governor, 0, d.predicted_ns, deadline_ns, d.bound_ns);
	/* Into the gap: where the move costs nobody anything. */
	assert_true(governor_idle(&governor, &board, &plane[0].surface, 20 * MS, now_ns, &point));
	assert_true(plane[0].bound[point] <= (double)deadline_ns);
	assert_true(plane[0].power[point] < plane[0].power[board.current]);
	/* No gap: the next request is about to decide by itself. */
	assert_false(governor_idle(&governor, &board, &plane[0].surface, MS / 10, now_ns, &point));
	board.current = point;
	assert_false(governor_idle(&governor, &board, &plane[0].surface, 20 * MS, now_ns, &point));
	/* A long gap with time to come back: lower still, but not so low that the next deadline fails. */
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.settle_ns[c] = MS / 100;
	if (governor_idle(&governor, &board, &plane[0].surface, 10 * NS_PER_S, now_ns, &point))
		assert_true(plane[0].idle[point] < plane[0].idle[board.current]);
}

/* A gap too short for the whole way: one clock now, the others later; home all the same. */
static void test_step_by_step(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S, deadline_ns;
	size_t moves = 0, point, from[CLOCK_COUNT], to[CLOCK_COUNT];

	one_model();
	struct governor_board board = make_board();
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.settle_ns[c] = board.write_ns[c] = 5 * MS;
	deadline_ns = (uint64_t)(plane[0].bound[grid.points - 1] * 1.15);
	struct decision d = decide(&board, 0, now_ns, deadline_ns);
	assert_int_equal(d.point, board.current);
	governor_ended(&governor, 0, d.predicted_ns, deadline_ns, d.bound_ns);
	for (; governor_idle(&governor, &board, &plane[0].surface, 7 * MS, now_ns, &point); moves++) {
		size_t moved = 0;

		grid_axes(&grid, board.current, from);
		grid_axes(&grid, point, to);
		for (int c = 0; c < CLOCK_COUNT; c++)
			moved += from[c] != to[c];
		assert_true(moved == 1 || plane[0].bound[point] + (double)(moved * 5 * MS) - 7e6 <= (double)deadline_ns);
		assert_true(plane[0].power[point] < plane[0].power[board.current]);
		board.current = point;
		assert_in_range(moves, 0, 6);
	}
	assert_in_range(moves, 1, 6);
}

/* GPU up and memory down at once takes longer than there is; back to back, with never a gap, one
 * clock goes first and the other follows, and no deadline is put at risk for it. */
static void test_stepping_stone(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S, deadline_ns = 52 * MS;
	size_t axis[CLOCK_COUNT], dearer = 0, moves = 0;
	struct governor_board board;

	fresh();
	make_grid(1, 2, 2); /* points: slow GPU (0, 1), fast GPU (2, 3), each with slow and fast memory */
	random_plane(&plane[0]);
	plane[0].surface.slowdown_bound = 1;
	for (size_t i = 0; i < grid.points; i++) {
		grid_axes(&grid, i, axis);
		plane[0].latency[i] = 50e6F + (axis[CLOCK_GPU] ? -15e6F : 0) + (axis[CLOCK_MEM] ? 0 : 12e6F);
		plane[0].bound[i] = 1.01F * plane[0].latency[i];
		plane[0].power[i] = 5e6F + (axis[CLOCK_GPU] ? 0.5e6F : 0) + (axis[CLOCK_MEM] ? 2e6F : 0);
		plane[0].measured[i] = 10;
	}
	board = make_board();
	board.current = 1;
	board.settle_ns[CLOCK_GPU] = board.write_ns[CLOCK_GPU] = 2 * MS;
	board.settle_ns[CLOCK_MEM] = board.write_ns[CLOCK_MEM] = 4 * MS; /* 47.5 ms + 2 ms + 4 ms is over, each alone is not */
	governor.session[0].credit = 0;
	for (int i = 0; i < 40; i++, now_ns += 50 * MS) {
		struct decision d = decide(&board, 0, now_ns, deadline_ns);

		assert_true(d.feasible && !d.trial);
		assert_true(plane[0].bound[d.point] + settle_to(&board, d.point, true) <= (double)deadline_ns);
		dearer += plane[0].power[d.point] > plane[0].power[board.current];
		assert_int_equal(d.step, plane[0].power[d.point] > plane[0].power[board.current]);
		if (d.step)
			assert_true(d.runner_up == 2 && d.runner_up_refused == REFUSED_SETTLE);
		moves += d.point != board.current;
		board.current = d.point;
		governor_ended(&governor, 0, d.predicted_ns + d.settle_ns, deadline_ns, d.bound_ns);
	}
	assert_int_equal(board.current, 2);
	assert_int_equal(moves, 2);
	assert_int_equal(dearer, 1);
}

/* Over the slack by a hair, and moving takes longer than that is worth: it stays. */
static void test_hardly_late(void **state)
{
	(void)state;
	struct governor_board board = make_board();

	one_model();
	board.current = grid.points / 2;
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.settle_ns[c] = board.write_ns[c] = 200 * MS;
	for (size_t i = 0; i < grid.points; i++)
		plane[0].bound[i] = plane[0].latency[i] * 1.2F;
	uint64_t deadline_ns = (uint64_t)(plane[0].bound[board.current] * 0.995);
	struct decision d = decide(&board, 0, NS_PER_S, deadline_ns);
	assert_false(d.feasible);
	assert_int_equal(d.point, board.current);
	assert_false(d.trial);
	assert_true(d.stays);
	/* Likely late, and known to be: then up it goes, this one being lost. */
	plane[0].measured[board.current] = 10;
	deadline_ns = (uint64_t)(plane[0].latency[board.current] * 0.9);
	d = decide(&board, 1, NS_PER_S, deadline_ns);
	assert_true(plane[0].bound[d.point] < plane[0].bound[board.current]);
}

/* Moving up takes longer than a request has: one is late for it, and the next is in time; no other point is tried instead. */
static void test_late_once(void **state)
{
	(void)state;
	struct governor_board board = make_board();
	struct governor_request request = {.surface = &plane[0].surface, .begin_ns = NS_PER_S};
	struct decision d;

	one_model();
	for (size_t i = 0; i < grid.points; i++)
		plane[0].measured[i] = 0;
	board.current = 0;
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.settle_ns[c] = board.write_ns[c] = 200 * MS;
	request.deadline_ns = request.begin_ns + (uint64_t)(plane[0].bound[grid.points - 1] * 1.3);
	governor_decide(&governor, &board, &request, 1, request.begin_ns, &d);
	assert_true(!d.feasible && d.late_once && !d.trial);
	assert_true(plane[0].bound[d.point] <= (double)(request.deadline_ns - request.begin_ns));
	size_t point = board.current = d.point;
	governor_ended(&governor, 0, 500 * MS, request.deadline_ns - request.begin_ns, d.bound_ns);
	request.begin_ns += NS_PER_S;
	request.deadline_ns += NS_PER_S;
	governor_decide(&governor, &board, &request, 1, request.begin_ns, &d);
	assert_true(d.feasible && !d.late_once);
	assert_int_equal(d.point, point);
	/* What no point can meet is another thing: as fast as may be. */
	request.deadline_ns = request.begin_ns + MS;
	plane[0].measured[grid.points - 1] = 10;
	governor_decide(&governor, &board, &request, 1, request.begin_ns, &d);
	assert_true(!d.feasible && !d.late_once);
}

static void test_prepare(void **state)
{
	(void)state;

	one_model();
	struct governor_board board = make_board();
	board.current_known = false;
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.settle_ns[c] = 20 * MS; /* there is time for it */
	uint64_t deadline_ns = (uint64_t)(plane[0].bound[grid.points - 1] * 1.5);
	size_t point = governor_prepare(&governor, &board, &plane[0].surface, 0, deadline_ns, NS_PER_S);
	assert_true(plane[0].bound[point] <= (double)deadline_ns);
	for (size_t i = 0; i < grid.points; i++)
		assert_true(plane[0].bound[i] > (double)deadline_ns || plane[0].power[i] >= plane[0].power[point]);
	/* What nothing can meet, and what nothing is known of: as fast as may be. */
	assert_int_equal(governor_prepare(&governor, &board, &plane[0].surface, 0, 1000, NS_PER_S), grid.points - 1);
	plane[0].surface.state = SURFACE_NONE;
	assert_int_equal(governor_prepare(&governor, &board, &plane[0].surface, 0, deadline_ns, NS_PER_S), grid.points - 1);
}

static void test_many_requests(void **state)
{
	(void)state;
	static struct governor_request request[REQUESTS_MAX];
	struct decision d;

	one_model();
	struct governor_board board = make_board();
	for (uint32_t i = 0; i < REQUESTS_MAX; i++)
		request[i] = (struct governor_request){.surface = &plane[0].surface, .session = i, .begin_ns = NS_PER_S,
						       .deadline_ns = NS_PER_S + (REQUESTS_MAX - i) * 30 * MS};
	governor_decide(&governor, &board, request, REQUESTS_MAX, NS_PER_S, &d);
	assert_true(d.point < grid.points);
	/* All are past: as fast as may be. */
	governor_decide(&governor, &board, request, REQUESTS_MAX, 3600 * NS_PER_S, &d);
	assert_false(d.feasible);
	assert_true(plane[0].bound[d.point] <= plane[0].bound[grid.points - 1]);
	assert_true(d.slack_ns == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),		 cmocka_unit_test(test_nothing_measured), cmocka_unit_test(test_hold),
		cmocka_unit_test(test_share_of_misses), cmocka_unit_test(test_memory_dwell),	  cmocka_unit_test(test_energy),
		cmocka_unit_test(test_standby),		 cmocka_unit_test(test_waits),		  cmocka_unit_test(test_idle),
		cmocka_unit_test(test_step_by_step),	  cmocka_unit_test(test_stepping_stone), cmocka_unit_test(test_hardly_late), cmocka_unit_test(test_late_once),	  cmocka_unit_test(test_prepare),
		cmocka_unit_test(test_many_requests),
	};

	return cmocka_run_group_tests_name("governor", tests, NULL, NULL);
}
