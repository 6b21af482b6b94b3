/* SPDX-License-Identifier: MIT */
/* Time of the estimator: fit, surface, update after a request. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "../estimator/fit.h"
#include "../estimator/model.h"

#define ROUNDS 200
#define ROWS   8

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* 29 x 11 x 4, the largest of the boards known. */
static void make_grid(struct grid *grid)
{
	uint64_t cpu[29], gpu[11], mem[4] = {204000000, 665600000, 2133000000, 3199000000};
	const uint64_t *hz[] = {cpu, gpu, mem};
	const size_t count[] = {29, 11, 4};

	for (size_t i = 0; i < 29; i++)
		cpu[i] = 115200000 + i * 76800000;
	for (size_t i = 0; i < 11; i++)
		gpu[i] = 306000000 + i * 102000000;
	if (grid_init(grid, hz, count))
		abort();
}

static double truth_ns(struct op_point p)
{
	return 2e5 + fmax(3e15 / (double)p.hz[0], 2e15 / (double)p.hz[1] + 4e15 / (double)p.hz[2]);
}

/* The fastest of several rounds, which excludes other work of the machine. */
static double fit_ns(const struct grid *grid)
{
	static struct fit fit;
	double best = INFINITY;

	for (int round = 0; round < ROUNDS; round++) {
		double begin;

		fit_init(&fit, PHASE_RUN, grid);
		for (size_t k = 0; k < ROWS; k++) {
			struct op_point p = grid_point(grid, (k * 431 + (size_t)round * 7) % grid->points);
			fit.row[k] = (struct fit_row){.at = fit_point(&fit, p, 0),
						      .log_ns = log(truth_ns(p)),
						      .noise_var = 1e-5};
		}
		fit.rows = ROWS;
		begin = now_ns();
		fit_solve(&fit);
		best = fmin(best, now_ns() - begin);
	}
	return best;
}

static struct model *learned(const struct grid *grid)
{
	struct model_options options;
	struct model *model;

	model_options_default(&options);
	model = model_new(grid, &options);
	for (size_t k = 0; model && k < ROWS; k++) {
		struct op_point p = grid_point(grid, k * 431 % grid->points);
		struct sample s = {.point = p, .latency_ns = (uint64_t)truth_ns(p), .n = 10};
		model_learn_sample(model, &s);
	}
	return model;
}

static double surface_ns(struct model *model, const struct grid *grid)
{
	double best = INFINITY;

	for (int round = 0; round < 10; round++) {
		struct op_point p = grid_point(grid, grid->points - 1);
		struct sample s = {.point = p, .latency_ns = (uint64_t)truth_ns(p), .n = 1};
		double begin;

		model_learn_sample(model, &s); /* stale: the next surface is fitted and built again */
		begin = now_ns();
		model_surface(model, PHASE_RUN, 0);
		best = fmin(best, now_ns() - begin);
	}
	return best;
}

static double observe_ns(struct model *model, const struct grid *grid)
{
	double begin = now_ns();

	for (size_t i = 0; i < 20000; i++) {
		struct op_point p = grid_point(grid, 600 + i % 7 * 4);
		model_observe(model, PHASE_RUN, 0, p, (uint64_t)(truth_ns(p) * (1 + 0.01 * (double)(i % 3))), 0,
			      7000000, 1);
	}
	return (now_ns() - begin) / 20000;
}

static double lookup_ns(struct model *model)
{
	double begin = now_ns();
	volatile float sink = 0;

	for (size_t i = 0; i < 20000; i++)
		sink = model_surface(model, PHASE_RUN, 0)->bound_ns[i % 1276];
	(void)sink;
	return (now_ns() - begin) / 20000;
}

int main(void)
{
	struct grid grid;
	struct model *model;

	make_grid(&grid);
	model = learned(&grid);
	if (!model)
		return 1;
	printf("fit_8_samples_ms=%.3f ms\n", fit_ns(&grid) / 1e6);
	printf("fit_and_surface_1276_ms=%.3f ms\n", surface_ns(model, &grid) / 1e6);
	printf("observe_us=%.3f us\n", observe_ns(model, &grid) / 1e3);
	printf("surface_lookup_us=%.3f us\n", lookup_ns(model) / 1e3);
	model_free(model);
	return 0;
}
