/* SPDX-License-Identifier: MIT */
/* Inference boundaries, on sequences of launches and waits written as text: a letter is a launch of that kernel, '.' a
 * finish, ',' a blocking read, '|' a pause and '*' an upload before the next one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "../../common/limits.h"
#include "../../layers/core/boundary.h"

struct heard {
	unsigned begins, ends, changed, locked;
	bool off;
	uint64_t ended[4096];
};

static struct boundary boundary;

static void start(const char *rule)
{
	struct boundary_config config;

	assert_int_equal(boundary_parse(rule, &config), 0);
	boundary_init(&boundary, &config);
}

static void hear(struct heard *heard, unsigned marks)
{
	if (marks & MARK_END && !(marks & MARK_CHANGED))
		heard->ended[heard->ends % 4096] = boundary_ended(&boundary);
	heard->begins += (marks & MARK_BEGIN) != 0;
	heard->ends += (marks & MARK_END) && !(marks & MARK_CHANGED);
	heard->changed += (marks & MARK_CHANGED) != 0;
	heard->locked += (marks & MARK_LOCKED) != 0;
	heard->off |= (marks & MARK_OFF) != 0;
}

static void play(struct heard *heard, const char *text)
{
	uint64_t gap = 10;
	bool upload = false;

	for (; *text; text++) {
		if (*text == '.') {
			hear(heard, boundary_wait(&boundary, WAIT_FINISH, false));
		} else if (*text == ',') {
			hear(heard, boundary_wait(&boundary, WAIT_READ, false));
		} else if (*text == '|') {
			gap = 100000;
			continue;
		} else if (*text == '*') {
			upload = true;
			continue;
		} else {
			uint64_t name = boundary_hash(0, text, 1);

			hear(heard, boundary_launch(&boundary, name, name, gap, upload));
			upload = false;
		}
		gap = 10;
	}
}

static struct heard repeat(const char *text, unsigned times)
{
	struct heard heard = {0};

	while (times--)
		play(&heard, text);
	return heard;
}

static void plain_sequence(void **state)
{
	struct heard heard;

	(void)state;
	start(NULL);
	heard = repeat("abcd,", 13);
	assert_int_equal(heard.begins, 10); /* after the three by which it was found */
	assert_int_equal(heard.ends, 10);
	assert_int_equal(heard.changed, 0);
	assert_int_equal(heard.ended[0], heard.ended[9]);
}

static void several_waits_in_one(void **state)
{
	struct heard heard;
	uint64_t name;

	(void)state;
	start(NULL);
	heard = repeat("|ab,cd,e.", 23);
	assert_int_equal(heard.ends, 20);
	assert_int_equal(boundary.period, 3);
	name = heard.ended[0];
	/* The same network, first seen in the middle of a warm-up: the pause marks the begin of an inference. */
	start(NULL);
	play(&heard, "zz,cd,e.");
	heard = repeat("|ab,cd,e.", 23);
	assert_true(heard.ends >= 19);
	assert_int_equal(heard.ended[0], name);
}

/* a wait after every kernel, and the same kernels twice over in a network */
static void upload_tells_like_segments_apart(void **state)
{
	struct heard heard;

	(void)state;
	start(NULL);
	heard = repeat("*a.b.c.a.b.c.,", 13);
	assert_int_equal(boundary.period, 6);
	assert_in_range(heard.ends, 10, 11);
	start(NULL);
	play(&heard, "b.c.a.b.c.");
	heard = repeat("*a.b.c.a.b.c.,", 13);
	assert_int_equal(boundary.position, 0);
	assert_in_range(heard.ends, 9, 11);
}

static void warm_up_is_left_out(void **state)
{
	struct heard heard = {0};

	(void)state;
	start(NULL);
	play(&heard, "q,r,st,uvw,");
	play(&heard, "abxcd,"); /* the first inference fills caches */
	assert_int_equal(heard.begins, 0);
	heard = repeat("abcd,", 8);
	assert_int_equal(heard.ends, 5);
}

static void tuning_is_left_out(void **state)
{
	struct heard heard = {0};

	(void)state;
	start(NULL);
	for (int i = 0; i < 20; i++)
		play(&heard, "k.");
	for (int i = 0; i < 20; i++)
		play(&heard, "llll.");
	assert_int_equal(heard.begins, 0);
	heard = repeat("kabl,", 10);
	assert_int_equal(heard.ends, 7);
	/* A tuner with more launches than the limit for one: it counts as the program. */
	start(NULL);
	heard = repeat("k.", 60);
	assert_int_equal(heard.ends, 60 - BOUNDARY_TUNING_REPEATS);
	heard = repeat("kabl,", 10);
	assert_true(heard.ends >= 6 && heard.ends <= 8);
	assert_false(heard.off);
}

static void single_kernel_network(void **state)
{
	struct heard heard;

	(void)state;
	start(NULL);
	heard = repeat("g,", 100);
	assert_int_equal(heard.ends, 100 - BOUNDARY_TUNING_REPEATS);
}

static void fingerprints(void **state)
{
	struct heard one, again, other;

	(void)state;
	start(NULL);
	one = repeat("abcd,", 5);
	start(NULL);
	play(&one, "warm,up,");
	again = repeat("abcd,", 5);
	start(NULL);
	other = repeat("abdc,", 5);
	assert_int_equal(one.ended[0], again.ended[0]);
	assert_int_not_equal(one.ended[0], other.ended[0]);
}

