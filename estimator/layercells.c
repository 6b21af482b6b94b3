/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "layercells.h"
#include "../common/limits.h"

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double median(double *values, size_t n)
{
	if (!n)
		return NAN;
	qsort(values, n, sizeof(*values), compare_doubles);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static size_t point_of(struct layer_observations *seen, const struct layer *row)
{
	for (size_t k = 0; k < seen->points; k++)
		if (op_point_equal(seen->point[k], row->point) && seen->context[k] == row->context)
			return k;
	if (seen->points == LAYER_POINTS_MAX)
		return LAYER_POINTS_MAX;
	seen->point[seen->points] = row->point;
	seen->context[seen->points] = row->context;
	return seen->points++;
}

/* Medians of the rows of one cell, and the spread of its repetitions. */
static void fill_cell(struct layer_cell *cell, double *cpu, double *gpu, size_t n, double spread[2], size_t *spreads)
{
	cell->n = (unsigned)n;
	cell->cpu_ns = median(cpu, n);
	cell->gpu_ns = median(gpu, n);
	if (n < 2)
		return;
	/* Interquartile range of sorted values, which is 1.35 standard deviations of a Gaussian. */
	if (cell->cpu_ns > 0)
		spread[0] += (cpu[(n * 3) / 4] - cpu[n / 4]) / cell->cpu_ns;
	if (cell->gpu_ns > 0)
		spread[1] += (gpu[(n * 3) / 4] - gpu[n / 4]) / cell->gpu_ns;
	++*spreads;
}

/* Counting sort of the rows into cells, then a median of each. */
static int fill_cells(struct layer_observations *seen, const struct layer *rows, const size_t *cell_of, size_t count)
{
	size_t cells = seen->layers * seen->points, spreads = 0;
	size_t *first = calloc(cells + 1, sizeof(*first)), *fill = calloc(cells + 1, sizeof(*fill));
	double *cpu = calloc(count, sizeof(*cpu)), *gpu = calloc(count, sizeof(*gpu)), spread[2] = {0, 0};
	int rc = -ENOMEM;

	if (!first || !fill || !cpu || !gpu)
		goto out;
	for (size_t i = 0; i < count; i++)
		if (cell_of[i] < cells)
			first[cell_of[i] + 1]++;
	for (size_t i = 0; i < cells; i++)
		first[i + 1] += first[i];
	for (size_t i = 0; i < count; i++) {
		if (cell_of[i] >= cells)
			continue;
		size_t slot = first[cell_of[i]] + fill[cell_of[i]]++;
		cpu[slot] = (double)rows[i].cpu_ns;
		gpu[slot] = (double)rows[i].gpu_ns;
	}
	for (size_t i = 0; i < cells; i++)
		fill_cell(&seen->cell[i], cpu + first[i], gpu + first[i], first[i + 1] - first[i], spread, &spreads);
	if (spreads) {
		seen->cpu_noise = fmax(spread[0] / (double)spreads / 1.35, LAYER_NOISE_FLOOR);
		seen->gpu_noise = fmax(spread[1] / (double)spreads / 1.35, LAYER_NOISE_FLOOR);
	}
	rc = 0;
out:
	free(first);
	free(fill);
	free(cpu);
	free(gpu);
	return rc;
}

/* A cell has the times of its most precise source only. */
static void choose_sources(struct layer_observations *seen, const struct layer *rows, size_t *cell_of, size_t count)
{
	size_t cells = seen->layers * seen->points;

	for (size_t i = 0; i < cells; i++)
		seen->cell[i].source = SOURCE_WALL;
	for (size_t i = 0; i < count; i++)
		if (cell_of[i] < cells && layer_surer(rows[i].source, seen->cell[cell_of[i]].source))
			seen->cell[cell_of[i]].source = rows[i].source;
	for (size_t i = 0; i < count; i++)
		if (cell_of[i] < cells && rows[i].source != seen->cell[cell_of[i]].source)
			cell_of[i] = SIZE_MAX;
}

/* The sync flag of a layer is that of most of its rows. */
static int fill_sync(struct layer_observations *seen, enum phase phase, const struct layer *rows, size_t count)
{
	int *votes = calloc(seen->layers, sizeof(*votes));

	if (!votes)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (rows[i].phase == phase)
			votes[rows[i].layer] += rows[i].sync ? 1 : -1;
	for (size_t i = 0; i < seen->layers; i++)
		seen->sync[i] = votes[i] > 0;
	free(votes);
	return 0;
}

static bool same_place(const struct layer *a, const struct layer *b)
{
	return a->context == b->context && op_point_equal(a->point, b->point);
}

/* Number of changes of the point from one row of a phase to the next. In rows sorted by point it is the number of
 * points less one. */
static size_t count_changes(enum phase phase, const struct layer *rows, size_t count)
{
	const struct layer *last = NULL;
	size_t changes = 0;

	for (size_t i = 0; i < count; i++) {
		if (rows[i].phase != phase)
			continue;
		changes += last && !same_place(&rows[i], last);
		last = &rows[i];
	}
	return changes;
}

/* Points of the rows; if there are more than LAYER_POINTS_MAX, they are thinned evenly. */
static void find_points(struct layer_observations *seen, enum phase phase, const struct layer *rows, size_t count,
			size_t *point)
{
	size_t every = count_changes(phase, rows, count) / LAYER_POINTS_MAX + 1, place = 0;
	const struct layer *last = NULL;

	for (size_t i = 0; i < count; i++) {
		point[i] = LAYER_POINTS_MAX;
		if (rows[i].phase != phase)
			continue;
		place += last && !same_place(&rows[i], last);
		last = &rows[i];
		if (place % every == 0)
			point[i] = point_of(seen, &rows[i]);
		if (point[i] < LAYER_POINTS_MAX && rows[i].layer >= seen->layers)
			seen->layers = (size_t)rows[i].layer + 1;
	}
}

/* Reference clocks, and every point relative to them. */
static void set_scale(struct layer_observations *seen, struct clock_scale *scale, enum phase phase)
{
	uint32_t low = UINT32_MAX, high = 0;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		double sum = 0;
		size_t known = 0;

		for (size_t k = 0; k < seen->points; k++) {
			if (!seen->point[k].hz[c])
				continue;
			sum += log((double)seen->point[k].hz[c]);
			known++;
		}
		scale->hz[c] = known ? exp(sum / (double)known) : 0;
	}
	for (size_t k = 0; k < seen->points; k++) {
		low = seen->context[k] < low ? seen->context[k] : low;
		high = seen->context[k] > high ? seen->context[k] : high;
	}
	scale->context = high > low ? (double)high : 0;
	seen->context_varies = high > low;
	seen->squares = phase == PHASE_PREFILL;
	for (size_t k = 0; k < seen->points; k++) {
		for (int c = 0; c < CLOCK_COUNT; c++) {
			seen->slow[k][c] = clock_slowness(scale, (enum clock_id)c, seen->point[k].hz[c]);
			seen->log_slow[k][c] = log(seen->slow[k][c]);
		}
		seen->grown[k] = scale->context > 0 ? (double)seen->context[k] / scale->context : 0;
	}
}

