/* SPDX-License-Identifier: MIT */
/* A stream of launches and waits with a back end that counts its tokens: waits that close an inference, reports, and
 * released tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "../../common/clock.h"
#include "../../layers/core/session.h"
#include "../../layers/core/stream.h"
#include "../../layers/core/summary.h"

static unsigned held, asked, begun, ended, withdrawn;
static size_t layers_of_last; /* sent with the inference that ended last */
static uint64_t longest_ns;
static bool done;

/* The linker puts these before the functions of session.c. */
struct session_request __real_session_begin(struct layer_session *session, const struct inference *inference,
					    uint64_t spent_ns, bool *layers);
struct session_request __wrap_session_begin(struct layer_session *session, const struct inference *inference,
					    uint64_t spent_ns, bool *layers);
struct session_request __wrap_session_begin(struct layer_session *session, const struct inference *inference,
					    uint64_t spent_ns, bool *layers)
{
	begun++;
	return __real_session_begin(session, inference, spent_ns, layers);
}

void __real_session_end(struct layer_session *session, struct session_request request, uint64_t total_ns,
			const struct flamed_layer *layers, size_t count, bool may_block);
void __wrap_session_end(struct layer_session *session, struct session_request request, uint64_t total_ns,
			const struct flamed_layer *layers, size_t count, bool may_block);
void __wrap_session_end(struct layer_session *session, struct session_request request, uint64_t total_ns,
			const struct flamed_layer *layers, size_t count, bool may_block)
{
	ended++;
	layers_of_last = count;
	longest_ns = total_ns > longest_ns ? total_ns : longest_ns;
	__real_session_end(session, request, total_ns, layers, count, may_block);
}

void __real_session_cancel(struct layer_session *session, struct session_request request);
void __wrap_session_cancel(struct layer_session *session, struct session_request request);
void __wrap_session_cancel(struct layer_session *session, struct session_request request)
{
	withdrawn++;
	__real_session_cancel(session, request);
}

static bool times(const struct launch_token *token, struct launch_times *out)
{
	asked++;
	*out = (struct launch_times){0, token->serial * 1000, token->serial * 1000 + 500};
	return true;
}

static bool complete(const struct launch_token *token)
{
	(void)token;
	return done;
}

static void release(const struct launch_token *token)
{
	(void)token;
	held--;
}

static const struct layer_backend backend = {
	.name = "test", .times = times, .complete = complete, .release = release, .polls_believed = 1};

static struct stream *stream;

static uint64_t launch_step(struct stream *on, uint64_t kernel, size_t count, bool step)
{
	struct launch launches[8];
	struct launch_call call;
	struct launch_token token = {.serial = kernel};

	for (size_t i = 0; i < count; i++)
		launches[i] = (struct launch){kernel + i, kernel + i, 0};
	stream_launching(on, &call, launches, count, true, step);
	held += call.record;
	return stream_launched(on, &call, true, &token, &kernel, call.record);
}

static uint64_t launch_as(struct stream *on, uint64_t kernel, size_t count)
{
	return launch_step(on, kernel, count, false);
}

static uint64_t launch(uint64_t kernel)
{
	return launch_as(stream, kernel, 3);
}

static int start(void **state)
{
	(void)state;
	stream = stream_take();
	return stream == NULL;
}

static int stop(void **state)
{
	(void)state;
	stream_leave(stream);
	return 0;
}

/* Another stream, whose inferences end by this rule. */
static void begin_by(const char *rule)
{
	assert_int_equal(boundary_parse(rule, &core.config.boundary), 0);
	stream_leave(stream);
	stream = stream_take();
	done = false;
	begun = ended = withdrawn = 0;
	longest_ns = 0;
}

/* As llama.cpp does: waits for the first part, then polls for the rest. */
static void token(void)
{
	uint64_t first = launch(10), last = launch(20);

	stream_waited(stream, WAIT_FINISH, first);
	stream_polled(stream, last, false);
	stream_polled(stream, last, false);
	stream_polled(stream, last, true);
}

static void a_wait_for_a_part_closes_nothing(void **state)
{
	uint64_t before = summary_inferences();

	(void)state;
	for (int i = 0; i < 3; i++)
		token();
	assert_int_equal(summary_inferences(), before);
	for (int i = 0; i < 10; i++)
		token();
	assert_int_equal(summary_inferences(), before + 10);
	assert_int_equal(held, 0);
}

