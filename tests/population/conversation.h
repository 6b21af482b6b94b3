/* SPDX-License-Identifier: MIT */
/* A user's conversations with a language model on a board of boards.h: the requests and their times, and the least
 * power at which all of them are in time. */
#ifndef TESTS_POPULATION_CONVERSATION_H
#define TESTS_POPULATION_CONVERSATION_H

#include <stddef.h>
#include <stdint.h>
#include "boards.h"

#define TURNS        3
#define TOKENS_LEAST 64
#define TOKENS_MOST  2048 /* of one answer, without its first one, which ends the prompt's inference */
#define CONTEXT_MOST 4096

/* A prompt and its answer: one stream. */
struct turn {
	uint32_t context; /* before the prompt */
	uint32_t prompt, tokens;
	double factor[TOKENS_MOST + 1]; /* noise on each request's latency */
	double think_ns;                /* until the next prompt */
};

struct conversation {
	struct board_made board;
	struct board_growth growth[BOARD_PHASES];
	struct turn turn[TURNS];
	double tightness; /* period over the time of a token at the fastest clocks and the longest context */
	uint64_t rate_mhz, first_ns;
};

void conversation_draw(struct conversation *c, enum board_kind kind, uint64_t seed);

enum board_phase conversation_phase(uint32_t k);
/* Tokens of request k of a turn: of the prompt, or the context of a decode step. */
uint32_t conversation_context(const struct turn *turn, uint32_t k);
double conversation_latency_ns(const struct conversation *c, const struct turn *turn, uint32_t k, size_t point);
double conversation_period_ns(const struct conversation *c);

/* Least mean power, uW, over a turn of an oracle that knows the time of each request at each point and moves clocks in
 * no time: the first token and the last one are in time. Those between need not be, so that no policy can be better. */
double conversation_optimum(const struct conversation *c, const struct turn *turn);

#endif
