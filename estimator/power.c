/* SPDX-License-Identifier: MIT */
/* Board power over clocks. */
#include "power.h"

#include <math.h>
#include <string.h>
#include "dense.h"

#define SWEEPS      300
#define NOISE       0.015 /* relative error of a well-measured power, and of the form */
#define PRIOR_NOISE 0.03  /* the same for measurements of the board from another day */
/* Cost of a common fit beyond separate ones above which the prior is ignored; on the same board
 * below 5 in 95 of 100. */
#define PRIOR_STRANGE  12.0
#define SPREAD         0.03 /* smooth part of the residual of the form */
#define NUGGET         0.01
#define CONSTANT_MIN   0.05 /* share of the least power measured; every board has a constant part */
#define CORRECTION_MAX 1.0  /* log */
/* Share of the clock terms of CPU and GPU that remains when idle, if not measured: gated cores still leak. */
#define IDLE_SHARE  0.4
#define VOLTAGE_LOW 0.6 /* V at f -> 0 over V at the top: 0.5 to 0.7 in the tables of Tegra and RK3588 */

enum { CONSTANT, CLOCKS, WORK = CLOCKS + 3 * CLOCK_COUNT, WORK_TERMS = POWER_TERMS - WORK };

/* Terms of the model and of the prior: the clock terms are common to both, the work terms are not. */
enum { OTHER_WORK = POWER_TERMS, COLUMNS = POWER_TERMS + WORK_TERMS };
#define EQUATIONS_MAX (FIT_ROWS_MAX + BOARD_POWERS_MAX)

/* Shares of full power, and their uncertainty. They are also the relative cost on a board
 * without sensor: a third is constant; most of the rest is work of GPU and CPU, as f V^2
 * has it (Weste and Harris, CMOS VLSI Design, ch. 5), with memory about a
 * seventh (Orin Nano: 7.1 W at 2133 MHz, 8.2 W at 3199 MHz, same work). */
static const double typical[POWER_TERMS] = {
	0.30,                         /* constant */
	0.03, 0.02, 0.05,             /* CPU f, f^2, f^3 */
	0.03, 0.02, 0.07,             /* GPU */
	0.08, 0.03, 0.03,             /* memory */
	0.04, 0.09, 0.13, 0.03, 0.05, /* work: alone, and by CPU and GPU; then CPU and GPU while they wait for memory */
};
static const double typical_sd[POWER_TERMS] = {
	0.15, 0.05, 0.05, 0.10, 0.05, 0.05, 0.10, 0.06, 0.04, 0.04, 0.08, 0.12, 0.15, 0.10, 0.15,
};

static double voltage_squared(double f)
{
	double v = VOLTAGE_LOW + (1 - VOLTAGE_LOW) * f;

	return v * v;
}

/* Every term is 1 at full clocks and full speed. */
static void terms(const struct power_model *model, double fastest_ns, struct op_point point, double latency_ns,
		  double term[POWER_TERMS])
{
	double rate = latency_ns > 0 ? fmin(fastest_ns / latency_ns, 2) : 1, f[CLOCK_COUNT];

	term[CONSTANT] = 1;
	for (int c = 0; c < CLOCK_COUNT; c++) {
		f[c] = point.hz[c] && model->top_hz[c] > 0 ? (double)point.hz[c] / model->top_hz[c] : 1;
		term[CLOCKS + 3 * c] = f[c];
		term[CLOCKS + 3 * c + 1] = f[c] * f[c];
		term[CLOCKS + 3 * c + 2] = f[c] * f[c] * f[c];
	}
	term[WORK] = rate;
	term[WORK + 1] = rate * voltage_squared(f[CLOCK_CPU]);
	term[WORK + 2] = rate * voltage_squared(f[CLOCK_GPU]);
	term[WORK + 3] = f[CLOCK_CPU] * term[WORK + 1];
	term[WORK + 4] = f[CLOCK_GPU] * term[WORK + 2];
}

static double form(const struct power_model *model, struct op_point point, double latency_ns, double *idle_uw)
{
	double term[POWER_TERMS], sum = 0, idle = 0;

	terms(model, model->fastest_ns, point, latency_ns, term);
	for (int j = 0; j < POWER_TERMS; j++) {
		double share = j >= WORK ? 0 : j >= CLOCKS && j < CLOCKS + 3 * CLOCK_MEM ? model->idle_share : 1;
		sum += model->weight[j] * term[j];
		idle += share * model->weight[j] * term[j];
	}
	*idle_uw = idle;
	return sum;
}

