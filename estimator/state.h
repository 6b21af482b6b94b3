/* SPDX-License-Identifier: MIT */
/* State of a model, shared by the files of the estimator; no other room includes it. */
#ifndef ESTIMATOR_STATE_H
#define ESTIMATOR_STATE_H

#include "correct.h"
#include "fit.h"
#include "model.h"
#include "power.h"
#include "timeline.h"

#define NO_CELL UINT32_MAX

#define KNOT_OFFSET   64.0 /* tokens; the first knot */
#define KNOT_STEP     0.35 /* distance of knots in log: the error of interpolated log latency is below 0.4 % */
#define CONTEXT_REACH 0.5  /* distance of contexts over which a measured cell applies to another */

/* One place that was measured: a phase, an operating point, and contexts close to one. */
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
	double fitted;                       /* mean at the last fit */
	double power_uw;                     /* 0: unknown */
	double power_n;                      /* readings */
	double power_fitted, power_fitted_n; /* at the last fit */
};

_Static_assert(sizeof(struct cell) == MODEL_SAMPLE_BYTES, "thousands are kept");

struct cells {
	struct cell *cell; /* [SAMPLES_MAX] */
	uint32_t count;
	uint32_t *first[PHASE_COUNT]; /* [grid->points]: cell + 1, 0: none */
};

/* The cell of exactly this point and about this context; NO_CELL: none. */
uint32_t cells_find(const struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		    struct op_point point);
/* The cell of exactly this point with the nearest context, within CONTEXT_REACH; NO_CELL: none. `gap`: its distance, in
 * context_log(). */
uint32_t cells_near(const struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		    struct op_point point, double *gap);
/* A new, empty cell; NO_CELL if the table is full. */
uint32_t cells_add(struct cells *cells, const struct grid *grid, enum phase phase, uint32_t context,
		   struct op_point point);
/* Add a measurement of n inferences. */
void cell_learn(struct cell *cell, const struct sample *sample);
/* Add the mean power of n readings. */
void cell_learn_power(struct cell *cell, double power_uw, double n);
/* Its power is now that of the fit. */
void cell_power_fitted(struct cell *cell);
/* A scale of context in which log latency is nearly linear. */
double context_log(uint32_t context);
/* The highest context that shares a cell with this one: within a sixteenth. */
uint32_t context_band(uint32_t context);
/* A number of its own for each, below CONTEXT_BANDS; contexts of 0 and 1 token have those of nothing and of 8. */
uint32_t context_band_number(uint32_t context);
#define CONTEXT_BANDS 320 /* up to CONTEXT_TOKENS_MAX, where the step has doubled 17 times */
/* The same for sharing a surface: within a sixty-fourth. */
uint32_t context_step(uint32_t context);
/* The knots on both sides of a context: surfaces are made from the fit at knots and interpolated in between. Equal if
 * the context is a knot. */
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

/* Keeps the first LAYER_REPS_MAX inferences at one point and context, renumbered; further ones are ignored. A single
 * inference is also ignored if that many are kept at contexts close to its own, or if LAYER_PLACES_MAX places are known
 * and its own is not among them. `added` is set for each phase that may have grown. Returns 0, -EINVAL (phase, or a
 * layer of LAYERS_MAX or more), -ENOSPC (over `most` rows) or -ENOMEM; after an error nothing is kept. */
int layer_store_add(struct layer_store *store, const struct layer *layers, size_t count, size_t most,
		    bool added[PHASE_COUNT]);
/* One row, as it was added. */
struct layer layer_store_row(const struct layer_store *store, size_t i);
size_t layer_store_bytes(const struct layer_store *store);
/* A copy the caller frees. Returns the count or -ENOMEM. */
long layer_store_copy(const struct layer_store *store, struct layer **out);
void layer_store_free(struct layer_store *store);

struct surface_slot {
	struct surface surface; /* its arrays are the slot's */
	void *arrays;           /* NULL: never used, or freed */
	float *log_ns, *sd;     /* fit with the cells' corrections */
	float *limit;           /* log of the physical envelope; inf: no measurement bounds it */
	double noise;           /* scatter used for its bounds */
	uint64_t used;          /* time of last use; 0: empty */
	uint64_t generation;    /* of the fit that it was made from */
	uint64_t judged;        /* model->news + 1 when its state was last judged; 0: never */
	uint64_t scatter_of;    /* the same for its scatter */
};

