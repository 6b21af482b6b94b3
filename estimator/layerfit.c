/* SPDX-License-Identifier: MIT */
/* Per-layer costs as functions of the clocks: a hierarchical fit to the medians of layercells.h. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "layercells.h"
#include "layerfit.h"
#include "lsq.h"

#define CPU_PARAMS      2
#define GPU_PARAMS      6
#define GPU_SCALES      3 /* how many of those are logs of a time */
#define SHARPNESS_MAX   16.0
#define CPU_NOISE_GUESS 0.10
#define GPU_NOISE_GUESS 0.03
#define SPREAD_MIN      0.15 /* of the prior over layers, in log */
#define HUBER           2.5
#define ITERATIONS      12
#define PASSES          2

/* Parameters are logs: {per_clock, fixed} and {fixed, core, memory, n - 1, linear, square}. */
static const double cpu_share[CPU_PARAMS] = {0.7, 0.3}, cpu_wide[CPU_PARAMS] = {1.5, 1.5};
static const double cpu_spread[CPU_PARAMS] = {0.3, 0.6};
static const double gpu_share[GPU_PARAMS] = {0.1, 0.5, 0.4, 2, 0.5, 0.3};
static const double gpu_wide[GPU_PARAMS] = {1.5, 1.2, 1.2, 0.8, 1.5, 1.5};
static const double gpu_spread[GPU_PARAMS] = {1, 1, 1, 0.8, 1.5, 1.5};

/* Input of one lsq_solve(). */
struct target {
	const struct layer_observations *seen;
	double log_ns[LAYER_POINTS_MAX], sigma[LAYER_POINTS_MAX];
	size_t at[LAYER_POINTS_MAX], count, params;
};

double clock_slowness(const struct clock_scale *scale, enum clock_id clock, uint64_t hz)
{
	return hz && scale->hz[clock] > 0 ? scale->hz[clock] / (double)hz : 1;
}

double layer_cpu_ns(const struct layer_fit *fit, double cpu_slowness)
{
	return fit->cpu_per_clock * cpu_slowness + fit->cpu_fixed;
}

double layer_gpu_scaled_ns(const struct layer_fit *fit, double gpu_slowness, double mem_slowness)
{
	double a = fit->gpu_core * gpu_slowness, b = fit->gpu_memory * mem_slowness;
	double high = fmax(a, b), low = fmin(a, b), ratio = high > 0 ? low / high : 0;

	if (ratio <= 0)
		return high;
	return high * exp(log1p(pow(ratio, fit->sharpness)) / fit->sharpness);
}

/* ---- the two forms, in log parameters ---- */

static void evaluate_cpu(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct target *target = arg;
	double per_clock = exp(x[0]), fixed = exp(x[1]);

	for (size_t k = 0; k < target->count; k++) {
		double scaled = per_clock * target->seen->slow[target->at[k]][CLOCK_CPU], sum = scaled + fixed;

		residual[k] = (log(sum) - target->log_ns[k]) / target->sigma[k];
		if (!jacobian)
			continue;
		jacobian[k * CPU_PARAMS] = scaled / sum / target->sigma[k];
		jacobian[k * CPU_PARAMS + 1] = fixed / sum / target->sigma[k];
	}
}

static double sharpness_of(double x)
{
	return fmin(1 + exp(x), SHARPNESS_MAX);
}

