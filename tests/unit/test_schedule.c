/* SPDX-License-Identifier: MIT */
/* The schedule of a stream: due times, banked slack, statistics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../common/quantile.h"
#include "../../daemon/schedule.h"

#define MS 1000000ULL
#define S  1000000000ULL

static void test_due(void **state)
{
	struct schedule s = {.rate_mhz = 15000, .first_ns = 800 * MS};

	(void)state;
	assert_int_equal(schedule_take(&s, PHASE_RUN, 5 * S), 0);
	assert_int_equal(s.start_ns, 5 * S);
	assert_int_equal(schedule_due_ns(&s, 0), 5 * S + 800 * MS);
	/* No drift: fifteen periods are a second to the nanosecond, and so are fifteen million. */
	assert_int_equal(schedule_due_ns(&s, 15), 6 * S + 800 * MS);
	assert_int_equal(schedule_due_ns(&s, 15000000), 1000005 * S + 800 * MS);
	assert_int_equal(schedule_due_ns(&s, 4000000000ULL), 5 * S + 800 * MS + 266666666666666666ULL);
	assert_int_equal(schedule_take(&s, PHASE_RUN, 6 * S), 1);
	schedule_put_back(&s, 1);
	assert_int_equal(schedule_take(&s, PHASE_RUN, 6 * S), 1);
	assert_int_equal(schedule_take(&s, PHASE_RUN, 6 * S), 2);
	schedule_put_back(&s, 1); /* another has begun */
	assert_int_equal(schedule_take(&s, PHASE_RUN, 6 * S), 3);
	schedule_start(&s, 9 * S, false);
	assert_int_equal(schedule_take(&s, PHASE_RUN, 9 * S), 0);
	assert_int_equal(schedule_due_ns(&s, 1), 9 * S + 800 * MS + S / 15);
	schedule_start(&s, 10 * S, false);
	assert_int_equal(schedule_take(&s, PHASE_RUN, 10 * S), 0);
	assert_false(schedule_has(&s, 9 * S)); /* of the stream before the restart */
	assert_true(schedule_has(&s, 10 * S));
	assert_int_equal(schedule_take(&s, PHASE_RUN, 10 * S), 1);
	schedule_put_back(&s, 1);
	assert_int_equal(schedule_take(&s, PHASE_RUN, 11 * S), 1);
}

/* Requests that each take their pace end neither late nor, in the long run, with slack that was never used. */
static void test_pace(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct schedule s = {.rate_mhz = 1000 + 1000 * (seed * 7 % 90),
				     .first_ns = (100 + seed * 37 % 900) * MS};
		uint64_t now_ns = 3 * S, period_ns = schedule_period_ns(&s);

		schedule_take(&s, PHASE_RUN, now_ns);
		assert_int_equal(schedule_pace_ns(&s, 0, now_ns), s.first_ns);
		now_ns += s.first_ns / 3; /* a quick prefill banks two thirds of its time */
		uint64_t longest_ns = 0;
		for (int i = 1; i <= 400; i++) {
			uint64_t k = schedule_take(&s, PHASE_RUN, now_ns), pace_ns = schedule_pace_ns(&s, k, now_ns),
				 due_ns = schedule_due_ns(&s, k);
			assert_true(now_ns + pace_ns <= due_ns);
			assert_true(pace_ns + 2 >= period_ns);
			longest_ns = pace_ns > longest_ns ? pace_ns : longest_ns;
			now_ns += pace_ns;
			if (i == 400)
				assert_true(due_ns - now_ns <= s.first_ns / 1000 + 1000); /* all spent */
		}
		assert_true(longest_ns <= period_ns + s.first_ns / 16 + 2); /* spread, not spent at once */
	}
}

