/* SPDX-License-Identifier: MIT */
/* What other boards of the kind measured, as rows of this one's fit: moved to its level, and trusted as far as it
 * agrees. */
#include <math.h>

#include "state.h"

#define SPREAD_FIRST  0.04 /* log: how boards of one kind differ in shape before anything is known of this one, */
#define SPREAD_WEIGHT 2    /* weight of that prior, in measurements of the spread */
#define LEVEL_FIRST   0.1  /* log: how they differ in level */
#define INHERITED_OFF 0.08 /* log: a board that is off by more is another kind */
/* Boards of a kind differ in level and over each of three clocks: degrees of freedom. More rows than that have
 * common errors. */
#define WAYS       4
#define OWN_ENOUGH 12 /* rows of its own after which it needs no others' */

void model_inherit(struct model *model, struct model *from)
{
	model_free(model->inherited);
	model->inherited = from;
	for (int p = 0; p < PHASE_COUNT; p++)
		model->phase[p].stale = true;
}

bool model_inherited(const struct model *model, enum phase phase, double *sd)
{
	*sd = model->phase[phase].inherited_sd;
	return *sd > 0;
}

struct difference {
	double level, sd;
};

/* Of this board from the others, by its own rows. */
static struct difference compare(struct model *model, enum phase phase, size_t rows)
{
	double off[FIT_ROWS_MAX], sum = 0, squares = SPREAD_WEIGHT * SPREAD_FIRST * SPREAD_FIRST;
	struct difference d;
	size_t count = 0;

	for (uint32_t i = 0; i < model->cells.count && count < rows; i++) {
		const struct cell *cell = &model->cells.cell[i];
		struct prediction p;

		if (cell->phase != phase || !cell->n ||
		    model_predict(model->inherited, phase, cell->context, cell->point, &p) < 0)
			continue;
		off[count] = cell->mean - log(p.latency_ns);
		sum += off[count++];
	}
	/* the level shrinks to none where little is measured, by the share that scatter has in its mean */
	d.level = count ? sum / ((double)count + SPREAD_FIRST * SPREAD_FIRST / (LEVEL_FIRST * LEVEL_FIRST)) : 0;
	for (size_t i = 0; i < count; i++)
		squares += (off[i] - d.level) * (off[i] - d.level);
	d.sd = sqrt(squares / (SPREAD_WEIGHT + (double)count));
	return d;
}

/* Does this model have a row at that place? */
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
	struct difference d = compare(model, phase, rows);
	if (d.sd > INHERITED_OFF || fabs(d.level) > 2 * INHERITED_OFF)
		return rows;
	state->inherited_sd = d.sd;
	size_t first = rows;
	for (uint32_t i = 0; i < others->count && rows < FIT_ROWS_MAX; i++) {
		const struct cell *cell = &others->cell[i];

		if (cell->phase != phase || !cell->n || is_known(model, cell))
			continue;
		state->fit->row[rows++] = (struct fit_row){.at = fit_point(state->fit, cell->point, cell->context),
							   .log_ns = cell->mean + d.level,
							   .noise_var = cell->var + d.sd * d.sd};
	}
	for (size_t i = first; i < rows && rows - first > WAYS; i++)
		state->fit->row[i].noise_var *= (double)(rows - first) / WAYS;
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
