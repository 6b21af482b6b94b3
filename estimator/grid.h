/* SPDX-License-Identifier: MIT */
/* The grid: every operating point that a board supports, as three sorted axes. */
#ifndef ESTIMATOR_GRID_H
#define ESTIMATOR_GRID_H

#include <stddef.h>
#include "../common/limits.h"
#include "../common/point.h"

/* Axes ascend and hold no duplicate. A clock that cannot be controlled is an
 * axis of one entry (its fixed Hz, or 0 where unknown). */
struct grid {
	size_t count[CLOCK_COUNT]; /* entries of each axis, at least 1 */
	uint64_t hz[CLOCK_COUNT][GRID_AXIS_MAX];
	size_t points; /* product of count[], at most GRID_POINTS_MAX */
};

/* Build from axes in any order, duplicates allowed. An axis is thinned evenly,
 * ends kept, when it is over GRID_AXIS_MAX or the product over GRID_POINTS_MAX
 * (the longest axis first). Returns 0, -EINVAL when an axis is empty, or -ENOMEM. */
int grid_init(struct grid *grid, const uint64_t *const hz[CLOCK_COUNT], const size_t count[CLOCK_COUNT]);

/* Point number = (cpu * count[GPU] + gpu) * count[MEM] + mem: the memory clock
 * varies fastest, the last point is every clock at its highest. */
size_t grid_index(const struct grid *grid, const size_t axis[CLOCK_COUNT]);
void grid_axes(const struct grid *grid, size_t index, size_t axis[CLOCK_COUNT]);
struct op_point grid_point(const struct grid *grid, size_t index);

/* Nearest grid point (in log clock) to any point; an axis of one entry, and a
 * clock of 0 Hz, always match. */
size_t grid_nearest(const struct grid *grid, struct op_point point);

#endif
