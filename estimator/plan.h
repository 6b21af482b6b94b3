/* SPDX-License-Identifier: MIT */
/* Where to measure next: the point that lowers the mean variance of log latency
 * over the points that matter the most, given what is known (Cohn, Ghahramani and Jordan, Active
 * Learning with Statistical Models, JAIR 4, 1996), summed over the modes of a fit or,
 * with nothing measured, over typical models of every kind. */
#ifndef ESTIMATOR_PLAN_H
#define ESTIMATOR_PLAN_H

#include "fit.h"

#define PLAN_POINTS_MAX 160 /* looked at; more are thinned evenly, ends kept */

struct plan_point {
	struct fit_point at;
	float weight; /* how much the point matters */
	bool allowed; /* one may measure there */
};

/* Pick one of `points` (at most PLAN_POINTS_MAX). `fit` holds `latencies` rows with a latency, and
 * was solved for them; beyond those, up to fit->rows, rows that will be measured. The best `*gain`: share of the
 * mean variance it takes away. Returns the index, or -1 when none is allowed. Takes no memory but the
 * stack. */
int plan_next(struct fit *fit, size_t latencies, const struct plan_point *points, size_t count, double *gain);

/* Spread PLAN_POINTS_MAX over a grid's axes: marks in `keep` (per clock and
 * entry) the axis entries looked at. */
void plan_thin(const struct grid *grid, size_t most, bool keep[CLOCK_COUNT][GRID_AXIS_MAX]);

#endif
