/* SPDX-License-Identifier: MIT */
/* A model's latency from its layers: the joint timeline of a CPU that launches
 * and a GPU that executes (DESIGN 5.1; FLAME, arXiv 2604.15357), fitted to layers
 * and corrected by measured totals, over a whole grid at once. */
#ifndef ESTIMATOR_TIMELINE_H
#define ESTIMATOR_TIMELINE_H

#include "grid.h"
#include "sample.h"

#define TIMELINE_TOTALS_MAX 48 /* measured totals the fit looks at: the first ones */

struct timeline;

/* What was learned beside the layers themselves. */
struct timeline_facts {
	size_t layers, segments;
	double delay_ns;           /* launch to start, d */
	uint32_t queue_depth;      /* launches that may be in flight, Q; 0: no limit shows in the totals */
	double cpu_scale, gpu_scale; /* true over measured layer time; 1 without totals */
	double tail_per_clock_ns, tail_fixed_ns; /* CPU work after the last sync, at cpu_reference_hz */
	double cpu_reference_hz;   /* 0: unknown */
	size_t distinct[CLOCK_COUNT + 1]; /* values of each clock, and of the context, that layers were measured at */
	double total_error;        /* root mean square of log(measured total / timeline); 0 without totals */
};

/* Fit layers of one phase (estimator/layerfit.h), then d, Q, the tail and two
 * scales to `totals` (end-to-end samples; those of other phases, or without
 * latency, are passed over; may be NULL) by least squares on log latency with weak priors, and lay out
 * tables for `grid`. Layer numbers count launch order from 0. Returns 0, or
 * -EINVAL (no usable layers of this phase, see layer_model_fit()) or -ENOMEM.
 * `*out` is freed with timeline_free(). */
int timeline_fit(const struct grid *grid, enum phase phase, const struct layer *layers, size_t layer_count,
		 const struct sample *totals, size_t total_count, struct timeline **out);
void timeline_free(struct timeline *timeline);

/* The whole surface at a context: arrays of grid->points, in grid order, of
 * latency in ns, enum regime, and the time in ns that the GPU idles between
 * its executions (regime and bubble may be NULL). Takes no memory. A context is predicted from
 * what layers were measured at: affine (run, decode) or quadratic (prefill).
 * The regime is launch-bound where the CPU's own time, execution-bound where
 * the GPU's, is at least nine tenths of the latency; mixed where both or neither are. */
void timeline_surface(struct timeline *timeline, uint32_t context, float *latency_ns, uint8_t *regime, float *bubble_ns);

/* Latency in ns at any one point, on the grid or off it. */
double timeline_latency_ns(struct timeline *timeline, struct op_point point, uint32_t context);

struct timeline_facts timeline_facts(const struct timeline *timeline);

#endif