static void evaluate_gpu(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct target *target = arg;
	double fixed = exp(x[0]), n = sharpness_of(x[3]);
	double linear = target->params > 4 ? exp(x[4]) : 0, square = target->params > 5 ? exp(x[5]) : 0;

	for (size_t k = 0; k < target->count; k++) {
		const double *slow = target->seen->log_slow[target->at[k]];
		double t = target->seen->grown[target->at[k]];
		double core = x[1] + slow[CLOCK_GPU], memory = x[2] + slow[CLOCK_MEM];
		double gap = fabs(core - memory), tail = exp(-n * gap), excess = log1p(tail) / n;
		double growth = 1 + linear * t + square * t * t;
		double scaled = exp(fmax(core, memory) + excess) * growth, sum = fixed + scaled, share = scaled / sum;

		residual[k] = (log(sum) - target->log_ns[k]) / target->sigma[k];
		if (!jacobian)
			continue;
		double *row = jacobian + k * target->params, minor = tail / (1 + tail);
		share /= target->sigma[k];
		row[0] = fixed / sum / target->sigma[k];
		row[1] = share * (core > memory ? 1 - minor : minor);
		row[2] = share * (core > memory ? minor : 1 - minor);
		row[3] = n < SHARPNESS_MAX ? -share * (excess + gap * minor) / n * (n - 1) : 0;
		if (target->params > 4)
			row[4] = share * linear * t / growth;
		if (target->params > 5)
			row[5] = share * square * t * t / growth;
	}
}

/* ---- hierarchical fit of one of the two forms over all layers ---- */

struct form {
	bool gpu;
	size_t params, scales; /* the first `scales` parameters are logs of a time */
	/* [params]: prior of the whole (values; sd of log), sd of a layer about it */
	const double *share, *wide, *spread;
	double noise;
	void (*evaluate)(const void *arg, const double *x, double *residual, double *jacobian);
};

static void add_target(struct target *target, size_t point, double ns, double sigma)
{
	target->at[target->count] = point;
	target->log_ns[target->count] = log(fmax(ns, 1));
	target->sigma[target->count++] = sigma;
}

static double cell_ns(const struct form *form, const struct layer_cell *cell)
{
	return form->gpu ? cell->gpu_ns : cell->cpu_ns;
}

static double source_sd_ns(const struct form *form, const struct layer_cell *cell)
{
	return form->gpu ? layer_trust[cell->source].execution_sd_ns : layer_trust[cell->source].launch_sd_ns;
}

/* One layer's cells. Returns the layer's median, in log, relative to `whole`
 * (log of the sum over layers, per point); NAN when it takes no time at all. */
static double layer_target(struct target *target, const struct layer_observations *seen, const struct form *form,
			   size_t layer, const double *whole)
{
	double level[LAYER_POINTS_MAX], most = 0;

	target->count = 0;
	for (size_t k = 0; k < seen->points; k++) {
		const struct layer_cell *cell = &seen->cell[layer * seen->points + k];
		double ns = cell_ns(form, cell);

		if (!cell->n)
			continue;
		double scatter = fmax(form->noise / sqrt((double)cell->n), LAYER_NOISE_FLOOR);
		add_target(target, k, ns, hypot(scatter, source_sd_ns(form, cell) / fmax(ns, 1)));
		level[target->count - 1] = target->log_ns[target->count - 1] - whole[k];
		most = fmax(most, ns);
	}
	return most > 0 ? median(level, target->count) : NAN;
}

static double solve(const struct form *form, const struct target *target, const double *mean, const double *sd,
		    double *x)
{
	struct lsq problem = {.params = form->params,
			      .residuals = target->count,
			      .prior_mean = mean,
			      .prior_sd = sd,
			      .huber = HUBER,
			      .iterations = ITERATIONS,
			      .evaluate = form->evaluate,
			      .arg = target};

	return lsq_solve(&problem, x, NULL);
}

/* Sum over layers at every point, in log; a layer that was not measured there counts with its median share of other
 * points. `sigma`: the relative standard deviation of the sum; the error of the source of the times is the same for
 * every layer, so it does not average out. */
