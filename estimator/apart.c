/* SPDX-License-Identifier: MIT */
/* A fit and surfaces that another process makes, and hands over in memory that both share. */
#include <stddef.h>
#include <string.h>

#include "state.h"

#define SURFACES 3 /* that one context needs: its own, and those of the knots around it */

struct made_surface {
	bool made;
	enum surface_state state, shown;
	bool power_known;
	uint32_t context;
	double noise;
};

/* The timeline follows it, and then the arrays of the surfaces. */
struct apart {
	size_t rows;                /* of layers, that the timeline was fitted to */
	bool made;                  /* a timeline */
	bool done;                  /* the rest is there too */
	uint64_t forgotten, before; /* of the model, and the generation of its fit, at the begin, */
	uint32_t cells;             /* the number of its cells, */
	uint32_t fresh, since;      /* and what had been observed since that fit */
	struct phase_state state;
	struct fit fit;
	struct made_surface surface[SURFACES];
	_Alignas(max_align_t) char timeline[];
};

static size_t timeline_most(const struct model *model)
{
	size_t align = _Alignof(max_align_t);

	return (timeline_packed_most(&model->grid, model->options.layers_fitted_max) + align - 1) / align * align;
}

static size_t arrays_at(const struct model *model, size_t i)
{
	return sizeof(struct apart) + timeline_most(model) + i * model_slot_bytes(model);
}

size_t model_apart_bytes(const struct model *model)
{
	return arrays_at(model, SURFACES);
}

static bool is_put(const struct apart *apart, uint32_t context)
{
	for (size_t i = 0; i < SURFACES && apart->surface[i].made; i++)
		if (apart->surface[i].context == context)
			return true;
	return false;
}

static void put_surfaces(const struct model *model, enum phase phase, uint32_t context, struct apart *out)
{
	uint32_t step = context_step(context), low, high;
	size_t count = 0;

	context_knots(step, &low, &high);
	for (size_t k = 0; k < SURFACES_MAX && count < SURFACES; k++) {
		const struct surface_slot *slot = &model->slot[k];
		const struct surface *s = &slot->surface;

		if (!slot->used || s->phase != phase || slot->generation != model->phase[phase].generation ||
		    (s->context != step && s->context != low && s->context != high) || is_put(out, s->context))
			continue;
		memcpy((char *)out + arrays_at(model, count), slot->arrays, model_slot_bytes(model));
		out->surface[count++] = (struct made_surface){.made = true,
							      .state = s->state,
							      .shown = s->shown,
							      .power_known = s->power_known,
							      .context = s->context,
							      .noise = slot->noise};
	}
}

void model_make_apart(struct model *model, enum phase phase, uint32_t context, void *out)
{
	struct phase_state *state = &model->phase[phase];
	struct apart *apart = out;

	apart->forgotten = model->forgotten;
	apart->before = state->generation;
	apart->cells = model->cells.count;
	apart->fresh = state->fresh;
	apart->since = state->since;
	model_surface(model, phase, context);
	while (model_work(model, phase, context)) /* knots that have been replaced since its surface was made */
		;
	apart->rows = model->layers.count;
	if (state->timeline)
		timeline_pack(state->timeline, apart->timeline);
	apart->made = state->timeline != NULL;
	if (!has_fit(state))
		return;
	apart->state = *state;
	apart->fit = *state->fit;
	put_surfaces(model, phase, context, apart);
	apart->done = true;
}

/* The other process may have parsed files: nothing that it hands over is used as an index unchecked. */
static bool is_sound(const struct model *model, enum phase phase, const struct apart *apart)
{
	const struct fit *fit = &apart->fit;

	if (fit->phase != phase || fit->params > LSQ_PARAMS_MAX || fit->rows > FIT_ROWS_MAX || fit->modes == 0 ||
	    fit->modes > FIT_MODES_MAX || apart->state.own_rows > fit->rows)
		return false;
	for (size_t i = 0; i < apart->state.own_rows; i++)
		if (apart->state.own_row[i] >= model->cells.count)
			return false;
	return true;
}

