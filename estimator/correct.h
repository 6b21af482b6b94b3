/* SPDX-License-Identifier: MIT */
/* Online correction (DESIGN 5.5): the error of the prediction for requests, split between
 * the cell where they ran and one slow-down of the whole board, and their scatter around both.
 *
 * A two-state Kalman filter (cell error, slow-down) on log(actual / predicted). If two successive
 * innovations have the same sign, it is a change and is followed at once; a single one is a tail and is clipped.
 * Scatter is a decaying histogram, from which quantiles are read: tails are not Gaussian. */
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

/* Observe one request. Updates `*mean`, the log latency of its cell, and its variance `*var`. `extra_var`: variance of
 * log_ns beside the scatter of requests. */
void correct_observe(struct correct *correct, double log_ns, double *mean, double *var, double extra_var);

/* Quantile of log(actual / expected) of single requests. Up to thirty requests it is blended with `prior`. */
double correct_scatter(const struct correct *correct, double quantile, double prior);

/* late[k]: measured chance that log(actual / expected) is over (low + k x step) of its standard deviations; before many
 * requests were observed, that of a normal distribution with an exponential tail for one in a hundred. */
void correct_late(const struct correct *correct, float *late, size_t bins, double low, double step);

/* expected factor; below 1 if the model was mostly learned under contention */
double correct_slowdown(const struct correct *correct);
double correct_slowdown_bound(const struct correct *correct); /* factor for a bound: one standard deviation above */

#endif
