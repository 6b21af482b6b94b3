/* SPDX-License-Identifier: MIT */
#include "conversation.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MHZ_NS     1e12 /* a period in ns is this over the rate in millihertz */
#define BISECTIONS 50

enum board_phase conversation_phase(uint32_t k)
{
	return k == 0 ? BOARD_PREFILL : BOARD_DECODE;
}

uint32_t conversation_context(const struct turn *turn, uint32_t k)
{
	return k == 0 ? turn->prompt : turn->context + turn->prompt + k - 1;
}

double conversation_latency_ns(const struct conversation *c, const struct turn *turn, uint32_t k, size_t point)
{
	return turn->factor[k] *
	       board_latency_ns(&c->board, c->growth, conversation_phase(k), point, conversation_context(turn, k));
}

double conversation_period_ns(const struct conversation *c)
{
	return MHZ_NS / (double)c->rate_mhz;
}

static double fastest_ns(const struct conversation *c, enum board_phase phase, double context)
{
	double least = INFINITY;

	for (size_t i = 0; i < c->board.grid.points; i++)
		least = fmin(least, board_latency_ns(&c->board, c->growth, phase, i, context));
	return least;
}

void conversation_draw(struct conversation *c, enum board_kind kind, uint64_t seed)
{
	struct sim_rng rng = {seed * 90001 + 17};
	struct board_noise noise[BOARD_PHASES];
	uint32_t context = 0, deepest = 0, longest = 0;

	memset(c, 0, sizeof(*c));
	board_draw_language(&c->board, c->growth, kind, seed);
	/* A prompt of 512 tokens takes as long as a few of an answer. */
	double scale = sim_uniform(&rng, 3, 12) * fastest_ns(c, BOARD_DECODE, 0) / fastest_ns(c, BOARD_PREFILL, 512);
	for (size_t i = 0; i < c->board.grid.points; i++)
		c->board.work[BOARD_PREFILL].latency_ns[i] *= scale;
	c->board.work[BOARD_PREFILL].fastest_ns *= scale;
	for (int p = 0; p < BOARD_PHASES; p++)
		noise[p] = c->board.work[p].noise;
	for (struct turn *t = c->turn; t < c->turn + TURNS; t++) {
		t->prompt = (uint32_t)sim_log_uniform(&rng, 16, 1024);
		t->tokens = (uint32_t)sim_log_uniform(&rng, TOKENS_LEAST, TOKENS_MOST + 1);
		t->context = context + t->prompt + t->tokens > CONTEXT_MOST ? 0 : context;
		t->think_ns = sim_log_uniform(&rng, 5e8, 2e10);
		for (uint32_t k = 0; k <= t->tokens; k++)
			t->factor[k] = board_noise_next(&noise[conversation_phase(k)], &rng);
		context = t->context + t->prompt + t->tokens;
		deepest = context > deepest ? context : deepest;
		longest = t->prompt > longest ? t->prompt : longest;
	}
	c->tightness = sim_log_uniform(&rng, 1.1, 3);
	c->rate_mhz = (uint64_t)(MHZ_NS / (c->tightness * fastest_ns(c, BOARD_DECODE, deepest)));
	c->first_ns = (uint64_t)(sim_log_uniform(&rng, 1.2, 4) * fastest_ns(c, BOARD_PREFILL, longest));
}

/* ---- the oracle ---- */

struct spent {
	double ns, uj;
};

/* Points of which no other is at least as fast and as cheap, at any context and in either phase. */
static size_t worth(const struct conversation *c, uint16_t *point)
{
	size_t n = 0;

	for (size_t i = 0; i < c->board.grid.points; i++) {
		bool beaten = false;
		for (size_t j = 0; j < c->board.grid.points && !beaten; j++) {
			beaten = j != i;
			for (int p = 0; p < BOARD_PHASES && beaten; p++) {
				const struct board_work *w = &c->board.work[p];
				beaten = w->power_uw[j] <= w->power_uw[i];
				for (size_t k = 0; k < BOARD_KNOTS && beaten; k++)
					beaten = w->latency_ns[j] * c->growth[p].factor[k][j] <
						 w->latency_ns[i] * c->growth[p].factor[k][i];
			}
		}
		if (!beaten)
			point[n++] = (uint16_t)i;
	}
	return n;
}

/* Every request where (power + price) x latency is least: all that is best at some speed is so for
 * some price of time, uW. */
static struct spent spend(const struct conversation *c, const struct turn *turn, const uint16_t *point, size_t points,
			  double price_uw)
{
	struct spent sum = {0};

	for (uint32_t k = 0; k <= turn->tokens; k++) {
		const struct board_work *w = &c->board.work[conversation_phase(k)];
		double least = INFINITY, ns = 0, power = 0;
		for (size_t i = 0; i < points; i++) {
			double takes_ns = conversation_latency_ns(c, turn, k, point[i]);
			double cost = (w->power_uw[point[i]] + price_uw) * takes_ns;
			if (cost >= least || (k == 0 && takes_ns > (double)c->first_ns))
				continue;
			least = cost;
			ns = takes_ns;
			power = w->power_uw[point[i]];
		}
		sum.ns += ns;
		sum.uj += power * ns / 1e9;
	}
	return sum;
}

double conversation_optimum(const struct conversation *c, const struct turn *turn)
{
	static uint16_t point[GRID_POINTS_MAX];
	size_t points = worth(c, point);
	double due_ns = (double)c->first_ns + turn->tokens * conversation_period_ns(c);
	double low = -INFINITY, high = 0;

	for (int p = 0; p < BOARD_PHASES; p++)
		for (size_t i = 0; i < points; i++) {
			low = fmax(low, -c->board.work[p].power_uw[point[i]]);
			high = fmax(high, 1000 * c->board.work[p].power_uw[point[i]]);
		}
	struct spent slow = spend(c, turn, point, points, low), fast = spend(c, turn, point, points, high);
	if (slow.ns <= due_ns)
		return slow.uj * 1e9 / slow.ns;
	for (int i = 0; i < BISECTIONS; i++) {
		/* By ratio above the least power: prices range over decades. */
		double middle = low + (high - low) * (i < BISECTIONS / 2 ? 0.1 : 0.5);
		struct spent s = spend(c, turn, point, points, middle);
		if (s.ns > due_ns) {
			low = middle;
			slow = s;
		} else {
			high = middle;
			fast = s;
		}
	}
	/* Between two speeds: some of the requests at one, the others at the other. */
	double share = fmin((slow.ns - due_ns) / (slow.ns - fast.ns), 1);
	double uj = slow.uj + share * (fast.uj - slow.uj), ns = slow.ns + share * (fast.ns - slow.ns);
	return uj * 1e9 / ns;
}
