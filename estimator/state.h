/* SPDX-License-Identifier: MIT */
/* What the files of one model share; nothing outside the estimator includes it. */
#ifndef ESTIMATOR_STATE_H
#define ESTIMATOR_STATE_H

#include "correct.h"
#include "fit.h"
#include "model.h"
#include "power.h"
#include "timeline.h"

#define NO_CELL UINT32_MAX

#define KNOT_OFFSET   64.0 /* tokens; from there on knots are */
#define KNOT_STEP     0.35 /* apart in log: interpolated log latency is off by less than 0.4 % */
#define CONTEXT_REACH 0.5  /* over which a measured cell speaks for another context */

/* One place that was measured: phase, operating point and about one context. */
struct cell {
	struct op_point point;
	uint32_t context;
	enum phase phase;
	uint32_t next;  /* cell of the same phase and nearest grid point */
	size_t nearest; /* grid point */
	bool off_grid;
	uint32_t n;                          /* inferences */
	double mean;                         /* of log ns, without slow-down */
	double var;                          /* of mean */
	double single_var;                   /* of one inference; 0: unknown */
	double max_log;                      /* largest seen, log ns; 0: unknown */
	double fitted;                       /* mean when the fit last looked */
	double power_uw;                     /* 0: unknown */
	double power_n;                      /* readings that it rests on */
	double power_fitted, power_fitted_n; /* when the fit last looked */
};

_Static_assert(sizeof(struct cell) == MODEL_SAMPLE_BYTES, "thousands are kept");

struct cells {
	struct cell *cell; /* [SAMPLES_MAX] */
	uint32_t count;
	uint32_t *first[PHASE_COUNT]; /* [grid->points]: cell + 1, 0: none */
};

/* The cell of this very point at about this context; NO_CELL: none. */
uint32_t cells_find(const struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		    struct op_point point);
/* The cell of this very point that was measured at the nearest context, within CONTEXT_REACH; NO_CELL: none.
 * `gap`: how far that is, in context_log(). */
uint32_t cells_near(const struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		    struct op_point point, double *gap);
/* A new cell, empty; NO_CELL when there is no room. */
uint32_t cells_add(struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		   struct op_point point);
/* Bring in a measurement of n inferences. */
void cell_learn(struct cell *cell, const struct sample *sample);
/* Bring in a power that rests on n readings. */
void cell_learn_power(struct cell *cell, double power_uw, double n);
/* Along which the log of latency is nearly straight. */
double context_log(uint32_t context);
/* Contexts that are close enough to share a cell: within a sixteenth; the highest of them. */
uint32_t context_band(uint32_t context);
/* To share a surface: within a sixty-fourth. */
uint32_t context_step(uint32_t context);
/* The contexts on both sides of one at which surfaces are made from the fit; in between
 * they are interpolated. Equal where the context is one of them. */
void context_knots(uint32_t context, uint32_t *low, uint32_t *high);

/* Layers of all phases, sorted by phase, context, point, layer and repetition. */
struct layer_store {
	struct layer_place *place; /* distinct phases, contexts and points of the rows */
	struct layer_row *row;
	size_t places, count;
};

struct layer_place {
	enum phase phase;
	uint32_t context;
	struct op_point point;
};

struct layer_row {
	uint64_t cpu_ns, gpu_ns;
	uint32_t place;
	uint16_t layer;
	uint8_t rep;
	uint8_t source : 7, sync : 1; /* enum layer_source */
};
_Static_assert(sizeof(struct layer_row) == MODEL_LAYER_BYTES, "tens of thousands are kept");
_Static_assert(LAYERS_MAX <= UINT16_MAX + 1 && LAYER_REPS_MAX <= UINT8_MAX && (int)LAYER_SOURCES < 128, "layer_row");

/* Keeps LAYER_REPS_MAX inferences at one point and context, the first ones, and renumbers them;
 * more are passed over. One inference by itself is passed over, too, when that many are kept at
 * contexts about its own, or when LAYER_PLACES_MAX places are known and it is at none of them.
 * `added` is set for each phase that may have grown. Returns 0, -EINVAL (phase, or a layer of
 * LAYERS_MAX or more), -ENOSPC (over `most` rows) or -ENOMEM; then nothing was kept. */
int layer_store_add(struct layer_store *store, const struct layer *layers, size_t count, size_t most,
		    bool added[PHASE_COUNT]);
