/* SPDX-License-Identifier: MIT */
/* The governor's promises on random surfaces: limits, chances of a miss, prices, company. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../governor/state.h"
#include "planes.h"

#define ROUNDS 1500

static bool allowed(const struct governor_board *board, size_t point)
{
	struct op_point at = grid_point(&grid, point);

	for (int c = 0; c < CLOCK_COUNT; c++)
		if (at.hz[c] > board->ceiling_hz[c] || at.hz[c] > board->ceiling_config_hz[c] ||
		    at.hz[c] < board->floor_hz[c])
			return false;
	return true;
}

/* Only the clocks that come up cost time; no request waits for those that come down. */
static double up_ns(const struct governor_board *board, size_t to)
{
	size_t a[CLOCK_COUNT], b[CLOCK_COUNT];
	double ns = 0;

	grid_axes(&grid, board->current, a);
	grid_axes(&grid, to, b);
	for (int c = 0; c < CLOCK_COUNT; c++)
		ns += b[c] > a[c] ? (double)board->up_ns[c] : 0;
	return ns;
}

/* Chance of a miss by the book, with a normal scatter and an error of the fit that is as large. */
static double late_at(const struct plane *p, size_t point, double slack_ns)
{
	double sum = hypot(hypot((double)p->sd[point], (double)p->surface.slow_sd), (double)p->surface.noise_sd);

	return 0.5 * erfc(log(slack_ns / ((double)p->latency[point] * p->surface.slowdown)) / sum / sqrt(2));
}

static struct governor_board random_board(void)
{
	struct governor_board board = make_board();

	board.current = random_below(grid.points);
	for (int c = 0; c < CLOCK_COUNT; c++) {
		board.up_ns[c] = random_below(2) ? random_below(2 * MS) : 0;
		board.down_ns[c] = board.up_ns[c] / 4;
		if (random_below(4) == 0)
			board.ceiling_hz[c] = grid.hz[c][random_below(grid.count[c])];
		if (random_below(4) == 0)
			board.floor_hz[c] = grid.hz[c][0];
	}
	return board;
}

/* Without a miss budget no point that is likely late is chosen if another is not, and never a point that is not
 * allowed. */
static void test_random(void **state)
{
	size_t feasible = 0, infeasible = 0;

	(void)state;
	random_state = 7;
	for (int round = 0; round < ROUNDS; round++) {
		make_grid(1 + random_below(29), 1 + random_below(11), 1 + random_below(4));
		random_plane(&plane[0]);
		fresh();
		governor.options.learning_misses = 0;
		struct governor_board board = random_board();
		double deadline_ns = (double)plane[0].latency[grid.points - 1] * uniform(0.5, 4);
		struct decision d = decide(&board, 0, 1000 * MS, (uint64_t)deadline_ns);
		double late = late_at(&plane[0], d.point, deadline_ns - up_ns(&board, d.point));

		assert_true(allowed(&board, d.point));
		assert_true(d.settle_ns == (uint64_t)up_ns(&board, d.point));
		feasible += d.feasible;
		infeasible += !d.feasible;
		if (d.reason == REASON_CHEAPEST)
			assert_true(late <= 0.05);
		for (size_t i = 0; i < grid.points; i++)
			if (allowed(&board, i) && (double)plane[0].power[i] < 0.8 * d.power_uw)
				assert_true(late_at(&plane[0], i, deadline_ns - up_ns(&board, i)) > 1e-4 ||
					    !d.feasible);
	}
	assert_true(feasible > ROUNDS / 3);
	assert_true(infeasible > ROUNDS / 20);
}

static void test_nothing_measured(void **state)
{
	(void)state;
	one_model();
	plane[0].surface.state = SURFACE_NONE;
	struct governor_board board = make_board();
	board.current = 0;
	board.ceiling_hz[CLOCK_GPU] = grid.hz[CLOCK_GPU][3];
	struct decision d = decide(&board, 0, 1000 * MS, 50 * MS);
	size_t axis[CLOCK_COUNT];
	grid_axes(&grid, d.point, axis);
	assert_int_equal(d.reason, REASON_UNKNOWN);
	assert_int_equal(axis[CLOCK_CPU], grid.count[CLOCK_CPU] - 1);
	assert_int_equal(axis[CLOCK_GPU], 3);
}

