/* SPDX-License-Identifier: MIT */
/* What the governor risks in order to learn, what that costs a session, and what a request with clocks on their way
 * measures. */
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

#define DEADLINE_NS (20 * MS)

/* Two points take these ratios of the deadline, one well measured, and one that was never measured, whose fit has the
 * deviation `sd`; all others take half as long again as the first. */
static void two_points(size_t known, float known_over, size_t other, float other_over, float sd)
{
	for (size_t i = 0; i < grid.points; i++) {
		plane[0].latency[i] = DEADLINE_NS * (i == other ? other_over :
						     i == known ? known_over :
								  1.5F * known_over);
		plane[0].log_ns[i] = logf(plane[0].latency[i]);
		plane[0].measured[i] = i == other ? 0 : 20;
		plane[0].sd[i] = i == other ? sd : 0.0005F;
	}
}

/* A deadline of a third is another kind, at any length. */
static void test_kinds(void **state)
{
	(void)state;
	for (uint64_t ns = 100; ns < 3600000 * MS; ns *= 2) {
		struct governor_session s = {.tight_ns = ns};
		assert_true(session_next_deadline_ns(&s, 3 * (double)ns) == (double)ns);
		assert_true(session_next_deadline_ns(&s, (double)ns) == (double)ns);
	}
}

/* A cheaper point that was never measured is explored if there is a miss budget, and never without. */
static void test_explores(void **state)
{
	(void)state;
	for (int misses = 0; misses < 3; misses += 2) {
		size_t explored = 0;
		one_model();
		governor.options.learning_misses = misses;
		for (size_t i = 0; i < grid.points; i++) {
			plane[0].measured[i] = i + 1 == grid.points ? 20 : 0;
			plane[0].sd[i] = i + 1 == grid.points ? 0.002F : 0.15F;
		}
		struct governor_board board = make_board();
		for (int i = 0; i < 20; i++) {
			struct decision d = decide(&board, 0, (1000 + 100 * (uint64_t)i) * MS,
						   (uint64_t)(2 * (double)plane[0].latency[grid.points - 1]));
			explored += d.late > 0.02;
		}
		assert_true(misses ? explored > 0 : explored == 0);
	}
}

/* If the fastest measured point is late, a dearer one that was never measured is chosen if it may be in time, as boards
 * are less regular than their surfaces; not if it cannot be. */
static void test_late_everywhere(void **state)
{
	(void)state;
	for (int reach = 0; reach < 2; reach++) {
		one_model();
		size_t known = 5, unknown = grid.points - 1, tried = 0;
		float scale = reach ? 1 : 2;
		two_points(known, scale * 1.02F, unknown, scale * 1.06F, 0.06F);
		struct governor_board board = make_board();
		board.current = known;
		for (int i = 0; i < 20; i++)
			tried += decide(&board, 0, (1000 + 100 * (uint64_t)i) * MS, DEADLINE_NS).point == unknown;
		assert_true(plane[0].power[unknown] > plane[0].power[known]);
		assert_true(reach ? tried > 0 : tried == 0);
	}
}

/* Clocks that come down while a request runs: of its time at the point, what it took is too short, and what follows if
 * they came down at the end of the move too long. The middle is taken, and both are within its deviation. */
static void test_clocks_on_their_way(void **state)
{
	struct decision d;

	(void)state;
	one_model();
	struct governor_board board = make_board();
	size_t from = board.current, at = 40;
	plane[0].latency[from] = 10 * MS;
	plane[0].latency[at] = 12 * MS;
	for (int late = 0; late < 2; late++) { /* the clocks come down at the begin, or at the end of the 2 ms */
		struct governor_flight flight = {0};
		struct governor_request r = {.surface = &plane[0].surface,
					     .flight = &flight,
					     .begin_ns = 1000 * MS,
					     .deadline_ns = 1100 * MS,
					     .gap_ns = GAP_UNKNOWN};
		uint64_t ran_ns = late ? 2 * MS + (uint64_t)(0.8 * 12 * MS) : 12 * MS;
		governor_decide(&governor, &board, &r, 1, 1000 * MS, &d);
		struct governor_run run = {.ran_ns = ran_ns, .at = at, .stood = true, .moved_ns = 2 * MS, .from = from};
		struct governor_own own = governor_own(&governor, &r, 1, 0, &run, 1000 * MS + ran_ns);
		double off = log((double)own.own_ns / (12 * MS));
		assert_true(own.own_ns > ran_ns);
		assert_true(own.var > 0 && off * off < 1.01 * own.var);
		/* what was done before they stood is all, or not known */
		run.moved_ns = ran_ns / 2;
		assert_int_equal(governor_own(&governor, &r, 1, 0, &run, 1000 * MS + ran_ns).own_ns, 0);
		run.moved_ns = ran_ns / 5;
		run.from = SIZE_MAX;
		own = governor_own(&governor, &r, 1, 0, &run, 1000 * MS + ran_ns);
		assert_int_equal(own.own_ns, ran_ns);
		assert_true(fabs(own.var - 0.01) < 1e-4); /* (0.2 / 2)^2 */
		run.stood = false;
		assert_int_equal(governor_own(&governor, &r, 1, 0, &run, 1000 * MS + ran_ns).own_ns, 0);
	}
}

