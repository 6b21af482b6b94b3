/* SPDX-License-Identifier: MIT */
/* Layers and contexts through estimator/model.h. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../common/clock.h"
#include "../../common/csv.h"
#include "../../common/limits.h"
#include "../../estimator/layerfit.h"
#include "../../estimator/model.h"
#include "../sim/measure.h"
#include "apart.h"

#define REPS 2

static struct sim_model sim;
static struct grid grid;
static struct sim_rng rng;
static struct sim_noise noise;
static struct measure measure;

static int open_simulation(void **state)
{
	(void)state;
	rng = (struct sim_rng){77};
	measure_grid(&grid, true);
	sim_noise_open(&noise, &rng);
	return 0;
}

static int close_simulation(void **state)
{
	(void)state;
	sim_noise_close(&noise);
	return 0;
}

static struct model *new_model(enum sim_kind kind)
{
	static const enum phase phase_of[] = {PHASE_RUN, PHASE_DECODE, PHASE_PREFILL};
	struct model_options options;
	struct model *model;

	do
		sim_random(&sim, kind, measure_top(&grid), &rng);
	while (sim.layers > 150);
	measure = (struct measure){&sim, phase_of[kind], &rng, &noise};
	model_options_default(&options);
	options.ready_width = 0;
	model = model_new(&grid, &options);
	assert_non_null(model);
	return model;
}

/* Measure `budget` points that the model plans, with layers if `rows`. Returns the number of layers. */
static size_t profile(struct model *model, size_t budget, struct layer *rows)
{
	uint32_t context;
	struct op_point point;
	size_t count = 0;
	double gain;

	for (size_t k = 0; k < budget; k++) {
		context = CONTEXT_ANY;
		assert_int_equal(model_plan(model, measure.phase, NULL, &point, &context, &gain), 1);
		struct sample sample =
			measure_sample(&measure, point, context, rows ? REPS : 0, rows ? rows + count : NULL);

		assert_int_equal(model_learn_sample(model, &sample), 0);
		if (rows)
			assert_int_equal(model_learn_layers(model, rows + count, REPS * sim.layers), 0);
		count += rows ? REPS * sim.layers : 0;
	}
	return count;
}

static double mean_error(struct model *model, uint32_t context)
{
	const struct surface *surface = model_surface(model, measure.phase, context);
	struct errors errors = {.count = 0};
	double mean;

	for (size_t i = 3; i < grid.points; i += 41)
		errors_add(&errors, (double)surface->latency_ns[i],
			   measure_truth_ns(&measure, measure_point(&grid, i), context));
	mean = errors_mean(&errors);
	errors_free(&errors);
	return mean;
}

/* Regimes and bubbles come from the layers; totals correct what layers do not show. */
static void test_layers_and_totals(void **state)
{
	struct model *model = new_model(SIM_DNN);
	struct layer *rows = calloc(8 * REPS * sim.layers, sizeof(*rows));
	double idle = 0;

	(void)state;
	profile(model, 8, rows);
	assert_true(mean_error(model, 0) < 0.02);
	const struct surface *surface = model_surface(model, PHASE_RUN, 0);
	for (size_t i = 0; i < grid.points; i++) {
		assert_in_range(surface->regime[i], REGIME_LAUNCH_BOUND, REGIME_MIXED);
		assert_true(surface->bubble_ns[i] >= 0 && surface->bubble_ns[i] < surface->latency_ns[i]);
		assert_true(surface->bound_ns[i] >= surface->latency_ns[i]);
		idle += (double)surface->bubble_ns[i];
	}
	assert_true(idle > 0);
	model_free(model);
	free(rows);
}

