/* SPDX-License-Identifier: MIT */
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

#include "../../common/limits.h"
#include "../../estimator/model.h"
#include "../../estimator/schedule.h"
#include "../../estimator/timeline.h"
#include "../sim/measure.h"

#define REPS 3

static struct sim_model model;

/* The schedule of exactly known layers, without fitting anything. */
static double scheduled(const struct sim_model *m, size_t segments_expected)
{
	static double cpu[SIM_LAYERS_MAX], gpu[SIM_LAYERS_MAX];
	static bool sync[SIM_LAYERS_MAX];
	static struct segment segment[SCHEDULE_SEGMENTS_MAX];
	static uint32_t path_layer[SCHEDULE_SEGMENTS_MAX * SCHEDULE_PATHS_MAX];
	static float total[SCHEDULE_SEGMENTS_MAX], lead[SCHEDULE_SEGMENTS_MAX * SCHEDULE_PATHS_MAX];
	static float execution[SCHEDULE_SEGMENTS_MAX * SCHEDULE_LANES];
	static float rest[SCHEDULE_SEGMENTS_MAX * SCHEDULE_PATHS_MAX * SCHEDULE_LANES];
	size_t paths;

	sim_run(m, m->top, 0, NULL, cpu, gpu);
	for (size_t i = 0; i < m->layers; i++)
		sync[i] = m->layer[i].sync;
	size_t segments = schedule_cut(cpu, gpu, sync, m->layers, segment, path_layer, &paths);
	assert_in_range(segments, 1, SCHEDULE_SEGMENTS_MAX);
	if (segments_expected)
		assert_int_equal(segments, segments_expected);
	for (size_t i = 0; i < segments; i++) {
		double launched = 0, executed = 0;

		for (uint32_t layer = segment[i].first; layer < segment[i].first + segment[i].count; layer++) {
			launched += cpu[layer];
			executed += gpu[layer];
		}
		for (uint32_t p = segment[i].path; p < segment[i].path + segment[i].paths; p++) {
			double before = 0, after = 0;
			for (uint32_t layer = segment[i].first; layer < segment[i].first + segment[i].count; layer++) {
				before += layer <= path_layer[p] ? cpu[layer] : 0;
				after += layer >= path_layer[p] ? gpu[layer] : 0;
			}
			lead[p] = (float)before;
			for (size_t j = 0; j < SCHEDULE_LANES; j++)
				rest[p * SCHEDULE_LANES + j] = (float)after;
		}
		total[i] = (float)launched;
		for (size_t j = 0; j < SCHEDULE_LANES; j++)
			execution[i * SCHEDULE_LANES + j] = (float)executed;
	}
	size_t queue = m->queue * segments / m->layers;
	struct launch_schedule schedule = {segment,   segments, queue ? queue : 1, (float)m->delay_ns, total, lead,
					   execution, rest,     SCHEDULE_LANES};
	float end[SCHEDULE_LANES];
	schedule_lanes(&schedule, 0, end);
	assert_true(end[0] >= end[SCHEDULE_LANES - 1] && end[0] <= end[SCHEDULE_LANES - 1]);
	return (double)end[0] + m->tail_scaled + m->tail_fixed;
}

static struct sim_clocks top(void)
{
	return (struct sim_clocks){2.2e9, 1.3e9, 3.2e9};
}

/* Layer by layer the recurrence is the event-driven simulation. */
static void test_schedule_is_exact(void **state)
{
	struct sim_rng rng = {1};

	(void)state;
	for (int i = 0; i < 300; i++) {
		sim_random(&model, (enum sim_kind)(i % SIM_KINDS), top(), &rng);
		model.queue = (size_t)sim_log_uniform(&rng, 1, 600);
		if (i % 3 == 0)
			for (size_t k = 0; k < model.layers; k += 1 + (size_t)sim_uniform(&rng, 0, 20))
				model.layer[k].sync = true;
		double truth = sim_run(&model, top(), 0, NULL, NULL, NULL);
		assert_true(fabs(scheduled(&model, model.layers) / truth - 1) < 1e-4);
	}
}

