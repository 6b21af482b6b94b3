/* SPDX-License-Identifier: MIT */
/* The estimator against generated models, through estimator/model.h alone:
 * tables of errors as TAP diagnostics, and one TAP line for each limit.
 * usage: generated [MODELS]   (200)
 *        generated --csv DIR           write one model's samples.csv, layers.csv, points.csv */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../estimator/lsq.h"
#include "../../estimator/model.h"
#include "measure.h"

#define DNN_POINTS    8
#define DECODE_POINTS 12
#define LAYER_REPS    3
#define CHECKED       100 /* grid points that are compared for each model */
#define CONTEXT_LAST  4096
#define SETTLE_NS     1e7
#define WARM_UP       3 /* inferences at a new point before those that count */

static int tests, failures;

static void promise(bool kept, const char *what)
{
	printf("%sok %d - %s\n", kept ? "" : "not ", ++tests, what);
	failures += !kept;
}

static void table_head(const char *title)
{
	printf("# |\n# | %-46s %7s %7s %7s %7s\n", title, "mean %", "median", "95 %", "worst");
}

static void table_row(const char *name, struct errors *e)
{
	printf("# |   %-44s %7.2f %7.2f %7.2f %7.1f\n", name, 100 * errors_mean(e), 100 * errors_quantile(e, 0.5),
	       100 * errors_quantile(e, 0.95), 100 * errors_quantile(e, 1));
}

/* ---- the additive form, for comparison: a + e/fc + b/fg + c/fm, all >= 0 ---- */

struct additive {
	const struct sample *sample;
	size_t count;
};

static double additive_ns(const double *x, struct op_point at)
{
	return exp(x[0]) + exp(x[1]) * 1e9 / (double)at.hz[0] + exp(x[2]) * 1e9 / (double)at.hz[1] +
	       exp(x[3]) * 1e9 / (double)at.hz[2];
}

static void additive_evaluate(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct additive *a = arg;

	for (size_t k = 0; k < a->count; k++) {
		double ns = additive_ns(x, a->sample[k].point);

		residual[k] = 50 * log(ns / (double)a->sample[k].latency_ns);
		for (size_t j = 0; j < 4 && jacobian; j++) {
			double term = j ? exp(x[j]) * 1e9 / (double)a->sample[k].point.hz[j - 1] : exp(x[0]);
			jacobian[k * 4 + j] = 50 * term / ns;
		}
	}
}

static void additive_fit(const struct sample *sample, size_t count, double x[4])
{
	struct additive additive = {sample, count};
	double mean[4], sd[4] = {5, 5, 5, 5};
	struct lsq problem = {.params = 4,
			      .residuals = count,
			      .prior_mean = mean,
			      .prior_sd = sd,
			      .iterations = 60,
			      .evaluate = additive_evaluate,
			      .arg = &additive};

	for (int j = 0; j < 4; j++)
		x[j] = mean[j] = log((double)sample[0].latency_ns / 4);
	lsq_solve(&problem, x, NULL);
}

/* ---- one model ---- */

struct trial {
	struct sim_model sim;
	struct grid grid;
	struct measure measure;
	struct model *plain, *layered;
	struct sample sample[DECODE_POINTS];
	size_t samples;
	double spent_ns;
};

static void trial_open(struct trial *t, enum sim_kind kind, bool memory, struct sim_rng *rng, struct sim_noise *noise)
{
	struct model_options options;

	memset(t, 0, sizeof(*t));
	measure_grid(&t->grid, memory);
	sim_random(&t->sim, kind, measure_top(&t->grid), rng);
	t->measure = (struct measure){&t->sim,
				      kind == SIM_DNN    ? PHASE_RUN :
				      kind == SIM_DECODE ? PHASE_DECODE :
							   PHASE_PREFILL,
				      rng, noise};
	model_options_default(&options);
	options.ready_width = 0; /* use the whole budget */
	t->plain = model_new(&t->grid, &options);
	t->layered = model_new(&t->grid, &options);
	if (!t->plain || !t->layered)
		abort();
}

static void trial_close(struct trial *t)
{
	model_free(t->plain);
	model_free(t->layered);
}

