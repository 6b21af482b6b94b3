/* SPDX-License-Identifier: MIT */
/* Latency from a few end-to-end measurements, with its uncertainty. */
#include "fit.h"

#include <math.h>
#include <string.h>
#include "dense.h"
#include "timeline.h"

#define ITERATIONS_FIRST  30
#define ITERATIONS_MORE   8
#define CONTEXT_REFERENCE 1024.0 /* tokens at which the prior on growth is stated */
#define CONTEXT_KNEE      64.0
#define REACH_ROW         0.4 /* correlation length along one axis, in log clock */
#define REACH_AREA        1.0 /* correlation length over all axes together */
#define OUTLIER_SD        5.0 /* an outlier: standard deviations from the prediction by all other rows */
#define OUTLIER_ROWS_MIN  5
#define R                 FIT_ROWS_MAX
#define P                 LSQ_PARAMS_MAX

/* Relative size of the residual of the form: its smooth part, and its part at single cells. */
static const struct hyper {
	double spread, nugget, log_prior;
} hyper[] = {
	{0.004, 0.002, 0}, {0.004, 0.008, 0}, {0.004, 0.03, -1}, {0.015, 0.002, 0}, {0.015, 0.008, 0.3},
	{0.015, 0.03, -1}, {0.05, 0.003, -1}, {0.05, 0.012, -1}, {0.05, 0.04, -1},
};
#define TIMELINE_LEVEL 0.03 /* residual of scales and tail, in log */
/* Standard deviation of the slope of the timeline's error along an axis, by the number of entries of that axis at
 * which layers were measured: none, one, two, three or more. */
static const double timeline_slope[] = {0.5, 0.5, 0.10, 0.04};
#define HYPERS      (sizeof(hyper) / sizeof(hyper[0]))
#define HYPER_FIRST 4

void fit_init(struct fit *fit, enum phase phase, const struct grid *grid)
{
	memset(fit, 0, offsetof(struct fit, row));
	fit->phase = phase;
	fit->params = phase == PHASE_PREFILL ? SHAPE_PARAMS :
		      phase == PHASE_DECODE  ? SHAPE_DECODE_PARAMS :
					       SHAPE_RUN_PARAMS;
	fit->scale.context = CONTEXT_REFERENCE;
	for (int c = 0; c < CLOCK_COUNT; c++) {
		double sum = 0;
		size_t known = 0;

		for (size_t i = 0; i < grid->count[c]; i++) {
			if (!grid->hz[c][i])
				continue;
			sum += log((double)grid->hz[c][i]);
			known++;
		}
		fit->scale.hz[c] = known ? exp(sum / (double)known) : 0;
		fit->active[c] = known > 1;
	}
	fit->active[CLOCK_COUNT] = phase != PHASE_RUN;
}

void fit_use_timeline(struct fit *fit, struct timeline *timeline)
{
	struct timeline_facts facts = timeline_facts(timeline);

	fit->timeline = timeline;
	fit->params = 1 + FIT_AXES;
	fit->prior_sd[0] = TIMELINE_LEVEL;
	for (int a = 0; a < FIT_AXES; a++)
		fit->prior_sd[1 + a] = timeline_slope[facts.distinct[a] < 3 ? facts.distinct[a] : 3];
}

double fit_mean(const struct fit *fit, const double *x, const struct fit_point *at, double *gradient)
{
	if (!fit->timeline)
		return shape_log_ns(x, fit->params, &at->place, gradient);
	double log_ns = at->timeline + x[0];
	for (int a = 0; a < FIT_AXES; a++)
		log_ns += x[1 + a] * at->u[a];
	if (!gradient)
		return log_ns;
	gradient[0] = 1;
	memcpy(gradient + 1, at->u, sizeof(at->u));
	return log_ns;
}

struct fit_point fit_place(const struct fit *fit, struct op_point point, uint32_t context)
{
	struct fit_point at = {.place = shape_place(&fit->scale, point, context)};

	for (int c = 0; c < CLOCK_COUNT; c++)
		at.u[c] = log(at.place.slow[c]);
	at.u[CLOCK_COUNT] = log1p(context / CONTEXT_KNEE);
	return at;
}

struct fit_point fit_point(const struct fit *fit, struct op_point point, uint32_t context)
{
	struct fit_point at = fit_place(fit, point, context);

	if (fit->timeline)
		at.timeline = log(timeline_latency_ns(fit->timeline, point, context));
	return at;
}

/* Matern 3/2. */
static double matern(double distance, double reach)
{
	double d = 1.7320508075688772 * distance / reach;

	return (1 + d) * exp(-d);
}

