/* SPDX-License-Identifier: MIT */
/* One model: its measurements, the fit, and its surfaces. */
#include "model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "state.h"

#define APART_ROWS           256 /* rows of layers from which a fit takes longer than to start a process for it */
#define REFIT_REQUESTS       32  /* requests between two fits, at least, */
#define REFIT_SOON           4   /* or this number if a cell is far off, */
#define REFIT_FRESH          8   /* or if one in this many rows is new */
#define REFIT_ROWS_FEW       12  /* with fewer rows a cell that is far off causes a fit at once */
#define DRIFT_FAR            3.0
#define DRIFT_WORTH          1.0
#define DRIFT_UNIT_MIN       0.005 /* log: a drift of under half a percent needs no new fit */
#define POWER_DRIFT_UNIT_MIN 0.02
#define POWER_SURER          4.0  /* times as many readings */
#define POWER_VAR_FIRST      1e-2 /* (10 %)^2 */
#define POWER_VAR_RATE       0.1

void model_options_default(struct model_options *options)
{
	*options = (struct model_options){.quantile = QUANTILE_DEFAULT,
					  .ready_width = 0.12,
					  .power_sensor = true,
					  .context_max = 4096,
					  .layers_max = LAYERS_KEPT_MAX,
					  .layers_fitted_max = LAYERS_MAX};
}

/* ---- memory ---- */

void model_count(struct model *model, size_t taken, size_t given_back)
{
	model->derived += taken - given_back;
	if (model->options.derived_bytes)
		*model->options.derived_bytes += taken - given_back;
}

struct fit *model_fit(struct model *model, enum phase phase)
{
	struct phase_state *state = &model->phase[phase];

	if (state->fit)
		return state->fit;
	state->fit = calloc(1, sizeof(*state->fit));
	if (state->fit)
		model_count(model, sizeof(*state->fit), 0);
	return state->fit;
}

#define SURFACE_POINT_BYTES (8 * sizeof(float) + sizeof(uint32_t) + 2) /* of one surface */

static size_t padded_points(const struct model *model)
{
	return (model->grid.points + 15) / 16 * 16;
}

/* The arrays of a surface in one piece. */
static void lay_out(const struct model *model, struct surface_slot *slot, float *f)
{
	struct surface *s = &slot->surface;
	size_t n = padded_points(model);

	s->grid = &model->grid;
	s->latency_ns = f;
	s->bound_ns = f + n;
	s->power_uw = f + 2 * n;
	s->idle_power_uw = f + 3 * n;
	s->bubble_ns = f + 4 * n;
	s->log_ns = slot->log_ns = f + 5 * n;
	s->sd = slot->sd = f + 6 * n;
	slot->limit = f + 7 * n;
	s->measured = (uint32_t *)(void *)(f + 8 * n);
	s->source = (uint8_t *)(f + 9 * n);
	s->regime = s->source + n;
}

/* The surface of an unknown model: state SURFACE_NONE, and every array is the same zeros. */
static void lay_out_blank(struct model *model)
{
	static float zeros[GRID_POINTS_MAX]; /* never written */
	struct surface_slot *slot = &model->blank;
	struct surface *s = &slot->surface;

	s->grid = &model->grid;
	s->latency_ns = s->bound_ns = s->power_uw = s->idle_power_uw = s->bubble_ns = zeros;
	s->log_ns = slot->log_ns = s->sd = slot->sd = slot->limit = zeros;
	s->measured = (uint32_t *)(void *)zeros;
	s->source = s->regime = (uint8_t *)zeros;
}

size_t model_slot_bytes(const struct model *model)
{
	return padded_points(model) * SURFACE_POINT_BYTES;
}

static bool slot_arrays(struct model *model, struct surface_slot *slot)
{
	size_t bytes = model_slot_bytes(model);

	if (slot->arrays)
		return true;
	slot->arrays = calloc(1, bytes);
	if (!slot->arrays)
		return false;
	lay_out(model, slot, slot->arrays);
	model_count(model, bytes, 0);
	return true;
}