/* Measure the points that the model plans; the second model learns the layers of the same inferences. */
static void trial_profile(struct trial *t, size_t budget, bool layers)
{
	struct layer *rows = calloc(LAYER_REPS * t->sim.layers, sizeof(*rows));
	struct op_point point;
	uint32_t context = CONTEXT_ANY;
	double gain;

	for (; rows && t->samples < budget && model_plan(t->plain, t->measure.phase, NULL, &point, &context, &gain);
	     context = CONTEXT_ANY) {
		struct sample sample = measure_sample(&t->measure, point, context, layers ? LAYER_REPS : 0, rows);

		t->sample[t->samples++] = sample;
		t->spent_ns += (MEASURE_INFERENCES + WARM_UP) * (double)sample.latency_ns + SETTLE_NS;
		if (model_learn_sample(t->plain, &sample) || model_learn_sample(t->layered, &sample))
			abort();
		if (layers && model_learn_layers(t->layered, rows, LAYER_REPS * t->sim.layers))
			abort();
	}
	free(rows);
}

struct tally {
	struct errors timeline, plain, additive;
	struct cover {
		size_t above, points; /* bounds that the truth lies above */
		double width;         /* sum of bound / truth */
	} timeline_cover, plain_cover;
};

static void cover_add(struct cover *cover, double bound, double truth)
{
	cover->above += bound < truth;
	cover->width += bound / truth;
	cover->points++;
}

static double cover_above(const struct cover *cover)
{
	return cover->points ? (double)cover->above / (double)cover->points : 0;
}

static double cover_width(const struct cover *cover)
{
	return cover->points ? cover->width / (double)cover->points : 1;
}

static bool cover_kept(const struct cover *cover)
{
	return cover_above(cover) <= 0.02 && cover_width(cover) <= 1.12;
}

static void compare(struct trial *t, uint32_t context, bool layers, size_t points, struct tally *tally)
{
	const struct surface *plain = model_surface(t->plain, t->measure.phase, context);
	const struct surface *layered = model_surface(t->layered, t->measure.phase, context);
	double additive[4];

	additive_fit(t->sample, t->samples, additive);
	for (size_t k = 0; k < points; k++) {
		size_t i = (size_t)sim_uniform(t->measure.rng, 0, (double)t->grid.points);
		struct op_point at = measure_point(&t->grid, i);
		double truth = measure_truth_ns(&t->measure, at, context);

		errors_add(&tally->plain, plain->latency_ns[i], truth);
		cover_add(&tally->plain_cover, plain->bound_ns[i], truth);
		if (layers) {
			errors_add(&tally->timeline, layered->latency_ns[i], truth);
			cover_add(&tally->timeline_cover, layered->bound_ns[i], truth);
		}
		if (t->measure.phase == PHASE_RUN)
			errors_add(&tally->additive, additive_ns(additive, at), truth);
	}
}

static void tally_print(const char *name, struct tally *tally)
{
	table_head(name);
	if (tally->timeline.count)
		table_row("timeline (layers and totals)", &tally->timeline);
	table_row("end-to-end form", &tally->plain);
	if (tally->additive.count)
		table_row("additive a + e/fc + b/fg + c/fm", &tally->additive);
	printf("# |   above the bound, mean bound / truth: timeline %.2f %%, %.3f; end-to-end form %.2f %%, %.3f\n",
	       100 * cover_above(&tally->timeline_cover), cover_width(&tally->timeline_cover),
	       100 * cover_above(&tally->plain_cover), cover_width(&tally->plain_cover));
}

static void tally_free(struct tally *tally)
{
	errors_free(&tally->timeline);
	errors_free(&tally->plain);
	errors_free(&tally->additive);
}

/* ---- the promises ---- */