/* Correlation of r(): half along each axis by itself (a slow memory setting is
 * slow for every other clock), half of all axes together. */
double fit_correlation(const struct fit *fit, const struct fit_point *a, const struct fit_point *b)
{
	double rows = 0, distance = 0;
	int axes = 0;

	for (int i = 0; i < FIT_AXES; i++) {
		double d = fabs(a->u[i] - b->u[i]);

		if (!fit->active[i])
			continue;
		axes++;
		rows += matern(d, REACH_ROW);
		distance += d * d;
	}
	return axes ? 0.5 * rows / axes + 0.5 * matern(sqrt(distance), REACH_AREA) : 1;
}

static bool same_place(const struct fit_point *a, const struct fit_point *b)
{
	for (int i = 0; i < FIT_AXES; i++)
		if (fabs(a->u[i] - b->u[i]) > 1e-9)
			return false;
	return true;
}

double fit_kernel(const struct fit *fit, const struct fit_mode *mode, const struct fit_point *a,
		  const struct fit_point *b)
{
	double k = mode->spread * mode->spread * fit_correlation(fit, a, b);

	return same_place(a, b) ? k + mode->nugget * mode->nugget : k;
}

/* Covariance of the errors of two rows of other boards. */
static double shared_error(const struct fit *fit, const struct fit_row *a, const struct fit_row *b)
{
	double sum = fit->others_sd[0] * fit->others_sd[0];

	if (!a->others || !b->others)
		return 0;
	for (int i = 0; i < FIT_AXES; i++)
		sum += fit->others_sd[1 + i] * fit->others_sd[1 + i] * a->at.u[i] * b->at.u[i];
	return sum;
}

/* The rows' covariance around the form, factored. */
static void factor_rows(const struct fit *fit, struct fit_mode *mode)
{
	for (size_t i = 0; i < fit->rows; i++) {
		for (size_t j = 0; j < i; j++)
			mode->lower[i * R + j] = fit_kernel(fit, mode, &fit->row[i].at, &fit->row[j].at) +
						 shared_error(fit, &fit->row[i], &fit->row[j]);
		mode->lower[i * R + i] = fit_kernel(fit, mode, &fit->row[i].at, &fit->row[i].at) +
					 shared_error(fit, &fit->row[i], &fit->row[i]) + fit->row[i].noise_var + 1e-10;
	}
	dense_cholesky(mode->lower, fit->rows, R);
}

struct problem {
	const struct fit *fit;
	const struct fit_mode *mode;
};

/* Residuals and slopes, whitened by the rows' covariance. */
static void evaluate(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct problem *problem = arg;
	const struct fit *fit = problem->fit;
	size_t n = fit->rows, params = fit->params;
	const double *lower = problem->mode->lower;
	double gradient[P] = {0};

	for (size_t k = 0; k < n; k++) {
		double *row = jacobian ? jacobian + k * params : NULL;
		double diagonal = lower[k * R + k];

		residual[k] = fit_mean(fit, x, &fit->row[k].at, row ? gradient : NULL) - fit->row[k].log_ns;
		if (row)
			memcpy(row, gradient, params * sizeof(*row));
		for (size_t i = 0; i < k; i++) {
			double l = lower[k * R + i];
			residual[k] -= l * residual[i];
			for (size_t j = 0; j < params && row; j++)
				row[j] -= l * jacobian[i * params + j];
		}
		residual[k] /= diagonal;
		for (size_t j = 0; j < params && row; j++)
			row[j] /= diagonal;
	}
}

static void prior_at(const struct fit *fit, double mean[P])
{
	double level = 0;

	for (size_t k = 0; k < fit->rows; k++)
		level += fit->row[k].log_ns / (double)fit->rows;
	for (size_t j = 0; j < fit->params; j++)
		mean[j] = fit->timeline ? 0 : shape_prior_mean[j] + (shape_is_time[j] ? level : 0);
}

/* Alpha and slopes, which predictions need in addition to the parameters. */
static void finish(const struct fit *fit, struct fit_mode *mode)
{
	double gradient[P], column[R];

	for (size_t k = 0; k < fit->rows; k++) {
		double ns = fit_mean(fit, mode->param, &fit->row[k].at, gradient);
		mode->alpha[k] = fit->row[k].log_ns - ns;
		memcpy(mode->slopes + k * P, gradient, fit->params * sizeof(*gradient));
	}
	dense_forward(mode->lower, fit->rows, R, mode->alpha);
	dense_backward(mode->lower, fit->rows, R, mode->alpha);
	for (size_t j = 0; j < fit->params; j++) {
		for (size_t k = 0; k < fit->rows; k++)
			column[k] = mode->slopes[k * P + j];
		dense_forward(mode->lower, fit->rows, R, column);
		dense_backward(mode->lower, fit->rows, R, column);
		for (size_t k = 0; k < fit->rows; k++)
			mode->slopes[k * P + j] = column[k];
	}
}

