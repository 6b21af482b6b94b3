/* SPDX-License-Identifier: MIT */
/* One model: its measurements, the fit, and its surfaces. The only
 * header of the estimator that the daemon and the governor need, next to
 * grid.h and sample.h. Pure: no I/O, no time, no globals; memory is allocated in
 * model_new(), model_learn_*() and for surfaces, never in model_observe(). */
#ifndef ESTIMATOR_MODEL_H
#define ESTIMATOR_MODEL_H

#include "grid.h"
#include "sample.h"

enum surface_state {
	SURFACE_NONE,         /* nothing measured */
	SURFACE_LEARNING,     /* bound not yet tight enough; usable, with wide bounds */
	SURFACE_EXTRAPOLATED, /* only in `shown`: tight, but over half of the points have no measurement near */
	SURFACE_READY
};

enum regime { REGIME_UNKNOWN, REGIME_LAUNCH_BOUND, REGIME_EXECUTION_BOUND, REGIME_MIXED };

/* Where the bound of a cell comes from. */
enum bound_source {
	BOUND_ENVELOPE,  /* a latency grows at most by the largest ratio of clocks to a measured point */
	BOUND_FIT,       /* predicted x upper quantile of actual / predicted of the fit */
	BOUND_NEIGHBOUR, /* fit, corrected by measured cells nearby */
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
	enum surface_state state; /* for decisions, which use single points: LEARNING or READY */
	enum surface_state shown; /* for users: of the surface as a whole */
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
	float *sd;            /* standard deviation of log_ns at the point, slow-down aside */
	float slow_sd;        /* standard deviation of the log of the slow-down, */
	float noise_sd;       /* and of one request about its expected latency */
	float noise_log;      /* measured quantile of that, at options.quantile */
	/* measured chance that the log latency of a request is over the expected one by LATE_LOW + k x LATE_STEP
	 * noise_sd */
	float late[LATE_BINS];
	double slowdown;       /* contention and temperature: expected actual / predicted; >= 1 mostly */
	double slowdown_bound; /* factor to put on bound_ns for it: one standard deviation above */
};

/* share of requests that an upper bound covers: what flamed promises of one request unless configured otherwise */
#define QUANTILE_DEFAULT 0.98

struct model_options {
	double quantile;            /* of actual / predicted that bounds a request: QUANTILE_DEFAULT, (0.5, 0.9999] */
	double ready_width;         /* surface is ready when mean bound / latency - 1 is below: 0.12 default */
	uint32_t context_max;       /* tokens: the longest context that model_plan() asks for: 4,096 default */
	size_t layers_max;          /* rows of layers kept: LAYERS_KEPT_MAX default */
	uint32_t layers_fitted_max; /* layers of one inference of which a timeline is made: LAYERS_MAX default */
	bool power_sensor;          /* false: power_uw of samples is ignored */
	size_t *derived_bytes; /* running total of model_derived_bytes() of the models with these options; NULL: none */
	struct board_powers board; /* power measured under other models: for models with few samples */
};

struct model;

/* of one sample and of one layer */
#define MODEL_SAMPLE_BYTES 128
#define MODEL_LAYER_BYTES  24
/* Bytes that a model holds: for samples and layers, and for fits, timelines and surfaces derived from them. */
size_t model_measured_bytes(const struct model *model);
size_t model_derived_bytes(const struct model *model);

/* Free fits, timelines and surfaces, also surfaces that were returned. The next use derives them again from samples and
 * layers. */
void model_shed(struct model *model);

void model_options_default(struct model_options *options);

/* New model over a grid (copied). NULL when out of memory. */
struct model *model_new(const struct grid *grid, const struct model_options *options);
void model_free(struct model *model);

/* A deliberate measurement, or a stored one. Points off the grid are allowed.
 * Returns 0, -EINVAL, -ENOSPC (SAMPLES_MAX) or -ENOMEM. */
int model_learn_sample(struct model *model, const struct sample *sample);

/* Whether a latency is plausible. Relative to a measured point, latency grows at most by the largest ratio of clocks
 * and falls at most by the smallest; it is never under a microsecond. A latency under that range by a factor of 4, or
 * over it by 8, is refused and, by model_allows(), counted; it must not be learned. Takes about 10 us. */
bool model_plausible(const struct model *model, enum phase phase, uint32_t context, struct op_point point,
		     uint64_t latency_ns);
bool model_allows(struct model *model, enum phase phase, uint32_t context, struct op_point point, uint64_t latency_ns);

/* Count a measurement that something else contradicts. */
void model_reject(struct model *model);
/* Number of measurements that were refused. */
uint64_t model_rejected(const struct model *model);
/* Whether the model itself must be wrong: model_allows() refused too many measurements in succession. */
bool model_refuted(const struct model *model);

/* The same check among the measured points. False: the latency at `*a` is not plausible, given that at `*b`. */
bool model_consistent(const struct model *model, struct op_point *a, struct op_point *b);

/* Measurements of other boards of the same kind: a model over the same grid, which is owned from now on and replaces
 * the previous one; NULL: none. Its cells enter each fit beside this model's own, with an error that they share: in
 * level and in the slope over each axis, as large as the two differ at this model's own cells. If that is twice what is
 * expected of boards of one kind, they are left out. A model without a measurement of its own remains unknown. */
void model_inherit(struct model *model, struct model *from);
/* Whether the newest fit of a phase uses inherited cells; if so, `*sd` is their standard deviation, in log. */
bool model_inherited(const struct model *model, enum phase phase, double *sd);

/* Reset all but the count of rejected samples. Surfaces that were returned are no longer valid. */
void model_forget(struct model *model);

