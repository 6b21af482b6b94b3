/* SPDX-License-Identifier: MIT */
/* Latency over clocks and context length from a dozen measurements. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include "context.h"

enum { OUTSIDE, LAUNCH, LAUNCH_FIXED, JOIN, CORE, MEMORY, OVERLAP, LINEAR, LINEAR_TILT, SQUARE, SQUARE_TILT, PARAMS };
#define RUN_PARAMS    LINEAR
#define DECODE_PARAMS SQUARE

#define FORM_ERROR 0.01 /* relative: what the form leaves over even without noise */
#define NOISE_GUESS 0.01 /* of one inference, where its spread was not measured */
#define HUBER 2.5
#define ITERATIONS 40
#define POWER_MAX 16.0
#define CONTEXT_REFERENCE 1024.0 /* tokens at which the prior on growth is stated */

/* Logs relative to the median latency (times), or as they are. */
static const double prior_mean[PARAMS] = {-3, -1.2, -3, 1.1, -0.9, -0.9, 0.7, -1, 0, -1.5, 0};
static const double prior_sd[PARAMS] = {1.5, 1.5, 1.5, 1, 1.2, 1.2, 0.8, 1.5, 0.7, 1.5, 0.7};
static const bool is_time[PARAMS] = {[OUTSIDE] = true, [LAUNCH] = true, [LAUNCH_FIXED] = true, [CORE] = true, [MEMORY] = true};

/* Where a measurement, or a point of the grid, stands. */
struct place {
	double slow[CLOCK_COUNT], grown;
};

struct data {
	size_t params, count;
	struct place place[LSQ_RESIDUALS_MAX];
	double log_ns[LSQ_RESIDUALS_MAX], sigma[LSQ_RESIDUALS_MAX];
};

static struct place place_of(const struct clock_scale *scale, struct op_point point, uint32_t context)
{
	struct place place = {.grown = (double)context / scale->context};

	for (int c = 0; c < CLOCK_COUNT; c++)
		place.slow[c] = clock_slowness(scale, (enum clock_id)c, point.hz[c]);
	return place;
}

/* log((e^a)^n + (e^b)^n) / n with its slopes: `first` = d/da (d/db = 1 - first), `power` = d/dn. */
static double soft_max(double a, double b, double n, double *first, double *power)
{
	double gap = fabs(a - b), tail = exp(-n * gap), excess = log1p(tail) / n, minor = tail / (1 + tail);

	*first = a > b ? 1 - minor : minor;
	*power = -(excess + gap * minor) / n;
	return fmax(a, b) + excess;
}

static double power_of(double x)
{
	return fmin(1 + exp(x), POWER_MAX);
}

/* log of one growing branch: 1 + r e^tilt t + r2 e^tilt2 t^2, and its slopes. */
static double log_growth(const double *x, size_t params, double side, double t, double slope[PARAMS])
{
	double linear = params > LINEAR ? exp(x[LINEAR] + side * x[LINEAR_TILT]) * t : 0;
	double square = params > SQUARE ? exp(x[SQUARE] + side * x[SQUARE_TILT]) * t * t : 0;
	double growth = 1 + linear + square;

	slope[LINEAR] = linear / growth;
	slope[LINEAR_TILT] = side * linear / growth;
	slope[SQUARE] = square / growth;
	slope[SQUARE_TILT] = side * square / growth;
	return log(growth);
}