static void a_wait_for_an_upload_behind_it_closes_it(void **state)
{
	uint64_t before = summary_inferences();

	(void)state;
	for (int i = 0; i < 9; i++) {
		launch(10);
		stream_waited(stream, WAIT_FINISH, stream_enqueued(stream));
	}
	assert_int_equal(summary_inferences(), before + 6);
}

static void what_is_compiled_meanwhile_is_left_out(void **state)
{
	uint64_t before = summary_inferences();

	(void)state;
	for (int i = 0; i < 9; i++) {
		launch(10);
		if (i == 5)
			stream_spoil(stream);
		stream_waited(stream, WAIT_FINISH, STREAM_ALL);
	}
	assert_int_equal(summary_inferences(), before + 5);
}

static void inferences_of(uint64_t kernel, bool step, uint64_t more, unsigned expected)
{
	uint64_t before = summary_inferences();

	launch_step(stream, kernel, 3, step);
	if (more)
		launch(more);
	stream_waited(stream, WAIT_FINISH, STREAM_ALL);
	assert_int_equal(summary_inferences(), before + expected);
}

/* A new batch is an inference at once if it is a step, and if nothing else is launched before the wait. */
static void a_step_needs_no_repetition(void **state)
{
	(void)state;
	inferences_of(10, true, 0, 0); /* nothing repeated yet */
	for (int i = 0; i < 9; i++)
		inferences_of(20, false, 0, i >= 3);
	inferences_of(30, true, 0, 1);
	inferences_of(30, true, 0, 1);
	inferences_of(40, false, 0, 0);
	inferences_of(50, true, 60, 0); /* withdrawn: the step was announced alone */
	inferences_of(50, true, 60, 0);
	inferences_of(50, true, 60, 1);
	launch(70);
	launch_step(stream, 80, 3, true); /* amid a segment */
	inferences_of(90, true, 0, 0);
	inferences_of(20, false, 0, 1);
}

/* A launch that is not recorded is only counted. */
static void a_plain_launch_counts_as_any_other(void **state)
{
	const struct launch other = {77, 77, 0};
	uint64_t before = summary_inferences(), number = 0;
	unsigned plain = 0;

	(void)state;
	assert_false(stream_launch_plain(stream, &other, &number)); /* nothing was launched before it */
	for (int i = 0; i < 9; i++) {
		uint64_t last = launch(10);

		if (stream_launch_plain(stream, &other, &number)) {
			assert_int_equal(number, last + 1);
			plain++;
		} else {
			number = launch_as(stream, 77, 1);
		}
		stream_waited(stream, WAIT_FINISH, last); /* not for the last launch */
		stream_waited(stream, WAIT_FINISH, number);
	}
	assert_int_equal(summary_inferences(), before + 6);
	assert_int_equal(plain, 3); /* until inferences are detected, which are all recorded here */
	assert_int_equal(held, 0);
}

/* Two in flight: the next is launched before the last is waited for. */
static void in_flight(unsigned times_over)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < times_over; i++) {
		uint64_t number = launch(10);

		if (last)
			stream_waited(stream, WAIT_FINISH, last);
		last = number;
	}
}

static void overlapping_inferences_are_counted_by_the_rule(void **state)
{
	uint64_t before = summary_inferences();

	(void)state;
	in_flight(100);
	assert_int_equal(summary_inferences(), before);
	begin_by("count:3");
	in_flight(100);
	boundary_parse(NULL, &core.config.boundary);
	/* two to accept it, and the last is in progress */
	assert_in_range(summary_inferences(), before + 96, before + 98);
	stream_waited(stream, WAIT_FINISH, STREAM_ALL);
	assert_in_range(summary_inferences(), before + 97, before + 98);
	assert_int_equal(held, 0);
}

/* Eight inferences in one batch, of which four can wait for their ends. The others are withdrawn together, also when
 * they go on into the next batch. */