void model_shed(struct model *model)
{
	for (int p = 0; p < PHASE_COUNT; p++) {
		struct phase_state *state = &model->phase[p];

		timeline_free(state->timeline);
		free(state->fit);
		state->timeline = NULL;
		state->fit = NULL;
		state->stale = state->any;
	}
	for (size_t k = 0; k < SURFACES_MAX; k++) {
		free(model->slot[k].arrays);
		memset(&model->slot[k], 0, sizeof(model->slot[k]));
	}
	model_count(model, 0, model->derived);
	if (model->inherited)
		model_shed(model->inherited);
}

size_t model_measured_bytes(const struct model *model)
{
	return model->cells.count * sizeof(*model->cells.cell) + layer_store_bytes(&model->layers) +
	       (model->inherited ? model_measured_bytes(model->inherited) : 0);
}

size_t model_derived_bytes(const struct model *model)
{
	return model->derived + (model->inherited ? model->inherited->derived : 0);
}

struct model *model_new(const struct grid *grid, const struct model_options *options)
{
	struct model *model = calloc(1, sizeof(*model));
	bool whole;

	if (!model)
		return NULL;
	model->grid = *grid;
	model->options = *options;
	correct_init(&model->correct);
	model->power_var = POWER_VAR_FIRST;
	model->cells.cell = calloc(SAMPLES_MAX, sizeof(*model->cells.cell));
	whole = model->cells.cell != NULL;
	lay_out_blank(model);
	for (int p = 0; p < PHASE_COUNT; p++) {
		model->cells.first[p] = calloc(grid->points, sizeof(uint32_t));
		whole = whole && model->cells.first[p];
	}
	if (whole)
		return model;
	model_free(model);
	return NULL;
}

void model_free(struct model *model)
{
	if (!model)
		return;
	model_shed(model);
	for (int p = 0; p < PHASE_COUNT; p++)
		free(model->cells.first[p]);
	layer_store_free(&model->layers);
	model_free(model->inherited);
	free(model->cells.cell);
	free(model);
}

/* ---- learning ---- */

int model_learn_sample(struct model *model, const struct sample *sample)
{
	uint32_t i;

	if (!sample->latency_ns || sample->phase >= PHASE_COUNT)
		return -EINVAL;
	i = cells_find(&model->cells, &model->grid, sample->phase, sample->context, sample->point);
	if (i == NO_CELL)
		i = cells_add(&model->cells, &model->grid, sample->phase, sample->context, sample->point);
	if (i == NO_CELL)
		return -ENOSPC;
	cell_learn(&model->cells.cell[i], sample);
	model->taught++;
	model->phase[sample->phase].any = true;
	model->phase[sample->phase].stale = true;
	return 0;
}

bool model_has_sample(const struct model *model, enum phase phase, uint32_t context, struct op_point point)
{
	return cells_find(&model->cells, &model->grid, phase, context, point) != NO_CELL;
}

int model_learn_layers(struct model *model, const struct layer *layers, size_t count)
{
	bool added[PHASE_COUNT] = {false};
	int rc = layer_store_add(&model->layers, layers, count, model->options.layers_max, added);

	for (int p = 0; p < PHASE_COUNT; p++) {
		if (!added[p])
			continue;
		model->taught++;
		model->phase[p].any = model->phase[p].layers = model->phase[p].stale = true;
	}
	return rc;
}

/* A new cell starts from the prediction at its point. */
static struct cell *cell_for_request(struct model *model, enum phase phase, uint32_t context, struct op_point point)
{
	uint32_t i = cells_find(&model->cells, &model->grid, phase, context, point);
	struct cell *cell;

	if (i == NO_CELL)
		i = cells_add(&model->cells, &model->grid, phase, context, point);
	if (i == NO_CELL)
		return NULL;
	cell = &model->cells.cell[i];
	if (!cell->n && has_fit(&model->phase[phase])) {
		struct forecast f = surface_forecast(model, phase, context, point);
		cell->mean = cell->fitted = f.log_ns;
		cell->var = f.sd * f.sd;
	}
	return cell;
}

