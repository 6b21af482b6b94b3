/* SPDX-License-Identifier: MIT */
/* One model: what was measured of it, the fit, and its surfaces. */
#include "model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "plan.h"
#include "state.h"

#define REFIT_REQUESTS 32   /* a fit looks at requests at most this often, */
#define REFIT_SOON     4    /* or this, when a cell turned out far off */
#define REFIT_FRESH    8    /* or when so large a share of its rows is new */
#define REFIT_ROWS_FEW 12   /* rows below which a cell far off is looked at right away */
#define DRIFT_FAR      3.0
#define DRIFT_WORTH    1.0
#define DRIFT_UNIT_MIN 0.005 /* log: less than half a percent is nothing to fit anew for */
#define POWER_DRIFT_UNIT_MIN 0.02
#define POWER_SURER    4.0  /* times as many readings */
#define POWER_VAR_FIRST 1e-2 /* (10 %)^2 */
#define POWER_VAR_RATE 0.1
#define PLAN_STOP      0.5  /* of ready_width: tight enough to stop measuring */
#define PLAN_CONTEXTS  4    /* looked at */
#define PLAN_GAIN_MIN  0.10 /* once ready, a point must take this share of the variance away */

void model_options_default(struct model_options *options)
{
	*options = (struct model_options){.quantile = 0.98, .ready_width = 0.12, .power_sensor = true, .context_max = 4096};
}

/* ---- memory ---- */

/* Eight surfaces of flat arrays in one piece. Untouched ones cost no memory. */
static bool lay_out(struct model *model)
{
	size_t n = (model->grid.points + 15) / 16 * 16, one = n * (8 * sizeof(float) + 2 + sizeof(uint32_t)) + 64;
	char *at = calloc(SURFACES_MAX, one);

	model->arrays = at;
	for (size_t k = 0; k < SURFACES_MAX && at; k++) {
		struct slot *slot = &model->slot[k];
		struct surface *s = &slot->surface;
		float *f = (float *)(void *)(at + k * one);

		s->grid = &model->grid;
		s->latency_ns = f;
		s->bound_ns = f + n;
		s->power_uw = f + 2 * n;
		s->idle_power_uw = f + 3 * n;
		s->bubble_ns = f + 4 * n;
		slot->log_ns = f + 5 * n;
		slot->sd = f + 6 * n;
		slot->limit = f + 7 * n;
		s->measured = (uint32_t *)(void *)(f + 8 * n);
		s->source = (uint8_t *)(f + 9 * n);
		s->regime = s->source + n;
	}
	return at != NULL;
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
	whole = lay_out(model) && model->cells.cell;
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
	for (int p = 0; p < PHASE_COUNT; p++) {
		free(model->cells.first[p]);
		timeline_free(model->phase[p].timeline);
	}
	layer_store_free(&model->layers);
	free(model->cells.cell);
	free(model->arrays);
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
	model->phase[sample->phase].any = true;
	model->phase[sample->phase].stale = true;
	return 0;
}

int model_learn_layers(struct model *model, const struct layer *layers, size_t count)
{
	bool added[PHASE_COUNT] = {false};
	int rc = layer_store_add(&model->layers, layers, count, added);

	for (int p = 0; p < PHASE_COUNT; p++) {
		if (!added[p])
			continue;
		model->phase[p].any = model->phase[p].layers = model->phase[p].stale = true;
	}
	return rc;
}

/* A cell that requests just came to starts from what is predicted there. */
static struct cell *cell_for_request(struct model *model, enum phase phase, uint32_t context, struct op_point point)
{
	uint32_t i = cells_find(&model->cells, &model->grid, phase, context, point);
	struct cell *cell;

	if (i == NO_CELL)
		i = cells_add(&model->cells, &model->grid, phase, context, point);
	if (i == NO_CELL)
		return NULL;
	cell = &model->cells.cell[i];
	if (!cell->n && model->phase[phase].fit.modes) {
		struct forecast f = surface_forecast(model, phase, context, point);
		cell->mean = cell->fitted = f.log_ns;
		cell->var = f.sd * f.sd;
	}
	return cell;
}

