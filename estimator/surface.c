/* SPDX-License-Identifier: MIT */
/* From cells to a fit, from the fit to surfaces over the grid. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/quantile.h"
#include "bound.h"
#include "state.h"

#define NOISE_PRIOR 0.015 /* prior of the upper quantile of a request: 1.5 % at 98 % in measured traces */
#define BOUND_WIDEN 1.1   /* the modes agree too well, as their weights are estimated from few rows too, */
#define BOUND_FLOOR 0.009 /* and few rows do not show the irregularity of a board */
/* Deviation, in the bound alone, of a point that was never measured: 98 % of the points of boards as irregular as the
 * 33 measured ones lie less than 7 % above the median of theirs, mostly in rows of which no other row tells. */
#define BOUND_IRREGULAR    0.034
#define ENVELOPE_ROWS      3     /* fewer rows than this: the bound is the envelope alone */
#define ENVELOPE_SPREAD    0.5   /* share of the smooth irregularity that loosens the envelope */
#define NOISE_STEP         0.001 /* least change of scatter for which bounds are updated */
#define CONTEXT_SLOPE      0.15  /* rms error of the fitted growth per unit of context_log(), on generated models */
#define FULL_CELL          4.0   /* inferences after which a cell's own scatter dominates */
#define NUDGE_REACH        0.25  /* log clock over which a cell's change fades */
#define READY_BAND         0.35  /* log latency about recent requests that must be tight */
#define READY_UNSEEN       0.5   /* weight of a point that no request used, in inferences */
#define READY_REQUESTS     30
#define TIMELINE_ERROR_MAX 0.15 /* relative error of totals by the timeline, from which layers and totals contradict */
#define TIMELINE_SPREAD    0.04 /* log: prior error of a timeline before any total was measured; smooth over clocks, */
#define TIMELINE_NUGGET    0.02 /* and independent at each point */

/* ---- rows of the fit ---- */

/* Cells of a phase for the fit: all, or the best spread FIT_ROWS_MAX of them, the most
 * measured first. */
static size_t choose_rows(const struct model *model, enum phase phase, uint32_t *row)
{
	const struct cells *cells = &model->cells;
	struct fit frame;
	double far[SAMPLES_MAX], u[SAMPLES_MAX][FIT_AXES];
	uint32_t best = NO_CELL;
	size_t rows = 0;

	fit_init(&frame, phase, &model->grid);
	for (uint32_t i = 0; i < cells->count; i++) {
		if (cells->cell[i].phase != phase || !cells->cell[i].n)
			continue;
		far[i] = INFINITY;
		struct fit_point at = fit_point(&frame, cells->cell[i].point, cells->cell[i].context);
		memcpy(u[i], at.u, sizeof(u[i]));
		if (best == NO_CELL || cells->cell[i].n > cells->cell[best].n)
			best = i;
	}
	while (best != NO_CELL && rows < FIT_ROWS_MAX) {
		const double *at = u[best];

		row[rows++] = best;
		far[best] = -1;
		best = NO_CELL;
		for (uint32_t i = 0; i < cells->count; i++) {
			double d = 0;
			if (cells->cell[i].phase != phase || !cells->cell[i].n || far[i] < 0)
				continue;
			for (int a = 0; a < FIT_AXES; a++)
				d += (at[a] - u[i][a]) * (at[a] - u[i][a]);
			far[i] = fmin(far[i], d);
			if (best == NO_CELL || far[i] > far[best])
				best = i;
		}
	}
	return rows;
}

static void refit_power(struct model *model, struct phase_state *state, enum phase phase)
{
	struct power_row row[FIT_ROWS_MAX];
	double fastest = INFINITY;
	size_t count = 0;

	for (uint32_t i = 0; i < model->cells.count; i++) {
		struct cell *cell = &model->cells.cell[i];

		if (cell->phase != phase || !cell->n)
			continue;
		fastest = fmin(fastest, cell->mean);
		cell_power_fitted(cell);
		if (!model->options.power_sensor || cell->power_uw <= 0 || count == FIT_ROWS_MAX)
			continue;
		row[count++] = (struct power_row){.at = fit_point(state->fit, cell->point, cell->context),
						  .point = cell->point,
						  .latency_ns = exp(cell->mean),
						  .power_uw = cell->power_uw,
						  .var = model->power_var / cell->power_n};
	}
	if (count)
		count = inherit_power(model, phase, row, count);
	power_solve(&state->power, &model->grid, state->fit, row, count, exp(fastest), &model->options.board);
}