static void test_late(void **state)
{
	struct schedule s = {.rate_mhz = 10000, .first_ns = 100 * MS};

	(void)state;
	assert_int_equal(schedule_take(&s, PHASE_RUN, S), 0);
	assert_false(schedule_ended(&s, 0, S + 100 * MS).late);
	assert_true(schedule_ended(&s, schedule_take(&s, PHASE_RUN, S + 100 * MS), S + 201 * MS).late);
	/* Behind: less than a period, then nothing. */
	assert_int_equal(schedule_pace_ns(&s, schedule_take(&s, PHASE_RUN, S + 201 * MS), S + 201 * MS), 99 * MS);
	assert_int_equal(schedule_pace_ns(&s, 3, S + 401 * MS), 0);
	assert_int_equal(s.stats.ended, 2);
	assert_int_equal(s.stats.late, 1);
}

static void test_counted(void **state)
{
	struct schedule s = {.rate_mhz = 20000, .first_ns = 500 * MS};
	struct stream_stats also = {0};
	uint64_t first = 0;

	(void)state;
	for (uint64_t start = 0; start < 4; start++) {
		uint64_t now_ns = (start + 1) * 100 * S;

		schedule_start(&s, now_ns, false);
		now_ns += (100 + 100 * start) * MS;
		stream_count(&also, schedule_ended(&s, schedule_take(&s, PHASE_RUN, now_ns), now_ns), &first);
		for (int i = 0; i < 10; i++) {
			uint64_t k = schedule_take(&s, PHASE_RUN, now_ns);
			now_ns += 40 * MS;
			stream_count(&also, schedule_ended(&s, k, now_ns), &first);
		}
	}
	assert_int_equal(stream_reached_mhz(&s.stats), 25000); /* pauses between starts are no part of it */
	assert_int_equal(stream_first_ns(&s.stats, 0.5), 200 * MS);
	assert_int_equal(stream_first_ns(&s.stats, 0.99), 400 * MS);
	assert_int_equal(s.stats.ended, 44);
	assert_int_equal(s.stats.late, 0);
	assert_memory_equal(&s.stats, &also, sizeof(also));
	assert_int_equal(stream_first_ns(&(struct stream_stats){0}, 0.5), 0);
	assert_int_equal(stream_reached_mhz(&(struct stream_stats){0}), 0);
}

/* A part of a prompt for each of `ms`, which end the prompt's start at their sum. */
static uint64_t prompt(struct schedule *s, struct stream_stats *also, uint64_t *first, uint64_t now_ns,
		       const uint64_t *ms)
{
	schedule_start(s, now_ns, true);
	for (; *ms; ms++) {
		uint64_t k = schedule_take(s, PHASE_PREFILL, now_ns);

		assert_int_equal(k, 0);
		assert_int_equal(schedule_pace_ns(s, k, now_ns), schedule_due_ns(s, 0) - now_ns);
		now_ns += *ms * MS;
		stream_count(also, schedule_ended(s, k, now_ns), first);
	}
	return now_ns;
}

/* A prompt in parts is one start; its time is from the start to the end of the last part. Two streams that are counted
 * together do not mix. */