#define REFIT_ROWS_QUICK   12 /* a fit of so few rows takes milliseconds, and is made at once for an only user */
#define REFIT_PATIENCE     16
#define REFIT_PATIENCE_MAX 1024

struct phase_state {
	bool any;          /* something was measured */
	bool stale;        /* the fit lacks some deliberate samples */
	uint32_t patience; /* requests between two long refits; doubles each time */
	uint32_t since;    /* requests since the fit */
	uint32_t fresh;    /* cells that requests added since the fit */
	double drift;      /* largest change of a cell since the fit, in standard deviations */
	uint64_t generation;
	enum surface_state shown;       /* of the newest surface */
	double recent;                  /* decaying mean of log ns of requests */
	bool layers;                    /* layers were measured */
	uint64_t taught;                /* of the model when the fit began */
	uint32_t own_row[FIT_ROWS_MAX]; /* cells of the fit */
	size_t own_rows;
	double inherited_sd;       /* of the level of inherited rows in the newest fit; 0: none */
	struct timeline *timeline; /* of the layers; NULL: none, or they contradict the end-to-end measurements */
	struct fit *fit;           /* NULL: none yet, or freed */
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
	struct surface_slot slot[SURFACES_MAX];
	struct surface_slot blank; /* the surface of an unknown model */
	size_t derived;            /* bytes of fits, timelines and surfaces */
	struct model *inherited;   /* measurements of other boards; NULL: none */
	uint64_t clock;            /* counts uses of slots */
	uint64_t news;             /* counts requests observed, */
	uint64_t taught;           /* deliberate samples, inferences with layers that were kept, and imports, */
	uint64_t forgotten;        /* and calls of model_forget() */
	uint64_t rejected;         /* samples that contradicted the model */
	uint32_t against;          /* total weight of the latest successive ones */
};

/* model.c */
/* Account for memory of derived data that was allocated or freed. */
void model_count(struct model *model, size_t taken, size_t given_back);
/* Refit if enough was learned since the last fit. */
void model_renew(struct model *model, enum phase phase);
/* The fit of a phase, allocated if needed; NULL when out of memory. */
struct fit *model_fit(struct model *model, enum phase phase);
/* Memory for a surface of this phase and context; NULL when out of memory. */
struct surface_slot *model_slot(struct model *model, enum phase phase, uint32_t context);
size_t model_slot_bytes(const struct model *model); /* of its arrays */

/* inherit.c */
/* Add rows of other boards to a fit that has `rows` of this one. Returns the new number of rows. */
size_t inherit_rows(struct model *model, enum phase phase, size_t rows);
/* The same for power. */
size_t inherit_power(struct model *model, enum phase phase, struct power_row *row, size_t rows);

/* surface.c */
/* Takes about a millisecond without layers. */
void model_refit(struct model *model, enum phase phase, bool with_layers);
void drop_timeline(struct model *model, struct phase_state *state);
void surface_build(struct model *model, struct surface_slot *slot, enum phase phase, uint32_t context);
/* The same, interpolated from two surfaces of the phase around this context, in a hundredth of the time. */
void surface_blend(struct model *model, struct surface_slot *slot, const struct surface_slot *low,
		   const struct surface_slot *high, uint32_t context);
/* Growth of log latency at a point from one context to another. */
double surface_growth_log(const struct model *model, enum phase phase, struct op_point point, uint32_t from,
			  uint32_t to);
void surface_judge(struct model *model, struct surface_slot *slot);
/* Recompute the bounds if the scatter has changed much. */
void surface_rebound(struct model *model, struct surface_slot *slot);
/* A cell changed: update the surfaces in memory, with an effect that fades with distance. */
void surface_nudge(struct model *model, const struct cell *cell);
/* Update bounds for slow-down and scatter. */
double surface_noise_log(const struct model *model);
/* Any point, on the grid or off it. */
struct forecast {
	double log_ns, bound_log, power_uw, idle_uw;
	enum bound_source source;
	double sd, limit;
	double width; /* bound / prediction - 1 without irregularity, the part that measuring elsewhere reduces */
};
struct forecast surface_forecast(const struct model *model, enum phase phase, uint32_t context, struct op_point point);

#endif