/* Each miss beyond miss_target and those allowed for learning raises the price of the next one, and requests in time
 * lower it; sessions are independent. */
static void test_price(void **state)
{
	(void)state;
	one_model();
	struct governor_board board = make_board();
	struct decision first = decide(&board, 0, 1000 * MS, 30 * MS), other = decide(&board, 1, 1000 * MS, 30 * MS),
			d = first;
	double price = first.miss_price_uw;

	governor_ended(&governor, 0, 40 * MS, 30 * MS); /* allowed: the model is known */
	assert_true(fabs(decide(&board, 0, 1050 * MS, 30 * MS).miss_price_uw / price - 1) < 0.01);
	for (int i = 0; i < 4; i++) {
		governor_ended(&governor, 0, 40 * MS, 30 * MS);
		d = decide(&board, 0, (1100 + (uint64_t)i * 100) * MS, 30 * MS);
		assert_true(d.miss_price_uw > 1.5 * price);
		price = d.miss_price_uw;
	}
	assert_true(d.power_uw >= first.power_uw);
	struct governor_session before = governor.session[0];
	for (int i = 0; i < 100; i++)
		governor_ended(&governor, 0, 40 * MS, 30 * MS);
	d = decide(&board, 0, 1550 * MS, 30 * MS);
	assert_true(d.miss_price_uw > price && d.miss_price_uw < 0.01 * (double)UINT64_MAX); /* fits in a reply */
	governor.session[0] = before;
	assert_true(fabs(decide(&board, 1, 1600 * MS, 30 * MS).miss_price_uw / other.miss_price_uw - 1) < 1e-9);
	for (int i = 0; i < 500; i++)
		governor_ended(&governor, 0, 20 * MS, 30 * MS);
	assert_true(decide(&board, 0, 1700 * MS, 30 * MS).miss_price_uw < 0.6 * price);
	governor_session_reset(&governor, 0);
	assert_true(fabs(decide(&board, 0, 1800 * MS, 30 * MS).miss_price_uw / first.miss_price_uw - 1) < 1e-9);
}

/* The keys of the configuration have their effects. */
static void test_options(void **state)
{
	double last = INFINITY, last_over = 1;

	(void)state;
	for (double quantile = 0.6; quantile < 0.9999; quantile = 1 - (1 - quantile) / 3) {
		one_model();
		struct governor_options options = governor.options;
		options.learning_misses = 0;
		options.quantile = quantile;
		governor_configure(&governor, &options);
		struct governor_board board = make_board();
		struct decision d =
			decide(&board, 0, 1000 * MS, (uint64_t)(2 * (double)plane[0].latency[grid.points - 1]));
		assert_true(d.late <= 1 - quantile + 1e-9);
		assert_true(d.late <= last + 1e-9);
		last = d.late;
		/* The cheapest point, under a deadline that every point meets. */
		d = decide(&board, 1, 1000 * MS, (uint64_t)(1000 * (double)plane[0].latency[0]));
		double over = (double)d.bound_ns / (double)d.predicted_ns;
		assert_true(over > last_over);
		last_over = over;
	}
	one_model();
	governor.options.power_max_uw = 0.5 * (double)plane[0].power[grid.points - 1];
	struct governor_board board = make_board();
	board.current = 0;
	struct decision d = decide(&board, 0, 1000 * MS, (uint64_t)(1.05 * (double)plane[0].latency[grid.points - 1]));
	assert_true(d.power_uw <= governor.options.power_max_uw);
	assert_false(d.feasible);
	assert_int_equal(d.reason, REASON_CAP);
	governor.options.power_max_uw = 2 * (double)plane[0].power[grid.points - 1];
	d = decide(&board, 1, 1000 * MS, (uint64_t)(0.5 * (double)plane[0].latency[grid.points - 1]));
	assert_int_equal(d.reason, REASON_FASTEST);
	/* A cap below every point: the least power, at no deadline feasible. */
	double least_uw = INFINITY;
	for (size_t i = 0; i < grid.points; i++)
		least_uw = fmin(least_uw, (double)plane[0].power[i]);
	governor.options.power_max_uw = 0.9 * least_uw;
	d = decide(&board, 2, 1000 * MS, (uint64_t)(100 * (double)plane[0].latency[0]));
	assert_true(d.power_uw <= least_uw);
	assert_false(d.feasible);
	assert_int_equal(d.reason, REASON_CAP);
	/* In watts it says nothing of a cost without a unit. */
	plane[0].surface.power_known = false;
	d = decide(&board, 3, 1000 * MS, (uint64_t)(1.05 * (double)plane[0].latency[grid.points - 1]));
	assert_true(d.feasible);
}

