/* SPDX-License-Identifier: MIT */
/* Trials: requests that the governor runs where only they can tell whether it is in time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "planes.h"

/* Trials of one session that all fail. */
static size_t failing_trials(uint64_t deadline_ns)
{
	uint64_t now_ns = NS_PER_S;
	size_t trials = 0;
	struct governor_board board = make_board();

	fresh();
	for (size_t i = 0; i < grid.points; i++)
		plane[0].measured[i] = 0;
	for (int i = 0; i < 300; i++) {
		struct decision d = decide(&board, 0, now_ns += 50 * MS, deadline_ns);
		assert_true(d.trial ? (double)d.predicted_ns < 1.1 * (double)deadline_ns : d.bound_ns <= deadline_ns);
		trials += d.trial;
		board.current = d.point;
		plane[0].measured[d.point]++;
		governor_ended(&governor, 0, d.trial ? deadline_ns + 1 : d.predicted_ns, deadline_ns, d.bound_ns);
	}
	return trials;
}

/* The request that moves to a point is not a measurement of it: the trial goes on with the next, and ends there. */
static void test_trial_goes_on(void **state)
{
	(void)state;
	uint64_t now_ns = NS_PER_S, deadline_ns;
	struct governor_board board;
	struct decision d;
	size_t tries = 0;

	one_model();
	for (size_t i = 0; i < grid.points; i++)
		plane[0].bound[i] = plane[0].latency[i] * 1.15F;
	do {
		fresh();
		memset(plane[0].measured, 0, sizeof(plane[0].measured));
		board = make_board();
		deadline_ns = (uint64_t)plane[0].bound[grid.points - tries * grid.points / 30 - 1];
		for (int i = 0; i < 40; i++) {
			d = decide(&board, 0, now_ns += 50 * MS, deadline_ns);
			board.current = d.point;
			if (d.trial)
				break;
			plane[0].measured[d.point]++;
			governor_ended(&governor, 0, d.predicted_ns, deadline_ns, d.bound_ns);
		}
		assert_in_range(++tries, 1, 29);
	} while (!d.trial);
	governor_ended(&governor, 0, d.predicted_ns, deadline_ns, d.bound_ns);
	size_t tried = d.point;
	d = decide(&board, 0, now_ns += 50 * MS, deadline_ns);
	assert_true(d.trial);
	assert_int_equal(d.point, tried);
	plane[0].measured[tried]++;
	plane[0].bound[tried] = 1.1F * (float)deadline_ns; /* it does not do */
	governor_ended(&governor, 0, deadline_ns, deadline_ns, d.bound_ns);
	plane[0].latency[tried] = 1.05F * (float)deadline_ns;
	d = decide(&board, 0, now_ns += 50 * MS, deadline_ns);
	assert_int_not_equal(d.point, tried);
}

/* A point hardly known, its bound over the slack by a hair, is not left for a dearer one: staying tells what it is. */
static void test_trial_stays(void **state)
{
	(void)state;
	uint64_t deadline_ns = 100 * MS;
	struct governor_board board;
	struct decision d;

	for (int known = 0; known < 2; known++) {
		fresh();
		make_grid(1, 2, 1);
		random_plane(&plane[0]);
		plane[0].surface.slowdown = plane[0].surface.slowdown_bound = 1;
		for (size_t i = 0; i < 2; i++) {
			plane[0].bound[i] = i ? 80e6F : 100.1e6F;
			plane[0].latency[i] = plane[0].bound[i] / 1.02F;
			plane[0].power[i] = i ? 6e6F : 5e6F;
			plane[0].measured[i] = known ? 10 : 2;
		}
		board = make_board();
		board.current = 0;
		governor.session[0].credit = 1;
		d = decide(&board, 0, NS_PER_S, deadline_ns);
		assert_true(d.feasible);
		assert_int_equal(d.trial, !known);
		assert_int_equal(d.point, known);
		assert_int_equal(d.measured, known ? 10 : 2);
	}
}

/* A trial is taken only where the slack about covers the prediction, and ends with the credit. */
static void test_trial(void **state)
{
	(void)state;
	size_t sum = 0;

	one_model();
	for (size_t i = 0; i < grid.points; i++)
		plane[0].bound[i] = plane[0].latency[i] * 1.15F;
	for (size_t i = 1; i < 30; i++) {
		size_t trials = failing_trials((uint64_t)plane[0].bound[grid.points - i * grid.points / 30]);
		assert_in_range(trials, 0, 2);
		sum += trials;
	}
	assert_in_range(sum, 5, 58);
}

/* Two points, the cheaper hardly known and likely in time; moving takes as long as a request has. */
static struct governor_board slow_board(uint64_t deadline_ns)
{
	struct governor_board board;