void drop_timeline(struct model *model, struct phase_state *state)
{
	model_count(model, 0, timeline_bytes(state->timeline));
	timeline_free(state->timeline);
	state->timeline = NULL;
}

/* A fit of layers and end-to-end measurements; out of memory, or if the two contradict each other, the form of shape.h
 * is fitted without layers. */
static void refit_timeline(struct model *model, enum phase phase, const uint32_t *row, size_t rows)
{
	struct phase_state *state = &model->phase[phase];
	struct sample total[FIT_ROWS_MAX];
	struct layer *layers = NULL;
	long count;

	for (size_t i = 0; i < rows; i++) {
		const struct cell *cell = &model->cells.cell[row[i]];
		double ns = exp(cell->mean);

		total[i] = (struct sample){.phase = phase,
					   .context = cell->context,
					   .point = cell->point,
					   .n = cell->n,
					   .latency_ns = (uint64_t)(ns + 0.5),
					   .sd_ns = (uint64_t)(sqrt(cell->single_var) * ns)};
	}
	drop_timeline(model, state);
	count = layer_store_copy(&model->layers, &layers);
	for (long i = 0; i < count; i++)
		if (layers[i].phase == phase && layers[i].layer >= model->options.layers_fitted_max)
			count = 0;
	if (count > 0 && !timeline_fit(&model->grid, phase, layers, (size_t)count, total, rows, &state->timeline))
		model_count(model, timeline_bytes(state->timeline), 0);
	if (state->timeline && timeline_facts(state->timeline).total_error >= TIMELINE_ERROR_MAX)
		drop_timeline(model, state);
	free(layers);
}

/* Without end-to-end measurements the layers alone give the surface. */
static void trust_layers(struct fit *fit)
{
	const double exact[1 + FIT_AXES] = {0};

	fit_assume(fit, &fit->mode[0], exact, TIMELINE_SPREAD, TIMELINE_NUGGET);
	fit->modes = 1;
}

void model_refit(struct model *model, enum phase phase, bool with_layers)
{
	struct phase_state *state = &model->phase[phase];
	uint32_t row[FIT_ROWS_MAX];
	size_t rows;

	if (!model_fit(model, phase))
		return;
	state->taught = model->taught;
	rows = choose_rows(model, phase, row);
	if (with_layers && state->layers && state->stale)
		refit_timeline(model, phase, row, rows);
	fit_init(state->fit, phase, &model->grid);
	if (state->timeline)
		fit_use_timeline(state->fit, state->timeline);
	for (size_t i = 0; i < rows; i++) {
		struct cell *cell = &model->cells.cell[row[i]];

		cell->fitted = cell->mean;
		state->fit->row[i] = (struct fit_row){.at = fit_point(state->fit, cell->point, cell->context),
						      .log_ns = cell->mean,
						      .noise_var = cell->var};
	}
	state->own_rows = rows;
	memcpy(state->own_row, row, rows * sizeof(*row));
	state->fit->rows = inherit_rows(model, phase, rows);
	if (rows)
		fit_solve(state->fit);
	else if (state->timeline)
		trust_layers(state->fit);
	refit_power(model, state, phase);
	if (state->stale || rows <= REFIT_ROWS_QUICK)
		state->patience = REFIT_PATIENCE;
	else if (state->patience < REFIT_PATIENCE_MAX)
		state->patience *= 2;
	state->stale = false;
	state->since = 0;
	state->fresh = 0;
	state->drift = 0;
	state->generation++;
}

/* ---- one point ---- */

double surface_noise_log(const struct model *model)
{
	return correct_scatter(&model->correct, model->options.quantile, NOISE_PRIOR);
}

static enum regime regime_of(const struct fit *fit, const struct fit_point *at)
{
	const double *param = fit->mode[0].param;
	double slope[LSQ_PARAMS_MAX], launch, execution, inside, power = 1 / shape_power(param[SHAPE_JOIN]);

