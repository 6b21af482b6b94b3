/* SPDX-License-Identifier: MIT */
/* The choice of the next point of a model to measure. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "plan.h"
#include "state.h"

#define PLAN_STOP         0.5  /* of ready_width: tight enough to stop measuring */
#define PLAN_CONTEXTS     4    /* contexts considered */
#define PLAN_POINTS_QUICK 128  /* a plan over a grid of at most this many points takes about a millisecond */
#define PLAN_GAIN_MIN     0.10 /* once ready, least share of the variance that a point has to remove */

bool model_plan_is_long(const struct model *model)
{
	return model->cells.count > REFIT_ROWS_QUICK || model->grid.points > PLAN_POINTS_QUICK;
}

/* Thin a list of contexts evenly to PLAN_CONTEXTS, ends kept. */
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

static bool is_kept(const struct grid *grid, bool keep[CLOCK_COUNT][GRID_AXIS_MAX], const uint32_t *contexts,
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
		if (count > PLAN_POINTS_MAX && !is_kept(&model->grid, keep, contexts, context_count, &points[i]))
			continue;
		list->index[list->count] = i;
		list->point[list->count++] =
			(struct plan_point){.at = fit_point(fit, points[i].point, points[i].context),
					    .weight = 1,
					    .allowed = true};
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

	if (!model_fit(model, phase))
		return 0;
	model_renew(model, phase);
	if (!state->any)
		fit_init(state->fit, phase, &model->grid);
	fit = *state->fit;
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

/* Contexts to profile, the most useful first: growth shows at both ends, and its curvature in between. */
static size_t plan_contexts_of(const struct model *model, enum phase phase, uint32_t only,
			       uint32_t contexts[PLAN_CONTEXTS])
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

/* Mean of bound / latency - 1 over the points considered. */
static double mean_width(const struct model *model, enum phase phase, const uint32_t *contexts,
			 const struct plan_list *list)
{
	double width = 0;

	for (size_t i = 0; i < list->count; i++) {
		size_t index = list->index[i];
		struct forecast f = surface_forecast(model, phase, contexts[index / model->grid.points],
						     grid_point(&model->grid, index % model->grid.points));
		width += f.width;
	}
	return width / (double)list->count;
}

static void list_grid(const struct model *model, const struct fit *fit, const uint8_t *allowed,
		      const uint32_t *contexts, size_t context_count, struct plan_list *list)
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
			list->point[list->count++] =
				(struct plan_point){.at = fit_point(fit, grid_point(&model->grid, i), contexts[c]),
						    .weight = 1,
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

	if (!model_fit(model, phase))
		return -ENOMEM;
	model_renew(model, phase);
	if (!state->any)
		fit_init(state->fit, phase, &model->grid);
	list_grid(model, state->fit, allowed, contexts, context_count, &list);
	width = state->any ? mean_width(model, phase, contexts, &list) : INFINITY;
	best = plan_next(state->fit, state->fit->rows, list.point, list.count, gain);
	if (best < 0)
		return 0;
	*point = grid_point(&model->grid, list.index[best] % model->grid.points);
	*context = contexts[list.index[best] / model->grid.points];
	if (width < model->options.ready_width * PLAN_STOP)
		return 0;
	return width > model->options.ready_width || *gain > PLAN_GAIN_MIN;
}