/* log of latency and, unless NULL, its gradient. */
static double log_latency(const double *x, size_t params, const struct place *place, double *gradient)
{
	double core_slope[PARAMS] = {0}, memory_slope[PARAMS] = {0}, core_share, overlap_slope, launch_share, join_slope;
	double n = power_of(x[OVERLAP]), k = power_of(x[JOIN]);
	double core = x[CORE] + log(place->slow[CLOCK_GPU]) + log_growth(x, params, 1, place->grown, core_slope);
	double memory = x[MEMORY] + log(place->slow[CLOCK_MEM]) + log_growth(x, params, -1, place->grown, memory_slope);
	double execution = soft_max(core, memory, n, &core_share, &overlap_slope);
	double scaled = exp(x[LAUNCH]) * place->slow[CLOCK_CPU], launch = scaled + exp(x[LAUNCH_FIXED]);
	double joined = exp(soft_max(log(launch), execution, k, &launch_share, &join_slope));
	double outside = exp(x[OUTSIDE]), latency = outside + joined, inside = joined / latency;

	if (!gradient)
		return log(latency);
	double executing = inside * (1 - launch_share);
	gradient[OUTSIDE] = outside / latency;
	gradient[LAUNCH] = inside * launch_share * scaled / launch;
	gradient[LAUNCH_FIXED] = inside * launch_share * (1 - scaled / launch);
	gradient[JOIN] = k < POWER_MAX ? inside * join_slope * (k - 1) : 0;
	gradient[CORE] = executing * core_share;
	gradient[MEMORY] = executing * (1 - core_share);
	gradient[OVERLAP] = n < POWER_MAX ? executing * overlap_slope * (n - 1) : 0;
	for (size_t j = LINEAR; j < params; j++)
		gradient[j] = executing * (core_share * core_slope[j] + (1 - core_share) * memory_slope[j]);
	return log(latency);
}

static void evaluate(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct data *data = arg;

	for (size_t k = 0; k < data->count; k++) {
		double *row = jacobian ? jacobian + k * data->params : NULL;

		residual[k] = (log_latency(x, data->params, &data->place[k], row) - data->log_ns[k]) / data->sigma[k];
		for (size_t j = 0; j < data->params && row; j++)
			row[j] /= data->sigma[k];
	}
}

/* Geometric means of the clocks measured. */
static struct clock_scale scale_of(const struct sample *const *samples, size_t count)
{
	struct clock_scale scale = {.context = CONTEXT_REFERENCE};

	for (int c = 0; c < CLOCK_COUNT; c++) {
		double sum = 0;
		size_t known = 0;

		for (size_t i = 0; i < count; i++) {
			if (!samples[i]->point.hz[c])
				continue;
			sum += log((double)samples[i]->point.hz[c]);
			known++;
		}
		scale.hz[c] = known ? exp(sum / (double)known) : 0;
	}
	return scale;
}

static void gather(struct data *data, const struct clock_scale *scale, const struct sample *const *samples, size_t count)
{
	data->count = count;
	for (size_t i = 0; i < count; i++) {
		const struct sample *s = samples[i];
		double ns = (double)s->latency_ns, noise = s->sd_ns ? (double)s->sd_ns / ns : NOISE_GUESS;

		data->place[i] = place_of(scale, s->point, s->context);
		data->log_ns[i] = log(ns);
		data->sigma[i] = sqrt(FORM_ERROR * FORM_ERROR + noise * noise / (s->n ? s->n : 1));
	}
}

/* The sides a search may enter from: bound by launches, by the core clock, by
 * memory, by growth. Where one of these hides the others the form is flat in them. */
static const double entry[][PARAMS] = {
	{0},
	{[LAUNCH] = 1, [CORE] = -1, [MEMORY] = -1},
	{[LAUNCH] = -1, [CORE] = 0.6, [MEMORY] = -1},
	{[LAUNCH] = -1, [CORE] = -1, [MEMORY] = 0.6},
	{[LAUNCH] = -1, [LINEAR] = 2, [SQUARE] = 2, [CORE] = -0.5, [MEMORY] = -0.5},
};