	fresh();
	make_grid(1, 2, 1);
	random_plane(&plane[0]);
	plane[0].surface.state = SURFACE_LEARNING;
	plane[0].surface.slowdown = plane[0].surface.slowdown_bound = 1;
	for (size_t i = 0; i < 2; i++) {
		plane[0].latency[i] = (i ? 0.6F : 0.9F) * (float)deadline_ns;
		plane[0].bound[i] = (i ? 0.65F : 1.1F) * (float)deadline_ns;
		plane[0].power[i] = i ? 9e6F : 5e6F;
		plane[0].measured[i] = i ? 3 : 0;
	}
	board = make_board();
	board.settle_ns[CLOCK_GPU] = board.write_ns[CLOCK_GPU] = deadline_ns;
	return board;
}

/* Requests one after the other, `apart_ns` between their begins, until one is not at the dear point. */
static int requests_until_cheap(struct governor_board *board, uint64_t apart_ns, uint64_t deadline_ns, struct decision *d)
{
	for (int i = 0; i < 20; i++) {
		*d = decide(board, 0, NS_PER_S + (uint64_t)i * apart_ns, deadline_ns);
		if (d->point == 0)
			return i;
		governor_ended(&governor, 0, d->predicted_ns, deadline_ns, d->bound_ns);
	}
	return -1;
}

/* Where every request follows the last, one is given up to get there, if there are misses to spare: it, and the way back. */
static void test_trial_bought(void **state)
{
	(void)state;
	uint64_t deadline_ns = 20 * MS;
	struct governor_board board;
	struct decision d;

	for (int credit = 1; credit <= 5; credit++) {
		board = slow_board(deadline_ns);
		decide(&board, 0, NS_PER_S - 12 * MS, deadline_ns);
		governor_ended(&governor, 0, 12 * MS, deadline_ns, 13 * MS);
		governor.session[0].credit = credit;
		int n = requests_until_cheap(&board, 12 * MS, deadline_ns, &d);
		assert_int_equal(n >= 0, credit >= 2);
		if (n < 0)
			continue;
		assert_true(d.trial);
		board.current = 0;
		governor_ended(&governor, 0, deadline_ns + 18 * MS, deadline_ns, d.bound_ns);
		assert_true(governor.session[0].credit < credit - 0.9);
		/* It does not do: the way back is late too, and is the trial's as well. */
		plane[0].latency[0] = 1.2F * (float)deadline_ns;
		plane[0].bound[0] = 1.25F * (float)deadline_ns;
		plane[0].measured[0] = 1;
		d = decide(&board, 0, 2 * NS_PER_S, deadline_ns);
		assert_true(!d.feasible && d.late_once && d.point == 1);
		governor_ended(&governor, 0, deadline_ns + 12 * MS, deadline_ns, d.bound_ns);
		assert_true(governor.session[0].credit < credit - 1.9);
	}
}

/* Where there is a gap that will do, the clocks go there in it, and the request that follows is the trial. */
static void test_trial_ahead(void **state)
{
	(void)state;
	uint64_t deadline_ns = 20 * MS, apart_ns = 60 * MS;
	struct governor_board board = slow_board(deadline_ns);
	struct decision d;
	size_t point = SIZE_MAX;

	assert_int_equal(requests_until_cheap(&board, apart_ns, deadline_ns, &d), -1);
	assert_true(governor_idle(&governor, &board, &plane[0].surface, apart_ns - 12 * MS, 2 * NS_PER_S, &point));
	assert_int_equal(point, 0);
	board.current = point;
	d = decide(&board, 0, 2 * NS_PER_S + 48 * MS, deadline_ns);
	assert_true(d.trial && d.feasible && d.point == 0);
	/* Too short a gap is none. */
	board = slow_board(deadline_ns);
	requests_until_cheap(&board, apart_ns, deadline_ns, &d);
	assert_false(governor_idle(&governor, &board, &plane[0].surface, 8 * MS, 2 * NS_PER_S, &point));
}

/* What nothing can meet costs nothing: trials of faster points leave the misses that are there for cheaper ones. */
static void test_trial_of_the_hopeless(void **state)
{
	(void)state;
	uint64_t deadline_ns = 20 * MS;
	struct governor_board board = slow_board(deadline_ns);
	size_t trials = 0;

	plane[0].latency[1] = plane[0].latency[0] = 1.1F * (float)deadline_ns;
	plane[0].bound[1] = plane[0].bound[0] = 1.2F * (float)deadline_ns;
	board.settle_ns[CLOCK_GPU] = board.write_ns[CLOCK_GPU] = 0;
	for (int i = 0; i < 100; i++) {
		struct decision d = decide(&board, 0, NS_PER_S + (uint64_t)i * deadline_ns, deadline_ns);
		assert_false(d.feasible);
		trials += d.trial;
		board.current = d.point;
		governor_ended(&governor, 0, deadline_ns + MS, deadline_ns, d.bound_ns);
	}
	assert_true(trials > 1);
	assert_true(governor.session[0].credit > 0.2); /* of what is left once learning is over */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trial),
		cmocka_unit_test(test_trial_goes_on),
		cmocka_unit_test(test_trial_stays),
		cmocka_unit_test(test_trial_bought),
		cmocka_unit_test(test_trial_ahead),
		cmocka_unit_test(test_trial_of_the_hopeless),
	};

	return cmocka_run_group_tests_name("trials", tests, NULL, NULL);
}