static void each_begin_in_a_batch_has_its_end(void **state)
{
	const struct launch launches[8] = {{10, 10, 0}, {10, 10, 0}, {10, 10, 0}, {10, 10, 0},
					   {10, 10, 0}, {10, 10, 0}, {10, 10, 0}, {10, 10, 0}};

	(void)state;
	for (size_t count = 7; count <= 8; count++) {
		begin_by("count:1");
		for (int i = 0; i < 30; i++) /* of a single kernel: it must repeat longer */
			stream_waited(stream, WAIT_FINISH, launch_as(stream, 10, 1));
		begun = ended = withdrawn = 0;
		for (int i = 0; i < 3; i++) {
			struct launch_call call;

			stream_launching(stream, &call, launches, count, true, false);
			assert_false(call.record);
			assert_true(call.last);
			stream_waited(stream, WAIT_FINISH, stream_launched(stream, &call, true, NULL, NULL, 0));
			assert_int_equal(begun, 5 * (i + 1));
			assert_int_equal(ended, 4 * (i + 1));
			assert_int_equal(withdrawn, i + 1);
		}
	}
	begin_by("count:3");
	for (int i = 0; i < 30; i++)
		stream_waited(stream, WAIT_FINISH, launch_as(stream, 10, 3));
	begun = ended = withdrawn = 0;
	for (uint64_t i = 0; i < 6; i++) { /* 48 launches in all: 16 inferences, some of which span two batches */
		struct launch_call call;
		struct launch batch[8];

		for (uint64_t j = 0; j < 8; j++)
			batch[j] = (struct launch){10 + (i * 8 + j) % 3, 10 + (i * 8 + j) % 3, 0};
		stream_launching(stream, &call, batch, 8, true, false);
		stream_launched(stream, &call, true, NULL, NULL, 0);
	}
	stream_waited(stream, WAIT_FINISH, STREAM_ALL);
	boundary_parse(NULL, &core.config.boundary);
	assert_true(ended > 0 && withdrawn > 0);
	assert_int_equal(begun, ended + withdrawn);
	assert_int_equal(held, 0);
}

/* Another thread waits while a batch is with the driver: for the inference before it, which ends nothing, or for
 * the batch, whose tokens the driver has not returned yet. */
static void a_wait_may_return_before_the_launch_does(void **state)
{
	const struct launch launches[2] = {{10, 10, 0}, {11, 11, 0}};
	const struct launch_token token = {.serial = 10};
	const uint64_t kernel = 10;
	uint64_t before = 0;

	(void)state;
	begun = ended = 0;
	layers_of_last = 0;
	for (int i = 0; i < 9; i++) {
		struct launch_call call;
		uint64_t number = stream_commands(stream) + 1;

		stream_launching(stream, &call, launches, 2, true, false);
		held += call.record;
		if (i == 5 || i == 7)
			stream_waited(stream, WAIT_FINISH, before);
		if (i == 6)
			stream_polled(stream, before, true);
		if (i >= 5)
			assert_int_equal(ended, begun - 1);
		if (i == 7)
			stream_waited(stream, WAIT_FINISH, number);
		if (i == 8)
			stream_polled(stream, number, false);
		if (i == 8)
			stream_polled(stream, number, true);
		before = stream_launched(stream, &call, true, &token, &kernel, call.record);
		assert_int_equal(before, number);
		if (i < 7) {
			stream_waited(stream, WAIT_FINISH, number);
			assert_int_equal(layers_of_last, call.record);
		} else {
			assert_true(call.record);
			assert_int_equal(layers_of_last, 0);
		}
		assert_int_equal(ended, begun);
	}
	assert_int_equal(begun, 6);
	assert_int_equal(held, 0);
}

/* By a rule the launch itself closes the inference, which that wait has ended. */
static void a_wait_before_the_launch_returns_ends_by_the_rule(void **state)
{
	const struct launch launches[2] = {{10, 10, 0}, {11, 11, 0}};
	const struct launch_token token = {.serial = 10};
	const uint64_t kernel = 10;

	(void)state;
	begin_by("count:2");
	for (int i = 0; i < 9; i++) {
		struct launch_call call;
		uint64_t number = stream_commands(stream) + 1;

		stream_launching(stream, &call, launches, 2, true, false);
		held += call.record;
		if (i % 2)
			stream_waited(stream, WAIT_FINISH, number);
		else
			stream_polled(stream, number, true);
		stream_launched(stream, &call, true, &token, &kernel, call.record);
		assert_int_equal(ended, begun);
		assert_int_equal(call.record, i >= 3);
		assert_int_equal(held, 0);
	}
	boundary_parse(NULL, &core.config.boundary);
	assert_int_equal(begun, 6);
	assert_int_equal(withdrawn, 0);
}