/* The cap holds for what runs already, too: beside a request that draws more than twice as much at every point. */
static void test_cap_together(void **state)
{
	struct governor_flight flight = {0};
	struct governor_request r[2];
	struct decision d;

	(void)state;
	one_model();
	random_plane(&plane[1]);
	for (size_t i = 0; i < grid.points; i++)
		plane[1].power[i] = 2.2F * plane[0].power[i];
	double fastest_ns = (double)plane[0].latency[grid.points - 1];
	governor.options.power_max_uw = 1.3 * (double)plane[0].power[grid.points - 1];
	struct governor_board board = make_board();
	for (uint32_t k = 0; k < 2; k++)
		r[k] = (struct governor_request){.surface = &plane[1 - k].surface,
						 .flight = k ? NULL : &flight,
						 .session = k,
						 .model = k,
						 .begin_ns = 1000 * MS,
						 .deadline_ns =
							 1000 * MS + (k ? (uint64_t)(1.05 * fastest_ns) : 30000 * MS),
						 .gap_ns = GAP_UNKNOWN};
	governor_decide(&governor, &board, r, 2, 1000 * MS, &d);
	assert_true((double)plane[1].power[d.point] <= governor.options.power_max_uw);
}

/* Nothing stays where it is for a measurement that no request of it can make, nor explores for one. */
static void test_unlearned(void **state)
{
	(void)state;
	for (int unlearned = 0; unlearned < 2; unlearned++) {
		one_model();
		plane[0].measured[grid.points - 1] = 0;
		struct governor_board board = make_board();
		struct governor_request request = {.surface = &plane[0].surface,
						   .begin_ns = 1000 * MS,
						   .deadline_ns =
							   1000 * MS + (uint64_t)(5 * (double)plane[0].latency[0]),
						   .gap_ns = 0,
						   .unlearned = unlearned};
		struct decision d;
		governor_decide(&governor, &board, &request, 1, 1000 * MS, &d);
		assert_int_equal(d.point == grid.points - 1, !unlearned);
	}
}

static void test_memory_dwell(void **state)
{
	size_t moves = 0, last = grid.count[CLOCK_MEM];

	(void)state;
	one_model();
	struct governor_board board = make_board();
	for (int i = 0; i < 200; i++) {
		size_t axis[CLOCK_COUNT];
		double slack = (i % 2 ? 6.0 : 1.3) * (double)plane[0].latency[grid.points - 1];
		struct decision d = decide(&board, 0, (1000 + 20 * (uint64_t)i) * MS, (uint64_t)slack);
		grid_axes(&grid, d.point, axis);
		moves += i && axis[CLOCK_MEM] < last;
		last = axis[CLOCK_MEM];
		board.current = d.point;
	}
	assert_true(moves > 0 && moves <= 4 + 2); /* a burst, and one each two seconds of four */
}