/* A fit of layers takes milliseconds: model_surface_at_hand() returns the old surface until the work is done. */
static void test_layers_hold_nobody_up(void **state)
{
	struct model *model = new_model(SIM_DNN);
	struct layer *rows = calloc(5 * REPS * sim.layers, sizeof(*rows));
	float *before = calloc(grid.points, sizeof(*before));
	size_t count, bytes = grid.points * sizeof(*before), pieces = 0;

	(void)state;
	count = profile(model, 4, rows);
	memcpy(before, model_surface(model, PHASE_RUN, 0)->latency_ns, bytes);
	assert_false(model_work_due(model, PHASE_RUN, 0));
	profile(model, 1, rows + count);
	assert_memory_equal(model_surface_at_hand(model, PHASE_RUN, 0)->latency_ns, before, bytes);
	assert_true(model_work_due(model, PHASE_RUN, 0));
	while (model_work(model, PHASE_RUN, 0))
		assert_in_range(++pieces, 1, 3);
	assert_int_equal(pieces, 2); /* a fit, and a pass over the grid */
	assert_false(model_work_due(model, PHASE_RUN, 0));
	const struct surface *after = model_surface_at_hand(model, PHASE_RUN, 0);
	assert_memory_not_equal(after->latency_ns, before, bytes);
	assert_ptr_equal(after, model_surface(model, PHASE_RUN, 0));
	model_free(model);
	free(before);
	free(rows);
}

/* Memory that is shared with forks, as daemon/fitting.c takes it. */
static void check_fit_apart(enum sim_kind kind, uint32_t context)
{
	struct model *model = new_model(kind);
	struct layer *rows = calloc(8 * REPS * sim.layers, sizeof(*rows));
	void *page = shared_page(model);
	const struct surface *surface;
	double error;

	profile(model, 8, rows);
	assert_true(model_work_apart(model, measure.phase));
	fit_in_fork(model, measure.phase, context, page);
	assert_true(model_work_apart(model, measure.phase));
	model_adopt(model, measure.phase, context, page);
	assert_false(model_work_apart(model, measure.phase));
	error = mean_error(model, context);

	/* the fit that model_surface() makes of the same, and one that was never handed over */
	surface = model_surface(model, measure.phase, context);
	float *adopted = calloc(grid.points, sizeof(*adopted)), *bubbles = calloc(grid.points, sizeof(*bubbles));
	memcpy(adopted, surface->latency_ns, grid.points * sizeof(*adopted));
	memcpy(bubbles, surface->bubble_ns, grid.points * sizeof(*bubbles));
	model_shed(model);
	assert_true(model_work_apart(model, measure.phase));
	surface = model_surface(model, measure.phase, context);
	assert_memory_equal(surface->latency_ns, adopted, grid.points * sizeof(*adopted));
	assert_memory_equal(surface->bubble_ns, bubbles, grid.points * sizeof(*bubbles));
	model_shed(model);
	memset(page, 0, model_apart_bytes(model));
	model_adopt(model, measure.phase, context, page);
	assert_false(model_work_apart(model, measure.phase));
	surface = model_surface(model, measure.phase, context);
	for (size_t i = 0; i < grid.points; i++)
		assert_true(surface->latency_ns[i] > 0 && surface->bubble_ns[i] <= 0);
	printf("# | fitted in a fork: mean error %.2f %%\n", 100 * error);

	/* too late: layers that came meanwhile wait for the next fit, and a model that was forgotten stays so */
	fit_in_fork(model, measure.phase, context, page);
	struct layer more = rows[0];
	more.point.hz[CLOCK_CPU] /= 2;
	more.layer = 0;
	assert_int_equal(model_learn_layers(model, &more, 1), 0);
	model_adopt(model, measure.phase, context, page);
	assert_true(model_work_apart(model, measure.phase));
	model_forget(model);
	model_adopt(model, measure.phase, context, page);
	assert_int_equal(model_surface(model, measure.phase, context)->state, SURFACE_NONE);
	munmap(page, model_apart_bytes(model));
	model_free(model);
	free(adopted);
	free(bubbles);
	free(rows);
}

/* Another process fits, and hands the timeline over whole. */
static void test_fit_apart(void **state)
{
	(void)state;
	check_fit_apart(SIM_DNN, 0);
	check_fit_apart(SIM_DECODE, 700);
	check_fit_apart(SIM_PREFILL, 300);
}

/* A fit of many samples, and the surfaces of a context around it, come from another process whole, or are made here if
 * that was killed. */