static void sum_layers(const struct layer_observations *seen, const struct form *form, double *whole, double *sigma)
{
	for (size_t k = 0; k < seen->points; k++) {
		double sum = 0, added_ns = 0;
		size_t have = 0;

		for (size_t i = 0; i < seen->layers; i++) {
			const struct layer_cell *cell = &seen->cell[i * seen->points + k];
			if (!cell->n)
				continue;
			sum += cell_ns(form, cell);
			added_ns += source_sd_ns(form, cell);
			have++;
		}
		whole[k] = log(fmax(have ? sum * (double)seen->layers / (double)have : 1, 1));
		sigma[k] = hypot(fmax(form->noise / sqrt((double)seen->layers), LAYER_NOISE_FLOOR),
				 added_ns / fmax(sum, 1));
	}
}

/* The split of the model as a whole, which is the centre of every layer's prior. The form is flat where one clock hides
 * the other, so the search has three starting points, with wide residuals first. */
static void fit_whole(const struct layer_observations *seen, const struct form *form, const double *whole,
		      const double *sigma, double *centre)
{
	static const double entry[3][GPU_SCALES] = {{0, 0, 0}, {0, 1, -1}, {0, -1, 1}};
	struct target soft = {.seen = seen, .params = form->params}, target = soft;
	double level[LAYER_POINTS_MAX], mean[GPU_PARAMS], x[GPU_PARAMS], best = INFINITY, middle;

	for (size_t k = 0; k < seen->points; k++) {
		add_target(&soft, k, exp(whole[k]), 0.2);
		add_target(&target, k, exp(whole[k]), sigma[k]);
		level[k] = whole[k];
	}
	middle = median(level, seen->points);
	for (size_t j = 0; j < form->params; j++)
		mean[j] = log(form->share[j]) + (j < form->scales ? middle : 0);
	for (int e = 0; e < 3; e++) {
		for (size_t j = 0; j < form->params; j++)
			x[j] = mean[j] + (j < form->scales ? entry[e][j] : 0);
		solve(form, &soft, mean, form->wide, x);
		double value = solve(form, &target, mean, form->wide, x);
		if (value < best)
			memcpy(centre, x, form->params * sizeof(*x));
		best = fmin(best, value);
	}
}

/* Sum over layers against the measured sum, as a function of one factor (in log) on each time parameter of every
 * layer. */
struct balance {
	const struct layer_observations *seen;
	const struct form *form;
	const double *params, *levels, *whole, *sigma;
};

static void evaluate_balance(const void *arg, const double *factor, double *residual, double *jacobian)
{
	const struct balance *b = arg;
	size_t params = b->form->params, scales = b->form->scales;
	struct target target = {.seen = b->seen, .params = params};
	double x[GPU_PARAMS], log_ns[LAYER_POINTS_MAX], slope[LAYER_POINTS_MAX * GPU_PARAMS] = {0};
	double sum[LAYER_POINTS_MAX] = {0}, sloped[LAYER_POINTS_MAX][GPU_SCALES] = {{0}};

	for (size_t k = 0; k < b->seen->points; k++)
		add_target(&target, k, 1, 1);
	for (size_t i = 0; i < b->seen->layers; i++) {
		if (isnan(b->levels[i]))
			continue;
		memcpy(x, b->params + i * GPU_PARAMS, sizeof(x));
		for (size_t j = 0; j < scales; j++)
			x[j] += factor[j];
		b->form->evaluate(&target, x, log_ns, jacobian ? slope : NULL);
		for (size_t k = 0; k < target.count; k++) {
			sum[k] += exp(log_ns[k]);
			for (size_t j = 0; j < scales && jacobian; j++)
				sloped[k][j] += exp(log_ns[k]) * slope[k * params + j];
		}
	}
	for (size_t k = 0; k < target.count; k++) {
		residual[k] = (log(fmax(sum[k], 1)) - b->whole[k]) / b->sigma[k];
		for (size_t j = 0; j < scales && jacobian; j++)
			jacobian[k * scales + j] = sloped[k][j] / fmax(sum[k], 1) / b->sigma[k];
	}
}