static void take_timeline(struct model *model, struct phase_state *state, const struct apart *apart)
{
	drop_timeline(model, state);
	if (apart->made)
		state->timeline = timeline_unpack(&model->grid, model->options.layers_fitted_max, apart->timeline);
	model_count(model, timeline_bytes(state->timeline), 0);
}

static void take_fit(struct model *model, enum phase phase, const struct apart *apart)
{
	struct phase_state *state = &model->phase[phase];
	bool fresh = apart->state.generation != apart->before;

	*state->fit = apart->fit;
	state->fit->timeline = apart->fit.timeline ? state->timeline : NULL;
	state->power = apart->state.power;
	state->inherited_sd = apart->state.inherited_sd;
	if (!fresh && state->generation == apart->before)
		return;
	state->generation++;
	state->patience = apart->state.patience;
	state->stale = apart->state.taught != model->taught;
	state->fresh -= apart->fresh < state->fresh ? apart->fresh : state->fresh;
	state->since -= apart->since < state->since ? apart->since : state->since;
	state->drift = 0;
	for (size_t i = 0; i < apart->state.own_rows; i++)
		model->cells.cell[apart->state.own_row[i]].fitted = apart->fit.row[i].log_ns;
	for (uint32_t i = 0; i < model->cells.count; i++) {
		struct cell *cell = &model->cells.cell[i];

		if (cell->phase == phase && cell->n)
			cell_power_fitted(cell);
	}
}

static bool is_state(enum surface_state state)
{
	return (unsigned)state <= SURFACE_READY;
}

static bool has_words(const struct surface *surface, size_t points)
{
	for (size_t i = 0; i < points; i++)
		if (surface->source[i] > BOUND_CELL || surface->regime[i] > REGIME_MIXED)
			return false;
	return true;
}

static void take_surfaces(struct model *model, enum phase phase, const struct apart *apart)
{
	for (size_t i = 0; i < SURFACES && apart->surface[i].made; i++) {
		const struct made_surface *made = &apart->surface[i];
		struct surface_slot *slot = model_slot(model, phase, made->context);

		if (!slot)
			return;
		memcpy(slot->arrays, (const char *)apart + arrays_at(model, i), model_slot_bytes(model));
		slot->used = 0;
		if (!has_words(&slot->surface, model->grid.points) || !is_state(made->state) || !is_state(made->shown))
			return;
		slot->surface.phase = phase;
		slot->surface.context = made->context;
		slot->surface.state = made->state;
		slot->surface.shown = model->phase[phase].shown = made->shown;
		slot->surface.power_known = made->power_known;
		slot->noise = made->noise;
		slot->generation = model->phase[phase].generation;
		slot->judged = slot->scatter_of = 0;
		slot->used = ++model->clock;
	}
}

/* The other process did not see what was observed since it began. */
static void take_observed(struct model *model, enum phase phase, const struct apart *apart)
{
	for (size_t i = 0; i < apart->state.own_rows; i++) {
		const struct cell *cell = &model->cells.cell[apart->state.own_row[i]];

		if (cell->mean < apart->fit.row[i].log_ns || cell->mean > apart->fit.row[i].log_ns)
			surface_nudge(model, cell);
	}
	for (uint32_t i = apart->cells; i < model->cells.count; i++)
		if (model->cells.cell[i].phase == phase && model->cells.cell[i].n)
			surface_nudge(model, &model->cells.cell[i]);
}

void model_adopt(struct model *model, enum phase phase, uint32_t context, const void *in)
{
	struct phase_state *state = &model->phase[phase];
	const struct apart *apart = in;

	if (!state->any || (apart->done && apart->forgotten != model->forgotten))
		return;
	/* A fit that was made here meanwhile rests on more. */
	if (apart->done && has_fit(state) && !state->layers && state->generation != apart->before)
		return;
	take_timeline(model, state, apart);
	if (apart->done && is_sound(model, phase, apart) && apart->made == (state->timeline != NULL) &&
	    model_fit(model, phase)) {
		take_fit(model, phase, apart);
		take_surfaces(model, phase, apart);
		take_observed(model, phase, apart);
		return;
	}
	model_refit(model, phase, false);
	model_surface(model, phase, context);
	state->stale = apart->rows && apart->rows != model->layers.count;
}
