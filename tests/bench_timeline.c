/* SPDX-License-Identifier: MIT */
/* How long the timeline takes: 256 layers over 29 x 11 x 4 operating points. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "../estimator/timeline.h"
#include "sim/sim.h"

#define LAYERS 256
#define MEASURED 8
#define REPS 3
#define ROUNDS 20

static const struct grid grid = {
	.count = {29, 11, 4},
	.hz = {{0},
	       {306000000, 408000000, 510000000, 612000000, 714000000, 816000000, 918000000, 1020000000, 1122000000,
		1224000000, 1300500000},
	       {204000000, 665600000, 2133000000, 3199000000}},
	.points = 29 * 11 * 4,
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static size_t measure(const struct sim_model *model, const struct grid *g, struct sim_rng *rng, struct layer *rows,
		      struct sample *totals)
{
	double cpu[SIM_LAYERS_MAX], gpu[SIM_LAYERS_MAX], ns = 0;
	size_t count = 0;

	for (size_t p = 0; p < MEASURED; p++) {
		struct op_point at = {{g->hz[CLOCK_CPU][p * 4], g->hz[CLOCK_GPU][(p * 5) % 11], g->hz[CLOCK_MEM][p % 4]}};
		struct sim_clocks clocks = {(double)at.hz[0], (double)at.hz[1], (double)at.hz[2]};

		for (uint32_t rep = 0; rep < REPS; rep++) {
			ns = sim_run(model, clocks, 0, rng, cpu, gpu);
			for (uint32_t i = 0; i < LAYERS; i++)
				rows[count++] = (struct layer){.point = at, .rep = rep, .layer = i, .cpu_ns = (uint64_t)cpu[i],
							       .gpu_ns = (uint64_t)gpu[i], .sync = model->layer[i].sync};
		}
		totals[p] = (struct sample){.point = at, .latency_ns = (uint64_t)ns, .n = 1};
	}
	return count;
}

/* The fastest of some rounds: what the work takes, not what else the machine did. */
static int bench(const struct grid *g, const struct layer *rows, size_t count, const struct sample *totals)
{
	double fit_ns = INFINITY, first_ns = INFINITY, again_ns = INFINITY;
	static float latency[GRID_POINTS_MAX], bubble[GRID_POINTS_MAX];
	static uint8_t regime[GRID_POINTS_MAX];

	for (int i = 0; i < ROUNDS; i++) {
		struct timeline *timeline;
		double t0 = now_ns();
		if (timeline_fit(g, PHASE_RUN, rows, count, totals, MEASURED, &timeline))
			return 1;
		double t1 = now_ns();
		timeline_surface(timeline, 0, latency, regime, bubble);
		double t2 = now_ns();
		timeline_surface(timeline, 0, latency, regime, bubble);
		double t3 = now_ns();
		timeline_free(timeline);
		fit_ns = fmin(fit_ns, t1 - t0);
		first_ns = fmin(first_ns, t2 - t1);
		again_ns = fmin(again_ns, t3 - t2);
	}
	printf("timeline_fit_256_layers_8_points=%.3f ms\n", fit_ns / 1e6);
	printf("timeline_surface_256_layers_1276_points=%.3f ms\n", first_ns / 1e6);
	printf("timeline_surface_again=%.3f ms\n", again_ns / 1e6);
	return 0;
}

int main(void)
{
	static struct sim_model model;
	static struct layer rows[MEASURED * REPS * LAYERS];
	struct sample totals[MEASURED];
	struct sim_rng rng = {7};
	struct grid g = grid;

	for (size_t i = 0; i < g.count[CLOCK_CPU]; i++)
		g.hz[CLOCK_CPU][i] = 115200000 + i * 74514285;
	struct sim_clocks top = {(double)g.hz[CLOCK_CPU][28], (double)g.hz[CLOCK_GPU][10], (double)g.hz[CLOCK_MEM][3]};
	do
		sim_random(&model, SIM_DNN, top, &rng);
	while (model.layers < LAYERS);
	model.layers = LAYERS;
	model.layer[LAYERS - 1].sync = true;
	return bench(&g, rows, measure(&model, &g, &rng, rows, totals), totals);
}