/* Single layers are noisy, and noise in a logarithm is a bias, which the sum over layers does not have. */
static void balance_layers(struct balance *balance, double *params)
{
	static const double mean[GPU_SCALES] = {0}, sd[GPU_SCALES] = {0.3, 0.3, 0.3};
	struct lsq problem = {.params = balance->form->scales,
			      .residuals = balance->seen->points,
			      .prior_mean = mean,
			      .prior_sd = sd,
			      .huber = HUBER,
			      .iterations = 6,
			      .evaluate = evaluate_balance,
			      .arg = balance};
	double factor[GPU_SCALES] = {0};

	lsq_solve(&problem, factor, NULL);
	for (size_t i = 0; i < balance->seen->layers; i++)
		for (size_t j = 0; j < balance->form->scales; j++)
			params[i * GPU_PARAMS + j] += factor[j];
}

/* Spread of the parameters of the layers around the centre. */
static void learn_spread(const double *params, const double *levels, size_t layers, const struct form *form,
			 double *scratch, const double *centre, double *spread)
{
	for (size_t j = 0; j < form->params; j++) {
		size_t n = 0;

		for (size_t i = 0; i < layers; i++)
			if (!isnan(levels[i]))
				scratch[n++] = fabs(params[i * GPU_PARAMS + j] - centre[j] -
						    (j < form->scales ? levels[i] : 0));
		if (n >= 4)
			spread[j] = fmin(fmax(1.4826 * median(scratch, n), SPREAD_MIN), spread[j]);
	}
}

/* Noise of one measured layer from the residuals of the fit, where there are no repetitions. */
static double leftover_noise(const struct layer_observations *seen, const struct form *form, const double *params,
			     const double *levels, const double *whole, double *scratch)
{
	struct target target = {.seen = seen, .params = form->params};
	double residual[LAYER_POINTS_MAX] = {0};
	size_t n = 0, last = 0;

	for (size_t i = 0; i < seen->layers; i++) {
		if (isnan(levels[i]))
			continue;
		layer_target(&target, seen, form, i, whole);
		form->evaluate(&target, params + i * GPU_PARAMS, residual, NULL);
		for (size_t k = 0; k < target.count; k++)
			scratch[n++] = fabs(residual[k]) * form->noise;
		last = target.count;
	}
	/* About half of the parameters are determined by the prior. */
	double freed = (double)last / fmax((double)last - (double)form->params / 2, 1);
	return n ? fmin(fmax(1.4826 * median(scratch, n) * sqrt(freed), LAYER_NOISE_FLOOR), 0.5) : form->noise;
}

static int fit_form(const struct layer_observations *seen, struct form *form, bool noise_known, double *params,
		    double *levels)
{
	double *scratch = calloc(seen->layers * seen->points + seen->layers, sizeof(*scratch));
	struct target target = {.seen = seen, .params = form->params};
	double whole[LAYER_POINTS_MAX] = {0}, sigma[LAYER_POINTS_MAX] = {0};
	double centre[GPU_PARAMS], spread[GPU_PARAMS], mean[GPU_PARAMS];
	struct balance balance = {
		.seen = seen, .form = form, .params = params, .levels = levels, .whole = whole, .sigma = sigma};

	if (!scratch)
		return -ENOMEM;
	sum_layers(seen, form, whole, sigma);
	fit_whole(seen, form, whole, sigma, centre);
	memcpy(spread, form->spread, form->params * sizeof(*spread));
	for (int pass = 0; pass < PASSES; pass++) {
		for (size_t i = 0; i < seen->layers; i++) {
			double *x = params + i * GPU_PARAMS;

			levels[i] = layer_target(&target, seen, form, i, whole);
			for (size_t j = 0; j < form->params && !isnan(levels[i]); j++)
				mean[j] = centre[j] + (j < form->scales ? levels[i] : 0);
			if (isnan(levels[i]))
				continue;
			if (!pass)
				memcpy(x, mean, form->params * sizeof(*x));
			solve(form, &target, mean, spread, x);
		}
		if (pass == PASSES - 1)
			break;
		if (!noise_known)
			form->noise = leftover_noise(seen, form, params, levels, whole, scratch);
		learn_spread(params, levels, seen->layers, form, scratch, centre, spread);
	}
	balance_layers(&balance, params);
	free(scratch);
	return 0;
}

