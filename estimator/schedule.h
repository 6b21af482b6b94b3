/* SPDX-License-Identifier: MIT */
/* The joint timeline of launches and executions (docs/DESIGN.md 5.1) as a recurrence
 * over segments, for many (GPU, memory) settings at once. */
#ifndef ESTIMATOR_SCHEDULE_H
#define ESTIMATOR_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHEDULE_LANES        16 /* settings processed together; rows are padded to a multiple of it */
#define SCHEDULE_SEGMENTS_MAX 1024
#define SCHEDULE_PATHS_MAX    3 /* per segment */

/* A segment is one layer, or consecutive layers between two syncs. Over a
 * segment with launches c_1..c_m and executions g_1..g_m the joint timeline is
 * linear in the max-plus algebra:
 *   cpu' = cpu + sum c
 *   end' = max(end + sum g, cpu + max_j (c_1 + .. + c_j + d + g_j + .. + g_m))
 * A path is one j. For one layer that is docs/DESIGN.md 5.1 itself; for more the paths kept are
 * corners of the upper hull of (c_1 + .. + c_j, g_j + .. + g_m), the only ones
 * that can be longest when all launches, and all executions, scale alike. */
struct segment {
	uint32_t first, count; /* layers */
	uint32_t path;         /* number of its first path */
	uint8_t paths;
	bool sync; /* the CPU waits for its end */
};

/* Cut `layers` into segments of nearly equal length, at most SCHEDULE_SEGMENTS_MAX, never across a sync unless there
 * are more syncs than that (then waits inside a segment are ignored). `cpu_ns` and `gpu_ns` (per layer, at an
 * average point) rank the paths. `segment` holds SCHEDULE_SEGMENTS_MAX, `path_layer` SCHEDULE_SEGMENTS_MAX *
 * SCHEDULE_PATHS_MAX: the layer j of each path. Returns the number of segments; `*paths` becomes the number of
 * paths. */
size_t schedule_cut(const double *cpu_ns, const double *gpu_ns, const bool *sync, size_t layers,
		    struct segment *segment, uint32_t *path_layer, size_t *paths);

/* One CPU clock against `stride` (GPU, memory, context) settings. */
struct launch_schedule {
	const struct segment *segment;
	size_t segments;
	size_t queue;           /* segments that may be in flight; SCHEDULE_SEGMENTS_MAX or more: no limit */
	float delay;            /* launch to start, d */
	const float *cpu_total; /* [segments]: sum of c */
	const float *cpu_lead;  /* [paths]: c_1 + .. + c_j */
	const float *gpu_total; /* [segments][stride]: sum of g */
	const float *gpu_rest;  /* [paths][stride]: g_j + .. + g_m */
	size_t stride;          /* a multiple of SCHEDULE_LANES */
};

/* end[lane]: when the last execution ends, in the unit of the inputs, for the
 * SCHEDULE_LANES settings from `lane0` on. Takes about a nanosecond per segment and four settings. */
void schedule_lanes(const struct launch_schedule *schedule, size_t lane0, float end[SCHEDULE_LANES]);

#endif