static void fixed_shape(size_t models, struct sim_rng *rng, struct sim_noise *noise)
{
	struct tally tally[2] = {{.timeline = {.count = 0}}}, all = {.timeline = {.count = 0}};
	static struct trial trial;

	for (size_t i = 0; i < models; i++) {
		/* the latter at context 0, as one more fixed shape */
		enum sim_kind kind = i % 5 < 3 ? SIM_DNN : SIM_DECODE;

		trial_open(&trial, kind, i % 2, rng, noise);
		trial.measure.phase = PHASE_RUN;
		trial_profile(&trial, DNN_POINTS, true);
		compare(&trial, 0, true, CHECKED / 2, &tally[i % 2]);
		compare(&trial, 0, true, CHECKED / 2, &all);
		trial_close(&trial);
	}
	tally_print("29 x 11 clocks, 8 points", &tally[0]);
	tally_print("29 x 11 x 4 clocks, 8 points", &tally[1]);
	tally_print("all generated models", &all);
	promise(errors_mean(&all.timeline) <= 0.02, "timeline from 8 points: mean error at most 2 %");
	promise(errors_quantile(&all.timeline, 0.95) <= 0.05, "timeline from 8 points: 95 % within 5 %");
	promise(errors_mean(&all.plain) <= 0.04, "end-to-end form from 8 points: mean error at most 4 %");
	promise(cover_kept(&all.timeline_cover) && cover_kept(&all.plain_cover),
		"bounds: at most 2 % of points above, mean within 12 %");
	promise(errors_mean(&all.additive) > errors_mean(&all.plain), "the additive form is worse");
	tally_free(&tally[0]);
	tally_free(&tally[1]);
	tally_free(&all);
}

static void language(enum sim_kind kind, size_t models, struct sim_rng *rng, struct sim_noise *noise)
{
	struct tally tally = {.timeline = {.count = 0}};
	static struct trial trial;
	const char *name = kind == SIM_DECODE ? "decode" : "prefill";
	char text[96];

	for (size_t i = 0; i < models; i++) {
		trial_open(&trial, kind, i % 2, rng, noise);
		trial_profile(&trial, DECODE_POINTS, true);
		for (int c = 0; c < 10; c++)
			compare(&trial,
				(uint32_t)(c % 2 ? sim_log_uniform(rng, 1, CONTEXT_LAST + 1) :
						   sim_uniform(rng, 1, CONTEXT_LAST + 1)),
				true, CHECKED / 10, &tally);
		trial_close(&trial);
	}
	snprintf(text, sizeof(text), "%s, contexts 1 to 4,096, 12 points", name);
	tally_print(text, &tally);
	snprintf(text, sizeof(text), "%s from 12 measurements: mean error at most 3 %%", name);
	promise(errors_mean(&tally.plain) <= 0.03 && errors_mean(&tally.timeline) <= 0.03, text);
	snprintf(text, sizeof(text), "%s: at most 2 %% of points above the bound, mean within 12 %%", name);
	promise(cover_kept(&tally.timeline_cover) && cover_kept(&tally.plain_cover), text);
	tally_free(&tally);
}

/* Cost of profiling against measuring every point, and its error. */
static void cost(const char *name, enum sim_kind kind, bool memory, size_t budget, double contexts, double top_ms,
		 struct sim_rng *rng, struct sim_noise *noise)
{
	static struct trial trial;
	struct tally tally = {.timeline = {.count = 0}};
	double grid_ns = 0, planned = 0, inferences = 0;
	const int models = 8;
	size_t points = 0;

	for (int i = 0; i < models; i++) {
		trial_open(&trial, kind, memory, rng, noise);
		double scale = top_ms * 1e6 / sim_run(&trial.sim, trial.sim.top, 0, NULL, NULL, NULL);
		trial_profile(&trial, budget, false);
		for (size_t k = 0; k < trial.grid.points; k++)
			grid_ns +=
				contexts * ((MEASURE_INFERENCES + WARM_UP) * scale *
						    sim_run(&trial.sim, measure_clocks(measure_point(&trial.grid, k)),
							    contexts > 1 ? 512 : 0, NULL, NULL, NULL) +
					    SETTLE_NS);
		planned += trial.spent_ns * scale;
		inferences += (double)trial.samples * (MEASURE_INFERENCES + WARM_UP);
		points = trial.grid.points;
		for (int c = 0; c < 4; c++)
			compare(&trial, contexts > 1 ? (uint32_t)sim_uniform(rng, 1, 1025) : 0, false, 25, &tally);
		trial_close(&trial);
	}
	printf("# |   %-34s %8.0f %9.2f %9.0f %10.0f %8.2f\n", name, inferences / models, planned / models / 6e10,
	       (double)points * contexts * (MEASURE_INFERENCES + WARM_UP), grid_ns / models / 6e10,
	       100 * errors_mean(&tally.plain));
	tally_free(&tally);
}