/* Two models take turns on one engine: the time of each alone and its interference are distinguished. */
static void test_interference(void **state)
{
	const double theta = 0.25;
	double var = 0, learned = 0;

	(void)state;
	one_model();
	struct governor_flight flight[2];
	struct governor_board board = make_board();
	uint64_t now_ns = 1000 * MS;
	double own_ns = (double)plane[0].latency[board.current];
	struct governor_request r[2];
	for (int i = 0; i < 60; i++) {
		struct decision d;
		bool alone = i < 10;
		memset(flight, 0, sizeof(flight));
		for (uint32_t k = 0; k < 2; k++)
			r[k] = (struct governor_request){.surface = &plane[0].surface,
							 .flight = &flight[k],
							 .session = k,
							 .model = k,
							 .begin_ns = now_ns,
							 .deadline_ns = now_ns + 100 * MS,
							 .gap_ns = GAP_UNKNOWN};
		size_t count = alone ? 1 : 2;
		for (size_t k = 1; k <= count; k++) {
			governor_decide(&governor, &board, r, k, now_ns, &d);
			flight[k - 1].seen_ns = now_ns;
		}
		/* Both of one size: each proceeds at the speed 1 / (1 + theta). */
		uint64_t run_ns = (uint64_t)(own_ns * (alone ? 1 : 1 + theta));
		struct governor_run run = {.ran_ns = run_ns, .at = board.current, .stood = true};
		struct governor_own own = governor_own(&governor, r, count, 0, &run, now_ns + run_ns);
		if (alone)
			assert_int_equal(own.own_ns, run_ns);
		else if (i > 50)
			assert_true(fabs((double)own.own_ns / own_ns - 1) < 0.06);
		now_ns += run_ns + 10 * MS;
	}
	for (size_t i = 0; i < COMPANY_PAIRS_MAX; i++)
		if (governor.pair[0][i].n)
			learned = exp((double)governor.pair[0][i].log_theta), var = (double)governor.pair[0][i].var;
	printf("# | theta %.3f, learned %.3f, variance of its log %.3f\n", theta, learned, var);
	assert_true(fabs(learned - theta) < 0.1);
	assert_true(var > 0 && var < 0.05); /* 0.5 before the first request */
	/* A surface of which nothing is known says nothing of interference. */
	memset(plane[0].latency, 0, sizeof(plane[0].latency));
	struct governor_run run = {.ran_ns = (uint64_t)(3 * own_ns), .at = board.current, .stood = true};
	governor_own(&governor, r, 2, 0, &run, now_ns + run.ran_ns);
	for (size_t i = 0; i < COMPANY_PAIRS_MAX; i++)
		if (governor.pair[0][i].n)
			assert_true(exp((double)governor.pair[0][i].log_theta) == learned);
	governor_model_reset(&governor, 0);
	for (size_t i = 0; i < COMPANY_PAIRS_MAX; i++)
		assert_true(!governor.pair[0][i].n && (!governor.pair[1][i].n || governor.pair[1][i].other));
}

/* Each model has room for pairs of its own, and when it is full the pair of the fewest requests gives way. */
static void test_pairs_share(void **state)
{
	double var;

	(void)state;
	fresh();
	for (uint32_t other = 1; other <= 3 * COMPANY_PAIRS_MAX; other++) {
		struct interference pair = {
			.model = other % 2, .other = 100 + other, .log_theta = -1, .var = 0.1F, .n = other < 5 ? 9 : 1};
		assert_true(governor_model_pair(&governor, &pair));
		assert_true(company_theta(&governor, other % 2, 100 + other, false, &var) < 0.5);
		assert_true(company_theta(&governor, other % 2, 100 + other, true, &var) == 1);
	}
	for (uint32_t other = 1; other < 5; other++)
		assert_true(company_theta(&governor, other % 2, 100 + other, false, &var) < 0.5 && var < 0.2);
	governor_model_reset(&governor, 101);
	assert_true(company_theta(&governor, 1, 101, false, &var) == 1);
	assert_true(company_theta(&governor, 1, 103, false, &var) < 0.5);
	governor_model_reset(&governor, 1);
	assert_true(company_theta(&governor, 1, 103, false, &var) == 1);
	assert_true(company_theta(&governor, 0, 102, false, &var) < 0.5);
}

