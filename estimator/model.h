/* SPDX-License-Identifier: MIT */
/* One model: what was measured of it, the fit, and its surfaces. The only
 * header of the estimator that the daemon and the governor need, next to
 * grid.h and sample.h. Pure: no I/O, no time, no globals; memory is taken in
 * model_new(), model_learn_*() and for surfaces, never in model_observe(). */
#ifndef ESTIMATOR_MODEL_H
#define ESTIMATOR_MODEL_H

#include "grid.h"
#include "sample.h"

enum surface_state {
	SURFACE_NONE,         /* nothing measured */
	SURFACE_LEARNING,     /* bound not yet tight enough; usable, with wide bounds */
	SURFACE_EXTRAPOLATED, /* told only: tight, but over half of the points have no measurement near */
	SURFACE_READY
};

enum regime { REGIME_UNKNOWN, REGIME_LAUNCH_BOUND, REGIME_EXECUTION_BOUND, REGIME_MIXED };

/* Where the bound of a cell comes from. */
enum bound_source {
	BOUND_ENVELOPE,  /* no time can grow faster than the slowest clock's ratio to a measured point */
	BOUND_FIT,       /* predicted x upper quantile of actual / predicted of the fit */
	BOUND_NEIGHBOUR, /* fit corrected by measured cells near by */
	BOUND_CELL       /* the cell's own upper quantile */
};

/* Bins of the measured scatter. */
#define LATE_LOW  (-4.0f)
#define LATE_STEP 0.125f
#define LATE_BINS 113 /* up to 10 */

/* Predicted at every grid point, flat arrays of grid->points, owned by the
 * model; valid until the next call that is not `const` on the same model. */
struct surface {
	const struct grid *grid;
	enum surface_state state; /* for decisions, which ask about single points: LEARNING or READY */
	enum surface_state told;  /* for users, who take it for the whole surface */
	enum phase phase;
	uint32_t context;
	float *latency_ns;    /* expected, without contention */
	float *bound_ns;      /* upper bound, without contention; always >= latency_ns */
	float *power_uw;      /* while the model runs back to back; relative cost when power_known is false */
	float *idle_power_uw; /* at these clocks with nothing running; same scale */
	uint8_t *source;      /* enum bound_source */
	uint8_t *regime;      /* enum regime */
	uint32_t *measured;   /* inferences seen at this point and (about) this context */
	float *bubble_ns;     /* time the GPU idles between executions; 0 without layers */
	bool power_known;     /* false: no sensor, the documented relative cost */
	float *log_ns;        /* log of latency_ns */
	float *sd;            /* deviation of log_ns: what is not known of the point, slow-down aside */
	float slow_sd;        /* the same of the slow-down, */
	float noise_sd;       /* and of one request about what is expected */
	float noise_log;      /* measured quantile of that, at options.quantile */
	/* measured chance that a request is over what is expected by LATE_LOW + k x LATE_STEP
	 * noise_sd */
	float late[LATE_BINS];
	double slowdown;       /* contention and temperature: expected actual / predicted; >= 1 mostly */
	double slowdown_bound; /* factor to put on bound_ns for it: one standard deviation above */
};

struct model_options {
	double quantile;            /* of actual / predicted that bounds a request: 0.98 default, (0.5, 0.9999] */
	double ready_width;         /* surface is ready when mean bound / latency - 1 is below: 0.12 default */
	uint32_t context_max;       /* tokens: the longest context that model_plan() asks for: 4,096 default */
	size_t layers_max;          /* rows of layers kept: LAYERS_KEPT_MAX default */
	uint32_t layers_fitted_max; /* layers of one inference of which a timeline is made: LAYERS_MAX default */
	bool power_sensor;          /* false: power_uw of samples is ignored */
	size_t *derived_bytes; /* running total of model_derived_bytes() of the models with these options; NULL: none */
	struct board_powers board; /* what the board drew under other work: for the power of models with few samples */
};

struct model;

/* of one sample and of one layer */
#define MODEL_SAMPLE_BYTES 128
#define MODEL_LAYER_BYTES  24
/* Bytes that a model holds: of samples and layers, and of what follows from them. */
size_t model_measured_bytes(const struct model *model);
size_t model_derived_bytes(const struct model *model);

/* Give up what follows from samples and layers: fits, timelines and surfaces, also those given out. The next use makes
 * them again. */
void model_shed(struct model *model);

void model_options_default(struct model_options *options);

/* New model over a grid (copied). NULL when out of memory. */
struct model *model_new(const struct grid *grid, const struct model_options *options);
void model_free(struct model *model);

/* A deliberate measurement, or a stored one. Points off the grid are allowed.
 * Returns 0, -EINVAL, -ENOSPC (SAMPLES_MAX) or -ENOMEM. */
int model_learn_sample(struct model *model, const struct sample *sample);

/* Can a latency be, after what was measured? No time grows faster than the slowest clock's ratio to
 * a measured point or falls faster than the quickest one's, and none is shorter than a microsecond:
 * what lies under that by a factor of 4, or over it by 8, is counted here and not to be learned. At
 * most some 10 us. */
bool model_allows(struct model *model, enum phase phase, uint32_t context, struct op_point point, uint64_t latency_ns);

/* Number of measurements that model_allows() refused; and whether enough of them in a row were refused that the model
 * must be wrong. */
uint64_t model_rejected(const struct model *model);
bool model_refuted(const struct model *model);

/* The same asked of the measured points among themselves. False: the latency at `*a` cannot be, given that at `*b`. */
bool model_consistent(const struct model *model, struct op_point *a, struct op_point *b);

