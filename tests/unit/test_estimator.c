/* SPDX-License-Identifier: MIT */
/* Grid, samples, and a model under every kind of bad measurement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include "../../common/quantile.h"
#include "../../estimator/bound.h"
#include "../../estimator/model.h"
#include "small.h"

static void grid_sorts_and_thins(void **state)
{
	uint64_t many[200], messy[] = {900 * MHZ, 300 * MHZ, 900 * MHZ, 600 * MHZ}, none = 0;
	const uint64_t *hz[] = {many, messy, &none};
	size_t count[] = {200, 4, 1}, axis[CLOCK_COUNT];
	struct grid grid;
	(void)state;

	for (size_t i = 0; i < 200; i++)
		many[i] = (200 - i) * 10 * MHZ;
	assert_int_equal(grid_init(&grid, hz, count), 0);
	assert_int_equal(grid.count[0], GRID_AXIS_MAX);
	assert_int_equal(grid.hz[0][0], 10 * MHZ);
	assert_int_equal(grid.hz[0][GRID_AXIS_MAX - 1], 2000 * MHZ);
	assert_int_equal(grid.count[1], 3);
	for (size_t i = 0; i < grid.points; i++) {
		grid_axes(&grid, i, axis);
		assert_int_equal(grid_index(&grid, axis), i);
		assert_int_equal(grid_nearest(&grid, grid_point(&grid, i)), i);
	}
	count[1] = 0;
	assert_int_equal(grid_init(&grid, hz, count), -EINVAL);
	count[1] = 200;
	hz[1] = many;
	assert_int_equal(grid_init(&grid, hz, count), 0);
	assert_true(grid.points <= GRID_POINTS_MAX);
	/* 424 and 426 MHz between 300 and 600: the middle, in ratio, is 424.3 */
	grid = small_grid();
	assert_int_equal(grid_point(&grid, grid_nearest(&grid, (struct op_point){{0, 424 * MHZ, 0}})).hz[1], 300 * MHZ);
	assert_int_equal(grid_point(&grid, grid_nearest(&grid, (struct op_point){{0, 425 * MHZ, 0}})).hz[1], 600 * MHZ);
}

static int parse(const char *text, bool points_only, struct sample **rows, size_t *count, char *message)
{
	char copy[1024];

	snprintf(copy, sizeof(copy), "%s", text);
	return samples_parse(copy, points_only, rows, count, message, 256, NULL, NULL);
}

static void samples_are_strict(void **state)
{
	static const char *const bad[][2] = {
		{"cpu_hz,gpu_hz\n1000000,2000000\n", "latency_ns"},
		{"cpu_hz,latency_ns\n1000000,abc\n", "'abc'"},
		{"cpu_hz,latency_ns\n1000000,nan\n", "line 2: latency_ns"},
		{"cpu_hz,latency_ns\n1000000,5\n1000000,-5\n", "line 3: latency_ns"},
		{"cpu_hz,latency_ns\n1000000,1e6\n", "'1e6'"},
		{"cpu_hz,latency_ns\n1000000,0x10\n", "'0x10'"},
		{"cpu_hz,latency_ns\n1000000,0\n", "latency_ns"},
		{"cpu_hz,latency_ns\n1000000,\n", "latency_ns"},
		{"cpu_hz,latency_ns\n1000000,2000000000000\n", "out of range"},
		{"cpu_hz,latency_ns\n12,5\n", "cpu_hz"},
		{"cpu_hz,latency_ns\n1000000\n", "line 2"},
		{"cpu_hz,latency_ns,n\n1000000,5,0\n", "n: 0"},
		{"phase,cpu_hz,latency_ns\nrunning,1000000,5\n", "'running'"},
		{"context,cpu_hz,latency_ns\n99999999999,1000000,5\n", "context"},
		{"latency_ns\n5\n", "cpu_hz"},
		{"", "header"},
	};
	struct sample *rows = NULL;
	size_t count = 0;
	char message[256];
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		message[0] = '\0';
		assert_int_equal(parse(bad[i][0], false, &rows, &count, message), -EINVAL);
		if (!strstr(message, bad[i][1]))
			fail_msg("case %zu says '%s', not '%s'", i, message, bad[i][1]);
	}
	assert_int_equal(parse("gpu_hz,latency_ns,cpu_hz,power_uw\n2000000,13132800.0,,7\n", false, &rows, &count,
			       message),
			 0);
	assert_int_equal(count, 1);
	assert_int_equal(rows[0].latency_ns, 13132800);
	assert_int_equal(rows[0].point.hz[CLOCK_CPU], 0);
	assert_int_equal(rows[0].n, 1);
	assert_int_equal(rows[0].power_uw, 7);
	free(rows);
	assert_int_equal(parse("gpu_hz\n2000000\n", true, &rows, &count, message), 0);
	free(rows);
}