/* A request beside others is given more than it would need alone, and one of low priority gives way. */
static void test_company(void **state)
{
	(void)state;
	one_model();
	governor.options.learning_misses = 0;
	struct governor_board board = make_board();
	double deadline_ns = 3 * (double)plane[0].latency[grid.points - 1];
	struct governor_flight flight[2] = {{0}, {0}};
	struct governor_request r[2];
	struct decision alone, both;

	for (uint32_t k = 0; k < 2; k++)
		r[k] = (struct governor_request){.surface = &plane[0].surface,
						 .flight = &flight[k],
						 .session = k,
						 .model = k,
						 .begin_ns = 1000 * MS,
						 .deadline_ns = 1000 * MS + (uint64_t)deadline_ns,
						 .gap_ns = GAP_UNKNOWN};
	governor_decide(&governor, &board, r, 1, 1000 * MS, &alone);
	governor_decide(&governor, &board, r, 2, 1000 * MS, &both);
	assert_int_equal(both.others, 1);
	assert_true(both.power_uw > alone.power_uw);
	assert_true(both.feasible);
	assert_true(both.predicted_ns > (uint64_t)(1.8 * (double)plane[0].latency[both.point]));
	r[1].priority = 9;
	struct decision dear;
	governor_decide(&governor, &board, r, 2, 1000 * MS, &dear);
	assert_true(dear.miss_price_uw > 3 * both.miss_price_uw);
}

/* Clocks come up before a first request with a known deadline. */
static void test_prepare(void **state)
{
	(void)state;
	one_model();
	struct governor_board board = make_board();
	board.current_known = false;
	struct governor_request first = {.surface = &plane[0].surface,
					 .begin_ns = 1000 * MS,
					 .gap_ns = GAP_UNKNOWN,
					 .deadline_ns =
						 1000 * MS + (uint64_t)(2 * (double)plane[0].latency[grid.points - 1])};
	size_t point = governor_prepare(&governor, &board, &first, 1000 * MS);
	assert_true((double)plane[0].latency[point] < 2 * (double)plane[0].latency[grid.points - 1]);
	assert_true((double)plane[0].power[point] < (double)plane[0].power[grid.points - 1]);
}

/* Clocks come down in a long gap, and stay in a short one. */
static void test_idle(void **state)
{
	size_t point = SIZE_MAX;

	(void)state;
	one_model();
	struct governor_board board = make_board();
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.up_ns[c] = board.down_ns[c] = MS / 4;
	uint64_t relative_ns = (uint64_t)(2.2 * (double)plane[0].latency[grid.points - 1]);
	board.current = decide(&board, 0, 1000 * MS, relative_ns).point;
	for (int i = 0; i < 2; i++) {
		uint64_t gap_ns = i ? 2000 * MS : MS;
		struct governor_request next = {.surface = &plane[0].surface,
						.begin_ns = 1100 * MS + gap_ns,
						.gap_ns = gap_ns,
						.deadline_ns = 1100 * MS + gap_ns + relative_ns};
		bool moves = governor_gap(&governor, &board, &next, 1, 1100 * MS, &point);
		if (i)
			assert_true(moves && plane[0].idle[point] < plane[0].idle[board.current]);
		else
			assert_false(moves);
	}
}

/* Two begin together after a long gap, one of them with no time to wait for the clocks: they do not come down for the
 * other's sake. */
static void test_idle_together(void **state)
{
	size_t point = SIZE_MAX;

	(void)state;
	one_model();
	struct governor_board board = make_board();
	double fastest_ns = (double)plane[0].latency[grid.points - 1];
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.up_ns[c] = board.down_ns[c] = (uint64_t)(2 * fastest_ns);
	for (int tight = 0; tight < 2; tight++) {
		double deadline_ns[2] = {tight ? 2.5 * fastest_ns : 500 * fastest_ns, 500 * fastest_ns};
		struct governor_request next[2];
		board.current = grid.points - 1;
		for (uint32_t k = 0; k < 2; k++)
			next[k] = (struct governor_request){.surface = &plane[0].surface,
							    .session = k,
							    .model = k,
							    .begin_ns = 3000 * MS,
							    .gap_ns = 2000 * MS,
							    .deadline_ns = 3000 * MS + (uint64_t)deadline_ns[k]};
		bool moves = governor_gap(&governor, &board, next, 2, 1000 * MS, &point);
		assert_int_equal(moves, !tight);
	}
}

