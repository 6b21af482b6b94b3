/* SPDX-License-Identifier: MIT */
/* Prompts, tokens and contexts by the sizes of launches, of a generated model and of programs that are no language
 * models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "../../layers/core/tokens.h"

static struct tokens tokens;

/* A step of n tokens at a context: some kernels scale by n, some are others for
 * prompts, attention goes by blocks of the context. */
static enum tokens_kind step(uint64_t n, uint64_t context, uint64_t *context_at, enum tokens_kind *guess)
{
	uint64_t length, block = context / 256;

	tokens_launch(&tokens, 1, n);
	*guess = tokens_guess(&tokens, &length);
	*context_at = *guess == TOKENS_PROMPT ? length : tokens.context;
	tokens_launch(&tokens, 2, 4 * n);
	tokens_launch(&tokens, n > 1 ? 30 : 3, 128 + n / 64);
	tokens_launch(&tokens, 1, n);
	tokens_launch(&tokens, 4, (block + 1) * 8);
	return tokens_end(&tokens, n * 1000 + block, 0);
}

static int start(void **state)
{
	(void)state;
	tokens_init(&tokens);
	return 0;
}

static void decode(uint64_t *context, unsigned times)
{
	enum tokens_kind guess;
	uint64_t at;

	while (times--) {
		assert_int_equal(step(1, *context, &at, &guess), TOKENS_DECODE);
		assert_int_equal(guess, TOKENS_DECODE);
		assert_int_equal(at, *context);
		++*context;
	}
}

static void prompt(uint64_t *context, uint64_t n)
{
	enum tokens_kind guess;
	uint64_t at;

	assert_int_equal(step(n, *context, &at, &guess), TOKENS_PROMPT);
	assert_int_equal(guess, TOKENS_PROMPT);
	assert_int_equal(at, n);
	*context += n;
}

/* The first prompt and the tokens until the program is known to repeat. */
static uint64_t begin(uint64_t n)
{
	enum tokens_kind guess;
	uint64_t at;

	step(n, 0, &at, &guess);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(step(1, n + i, &at, &guess), TOKENS_NONE);
	tokens_repeats(&tokens);
	return n + 3;
}

static void a_conversation(void **state)
{
	uint64_t context = begin(20);

	(void)state;
	decode(&context, 300);
	prompt(&context, 70);
	decode(&context, 10);
	prompt(&context, 512);
	prompt(&context, 2);
	decode(&context, 600);
}

static void a_new_conversation(void **state)
{
	uint64_t context = begin(20), at;
	enum tokens_kind guess;

	(void)state;
	decode(&context, 400); /* into the second block */
	step(33, 0, &at, &guess);
	step(1, 33, &at, &guess); /* in the first block again */
	context = 34;
	decode(&context, 50);
}

/* A token of a model whose sizes are the same at every context, and arguments in every block of it. */
static uint64_t same_size(uint64_t n, uint64_t arguments)
{
	uint64_t length, context_at;

	tokens_launch(&tokens, 1, n);
	context_at = tokens_guess(&tokens, &length) == TOKENS_PROMPT ? length : tokens.context;
	tokens_launch(&tokens, 2, 4 * n);
	tokens_end(&tokens, n, arguments);
	return context_at;
}

static void one_told_by_arguments(void **state)
{
	uint64_t context = 20;

	(void)state;
	same_size(20, 1);
	for (; context < 23; context++)
		same_size(1, 2);
	tokens_repeats(&tokens);
	for (; context < 600; context++)
		assert_int_equal(same_size(1, 10 + context / 256), context);
	for (int turn = 0; turn < 3; turn++) { /* the first token after a prompt has arguments of its own */
		assert_int_equal(same_size(30, 3), 30);
		context += 30;
		assert_int_equal(same_size(1, 4), context++);
		for (int i = 0; i < 20; i++, context++)
			assert_int_equal(same_size(1, 10 + context / 256), context);
	}
	assert_int_equal(same_size(33, 5), 33); /* a new conversation */
	context += 33;
	assert_int_equal(same_size(1, 4), context++);
	assert_int_equal(same_size(1, 10), context);
	for (context = 35; context < 300; context++)
		assert_int_equal(same_size(1, 10 + context / 256), context);
}

static void what_is_no_language_model(void **state)
{
	uint64_t length;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		/* a network at two resolutions: all scales by the pixels but the first */
		uint64_t side = i % 8 == 7 ? 2 : 1;

		tokens_launch(&tokens, 1, 64 * side * side);
		tokens_launch(&tokens, 2, 32 * side * side);
		assert_int_equal(tokens_guess(&tokens, &length), TOKENS_NONE);
		assert_int_equal(tokens_end(&tokens, side, 0), TOKENS_NONE);
		if (i == 3)
			tokens_repeats(&tokens);
	}
	tokens_init(&tokens);
	for (unsigned i = 0; i < 40; i++) { /* one workgroup, then many: no other kernel agrees */
		tokens_launch(&tokens, 1, i % 8 == 7 ? 9 : 1);
		tokens_launch(&tokens, 2, 32);
		assert_int_equal(tokens_end(&tokens, i % 8 == 7, 0), TOKENS_NONE);
		if (i == 3)
			tokens_repeats(&tokens);
	}
	assert_false(tokens.language);
}

static void any_launches_at_all(void **state)
{
	(void)state;
	srandom(1);
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t length;

		tokens_launch(&tokens, (uint64_t)random() % 100, (uint64_t)random() % 4);
		tokens_guess(&tokens, &length);
		if (random() % 7 == 0)
			tokens_end(&tokens, (uint64_t)random() % 50, (uint64_t)random() % 50);
		if (random() % 100 == 0)
			tokens_repeats(&tokens);
		assert_true(tokens.now.count <= TOKENS_KERNELS);
		assert_true(tokens.shapes <= TOKENS_SHAPES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_conversation, start),
		cmocka_unit_test_setup(a_new_conversation, start),
		cmocka_unit_test_setup(one_told_by_arguments, start),
		cmocka_unit_test_setup(what_is_no_language_model, start),
		cmocka_unit_test_setup(any_launches_at_all, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
