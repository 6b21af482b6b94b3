/* SPDX-License-Identifier: MIT */
/* Whether a program's inferences are steps of a language model, by its launches alone. Pure.
 *
 * A model that decodes executes the same kernels for every token, the first of them with one workgroup for the one
 * token. A prompt of n tokens begins with the same kernel and n workgroups, and other kernels common to both scale
 * by n too. This identifies a prompt and its length; the context is the lengths of prompts and the tokens since. A
 * new conversation is detected when decoding has a shape, or arguments, that it had at a shorter context only. */
#ifndef LAYERS_CORE_TOKENS_H
#define LAYERS_CORE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKENS_KERNELS 64      /* kernels of a segment that are compared */
#define TOKENS_PAST    8       /* previous segments examined once the program is seen to repeat */
#define TOKENS_SHAPES  32      /* decoding shapes that are remembered */
#define TOKENS_MAX     1048576 /* of one prompt: a larger value is not a number of tokens */

/* The kernels of a segment, each with the number of workgroups of its first launch. */
struct tokens_segment {
	size_t count;
	struct {
		uint64_t kernel, work;
	} launch[TOKENS_KERNELS];
};

enum tokens_kind { TOKENS_NONE, TOKENS_PROMPT, TOKENS_DECODE };

struct tokens {
	struct tokens_segment now;
	struct tokens_segment decode; /* the segment that the program repeats; count 0: unknown */
	struct {
		struct tokens_segment segment;
		uint64_t times;
	} past[TOKENS_PAST];             /* the newest segments; equal consecutive ones are one entry */
	size_t pasts;                    /* counted since the start */
	bool language;                   /* a prompt was seen */
	uint64_t context, prompt, since; /* tokens in the context; in the last prompt; decoded since */
	struct {
		uint64_t hash, least, most; /* range of contexts at which it was seen */
	} shape[TOKENS_SHAPES];
	size_t shapes;
};

void tokens_init(struct tokens *tokens);

/* A launch of the current segment. */
void tokens_launch(struct tokens *tokens, uint64_t kernel, uint64_t work);

/* Classify the current segment by its first launch; `length` receives the length of a prompt. */
enum tokens_kind tokens_guess(const struct tokens *tokens, uint64_t *length);

/* The current segment has ended; `hash` is the hash of its launches, `arguments` that of them with their
 * arguments, which tell a short context from a long one where sizes do not; 0: unknown. Classifies and counts it. */
enum tokens_kind tokens_end(struct tokens *tokens, uint64_t hash, uint64_t arguments);

/* The program repeats the segment that ended last. */
void tokens_repeats(struct tokens *tokens);

#endif