static void test_surfaces_apart(void **state)
{
	static const uint32_t contexts[] = {700, 1500};
	(void)state;
	struct model *model = new_model(SIM_DECODE);
	void *page = shared_page(model);
	float *made = calloc(grid.points, sizeof(*made));
	uint64_t start_ns, fitted_ns, taken_ns;

	profile(model, 20, NULL);
	model_shed(model);
	assert_false(model_surface_is_at_hand(model, PHASE_DECODE, contexts[0]));
	for (size_t c = 0; c < 2; c++) { /* a fit, and then only surfaces */
		assert_true(model_work_due(model, PHASE_DECODE, contexts[c]));
		assert_false(model_work_apart(model, PHASE_DECODE)); /* alone, flamed makes it itself */
		fit_in_fork(model, measure.phase, contexts[c], page);
		model_adopt(model, PHASE_DECODE, contexts[c], page);
		memset(page, 0, model_apart_bytes(model));
		assert_true(model_surface_is_at_hand(model, PHASE_DECODE, contexts[c]));
		assert_false(model_work_due(model, PHASE_DECODE, contexts[c]));
		const struct surface *s = model_surface(model, PHASE_DECODE, contexts[c]);
		memcpy(made, s->latency_ns, grid.points * sizeof(*made));
		model_shed(model);
		start_ns = clock_cpu_ns();
		s = model_surface(model, PHASE_DECODE, contexts[c]);
		fitted_ns = clock_cpu_ns();
		assert_memory_equal(s->latency_ns, made, grid.points * sizeof(*made));
	}
	model_shed(model);
	fit_in_fork(model, measure.phase, contexts[0], page);
	taken_ns = clock_cpu_ns();
	model_adopt(model, PHASE_DECODE, contexts[0], page);
	taken_ns = clock_cpu_ns() - taken_ns;
	printf("# | a fit and surfaces: %.2f ms here, %.2f ms to take over\n", (double)(fitted_ns - start_ns) * 1e-6,
	       (double)taken_ns * 1e-6);
	assert_true(4 * taken_ns < fitted_ns - start_ns);
	model_shed(model);
	memset(page, 0, model_apart_bytes(model));
	model_adopt(model, PHASE_DECODE, contexts[0], page);
	assert_false(model_work_due(model, PHASE_DECODE, contexts[0]));
	assert_true(model_surface(model, PHASE_DECODE, contexts[0])->latency_ns[0] > 0);
	/* of a model that was forgotten meanwhile nothing is taken over */
	fit_in_fork(model, measure.phase, contexts[0], page);
	model_forget(model);
	profile(model, 1, NULL);
	model_shed(model);
	model_adopt(model, PHASE_DECODE, contexts[0], page);
	assert_int_equal(model_derived_bytes(model), 0);
	munmap(page, model_apart_bytes(model));
	model_free(model);
	free(made);
}

/* What was measured, as bytes, is the same model. */
static void test_image(void **state)
{
	struct model *model = new_model(SIM_DECODE);
	struct layer *rows = calloc(8 * REPS * sim.layers, sizeof(*rows));
	struct model_options options;
	struct sample *before = NULL, *after = NULL;
	struct layer *layers_before = NULL, *layers_after = NULL;

	(void)state;
	profile(model, 8, rows);
	model_options_default(&options);
	struct model *again = model_new(&grid, &options);
	void *image = calloc(1, model_image_bytes(&grid, &options));
	model_image_put(model, image);
	assert_int_equal(model_image_take(again, image), 0);
	long count = model_samples(model, &before), layers = model_layers(model, &layers_before);
	assert_int_equal(model_samples(again, &after), count);
	assert_memory_equal(after, before, (size_t)count * sizeof(*before));
	assert_int_equal(model_layers(again, &layers_after), layers);
	for (long i = 0; i < layers; i++)
		assert_true(layers_after[i].layer == layers_before[i].layer &&
			    layers_after[i].cpu_ns == layers_before[i].cpu_ns &&
			    layers_after[i].context == layers_before[i].context);
	for (long i = 0; i < count; i++)
		assert_true(model_has_sample(again, before[i].phase, before[i].context, before[i].point));
	assert_true(model_work_apart(again, PHASE_DECODE));
	model_shed(model);
	const struct surface *first = model_surface(model, PHASE_DECODE, 300),
			     *second = model_surface(again, PHASE_DECODE, 300);
	assert_memory_equal(second->latency_ns, first->latency_ns, grid.points * sizeof(*first->latency_ns));

	model_free(again); /* nothing measured is an image too */
	again = model_new(&grid, &options);
	model_image_put(again, image);
	assert_int_equal(model_image_take(again, image), 0);
	assert_int_equal(model_surface(again, PHASE_DECODE, 300)->state, SURFACE_NONE);
	model_free(again);
	model_free(model);
	free(image);
	free(before);
	free(after);
	free(layers_before);
	free(layers_after);
	free(rows);
}

