/* SPDX-License-Identifier: MIT */
/* Axes, sorted and thinned, and the numbering of their product. */
#include "grid.h"

#include <errno.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Keep `keep` of `count` entries, evenly, both ends among them. In place. */
static void thin(uint64_t *hz, size_t count, size_t keep)
{
	for (size_t i = 0; i < keep; i++)
		hz[i] = hz[keep == 1 ? count - 1 : i * (count - 1) / (keep - 1)];
}

/* Sorted, without duplicates. Returns the number left. */
static size_t tidy(uint64_t *hz, size_t count)
{
	size_t kept = 0;

	qsort(hz, count, sizeof(*hz), ascending);
	for (size_t i = 0; i < count; i++)
		if (!kept || hz[i] != hz[kept - 1])
			hz[kept++] = hz[i];
	return kept;
}

/* Add a whole axis to the grid, at most GRID_AXIS_MAX entries of it. */
static int take_axis(struct grid *grid, int clock, const uint64_t *hz, size_t count)
{
	uint64_t *all;
	size_t kept;

	if (!count)
		return -EINVAL;
	all = malloc(count * sizeof(*all));
	if (!all)
		return -ENOMEM;
	memcpy(all, hz, count * sizeof(*all));
	kept = tidy(all, count);
	if (kept > GRID_AXIS_MAX) {
		thin(all, kept, GRID_AXIS_MAX);
		kept = GRID_AXIS_MAX;
	}
	memcpy(grid->hz[clock], all, kept * sizeof(*all));
	grid->count[clock] = kept;
	free(all);
	return 0;
}

int grid_init(struct grid *grid, const uint64_t *const hz[CLOCK_COUNT], const size_t count[CLOCK_COUNT])
{
	memset(grid, 0, sizeof(*grid));
	for (int c = 0; c < CLOCK_COUNT; c++) {
		int rc = take_axis(grid, c, hz[c], count[c]);
		if (rc)
			return rc;
	}
	while (grid->count[CLOCK_CPU] * grid->count[CLOCK_GPU] * grid->count[CLOCK_MEM] > GRID_POINTS_MAX) {
		int longest = CLOCK_CPU;
		for (int c = 1; c < CLOCK_COUNT; c++)
			if (grid->count[c] > grid->count[longest])
				longest = c;
		thin(grid->hz[longest], grid->count[longest], grid->count[longest] - 1);
		grid->count[longest]--;
	}
	grid->points = grid->count[CLOCK_CPU] * grid->count[CLOCK_GPU] * grid->count[CLOCK_MEM];
	return 0;
}

size_t grid_index(const struct grid *grid, const size_t axis[CLOCK_COUNT])
{
	return (axis[CLOCK_CPU] * grid->count[CLOCK_GPU] + axis[CLOCK_GPU]) * grid->count[CLOCK_MEM] + axis[CLOCK_MEM];
}

void grid_axes(const struct grid *grid, size_t index, size_t axis[CLOCK_COUNT])
{
	/* Called for each point of a decision; 32-bit divisions take a fraction of the time. */
	uint32_t mems = (uint32_t)grid->count[CLOCK_MEM], gpus = (uint32_t)grid->count[CLOCK_GPU];
	uint32_t rest = (uint32_t)index / mems;

	axis[CLOCK_MEM] = (uint32_t)index - rest * mems;
	axis[CLOCK_CPU] = rest / gpus;
	axis[CLOCK_GPU] = rest - (uint32_t)axis[CLOCK_CPU] * gpus;
}

struct op_point grid_point(const struct grid *grid, size_t index)
{
	struct op_point point;
	size_t axis[CLOCK_COUNT];

	grid_axes(grid, index, axis);
	for (int c = 0; c < CLOCK_COUNT; c++)
		point.hz[c] = grid->hz[c][axis[c]];
	return point;
}

/* Entry of one axis nearest in log clock: between two neighbours that is the
 * one whose ratio is smaller, so no logarithm is taken. */
static size_t nearest(const uint64_t *hz, size_t count, uint64_t wanted)
{
	size_t i = 0;

	if (count == 1 || !wanted)
		return count - 1;
	while (i < count && hz[i] < wanted)
		i++;
	if (i == 0 || i == count)
		return i ? count - 1 : 0;
	return (double)wanted / (double)hz[i - 1] < (double)hz[i] / (double)wanted && hz[i - 1] ? i - 1 : i;
}

size_t grid_nearest(const struct grid *grid, struct op_point point)
{
	size_t axis[CLOCK_COUNT];

	for (int c = 0; c < CLOCK_COUNT; c++)
		axis[c] = nearest(grid->hz[c], grid->count[c], point.hz[c]);
	return grid_index(grid, axis);
}