/* By how much the power of a cell differs from the value that the fit used; many more readings count too. */
static double power_drift(const struct model *model, const struct cell *cell)
{
	double unit = fmax(sqrt(model->power_var / fmax(cell->power_n, 1)), POWER_DRIFT_UNIT_MIN);

	if (cell->power_uw <= 0)
		return 0;
	if (cell->power_n >= POWER_SURER * cell->power_fitted_n)
		return 2 * DRIFT_WORTH;
	return fabs(log(cell->power_uw / cell->power_fitted)) / unit;
}

static void note_drift(const struct model *model, struct phase_state *state, const struct cell *cell)
{
	double unit = fmax(sqrt(cell->var), DRIFT_UNIT_MIN),
	       drift = fmax(fabs(cell->mean - cell->fitted) / unit, power_drift(model, cell));

	state->drift = fmax(state->drift, drift);
	state->since += state->since < UINT32_MAX;
}

/* The mean of `n` readings while a request ran. Their scatter gives the number of readings that are needed. */
static void learn_power(struct model *model, struct cell *cell, double power_uw, double n)
{
	if (cell->power_n > 0) {
		double off = power_uw / cell->power_uw - 1;
		model->power_var +=
			POWER_VAR_RATE * (off * off * n * cell->power_n / (cell->power_n + n) - model->power_var);
	}
	cell_learn_power(cell, power_uw, n);
}

int model_observe(struct model *model, enum phase phase, uint32_t context, struct op_point point, uint64_t latency_ns,
		  double extra_var, uint64_t power_uw, uint32_t readings)
{
	struct phase_state *state = &model->phase[phase];
	double log_ns, grown;
	struct cell *cell;

	if (!latency_ns || phase >= PHASE_COUNT)
		return -EINVAL;
	log_ns = log((double)latency_ns);
	model->news++;
	cell = cell_for_request(model, phase, context, point);
	if (!cell)
		return 0;
	/* before the first fit; if a later fit was freed, cells are still corrected */
	if (!state->any || (!has_fit(state) && (!cell->n || !state->generation))) {
		struct sample first = {.phase = phase,
				       .context = context,
				       .point = point,
				       .latency_ns = latency_ns,
				       .n = 1,
				       .power_uw = power_uw};
		int rc = model_learn_sample(model, &first);
		if (cell->n)
			cell->var += extra_var;
		return rc;
	}
	grown = has_fit(state) ? surface_growth_log(model, phase, point, cell->context, context) : 0;
	correct_observe(&model->correct, log_ns - grown, &cell->mean, &cell->var, extra_var);
	state->recent = state->recent > 0 ? state->recent + 0.1 * (log_ns - state->recent) : log_ns;
	state->fresh += cell->n == 0;
	cell->n += cell->n < UINT32_MAX;
	if (power_uw)
		learn_power(model, cell, (double)power_uw, readings);
	note_drift(model, state, cell);
	surface_nudge(model, cell);
	return 0;
}

/* ---- surfaces ---- */

static bool refit_due(const struct phase_state *state)
{
	if (state->stale || !has_fit(state))
		return true;
	/* A fit of many rows can take as long as a request, so it is made ever more rarely. */
	if (state->fit->rows > REFIT_ROWS_QUICK && state->since < state->patience)
		return false;
	if (state->fresh > state->fit->rows / REFIT_FRESH)
		return true;
	if (state->fit->rows < REFIT_ROWS_FEW && state->drift > DRIFT_FAR)
		return true;
	if (state->since >= REFIT_REQUESTS)
		return state->drift > DRIFT_WORTH;
	return state->since >= REFIT_SOON && state->drift > DRIFT_FAR;
}

void model_renew(struct model *model, enum phase phase)
{
	if (model->phase[phase].any && refit_due(&model->phase[phase]))
		model_refit(model, phase, true);
}