	/* the slopes are shares of the joined k-norm's k-th power; its k-th root gives back the two times, over the
	 * latency */
	shape_log_ns(param, fit->params, &at->place, slope);
	launch = slope[SHAPE_LAUNCH] + slope[SHAPE_LAUNCH_FIXED];
	execution = slope[SHAPE_CORE] + slope[SHAPE_MEMORY];
	inside = launch + execution;
	return timeline_regime(1, inside * pow(launch / inside, power), inside * pow(execution / inside, power));
}

/* Combine a cell and the fit by their variances. The fit's is at least what their difference shows, since the fit
 * gives little weight to a row that it cannot explain. At another context the cell is scaled by the fitted growth. */
static void weigh_cell(const struct model *model, const struct cell *cell, double grown, double gap,
		       struct fit_guess *guess)
{
	double single = fmax(cell->single_var, model->correct.noise_var), drift = CONTEXT_SLOPE * gap;
	double var = fmax(cell->var, single / fmax(cell->n, 1) * 0.25) + drift * drift;
	double off = cell->mean + grown - guess->log_ns, fit_var = fmax(guess->sd * guess->sd, off * off - var);

	guess->log_ns += off * fit_var / (fit_var + var);
	guess->sd = sqrt(fit_var * var / (fit_var + var));
}

/* Standard deviation of the envelope itself, as the points that define it are irregular. */
static double envelope_sd(const struct fit *fit)
{
	double var = 0;

	for (size_t m = 0; m < fit->modes; m++) {
		const struct fit_mode *mode = &fit->mode[m];
		var += mode->weight * (2 * mode->nugget * mode->nugget + ENVELOPE_SPREAD * mode->spread * mode->spread);
	}
	return sqrt(var);
}

/* Log of the bound if no point were irregular, from the expectation, its deviation and the physical envelope. `seen`:
 * inferences at exactly this point. `few` rows: only the envelope counts. */
static double smooth_bound_log(double z, double noise, bool few, double log_ns, double sd, double limit, uint32_t seen)
{
	double wide = z * sd;

	if (few && !seen && isfinite(limit))
		return fmax(limit, log_ns);
	return fmax(fmin(log_ns + sqrt(wide * wide + noise * noise), limit), log_ns);
}

/* The bound itself, given that one. */
static double bound_log(double z, double log_ns, double smooth_log, uint32_t seen)
{
	return seen ? smooth_log : log_ns + hypot(smooth_log - log_ns, z * BOUND_IRREGULAR);
}

static void set_bound(const struct model *model, const struct phase_state *state, const struct envelope *envelope,
		      const struct cell *cell, struct forecast *out)
{
	const struct fit *fit = state->fit;
	double noise = surface_noise_log(model), z = quantile_normal(model->options.quantile),
	       loose = z * envelope_sd(fit), smooth_log;
	uint32_t seen = cell ? cell->n : 0;

	/* a measurement at the very point says more than those elsewhere */
	out->limit = seen ? INFINITY : envelope->high + sqrt(loose * loose + noise * noise);
	smooth_log = smooth_bound_log(z, noise, fit->rows < ENVELOPE_ROWS, out->log_ns, out->sd, out->limit, seen);
	out->width = exp(smooth_log - out->log_ns) - 1;
	out->bound_log = bound_log(z, out->log_ns, smooth_log, seen);
	out->source = smooth_log < out->limit ? BOUND_FIT : BOUND_ENVELOPE;
	if (cell)
		out->source = cell->n >= FULL_CELL ? BOUND_CELL : BOUND_NEIGHBOUR;
}

void surface_rebound(struct model *model, struct surface_slot *slot)
{
	double noise = surface_noise_log(model), z = quantile_normal(model->options.quantile);
	struct surface *s = &slot->surface;
	bool few = model->phase[s->phase].fit->rows < ENVELOPE_ROWS;

	if (fabs(noise - slot->noise) < NOISE_STEP)
		return;
	for (size_t i = 0; i < model->grid.points; i++) {
		double log_ns = (double)slot->log_ns[i], smooth_log;

		smooth_log = smooth_bound_log(z, noise, few, log_ns, (double)slot->sd[i], (double)slot->limit[i],
					      s->measured[i]);
		s->bound_ns[i] = fmaxf((float)exp(bound_log(z, log_ns, smooth_log, s->measured[i])), s->latency_ns[i]);
	}
	slot->noise = noise;
}

