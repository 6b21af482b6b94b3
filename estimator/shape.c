/* SPDX-License-Identifier: MIT */
/* The end-to-end form of latency over clocks and context, with its slopes. */
#include "shape.h"

#include <math.h>

#define POWER_MAX 16.0

/* Logs relative to the median latency (times), or as they are. */
const double shape_prior_mean[SHAPE_PARAMS] = {-3, -1.2, -3, 1.1, -0.9, -0.9, 0.7, -1, 0, -1.5, 0};
const double shape_prior_sd[SHAPE_PARAMS] = {1.5, 1.5, 1.5, 1, 1.2, 1.2, 0.8, 1.5, 0.7, 1.5, 0.7};
const bool shape_is_time[SHAPE_PARAMS] = {[SHAPE_OUTSIDE] = true,
					  [SHAPE_LAUNCH] = true,
					  [SHAPE_LAUNCH_FIXED] = true,
					  [SHAPE_CORE] = true,
					  [SHAPE_MEMORY] = true};

/* Starting points of a search: bound by launches, by the core clock, by
 * memory, by growth. Where one of these hides the others the form is flat in them. */
const double shape_entry[SHAPE_ENTRIES][SHAPE_PARAMS] = {
	{0},
	{[SHAPE_LAUNCH] = 1, [SHAPE_CORE] = -1, [SHAPE_MEMORY] = -1},
	{[SHAPE_LAUNCH] = -1, [SHAPE_CORE] = 0.6, [SHAPE_MEMORY] = -1},
	{[SHAPE_LAUNCH] = -1, [SHAPE_CORE] = -1, [SHAPE_MEMORY] = 0.6},
	{[SHAPE_LAUNCH] = -1, [SHAPE_LINEAR] = 2, [SHAPE_SQUARE] = 2, [SHAPE_CORE] = -0.5, [SHAPE_MEMORY] = -0.5},
};

struct place shape_place(const struct clock_scale *scale, struct op_point point, uint32_t context)
{
	struct place place = {.grown = (double)context / scale->context};

	for (int c = 0; c < CLOCK_COUNT; c++)
		place.slow[c] = clock_slowness(scale, (enum clock_id)c, point.hz[c]);
	return place;
}

/* log((e^a)^n + (e^b)^n) / n with its slopes: `first` = d/da (d/db = 1 - first), `power` = d/dn. */
double shape_soft_max(double a, double b, double n, double *first, double *power)
{
	double gap = fabs(a - b), tail = exp(-n * gap), excess = log1p(tail) / n, minor = tail / (1 + tail);

	*first = a > b ? 1 - minor : minor;
	*power = -(excess + gap * minor) / n;
	return fmax(a, b) + excess;
}

double shape_power(double x)
{
	return fmin(1 + exp(x), POWER_MAX);
}

/* log of one growing branch: 1 + r e^tilt t + r2 e^tilt2 t^2, and its slopes. */
double shape_log_growth(const double *x, size_t params, double side, double t, double slope[SHAPE_PARAMS])
{
	double linear = params > SHAPE_LINEAR ? exp(x[SHAPE_LINEAR] + side * x[SHAPE_LINEAR_TILT]) * t : 0;
	double square = params > SHAPE_SQUARE ? exp(x[SHAPE_SQUARE] + side * x[SHAPE_SQUARE_TILT]) * t * t : 0;
	double growth = 1 + linear + square;

	slope[SHAPE_LINEAR] = linear / growth;
	slope[SHAPE_LINEAR_TILT] = side * linear / growth;
	slope[SHAPE_SQUARE] = square / growth;
	slope[SHAPE_SQUARE_TILT] = side * square / growth;
	return log(growth);
}

/* log of latency and, unless NULL, its gradient. */
double shape_log_ns(const double *x, size_t params, const struct place *place, double *gradient)
{
	double core_slope[SHAPE_PARAMS] = {0}, memory_slope[SHAPE_PARAMS] = {0}, core_share, overlap_slope,
	       launch_share, join_slope;
	double n = shape_power(x[SHAPE_OVERLAP]), k = shape_power(x[SHAPE_JOIN]);
	double core =
		x[SHAPE_CORE] + log(place->slow[CLOCK_GPU]) + shape_log_growth(x, params, 1, place->grown, core_slope);
	double memory = x[SHAPE_MEMORY] + log(place->slow[CLOCK_MEM]) +
			shape_log_growth(x, params, -1, place->grown, memory_slope);
	double execution = shape_soft_max(core, memory, n, &core_share, &overlap_slope);
	double scaled = exp(x[SHAPE_LAUNCH]) * place->slow[CLOCK_CPU], launch = scaled + exp(x[SHAPE_LAUNCH_FIXED]);
	double joined = exp(shape_soft_max(log(launch), execution, k, &launch_share, &join_slope));
	double outside = exp(x[SHAPE_OUTSIDE]), latency = outside + joined, inside = joined / latency;

	if (!gradient)
		return log(latency);
	double executing = inside * (1 - launch_share);
	gradient[SHAPE_OUTSIDE] = outside / latency;
	gradient[SHAPE_LAUNCH] = inside * launch_share * scaled / launch;
	gradient[SHAPE_LAUNCH_FIXED] = inside * launch_share * (1 - scaled / launch);
	gradient[SHAPE_JOIN] = k < POWER_MAX ? inside * join_slope * (k - 1) : 0;
	gradient[SHAPE_CORE] = executing * core_share;
	gradient[SHAPE_MEMORY] = executing * (1 - core_share);
	gradient[SHAPE_OVERLAP] = n < POWER_MAX ? executing * overlap_slope * (n - 1) : 0;
	for (size_t j = SHAPE_LINEAR; j < params; j++)
		gradient[j] = executing * (core_share * core_slope[j] + (1 - core_share) * memory_slope[j]);
	return log(latency);
}