/* By how much the power of a cell is off what the fit took it for; much surer of it counts, too. */
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
	double unit = fmax(sqrt(cell->var), DRIFT_UNIT_MIN), drift = fmax(fabs(cell->mean - cell->fitted) / unit, power_drift(model, cell));

	state->drift = fmax(state->drift, drift);
	state->since += state->since < UINT32_MAX;
}

/* The mean of `n` readings while a request ran. How widely they scatter says how many it takes. */
static void learn_power(struct model *model, struct cell *cell, double power_uw, double n)
{
	if (cell->power_n > 0) {
		double off = power_uw / cell->power_uw - 1;
		model->power_var += POWER_VAR_RATE * (off * off * n * cell->power_n / (cell->power_n + n) - model->power_var);
	}
	cell_learn_power(cell, power_uw, n);
}

int model_observe(struct model *model, enum phase phase, uint32_t context, struct op_point point, uint64_t latency_ns,
		  uint64_t power_uw, uint32_t readings, bool contended)
{
	struct phase_state *state = &model->phase[phase];
	double log_ns, change, grown;
	struct cell *cell;

	if (!latency_ns || phase >= PHASE_COUNT)
		return -EINVAL;
	log_ns = log((double)latency_ns);
	model->news++;
	cell = cell_for_request(model, phase, context, point);
	if (!cell)
		return 0;
	if (!state->any || !state->fit.modes) {
		struct sample first = {.phase = phase, .context = context, .point = point, .latency_ns = latency_ns, .n = 1,
				       .power_uw = power_uw};
		return model_learn_sample(model, &first);
	}
	grown = surface_growth_log(model, phase, point, cell->context, context);
	change = correct_observe(&model->correct, log_ns - grown, &cell->mean, &cell->var, contended);
	state->recent = state->recent > 0 ? state->recent + 0.1 * (log_ns - state->recent) : log_ns;
	if (contended)
		return 0;
	state->fresh += cell->n == 0;
	cell->n += cell->n < UINT32_MAX;
	if (power_uw)
		learn_power(model, cell, (double)power_uw, readings);
	note_drift(model, state, cell);
	surface_nudge(model, cell, change);
	return 0;
}

/* ---- surfaces ---- */

static bool refit_due(const struct phase_state *state)
{
	if (state->stale || !state->fit.modes)
		return true;
	/* A fit of many rows takes as long as some requests have: such are made ever more rarely. */
	if (state->fit.rows > REFIT_ROWS_QUICK && state->since < state->patience)
		return false;
	if (state->fresh > state->fit.rows / REFIT_FRESH)
		return true;
	if (state->fit.rows < REFIT_ROWS_FEW && state->drift > DRIFT_FAR)
		return true;
	if (state->since >= REFIT_REQUESTS)
		return state->drift > DRIFT_WORTH;
	return state->since >= REFIT_SOON && state->drift > DRIFT_FAR;
}

/* The slot of this phase and context, or NULL. */
static struct slot *slot_at(struct model *model, enum phase phase, uint32_t context)
{
	for (size_t k = 0; k < SURFACES_MAX; k++) {
		struct slot *slot = &model->slot[k];
		if (slot->used && slot->surface.phase == phase && slot->surface.context == context)
			return slot;
	}
	return NULL;
}

/* The same, or the one longest unused. */
static struct slot *slot_for(struct model *model, enum phase phase, uint32_t context)
{
	struct slot *slot = slot_at(model, phase, context), *oldest = &model->slot[0];

	if (slot)
		return slot;
	for (size_t k = 1; k < SURFACES_MAX; k++)
		if (model->slot[k].used < oldest->used)
			oldest = &model->slot[k];
	oldest->used = 0;
	return oldest;
}

static void nothing_known(const struct model *model, struct slot *slot, enum phase phase, uint32_t context)
{
	slot->surface.state = SURFACE_NONE;
	slot->surface.phase = phase;
	slot->surface.context = context;
	memset(slot->surface.latency_ns, 0, model->grid.points * sizeof(float));
	memset(slot->surface.bound_ns, 0, model->grid.points * sizeof(float));
}

/* The surface at a knot, made if it is not there. */
static struct slot *knot_slot(struct model *model, enum phase phase, uint32_t context)
{
	struct slot *slot = slot_for(model, phase, context);

	if (!slot->used || slot->generation != model->phase[phase].generation)
		surface_build(model, slot, phase, context);
	surface_rebound(model, slot);
	slot->used = ++model->clock;
	return slot;
}

