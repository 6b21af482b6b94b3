/* SPDX-License-Identifier: MIT */
/* Staying true (DESIGN 5.5): how far requests are off the prediction, split between
 * the cell they ran at and one slow-down for the whole board, and how widely they scatter
 * around both.
 *
 * A two-state Kalman filter (cell error, slow-down) on log(actual / predicted). An
 * innovation that two requests running show on the same side is a change, and is followed at
 * once; a lone one is a tail, and is clipped. Scatter is a decaying histogram, from
 * which quantiles are read: tails are not Gaussian. */
#ifndef ESTIMATOR_CORRECT_H
#define ESTIMATOR_CORRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCATTER_BINS 160

struct correct {
	double slow, slow_var;       /* log of the slow-down; its variance */
	double noise_var;            /* of one request, log, tails clipped */
	double outlier;              /* the last innovation if it was an outlier, else 0 */
	uint32_t seen;               /* requests */
	float scatter[SCATTER_BINS]; /* log(actual / (cell x slow-down)), by 0.25 % from -10 % */
	float scatter_sum;
};

void correct_init(struct correct *correct);

/* One request: its log latency against `*mean`, the cell's with variance `*var`;
 * both are updated. `extra_var`: variance of log_ns beside the scatter of requests. Returns the change of `*mean`. */
double correct_observe(struct correct *correct, double log_ns, double *mean, double *var, double extra_var);

/* Quantile of log(actual / expected) of single requests. Before thirty have been seen
 * `prior` stands in, blended out as they come. */
double correct_scatter(const struct correct *correct, double quantile, double prior);

/* late[k]: chance that log(actual / expected) is over (low + k x step) standard deviations of it,
 * as measured; before many were seen, that of a normal distribution of which one in a hundred has
 * an exponential tail. */
void correct_late(const struct correct *correct, float *late, size_t bins, double low, double step);

/* expected factor; below 1 where most was learned under contention */
double correct_slowdown(const struct correct *correct);
double correct_slowdown_bound(const struct correct *correct); /* factor on a bound: a standard deviation more */

#endif
