/* SPDX-License-Identifier: MIT */
/* A model's latency from its layers: the joint timeline of a CPU that launches
 * and a GPU that executes (docs/DESIGN.md 5.1; FLAME, arXiv 2604.15357), fitted to layers
 * and corrected by measured totals, over a whole grid at once. */
#ifndef ESTIMATOR_TIMELINE_H
#define ESTIMATOR_TIMELINE_H

#include "grid.h"
#include "sample.h"

#define TIMELINE_TOTALS_MAX 48 /* measured totals that the fit uses: the first ones */

struct timeline;

/* Parameters learned in addition to those of the layers. */
struct timeline_facts {
	size_t layers, segments;
	double delay_ns;                         /* launch to start, d */
	uint32_t queue_depth;                    /* launches that may be in flight, Q; 0: the totals show no limit */
	double cpu_scale, gpu_scale;             /* true over measured layer time; 1 without totals */
	double tail_per_clock_ns, tail_fixed_ns; /* CPU work after the last sync, at cpu_reference_hz */
	double cpu_reference_hz;                 /* 0: unknown */
	size_t distinct[CLOCK_COUNT +
			1]; /* distinct values of each clock, and of the context, at which layers were measured */
	double total_error; /* root mean square of log(measured total / timeline); 0 without totals */
};

/* Fit layers of one phase (estimator/layerfit.h), then d, Q, the tail and two
 * scales to `totals` (end-to-end samples; those of other phases, or without
 * latency, are ignored; may be NULL) by least squares on log latency with weak priors, and lay out
 * tables for `grid`. Layer numbers count launch order from 0. Returns 0, or
 * -EINVAL (no usable layers of this phase, see layer_model_fit()) or -ENOMEM.
 * The caller frees `*out` with timeline_free(). */
int timeline_fit(const struct grid *grid, enum phase phase, const struct layer *layers, size_t layer_count,
		 const struct sample *totals, size_t total_count, struct timeline **out);
void timeline_free(struct timeline *timeline);

/* A timeline as plain bytes, for another process of the same program: the largest size for that number of layers; write
 * it to `out`; read it back from that size. NULL: out of memory, or not written for this grid and at most `layers`
 * layers. */
size_t timeline_packed_most(const struct grid *grid, size_t layers);
void timeline_pack(struct timeline *timeline, void *out);
struct timeline *timeline_unpack(const struct grid *grid, size_t layers, const void *in);

/* Bytes allocated; 0 for NULL. */
size_t timeline_bytes(const struct timeline *timeline);

/* The whole surface at a context: arrays of grid->points, in grid order, of
 * latency in ns, enum regime, and the time in ns that the GPU idles between
 * its executions (regime and bubble may be NULL). Allocates no memory. Between the contexts at which
 * layers were measured, growth is affine (run, decode) or quadratic (prefill). */
void timeline_surface(struct timeline *timeline, uint32_t context, float *latency_ns, uint8_t *regime,
		      float *bubble_ns);

/* The one definition of a regime: launch-bound where the CPU time of all launches, execution-bound where the GPU
 * time of all executions, is at least nine tenths of the latency; mixed where both or neither are. All in the same
 * unit. */
enum regime timeline_regime(double latency, double launch, double execution);

/* Latency in ns at any one point, on the grid or off it. */
double timeline_latency_ns(struct timeline *timeline, struct op_point point, uint32_t context);

struct timeline_facts timeline_facts(const struct timeline *timeline);

#endif
