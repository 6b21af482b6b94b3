/* SPDX-License-Identifier: MIT */
#include "tokens.h"

#include <string.h>

#define VOTES_MIN 2 /* kernels, the first included, that must scale by the same factor */

void tokens_init(struct tokens *tokens)
{
	*tokens = (struct tokens){0};
}

void tokens_launch(struct tokens *tokens, uint64_t kernel, uint64_t work)
{
	struct tokens_segment *now = &tokens->now;

	for (size_t i = 0; i < now->count; i++)
		if (now->launch[i].kernel == kernel)
			return;
	if (now->count == TOKENS_KERNELS)
		return;
	now->launch[now->count].kernel = kernel;
	now->launch[now->count++].work = work;
}

/* Workgroups of a kernel; 0: not in this segment. */
static uint64_t work_of(const struct tokens_segment *segment, uint64_t kernel)
{
	for (size_t i = 0; i < segment->count; i++)
		if (segment->launch[i].kernel == kernel)
			return segment->launch[i].work;
	return 0;
}

/* Workgroups of the first launch relative to that of a single token; 0: it is another kernel. */
static uint64_t first_scale(const struct tokens_segment *one, const struct tokens_segment *segment)
{
	if (one->count == 0 || segment->count == 0 || one->launch[0].work != 1 ||
	    one->launch[0].kernel != segment->launch[0].kernel || segment->launch[0].work > TOKENS_MAX)
		return 0;
	return segment->launch[0].work;
}

/* The same, confirmed by other kernels. */
static uint64_t scale(const struct tokens_segment *one, const struct tokens_segment *segment)
{
	uint64_t n = first_scale(one, segment);
	size_t votes = 0;

	for (size_t i = 0; n > 0 && i < segment->count; i++)
		votes += work_of(one, segment->launch[i].kernel) * n == segment->launch[i].work;
	return votes >= VOTES_MIN ? n : 0;
}

enum tokens_kind tokens_guess(const struct tokens *tokens, uint64_t *length)
{
	*length = tokens->language ? first_scale(&tokens->decode, &tokens->now) : 0;
	return *length == 0 ? TOKENS_NONE : *length == 1 ? TOKENS_DECODE : TOKENS_PROMPT;
}

static bool equal(const struct tokens_segment *a, const struct tokens_segment *b)
{
	return a->count == b->count && memcmp(a->launch, b->launch, a->count * sizeof(*a->launch)) == 0;
}

/* A shape that was left as the context grew appears again: a new conversation began with the last
 * prompt. */
static void place_shape(struct tokens *tokens, uint64_t hash)
{
	size_t i = 0;

	while (i < tokens->shapes && tokens->shape[i].hash != hash)
		i++;
	for (size_t j = 0; i < tokens->shapes && j < tokens->shapes; j++)
		if (tokens->shape[j].least > tokens->shape[i].most && tokens->context >= tokens->shape[j].least) {
			tokens->context = tokens->prompt + tokens->since;
			break;
		}
	if (i == tokens->shapes) {
		if (tokens->shapes == TOKENS_SHAPES)
			return;
		tokens->shape[tokens->shapes].hash = hash;
		tokens->shape[tokens->shapes].least = tokens->shape[tokens->shapes].most = tokens->context;
		tokens->shapes++;
	}
	if (tokens->context < tokens->shape[i].least)
		tokens->shape[i].least = tokens->context;
	if (tokens->context > tokens->shape[i].most)
		tokens->shape[i].most = tokens->context;
}

static void count_prompt(struct tokens *tokens, uint64_t n)
{
	tokens->language = true;
	tokens->context += n;
	tokens->prompt = n;
	tokens->since = 0;
}

static enum tokens_kind classify(struct tokens *tokens, uint64_t hash, uint64_t arguments)
{
	uint64_t n = scale(&tokens->decode, &tokens->now);

	if (n > 1) {
		count_prompt(tokens, n);
		return TOKENS_PROMPT;
	}
	if (n == 0 || !tokens->language)
		return TOKENS_NONE;
	place_shape(tokens, hash);
	if (arguments && tokens->since > 0) /* those of the first token after a prompt differ from all others */
		place_shape(tokens, arguments);
	tokens->context++;
	tokens->since++;
	return TOKENS_DECODE;
}

enum tokens_kind tokens_end(struct tokens *tokens, uint64_t hash, uint64_t arguments)
{
	enum tokens_kind kind = classify(tokens, hash, arguments);
	size_t newest = (tokens->pasts + TOKENS_PAST - 1) % TOKENS_PAST;

	if (tokens->pasts == 0 || !equal(&tokens->now, &tokens->past[newest].segment)) {
		newest = tokens->pasts++ % TOKENS_PAST;
		tokens->past[newest].segment = tokens->now;
		tokens->past[newest].times = 0;
	}
	tokens->past[newest].times++;
	tokens->now.count = 0;
	return kind;
}

/* The prompt may be among the previous segments, with tokens after it. */
void tokens_repeats(struct tokens *tokens)
{
	uint64_t since = 0;

	tokens->decode = tokens->past[(tokens->pasts + TOKENS_PAST - 1) % TOKENS_PAST].segment;
	for (size_t i = 1; !tokens->language && i <= TOKENS_PAST && i <= tokens->pasts; i++) {
		size_t at = (tokens->pasts - i) % TOKENS_PAST;
		uint64_t n = scale(&tokens->decode, &tokens->past[at].segment);

		if (n > 1) {
			count_prompt(tokens, n);
			tokens->context += since;
			tokens->since = since;
		} else if (first_scale(&tokens->decode, &tokens->past[at].segment) == 1) {
			since += tokens->past[at].times;
		}
	}
}