/* The slot of this phase and context, or NULL. */
static struct surface_slot *slot_at(struct model *model, enum phase phase, uint32_t context)
{
	for (size_t k = 0; k < SURFACES_MAX; k++) {
		struct surface_slot *slot = &model->slot[k];
		if (slot->used && slot->surface.phase == phase && slot->surface.context == context)
			return slot;
	}
	return NULL;
}

/* The same, or the one longest unused; if there is no memory for another, the longest unused that has memory. NULL:
 * none has. */
struct surface_slot *model_slot(struct model *model, enum phase phase, uint32_t context)
{
	struct surface_slot *slot = slot_at(model, phase, context), *oldest = &model->slot[0], *whole = NULL;

	if (slot)
		return slot;
	for (size_t k = 0; k < SURFACES_MAX; k++) {
		slot = &model->slot[k];
		if (slot->used < oldest->used)
			oldest = slot;
		if (slot->arrays && (!whole || slot->used < whole->used))
			whole = slot;
	}
	slot = slot_arrays(model, oldest) ? oldest : whole;
	if (slot)
		slot->used = 0;
	return slot;
}

/* The surface at a knot, computed if it is missing. NULL: out of memory. */
static struct surface_slot *knot_slot(struct model *model, enum phase phase, uint32_t context)
{
	struct surface_slot *slot = model_slot(model, phase, context);

	if (!slot)
		return NULL;
	if (!slot->used || slot->generation != model->phase[phase].generation)
		surface_build(model, slot, phase, context);
	surface_rebound(model, slot);
	slot->used = ++model->clock;
	return slot;
}

static void make_surface(struct model *model, struct surface_slot *slot, enum phase phase, uint32_t context)
{
	uint32_t low, high;

	context_knots(context, &low, &high);
	if (phase == PHASE_RUN || low == high) {
		surface_build(model, slot, phase, context);
		return;
	}
	slot->used = UINT64_MAX; /* not to be reused for a knot */
	slot->surface.phase = PHASE_COUNT;
	struct surface_slot *from = knot_slot(model, phase, low), *to = knot_slot(model, phase, high);
	if (from && to && from != to && from != slot && to != slot)
		surface_blend(model, slot, from, to, context);
	else /* out of memory */
		surface_build(model, slot, phase, context);
}

static const struct surface *show(struct model *model, struct surface_slot *slot)
{
	slot->used = ++model->clock;
	slot->surface.slowdown = correct_slowdown(&model->correct);
	slot->surface.slowdown_bound = correct_slowdown_bound(&model->correct);
	slot->surface.slow_sd = (float)sqrt(model->correct.slow_var);
	if (slot->scatter_of != model->news + 1) {
		slot->surface.noise_sd = (float)sqrt(model->correct.noise_var);
		slot->surface.noise_log = (float)surface_noise_log(model);
		correct_late(&model->correct, slot->surface.late, LATE_BINS, (double)LATE_LOW, (double)LATE_STEP);
		slot->scatter_of = model->news + 1;
	}
	return &slot->surface;
}

static const struct surface *nothing_known(struct model *model, enum phase phase, uint32_t context)
{
	model->blank.surface.phase = phase;
	model->blank.surface.context = context;
	return show(model, &model->blank);
}

/* Bring a surface up to date before it is returned. */
static const struct surface *serve(struct model *model, struct surface_slot *slot)
{
	surface_rebound(model, slot);
	/* Only if something is new, as judging every point costs more than the decision of a request. */
	if (slot->surface.state != SURFACE_READY && slot->judged != model->news + 1) {
		surface_judge(model, slot);
		slot->judged = model->news + 1;
	}
	return show(model, slot);
}