static void test_parts(void **state)
{
	struct schedule s = {.rate_mhz = 20000, .first_ns = 500 * MS}, other = s;
	struct stream_stats also = {0};
	uint64_t first = 0, others = 0, now_ns;

	(void)state;
	prompt(&s, &also, &first, 10 * S, (uint64_t[]){100, 100, 0});
	prompt(&other, &also, &others, 10 * S, (uint64_t[]){50, 0});
	stream_count(&also, schedule_ended(&s, schedule_take(&s, PHASE_PREFILL, 11 * S), 10 * S + 300 * MS), &first);
	assert_int_equal(also.firsts, 2);
	assert_int_equal(stream_first_ns(&also, 0), 50 * MS);
	assert_int_equal(stream_first_ns(&also, 1), 300 * MS);
	assert_int_equal(schedule_take(&s, PHASE_DECODE, 11 * S), 1);
	assert_int_equal(schedule_take(&s, PHASE_PREFILL, 11 * S), 2); /* without a start */
	now_ns = prompt(&s, &also, &first, 20 * S, (uint64_t[]){200, 0});
	assert_int_equal(schedule_take(&s, PHASE_RUN, now_ns), 1);
	assert_int_equal(s.stats.firsts, 2);
	assert_int_equal(stream_first_ns(&s.stats, 0), 200 * MS);
	assert_int_equal(stream_first_ns(&s.stats, 1), 300 * MS);
	assert_int_equal(s.stats.steady, 0);
	/* a part of a start that is no longer kept, and of one that was counted elsewhere */
	also.firsts += STREAM_FIRSTS;
	stream_count(&also, (struct stream_event){.first = true, .again = true, .took_ns = S}, &first);
	assert_int_equal(stream_first_ns(&also, 1), 300 * MS);
	also = (struct stream_stats){0};
	stream_count(&also, (struct stream_event){.first = true, .again = true, .took_ns = S}, &first);
	assert_int_equal(also.firsts, 1);
	assert_int_equal(stream_first_ns(&also, 1), S);
	/* not announced by a start: the second is a request like any other */
	s = (struct schedule){.rate_mhz = 20000, .first_ns = 500 * MS};
	assert_int_equal(schedule_take(&s, PHASE_PREFILL, S), 0);
	assert_int_equal(schedule_take(&s, PHASE_PREFILL, S), 1);
}

/* The prompt of the first start was not seen. */
static void test_amid(void **state)
{
	struct schedule s = {.rate_mhz = 10000, .first_ns = 5 * S};
	uint64_t now_ns = S; /* earlier than first_ns: nothing may wrap around */

	(void)state;
	for (uint64_t k = 1; k <= 3; k++) {
		assert_int_equal(schedule_take(&s, PHASE_DECODE, now_ns), k);
		assert_int_equal(schedule_due_ns(&s, k), S + k * 100 * MS);
		assert_int_equal(schedule_pace_ns(&s, k, now_ns), 100 * MS + (k - 1) * 10 * MS / 16);
		now_ns += 90 * MS;
		assert_false(schedule_ended(&s, k, now_ns).first);
	}
	assert_int_equal(s.stats.firsts, 0);
	assert_int_equal(s.stats.ended, 3);
	assert_int_equal(s.stats.steady, 2);
	assert_int_equal(stream_first_ns(&s.stats, 0.5), 0);
	schedule_start(&s, now_ns, true);
	assert_int_equal(schedule_take(&s, PHASE_PREFILL, now_ns), 0);
	assert_int_equal(schedule_due_ns(&s, 0), now_ns + 5 * S);
	schedule_ended(&s, 0, now_ns + S);
	assert_int_equal(schedule_take(&s, PHASE_DECODE, now_ns + S), 1);
	assert_int_equal(schedule_due_ns(&s, 1), now_ns + 5 * S + 100 * MS);
	assert_int_equal(s.stats.firsts, 1);
	schedule_start(&s, now_ns + 9 * S, false);
	assert_int_equal(schedule_take(&s, PHASE_DECODE, now_ns + 9 * S), 1);
	assert_int_equal(schedule_take(&s, PHASE_PREFILL, now_ns + 9 * S), 2);
}

static void test_quantile(void **state)
{
	uint64_t values[] = {5, 1, 4, 2, 3};

	(void)state;
	sort_u64(values, 5);
	assert_int_equal(quantile_u64(values, 5, 0), 1);
	assert_int_equal(quantile_u64(values, 5, 0.2), 1);
	assert_int_equal(quantile_u64(values, 5, 0.21), 2);
	assert_int_equal(quantile_u64(values, 5, 0.5), 3);
	assert_int_equal(quantile_u64(values, 5, 1), 5);
	assert_int_equal(quantile_u64(values, 0, 0.5), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_due),      cmocka_unit_test(test_pace),  cmocka_unit_test(test_late),
		cmocka_unit_test(test_counted),  cmocka_unit_test(test_parts), cmocka_unit_test(test_amid),
		cmocka_unit_test(test_quantile),
	};

	return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
