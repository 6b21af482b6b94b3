/* SPDX-License-Identifier: MIT */
/* The time of a decision: 1,276 points, eight active requests, each of a model of its own; and with one request
 * only. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "../governor/governor.h"

#define REQUESTS 8
#define ROUNDS   200
#define BATCH    500

static struct governor governor;
static struct grid grid = {.count = {29, 11, 4}, .points = 29 * 11 * 4};
static struct surface surface[REQUESTS];

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static float *floats(void)
{
	float *out = calloc(grid.points, sizeof(float));

	if (!out)
		abort();
	return out;
}

static void make_surface(struct surface *s, double scale)
{
	*s = (struct surface){.grid = &grid,
			      .state = SURFACE_READY,
			      .slowdown = 1,
			      .slowdown_bound = 1,
			      .power_known = true,
			      .latency_ns = floats(),
			      .bound_ns = floats(),
			      .power_uw = floats(),
			      .idle_power_uw = floats(),
			      .source = calloc(grid.points, 1),
			      .regime = calloc(grid.points, 1),
			      .measured = calloc(grid.points, sizeof(uint32_t)),
			      .log_ns = floats(),
			      .sd = floats(),
			      .slow_sd = 0.002F,
			      .noise_sd = 0.006F,
			      .noise_log = 0.015F};
	for (int k = 0; k < LATE_BINS; k++)
		s->late[k] = (float)(0.5 * erfc(((double)LATE_LOW + k * (double)LATE_STEP) / sqrt(2)));
	for (size_t i = 0; i < grid.points; i++) {
		struct op_point p = grid_point(&grid, i);
		double x = 1e9 / (double)p.hz[0], y = 1e9 / (double)p.hz[1], z = 1e9 / (double)p.hz[2];
		s->latency_ns[i] = (float)(scale * 1e6 * (2 + fmax(6 * x, hypot(5 * y, 4 * z))));
		s->bound_ns[i] = s->latency_ns[i] * 1.06F;
		s->log_ns[i] = logf(s->latency_ns[i]);
		s->sd[i] = 0.01F;
		s->measured[i] = 1;
		s->idle_power_uw[i] = (float)(2e6 + 1e6 / x / x + 2e6 / y + 1e6 / z);
		s->power_uw[i] = s->idle_power_uw[i] * 2;
	}
}

/* Points differ little over the clocks, so that no simple bound rules them out. */
static void make_flat(struct surface *s)
{
	for (size_t i = 0; i < grid.points; i++) {
		s->latency_ns[i] = 20e6F * (1 + 0.02F * sinf((float)i));
		s->log_ns[i] = logf(s->latency_ns[i]);
		s->sd[i] = 0.04F + 0.03F * sinf(0.7F * (float)i);
	}
	s->noise_sd = 0.1F;
}

/* The fastest of some rounds, without delays by other load. */
static double decide_us(size_t requests, enum objective objective, double slack_ns)
{
	struct governor_board board = {.grid = &grid,
				       .current = 700,
				       .current_known = true,
				       .up_ns = {1400000, 5000000, 9000000},
				       .down_ns = {1400000, 5000000, 9000000},
				       .ceiling_hz = {UINT64_MAX, UINT64_MAX, UINT64_MAX},
				       .ceiling_config_hz = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
	struct governor_request request[REQUESTS];
	struct governor_options options;
	double least = INFINITY;
	uint64_t now_ns = 1000000000;

	governor_options_default(&options);
	options.objective = objective;
	governor_free(&governor);
	if (governor_init(&governor, &options))
		abort();
	for (int round = 0; round < ROUNDS; round++) {
		double t0 = now_us();
		for (int i = 0; i < BATCH; i++) {
			struct decision decision;
			now_ns += 40000000;
			for (uint32_t r = 0; r < requests; r++)
				request[r] = (struct governor_request){.surface = &surface[r],
								       .session = r,
								       .model = r,
								       .begin_ns = now_ns,
								       .gap_ns = GAP_UNKNOWN,
								       .deadline_ns =
									       now_ns + (uint64_t)(slack_ns * (r + 1))};
			governor_decide(&governor, &board, request, requests, now_ns, &decision);
			board.current = decision.point;
		}
		least = fmin(least, (now_us() - t0) / BATCH);
	}
	return least;
}

int main(void)
{
	for (size_t c = 0; c < 3; c++)
		for (size_t i = 0; i < grid.count[c]; i++)
			grid.hz[c][i] = 200000000 + i * (c == 0 ? 74000000 : c == 1 ? 100000000 : 1000000000);
	for (size_t r = 0; r < REQUESTS; r++)
		make_surface(&surface[r], 1 + 0.1 * (double)r);
	printf("decision_us=%.3f us\n", decide_us(REQUESTS, OBJECTIVE_POWER, 40e6));
	printf("decision_energy_us=%.3f us\n", decide_us(REQUESTS, OBJECTIVE_ENERGY, 40e6));
	printf("decision_1_request_us=%.3f us\n", decide_us(1, OBJECTIVE_POWER, 40e6));
	printf("decision_infeasible_us=%.3f us\n", decide_us(REQUESTS, OBJECTIVE_POWER, 2e6));
	for (size_t r = 0; r < 2; r++)
		make_flat(&surface[r]);
	printf("decision_flat_us=%.3f us\n", decide_us(1, OBJECTIVE_POWER, 25e6));
	printf("decision_flat_2_requests_us=%.3f us\n", decide_us(2, OBJECTIVE_POWER, 44e6));
	return 0;
}