/* log |covariance| of n x n packed rows. */
static double log_det_packed(const double *matrix, size_t n)
{
	double copy[P * P];

	memcpy(copy, matrix, n * n * sizeof(*copy));
	return dense_cholesky(copy, n, n) ? -1e3 : dense_log_det(copy, n, n);
}

/* Optimise from `start`, at the mode's spread and nugget. Returns the log of the marginal likelihood up to a
 * constant. */
static double climb(const struct fit *fit, struct fit_mode *mode, const double *start, size_t iterations)
{
	double mean[P], packed[P * P], value;
	struct problem problem = {fit, mode};
	struct lsq lsq = {.params = fit->params,
			  .residuals = fit->rows,
			  .prior_mean = mean,
			  .prior_sd = fit->timeline ? fit->prior_sd : shape_prior_sd,
			  .iterations = iterations,
			  .evaluate = evaluate,
			  .arg = &problem};

	prior_at(fit, mean);
	factor_rows(fit, mode);
	memcpy(mode->param, start, fit->params * sizeof(*start));
	value = lsq_solve(&lsq, mode->param, packed);
	memcpy(mode->covariance, packed, fit->params * fit->params * sizeof(*packed));
	return -0.5 * value - 0.5 * dense_log_det(mode->lower, fit->rows, R) +
	       0.5 * log_det_packed(packed, fit->params);
}

#define STARTS_KEPT 2

/* The best distinct optima over all entries, at a medium spread and nugget. */
static size_t find_starts(const struct fit *fit, struct fit_mode *scratch, double start[STARTS_KEPT][P])
{
	double mean[P], value[STARTS_KEPT], x[P];
	size_t kept = 0;

	prior_at(fit, mean);
	for (size_t e = 0; e < (fit->timeline ? 1 : SHAPE_ENTRIES); e++) {
		double got;
		size_t at;

		for (size_t j = 0; j < fit->params; j++)
			x[j] = mean[j] + shape_entry[e][j];
		scratch->spread = 0.1; /* a wide residual first, which smooths the objective */
		scratch->nugget = 0.1;
		climb(fit, scratch, x, ITERATIONS_FIRST);
		memcpy(x, scratch->param, sizeof(x));
		scratch->spread = hyper[HYPER_FIRST].spread;
		scratch->nugget = hyper[HYPER_FIRST].nugget;
		got = climb(fit, scratch, x, ITERATIONS_FIRST);
		for (at = 0; at < kept; at++)
			if (fabs(got - value[at]) < 1e-2)
				break;
		if (at < kept)
			continue;
		for (at = 0; at < kept && got <= value[at]; at++)
			;
		if (at == STARTS_KEPT)
			continue;
		kept += kept < STARTS_KEPT;
		for (size_t i = kept - 1; i > at; i--) {
			value[i] = value[i - 1];
			memcpy(start[i], start[i - 1], sizeof(start[i]));
		}
		value[at] = got;
		memcpy(start[at], scratch->param, sizeof(start[at]));
	}
	return kept;
}

/* Insert into the modes if better than the worst of them. Weights are still logarithms. */
static void keep_mode(struct fit *fit, const struct fit_mode *mode)
{
	size_t worst = 0;

	if (fit->modes < FIT_MODES_MAX) {
		fit->mode[fit->modes++] = *mode;
		return;
	}
	for (size_t m = 1; m < fit->modes; m++)
		if (fit->mode[m].weight < fit->mode[worst].weight)
			worst = m;
	if (mode->weight > fit->mode[worst].weight)
		fit->mode[worst] = *mode;
}

static void normalise(struct fit *fit)
{
	double top = -INFINITY, sum = 0;
	size_t kept = 0;

	for (size_t m = 0; m < fit->modes; m++)
		top = fmax(top, fit->mode[m].weight);
	for (size_t m = 0; m < fit->modes; m++) {
		double weight = exp(fit->mode[m].weight - top);

		if (weight < 0.03)
			continue;
		if (kept != m)
			fit->mode[kept] = fit->mode[m];
		fit->mode[kept++].weight = weight;
		sum += weight;
	}
	fit->modes = kept;
	for (size_t m = 0; m < kept; m++)
		fit->mode[m].weight /= sum;
}