/* Bytes that no model put there, as from a process that was taken over by the file that it read: refused, or used
 * without reading or writing outside of the model's own arrays. */
static void test_image_hostile(void **state)
{
	enum { HEADER_WORDS = 8, TRIES = 400 };
	static const uint32_t hostile[] = {UINT32_MAX, INT32_MAX, 4096, 1};
	struct model *model = new_model(SIM_DECODE);
	struct layer *rows = calloc(8 * REPS * sim.layers, sizeof(*rows));
	struct model_options options;
	uint64_t random = 1;
	int refused = 0;

	(void)state;
	profile(model, 8, rows);
	model_options_default(&options);
	size_t bytes = model_image_bytes(&grid, &options);
	uint32_t *image = calloc(1, bytes);
	model_image_put(model, image);
	size_t words = bytes / sizeof(*image);
	while (words > HEADER_WORDS && !image[words - 1])
		words--;
	for (int i = 0; i < TRIES; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		size_t at = (size_t)i < HEADER_WORDS * 4u ? (size_t)i / 4 : (random >> 16) % words;
		uint32_t kept = image[at];
		struct sample *samples = NULL;
		struct model *again = model_new(&grid, &options);
		image[at] = hostile[i % 4];
		int status = model_image_take(again, image);
		assert_true(status == 0 || status == -EINVAL);
		if (status)
			assert_int_equal(model_samples(again, &samples), 0);
		refused += status != 0;
		(void)model_surface(again, PHASE_DECODE, 300);
		model_free(again);
		free(samples);
		image[at] = kept;
	}
	printf("# | hostile images: %d of %d refused, the others used\n", refused, TRIES);
	assert_true(refused > HEADER_WORDS);
	model_free(model);
	free(image);
	free(rows);
}

/* Layers alone, before anything was measured end to end. */
static void test_layers_alone(void **state)
{
	struct model *model = new_model(SIM_DNN), *other = new_model(SIM_DNN);
	struct layer *rows = calloc(8 * REPS * sim.layers, sizeof(*rows)), *stored = NULL;
	size_t count = profile(other, 8, rows);

	(void)state;
	assert_int_equal(model_learn_layers(model, rows, count), 0);
	double error = mean_error(model, 0);
	printf("# | layers alone, no total: mean error %.2f %%\n", 100 * error);
	assert_true(error < 0.06);

	/* stored and loaded again they give the same surface */
	long n = model_layers(model, &stored);
	assert_int_equal(n, count);
	struct model_options options;
	model_options_default(&options);
	struct model *again = model_new(&grid, &options);
	assert_int_equal(model_learn_layers(again, stored, (size_t)n), 0);
	for (size_t i = 0; i < grid.points; i += 97)
		assert_true(fabs((double)model_surface(again, PHASE_RUN, 0)->latency_ns[i] /
					 (double)model_surface(model, PHASE_RUN, 0)->latency_ns[i] -
				 1) < 1e-5);
	model_free(again);
	model_free(other);
	model_free(model);
	free(stored);
	free(rows);
}

/* Layers of some other model: the totals win. */
static void test_layers_that_contradict(void **state)
{
	struct model *model = new_model(SIM_DNN);
	struct layer *rows = calloc(8 * REPS * 150, sizeof(*rows));
	size_t count = profile(model, 8, rows);

	(void)state;
	struct model *wrong = new_model(SIM_DNN);
	profile(wrong, 8, NULL);
	double before = mean_error(wrong, 0);
	for (size_t i = 0; i < count; i++)
		rows[i].cpu_ns *= 40;
	assert_int_equal(model_learn_layers(wrong, rows, count), 0);
	assert_true(mean_error(wrong, 0) < before + 0.01);
	model_free(wrong);
	model_free(model);
	free(rows);
}