/* No point is known to be in time, and one request in ten is late at the fastest: however many have been, another point
 * that may be in time is tried, unless no miss may be risked to learn. */
static void test_late_too_often(void **state)
{
	(void)state;
	for (int misses = 0; misses < 3; misses += 2) {
		one_model();
		governor.options.learning_misses = misses;
		size_t other = 5, tried = 0;
		two_points(grid.points - 1, 0.9937F, other, 1, 0.05F);
		struct governor_board board = make_board();
		decide(&board, 0, 900 * MS, 20 * MS);
		for (int i = 0; i < 40; i++)
			governor_ended(&governor, 0, 21 * MS, 20 * MS);
		for (int i = 0; i < 20; i++) {
			struct decision d = decide(&board, 0, (1000 + 100 * (uint64_t)i) * MS, 20 * MS);
			tried += d.point == other;
			governor_ended(&governor, 0, i % 10 ? 19 * MS : 21 * MS, 20 * MS);
		}
		assert_true(misses ? tried > 0 : tried == 0);
	}
}

/* The fit is sure that no point is in time, by nine deviations. Boards are less regular than that, and the requests are
 * late anyway, so that the other point is measured in the end. */
static void test_surely_late(void **state)
{
	size_t other = 5, tried = 0;

	(void)state;
	one_model();
	two_points(grid.points - 1, 1.02F, other, 1.04F, 0.006F);
	struct governor_board board = make_board();
	for (int i = 0; i < 100; i++) {
		tried += decide(&board, 0, (1000 + 100 * (uint64_t)i) * MS, 20 * MS).point == other;
		governor_ended(&governor, 0, 21 * MS, 20 * MS);
	}
	assert_true(tried > 0);
}

/* A session that asks at once for its next inference after a miss finds clocks on their way: that it is late then is
 * the first miss's doing, and is not charged as another; after a request in time it would be. */
static void test_charged_once(void **state)
{
	double debt[2];

	(void)state;
	for (int missed = 0; missed < 2; missed++) {
		one_model();
		struct governor_board board = make_board();
		struct governor_request r = {.surface = &plane[0].surface,
					     .begin_ns = 2000 * MS,
					     .deadline_ns = 2030 * MS,
					     .settling_ns = 29 * MS,
					     .gap_ns = 0};
		struct decision d = decide(&board, 0, 1000 * MS, 30 * MS);
		governor_ended(&governor, 0, missed ? 31 * MS : 20 * MS, 30 * MS);
		governor_decide(&governor, &board, &r, 1, 2000 * MS, &d);
		debt[missed] = d.miss_debt;
		assert_true(d.late > LIKELY);
		governor_ended(&governor, 0, 40 * MS, 30 * MS);
		debt[missed] = decide(&board, 0, 3000 * MS, 30 * MS).miss_debt - debt[missed];
	}
	assert_true(debt[0] > 0.9 && debt[1] == 0);
}

/* The point that a search shared by several requests has found is not chosen if a ceiling has come below it since. */
static void test_found_below_ceiling(void **state)
{
	size_t axis[CLOCK_COUNT] = {10, 4, 2}, known, other, found = 0;

	(void)state;
	one_model();
	struct governor_board board = make_board();
	known = grid_index(&grid, axis);
	axis[CLOCK_CPU] = 12;
	axis[CLOCK_GPU] = 3;
	other = grid_index(&grid, axis);
	two_points(known, 0.9F, other, 1.0F, 0.15F);
	plane[0].power[other] = 0.8F * plane[0].power[known];
	board.current = known;
	for (uint64_t i = 0; i < 200; i++) {
		if (i > 150 && governor.session[0].found == other + 1 && governor.session[0].begun % 8 == 7)
			board.ceiling_hz[CLOCK_CPU] = grid.hz[CLOCK_CPU][11];
		found += decide(&board, 0, (1000 + 100 * i) * MS, DEADLINE_NS).point == other;
		if (board.ceiling_hz[CLOCK_CPU] == UINT64_MAX)
			continue;
		assert_true(found > 0); /* before */
		assert_int_equal(decide(&board, 0, (1050 + 100 * i) * MS, DEADLINE_NS).point, known);
	}
	assert_true(board.ceiling_hz[CLOCK_CPU] != UINT64_MAX);
}

/* A miss allowed for learning costs as much as any other: the price falls no lower than at the target. */
static void test_allowance(void **state)
{
	double price[2];

	(void)state;
	for (int misses = 0; misses < 2; misses++) {
		one_model();
		governor.options.learning_misses = 8 * misses;
		struct governor_board board = make_board();
		price[misses] = decide(&board, 0, 1000 * MS, 30 * MS).miss_price_uw;
	}
	assert_true(price[0] > 0 && fabs(price[1] / price[0] - 1) < 1e-9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_explores),
		cmocka_unit_test(test_late_everywhere),
		cmocka_unit_test(test_clocks_on_their_way),
		cmocka_unit_test(test_late_too_often),
		cmocka_unit_test(test_surely_late),
		cmocka_unit_test(test_charged_once),
		cmocka_unit_test(test_allowance),
		cmocka_unit_test(test_found_below_ceiling),
	};

	int failed = cmocka_run_group_tests_name("learning", tests, NULL, NULL);
	governor_free(&governor);
	return failed;
}