/* Segments of several layers keep the overlap between them. */
static void test_schedule_segments(void **state)
{
	struct sim_rng rng = {2};
	double worst = 0;

	(void)state;
	for (int i = 0; i < 40; i++) {
		sim_random(&model, SIM_DECODE, top(), &rng);
		model.layers = (size_t)sim_uniform(&rng, 1100, LAYERS_MAX);
		model.queue = SIZE_MAX / SCHEDULE_SEGMENTS_MAX / 2;
		double balance = sim_log_uniform(&rng, 0.2, 5);
		for (size_t k = 0; k < model.layers; k++) {
			model.layer[k] = model.layer[k % 20];
			model.layer[k].sync = i % 2 && k % 97 == 0;
			double cpu = model.layer[k].cpu_scaled + model.layer[k].cpu_fixed;
			double swing = 1 + 0.9 * sin((double)k / 50); /* now the CPU leads, now the GPU */
			model.layer[k].gpu_fixed = cpu * balance * swing * sim_log_uniform(&rng, 0.3, 3);
			model.layer[k].gpu_core = model.layer[k].gpu_memory = 0;
		}
		double truth = sim_run(&model, top(), 0, NULL, NULL, NULL);
		worst = fmax(worst, fabs(scheduled(&model, 0) / truth - 1));
	}
	printf("# | 1,100 to 4,096 layers in at most 1,024 segments: worst error against the simulator %.3f %%\n",
	       100 * worst);
	assert_true(worst < 0.005);
}

struct rig {
	struct grid grid;
	struct sim_rng rng;
	struct sim_noise noise;
	struct measure measure;
	struct layer *rows;
	size_t row_count;
	struct sample totals[32];
	size_t total_count;
};

static void rig_open(struct rig *rig, uint64_t seed, bool memory, enum phase phase)
{
	*rig = (struct rig){.rng = {seed}};
	measure_grid(&rig->grid, memory);
	sim_noise_open(&rig->noise, &rig->rng);
	rig->measure = (struct measure){&model, phase, &rig->rng, &rig->noise};
}

static void rig_measure(struct rig *rig, size_t cpu, size_t gpu, size_t mem, uint32_t context)
{
	struct op_point at = {
		{rig->grid.hz[CLOCK_CPU][cpu], rig->grid.hz[CLOCK_GPU][gpu], rig->grid.hz[CLOCK_MEM][mem]}};

	rig->rows = realloc(rig->rows, (rig->row_count + REPS * model.layers) * sizeof(*rig->rows));
	assert_non_null(rig->rows);
	rig->totals[rig->total_count++] = measure_sample(&rig->measure, at, context, REPS, rig->rows + rig->row_count);
	rig->row_count += REPS * model.layers;
}

static void rig_close(struct rig *rig)
{
	free(rig->rows);
	sim_noise_close(&rig->noise);
}

static void measure_eight(struct rig *rig)
{
	static const size_t at[8][3] = {{28, 10, 3}, {6, 10, 3}, {28, 2, 3}, {28, 10, 1},
					{10, 5, 2},  {3, 7, 1},  {16, 3, 2}, {0, 0, 0}};
	size_t mems = rig->grid.count[CLOCK_MEM];

	for (int i = 0; i < 8; i++)
		rig_measure(rig, at[i][0], at[i][1], mems > 1 ? at[i][2] : 0, 0);
}

static float latency[GRID_POINTS_MAX], bubble[GRID_POINTS_MAX];
static uint8_t regime[GRID_POINTS_MAX];

/* Launches dominate at the lowest CPU clock, execution at the lowest GPU and
 * memory clocks, and idle time of the GPU is what the simulator leaves. */
static void test_regimes_and_bubbles(void **state)
{
	static double gpu[SIM_LAYERS_MAX], cpu[SIM_LAYERS_MAX];
	struct timeline *timeline;
	struct rig rig;
	double worst = 0;

	(void)state;
	rig_open(&rig, 3, true, PHASE_RUN);
	do
		sim_random(&model, SIM_DNN, measure_top(&rig.grid), &rig.rng);
	while (model.layers < 60);
	model.layers = 60;
	double launches = 0, executions = 0;
	sim_run(&model, measure_top(&rig.grid), 0, NULL, cpu, gpu);
	for (size_t i = 0; i < model.layers; i++) {
		launches += cpu[i];
		executions += gpu[i];
		model.layer[i].sync = i + 1 == model.layers;
	}
	for (size_t i = 0; i < model.layers; i++) {
		model.layer[i].gpu_core *= launches / executions;
		model.layer[i].gpu_memory *= launches / executions;
		model.layer[i].gpu_fixed *= launches / executions;
	}
	measure_eight(&rig);
	assert_int_equal(timeline_fit(&rig.grid, PHASE_RUN, rig.rows, rig.row_count, rig.totals, 8, &timeline), 0);
	timeline_surface(timeline, 0, latency, regime, bubble);
	assert_int_equal(timeline_regime(10, 9, 8.9), REGIME_LAUNCH_BOUND);
	assert_int_equal(timeline_regime(10, 8.9, 9), REGIME_EXECUTION_BOUND);
	assert_int_equal(timeline_regime(10, 9, 9), REGIME_MIXED);
	assert_int_equal(timeline_regime(10, 8.9, 8.9), REGIME_MIXED);
	assert_int_equal(regime[0 * 44 + 43], REGIME_LAUNCH_BOUND);
	assert_int_equal(regime[28 * 44 + 0], REGIME_EXECUTION_BOUND);
	assert_non_null(memchr(regime, REGIME_MIXED, rig.grid.points));
	for (size_t i = 0; i < rig.grid.points; i += 7) {
		double total = sim_run(&model, measure_clocks(measure_point(&rig.grid, i)), 0, NULL, cpu, gpu),
		       idle = total;
		idle -= model.tail_fixed +
			model.tail_scaled * model.top.cpu / (double)measure_point(&rig.grid, i).hz[CLOCK_CPU];
		idle -= cpu[0] + model.delay_ns;
		for (size_t k = 0; k < model.layers; k++)
			idle -= gpu[k];
		worst = fmax(worst, fabs(bubble[i] - idle) / total);
		assert_true(bubble[i] >= 0 && bubble[i] < latency[i]);
	}
	/* a single point is the same prediction, and so is one just off the grid */
	for (size_t i = 0; i < rig.grid.points; i += 101) {
		struct op_point at = measure_point(&rig.grid, i);
		assert_true(fabs(timeline_latency_ns(timeline, at, 0) / (double)latency[i] - 1) < 1e-4);
		at.hz[CLOCK_GPU] += 1000;
		assert_true(fabs(timeline_latency_ns(timeline, at, 0) / (double)latency[i] - 1) < 1e-4);
	}
	printf("# | bubble time: worst difference from the simulator %.1f %% of the latency\n", 100 * worst);
	assert_true(worst < 0.08);
	timeline_free(timeline);
	rig_close(&rig);
}