/* An expected request counts with the chance that it begins in time: one that may begin at any time within an hour
 * raises no clocks, one that surely begins does. */
static void test_expected(void **state)
{
	size_t point[2];

	(void)state;
	for (int sure = 0; sure < 2; sure++) {
		struct governor_flight flight = {0};
		struct governor_request r[2];
		struct decision d;
		one_model();
		governor.options.learning_misses = 0;
		struct governor_board board = make_board();
		uint64_t deadline_ns = (uint64_t)(3 * (double)plane[0].latency[grid.points - 1]);
		for (uint32_t k = 0; k < 2; k++)
			r[k] = (struct governor_request){.surface = &plane[0].surface,
							 .session = k,
							 .model = k,
							 .begin_ns = 1000 * MS + (k ? 0 : 1),
							 .deadline_ns = 1000 * MS + (k ? 1 : 100) * deadline_ns,
							 .gap_ns = GAP_UNKNOWN};
		r[0].begin_by_ns = sure ? r[0].begin_ns : 3600 * 1000 * MS;
		r[1].flight = &flight;
		governor_decide(&governor, &board, r, 2, 1000 * MS, &d);
		point[sure] = d.point;
	}
	one_model();
	governor.options.learning_misses = 0;
	struct governor_board board = make_board();
	size_t alone = decide(&board, 1, 1000 * MS, (uint64_t)(3 * (double)plane[0].latency[grid.points - 1])).point;
	assert_int_equal(point[0], alone);
	assert_true(plane[0].power[point[1]] > plane[0].power[alone]);
}

/* One that may begin just before the newest ends, with less time to spare than the clocks take to come up, has to be
 * in time at the point chosen, even if it most likely begins later. */
static void test_expected_soon(void **state)
{
	struct governor_flight flight = {0};
	struct governor_request r[2];
	struct decision d;

	(void)state;
	one_model();
	governor.options.learning_misses = 0;
	struct governor_board board = make_board();
	double fastest_ns = (double)plane[0].latency[grid.points - 1];
	uint64_t now_ns = 1000 * MS, begin_ns = now_ns + (uint64_t)(3.8 * fastest_ns);
	for (int c = 0; c < CLOCK_COUNT; c++)
		board.up_ns[c] = (uint64_t)fastest_ns;
	for (uint32_t k = 0; k < 2; k++)
		r[k] = (struct governor_request){.surface = &plane[0].surface,
						 .session = k,
						 .model = k,
						 .begin_ns = k ? now_ns : begin_ns,
						 .deadline_ns = k ? now_ns + (uint64_t)(4 * fastest_ns) :
								    begin_ns + (uint64_t)(1.3 * fastest_ns),
						 .gap_ns = GAP_UNKNOWN};
	r[0].begin_by_ns = begin_ns + (uint64_t)(0.8 * fastest_ns);
	r[1].flight = &flight;
	governor_decide(&governor, &board, r, 2, now_ns, &d);
	assert_true((double)plane[0].latency[d.point] < 1.3 * fastest_ns);
}

/* The next request of another session begins at once. At the highest clocks it would be in time, but not after the wait
 * for them: a move that helps its next request only is not made on top of it. */