/* Layers of one or more whole inferences, numbered from 0 in launch order. Five inferences at a
 * point and context are kept, further ones ignored. The next surface is based on their timeline
 * (estimator/timeline.h), corrected by end-to-end measurements; layers that contradict these by
 * over 15 % are not used. Returns 0, -EINVAL, -ENOSPC (LAYERS_KEPT_MAX) or -ENOMEM. */
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

/* The surface at a phase and context, refitted if something was learned. Never NULL; with nothing measured, or out of
 * memory, the state is SURFACE_NONE and latency_ns is 0 everywhere. Contexts are interpolated, and extrapolated
 * modestly. The surface is that of a context up to a sixty-fourth longer, so that a growing decode shares it; the next
 * one costs an interpolation, or at contexts a factor of 1.4 apart a pass over the grid, but no fit. */
const struct surface *model_surface(struct model *model, enum phase phase, uint32_t context);

/* The non-blocking variant: steps that take milliseconds (a fit but for the first, a pass over the grid) are left to
 * model_work(); until then the surface is that of the previous fit. */
const struct surface *model_surface_at_hand(struct model *model, enum phase phase, uint32_t context);

/* The variant that computes nothing: the surface in memory of that context or the nearest longer one; without one, a
 * surface of state SURFACE_NONE. */
const struct surface *model_surface_kept(struct model *model, enum phase phase, uint32_t context);

/* Whether the last fit was of few rows, and none of layers, so that the next one takes some milliseconds. */
bool model_refits_quickly(const struct model *model, enum phase phase);

/* Whether model_surface_at_hand() left work for this phase and context. */
bool model_work_due(struct model *model, enum phase phase, uint32_t context);

/* Do one step of that work, at most some milliseconds. Returns whether there was one; call again when there is time. */
bool model_work(struct model *model, enum phase phase, uint32_t context);

/* Whether model_surface_at_hand() takes no long step for this phase and context. */
bool model_surface_is_at_hand(struct model *model, enum phase phase, uint32_t context);

/* Whether the next fit has many layers and would take up to a quarter of a second in model_work(), model_surface() or
 * model_plan(). All that model_work() does can be made by another process, a fork(2) of this one. */
bool model_work_apart(const struct model *model, enum phase phase);
/* Size of the result, in zeroed memory that both processes share. */
size_t model_apart_bytes(const struct model *model);
/* In the other process: make the fit, and the surfaces of a context, and leave them in `out`. */
void model_make_apart(struct model *model, enum phase phase, uint32_t context, void *out);
/* In this process: take them over, in a fraction of a millisecond. If the other process was killed, zeros are read as a
 * fit that found no timeline, and the rest is made here. */
void model_adopt(struct model *model, enum phase phase, uint32_t context, const void *in);

enum surface_state model_state(const struct model *model, enum phase phase);
/* The best state of its phases. */
enum surface_state model_best_state(const struct model *model);

/* One point, on the grid or off it; for `flamectl predict`. Refits if something was
 * learned. Returns 0, -ENODATA with nothing measured in this phase, or -ENOMEM. */
struct prediction {
	double latency_ns, bound_ns, power_uw, idle_power_uw;
	bool power_known;
};
int model_predict(struct model *model, enum phase phase, uint32_t context, struct op_point point,
		  struct prediction *out);

/* The next point (and context) worth measuring, by the uncertainty of the fit and the likelihood that the governor uses
 * the point. `allowed` (grid->points bytes, or NULL) marks points that may be visited. `*context` on entry: CONTEXT_ANY
 * (up to context_max), or the only one that can be measured; ignored for PHASE_RUN. Returns 1, 0 when the bound is
 * tight enough and `*gain` (expected reduction of the mean bound, 0 to 1) is not worth a measurement, or -ENOMEM. */
#define CONTEXT_ANY UINT32_MAX
int model_plan(struct model *model, enum phase phase, const uint8_t *allowed, struct op_point *point, uint32_t *context,
	       double *gain);

/* Whether that takes more than about a millisecond. */
bool model_plan_is_long(const struct model *model);

/* Of the points (and contexts) listed, all of one phase, the `budget` most worth measuring next, best first, each given
 * those before it. Points in `pending` with a latency of 0 are being measured already. chosen[] becomes indices into
 * `points`. Returns the number chosen, less than budget if the list is used up. */
size_t model_plan_list(struct model *model, enum phase phase, const struct sample *points, size_t count,
		       const struct sample *pending, size_t pending_count, size_t budget, size_t *chosen);

/* Samples and layers of a model that has learned nothing from requests, as plain bytes for another process of the same
 * program. Their largest size: */
size_t model_image_bytes(const struct grid *grid, const struct model_options *options);
void model_image_put(const struct model *model, void *out);
/* Read them into an empty model over the same grid; `in` has model_image_bytes(). Returns 0, -ENOMEM, or -EINVAL where
 * no model could have put them: the other process reads files of others. After an error the model is empty. */
int model_image_take(struct model *model, const void *in);

/* The measurements as samples (cells aggregated), for storing: a new array that the caller frees. Loading them with
 * model_learn_sample() gives the same surface. Returns the count or -ENOMEM. */
long model_samples(const struct model *model, struct sample **out);
long model_layers(const struct model *model, struct layer **out);
size_t model_layer_count(const struct model *model); /* rows of them */

/* Counts of the samples that model_samples() would return. */
struct model_summary {
	uint32_t samples, contexts; /* contexts: those a sixteenth apart count as one; counted for each phase */
	bool phase[PHASE_COUNT];    /* phases with samples */
};
struct model_summary model_summary(const struct model *model);

#endif
