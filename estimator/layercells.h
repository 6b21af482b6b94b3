/* SPDX-License-Identifier: MIT */
/* Measured layers of one phase by operating point and context: medians of their repetitions, for layerfit.c. */
#ifndef ESTIMATOR_LAYERCELLS_H
#define ESTIMATOR_LAYERCELLS_H

#include "layerfit.h"

#define LAYER_NOISE_FLOOR 0.003 /* least relative standard deviation of a measured time that is assumed */

/* One layer at one point and context. */
struct layer_cell {
	double cpu_ns, gpu_ns; /* medians; NAN: never measured */
	unsigned n;
	enum layer_source source; /* of all n */
};

/* The layers of one phase, at every point and context they were measured at. */
struct layer_observations {
	size_t layers, points;
	struct op_point point[LAYER_POINTS_MAX];
	uint32_t context[LAYER_POINTS_MAX];
	double slow[LAYER_POINTS_MAX][CLOCK_COUNT]; /* reference / clock */
	double log_slow[LAYER_POINTS_MAX][CLOCK_COUNT];
	double grown[LAYER_POINTS_MAX]; /* context / reference context */
	struct layer_cell *cell;        /* [layers][points] */
	bool *sync;                     /* [layers] */
	double cpu_noise, gpu_noise;    /* of one repetition; 0: there was only one */
	bool context_varies, squares;
};

/* Median of values[n], which it sorts; NAN where n is 0. */
double median(double *values, size_t n);

/* Gather the rows of a phase, and set `scale` to their geometric means. Returns 0, -ENOMEM, or -EINVAL: no rows of this
 * phase, a layer number of LAYERS_MAX or more, or a layer between 0 and the last that was never measured. The caller
 * zeroes `seen` first and frees it with layer_observations_free(), also after an error. */
int layer_observe(struct layer_observations *seen, enum phase phase, const struct layer *rows, size_t count,
		  struct clock_scale *scale);
void layer_observations_free(struct layer_observations *seen);

/* Number of distinct values of each clock, and of the context, at which layers were measured. */
void layer_distinct(const struct layer_observations *seen, size_t distinct[CLOCK_COUNT + 1]);

#endif
