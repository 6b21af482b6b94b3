/* SPDX-License-Identifier: MIT */
/* Kang (arXiv 2606.16106): a fit of latency over the GPU clock for each memory clock that can be locked, each from
 * two measured cells, and the cheapest pair of GPU and memory clock that meets the deadline with a margin for a
 * budget of 2 % of misses, by measured power. The CPU stays at its highest. Assumed, as only the abstract could be
 * read: the cells are the lowest and the highest GPU clock; latency is a + b / clock between them; the margin is the
 * 98th percentile over the median of 300 runs at the highest clocks; the power table is exact; beside others each
 * request is planned alone and the highest clocks win. */
#include <math.h>
#include <stdlib.h>
#include "rival.h"

#define BUDGET 0.02
#define GAUGED 300

struct kang {
	struct base base;
	double margin[LOOP_SESSIONS_MAX];
	double a[LOOP_SESSIONS_MAX][GRID_AXIS_MAX], b[LOOP_SESSIONS_MAX][GRID_AXIS_MAX]; /* by memory clock */
	size_t gpu[LOOP_SESSIONS_MAX], mem[LOOP_SESSIONS_MAX];
};

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void calibrate(struct kang *k, size_t s)
{
	const struct board_made *board = k->base.run->loop.board;
	const struct grid *grid = &board->grid;
	const struct board_work *work = &board->work[k->base.run->loop.session[s].work];
	struct board_noise noise = work->noise;
	struct sim_rng rng = {k->base.run->loop.seed + 77 + s};
	size_t cpu = grid->count[CLOCK_CPU] - 1, top = grid->count[CLOCK_GPU] - 1;
	double seen[GAUGED];

	for (size_t i = 0; i < GAUGED; i++)
		seen[i] = board_noise_next(&noise, &rng);
	qsort(seen, GAUGED, sizeof(*seen), by_size);
	k->margin[s] = seen[(size_t)((1 - BUDGET) * GAUGED)] / seen[GAUGED / 2];
	for (size_t m = 0; m < grid->count[CLOCK_MEM]; m++) {
		double slow = work->latency_ns[base_point(k->base.run, cpu, 0, m)],
		       fast = work->latency_ns[base_point(k->base.run, cpu, top, m)];
		double low = 1 / (double)grid->hz[CLOCK_GPU][0], high = 1 / (double)grid->hz[CLOCK_GPU][top];
		k->b[s][m] = top ? (slow - fast) / (low - high) : 0;
		k->a[s][m] = fast - k->b[s][m] * high;
	}
}

static void begin(void *state, size_t s, uint64_t deadline_ns)
{
	struct kang *k = state;
	const struct board_made *board = k->base.run->loop.board;
	const struct grid *grid = &board->grid;
	const struct board_work *work = &board->work[k->base.run->loop.session[s].work];
	size_t cpu = grid->count[CLOCK_CPU] - 1, axis[CLOCK_COUNT] = {cpu, 0, 0};
	double least = INFINITY;

	k->gpu[s] = grid->count[CLOCK_GPU] - 1;
	k->mem[s] = grid->count[CLOCK_MEM] - 1;
	for (size_t g = 0; g < grid->count[CLOCK_GPU]; g++)
		for (size_t m = 0; m < grid->count[CLOCK_MEM]; m++) {
			double ns = (k->a[s][m] + k->b[s][m] / (double)grid->hz[CLOCK_GPU][g]) * k->margin[s];
			double power = work->power_uw[base_point(k->base.run, cpu, g, m)];
			if (ns > (double)deadline_ns || power >= least)
				continue;
			least = power;
			k->gpu[s] = g;
			k->mem[s] = m;
		}
	for (size_t i = 0; i < k->base.run->loop.sessions; i++) {
		axis[CLOCK_GPU] = k->gpu[i] > axis[CLOCK_GPU] ? k->gpu[i] : axis[CLOCK_GPU];
		axis[CLOCK_MEM] = k->mem[i] > axis[CLOCK_MEM] ? k->mem[i] : axis[CLOCK_MEM];
	}
	mover_set(&k->base.mover, axis);
}

static void go(void *state, size_t s)
{
	struct kang *k = state;

	k->gpu[s] = k->mem[s] = 0;
}

static void create(const struct stage_run *run, struct manager *manager)
{
	struct kang *k = calloc(1, sizeof(*k));

	if (!k)
		abort();
	*manager = base_manager(k, run);
	manager->begin = begin;
	manager->close = go;
	for (size_t s = 0; s < run->loop.sessions; s++)
		calibrate(k, s);
}

const struct rival rival_kang = {"two-cell fit per memory clock", "Kang, arXiv 2606.16106", create, base_destroy};