/* One row, as it was added. */
struct layer layer_store_row(const struct layer_store *store, size_t i);
size_t layer_store_bytes(const struct layer_store *store);
/* A copy the caller frees. Returns the count or -ENOMEM. */
long layer_store_copy(const struct layer_store *store, struct layer **out);
void layer_store_free(struct layer_store *store);

struct slot {
	struct surface surface; /* its arrays are the slot's */
	void *arrays;           /* NULL: never used, or given up */
	float *log_ns, *sd;     /* fit with the cells' corrections */
	float *limit;           /* log of what physics allows; inf: nothing measured speaks */
	double noise;           /* scatter its bounds were made with */
	uint64_t used;          /* when; 0: empty */
	uint64_t generation;    /* of the fit it was made from */
	uint64_t judged;        /* model->news + 1 when its state was last looked at; 0: never */
	uint64_t scatter_of;    /* the same of the scatter it shows */
};

#define REFIT_ROWS_QUICK   12 /* a fit of at most this many rows takes well under a millisecond */
#define REFIT_PATIENCE     16
#define REFIT_PATIENCE_MAX 1024

struct phase_state {
	bool any;          /* something was measured */
	bool stale;        /* the fit does not know all deliberate samples */
	uint32_t patience; /* requests between two refits that take long; doubles with each */
	uint32_t since;    /* requests since the fit */
	uint32_t fresh;    /* cells that requests came to first since the fit */
	double drift;      /* largest change of a cell since the fit, in its uncertainty */
	uint64_t generation;
	enum surface_state told;   /* of the newest surface */
	double recent;             /* log ns of requests, decaying mean */
	bool layers;               /* some were measured */
	double inherited_sd;       /* of the rows that the newest fit took from model->inherited; 0: none */
	struct timeline *timeline; /* of them; NULL: none, or they do not fit what was measured end to end */
	struct fit *fit;           /* NULL: none yet, or given up */
	struct power_model power;
};

static inline bool has_fit(const struct phase_state *state)
{
	return state->fit && state->fit->modes;
}

struct model {
	struct grid grid;
	struct model_options options;
	struct cells cells;
	struct layer_store layers;
	struct correct correct;
	double power_var; /* of one reading, relative */
	struct phase_state phase[PHASE_COUNT];
	struct slot slot[SURFACES_MAX];
	struct slot blank;       /* what nothing is known of */
	size_t derived;          /* bytes of fits, timelines and surfaces */
	struct model *inherited; /* what other boards measured; NULL: nothing */
	uint64_t clock;          /* counts uses of slots */
	uint64_t news;           /* counts requests observed */
	uint64_t rejected;       /* samples that contradicted what is known */
	uint32_t against;        /* weight of those in a row */
};

/* model.c */
/* Memory for what is derived was taken and given back. */
void model_count(struct model *model, size_t taken, size_t given_back);
/* Refit if something was learned that the fit should know. */
void model_renew(struct model *model, enum phase phase);
/* The fit of a phase, with its memory taken; NULL when there is none. */
struct fit *model_fit(struct model *model, enum phase phase);

/* inherit.c */
/* Rows of other boards for a fit that has `rows` of this one's. Returns how many there are now. */
size_t inherit_rows(struct model *model, enum phase phase, size_t rows);
/* The same for its power: rows of what they drew. */
size_t inherit_power(struct model *model, enum phase phase, struct power_row *row, size_t rows);

/* surface.c */
/* Without layers it takes a millisecond or so. */
void model_refit(struct model *model, enum phase phase, bool with_layers);
void surface_build(struct model *model, struct slot *slot, enum phase phase, uint32_t context);
/* The same from two surfaces of the same phase around this context, in a hundredth of the time. */
void surface_blend(struct model *model, struct slot *slot, const struct slot *low, const struct slot *high,
		   uint32_t context);
/* By how much log latency at a point grows from one context to another. */
double surface_growth_log(const struct model *model, enum phase phase, struct op_point point, uint32_t from,
			  uint32_t to);
void surface_judge(struct model *model, struct slot *slot);
/* Recompute the bounds if the scatter has changed much. */
void surface_rebound(struct model *model, struct slot *slot);
/* A cell moved: carry it into the resident surfaces, fading with distance. */
void surface_nudge(struct model *model, const struct cell *cell, double change);
/* Bounds follow slow-down and scatter. */
double surface_noise_log(const struct model *model);
/* Any point, on the grid or off it. */
struct forecast {
	double log_ns, bound_log, power_uw, idle_uw;
	enum bound_source source;
	double sd, limit;
};
struct forecast surface_forecast(const struct model *model, enum phase phase, uint32_t context, struct op_point point);

#endif
