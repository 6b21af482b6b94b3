/* SPDX-License-Identifier: MIT */
/* Latency over clocks and context length from a dozen measurements. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include "context.h"
#include "shape.h"

#define FORM_ERROR 0.01 /* relative: what the form leaves over even without noise */
#define NOISE_GUESS 0.01 /* of one inference, where its spread was not measured */
#define HUBER 2.5
#define ITERATIONS 40
#define CONTEXT_REFERENCE 1024.0 /* tokens at which the prior on growth is stated */

struct data {
	size_t params, count;
	struct place place[LSQ_RESIDUALS_MAX];
	double log_ns[LSQ_RESIDUALS_MAX], sigma[LSQ_RESIDUALS_MAX];
};

static void evaluate(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct data *data = arg;

	for (size_t k = 0; k < data->count; k++) {
		double *row = jacobian ? jacobian + k * data->params : NULL;

		residual[k] = (shape_log_ns(x, data->params, &data->place[k], row) - data->log_ns[k]) / data->sigma[k];
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

		data->place[i] = shape_place(scale, s->point, s->context);
		data->log_ns[i] = log(ns);
		data->sigma[i] = sqrt(FORM_ERROR * FORM_ERROR + noise * noise / (s->n ? s->n : 1));
	}
}

static void search(struct data *data, struct context_fit *fit)
{
	double mean[SHAPE_PARAMS], x[SHAPE_PARAMS], covariance[SHAPE_PARAMS * SHAPE_PARAMS], sigma[LSQ_RESIDUALS_MAX], best = INFINITY, level = 0;
	struct lsq problem = {.params = data->params, .residuals = data->count, .prior_mean = mean, .prior_sd = shape_prior_sd,
			      .iterations = ITERATIONS, .evaluate = evaluate, .arg = data};

	for (size_t k = 0; k < data->count; k++)
		level += data->log_ns[k] / (double)data->count;
	for (size_t j = 0; j < data->params; j++)
		mean[j] = shape_prior_mean[j] + (shape_is_time[j] ? level : 0);
	memcpy(sigma, data->sigma, sizeof(sigma));
	for (size_t e = 0; e < SHAPE_ENTRIES; e++) {
		for (size_t j = 0; j < data->params; j++)
			x[j] = mean[j] + shape_entry[e][j];
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
	struct data data = {.params = phase == PHASE_PREFILL ? SHAPE_PARAMS : phase == PHASE_DECODE ? SHAPE_DECODE_PARAMS : SHAPE_RUN_PARAMS};
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
	struct place place = shape_place(&fit->scale, point, context);
	double gradient[SHAPE_PARAMS], value = shape_log_ns(fit->param, fit->params, &place, gradient);

	if (log_sd)
		*log_sd = sqrt(fmax(quadratic(fit->covariance, gradient, fit->params), 0));
	return exp(value);
}

void context_surface(const struct context_fit *fit, const struct grid *grid, uint32_t context, float *latency_ns)
{
	const double *x = fit->param;
	size_t mems = grid->count[CLOCK_MEM], columns = grid->count[CLOCK_GPU] * mems;
	double slope[SHAPE_PARAMS], unused, n = shape_power(x[SHAPE_OVERLAP]), k = shape_power(x[SHAPE_JOIN]);

	for (size_t j = 0; j < columns; j++) {
		struct op_point point = {{0, grid->hz[CLOCK_GPU][j / mems], grid->hz[CLOCK_MEM][j % mems]}};
		struct place place = shape_place(&fit->scale, point, context);
		double core = x[SHAPE_CORE] + log(place.slow[CLOCK_GPU]) + shape_log_growth(x, fit->params, 1, place.grown, slope);
		double memory = x[SHAPE_MEMORY] + log(place.slow[CLOCK_MEM]) + shape_log_growth(x, fit->params, -1, place.grown, slope);
		double execution = shape_soft_max(core, memory, n, &unused, &unused);

		for (size_t i = 0; i < grid->count[CLOCK_CPU]; i++) {
			double slow = clock_slowness(&fit->scale, CLOCK_CPU, grid->hz[CLOCK_CPU][i]);
			double launch = log(exp(x[SHAPE_LAUNCH]) * slow + exp(x[SHAPE_LAUNCH_FIXED]));
			double joined = shape_soft_max(launch, execution, k, &unused, &unused);
			latency_ns[i * columns + j] = (float)(exp(x[SHAPE_OUTSIDE]) + exp(joined));
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
	double gradient[SHAPE_PARAMS], total = 0;

	memset(moment, 0, n * n * sizeof(*moment));
	for (size_t c = 0; c < context_count; c++) {
		for (size_t i = 0; i < grid->points; i++) {
			double w = weight ? weight[i] : 1;
			struct place place = shape_place(&fit->scale, point_at(grid, i), contexts[c]);

			if (w <= 0)
				continue;
			shape_log_ns(fit->param, n, &place, gradient);
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
	double half[SHAPE_PARAMS * SHAPE_PARAMS] = {0};

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
	double moment[SHAPE_PARAMS * SHAPE_PARAMS], removal[SHAPE_PARAMS * SHAPE_PARAMS], gradient[SHAPE_PARAMS], before = 0, best = -1;
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
			struct place place = shape_place(&fit->scale, point_at(grid, i), contexts[c]);

			if (allowed && !allowed[i])
				continue;
			shape_log_ns(fit->param, n, &place, gradient);
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