/* -EINVAL where a layer between 0 and the last was never measured. */
static int check_layers(const struct layer_observations *seen)
{
	for (size_t i = 0; i < seen->layers; i++) {
		unsigned rows = 0;

		for (size_t k = 0; k < seen->points; k++)
			rows += seen->cell[i * seen->points + k].n;
		if (!rows)
			return -EINVAL;
	}
	return 0;
}

int layer_observe(struct layer_observations *seen, enum phase phase, const struct layer *rows, size_t count,
		  struct clock_scale *scale)
{
	size_t *cell_of = calloc(count + 1, sizeof(*cell_of));
	int rc = -ENOMEM;

	if (!cell_of)
		return -ENOMEM;
	find_points(seen, phase, rows, count, cell_of);
	if (!seen->points || seen->layers > LAYERS_MAX) {
		rc = -EINVAL;
		goto out;
	}
	for (size_t i = 0; i < count; i++)
		cell_of[i] = cell_of[i] < LAYER_POINTS_MAX ? rows[i].layer * seen->points + cell_of[i] : SIZE_MAX;
	seen->cell = calloc(seen->layers * seen->points, sizeof(*seen->cell));
	seen->sync = calloc(seen->layers, sizeof(*seen->sync));
	if (seen->cell && seen->sync) {
		choose_sources(seen, rows, cell_of, count);
		rc = fill_cells(seen, rows, cell_of, count);
	}
	if (!rc)
		rc = fill_sync(seen, phase, rows, count);
	if (!rc)
		rc = check_layers(seen);
	if (!rc)
		set_scale(seen, scale, phase);
out:
	free(cell_of);
	return rc;
}

void layer_observations_free(struct layer_observations *seen)
{
	free(seen->cell);
	free(seen->sync);
}

static uint64_t setting(const struct layer_observations *seen, size_t point, int axis)
{
	return axis < CLOCK_COUNT ? seen->point[point].hz[axis] : seen->context[point];
}

void layer_distinct(const struct layer_observations *seen, size_t distinct[CLOCK_COUNT + 1])
{
	for (int axis = 0; axis <= CLOCK_COUNT; axis++) {
		distinct[axis] = 0;
		for (size_t k = 0; k < seen->points; k++) {
			size_t before = 0;

			while (before < k && setting(seen, before, axis) != setting(seen, k, axis))
				before++;
			distinct[axis] += before == k;
		}
	}
}