static void search(struct data *data, struct context_fit *fit)
{
	double mean[PARAMS], x[PARAMS], covariance[PARAMS * PARAMS], sigma[LSQ_RESIDUALS_MAX], best = INFINITY, level = 0;
	struct lsq problem = {.params = data->params, .residuals = data->count, .prior_mean = mean, .prior_sd = prior_sd,
			      .iterations = ITERATIONS, .evaluate = evaluate, .arg = data};

	for (size_t k = 0; k < data->count; k++)
		level += data->log_ns[k] / (double)data->count;
	for (size_t j = 0; j < data->params; j++)
		mean[j] = prior_mean[j] + (is_time[j] ? level : 0);
	memcpy(sigma, data->sigma, sizeof(sigma));
	for (size_t e = 0; e < sizeof(entry) / sizeof(entry[0]); e++) {
		for (size_t j = 0; j < data->params; j++)
			x[j] = mean[j] + entry[e][j];
		for (size_t k = 0; k < data->count; k++) /* softly first */
			data->sigma[k] = 0.2;
		problem.huber = 0;
		lsq_solve(&problem, x, NULL);
		memcpy(data->sigma, sigma, sizeof(sigma));
		problem.huber = HUBER;
		double value = lsq_solve(&problem, x, covariance);
		if (value >= best)
			continue;
		best = value;
		memcpy(fit->param, x, data->params * sizeof(*x));
		memcpy(fit->covariance, covariance, data->params * data->params * sizeof(*x));
	}
}

int context_fit(struct context_fit *fit, enum phase phase, const struct sample *samples, size_t count)
{
	const struct sample *used[LSQ_RESIDUALS_MAX];
	struct data data = {.params = phase == PHASE_PREFILL ? PARAMS : phase == PHASE_DECODE ? DECODE_PARAMS : RUN_PARAMS};
	size_t n = 0;

	memset(fit, 0, sizeof(*fit));
	for (size_t i = 0; i < count && n < LSQ_RESIDUALS_MAX; i++)
		if (samples[i].phase == phase && samples[i].latency_ns)
			used[n++] = &samples[i];
	if (!n)
		return -EINVAL;
	fit->phase = phase;
	fit->samples = n;
	fit->params = data.params;
	fit->scale = scale_of(used, n);
	gather(&data, &fit->scale, used, n);
	search(&data, fit);
	return 0;
}

static double quadratic(const double *matrix, const double *v, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++)
			sum += v[i] * matrix[i * n + j] * v[j];
	return sum;
}

double context_latency_ns(const struct context_fit *fit, struct op_point point, uint32_t context, double *log_sd)
{
	struct place place = place_of(&fit->scale, point, context);
	double gradient[PARAMS], value = log_latency(fit->param, fit->params, &place, gradient);

	if (log_sd)
		*log_sd = sqrt(fmax(quadratic(fit->covariance, gradient, fit->params), 0));
	return exp(value);
}

void context_surface(const struct context_fit *fit, const struct grid *grid, uint32_t context, float *latency_ns)
{
	const double *x = fit->param;
	size_t mems = grid->count[CLOCK_MEM], columns = grid->count[CLOCK_GPU] * mems;
	double slope[PARAMS], unused, n = power_of(x[OVERLAP]), k = power_of(x[JOIN]);

	for (size_t j = 0; j < columns; j++) {
		struct op_point point = {{0, grid->hz[CLOCK_GPU][j / mems], grid->hz[CLOCK_MEM][j % mems]}};
		struct place place = place_of(&fit->scale, point, context);
		double core = x[CORE] + log(place.slow[CLOCK_GPU]) + log_growth(x, fit->params, 1, place.grown, slope);
		double memory = x[MEMORY] + log(place.slow[CLOCK_MEM]) + log_growth(x, fit->params, -1, place.grown, slope);
		double execution = soft_max(core, memory, n, &unused, &unused);

		for (size_t i = 0; i < grid->count[CLOCK_CPU]; i++) {
			double slow = clock_slowness(&fit->scale, CLOCK_CPU, grid->hz[CLOCK_CPU][i]);
			double launch = log(exp(x[LAUNCH]) * slow + exp(x[LAUNCH_FIXED]));
			double joined = soft_max(launch, execution, k, &unused, &unused);
			latency_ns[i * columns + j] = (float)(exp(x[OUTSIDE]) + exp(joined));
		}
	}
}

