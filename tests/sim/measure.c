/* SPDX-License-Identifier: MIT */
/* Measuring a simulated model as a client would measure a real one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "measure.h"

#define TRUTH_INFERENCES 8

void measure_grid(struct grid *grid, bool memory)
{
	static const double gpu_mhz[] = {306, 408, 510, 612, 714, 816, 918, 1020, 1122, 1224, 1300.5};
	static const double mem_mhz[] = {204, 665.6, 2133, 3199};

	memset(grid, 0, sizeof(*grid));
	grid->count[CLOCK_CPU] = 29;
	for (size_t i = 0; i < 29; i++)
		grid->hz[CLOCK_CPU][i] = 115200000 + i * 74514285;
	grid->count[CLOCK_GPU] = 11;
	for (size_t i = 0; i < 11; i++)
		grid->hz[CLOCK_GPU][i] = (uint64_t)(gpu_mhz[i] * 1e6);
	grid->count[CLOCK_MEM] = memory ? 4 : 1;
	for (size_t i = 0; i < grid->count[CLOCK_MEM]; i++)
		grid->hz[CLOCK_MEM][i] = (uint64_t)(mem_mhz[memory ? i : 3] * 1e6);
	grid->points = 29 * 11 * grid->count[CLOCK_MEM];
}

struct sim_clocks measure_clocks(struct op_point point)
{
	return (struct sim_clocks){(double)point.hz[CLOCK_CPU], (double)point.hz[CLOCK_GPU],
				   (double)point.hz[CLOCK_MEM]};
}

struct op_point measure_point(const struct grid *grid, size_t index)
{
	size_t gpus = grid->count[CLOCK_GPU], mems = grid->count[CLOCK_MEM];

	return (struct op_point){{grid->hz[CLOCK_CPU][index / mems / gpus], grid->hz[CLOCK_GPU][index / mems % gpus],
				  grid->hz[CLOCK_MEM][index % mems]}};
}

struct sim_clocks measure_top(const struct grid *grid)
{
	return measure_clocks(measure_point(grid, grid->points - 1));
}

struct sample measure_sample(const struct measure *m, struct op_point point, uint32_t context, uint32_t reps,
			     struct layer *rows)
{
	double ns[MEASURE_INFERENCES], cpu[SIM_LAYERS_MAX], gpu[SIM_LAYERS_MAX], mean = 0, squares = 0, most = 0;

	for (uint32_t rep = 0; rep < MEASURE_INFERENCES; rep++) {
		double disturbed = sim_noise_next(m->noise);

		ns[rep] = disturbed * sim_run(m->model, measure_clocks(point), context, m->rng, cpu, gpu);
		mean += ns[rep] / MEASURE_INFERENCES;
		most = fmax(most, ns[rep]);
		for (uint32_t i = 0; i < m->model->layers && rep < reps; i++)
			*rows++ = (struct layer){.phase = m->phase,
						 .context = context,
						 .point = point,
						 .rep = rep,
						 .layer = i,
						 .cpu_ns = (uint64_t)(cpu[i] * disturbed),
						 .gpu_ns = (uint64_t)(gpu[i] * disturbed),
						 .sync = m->model->layer[i].sync};
	}
	for (int i = 0; i < MEASURE_INFERENCES; i++)
		squares += (ns[i] - mean) * (ns[i] - mean) / (MEASURE_INFERENCES - 1);
	return (struct sample){.phase = m->phase,
			       .context = context,
			       .point = point,
			       .latency_ns = (uint64_t)mean,
			       .n = MEASURE_INFERENCES,
			       .sd_ns = (uint64_t)sqrt(squares),
			       .max_ns = (uint64_t)most};
}

double measure_truth_ns(const struct measure *m, struct op_point point, uint32_t context)
{
	double ns = 0;

	for (int i = 0; i < TRUTH_INFERENCES; i++)
		ns += sim_run(m->model, measure_clocks(point), context, m->rng, NULL, NULL) / TRUTH_INFERENCES;
	return ns;
}

void errors_add(struct errors *e, double predicted, double truth)
{
	if (e->count == e->room) {
		e->room = e->room ? 2 * e->room : 1024;
		e->value = realloc(e->value, e->room * sizeof(*e->value));
		if (!e->value)
			abort();
	}
	e->value[e->count++] = fabs(predicted / truth - 1);
}

double errors_mean(const struct errors *e)
{
	double sum = 0;

	for (size_t i = 0; i < e->count; i++)
		sum += e->value[i];
	return e->count ? sum / (double)e->count : 0;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double errors_quantile(struct errors *e, double share)
{
	if (!e->count)
		return 0;
	qsort(e->value, e->count, sizeof(*e->value), compare_doubles);
	return e->value[(size_t)(share * (double)(e->count - 1))];
}

void errors_free(struct errors *e)
{
	free(e->value);
}