/* power = sum of weight x term, relative to `power_uw * noise`. */
struct equations {
	size_t count;
	double term[EQUATIONS_MAX][COLUMNS], left[EQUATIONS_MAX];
	double mean[COLUMNS], sd[COLUMNS], weight[COLUMNS], least;
};

/* Full power from one group of equations under the typical shares. */
static double add_level(const double term[POWER_TERMS], double power_uw)
{
	double sum = 0;

	for (int j = 0; j < POWER_TERMS; j++)
		sum += typical[j] * term[j];
	return power_uw / sum;
}

static void add_equation(struct equations *e, const double term[POWER_TERMS], double power_uw, double noise, int work)
{
	double *row = e->term[e->count];

	memset(row, 0, sizeof(e->term[0]));
	for (int j = 0; j < POWER_TERMS; j++)
		row[j < WORK ? j : j - WORK + work] = term[j] / (power_uw * noise);
	e->left[e->count++] = 1 / noise;
	e->least = fmin(e->least, power_uw);
}

static double prior_fastest_ns(const struct board_powers *prior)
{
	double fastest = INFINITY;

	for (size_t k = 0; k < prior->count; k++)
		if (prior->point[k].latency_ns > 0)
			fastest = fmin(fastest, prior->point[k].latency_ns);
	return fastest;
}

static void gather(struct equations *e, const struct power_model *model, const struct power_row *rows, size_t count,
		   const struct board_powers *prior)
{
	double own = 0, other = 0, fastest = prior_fastest_ns(prior), term[POWER_TERMS];

	e->count = 0;
	e->least = INFINITY;
	for (size_t k = 0; k < count; k++) {
		terms(model, model->fastest_ns, rows[k].point, rows[k].latency_ns, term);
		own += add_level(term, rows[k].power_uw) / (double)count;
		add_equation(e, term, rows[k].power_uw, sqrt(NOISE * NOISE + rows[k].var), WORK);
	}
	for (size_t k = 0; k < prior->count; k++) {
		terms(model, fastest, prior->point[k].point, prior->point[k].latency_ns, term);
		other += add_level(term, prior->point[k].power_uw) / (double)prior->count;
		add_equation(e, term, prior->point[k].power_uw, PRIOR_NOISE, OTHER_WORK);
	}
	for (int j = 0; j < COLUMNS; j++) {
		int term_of = j < OTHER_WORK ? j : j - WORK_TERMS;
		double level = (j < WORK && prior->count) || j >= OTHER_WORK || !count ? other : own;

		e->mean[j] = e->weight[j] = typical[term_of] * level;
		e->sd[j] = fmax(typical_sd[term_of] * level, 1e-9);
	}
}

/* Ridge regression with weights >= 0 by coordinate descent. Returns its cost: the squared residuals, and the squared
 * distances of the weights from their priors. */
static double descend(struct equations *e)
{
	double cost = 0;

	for (size_t k = 0; k < e->count; k++)
		for (int j = 0; j < COLUMNS; j++)
			e->left[k] -= e->weight[j] * e->term[k][j];
	for (int sweep = 0; sweep < SWEEPS; sweep++) {
		for (int j = 0; j < COLUMNS; j++) {
			double curve = 1 / (e->sd[j] * e->sd[j]), slope = (e->mean[j] - e->weight[j]) * curve, step;

			for (size_t k = 0; k < e->count; k++) {
				curve += e->term[k][j] * e->term[k][j];
				slope += e->term[k][j] * e->left[k];
			}
			step = fmax(slope / curve, (j == CONSTANT ? e->least * CONSTANT_MIN : 0) - e->weight[j]);
			e->weight[j] += step;
			for (size_t k = 0; k < e->count; k++)
				e->left[k] -= step * e->term[k][j];
		}
	}
	for (size_t k = 0; k < e->count; k++)
		cost += e->left[k] * e->left[k];
	for (int j = 0; j < COLUMNS; j++)
		cost += (e->weight[j] - e->mean[j]) * (e->weight[j] - e->mean[j]) / (e->sd[j] * e->sd[j]);
	return cost;
}