/* Delay and queue depth do not show in layers, only in totals. */
static void test_learns_queue_from_totals(void **state)
{
	struct timeline *timeline;
	struct rig rig;

	(void)state;
	rig_open(&rig, 4, true, PHASE_RUN);
	sim_random(&model, SIM_DNN, measure_top(&rig.grid), &rig.rng);
	model.layers = 200;
	model.queue = 4;
	/* Long executions first, long launches after: a deep queue would hide the latter. */
	for (size_t i = 0; i < model.layers; i++) {
		model.layer[i] = (struct sim_layer){.sync = i == 199,
						    .cpu_scaled = i < 100 ? 3e3 : 3e4,
						    .cpu_fixed = 1e3,
						    .overlap = 2,
						    .gpu_fixed = 1e3,
						    .gpu_core = i < 100 ? 3e4 : 3e3,
						    .gpu_memory = 1e3};
	}
	measure_eight(&rig);
	assert_int_equal(timeline_fit(&rig.grid, PHASE_RUN, rig.rows, rig.row_count, rig.totals, 8, &timeline), 0);
	struct timeline_facts facts = timeline_facts(timeline);
	printf("# | queue of 4: learned %u; launch to start %.1f us: learned %.1f us\n", facts.queue_depth,
	       model.delay_ns / 1e3, facts.delay_ns / 1e3);
	assert_in_range(facts.queue_depth, 2, 8);
	timeline_free(timeline);
	rig_close(&rig);
}

/* Layers at three contexts predict all contexts between, and one beyond. */
static void test_layers_over_contexts(void **state)
{
	static const size_t at[9][4] = {{28, 10, 3, 1}, {6, 10, 3, 1024}, {28, 2, 3, 4096},
					{28, 10, 1, 1}, {10, 5, 2, 1024}, {3, 7, 1, 4096},
					{16, 3, 2, 1},  {0, 0, 0, 1024},  {28, 10, 3, 4096}};
	static const uint32_t contexts[] = {1, 300, 2000, 4096, 5000};

	(void)state;
	for (int kind = SIM_DECODE; kind <= SIM_PREFILL; kind++) {
		struct errors errors = {0};

		for (uint64_t seed = 0; seed < 6; seed++) {
			enum phase phase = kind == SIM_DECODE ? PHASE_DECODE : PHASE_PREFILL;
			struct timeline *timeline;
			struct rig rig;

			rig_open(&rig, 10 + seed, true, phase);
			sim_random(&model, (enum sim_kind)kind, measure_top(&rig.grid), &rig.rng);
			for (int i = 0; i < 9; i++)
				rig_measure(&rig, at[i][0], at[i][1], at[i][2], (uint32_t)at[i][3]);
			assert_int_equal(timeline_fit(&rig.grid, phase, rig.rows, rig.row_count, rig.totals, 9,
						      &timeline),
					 0);
			for (size_t c = 0; c < 5; c++) {
				timeline_surface(timeline, contexts[c], latency, NULL, NULL);
				for (size_t i = seed; i < rig.grid.points; i += 61)
					errors_add(&errors, latency[i],
						   measure_truth_ns(&rig.measure, measure_point(&rig.grid, i),
								    contexts[c]));
			}
			timeline_free(timeline);
			rig_close(&rig);
		}
		printf("# | %s with layers, 9 points, contexts 1 to 5,000: mean error %.2f %%, 95 %% below %.2f %%\n",
		       kind == SIM_DECODE ? "decode" : "prefill", 100 * errors_mean(&errors),
		       100 * errors_quantile(&errors, 0.95));
		assert_true(errors_mean(&errors) < 0.03);
		errors_free(&errors);
	}
}