static void samples_survive_a_round_trip(void **state)
{
	struct sample one = {.phase = PHASE_DECODE,
			     .context = 77,
			     .point = {{1000000, 0, 3000000}},
			     .latency_ns = 12345,
			     .n = 7,
			     .sd_ns = 99,
			     .max_ns = 15000,
			     .power_uw = 4200000},
		      *rows;
	size_t count;
	char message[256], *text = samples_format(&one, 1);
	(void)state;

	assert_non_null(text);
	assert_int_equal(samples_parse(text, false, &rows, &count, message, sizeof(message), NULL, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(rows[0].phase, one.phase);
	assert_int_equal(rows[0].context, one.context);
	assert_true(op_point_equal(rows[0].point, one.point));
	assert_int_equal(rows[0].latency_ns, one.latency_ns);
	assert_int_equal(rows[0].n, one.n);
	assert_int_equal(rows[0].sd_ns, one.sd_ns);
	assert_int_equal(rows[0].max_ns, one.max_ns);
	assert_int_equal(rows[0].power_uw, one.power_uw);
	free(rows);
	free(text);
}

static void one_sample_is_the_envelope(void **state)
{
	struct model *model = small_model();
	const struct surface *s;
	struct grid grid = small_grid();
	double top = truth_ns(grid_point(&grid, grid.points - 1));
	(void)state;

	learn(model, grid_point(&grid, grid.points - 1), top);
	s = check_surface(model);
	assert_int_equal(s->state, SURFACE_LEARNING);
	for (size_t i = 0; i < grid.points; i++) {
		struct op_point p = grid_point(&grid, i);
		double worst = 1;

		for (int c = 0; c < CLOCK_COUNT; c++)
			worst = fmax(worst, (double)grid.hz[c][grid.count[c] - 1] / (double)p.hz[c]);
		assert_true(s->bound_ns[i] >= truth_ns(p));
		assert_true(s->bound_ns[i] >= top * worst * 0.999);
		assert_true(s->bound_ns[i] <= top * worst * 1.12);
	}
	model_free(model);
}

static void repeated_and_equal_samples(void **state)
{
	struct model *model = small_model();
	struct grid grid = small_grid();
	(void)state;

	for (int i = 0; i < 40; i++)
		learn(model, grid_point(&grid, 23), 5e6 * (1 + 0.001 * (i % 5)));
	check_surface(model);
	for (size_t i = 0; i < grid.points; i++)
		learn(model, grid_point(&grid, i), 5e6);
	const struct surface *s = check_surface(model);
	for (size_t i = 0; i < grid.points; i++)
		assert_true(fabs(s->latency_ns[i] / 5e6 - 1) < 0.02);
	model_free(model);
}

static void measured_cells_are_honoured(void **state)
{
	struct model *model = small_model();
	struct grid grid = small_grid();
	double odd[] = {1, 1.04, 0.97, 1.02, 0.98, 1.06, 1, 0.95};
	(void)state;

	for (size_t k = 0; k < 8; k++)
		learn(model, grid_point(&grid, k * 3 + 2), odd[k] * truth_ns(grid_point(&grid, k * 3 + 2)));
	const struct surface *s = check_surface(model);
	for (size_t k = 0; k < 8; k++) {
		double ns = odd[k] * truth_ns(grid_point(&grid, k * 3 + 2));
		assert_true(fabs(s->latency_ns[k * 3 + 2] / ns - 1) < 0.01);
		assert_true(s->bound_ns[k * 3 + 2] >= ns);
		assert_int_equal(s->measured[k * 3 + 2], 10);
	}
	model_free(model);
}

/* Slower than anything measured that has no slower clock: never below it by more than irregularity. */
static void never_below_what_was_measured(void **state)
{
	struct model *model = small_model();
	struct grid grid = small_grid();
	(void)state;

	for (size_t k = 0; k < 8; k++)
		learn(model, grid_point(&grid, k * 3 + 2), truth_ns(grid_point(&grid, k * 3 + 2)));
	const struct surface *s = check_surface(model);
	for (size_t i = 0; i < grid.points; i++) {
		struct op_point p = grid_point(&grid, i);
		for (size_t k = 0; k < 8; k++) {
			struct op_point q = grid_point(&grid, k * 3 + 2);
			if (p.hz[0] <= q.hz[0] && p.hz[1] <= q.hz[1] && p.hz[2] <= q.hz[2])
				assert_true(s->latency_ns[i] >= 0.97 * truth_ns(q));
		}
	}
	model_free(model);
}

static void one_wild_sample(void **state)
{
	static const double wild[] = {0.3, 3, 10};
	struct grid grid = small_grid();
	(void)state;

	for (size_t w = 0; w < 3; w++) {
		struct model *model = small_model();
		double sum = 0;

		for (size_t k = 0; k < 8; k++) {
			struct op_point p = grid_point(&grid, k * 3 + 2);
			learn(model, p, truth_ns(p) * (k == 4 ? wild[w] : 1));
		}
		const struct surface *s = check_surface(model);
		for (size_t i = 0; i < grid.points; i++)
			if (i != 14)
				sum += fabs(s->latency_ns[i] / truth_ns(grid_point(&grid, i)) - 1) /
				       (double)(grid.points - 1);
		printf("# | one of eight samples x %-4g mean error elsewhere %.1f %%\n", wild[w], 100 * sum);
		assert_true(sum < 0.12);
		model_free(model);
	}
}

static void noise_larger_than_signal(void **state)
{
	struct model *model = small_model();
	struct grid grid = small_grid();
	unsigned seed = 1;
	(void)state;

	for (size_t k = 0; k < 60; k++) {
		seed = seed * 1103515245u + 12345u;
		learn(model, grid_point(&grid, (seed >> 8) % grid.points), 1e6 * (1 + (seed >> 16) % 50));
		check_surface(model);
	}
	model_free(model);
}

/* One clock unknown, one constant, one measured at one point only. */
static void missing_axes(void **state)
{
	const uint64_t none[] = {0}, fixed[] = {1728 * MHZ};
	const uint64_t *hz[] = {fixed, gpu_hz, none};
	const size_t count[] = {1, 3, 1};
	struct model_options options;
	struct grid grid;
	struct model *model;
	(void)state;

	model_options_default(&options);
	assert_int_equal(grid_init(&grid, hz, count), 0);
	model = model_new(&grid, &options);
	for (size_t i = 0; i < 2; i++)
		learn(model, grid_point(&grid, i * 2), 3e6 * 900 * MHZ / (double)gpu_hz[i * 2]);
	const struct surface *s = check_surface(model);
	assert_true(s->latency_ns[1] > s->latency_ns[2] && s->latency_ns[1] < s->latency_ns[0]);
	model_free(model);
	model = small_model();
	for (size_t i = 0; i < 3; i++)
		learn(model, (struct op_point){{1600 * MHZ, gpu_hz[i], 1600 * MHZ}},
		      truth_ns((struct op_point){{1600 * MHZ, gpu_hz[i], 1600 * MHZ}}));
	check_surface(model);
	model_free(model);
}

static void off_the_grid(void **state)
{
	struct model *model = small_model();
	struct op_point odd = {{1000 * MHZ, 700 * MHZ, 1600 * MHZ}};
	struct prediction p;
	(void)state;

	assert_int_equal(model_predict(model, PHASE_RUN, 0, odd, &p), -ENODATA);
	learn(model, odd, truth_ns(odd));
	learn(model, (struct op_point){{1600 * MHZ, 900 * MHZ, 1600 * MHZ}},
	      truth_ns((struct op_point){{1600 * MHZ, 900 * MHZ, 1600 * MHZ}}));
	check_surface(model);
	assert_int_equal(model_predict(model, PHASE_RUN, 0, odd, &p), 0);
	assert_true(fabs(p.latency_ns / truth_ns(odd) - 1) < 0.01);
	assert_true(p.bound_ns >= p.latency_ns);
	model_free(model);
}

static void wrong_calls(void **state)
{
	struct model *model = small_model();
	struct sample nothing = {.point = {{400 * MHZ, 300 * MHZ, 800 * MHZ}}};
	struct op_point point;
	uint32_t context;
	double gain;
	(void)state;

	assert_int_equal(model_learn_sample(model, &nothing), -EINVAL);
	assert_int_equal(model_observe(model, PHASE_RUN, 0, nothing.point, 0, 0, 0, 1), -EINVAL);
	assert_int_equal(model_surface(model, PHASE_RUN, 0)->state, SURFACE_NONE);
	assert_int_equal(model_state(model, PHASE_RUN), SURFACE_NONE);
	/* With nothing known the first point is the fastest; none allowed, none chosen. */
	assert_int_equal(model_plan(model, PHASE_RUN, NULL, &point, &context, &gain), 1);
	assert_int_equal(point.hz[CLOCK_CPU], 1600 * MHZ);
	assert_int_equal(point.hz[CLOCK_MEM], 1600 * MHZ);
	assert_int_equal(model_plan(model, PHASE_RUN, (const uint8_t[24]){0}, &point, &context, &gain), 0);
	model_free(model);
}

static void planning_stops_by_itself(void **state)
{
	struct model *model = small_model();
	struct op_point point;
	uint32_t context;
	double gain;
	size_t used = 0;
	(void)state;

	while (used < 30 && model_plan(model, PHASE_RUN, NULL, &point, &context, &gain)) {
		learn(model, point, truth_ns(point));
		used++;
	}
	printf("# | profiling a smooth 4 x 3 x 2 board stopped by itself after %zu points\n", used);
	assert_in_range(used, 3, 12);
	assert_int_equal(model_surface(model, PHASE_RUN, 0)->state, SURFACE_READY);
	model_free(model);
}

static void stored_and_loaded(void **state)
{
	struct model *model = small_model(), *again = small_model();
	struct grid grid = small_grid();
	struct sample *samples;
	long count;
	(void)state;

	for (size_t k = 0; k < 8; k++)
		learn(model, grid_point(&grid, k * 3 + 2), truth_ns(grid_point(&grid, k * 3 + 2)));
	model_surface(model, PHASE_RUN, 0);
	for (int i = 0; i < 50; i++)
		model_observe(model, PHASE_RUN, 0, grid_point(&grid, 9), (uint64_t)truth_ns(grid_point(&grid, 9)), 0, 0,
			      1);
	count = model_samples(model, &samples);
	assert_int_equal(count, 9);
	for (long i = 0; i < count; i++)
		assert_int_equal(model_learn_sample(again, &samples[i]), 0);
	free(samples);
	model_learn_sample(model, &(struct sample){.point = grid_point(&grid, 2),
						   .latency_ns = (uint64_t)truth_ns(grid_point(&grid, 2)),
						   .n = 1});
	const struct surface *a = check_surface(model), *b = check_surface(again);
	for (size_t i = 0; i < grid.points; i++)
		assert_true(fabs(a->latency_ns[i] / b->latency_ns[i] - 1) < 0.02);
	model_free(model);
	model_free(again);
}

static double random_share(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (double)(*seed >> 11) * 0x1p-53;
}

static struct sample random_sample(const struct grid *grid, uint64_t *seed)
{
	struct sample s = {.phase = (enum phase)(random_share(seed) * PHASE_COUNT),
			   .n = 1 + (uint32_t)(random_share(seed) * 100)};

	s.context = s.phase == PHASE_RUN ? 0 : (uint32_t)exp(random_share(seed) * 16);
	s.point = grid_point(grid, (size_t)(random_share(seed) * (double)grid->points));
	if (random_share(seed) < 0.2)
		s.point.hz[1] = (uint64_t)exp(random_share(seed) * 25);
	s.latency_ns = 1 + (uint64_t)exp(random_share(seed) * 27);
	s.sd_ns = random_share(seed) < 0.5 ? (uint64_t)(random_share(seed) * (double)s.latency_ns) : 0;
	s.power_uw = random_share(seed) < 0.5 ? 1 + (uint64_t)exp(random_share(seed) * 27) : 0;
	return s;
}

/* Anything the parser lets through, in any order, at any context. */
static void anything_at_all(void **state)
{
	uint64_t seed = 3;
	(void)state;

	for (int round = 0; round < 40; round++) {
		struct model *model = small_model();
		struct grid grid = small_grid();

		for (int i = 0; i < 20; i++) {
			struct sample s = random_sample(&grid, &seed);

			if (i % 2)
				assert_int_equal(model_learn_sample(model, &s), 0);
			else
				assert_int_equal(model_observe(model, s.phase, s.context, s.point, s.latency_ns,
							       i % 10 == 0 ? 0.01 : 0, s.power_uw, 1),
						 0);
			const struct surface *f = model_surface(model, s.phase, s.context);
			for (size_t k = 0; k < grid.points && f->state != SURFACE_NONE; k++) {
				assert_true(isfinite(f->bound_ns[k]) && f->latency_ns[k] > 0 &&
					    f->bound_ns[k] >= f->latency_ns[k]);
				assert_true(isfinite(f->power_uw[k]) && f->power_uw[k] > 0 && f->idle_power_uw[k] > 0);
			}
		}
		model_free(model);
	}
}

/* A point measured at one context is evidence for it at the next, with more variance. */
static void cells_speak_for_near_contexts(void **state)
{
	struct model *model = small_model();
	struct grid grid = small_grid();
	size_t odd = 13;
	(void)state;

	for (uint32_t i = 0; i < 10; i++) {
		struct op_point p = grid_point(&grid, (i * 5) % grid.points);
		struct sample s = {.phase = PHASE_DECODE,
				   .context = 1 + (i % 3) * 400,
				   .point = p,
				   .n = 10,
				   .latency_ns = (uint64_t)truth_ns(p)};
		assert_int_equal(model_learn_sample(model, &s), 0);
	}
	/* A point off its surroundings, as real boards have them. */
	uint64_t off_ns = (uint64_t)(1.3 * truth_ns(grid_point(&grid, odd)));
	struct sample s = {.phase = PHASE_DECODE,
			   .context = 400,
			   .point = grid_point(&grid, odd),
			   .n = 20,
			   .latency_ns = off_ns,
			   .sd_ns = off_ns / 500};
	assert_int_equal(model_learn_sample(model, &s), 0);
	float width[3];
	const uint32_t context[3] = {400, 480, 640};
	for (int i = 0; i < 3; i++) {
		const struct surface *f = model_surface(model, PHASE_DECODE, context[i]);
		assert_float_equal(f->latency_ns[odd] / (float)off_ns, 1, 0.02F + 0.03F * (float)i);
		width[i] = f->bound_ns[odd] / f->latency_ns[odd];
	}
	assert_true(width[0] < width[1] && width[1] < width[2]);
	model_free(model);
}

static void quantiles(void **state)
{
	(void)state;
	assert_float_equal(quantile_normal(0.5), 0, 1e-6);
	assert_float_equal(quantile_normal(0.98), 2.053749, 1e-5);
	assert_float_equal(quantile_normal(0.975), 1.959964, 1e-5);
	assert_float_equal(quantile_normal(0.9999), 3.719016, 1e-5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grid_sorts_and_thins),
		cmocka_unit_test(samples_are_strict),
		cmocka_unit_test(samples_survive_a_round_trip),
		cmocka_unit_test(one_sample_is_the_envelope),
		cmocka_unit_test(repeated_and_equal_samples),
		cmocka_unit_test(measured_cells_are_honoured),
		cmocka_unit_test(never_below_what_was_measured),
		cmocka_unit_test(one_wild_sample),
		cmocka_unit_test(noise_larger_than_signal),
		cmocka_unit_test(missing_axes),
		cmocka_unit_test(off_the_grid),
		cmocka_unit_test(wrong_calls),
		cmocka_unit_test(planning_stops_by_itself),
		cmocka_unit_test(stored_and_loaded),
		cmocka_unit_test(anything_at_all),
		cmocka_unit_test(cells_speak_for_near_contexts),
		cmocka_unit_test(quantiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