/* Share of the clock terms that remains when idle, as measured. */
static double idle_share(const struct power_model *model, const struct board_powers *prior)
{
	double share = 0, weight = 0, term[POWER_TERMS];

	for (size_t k = 0; k < prior->count; k++) {
		double clocks = 0, rest;

		if (prior->point[k].idle_uw <= 0)
			continue;
		terms(model, 1, prior->point[k].point, 1, term);
		rest = prior->point[k].idle_uw - model->weight[CONSTANT];
		for (int j = CLOCKS; j < WORK; j++) {
			if (j < CLOCKS + 3 * CLOCK_MEM)
				clocks += model->weight[j] * term[j];
			else
				rest -= model->weight[j] * term[j];
		}
		share += rest * clocks;
		weight += clocks * clocks;
	}
	return weight > 0 ? fmax(0, fmin(share / weight, 1)) : IDLE_SHARE;
}

/* A prior from another board, or from this one in another state, contradicts the rows of the model: no common clock
 * terms fit both. */
static void solve_weights(struct power_model *model, const struct power_row *rows, size_t count,
			  const struct board_powers *prior)
{
	static const struct board_powers none = {0};
	struct equations with, without;
	double together, apart = 0;

	gather(&with, model, rows, count, prior);
	together = descend(&with);
	if (prior->count && count) {
		gather(&without, model, NULL, 0, prior);
		apart = descend(&without);
		gather(&without, model, rows, count, &none);
		apart += descend(&without);
		if (together - apart > PRIOR_STRANGE) {
			memcpy(model->weight, without.weight, sizeof(model->weight));
			return;
		}
	}
	memcpy(model->weight, with.weight, sizeof(model->weight));
	model->idle_share = idle_share(model, prior);
}

static const struct fit_mode leftover = {.spread = SPREAD, .nugget = NUGGET};

static void solve_leftover(struct power_model *model, const struct fit *frame, const struct power_row *rows,
			   size_t count)
{
	double matrix[FIT_ROWS_MAX * FIT_ROWS_MAX], idle;

	for (size_t i = 0; i < count; i++) {
		model->at[i] = rows[i].at;
		model->alpha[i] = log(rows[i].power_uw / form(model, rows[i].point, rows[i].latency_ns, &idle));
		for (size_t j = 0; j <= i; j++)
			matrix[i * count + j] = fit_kernel(frame, &leftover, &rows[i].at, &rows[j].at);
		matrix[i * count + i] += NOISE * NOISE / 4 + rows[i].var;
	}
	if (dense_cholesky(matrix, count, count))
		return;
	dense_forward(matrix, count, count, model->alpha);
	dense_backward(matrix, count, count, model->alpha);
	model->rows = count;
}

void power_solve(struct power_model *model, const struct grid *grid, const struct fit *frame,
		 const struct power_row *rows, size_t count, double fastest_ns, const struct board_powers *prior)
{
	memset(model, 0, sizeof(*model));
	model->fastest_ns = fastest_ns;
	model->idle_share = IDLE_SHARE;
	for (int c = 0; c < CLOCK_COUNT; c++)
		model->top_hz[c] = (double)grid->hz[c][grid->count[c] - 1];
	model->known = count > 0 || prior->count > 0;
	if (model->known)
		solve_weights(model, rows, count, prior);
	if (count)
		solve_leftover(model, frame, rows, count);
	for (int j = 0; j < POWER_TERMS && !model->known; j++)
		model->weight[j] = typical[j] * 1e6;
}

double power_predict(const struct power_model *model, const struct fit *frame, const struct fit_point *at,
		     struct op_point point, double latency_ns, double *idle_uw)
{
	double power = form(model, point, latency_ns, idle_uw), correction = 0;

	for (size_t i = 0; i < model->rows; i++)
		correction += model->alpha[i] * fit_kernel(frame, &leftover, at, &model->at[i]);
	correction = exp(fmax(fmin(correction, CORRECTION_MAX), -CORRECTION_MAX));
	power *= correction;
	*idle_uw = fmin(*idle_uw * correction, power);
	return power;
}

void power_monotone(const struct grid *grid, float *power_uw)
{
	size_t stride[CLOCK_COUNT] = {grid->count[CLOCK_GPU] * grid->count[CLOCK_MEM], grid->count[CLOCK_MEM], 1};

	for (size_t i = 0; i < grid->points; i++) {
		size_t axis[CLOCK_COUNT];

		grid_axes(grid, i, axis);
		for (int c = 0; c < CLOCK_COUNT; c++)
			if (axis[c])
				power_uw[i] = fmaxf(power_uw[i], power_uw[i - stride[c]]);
	}
}