static struct forecast forecast_at(const struct model *model, enum phase phase, const struct fit_point *at,
				   struct op_point point, const struct cell *cell, uint32_t context)
{
	const struct phase_state *state = &model->phase[phase];
	struct fit_guess guess = fit_predict(state->fit, at);
	struct envelope envelope = bound_envelope(state->fit, at);
	double loose = envelope_sd(state->fit);
	struct forecast out;

	guess.log_ns = fmin(fmax(guess.log_ns, envelope.low - loose), envelope.high + loose);
	if (cell)
		weigh_cell(model, cell, surface_growth_log(model, phase, point, cell->context, context),
			   fabs(context_log(context) - context_log(cell->context)), &guess);
	out.log_ns = guess.log_ns;
	out.sd = cell && cell->n ? guess.sd : BOUND_WIDEN * guess.sd + BOUND_FLOOR;
	/* One or two rows say little about the other clocks: everything within the envelope is possible. */
	if (!(cell && cell->n) && state->fit->rows < ENVELOPE_ROWS && isfinite(envelope.high))
		out.sd = fmax(out.sd, (envelope.high - guess.log_ns) / (2 * (double)state->fit->rows));
	set_bound(model, state, &envelope, cell, &out);
	out.power_uw = power_predict(&state->power, state->fit, at, point, exp(out.log_ns), &out.idle_uw);
	return out;
}

static const struct cell *cell_at(const struct model *model, enum phase phase, uint32_t context, struct op_point point)
{
	double gap;
	uint32_t i = cells_near(&model->cells, &model->grid, phase, context, point, &gap);

	return i == NO_CELL ? NULL : &model->cells.cell[i];
}

struct forecast surface_forecast(const struct model *model, enum phase phase, uint32_t context, struct op_point point)
{
	struct fit_point at = fit_point(model->phase[phase].fit, point, context);

	return forecast_at(model, phase, &at, point, cell_at(model, phase, context, point), context);
}

double surface_growth_log(const struct model *model, enum phase phase, struct op_point point, uint32_t from,
			  uint32_t to)
{
	const struct fit *fit = model->phase[phase].fit;
	struct fit_point before, after;

	if (from == to)
		return 0;
	before = fit_point(fit, point, from);
	after = fit_point(fit, point, to);
	return fit_predict(fit, &after).log_ns - fit_predict(fit, &before).log_ns;
}

/* ---- the whole grid ---- */

static void set_point(struct surface_slot *slot, size_t i, const struct forecast *f, const struct cell *cell)
{
	struct surface *s = &slot->surface;

	slot->log_ns[i] = (float)f->log_ns;
	slot->sd[i] = (float)f->sd;
	slot->limit[i] = (float)f->limit;
	s->latency_ns[i] = (float)exp(f->log_ns);
	s->bound_ns[i] = fmaxf((float)exp(f->bound_log), s->latency_ns[i]);
	s->power_uw[i] = (float)f->power_uw;
	s->idle_power_uw[i] = (float)f->idle_uw;
	s->source[i] = (uint8_t)f->source;
	s->measured[i] = cell ? cell->n : 0;
}

/* Ready when the bound is tight over the grid or, once there were requests, about their latencies, with points weighted
 * by the number of requests there. That points may be irregular does not count: no measurement of others changes it. */
static bool tight(const struct model *model, const struct surface_slot *slot)
{
	const struct phase_state *state = &model->phase[slot->surface.phase];
	double all = 0, near = 0, weights = 0, z = quantile_normal(model->options.quantile);
	bool few = state->fit->rows < ENVELOPE_ROWS;

	for (size_t i = 0; i < model->grid.points; i++) {
		uint32_t seen = slot->surface.measured[i];
		double log_ns = (double)slot->log_ns[i], weight = READY_UNSEEN + seen;
		double smooth_log = smooth_bound_log(z, slot->noise, few, log_ns, (double)slot->sd[i],
						     (double)slot->limit[i], seen);
		double width = exp(smooth_log - log_ns) - 1;

		all += width;
		if (fabs((double)slot->log_ns[i] - state->recent) > READY_BAND)
			continue;
		near += weight * width;
		weights += weight;
	}
	if (all < model->options.ready_width * (double)model->grid.points)
		return true;
	return model->correct.seen >= READY_REQUESTS && near < model->options.ready_width * weights;
}