static void test_store_limits(void **state)
{
	struct model *model = new_model(SIM_DNN);
	struct layer row = {.point = measure_point(&grid, 5), .cpu_ns = 1000, .gpu_ns = 2000}, *stored = NULL;

	(void)state;
	for (uint32_t i = 0; i < 20; i++) {
		row.rep = i;
		assert_int_equal(model_learn_layers(model, &row, 1), 0);
	}
	assert_int_equal(model_layers(model, &stored), LAYER_REPS_MAX);
	for (uint32_t i = 0; i < LAYER_REPS_MAX; i++)
		assert_int_equal(stored[i].rep, i);
	free(stored);
	row.layer = LAYERS_MAX;
	assert_int_equal(model_learn_layers(model, &row, 1), -EINVAL);
	row.layer = 0;
	row.phase = PHASE_COUNT;
	assert_int_equal(model_learn_layers(model, &row, 1), -EINVAL);
	assert_int_equal(model_learn_layers(model, NULL, 0), 0);
	model_free(model);
}

/* At one operating point: which of several sources is kept, in any order of arrival. */
static void test_surer_source(void **state)
{
	static const enum layer_source order[] = {SOURCE_EVENTS, SOURCE_WALL, SOURCE_CUPTI, SOURCE_TRACE};
	struct model *model = new_model(SIM_DNN);
	struct layer row = {.point = measure_point(&grid, 5), .cpu_ns = 1000, .gpu_ns = 2000}, *stored = NULL;
	size_t kept[LAYER_SOURCES] = {0};

	(void)state;
	for (size_t s = 0; s < 4; s++)
		for (uint32_t i = 0; i < LAYER_REPS_MAX / 2; i++) {
			row.source = order[s];
			assert_int_equal(model_learn_layers(model, &row, 1), 0);
		}
	assert_int_equal(model_layers(model, &stored), LAYER_REPS_MAX);
	for (size_t i = 0; i < LAYER_REPS_MAX; i++)
		kept[stored[i].source]++;
	assert_int_equal(kept[SOURCE_CUPTI], LAYER_REPS_MAX / 2);
	assert_int_equal(kept[SOURCE_TRACE], LAYER_REPS_MAX / 2);
	free(stored);
	row.source = SOURCE_DEVICE;
	for (uint32_t i = 0; i < LAYER_REPS_MAX; i++)
		assert_int_equal(model_learn_layers(model, &row, 1), 0);
	assert_int_equal(model_layers(model, &stored), LAYER_REPS_MAX);
	for (size_t i = 0; i < LAYER_REPS_MAX; i++)
		assert_int_equal(stored[i].source, SOURCE_DEVICE);
	free(stored);
	model_free(model);
}

/* Every second point was measured by the host's clock, which adds its wake-up to every execution. */
static double error_of_layers(const struct layer *rows, size_t count, const struct layer *truth)
{
	struct layer_model model;
	double error = 0;

	assert_int_equal(layer_model_fit(&model, PHASE_RUN, rows, count), 0);
	for (size_t i = 0; i < count; i++) {
		const struct layer_fit *fit = &model.fit[truth[i].layer];
		double gpu = clock_slowness(&model.scale, CLOCK_GPU, truth[i].point.hz[CLOCK_GPU]);
		double mem = clock_slowness(&model.scale, CLOCK_MEM, truth[i].point.hz[CLOCK_MEM]);

		double fitted = fit->gpu_fixed + layer_gpu_scaled_ns(fit, gpu, mem);

		error += fabs(fitted / fmax((double)truth[i].gpu_ns, 1) - 1) / (double)count;
	}
	layer_model_free(&model);
	return error;
}

