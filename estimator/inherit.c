/* SPDX-License-Identifier: MIT */
/* Measurements of other boards of the same kind as rows of the fit, whose common difference from this board is part of
 * their covariance. */
#include <math.h>

#include "state.h"

/* Prior deviations, in log latency. A cell of the others is the mean over some of them, often over one, so that beside
 * the common difference each cell has one of its own, which is as large. */
#define SPREAD_LEVEL 0.06 /* of the level of two boards of a kind, */
#define SPREAD_SLOPE 0.02 /* and of its slope, for a factor of e of one clock or of the context */
#define PRIOR_WEIGHT 2    /* weight of these, in measurements of this board */
#define STRANGE      2.0  /* ratio of the difference to its prior from which a board is of another kind */
#define OWN_ENOUGH   12   /* own rows after which inherited ones are not used */
#define DIFFERENCES  (1 + FIT_AXES)

static const double spread_mean[DIFFERENCES];
static const double spread_sd[DIFFERENCES] = {SPREAD_LEVEL, SPREAD_SLOPE, SPREAD_SLOPE, SPREAD_SLOPE, SPREAD_SLOPE};

void model_inherit(struct model *model, struct model *from)
{
	model_free(model->inherited);
	model->inherited = from;
	model->taught++;
	for (int p = 0; p < PHASE_COUNT; p++)
		model->phase[p].stale = true;
}

bool model_inherited(const struct model *model, enum phase phase, double *sd)
{
	*sd = model->phase[phase].inherited_sd;
	return *sd > 0;
}

/* This board's own cells, and by how much they differ from the others. */
struct differences {
	struct fit_point at[FIT_ROWS_MAX];
	double log[FIT_ROWS_MAX];
	size_t count;
};

static void evaluate(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct differences *d = arg;

	for (size_t k = 0; k < d->count; k++) {
		residual[k] = (x[0] - d->log[k]) / SPREAD_LEVEL;
		for (int a = 0; a < FIT_AXES; a++)
			residual[k] += x[1 + a] * d->at[k].u[a] / SPREAD_LEVEL;
		for (int i = 0; i < DIFFERENCES && jacobian; i++)
			jacobian[k * DIFFERENCES + (size_t)i] = (i ? d->at[k].u[i - 1] : 1) / SPREAD_LEVEL;
	}
}

/* Ratio of the difference of this board from the others to its prior, by its own cells. */
static double compare(struct model *model, enum phase phase, size_t rows)
{
	struct differences d = {.count = 0};
	double x[DIFFERENCES] = {0};
	struct lsq lsq = {.params = DIFFERENCES,
			  .prior_mean = spread_mean,
			  .prior_sd = spread_sd,
			  .iterations = 8, /* it is linear */
			  .evaluate = evaluate,
			  .arg = &d};

	for (uint32_t i = 0; i < model->cells.count && d.count < rows; i++) {
		const struct cell *cell = &model->cells.cell[i];
		struct prediction p;

		if (cell->phase != phase || !cell->n ||
		    model_predict(model->inherited, phase, cell->context, cell->point, &p) < 0)
			continue;
		d.at[d.count] = fit_place(model->phase[phase].fit, cell->point, cell->context);
		d.log[d.count++] = cell->mean - log(p.latency_ns);
	}
	lsq.residuals = d.count;
	if (!d.count)
		return INFINITY; /* the others did not measure this phase */
	/* the least sum is the chi-squared of the differences under the prior */
	return sqrt((PRIOR_WEIGHT + lsq_solve(&lsq, x, NULL)) / (PRIOR_WEIGHT + (double)d.count));
}

/* Whether this model has a row at that place. */
static bool is_known(const struct model *model, const struct cell *other)
{
	uint32_t i = cells_find(&model->cells, &model->grid, other->phase, other->context, other->point);

	return i != NO_CELL && model->cells.cell[i].n;
}

size_t inherit_rows(struct model *model, enum phase phase, size_t rows)
{
	struct phase_state *state = &model->phase[phase];
	const struct cells *others = model->inherited ? &model->inherited->cells : NULL;

	state->inherited_sd = 0;
	if (!others || !rows || rows >= OWN_ENOUGH || state->timeline)
		return rows;
	double ratio = compare(model, phase, rows);
	if (ratio > STRANGE)
		return rows;
	state->inherited_sd = ratio * SPREAD_LEVEL;
	for (int i = 0; i < DIFFERENCES; i++)
		state->fit->others_sd[i] = ratio * spread_sd[i];
	for (uint32_t i = 0; i < others->count && rows < FIT_ROWS_MAX; i++) {
		const struct cell *cell = &others->cell[i];

		if (cell->phase != phase || !cell->n || is_known(model, cell))
			continue;
		state->fit->row[rows++] =
			(struct fit_row){.at = fit_point(state->fit, cell->point, cell->context),
					 .log_ns = cell->mean,
					 .noise_var = cell->var + state->inherited_sd * state->inherited_sd,
					 .others = true};
	}
	return rows;
}

size_t inherit_power(struct model *model, enum phase phase, struct power_row *row, size_t rows)
{
	const struct phase_state *state = &model->phase[phase];
	const struct cells *others = model->inherited ? &model->inherited->cells : NULL;

	if (!others || state->inherited_sd <= 0)
		return rows;
	for (uint32_t i = 0; i < others->count && rows < FIT_ROWS_MAX; i++) {
		const struct cell *cell = &others->cell[i];

		if (cell->phase != phase || !cell->n || cell->power_uw <= 0 || is_known(model, cell))
			continue;
		row[rows++] = (struct power_row){.at = fit_point(state->fit, cell->point, cell->context),
						 .point = cell->point,
						 .latency_ns = exp(cell->mean),
						 .power_uw = cell->power_uw,
						 .var = model->power_var / cell->power_n +
							state->inherited_sd * state->inherited_sd};
	}
	return rows;
}