const struct surface *model_surface(struct model *model, enum phase phase, uint32_t context)
{
	struct phase_state *state = &model->phase[phase];
	uint32_t step = context_step(context);
	struct surface_slot *slot;

	model_renew(model, phase);
	slot = has_fit(state) ? model_slot(model, phase, step) : NULL;
	if (!slot)
		return nothing_known(model, phase, step);
	if (!slot->used || slot->generation != state->generation) {
		make_surface(model, slot, phase, step);
		slot->judged = 0;
	}
	return serve(model, slot);
}

bool model_refits_quickly(const struct model *model, enum phase phase)
{
	const struct phase_state *state = &model->phase[phase];

	return has_fit(state) && !state->layers && state->fit->rows <= REFIT_ROWS_QUICK;
}

static const struct surface *from_last_fit(struct model *model, enum phase phase, uint32_t step)
{
	struct surface_slot *slot = model_slot(model, phase, step);

	if (!slot)
		return nothing_known(model, phase, step);
	make_surface(model, slot, phase, step);
	slot->judged = 0;
	return serve(model, slot);
}

const struct surface *model_surface_kept(struct model *model, enum phase phase, uint32_t context)
{
	uint32_t step = context_step(context);
	struct surface_slot *nearest = NULL;

	for (size_t k = 0; k < SURFACES_MAX && has_fit(&model->phase[phase]); k++) {
		struct surface_slot *slot = &model->slot[k];

		if (slot->used && slot->generation && slot->surface.phase == phase && slot->surface.context >= step &&
		    (!nearest || slot->surface.context < nearest->surface.context))
			nearest = slot;
	}
	return nearest ? serve(model, nearest) : nothing_known(model, phase, step);
}

const struct surface *model_surface_at_hand(struct model *model, enum phase phase, uint32_t context)
{
	uint32_t step = context_step(context), low, high;
	struct surface_slot *slot = slot_at(model, phase, step), *from, *to;

	context_knots(step, &low, &high);
	if (!has_fit(&model->phase[phase]) && model->phase[phase].layers && model->cells.count) {
		/* Before the first fit: end to end for now. */
		model_refit(model, phase, false);
		model->phase[phase].stale = true;
	}
	if (!has_fit(&model->phase[phase])) /* there is no other surface */
		return model_surface(model, phase, context);
	if (phase == PHASE_RUN || low == high)
		return slot && slot->generation ? serve(model, slot) : from_last_fit(model, phase, step);
	from = slot_at(model, phase, low);
	to = slot_at(model, phase, high);
	if (!from || !to || !from->generation || !to->generation)
		return from_last_fit(model, phase, step);
	from->used = ++model->clock;
	to->used = ++model->clock;
	if (!slot || slot->generation != (from->generation < to->generation ? from->generation : to->generation)) {
		slot = model_slot(model, phase, step);
		if (!slot || slot == from || slot == to)
			return from_last_fit(model, phase, step);
		surface_blend(model, slot, from, to, step);
		slot->judged = 0;
	}
	return serve(model, slot);
}

/* The contexts of the surfaces that one of this context is interpolated from; that of a network is its own. */
static void knots_of(enum phase phase, uint32_t context, uint32_t knot[2])
{
	knot[0] = knot[1] = context_step(context);
	if (phase != PHASE_RUN)
		context_knots(knot[0], &knot[0], &knot[1]);
}

bool model_surface_is_at_hand(struct model *model, enum phase phase, uint32_t context)
{
	const struct phase_state *state = &model->phase[phase];
	uint32_t knot[2];

	if (!state->any || !has_fit(state))
		return !state->any;
	knots_of(phase, context, knot);
	for (int k = 0; k < 2; k++) {
		const struct surface_slot *slot = slot_at(model, phase, knot[k]);
		if (!slot || !slot->generation)
			return false;
	}
	return true;
}

