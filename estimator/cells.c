/* SPDX-License-Identifier: MIT */
/* Measurements by place: operating point and context. */
#include <math.h>
#include <string.h>
#include "state.h"

#define NOISE_UNKNOWN   0.006 /* relative scatter of one inference, where a sample does not give it */
#define NOISE_FLOOR     0.001 /* of a mean of any number of inferences: drift between runs */
#define READINGS_EACH   4.0   /* power readings that one inference of a sample counts for, */
#define READINGS_SAMPLE 16.0  /* all inferences of a sample at most, */
#define READINGS_MEMORY 256.0 /* and a mean at most */
#define SAME_CLOCK      0.002 /* relative: rounding of a rate by the kernel */

#define STEP_FIRST 8  /* tokens: contexts are rounded up to multiples of it, further on of twice as many, and so on */
#define BAND_PARTS 16 /* multiples of a step in a band */

/* `doubled`: how often the step was. */
static uint32_t step_of(uint32_t context, uint32_t parts, uint32_t *doubled)
{
	uint32_t step = STEP_FIRST;

	for (*doubled = 0; step * parts < context; ++*doubled)
		step *= 2;
	return step;
}

static uint32_t round_up(uint32_t context, uint32_t parts)
{
	uint32_t doubled, step = step_of(context, parts, &doubled);

	return context <= 1 ? context : (context + step - 1) / step * step;
}

double context_log(uint32_t context)
{
	return log1p(context / KNOT_OFFSET);
}

uint32_t context_band(uint32_t context)
{
	return round_up(context, BAND_PARTS);
}

uint32_t context_band_number(uint32_t context)
{
	uint32_t doubled, step = step_of(context, BAND_PARTS, &doubled);

	return doubled * (BAND_PARTS + 1) + (context + step - 1) / step;
}

uint32_t context_step(uint32_t context)
{
	return round_up(context, 64);
}

void context_knots(uint32_t context, uint32_t *low, uint32_t *high)
{
	double step = floor(context_log(context) / KNOT_STEP + 1e-9);

	*low = (uint32_t)lround(KNOT_OFFSET * expm1(step * KNOT_STEP));
	*high = (uint32_t)lround(KNOT_OFFSET * expm1((step + 1) * KNOT_STEP));
	if (context <= *low)
		*low = *high = context;
}

static bool same_point(struct op_point a, struct op_point b)
{
	for (int c = 0; c < CLOCK_COUNT; c++) {
		double x = (double)a.hz[c], y = (double)b.hz[c];
		if (x > 0 && y > 0 && fabs(x - y) > SAME_CLOCK * y)
			return false;
	}
	return true;
}

uint32_t cells_find(const struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		    struct op_point point)
{
	uint32_t i = cells->first[phase][grid_nearest(grid, point)];

	for (; i; i = cells->cell[i - 1].next) {
		const struct cell *cell = &cells->cell[i - 1];
		if (same_point(cell->point, point) && context_band(cell->context) == context_band(context))
			return i - 1;
	}
	return NO_CELL;
}

uint32_t cells_near(const struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		    struct op_point point, double *gap)
{
	uint32_t i = cells->first[phase][grid_nearest(grid, point)], nearest = NO_CELL;

	*gap = CONTEXT_REACH;
	for (; i; i = cells->cell[i - 1].next) {
		const struct cell *cell = &cells->cell[i - 1];
		double far = fabs(context_log(cell->context) - context_log(context));
		if (!cell->n || far > *gap || !same_point(cell->point, point))
			continue;
		*gap = far;
		nearest = i - 1;
	}
	return nearest;
}

uint32_t cells_add(struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		   struct op_point point)
{
	uint32_t i = cells->count;
	struct cell *cell;

	if (i == SAMPLES_MAX)
		return NO_CELL;
	cell = &cells->cell[i];
	memset(cell, 0, sizeof(*cell));
	cell->point = point;
	cell->context = context;
	cell->phase = phase;
	cell->nearest = grid_nearest(grid, point);
	cell->off_grid = !same_point(grid_point(grid, cell->nearest), point);
	cell->next = cells->first[phase][cell->nearest];
	cells->first[phase][cell->nearest] = i + 1;
	cells->count++;
	return i;
}

/* Two estimates of one mean, weighted by their numbers of inferences. A difference beyond their own variance counts as
 * variance between runs. */
void cell_learn(struct cell *cell, const struct sample *sample)
{
	double n = sample->n ? sample->n : 1, had = cell->n, all = n + had;
	double mean = log((double)sample->latency_ns), scatter = NOISE_UNKNOWN, gap = mean - cell->mean;

	if (sample->sd_ns && sample->n > 1) {
		double relative = (double)sample->sd_ns / (double)sample->latency_ns;
		cell->single_var = (had * cell->single_var + n * relative * relative) / all;
		scatter = relative;
	}
	double var = scatter * scatter / n + NOISE_FLOOR * NOISE_FLOOR;
	if (had == 0) {
		cell->mean = mean;
		cell->var = var;
	} else {
		cell->mean += gap * n / all;
		cell->var = (had * had * cell->var + n * n * var + 0.5 * had * n * gap * gap) / (all * all);
	}
	if (sample->max_ns)
		cell->max_log = fmax(cell->max_log, log((double)sample->max_ns));
	cell->n = all < UINT32_MAX ? (uint32_t)all : UINT32_MAX;
	if (sample->power_uw)
		cell_learn_power(cell, (double)sample->power_uw,
				 sample->n ? fmin(READINGS_EACH * sample->n, READINGS_SAMPLE) : READINGS_SAMPLE);
}

void cell_learn_power(struct cell *cell, double power_uw, double n)
{
	cell->power_n = fmin(cell->power_n + n, READINGS_MEMORY);
	cell->power_uw += (power_uw - cell->power_uw) * n / cell->power_n;
}

void cell_power_fitted(struct cell *cell)
{
	cell->power_fitted = cell->power_uw;
	cell->power_fitted_n = cell->power_n;
}