static void test_source_is_weighed(void **state)
{
	struct model *model = new_model(SIM_DNN);
	struct layer *truth = calloc(12 * REPS * sim.layers, sizeof(*truth));
	struct layer *rows = calloc(12 * REPS * sim.layers, sizeof(*rows));
	size_t count = profile(model, 12, truth), each = REPS * sim.layers;
	double alike, weighed, alone;

	(void)state;
	alone = error_of_layers(truth, count, truth);
	memcpy(rows, truth, count * sizeof(*rows));
	for (size_t i = 0; i < count; i++)
		rows[i].gpu_ns += i / each % 2 ? 25000 : 0;
	alike = error_of_layers(rows, count, truth);
	for (size_t i = 0; i < count; i++)
		rows[i].source = i / each % 2 ? SOURCE_WALL : SOURCE_CUPTI;
	weighed = error_of_layers(rows, count, truth);
	printf("# | a layer's execution, every second point timed by the host: error %.1f %%, with its source %.1f %%, "
	       "without such points %.1f %%\n",
	       100 * alike, 100 * weighed, 100 * alone);
	assert_true(weighed < alike / 2);
	/* where the same place was measured in both ways, only the surer way counts */
	for (size_t i = 0; i < count; i++)
		rows[i] = truth[i];
	memcpy(truth, rows, count * sizeof(*rows));
	for (size_t i = 0; i < count; i++) {
		rows[i].source = rows[i].rep ? SOURCE_EVENTS : SOURCE_CUPTI;
		rows[i].gpu_ns *= rows[i].rep ? 3 : 1;
	}
	assert_true(error_of_layers(rows, count, truth) < alone + 0.02);
	model_free(model);
	free(truth);
	free(rows);
}

/* The column is written only if a source is known, and read back; an unknown word is refused. */
static void test_source_in_csv(void **state)
{
	struct layer rows[2] = {{.cpu_ns = 1, .gpu_ns = 2}, {.layer = 1, .cpu_ns = 3, .gpu_ns = 4}}, *back;
	char *text = layers_format(rows, 2), message[CSV_MESSAGE_MAX];
	size_t count;

	(void)state;
	assert_null(strstr(text, "source"));
	free(text);
	rows[1].source = SOURCE_CUPTI;
	text = layers_format(rows, 2);
	assert_non_null(strstr(text, ",sync,source\n"));
	assert_int_equal(layers_parse(text, &back, &count, message, sizeof(message), NULL, NULL), 0);
	assert_int_equal(count, 2);
	assert_int_equal(back[0].source, SOURCE_DEVICE);
	assert_int_equal(back[1].source, SOURCE_CUPTI);
	free(back);
	free(text);
	text = strdup("layer,cpu_ns,gpu_ns,source\n0,1,2,guess\n");
	assert_int_equal(layers_parse(text, &back, &count, message, sizeof(message), NULL, NULL), -EINVAL);
	assert_string_equal(message, "line 2: source: 'guess' is not cupti, trace, events or wall");
	free(text);
	for (int s = 1; s < LAYER_SOURCES; s++) {
		assert_int_equal(layer_source_parse(layer_trust[s].name), s);
		assert_true(
			layer_surer((enum layer_source)(s - 1), (enum layer_source)s)); /* in the order of accuracy */
		assert_true(strlen(layer_trust[s].name) <= LAYER_SOURCE_MAX);
	}
	assert_int_equal(layer_source_parse("telepathy"), SOURCE_DEVICE);
	assert_int_equal(layer_source_parse(NULL), SOURCE_DEVICE);
}

/* A client that can measure at one context only. */
static void test_one_context(void **state)
{
	struct model *model = new_model(SIM_DECODE);
	struct op_point point;
	double gain;

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint32_t context = 700;
		assert_int_equal(model_plan(model, PHASE_DECODE, NULL, &point, &context, &gain), 1);
		assert_int_equal(context, 700);
		struct sample sample = measure_sample(&measure, point, context, 0, NULL);
		assert_int_equal(model_learn_sample(model, &sample), 0);
	}
	model_free(model);
}