/* The first step of the work that model_surface_at_hand() left. */
static enum work {
	WORK_NONE,
	WORK_FIT,
	WORK_KNOT
} first_work(struct model *model, enum phase phase, uint32_t context, uint32_t *at)
{
	struct phase_state *state = &model->phase[phase];
	uint32_t knot[2];

	if (!state->any)
		return WORK_NONE;
	if (refit_due(state))
		return WORK_FIT;
	knots_of(phase, context, knot);
	for (int k = 0; k < 2; k++) {
		const struct surface_slot *slot = slot_at(model, phase, knot[k]);
		if (slot && slot->generation == state->generation)
			continue;
		*at = knot[k];
		return WORK_KNOT;
	}
	return WORK_NONE;
}

bool model_work_due(struct model *model, enum phase phase, uint32_t context)
{
	uint32_t at;

	return first_work(model, phase, context, &at) != WORK_NONE;
}

bool model_work_apart(const struct model *model, enum phase phase)
{
	const struct phase_state *state = &model->phase[phase];

	return state->layers && state->stale && model->layers.count > APART_ROWS;
}

bool model_work(struct model *model, enum phase phase, uint32_t context)
{
	uint32_t at;
	enum work work = first_work(model, phase, context, &at);

	if (work == WORK_FIT)
		model_refit(model, phase, true);
	else if (work == WORK_KNOT)
		knot_slot(model, phase, at);
	return work != WORK_NONE;
}

enum surface_state model_state(const struct model *model, enum phase phase)
{
	const struct phase_state *state = &model->phase[phase];

	if (!state->any)
		return SURFACE_NONE;
	return state->shown > SURFACE_LEARNING ? state->shown : SURFACE_LEARNING;
}

enum surface_state model_best_state(const struct model *model)
{
	enum surface_state best = SURFACE_NONE;

	for (int p = 0; p < PHASE_COUNT; p++)
		if (model_state(model, (enum phase)p) > best)
			best = model_state(model, (enum phase)p);
	return best;
}

int model_predict(struct model *model, enum phase phase, uint32_t context, struct op_point point,
		  struct prediction *out)
{
	struct phase_state *state = &model->phase[phase];
	struct forecast f;

	if (!state->any)
		return -ENODATA;
	model_renew(model, phase);
	if (!has_fit(state))
		return -ENOMEM;
	f = surface_forecast(model, phase, context, point);
	*out = (struct prediction){.latency_ns = exp(f.log_ns),
				   .bound_ns = exp(f.bound_log),
				   .power_uw = f.power_uw,
				   .idle_power_uw = f.idle_uw,
				   .power_known = state->power.known};
	return 0;
}

/* ---- storing ---- */

long model_samples(const struct model *model, struct sample **out)
{
	struct sample *all = calloc(model->cells.count + 1, sizeof(*all));
	long count = 0;

	if (!all)
		return -ENOMEM;
	for (uint32_t i = 0; i < model->cells.count; i++) {
		const struct cell *cell = &model->cells.cell[i];
		double ns = exp(cell->mean);

		if (!cell->n)
			continue;
		all[count++] = (struct sample){.phase = cell->phase,
					       .context = cell->context,
					       .point = cell->point,
					       .latency_ns = (uint64_t)(ns + 0.5),
					       .n = cell->n,
					       .sd_ns = (uint64_t)(sqrt(cell->single_var) * ns),
					       .max_ns = cell->max_log > 0 ? (uint64_t)exp(cell->max_log) : 0,
					       .power_uw = (uint64_t)cell->power_uw};
	}
	*out = all;
	return count;
}

struct model_summary model_summary(const struct model *model)
{
	bool seen[PHASE_COUNT][CONTEXT_BANDS] = {{false}};
	struct model_summary summary = {0};

	for (uint32_t i = 0; i < model->cells.count; i++) {
		const struct cell *cell = &model->cells.cell[i];
		bool *known = &seen[cell->phase][context_band_number(cell->context)];

		if (!cell->n)
			continue;
		summary.samples++;
		summary.contexts += !*known;
		summary.phase[cell->phase] = *known = true;
	}
	return summary;
}

size_t model_layer_count(const struct model *model)
{
	return model->layers.count;
}

long model_layers(const struct model *model, struct layer **out)
{
	return layer_store_copy(&model->layers, out);
}