static void assert_sane(const struct grid *grid, struct timeline *timeline)
{
	timeline_surface(timeline, 0, latency, regime, bubble);
	for (size_t i = 0; i < grid->points; i++) {
		assert_true(isfinite(latency[i]) && latency[i] > 0);
		assert_true(isfinite(bubble[i]) && bubble[i] >= 0);
		assert_in_range(regime[i], REGIME_LAUNCH_BOUND, REGIME_MIXED);
	}
}

static struct layer row_at(struct op_point point, uint32_t layer, uint64_t cpu_ns, uint64_t gpu_ns)
{
	return (struct layer){.point = point, .layer = layer, .cpu_ns = cpu_ns, .gpu_ns = gpu_ns};
}

static void test_odd_layers(void **state)
{
	struct timeline *timeline = (struct timeline *)1;
	struct layer rows[8];
	struct sample total = {.latency_ns = 50000, .n = 1};
	struct grid grid;

	(void)state;
	measure_grid(&grid, true);
	struct op_point point = measure_point(&grid, 700), unknown = {{0, 0, 0}};

	/* nothing, another phase, a hole in the numbering, a number too high */
	assert_int_equal(timeline_fit(&grid, PHASE_RUN, NULL, 0, NULL, 0, &timeline), -EINVAL);
	assert_null(timeline);
	rows[0] = row_at(point, 0, 1000, 2000);
	assert_int_equal(timeline_fit(&grid, PHASE_DECODE, rows, 1, NULL, 0, &timeline), -EINVAL);
	rows[1] = row_at(point, 2, 1000, 2000);
	assert_int_equal(timeline_fit(&grid, PHASE_RUN, rows, 2, NULL, 0, &timeline), -EINVAL);
	rows[1] = row_at(point, LAYERS_MAX, 1000, 2000);
	assert_int_equal(timeline_fit(&grid, PHASE_RUN, rows, 2, NULL, 0, &timeline), -EINVAL);
	rows[1] = row_at(point, UINT32_MAX, 1000, 2000);
	assert_int_equal(timeline_fit(&grid, PHASE_RUN, rows, 2, NULL, 0, &timeline), -EINVAL);
	/* one layer seen once, at a point without clocks */
	rows[0] = row_at(unknown, 0, 1000, 2000);
	assert_int_equal(timeline_fit(&grid, PHASE_RUN, rows, 1, NULL, 0, &timeline), 0);
	assert_sane(&grid, timeline);
	timeline_free(timeline);
	/* nothing but zeros and one absurd time, with a total that fits neither */
	rows[0] = row_at(point, 0, 0, 0);
	rows[1] = row_at(point, 1, 0, 1000000000000);
	rows[2] = row_at(point, 2, 1, 0);
	assert_int_equal(timeline_fit(&grid, PHASE_RUN, rows, 3, &total, 1, &timeline), 0);
	assert_sane(&grid, timeline);
	timeline_free(timeline);
}

/* One repetition in a hundred times slower must not show. */
static void test_wild_rows(void **state)
{
	struct timeline *timeline;
	struct errors errors = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig, 5, true, PHASE_RUN);
	sim_random(&model, SIM_DNN, measure_top(&rig.grid), &rig.rng);
	measure_eight(&rig);
	for (size_t i = 0; i < rig.row_count; i += 97) {
		rig.rows[i].cpu_ns *= 50;
		rig.rows[i].gpu_ns *= 20;
	}
	assert_int_equal(timeline_fit(&rig.grid, PHASE_RUN, rig.rows, rig.row_count, rig.totals, 8, &timeline), 0);
	timeline_surface(timeline, 0, latency, regime, bubble);
	for (size_t i = 0; i < rig.grid.points; i += 13)
		errors_add(&errors, latency[i], measure_truth_ns(&rig.measure, measure_point(&rig.grid, i), 0));
	printf("# | 1 %% wild rows: mean error %.2f %%\n", 100 * errors_mean(&errors));
	assert_true(errors_mean(&errors) < 0.03);
	errors_free(&errors);
	timeline_free(timeline);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_schedule_is_exact),
		cmocka_unit_test(test_schedule_segments),
		cmocka_unit_test(test_regimes_and_bubbles),
		cmocka_unit_test(test_learns_queue_from_totals),
		cmocka_unit_test(test_layers_over_contexts),
		cmocka_unit_test(test_odd_layers),
		cmocka_unit_test(test_wild_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