static void store_cpu(struct layer_model *model, const double *params, const double *levels)
{
	for (size_t i = 0; i < model->layers; i++) {
		if (isnan(levels[i]))
			continue;
		model->fit[i].cpu_per_clock = exp(params[i * GPU_PARAMS]);
		model->fit[i].cpu_fixed = exp(params[i * GPU_PARAMS + 1]);
	}
}

static void store_gpu(struct layer_model *model, const double *params, const double *levels, size_t count)
{
	for (size_t i = 0; i < model->layers; i++) {
		const double *x = params + i * GPU_PARAMS;
		struct layer_fit *fit = &model->fit[i];

		if (isnan(levels[i]))
			continue;
		fit->gpu_fixed = exp(x[0]);
		fit->gpu_core = exp(x[1]);
		fit->gpu_memory = exp(x[2]);
		fit->sharpness = sharpness_of(x[3]);
		fit->linear = count > 4 ? exp(x[4]) : 0;
		fit->square = count > 5 ? exp(x[5]) : 0;
	}
}

static int fit_layers(struct layer_model *model, const struct layer_observations *seen)
{
	double *params = calloc(seen->layers * GPU_PARAMS, sizeof(*params)),
	       *levels = calloc(seen->layers, sizeof(*levels));
	bool known = seen->gpu_noise > 0;
	struct form cpu = {.params = CPU_PARAMS,
			   .scales = CPU_PARAMS,
			   .evaluate = evaluate_cpu,
			   .share = cpu_share,
			   .wide = cpu_wide,
			   .spread = cpu_spread,
			   .noise = known ? seen->cpu_noise : CPU_NOISE_GUESS};
	struct form gpu = {.gpu = true,
			   .scales = GPU_SCALES,
			   .evaluate = evaluate_gpu,
			   .share = gpu_share,
			   .wide = gpu_wide,
			   .spread = gpu_spread,
			   .noise = known ? seen->gpu_noise : GPU_NOISE_GUESS};
	int rc = -ENOMEM;

	if (!params || !levels)
		goto out;
	gpu.params = GPU_PARAMS - (seen->context_varies ? !seen->squares : 2);
	rc = fit_form(seen, &cpu, known, params, levels);
	if (rc)
		goto out;
	store_cpu(model, params, levels);
	rc = fit_form(seen, &gpu, known, params, levels);
	if (rc)
		goto out;
	store_gpu(model, params, levels, gpu.params);
	for (size_t i = 0; i < model->layers; i++)
		model->fit[i].sync = seen->sync[i];
	model->cpu_noise = cpu.noise;
	model->gpu_noise = gpu.noise;
out:
	free(params);
	free(levels);
	return rc;
}

int layer_model_fit(struct layer_model *model, enum phase phase, const struct layer *rows, size_t count)
{
	struct layer_observations *seen = calloc(1, sizeof(*seen));
	int rc = -ENOMEM;

	memset(model, 0, sizeof(*model));
	if (!seen)
		return -ENOMEM;
	rc = layer_observe(seen, phase, rows, count, &model->scale);
	if (rc)
		goto out;
	rc = -ENOMEM;
	layer_distinct(seen, model->distinct);
	model->layers = seen->layers;
	model->fit = calloc(seen->layers, sizeof(*model->fit));
	if (model->fit)
		rc = fit_layers(model, seen);
	if (rc)
		layer_model_free(model);
out:
	layer_observations_free(seen);
	free(seen);
	return rc;
}

void layer_model_free(struct layer_model *model)
{
	free(model->fit);
	memset(model, 0, sizeof(*model));
}