static void make_surface(struct model *model, struct slot *slot, enum phase phase, uint32_t context)
{
	uint32_t low, high;

	context_knots(context, &low, &high);
	if (phase == PHASE_RUN || low == high) {
		surface_build(model, slot, phase, context);
		return;
	}
	slot->used = UINT64_MAX; /* not to be taken for a knot */
	slot->surface.phase = PHASE_COUNT;
	struct slot *from = knot_slot(model, phase, low), *to = knot_slot(model, phase, high);
	surface_blend(model, slot, from, to, context);
}

/* What every reader of a surface wants to be new. */
static const struct surface *serve(struct model *model, struct slot *slot, enum phase phase)
{
	struct phase_state *state = &model->phase[phase];

	if (state->any)
		surface_rebound(model, slot);
	/* Nothing new, nothing to judge: looking at every point costs more than a request's decision. */
	if (state->any && slot->surface.state != SURFACE_READY && slot->judged != model->news + 1) {
		state->state = slot->surface.state = surface_judge(model, slot);
		slot->judged = model->news + 1;
	}
	slot->used = ++model->clock;
	slot->surface.slowdown = correct_slowdown(&model->correct);
	slot->surface.slowdown_bound = correct_slowdown_bound(&model->correct);
	return &slot->surface;
}

const struct surface *model_surface(struct model *model, enum phase phase, uint32_t context)
{
	struct phase_state *state = &model->phase[phase];
	uint32_t step = context_step(context);
	struct slot *slot = slot_for(model, phase, step);

	if (state->any && refit_due(state))
		model_refit(model, phase);
	if (!state->any) {
		nothing_known(model, slot, phase, step);
	} else if (!slot->used || slot->generation != state->generation) {
		make_surface(model, slot, phase, step);
		slot->judged = 0;
	}
	return serve(model, slot, phase);
}

/* Few rows are fitted and predicted from in no time; and before the first fit there is nothing else at hand. */
static bool quick(const struct phase_state *state)
{
	return !state->any || !state->fit.modes || (!state->layers && state->fit.rows <= REFIT_ROWS_QUICK);
}

const struct surface *model_surface_at_hand(struct model *model, enum phase phase, uint32_t context)
{
	uint32_t step = context_step(context), low, high;
	struct slot *slot = slot_at(model, phase, step), *from, *to;

	context_knots(step, &low, &high);
	if (quick(&model->phase[phase]))
		return model_surface(model, phase, context);
	if (phase == PHASE_RUN || low == high)
		return slot ? serve(model, slot, phase) : model_surface(model, phase, context);
	from = slot_at(model, phase, low);
	to = slot_at(model, phase, high);
	if (!from || !to)
		return model_surface(model, phase, context);
	from->used = ++model->clock;
	to->used = ++model->clock;
	if (!slot || slot->generation != (from->generation < to->generation ? from->generation : to->generation)) {
		slot = slot_for(model, phase, step);
		surface_blend(model, slot, from, to, step);
		slot->judged = 0;
	}
	return serve(model, slot, phase);
}

/* What model_surface_at_hand() left out first. */
static enum work { WORK_NONE, WORK_FIT, WORK_KNOT } first_work(struct model *model, enum phase phase, uint32_t context, uint32_t *at)
{
	struct phase_state *state = &model->phase[phase];
	uint32_t step = context_step(context), knot[2];

