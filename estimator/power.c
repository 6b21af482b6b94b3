/* SPDX-License-Identifier: MIT */
/* Board power over clocks. */
#include "power.h"

#include <math.h>
#include <string.h>
#include "dense.h"

#define SWEEPS       300
#define NOISE        0.015 /* relative, of a power reading and of the form */
#define SPREAD       0.03  /* smooth part that the form leaves over */
#define NUGGET       0.01
#define CONSTANT_MIN 0.05  /* of the least power seen: no board is without some */
#define CORRECTION_MAX 1.0 /* log */
#define IDLE_SHARE   0.4   /* of the clock terms of CPU and GPU that stay when nothing runs: gated cores still leak */
#define VOLTAGE_LOW  0.6   /* V at f -> 0 over V at the top: 0.5 to 0.7 in the tables of Tegra and RK3588 */

enum { CONSTANT, CLOCKS, WORK = CLOCKS + 3 * CLOCK_COUNT };

/* Shares of full power, and how sure they are. Also the relative cost of a board
 * without sensor: a third stays whatever the clocks; of the rest GPU and CPU
 * work is most, as f V^2 has it (Weste and Harris, CMOS VLSI Design, ch. 5), with memory about a
 * seventh (Orin Nano: 7.1 W at 2133 MHz, 8.2 W at 3199 MHz, same work). */
static const double typical[POWER_TERMS] = {
	0.30, /* constant */
	0.03, 0.02, 0.05, /* CPU f, f^2, f^3 */
	0.03, 0.02, 0.07, /* GPU */
	0.08, 0.03, 0.03, /* memory */
	0.04, 0.09, 0.13, 0.03, 0.05, /* work: itself, CPU, GPU; the latter two while they wait for memory */
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
static void terms(const struct power_model *model, struct op_point point, double latency_ns, double term[POWER_TERMS])
{
	double rate = latency_ns > 0 ? fmin(model->fastest_ns / latency_ns, 2) : 1, f[CLOCK_COUNT];

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

	terms(model, point, latency_ns, term);
	for (int j = 0; j < POWER_TERMS; j++) {
		double share = j >= WORK ? 0 : j >= CLOCKS && j < CLOCKS + 3 * CLOCK_MEM ? IDLE_SHARE : 1;
		sum += model->weight[j] * term[j];
		idle += share * model->weight[j] * term[j];
	}
	*idle_uw = idle;
	return sum;
}

/* Ridge regression with weights >= 0 by coordinate descent; rows are scaled to
 * relative errors. Level: an estimate of full power from the rows themselves. */
static void solve_weights(struct power_model *model, const struct power_row *rows, size_t count)
{
	double term[FIT_ROWS_MAX][POWER_TERMS], left[FIT_ROWS_MAX], level = 0, least = INFINITY;

	for (size_t k = 0; k < count; k++) {
		double sum = 0;
		terms(model, rows[k].point, rows[k].latency_ns, term[k]);
		for (int j = 0; j < POWER_TERMS; j++)
			sum += typical[j] * term[k][j];
		level += rows[k].power_uw / sum / (double)count;
		least = fmin(least, rows[k].power_uw);
	}
	for (int j = 0; j < POWER_TERMS; j++)
		model->weight[j] = typical[j] * level;
	for (size_t k = 0; k < count; k++) {
		left[k] = 1 / NOISE;
		for (int j = 0; j < POWER_TERMS; j++) {
			term[k][j] /= rows[k].power_uw * NOISE;
			left[k] -= model->weight[j] * term[k][j];
		}
	}
	for (int sweep = 0; sweep < SWEEPS; sweep++) {
		for (int j = 0; j < POWER_TERMS; j++) {
			double sd = typical_sd[j] * level, curve = 1 / (sd * sd), slope, step;

			slope = (typical[j] * level - model->weight[j]) * curve;
			for (size_t k = 0; k < count; k++) {
				curve += term[k][j] * term[k][j];
				slope += term[k][j] * left[k];
			}
			step = fmax(slope / curve, (j == CONSTANT ? least * CONSTANT_MIN : 0) - model->weight[j]);
			model->weight[j] += step;
			for (size_t k = 0; k < count; k++)
				left[k] -= step * term[k][j];
		}
	}
}

static const struct fit_mode leftover = {.spread = SPREAD, .nugget = NUGGET};

static void solve_leftover(struct power_model *model, const struct fit *frame, const struct power_row *rows, size_t count)
{
	double matrix[FIT_ROWS_MAX * FIT_ROWS_MAX], idle;

	for (size_t i = 0; i < count; i++) {
		model->at[i] = rows[i].at;
		model->alpha[i] = log(rows[i].power_uw / form(model, rows[i].point, rows[i].latency_ns, &idle));
		for (size_t j = 0; j <= i; j++)
			matrix[i * count + j] = fit_kernel(frame, &leftover, &rows[i].at, &rows[j].at);
		matrix[i * count + i] += NOISE * NOISE / 4;
	}
	if (dense_cholesky(matrix, count, count))
		return;
	dense_forward(matrix, count, count, model->alpha);
	dense_backward(matrix, count, count, model->alpha);
	model->rows = count;
}

void power_solve(struct power_model *model, const struct grid *grid, const struct fit *frame, const struct power_row *rows,
		 size_t count, double fastest_ns)
{
	memset(model, 0, sizeof(*model));
	model->fastest_ns = fastest_ns;
	for (int c = 0; c < CLOCK_COUNT; c++)
		model->top_hz[c] = (double)grid->hz[c][grid->count[c] - 1];
	model->known = count > 0;
	if (count) {
		solve_weights(model, rows, count);
		solve_leftover(model, frame, rows, count);
		return;
	}
	for (int j = 0; j < POWER_TERMS; j++)
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