/* ---- where to measure next ---- */

static struct op_point point_at(const struct grid *grid, size_t i)
{
	size_t mems = grid->count[CLOCK_MEM], gpus = grid->count[CLOCK_GPU];

	return (struct op_point){{grid->hz[CLOCK_CPU][i / mems / gpus], grid->hz[CLOCK_GPU][i / mems % gpus],
				  grid->hz[CLOCK_MEM][i % mems]}};
}

/* Mean over grid and contexts of gradient * gradient', weighted. */
static void moments(const struct context_fit *fit, const struct grid *grid, const uint32_t *contexts, size_t context_count,
		    const float *weight, double *moment)
{
	size_t n = fit->params;
	double gradient[PARAMS], total = 0;

	memset(moment, 0, n * n * sizeof(*moment));
	for (size_t c = 0; c < context_count; c++) {
		for (size_t i = 0; i < grid->points; i++) {
			double w = weight ? weight[i] : 1;
			struct place place = place_of(&fit->scale, point_at(grid, i), contexts[c]);

			if (w <= 0)
				continue;
			log_latency(fit->param, n, &place, gradient);
			total += w;
			for (size_t a = 0; a < n; a++)
				for (size_t b = 0; b < n; b++)
					moment[a * n + b] += w * gradient[a] * gradient[b];
		}
	}
	for (size_t a = 0; a < n * n && total > 0; a++)
		moment[a] /= total;
}

/* covariance * moment * covariance: what a measurement along a gradient takes off. */
static void sandwich(const double *covariance, const double *moment, size_t n, double *out)
{
	double half[PARAMS * PARAMS] = {0};

	memset(out, 0, n * n * sizeof(*out));
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++)
			for (size_t k = 0; k < n; k++)
				half[i * n + j] += covariance[i * n + k] * moment[k * n + j];
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++)
			for (size_t k = 0; k < n; k++)
				out[i * n + j] += half[i * n + k] * covariance[k * n + j];
}

static int plan_first(const struct grid *grid, const uint32_t *contexts, size_t context_count, const uint8_t *allowed,
		      struct op_point *point, uint32_t *context)
{
	size_t i = grid->points;

	while (i > 0 && allowed && !allowed[i - 1])
		i--;
	if (!i)
		return 0;
	*point = point_at(grid, i - 1);
	*context = contexts[context_count / 2];
	return 1;
}

int context_plan(const struct context_fit *fit, const struct grid *grid, const uint32_t *contexts, size_t context_count,
		 const float *weight, const uint8_t *allowed, struct op_point *point, uint32_t *context, double *gain,
		 double *log_sd)
{
	double moment[PARAMS * PARAMS], removal[PARAMS * PARAMS], gradient[PARAMS], before = 0, best = -1;
	const double noise = FORM_ERROR * FORM_ERROR + NOISE_GUESS * NOISE_GUESS;
	size_t n = fit->params;

	*gain = 1;
	*log_sd = INFINITY;
	if (!n)
		return plan_first(grid, contexts, context_count, allowed, point, context);
	moments(fit, grid, contexts, context_count, weight, moment);
	sandwich(fit->covariance, moment, n, removal);
	for (size_t i = 0; i < n * n; i++)
		before += fit->covariance[i] * moment[i];
	for (size_t c = 0; c < context_count; c++) {
		for (size_t i = 0; i < grid->points; i++) {
			struct place place = place_of(&fit->scale, point_at(grid, i), contexts[c]);

			if (allowed && !allowed[i])
				continue;
			log_latency(fit->param, n, &place, gradient);
			double fall = quadratic(removal, gradient, n) / (noise + quadratic(fit->covariance, gradient, n));
			if (fall <= best)
				continue;
			best = fall;
			*point = point_at(grid, i);
			*context = contexts[c];
		}
	}
	*gain = before > 0 ? fmin(fmax(best, 0) / before, 1) : 0;
	*log_sd = sqrt(fmax(before, 0));
	return best >= 0;
}
