/* SPDX-License-Identifier: MIT */
/* Latency over clocks and context length from a dozen end-to-end measurements
 * (DESIGN 5.2 and 5.3): execution is affine (decode) or quadratic (prefill) in
 * the context, launch does not depend on it, and latency is a soft maximum of the two. */
#ifndef ESTIMATOR_CONTEXT_H
#define ESTIMATOR_CONTEXT_H

#include "grid.h"
#include "layerfit.h"
#include "lsq.h"
#include "sample.h"

/* The form is that of estimator/shape.h.
 * Parameters are logs of a, e, h, k - 1, b, c, n - 1, then r, s, r2, s2: nine numbers for
 * decode, eleven for prefill, with weak Gaussian priors on each. */
struct context_fit {
	enum phase phase;
	size_t params;  /* 0: nothing fitted yet */
	size_t samples; /* it rests on */
	struct clock_scale scale;
	double param[LSQ_PARAMS_MAX];
	double covariance[LSQ_PARAMS_MAX * LSQ_PARAMS_MAX]; /* Laplace: inverse curvature at the fit */
};

/* Fit to the samples of `phase` that have a latency (at most LSQ_RESIDUALS_MAX, the first ones) by least
 * squares on log latency with Huber weights. With few samples the priors carry what was not measured.
 * Returns 0, or -EINVAL where there is no such sample. Takes no memory but the stack. */
int context_fit(struct context_fit *fit, enum phase phase, const struct sample *samples, size_t count);

/* Expected latency in ns at any point and context. `log_sd` (or NULL) becomes
 * the standard deviation of its logarithm as far as the parameters are uncertain. */
double context_latency_ns(const struct context_fit *fit, struct op_point point, uint32_t context, double *log_sd);

/* The same for a whole grid: latency_ns[grid->points], in grid order. */
void context_surface(const struct context_fit *fit, const struct grid *grid, uint32_t context, float *latency_ns);

/* The measurement that lowers the mean variance of log latency the most, over
 * the grid at every context of `contexts` (I-optimality; Atkinson and Donev,
 * Optimum Experimental Designs, ch. 10). `weight` (grid->points, or NULL) is how much each point
 * matters, `allowed` (grid->points bytes, or NULL) where one may measure. Fills point and
 * context; `*gain` becomes the expected fall of that mean variance, as a share of it, and `*log_sd` its
 * root now. With nothing fitted the answer is every clock at its highest allowed, at the middle context.
 * Returns 1, or 0 when no point is allowed. */
int context_plan(const struct context_fit *fit, const struct grid *grid, const uint32_t *contexts, size_t context_count,
		 const float *weight, const uint8_t *allowed, struct op_point *point, uint32_t *context, double *gain,
		 double *log_sd);

#endif