static bool mostly_extrapolated(const struct model *model, const struct surface *s)
{
	size_t far = 0;

	for (size_t i = 0; i < model->grid.points; i++)
		far += s->measured[i] == 0 && s->source[i] == BOUND_ENVELOPE;
	return 2 * far > model->grid.points;
}

void surface_judge(struct model *model, struct surface_slot *slot)
{
	struct surface *s = &slot->surface;

	s->state = s->shown = tight(model, slot) ? SURFACE_READY : SURFACE_LEARNING;
	if (s->shown == SURFACE_READY && mostly_extrapolated(model, s))
		s->shown = SURFACE_EXTRAPOLATED;
	model->phase[s->phase].shown = s->shown;
}

void surface_build(struct model *model, struct surface_slot *slot, enum phase phase, uint32_t context)
{
	struct phase_state *state = &model->phase[phase];

	slot->surface.phase = phase;
	slot->surface.context = context;
	slot->surface.power_known = state->power.known;
	slot->generation = state->generation;
	slot->noise = surface_noise_log(model);
	memset(slot->surface.bubble_ns, 0, model->grid.points * sizeof(float));
	if (state->fit->timeline)
		timeline_surface(state->fit->timeline, context, slot->surface.latency_ns, slot->surface.regime,
				 slot->surface.bubble_ns);
	for (size_t i = 0; i < model->grid.points; i++) {
		struct op_point point = grid_point(&model->grid, i);
		const struct cell *cell = cell_at(model, phase, context, point);
		struct fit_point at = fit_place(state->fit, point, context);
		if (state->fit->timeline)
			at.timeline = log((double)slot->surface.latency_ns[i]);
		else
			slot->surface.regime[i] = (uint8_t)regime_of(state->fit, &at);
		struct forecast f = forecast_at(model, phase, &at, point, cell, context);

		set_point(slot, i, &f, cell);
	}
	power_monotone(&model->grid, slot->surface.power_uw);
	power_monotone(&model->grid, slot->surface.idle_power_uw);
	surface_judge(model, slot);
}

/* Log latency is nearly linear in the logarithm of context plus an offset. */
static float share_of(const struct surface_slot *low, const struct surface_slot *high, uint32_t context)
{
	double from = context_log(low->surface.context), to = context_log(high->surface.context);

	return (float)((context_log(context) - from) / (to - from));
}

static float between(float low, float high, float share)
{
	return low + share * (high - low);
}

/* Points measured close to this context, which neither knot may include. */
static void blend_cells(struct model *model, struct surface_slot *slot)
{
	struct surface *s = &slot->surface;

	for (size_t i = 0; i < model->grid.points; i++) {
		struct op_point point = grid_point(&model->grid, i);
		const struct cell *cell =
			model->cells.first[s->phase][i] ? cell_at(model, s->phase, s->context, point) : NULL;

		if (!cell)
			continue;
		struct fit_point at = fit_point(model->phase[s->phase].fit, point, s->context);
		struct forecast f = forecast_at(model, s->phase, &at, point, cell, s->context);
		set_point(slot, i, &f, cell);
	}
}