static void test_expected_waits(void **state)
{
	struct governor_flight flight = {0};
	struct governor_request r[2];
	struct decision d;
	uint64_t now_ns = 1000 * MS;

	(void)state;
	for (int slow = 0; slow < 2; slow++) {
		one_model();
		governor.options.learning_misses = 0;
		struct governor_board board = make_board();
		size_t top = grid.points - 1, axis[CLOCK_COUNT];
		grid_axes(&grid, top, axis);
		axis[CLOCK_GPU]--;
		board.current = grid_index(&grid, axis);
		board.up_ns[CLOCK_GPU] = slow ? 4 * MS : 0;
		for (size_t i = 0; i < grid.points; i++) {
			plane[0].latency[i] = MS * (i == top ? 10.0F : i == board.current ? 11.0F : 30.0F);
			plane[0].log_ns[i] = logf(plane[0].latency[i]);
			plane[0].sd[i] = 0.002F;
		}
		for (uint32_t k = 0; k < 2; k++)
			r[k] = (struct governor_request){.surface = &plane[0].surface,
							 .session = k,
							 .model = k,
							 .begin_ns = now_ns + !k,
							 .begin_by_ns = now_ns + !k,
							 .deadline_ns = now_ns + (k ? 100 * MS : 21900000),
							 .gap_ns = GAP_UNKNOWN};
		r[1].flight = &flight;
		governor_decide(&governor, &board, r, 2, now_ns, &d);
		assert_int_equal(d.point, slow ? board.current : top);
	}
}

/* A model that never runs alone: theta is 1 by definition, and half of the time its own. */
static void test_never_alone(void **state)
{
	struct governor_flight flight[2] = {{0}, {0}};
	struct governor_request r[2];
	struct decision d;

	(void)state;
	one_model();
	struct governor_board board = make_board();
	uint64_t run_ns = (uint64_t)(2 * (double)plane[0].latency[board.current]);
	for (uint32_t k = 0; k < 2; k++) {
		r[k] = (struct governor_request){.surface = &plane[0].surface,
						 .flight = &flight[k],
						 .session = k,
						 .model = k,
						 .begin_ns = 1000 * MS,
						 .deadline_ns = 1100 * MS,
						 .gap_ns = GAP_UNKNOWN};
		governor_decide(&governor, &board, r, k + 1, 1000 * MS, &d);
		flight[k].seen_ns = 1000 * MS;
	}
	struct governor_run run = {.ran_ns = run_ns, .at = board.current, .stood = true};
	struct governor_own own = governor_own(&governor, r, 2, 0, &run, 1000 * MS + run_ns);
	assert_int_equal(own.own_ns, run_ns / 2);
	assert_float_equal(own.var, 0, 0);
}

static void test_many_requests(void **state)
{
	static struct governor_request r[REQUESTS_MAX];
	struct decision d;

	(void)state;
	one_model();
	struct governor_board board = make_board();
	for (uint32_t k = 0; k < REQUESTS_MAX; k++)
		r[k] = (struct governor_request){.surface = &plane[0].surface,
						 .session = k % SESSIONS_MAX,
						 .model = k % MODELS_MAX,
						 .begin_ns = 1000 * MS,
						 .deadline_ns = 1000 * MS + (1 + k) * MS,
						 .gap_ns = 0};
	governor_decide(&governor, &board, r, REQUESTS_MAX, 1000 * MS, &d);
	assert_true(d.point < grid.points);
	assert_int_equal(d.others, COMPANY_MAX - 1);
	assert_false(d.feasible);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),         cmocka_unit_test(test_nothing_measured),
		cmocka_unit_test(test_price),          cmocka_unit_test(test_options),
		cmocka_unit_test(test_memory_dwell),   cmocka_unit_test(test_interference),
		cmocka_unit_test(test_company),        cmocka_unit_test(test_prepare),
		cmocka_unit_test(test_idle),           cmocka_unit_test(test_idle_together),
		cmocka_unit_test(test_expected),       cmocka_unit_test(test_never_alone),
		cmocka_unit_test(test_many_requests),  cmocka_unit_test(test_cap_together),
		cmocka_unit_test(test_unlearned),      cmocka_unit_test(test_expected_soon),
		cmocka_unit_test(test_expected_waits), cmocka_unit_test(test_pairs_share),
	};

	int failed = cmocka_run_group_tests_name("governor", tests, NULL, NULL);
	governor_free(&governor);
	return failed;
}