static void prefill_then_decode(void **state)
{
	struct heard heard = {0};
	uint64_t decode;

	(void)state;
	start(NULL);
	heard = repeat("ddef,", 6);
	decode = heard.ended[0];
	heard = repeat("PQR,ddef,ddef,ddef,ddef,", 10);
	assert_false(heard.off);
	assert_true(heard.ends >= 46); /* the first prefills are new */
	assert_int_equal(heard.changed, 0);
	assert_int_not_equal(heard.ended[heard.ends - 5], decode);
	assert_int_equal(heard.ended[heard.ends - 1], decode);
}

static void same_first_kernel(void **state)
{
	struct heard heard;

	(void)state;
	start(NULL);
	heard = repeat("abc,abc,abc,abc,axyz,", 30);
	/* A wrong inference is never reported as right: the announced shape is compared with the one that ended. */
	assert_true(heard.changed >= 28);
	assert_true(heard.ends >= 80);
	assert_false(heard.off);
}

static void variable_shapes(void **state)
{
	struct heard heard = {0};
	uint64_t name = boundary_hash(0, "a", 1);

	(void)state;
	start(NULL);
	heard = repeat("abc,", 4);
	for (uint64_t i = 0; i < 200 && !heard.off; i++) {
		hear(&heard, boundary_launch(&boundary, name, 1000 + i, 1, false));
		hear(&heard, boundary_launch(&boundary, name, 2000 + i, 1, false));
		hear(&heard, boundary_wait(&boundary, WAIT_READ, false));
	}
	assert_true(heard.off);
	assert_non_null(strstr(boundary_why(&boundary), "nearly every inference"));
	assert_int_equal(boundary_launch(&boundary, name, name, 1, false), MARK_NONE);
}

static void changes_to_another(void **state)
{
	struct heard heard;

	(void)state;
	start(NULL);
	heard = repeat("abc,", 20);
	heard = repeat("vwx,", 20);
	assert_true(heard.ends >= 17);
	start(NULL);
	heard = repeat("|ab,cd,", 20);
	heard = repeat("|vw,xy,z.", 40);
	assert_true(heard.ends >= 28);
	assert_false(heard.off);
}

static void never_waits(void **state)
{
	struct heard heard = {0};

	(void)state;
	start(NULL);
	for (uint64_t i = 0; i <= BOUNDARY_LAUNCHES_MAX; i++)
		hear(&heard, boundary_launch(&boundary, i % 7, i % 7, 1, false));
	assert_true(heard.off);
	assert_non_null(strstr(boundary_why(&boundary), "never waits"));
}

static void never_repeats(void **state)
{
	struct heard heard = {0};

	(void)state;
	start(NULL);
	for (uint64_t i = 0; i <= BOUNDARY_LAUNCHES_MAX && !heard.off; i++) {
		hear(&heard, boundary_launch(&boundary, i, i, 1, false));
		if (i % 5 == 4)
			hear(&heard, boundary_wait(&boundary, WAIT_READ, false));
	}
	assert_true(heard.off);
	assert_int_equal(heard.begins, 0);
}

static void rules(void **state)
{
	struct heard heard;
	struct boundary_config config;

	(void)state;
	start("read");
	heard = repeat("ab.c.d,", 10);
	assert_int_equal(heard.ends, 7);
	start("finish");
	heard = repeat("ab,cd.", 10);
	assert_int_equal(heard.ends, 7);
	start("kernel:d");
	heard = repeat("abcd", 10);
	assert_int_equal(heard.ends, 7);
	start("count:5");
	heard = repeat("abcd.e", 10);
	assert_int_equal(heard.ends, 7);
	start("count:1");
	heard = repeat("a", 10 + BOUNDARY_TUNING_REPEATS);
	assert_int_equal(heard.begins, 10);
	assert_int_equal(heard.ends, 10);
	assert_int_equal(boundary_parse("", &config), 0);
	assert_int_equal(config.rule, BOUNDARY_AUTO);
	assert_int_equal(boundary_parse("kernel:", &config), -EINVAL);
	assert_int_equal(boundary_parse("count:0", &config), -EINVAL);
	assert_int_equal(boundary_parse("count:99999", &config), -EINVAL);
	assert_int_equal(boundary_parse("reads", &config), -EINVAL);
}

/* In any sequence, a begin is followed by one end before the next begin. */
static void random_sequences(void **state)
{
	unsigned seed = 7;

	(void)state;
	for (unsigned run = 0; run < 200; run++) {
		struct heard heard = {0};

		start(run % 5 == 4 ? "count:3" : NULL);
		for (unsigned i = 0; i < 3000; i++) {
			char text[2] = {"abc.,abc,|"[(unsigned)rand_r(&seed) % (run % 2 ? 10 : 5)], 0};

			play(&heard, text);
			assert_in_range(heard.begins - heard.ends - heard.changed + (heard.off ? 1U : 0U), 0, 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_sequence),
		cmocka_unit_test(several_waits_in_one),
		cmocka_unit_test(upload_tells_like_segments_apart),
		cmocka_unit_test(warm_up_is_left_out),
		cmocka_unit_test(tuning_is_left_out),
		cmocka_unit_test(single_kernel_network),
		cmocka_unit_test(fingerprints),
		cmocka_unit_test(prefill_then_decode),
		cmocka_unit_test(same_first_kernel),
		cmocka_unit_test(variable_shapes),
		cmocka_unit_test(changes_to_another),
		cmocka_unit_test(never_waits),
		cmocka_unit_test(never_repeats),
		cmocka_unit_test(rules),
		cmocka_unit_test(random_sequences),
	};

	return cmocka_run_group_tests_name("boundary", tests, NULL, NULL);
}