/* A client that sends layers with every token of a long decode. */
static void test_layers_with_every_token(void **state)
{
	struct model *model = new_model(SIM_DECODE);
	struct layer *rows = calloc(REPS * sim.layers, sizeof(*rows)), *stored = NULL;
	size_t most = 0, same = 0;

	(void)state;
	profile(model, 12, NULL);
	for (uint32_t context = 1; context < 4096; context += 3) {
		struct op_point point = measure_point(&grid, (context / 50 * 131) % grid.points);
		struct sample sample = measure_sample(&measure, point, context, 1, rows);
		assert_int_equal(model_learn_layers(model, rows, sim.layers), 0);
		assert_int_equal(model_observe(model, PHASE_DECODE, context, point, sample.latency_ns, 0, 0, 1), 0);
		long n = model_layers(model, &stored);
		free(stored);
		same = (size_t)n == most ? same + 1 : 0;
		most = (size_t)n;
	}
	assert_true(most > 0 && most <= (size_t)LAYER_PLACES_MAX * LAYER_REPS_MAX * sim.layers);
	assert_true(same > 100); /* the store has had enough */
	double error = 0;
	for (uint32_t context = 100; context < 4000; context += 800)
		error += mean_error(model, context) / 5;
	printf("# | layers with every token: %zu inferences kept, mean error %.2f %%\n", most / sim.layers,
	       100 * error);
	assert_true(error < 0.03);
	model_free(model);
	free(rows);
}

/* Twelve points over clocks and contexts; in between, and modestly beyond. */
static void test_contexts(void **state)
{
	static const uint32_t contexts[] = {1, 77, 300, 1000, 2345, 4096, 5000};

	(void)state;
	for (int kind = SIM_DECODE; kind <= SIM_PREFILL; kind++) {
		struct model *model = new_model((enum sim_kind)kind);
		double mean = 0;

		profile(model, 12, NULL);
		for (size_t c = 0; c < 7; c++)
			mean += mean_error(model, contexts[c]) / 7;
		printf("# | %s, 12 points, contexts 1 to 5,000: mean error %.2f %%\n",
		       kind == SIM_DECODE ? "decode" : "prefill", 100 * mean);
		assert_true(mean < 0.03);
		/* more tokens never take less time, with any surfaces in between */
		double before = 0;
		for (uint32_t context = 1; context < 4200; context += 13) {
			const struct surface *s = model_surface(model, measure.phase, context);
			assert_true((double)s->latency_ns[grid.points / 2] >= before * 0.999);
			assert_true(s->context >= context && s->context <= context + context / 32 + 8);
			assert_true(s->bound_ns[7] >= s->latency_ns[7]);
			before = (double)s->latency_ns[grid.points / 2];
		}
		model_free(model);
	}
}

/* A decode that grows: every token is observed; errors stay small and nothing drifts away. */
static void test_growing_decode(void **state)
{
	struct model *model = new_model(SIM_DECODE);
	struct op_point point = measure_point(&grid, grid.points - 2);
	struct errors errors = {.count = 0};

	(void)state;
	profile(model, 12, NULL);
	for (uint32_t context = 100; context < 1400; context++) {
		/* contention: 10 % */
		double truth = sim_run(&sim, measure_clocks(point), context, &rng, NULL, NULL) * 1.1;
		const struct surface *s = model_surface(model, PHASE_DECODE, context);

		if (context > 200)
			errors_add(&errors, (double)s->latency_ns[grid.points - 2] * s->slowdown, truth);
		assert_int_equal(model_observe(model, PHASE_DECODE, context, point, (uint64_t)truth, 0, 0, 1), 0);
	}
	printf("# | decode growing over 1,200 tokens, 10 %% slower than profiled: mean error %.2f %%\n",
	       100 * errors_mean(&errors));
	assert_true(errors_mean(&errors) < 0.03);
	errors_free(&errors);
	model_free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layers_and_totals),
		cmocka_unit_test(test_layers_alone),
		cmocka_unit_test(test_layers_that_contradict),
		cmocka_unit_test(test_store_limits),
		cmocka_unit_test(test_contexts),
		cmocka_unit_test(test_growing_decode),
		cmocka_unit_test(test_one_context),
		cmocka_unit_test(test_layers_with_every_token),
		cmocka_unit_test(test_layers_hold_nobody_up),
		cmocka_unit_test(test_surer_source),
		cmocka_unit_test(test_source_is_weighed),
		cmocka_unit_test(test_source_in_csv),
		cmocka_unit_test(test_fit_apart),
		cmocka_unit_test(test_surfaces_apart),
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_image_hostile),
	};

	return cmocka_run_group_tests(tests, open_simulation, close_simulation);
}