static void average(struct fit *fit, struct fit_mode *scratch)
{
	double start[STARTS_KEPT][P] = {{0}};
	size_t starts = find_starts(fit, scratch, start);

	fit->modes = 0;
	for (size_t s = 0; s < starts; s++) {
		for (size_t h = 0; h < HYPERS; h++) {
			scratch->spread = hyper[h].spread;
			scratch->nugget = hyper[h].nugget;
			scratch->weight = climb(fit, scratch, start[s], ITERATIONS_MORE) + hyper[h].log_prior;
			if (isfinite(scratch->weight))
				keep_mode(fit, scratch);
		}
	}
	normalise(fit);
	for (size_t m = 0; m < fit->modes; m++)
		finish(fit, &fit->mode[m]);
}

/* Leave-one-out residual of a row in standard deviations, from the whole covariance
 * (Rasmussen and Williams, 5.4.2). */
static double left_out_residual(const struct fit *fit, const struct fit_mode *mode, size_t row)
{
	double unit[R] = {0}, precision = 0;

	unit[row] = 1;
	dense_forward(mode->lower, fit->rows, R, unit);
	for (size_t i = 0; i < fit->rows; i++)
		precision += unit[i] * unit[i];
	for (size_t i = 0; i < fit->params; i++)
		for (size_t j = 0; j < fit->params; j++)
			precision -= mode->slopes[row * P + i] * mode->covariance[i * fit->params + j] *
				     mode->slopes[row * P + j];
	return fabs(mode->alpha[row]) / sqrt(fmax(precision, 1e-12));
}

/* Discount the row with the largest residual if it is an outlier. Returns whether there was one. */
static bool discount_outlier(struct fit *fit)
{
	size_t worst = 0;
	double most = 0;

	for (size_t k = 0; k < fit->rows; k++) {
		double size = 0;
		for (size_t m = 0; m < fit->modes; m++)
			size += fit->mode[m].weight * left_out_residual(fit, &fit->mode[m], k);
		if (size > most) {
			most = size;
			worst = k;
		}
	}
	if (most < OUTLIER_SD)
		return false;
	fit->row[worst].noise_var += 0.25 * 0.25;
	return true;
}

void fit_solve(struct fit *fit)
{
	struct fit_mode scratch;

	average(fit, &scratch);
	if (fit->rows >= OUTLIER_ROWS_MIN && discount_outlier(fit))
		average(fit, &scratch);
}

void fit_assume(struct fit *fit, struct fit_mode *mode, const double *param, double spread, double nugget)
{
	double x[P];

	memcpy(x, param, fit->params * sizeof(*x));
	mode->spread = spread;
	mode->nugget = nugget;
	mode->weight = 1;
	climb(fit, mode, x, 0);
	finish(fit, mode);
}

static struct fit_guess predict_mode(const struct fit *fit, const struct fit_mode *mode, const struct fit_point *at,
				     const double *shared, const bool *same)
{
	double k[R], h[P], own = mode->spread * mode->spread + mode->nugget * mode->nugget, var = own;
	struct fit_guess guess = {.log_ns = fit_mean(fit, mode->param, at, h)};

	for (size_t i = 0; i < fit->rows; i++) {
		k[i] = mode->spread * mode->spread * shared[i] + (same[i] ? mode->nugget * mode->nugget : 0);
		guess.log_ns += k[i] * mode->alpha[i];
		for (size_t j = 0; j < fit->params; j++)
			h[j] -= k[i] * mode->slopes[i * P + j];
	}
	dense_forward(mode->lower, fit->rows, R, k);
	for (size_t i = 0; i < fit->rows; i++)
		var -= k[i] * k[i];
	for (size_t i = 0; i < fit->params; i++)
		for (size_t j = 0; j < fit->params; j++)
			var += h[i] * mode->covariance[i * fit->params + j] * h[j];
	guess.sd = sqrt(fmax(var, 1e-8));
	return guess;
}

struct fit_guess fit_predict(const struct fit *fit, const struct fit_point *at)
{
	struct fit_guess all = {0};
	double shared[R], square = 0;
	bool same[R];

	for (size_t i = 0; i < fit->rows; i++) {
		shared[i] = fit_correlation(fit, at, &fit->row[i].at);
		same[i] = same_place(at, &fit->row[i].at);
	}
	for (size_t m = 0; m < fit->modes; m++) {
		struct fit_guess one = predict_mode(fit, &fit->mode[m], at, shared, same);

		all.log_ns += fit->mode[m].weight * one.log_ns;
		square += fit->mode[m].weight * (one.sd * one.sd + one.log_ns * one.log_ns);
	}
	all.sd = sqrt(fmax(square - all.log_ns * all.log_ns, 1e-8));
	return all;
}