/* A wait for a submission without launches that is still with the driver says nothing of the next one. */
static void an_early_wait_for_no_launch_ends_none(void **state)
{
	uint64_t start_ns = clock_now_ns();

	(void)state;
	begin_by("count:2");
	for (int i = 0; i < 9; i++) {
		uint64_t before = stream_commands(stream), number;

		if (i % 2)
			stream_waited(stream, WAIT_FINISH, before + 1);
		else
			stream_polled(stream, before + 1, true);
		stream_enqueued(stream);
		number = launch_as(stream, 10, 2);
		assert_int_equal(number, before + 2);
		assert_int_equal(begun - ended, i >= 3); /* until the host waits for it */
		stream_waited(stream, WAIT_FINISH, number);
		assert_int_equal(ended, begun);
	}
	boundary_parse(NULL, &core.config.boundary);
	assert_int_equal(begun, 6);
	assert_int_equal(withdrawn, 0);
	assert_in_range(longest_ns, 1, clock_now_ns() - start_ns);
	assert_int_equal(held, 0);
}

static void two_streams_do_not_mix(void **state)
{
	struct stream *other = stream_take();
	uint64_t before = summary_inferences();

	(void)state;
	for (int i = 0; i < 10; i++) {
		launch(10);
		launch_as(other, 70, 5);
		launch(20);
		stream_waited(other, WAIT_FINISH, STREAM_ALL);
		stream_waited(stream, WAIT_FINISH, STREAM_ALL);
	}
	assert_int_equal(summary_inferences(), before + 14);
	stream_leave(other);
}

/* Launches far beyond any inference, and never waits. */
static void never_wait(struct stream *on)
{
	for (int i = 0; i <= BOUNDARY_LAUNCHES_MAX / 8; i++)
		launch_as(on, 10, 8);
}

static void one_stream_that_never_waits_leaves_the_others(void **state)
{
	struct stream *other = stream_take();
	uint64_t before = summary_inferences();

	(void)state;
	for (int i = 0; i < 10; i++) {
		launch(10);
		stream_waited(stream, WAIT_FINISH, STREAM_ALL);
		if (i == 5)
			never_wait(other);
	}
	assert_true(layer_on());
	assert_int_equal(summary_inferences(), before + 7);
	assert_int_equal(held, 0);
	never_wait(stream);
	assert_false(layer_on());
	atomic_store(&core.on, true);
	stream_leave(other);
}

static void streams_are_bounded(void **state)
{
	struct stream *more[LAYER_STREAMS_MAX];
	size_t n = 0;

	(void)state;
	while (n < LAYER_STREAMS_MAX && (more[n] = stream_take()))
		n++;
	assert_int_equal(n, LAYER_STREAMS_MAX - 1);
	assert_null(stream_take());
	while (n > 0)
		stream_leave(more[--n]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_wait_for_a_part_closes_nothing, start, stop),
		cmocka_unit_test_setup_teardown(a_wait_for_an_upload_behind_it_closes_it, start, stop),
		cmocka_unit_test_setup_teardown(what_is_compiled_meanwhile_is_left_out, start, stop),
		cmocka_unit_test_setup_teardown(a_step_needs_no_repetition, start, stop),
		cmocka_unit_test_setup_teardown(a_plain_launch_counts_as_any_other, start, stop),
		cmocka_unit_test_setup_teardown(overlapping_inferences_are_counted_by_the_rule, start, stop),
		cmocka_unit_test_setup_teardown(each_begin_in_a_batch_has_its_end, start, stop),
		cmocka_unit_test_setup_teardown(a_wait_may_return_before_the_launch_does, start, stop),
		cmocka_unit_test_setup_teardown(a_wait_before_the_launch_returns_ends_by_the_rule, start, stop),
		cmocka_unit_test_setup_teardown(an_early_wait_for_no_launch_ends_none, start, stop),
		cmocka_unit_test_setup_teardown(two_streams_do_not_mix, start, stop),
		cmocka_unit_test_setup_teardown(one_stream_that_never_waits_leaves_the_others, start, stop),
		cmocka_unit_test_setup_teardown(streams_are_bounded, start, stop),
	};

	setenv("FLAMED_TRACE", "/dev/null", 1);
	if (!core_start(&backend))
		return 1;
	core_go();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