void surface_blend(struct model *model, struct surface_slot *slot, const struct surface_slot *low,
		   const struct surface_slot *high, uint32_t context)
{
	const struct surface *a = &low->surface, *b = &high->surface, *nearer;
	struct surface *s = &slot->surface;
	float share = share_of(low, high, context);

	nearer = share < 0.5f ? a : b;
	s->phase = a->phase;
	s->context = context;
	s->power_known = a->power_known;
	s->state = nearer->state;
	s->shown = nearer->shown;
	slot->generation = low->generation < high->generation ? low->generation : high->generation;
	slot->noise = low->noise;
	for (size_t i = 0; i < model->grid.points; i++) {
		slot->log_ns[i] = between(low->log_ns[i], high->log_ns[i], share);
		slot->sd[i] = fmaxf(low->sd[i], high->sd[i]);
		slot->limit[i] = between(low->limit[i], high->limit[i], share);
		s->latency_ns[i] = expf(slot->log_ns[i]);
		s->bound_ns[i] = s->latency_ns[i] *
				 between(a->bound_ns[i] / a->latency_ns[i], b->bound_ns[i] / b->latency_ns[i], share);
		s->power_uw[i] = between(a->power_uw[i], b->power_uw[i], share);
		s->idle_power_uw[i] = between(a->idle_power_uw[i], b->idle_power_uw[i], share);
		s->bubble_ns[i] = between(a->bubble_ns[i], b->bubble_ns[i], share);
		s->source[i] = nearer->source[i];
		s->regime[i] = nearer->regime[i];
		s->measured[i] = 0;
	}
	blend_cells(model, slot);
}

static double fade(const struct grid *grid, size_t a, size_t b)
{
	struct op_point x = grid_point(grid, a), y = grid_point(grid, b);
	double square = 0;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		double gap = x.hz[c] && y.hz[c] ? log((double)x.hz[c] / (double)y.hz[c]) : 0;
		square += gap * gap;
	}
	return exp(-0.5 * square / (NUDGE_REACH * NUDGE_REACH));
}

/* Points that were not measured, within two entries of each axis. */
static void nudge_slot(const struct model *model, struct surface_slot *slot, const struct cell *cell, double change)
{
	const struct grid *grid = &model->grid;
	size_t centre[CLOCK_COUNT], axis[CLOCK_COUNT], low[CLOCK_COUNT], high[CLOCK_COUNT];
	struct surface *s = &slot->surface;

	grid_axes(grid, cell->nearest, centre);
	for (int c = 0; c < CLOCK_COUNT; c++) {
		low[c] = centre[c] > 2 ? centre[c] - 2 : 0;
		high[c] = centre[c] + 2 < grid->count[c] ? centre[c] + 2 : grid->count[c] - 1;
	}
	for (axis[0] = low[0]; axis[0] <= high[0]; axis[0]++) {
		for (axis[1] = low[1]; axis[1] <= high[1]; axis[1]++) {
			for (axis[2] = low[2]; axis[2] <= high[2]; axis[2]++) {
				size_t i = grid_index(grid, axis);
				float factor;

				if (i == cell->nearest || s->measured[i])
					continue;
				factor = (float)exp(change * fade(grid, cell->nearest, i));
				slot->log_ns[i] += logf(factor);
				s->latency_ns[i] *= factor;
				s->bound_ns[i] *= factor;
				if (s->source[i] == BOUND_FIT)
					s->source[i] = BOUND_NEIGHBOUR;
			}
		}
	}
}

void surface_nudge(struct model *model, const struct cell *cell)
{
	double noise = surface_noise_log(model), z = quantile_normal(model->options.quantile);

	for (size_t k = 0; k < SURFACES_MAX; k++) {
		struct surface_slot *slot = &model->slot[k];
		struct surface *s = &slot->surface;
		size_t i = cell->nearest;

		if (!slot->used || s->phase != cell->phase || context_band(s->context) != context_band(cell->context) ||
		    cell->off_grid)
			continue;
		double log_ns =
			cell->mean + surface_growth_log(model, cell->phase, cell->point, cell->context, s->context);
		double change = log_ns - (double)slot->log_ns[i];
		if (fabs(change) > 1e-4)
			nudge_slot(model, slot, cell, change);
		double drift = CONTEXT_SLOPE * (context_log(s->context) - context_log(cell->context));
		s->measured[i] = cell->n;
		s->source[i] = cell->n >= FULL_CELL ? BOUND_CELL : BOUND_NEIGHBOUR;
		slot->log_ns[i] = (float)log_ns;
		slot->sd[i] = (float)sqrt(cell->var + drift * drift);
		slot->limit[i] = INFINITY;
		s->latency_ns[i] = (float)exp(log_ns);
		s->bound_ns[i] =
			(float)exp(smooth_bound_log(z, noise, false, log_ns, (double)slot->sd[i], INFINITY, cell->n));
		s->bound_ns[i] = fmaxf(s->bound_ns[i], s->latency_ns[i]);
	}
}