/* What other boards of the kind measured: a model over the same grid, owned from now on, instead of the last one;
 * NULL: none. Its cells enter each fit beside this model's own, moved by the mean difference of the two and as
 * uncertain as they have proved to be at this model's own cells: each contradiction takes weight from all of them,
 * and where they are off by more than INHERITED_OFF they are left out. Alone it says nothing: without a measurement
 * of its own a model is unknown. */
void model_inherit(struct model *model, struct model *from);
/* Does the newest fit of a phase rest on it? `*sd`, if so: how far off it is taken to be, log. */
bool model_inherited(const struct model *model, enum phase phase, double *sd);

/* As new, but for the count of what was rejected. Surfaces given out are no longer valid. */
void model_forget(struct model *model);

/* Layers of one or more whole inferences, numbered from 0 in launch order. Five inferences at a
 * point and context are kept, more are passed over. The next surface rests on their timeline
 * (estimator/timeline.h), corrected by what was measured end to end; layers that contradict that by
 * over 15 % are left alone. Returns 0, -EINVAL, -ENOSPC (LAYERS_KEPT_MAX) or -ENOMEM. */
int model_learn_layers(struct model *model, const struct layer *layers, size_t count);

/* Whether a place is among the samples already. */
bool model_has_sample(const struct model *model, enum phase phase, uint32_t context, struct op_point point);

/* A finished request, at the point that was in force throughout. Updates the cell, its neighbours
 * and the slow-down; at most 20 us, refitting at most every few dozen calls or when the prediction
 * was far off. extra_var: variance of the log of latency_ns beside the scatter of requests, for example
 * where latency_ns was corrected for requests that ran at the same time; 0: none. power_uw: mean of
 * `readings` readings, spread evenly over the request; 0: not measured. Returns 0 or -EINVAL. */
int model_observe(struct model *model, enum phase phase, uint32_t context, struct op_point point, uint64_t latency_ns,
		  double extra_var, uint64_t power_uw, uint32_t readings);

/* The surface at a phase and context, refitted if something was learned.
 * Never NULL; with nothing measured, or out of memory, state is
 * SURFACE_NONE and latency_ns is 0 everywhere. A context never measured is
 * predicted between and modestly beyond those that were. The surface returned is that of
 * a context up to a sixty-fourth longer, so that a growing decode finds it made; the next one
 * takes an interpolation, or at contexts a factor of 1.4 apart a pass over the grid, but no fit. */
const struct surface *model_surface(struct model *model, enum phase phase, uint32_t context);

/* The non-blocking variant: what of it takes milliseconds (a fit of many rows or of layers, a pass over the grid) is
 * left to model_work(), and meanwhile the surface is that of the fit before. */
const struct surface *model_surface_at_hand(struct model *model, enum phase phase, uint32_t context);

/* The variant that makes nothing: the surface of that context, or of the nearest longer one, that is in memory; else
 * one of state SURFACE_NONE. */
const struct surface *model_surface_kept(struct model *model, enum phase phase, uint32_t context);

/* Whether model_surface_at_hand() left anything out for this phase and context. */
bool model_work_due(struct model *model, enum phase phase, uint32_t context);

/* One piece of it, at most some milliseconds. Returns whether there was one: call again when there is time. */
bool model_work(struct model *model, enum phase phase, uint32_t context);

enum surface_state model_state(const struct model *model, enum phase phase);
/* The best of its phases. */
enum surface_state model_best_state(const struct model *model);

/* One point, on the grid or off it; for `flamectl predict`. Refits if something was
 * learned. Returns 0, -ENODATA with nothing measured in this phase, or -ENOMEM. */
struct prediction {
	double latency_ns, bound_ns, power_uw, idle_power_uw;
	bool power_known;
};
int model_predict(struct model *model, enum phase phase, uint32_t context, struct op_point point,
		  struct prediction *out);

/* The next point (and context) worth measuring: by what the fit is least sure of and what the
 * governor is likely to use. `allowed` (grid->points bytes, or NULL) marks points that may be
 * visited. `*context` on entry: CONTEXT_ANY (up to context_max), or the only one that can be
 * measured; with PHASE_RUN it is not looked at. Returns 1, or 0 when the bound is tight enough and
 * `*gain` (expected shrink of the mean bound, 0 to 1) is not worth a measurement. */
#define CONTEXT_ANY UINT32_MAX
int model_plan(struct model *model, enum phase phase, const uint8_t *allowed, struct op_point *point, uint32_t *context,
	       double *gain);

/* Of listed points (and contexts) of one phase, the `budget` most worth measuring next, best first, each
 * given those before it; those with a latency of 0 in `pending` are on order already. chosen[] becomes indices
 * into `points`. Returns how many, at most budget: fewer when the list is used up. */
size_t model_plan_list(struct model *model, enum phase phase, const struct sample *points, size_t count,
		       const struct sample *pending, size_t pending_count, size_t budget, size_t *chosen);

/* What is known, as samples (cells aggregated), for storing: a new array the
 * caller frees. Loading them with model_learn_sample() gives the same surface.
 * Returns the count or -ENOMEM. */
long model_samples(const struct model *model, struct sample **out);
long model_layers(const struct model *model, struct layer **out);
size_t model_layer_count(const struct model *model); /* rows of them */

/* What model_samples() would give, counted. */
struct model_summary {
	uint32_t samples, contexts; /* contexts: distinct ones, of each phase by itself */
	bool phase[PHASE_COUNT];    /* that has any */
};
struct model_summary model_summary(const struct model *model);

#endif