/* ---- files for `flamectl predict` ---- */

static FILE *open_csv(const char *directory, const char *name, const char *header)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "we");
	if (!file)
		abort();
	fprintf(file, "%s\n", header);
	return file;
}

static void write_sample(FILE *file, const struct sample *s)
{
	fprintf(file, "run,0,%llu,%llu,%llu,%llu,%u,%llu\n", (unsigned long long)s->point.hz[0],
		(unsigned long long)s->point.hz[1], (unsigned long long)s->point.hz[2],
		(unsigned long long)s->latency_ns, s->n, (unsigned long long)s->sd_ns);
}

/* samples.csv and layers.csv of eight points, points.csv with the truth at every fifth point. */
static void write_files(const char *directory, struct sim_rng *rng, struct sim_noise *noise)
{
	static const char header[] = "phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns";
	FILE *samples = open_csv(directory, "samples.csv", header), *points = open_csv(directory, "points.csv", header);
	FILE *layers =
		open_csv(directory, "layers.csv", "phase,context,cpu_hz,gpu_hz,mem_hz,rep,layer,cpu_ns,gpu_ns,sync");
	static struct trial t;
	struct op_point at;
	uint32_t context = CONTEXT_ANY;
	double gain;

	trial_open(&t, SIM_DNN, true, rng, noise);
	struct layer *rows = calloc(LAYER_REPS * t.sim.layers, sizeof(*rows));
	for (size_t k = 0; rows && k < DNN_POINTS && model_plan(t.plain, PHASE_RUN, NULL, &at, &context, &gain); k++) {
		struct sample s = measure_sample(&t.measure, at, 0, LAYER_REPS, rows);

		write_sample(samples, &s);
		if (model_learn_sample(t.plain, &s))
			abort();
		for (size_t i = 0; i < LAYER_REPS * t.sim.layers; i++)
			fprintf(layers, "run,0,%llu,%llu,%llu,%u,%u,%llu,%llu,%d\n", (unsigned long long)at.hz[0],
				(unsigned long long)at.hz[1], (unsigned long long)at.hz[2], rows[i].rep, rows[i].layer,
				(unsigned long long)rows[i].cpu_ns, (unsigned long long)rows[i].gpu_ns, rows[i].sync);
	}
	for (size_t i = 0; i < t.grid.points; i += 5) {
		at = measure_point(&t.grid, i);
		write_sample(points, &(struct sample){.point = at,
						      .n = 1,
						      .latency_ns = (uint64_t)measure_truth_ns(&t.measure, at, 0)});
	}
	free(rows);
	trial_close(&t);
	fclose(samples);
	fclose(points);
	fclose(layers);
}

int main(int argc, char **argv)
{
	bool csv = argc > 2 && !strcmp(argv[1], "--csv");
	size_t models = argc > 1 && !csv ? strtoul(argv[1], NULL, 10) : 200;
	struct sim_rng rng = {42};
	struct sim_noise noise;
	sim_noise_open(&noise, &rng);

	if (csv) {
		write_files(argv[2], &rng, &noise);
		sim_noise_close(&noise);
		return 0;
	}

	printf("# | %zu generated models\n", models);
	fixed_shape(models, &rng, &noise);
	language(SIM_DECODE, models / 2, &rng, &noise);
	language(SIM_PREFILL, models / 4, &rng, &noise);
	printf("# |\n# | %-36s %8s %9s %9s %10s %8s\n", "profiling a model (mean of 8)", "inferen.", "minutes",
	       "all infer.", "minutes", "error %");
	cost("DNN, 29 x 11", SIM_DNN, false, 8, 1, 15, &rng, &noise);
	cost("DNN, 29 x 11 x 4", SIM_DNN, true, 8, 1, 15, &rng, &noise);
	cost("decode, 29 x 11, contexts to 1,024", SIM_DECODE, false, 12, 1024, 25, &rng, &noise);
	printf("1..%d\n", tests);
	sim_noise_close(&noise);
	return failures != 0;
}
