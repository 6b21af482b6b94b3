/* SPDX-License-Identifier: MIT */
/* The form of end-to-end latency over clocks and context (docs/DESIGN.md 5.2 and 5.3),
 * as logs of its parameters, with slopes and weak priors. With xc, xg, xm = reference
 * clock / clock and t = context / reference context:
 *   core   = b xg (1 + r e^s t + r2 e^s2 t^2)
 *   memory = c xm (1 + r e^-s t + r2 e^-s2 t^2)
 *   execution = (core^n + memory^n)^(1/n)        launch = e xc + h
 *   latency   = a + (launch^k + execution^k)^(1/k)                        */
#ifndef ESTIMATOR_SHAPE_H
#define ESTIMATOR_SHAPE_H

#include "layerfit.h"

/* log a, log e, log h, log(k - 1), log b, log c, log(n - 1), then log r, s, log r2, s2. */
enum {
	SHAPE_OUTSIDE,
	SHAPE_LAUNCH,
	SHAPE_LAUNCH_FIXED,
	SHAPE_JOIN,
	SHAPE_CORE,
	SHAPE_MEMORY,
	SHAPE_OVERLAP,
	SHAPE_LINEAR,
	SHAPE_LINEAR_TILT,
	SHAPE_SQUARE,
	SHAPE_SQUARE_TILT,
	SHAPE_PARAMS
};
#define SHAPE_RUN_PARAMS    SHAPE_LINEAR /* no context */
#define SHAPE_DECODE_PARAMS SHAPE_SQUARE /* affine in context */

/* Gaussian; the times among them are relative to the level of the latencies. */
extern const double shape_prior_mean[SHAPE_PARAMS];
extern const double shape_prior_sd[SHAPE_PARAMS];
extern const bool shape_is_time[SHAPE_PARAMS];

/* Starting points of a search, as offsets from the prior mean: bound by launches, by the core
 * clock, by memory, by growth. Where one of these hides the others the form is flat in them. */
#define SHAPE_ENTRIES 5
extern const double shape_entry[SHAPE_ENTRIES][SHAPE_PARAMS];

/* Position of a measurement, or of a grid point. */
struct place {
	double slow[CLOCK_COUNT], grown; /* reference / clock, context / reference context */
};

struct place shape_place(const struct clock_scale *scale, struct op_point point, uint32_t context);

/* log of latency in ns; its slopes in the first `params` parameters go to
 * `gradient` unless that is NULL. */
double shape_log_ns(const double *x, size_t params, const struct place *place, double *gradient);

/* Pieces, for a whole grid at once. log(e^an + e^bn) / n and its slopes: `first` = d/da
 * (d/db = 1 - first), `power` = d/dn. */
double shape_soft_max(double a, double b, double n, double *first, double *power);
double shape_power(double x); /* 1 + e^x, at most 16 */
/* log of 1 + r e^(side s) t + r2 e^(side s2) t^2; side 1 for core time, -1 for memory time. */
double shape_log_growth(const double *x, size_t params, double side, double t, double slope[SHAPE_PARAMS]);

#endif