	if (quick(state))
		return WORK_NONE;
	if (refit_due(state))
		return WORK_FIT;
	context_knots(step, &knot[0], &knot[1]);
	if (phase == PHASE_RUN)
		knot[0] = knot[1] = step;
	for (int k = 0; k < 2; k++) {
		const struct slot *slot = slot_at(model, phase, knot[k]);
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

bool model_work(struct model *model, enum phase phase, uint32_t context)
{
	uint32_t at;
	enum work work = first_work(model, phase, context, &at);

	if (work == WORK_FIT)
		model_refit(model, phase);
	else if (work == WORK_KNOT)
		knot_slot(model, phase, at);
	return work != WORK_NONE;
}

enum surface_state model_state(const struct model *model, enum phase phase)
{
	const struct phase_state *state = &model->phase[phase];

	if (!state->any)
		return SURFACE_NONE;
	return state->state == SURFACE_READY ? SURFACE_READY : SURFACE_LEARNING;
}

int model_predict(struct model *model, enum phase phase, uint32_t context, struct op_point point, struct prediction *out)
{
	struct phase_state *state = &model->phase[phase];
	struct forecast f;

	if (!state->any)
		return -ENODATA;
	if (refit_due(state))
		model_refit(model, phase);
	f = surface_forecast(model, phase, context, point);
	*out = (struct prediction){.latency_ns = exp(f.log_ns), .bound_ns = exp(f.bound_log), .power_uw = f.power_uw,
				   .idle_power_uw = f.idle_uw, .power_known = state->power.known};
	return 0;
}

/* ---- planning ---- */

/* At most PLAN_CONTEXTS of the contexts in a list, evenly, ends kept. */
static size_t plan_contexts(const struct sample *points, size_t count, uint32_t kept[PLAN_CONTEXTS])
{
	uint32_t all[CONTEXTS_MAX] = {0};
	size_t n = 0;

	for (size_t i = 0; i < count && n < CONTEXTS_MAX; i++) {
		size_t at = 0;
		while (at < n && all[at] < points[i].context)
			at++;
		if (at < n && all[at] == points[i].context)
			continue;
		memmove(all + at + 1, all + at, (n - at) * sizeof(*all));
		all[at] = points[i].context;
		n++;
	}
	if (n <= PLAN_CONTEXTS) {
		memcpy(kept, all, n * sizeof(*all));
		return n;
	}
	for (size_t i = 0; i < PLAN_CONTEXTS; i++)
		kept[i] = all[i * (n - 1) / (PLAN_CONTEXTS - 1)];
	return PLAN_CONTEXTS;
}

static bool worth_looking(const struct grid *grid, bool keep[CLOCK_COUNT][GRID_AXIS_MAX], const uint32_t *contexts,
			  size_t context_count, const struct sample *s)
{
	size_t axis[CLOCK_COUNT];

	grid_axes(grid, grid_nearest(grid, s->point), axis);
	for (size_t i = 0; i < context_count; i++)
		if (contexts[i] == s->context)
			return keep[0][axis[0]] && keep[1][axis[1]] && keep[2][axis[2]];
	return false;
}

struct plan_list {
	struct plan_point point[PLAN_POINTS_MAX];
	size_t index[PLAN_POINTS_MAX], count;
};

static void thin_list(const struct model *model, const struct fit *fit, const struct sample *points, size_t count,
		      struct plan_list *list)
{
	bool keep[CLOCK_COUNT][GRID_AXIS_MAX];
	uint32_t contexts[PLAN_CONTEXTS];
	size_t context_count = plan_contexts(points, count, contexts);

	plan_thin(&model->grid, PLAN_POINTS_MAX / (context_count ? context_count : 1), keep);
	list->count = 0;
	for (size_t i = 0; i < count && list->count < PLAN_POINTS_MAX; i++) {
		if (count > PLAN_POINTS_MAX && !worth_looking(&model->grid, keep, contexts, context_count, &points[i]))
			continue;
		list->index[list->count] = i;
		list->point[list->count++] = (struct plan_point){
			.at = fit_point(fit, points[i].point, points[i].context), .weight = 1, .allowed = true};
	}
}

static void add_pending(struct fit *fit, const struct fit_point *at)
{
	if (fit->rows < FIT_ROWS_MAX)
		fit->row[fit->rows++] = (struct fit_row){.at = *at, .noise_var = 1e-5};
}

size_t model_plan_list(struct model *model, enum phase phase, const struct sample *points, size_t count,
		       const struct sample *pending, size_t pending_count, size_t budget, size_t *chosen)
{
	struct phase_state *state = &model->phase[phase];
	struct fit fit;
	struct plan_list list;
	size_t picked = 0, latencies;

	if (state->any && refit_due(state))
		model_refit(model, phase);
	if (!state->any)
		fit_init(&state->fit, phase, &model->grid);
	fit = state->fit;
	latencies = fit.rows;
	for (size_t i = 0; i < pending_count; i++) {
		struct fit_point at = fit_point(&fit, pending[i].point, pending[i].context);
		if (!pending[i].latency_ns && pending[i].phase == phase)
			add_pending(&fit, &at);
	}
	thin_list(model, &fit, points, count, &list);
	while (picked < budget) {
		double gain;
		int best = plan_next(&fit, latencies, list.point, list.count, &gain);

		if (best < 0)
			break;
		chosen[picked++] = list.index[best];
		list.point[best].allowed = false;
		add_pending(&fit, &list.point[best].at);
	}
	return picked;
}

/* Contexts that profiling may ask for, the likeliest first: a growing branch shows at its
 * ends, and whether it grows straight in between. */
static size_t plan_contexts_of(const struct model *model, enum phase phase, uint32_t only, uint32_t contexts[PLAN_CONTEXTS])
{
	uint32_t most = model->options.context_max;

	contexts[0] = phase == PHASE_RUN ? 0 : only != CONTEXT_ANY ? only : most / 8;
	if (phase == PHASE_RUN || only != CONTEXT_ANY || most < 8)
		return 1;
	contexts[1] = 1;
	contexts[2] = most;
	contexts[3] = most / 8 * 3;
	return 4;
}

/* Mean of bound / latency - 1 over the points looked at. */
static double mean_width(const struct model *model, enum phase phase, const uint32_t *contexts, const struct plan_list *list)
{
	double width = 0;

	for (size_t i = 0; i < list->count; i++) {
		size_t index = list->index[i];
		struct forecast f = surface_forecast(model, phase, contexts[index / model->grid.points],
						     grid_point(&model->grid, index % model->grid.points));
		width += exp(f.bound_log - f.log_ns) - 1;
	}
	return width / (double)list->count;
}

static void list_grid(const struct model *model, const struct fit *fit, const uint8_t *allowed, const uint32_t *contexts,
		      size_t context_count, struct plan_list *list)
{
	bool keep[CLOCK_COUNT][GRID_AXIS_MAX];
	size_t axis[CLOCK_COUNT];

	list->count = 0;
	plan_thin(&model->grid, PLAN_POINTS_MAX / context_count, keep);
	for (size_t c = 0; c < context_count; c++) {
		for (size_t i = 0; i < model->grid.points; i++) {
			grid_axes(&model->grid, i, axis);
			if (!keep[0][axis[0]] || !keep[1][axis[1]] || !keep[2][axis[2]])
				continue;
			list->index[list->count] = c * model->grid.points + i;
			list->point[list->count++] = (struct plan_point){
				.at = fit_point(fit, grid_point(&model->grid, i), contexts[c]), .weight = 1,
				.allowed = !allowed || allowed[i]};
		}
	}
}

int model_plan(struct model *model, enum phase phase, const uint8_t *allowed, struct op_point *point, uint32_t *context,
	       double *gain)
{
	struct phase_state *state = &model->phase[phase];
	uint32_t contexts[PLAN_CONTEXTS];
	size_t context_count = plan_contexts_of(model, phase, phase == PHASE_RUN ? 0 : *context, contexts);
	struct plan_list list;
	double width;
	int best;

	if (state->any && refit_due(state))
		model_refit(model, phase);
	if (!state->any)
		fit_init(&state->fit, phase, &model->grid);
	list_grid(model, &state->fit, allowed, contexts, context_count, &list);
	width = state->any ? mean_width(model, phase, contexts, &list) : INFINITY;
	best = plan_next(&state->fit, state->fit.rows, list.point, list.count, gain);
	if (best < 0)
		return 0;
	*point = grid_point(&model->grid, list.index[best] % model->grid.points);
	*context = contexts[list.index[best] / model->grid.points];
	if (width < model->options.ready_width * PLAN_STOP)
		return 0;
	return width > model->options.ready_width || *gain > PLAN_GAIN_MIN;
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
		all[count++] = (struct sample){
			.phase = cell->phase, .context = cell->context, .point = cell->point, .latency_ns = (uint64_t)(ns + 0.5),
			.n = cell->n, .sd_ns = (uint64_t)(sqrt(cell->single_var) * ns),
			.max_ns = cell->max_log > 0 ? (uint64_t)exp(cell->max_log) : 0, .power_uw = (uint64_t)cell->power_uw};
	}
	*out = all;
	return count;
}

long model_layers(const struct model *model, struct layer **out)
{
	return layer_store_copy(&model->layers, out);
}
