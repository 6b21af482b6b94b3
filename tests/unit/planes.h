/* SPDX-License-Identifier: MIT */
/* Shared by the tests of the governor: a grid, random surfaces on it, and a session's next decision. */
#ifndef TESTS_UNIT_PLANES_H
#define TESTS_UNIT_PLANES_H

#include <math.h>
#include <stdlib.h>
#include "../../common/clock.h"
#include "../../governor/governor.h"

#define POINTS_MAX 1400
#define MS         1000000ULL

struct plane {
	struct surface surface;
	float latency[POINTS_MAX], log_ns[POINTS_MAX], sd[POINTS_MAX], bound[POINTS_MAX], power[POINTS_MAX],
		idle[POINTS_MAX], bubble[POINTS_MAX];
	uint8_t source[POINTS_MAX], regime[POINTS_MAX];
	uint32_t measured[POINTS_MAX];
};

static struct governor governor;
static struct grid grid;
static struct plane plane[4];
static uint64_t random_state;

static inline uint64_t random_below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

static inline double uniform(double low, double high)
{
	return low + (high - low) * (double)random_below(1 << 30) / (1 << 30);
}

static inline void make_grid(size_t cpu, size_t gpu, size_t mem)
{
	size_t count[CLOCK_COUNT] = {cpu, gpu, mem};

	grid = (struct grid){.points = cpu * gpu * mem};
	for (int c = 0; c < CLOCK_COUNT; c++) {
		grid.count[c] = count[c];
		for (size_t i = 0; i < count[c]; i++)
			grid.hz[c][i] = 300000000 + i * 100000000;
	}
}

static inline void random_plane(struct plane *p)
{
	double e = uniform(1, 10), b = uniform(1, 10), m = uniform(0.5, 5), width = uniform(1.0, 1.2),
	       sd = uniform(0.002, 0.03);

	p->surface = (struct surface){.grid = &grid,
				      .state = SURFACE_READY,
				      .latency_ns = p->latency,
				      .bound_ns = p->bound,
				      .power_uw = p->power,
				      .idle_power_uw = p->idle,
				      .source = p->source,
				      .regime = p->regime,
				      .measured = p->measured,
				      .bubble_ns = p->bubble,
				      .power_known = true,
				      .slowdown = 1,
				      .slowdown_bound = 1,
				      .log_ns = p->log_ns,
				      .sd = p->sd,
				      .slow_sd = 0.002F,
				      .noise_sd = 0.005F,
				      .noise_log = 0.012F};
	for (int k = 0; k < LATE_BINS; k++)
		p->surface.late[k] = (float)(0.5 * erfc(((double)LATE_LOW + k * (double)LATE_STEP) / sqrt(2)));
	for (size_t i = 0; i < grid.points; i++) {
		struct op_point at = grid_point(&grid, i);
		double f = (double)at.hz[0] / 1e9, g = (double)at.hz[1] / 1e9, h = (double)at.hz[2] / 1e9;
		p->latency[i] = (float)(1e6 * (1 + fmax(e / f, hypot(b / g, m / h))) * uniform(0.97, 1.03));
		p->bound[i] = p->latency[i] * (float)width;
		p->idle[i] = (float)(1e6 * (2 + f + g + h));
		p->power[i] = p->idle[i] * (float)uniform(1.9, 2.1);
		p->measured[i] = 5;
		p->log_ns[i] = logf(p->latency[i]);
		p->sd[i] = (float)sd;
	}
}

static inline struct governor_board make_board(void)
{
	return (struct governor_board){.grid = &grid,
				       .current = grid.points - 1,
				       .current_known = true,
				       .ceiling_hz = {UINT64_MAX, UINT64_MAX, UINT64_MAX},
				       .ceiling_config_hz = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
}

static inline void fresh(void)
{
	struct governor_options options;

	governor_options_default(&options);
	governor_free(&governor);
	if (governor_init(&governor, &options))
		abort();
}

static inline struct decision decide(const struct governor_board *board, uint32_t session, uint64_t now_ns,
				     uint64_t deadline_ns)
{
	struct governor_request request = {.surface = &plane[0].surface,
					   .session = session,
					   .begin_ns = now_ns,
					   .deadline_ns = now_ns + deadline_ns,
					   .gap_ns = 0};
	struct decision decision;

	governor_decide(&governor, board, &request, 1, now_ns, &decision);
	governor_explain(&governor, &decision);
	return decision;
}

static inline void one_model(void)
{
	random_state = 99;
	make_grid(20, 8, 4);
	random_plane(&plane[0]);
	fresh();
}

#endif
