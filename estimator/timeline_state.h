/* SPDX-License-Identifier: MIT */
/* The parts of a timeline, for the files that make it and hand it over. */
#ifndef ESTIMATOR_TIMELINE_STATE_H
#define ESTIMATOR_TIMELINE_STATE_H

#include "layerfit.h"
#include "schedule.h"
#include "timeline.h"

#define ORDERS 3 /* powers of context that execution is a polynomial of */

/* Parameters fitted to totals, all logs. */
enum { CPU_SCALE, GPU_SCALE, DELAY, TAIL_PER_CLOCK, TAIL_FIXED, PARAMS };

/* Execution times in columns, one for each (GPU, memory) setting; one array for each power of context. */
struct columns {
	size_t count, stride, orders;
	float *total[ORDERS]; /* [segments][stride] */
	float *rest[ORDERS];  /* [paths][stride] */
};

#define STRIP_MAX ((TIMELINE_TOTALS_MAX + SCHEDULE_LANES - 1) / SCHEDULE_LANES * SCHEDULE_LANES)

/* A few single points, each with its own CPU clock and context. */
struct strip {
	struct columns columns;
	float grown[STRIP_MAX];      /* context / reference context, a column */
	float *total, *rest;         /* columns at their contexts */
	float *cpu_total, *cpu_lead; /* one CPU clock at a time */
};

struct timeline {
	struct grid grid;
	struct layer_model model;
	struct segment *segment;
	uint32_t *path_layer;
	size_t segments, paths, orders;
	struct columns base;         /* of the grid */
	float *total, *rest, *sum;   /* base at one context; sum over segments [stride] */
	uint32_t context;            /* that context */
	bool combined;               /* total, rest and sum hold it */
	float *cpu_total, *cpu_lead; /* [grid cpu][segments], [grid cpu][paths], scaled by cpu_scale / gpu_scale */
	struct strip single;         /* for points off the grid */
	double param[PARAMS];
	size_t queue; /* layers in flight; SIZE_MAX: unlimited */
	double total_error;
};

static inline size_t timeline_padded(size_t count)
{
	return (count + SCHEDULE_LANES - 1) / SCHEDULE_LANES * SCHEDULE_LANES;
}

/* Memory for the tables, by the counts of `timeline`. Returns 0 or -ENOMEM; timeline_free() frees them either way. */
int timeline_tables_new(struct timeline *timeline);

#endif
