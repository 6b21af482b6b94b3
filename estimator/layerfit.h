/* SPDX-License-Identifier: MIT */
/* Launch and execution time of one layer as functions of the clocks, learned from
 * layers measured at a few operating points (docs/DESIGN.md 5.1):
 *   c(fc)     = per_clock * xc + fixed
 *   g(fg, fm) = fixed + ((core * xg)^n + (memory * xm)^n)^(1/n) * (1 + linear * t + square * t^2)
 * where x = reference clock / clock and t = context / reference context. */
#ifndef ESTIMATOR_LAYERFIT_H
#define ESTIMATOR_LAYERFIT_H

#include "sample.h"

#define LAYER_POINTS_MAX 48 /* distinct (point, context) that the fit uses; more are thinned evenly */

/* References are geometric means of the measured points. A clock of 0 Hz, or one that was never known while measuring,
 * is assumed to be at its reference. */
struct clock_scale {
	double hz[CLOCK_COUNT];
	double context; /* 0: only one context was measured, so no growth is fitted */
};

/* reference / hz of one clock, or 1 where either is unknown. */
double clock_slowness(const struct clock_scale *scale, enum clock_id clock, uint64_t hz);

/* Times in ns at the reference clocks; all >= 0. */
struct layer_fit {
	double cpu_per_clock, cpu_fixed;
	double gpu_fixed, gpu_core, gpu_memory;
	double sharpness;      /* n, 1 to 16 */
	double linear, square; /* growth with context */
	bool sync;
};

double layer_cpu_ns(const struct layer_fit *fit, double cpu_slowness);
/* The part that scales with clocks, at context 0, without gpu_fixed. */
double layer_gpu_scaled_ns(const struct layer_fit *fit, double gpu_slowness, double mem_slowness);

struct layer_model {
	size_t layers;
	struct layer_fit *fit; /* [layers], in launch order */
	struct clock_scale scale;
	double cpu_noise, gpu_noise; /* relative standard deviation of one measured layer */
	size_t distinct[CLOCK_COUNT +
			1]; /* distinct values of each clock, and of the context, at which layers were measured */
};

/* Fit every layer of one phase to the rows of that phase. Medians over
 * repetitions, then a hierarchical fit: the sum over layers first (its noise
 * averages out), then each layer with a Gaussian prior, in log, around the
 * model-wide split scaled to its size; the spread of that prior is learned from
 * the layers (empirical Bayes, Gelman et al., Bayesian Data Analysis, ch. 5).
 * A layer absent at some point is fitted from the others. Returns 0, -EINVAL (no rows of this phase, a
 * layer number of LAYERS_MAX or more, or a layer with no rows at all) or
 * -ENOMEM. The caller frees `model` with layer_model_free(). */
int layer_model_fit(struct layer_model *model, enum phase phase, const struct layer *rows, size_t count);
void layer_model_free(struct layer_model *model);

#endif
