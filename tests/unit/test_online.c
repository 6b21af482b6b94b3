/* SPDX-License-Identifier: MIT */
/* Online correction: requests against predictions, with the scatter of measured traces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <math.h>
#include "../../estimator/model.h"
#include "../sim/sim.h"

#define MHZ 1000000ULL

static struct sim_noise noise;
static struct sim_rng rng = {7};

static double truth_ns(struct op_point p)
{
	return 3e5 + fmax(2e6 * 2000 * MHZ / (double)p.hz[0], 2.5e6 * 1000 * MHZ / (double)p.hz[1]);
}

/* 8 x 8 points, four of them measured. */
static struct model *learned(void)
{
	uint64_t cpu[8], gpu[8], none = 0;
	const uint64_t *hz[] = {cpu, gpu, &none};
	const size_t count[] = {8, 8, 1};
	struct model_options options;
	struct grid grid;
	struct model *model;

	for (size_t i = 0; i < 8; i++) {
		cpu[i] = (600 + i * 200) * MHZ;
		gpu[i] = (300 + i * 100) * MHZ;
	}
	model_options_default(&options);
	assert_int_equal(grid_init(&grid, hz, count), 0);
	model = model_new(&grid, &options);
	for (size_t i = 0; i < 4; i++) {
		struct op_point p = {{cpu[i % 2 * 7], gpu[i / 2 * 7], 0}};
		struct sample s = {.point = p,
				   .latency_ns = (uint64_t)truth_ns(p),
				   .n = 30,
				   .sd_ns = (uint64_t)(0.004 * truth_ns(p))};
		assert_int_equal(model_learn_sample(model, &s), 0);
	}
	return model;
}

static uint64_t request(struct model *model, size_t point, double factor, bool corrected)
{
	struct op_point p = grid_point(model_surface(model, PHASE_RUN, 0)->grid, point);
	uint64_t ns = (uint64_t)(truth_ns(p) * factor * sim_noise_next(&noise));

	assert_int_equal(model_observe(model, PHASE_RUN, 0, p, ns, corrected ? 0.01 : 0, 0, 1), 0);
	return ns;
}

/* A cell that requests run at: its bound holds, and is tight. */
static void cell_bound(void **state)
{
	struct model *model = learned();
	size_t over = 0, count = 5000;
	double width = 0;
	(void)state;

	for (int i = 0; i < 30; i++)
		request(model, 27, 1.04, false);
	for (size_t i = 0; i < count; i++) {
		const struct surface *s = model_surface(model, PHASE_RUN, 0);
		double bound = s->bound_ns[27] * s->slowdown_bound;

		width += bound / (1.04 * truth_ns(grid_point(s->grid, 27))) / (double)count;
		over += (double)request(model, 27, 1.04, false) > bound;
	}
	printf("# | a cell after 30 requests: %.2f %% of the next 5,000 above its bound, which is %.3f x the median\n",
	       100.0 * (double)over / (double)count, width);
	assert_true(over <= count / 50); /* the configured quantile */
	assert_true(width <= 1.05);
	assert_int_equal(model_surface(model, PHASE_RUN, 0)->source[27], BOUND_CELL);
	model_free(model);
}

/* A slow-down that begins and ends. Counts the requests until it is detected. */
static void contention(void **state)
{
	struct model *model = learned();
	size_t came = 0, went = 0;
	double before;
	(void)state;

	for (int i = 0; i < 200; i++)
		request(model, 27, 1, false);
	before = model_surface(model, PHASE_RUN, 0)->slowdown;
	assert_true(fabs(before - 1) < 0.015);
	while (model_surface(model, PHASE_RUN, 0)->slowdown < 1.13 && came < 100)
		came += request(model, 27, 1.15, false) > 0;
	for (int i = 0; i < 60; i++)
		request(model, 27, 1.15, false);
	assert_true(model_surface(model, PHASE_RUN, 0)->slowdown_bound > 1.08);
	while (model_surface(model, PHASE_RUN, 0)->slowdown > 1.02 && went < 100)
		went += request(model, 27, 1, false) > 0;
	printf("# | a slow-down of 15 %% is followed after %zu requests, forgotten after %zu\n", came, went);
	assert_true(came <= 10);
	assert_true(went <= 30);
	model_free(model);
}

/* A slow-down that lasted until it was moved into the cells ends: the cells have to be corrected. */
static void contention_for_long(void **state)
{
	struct model *model = learned();
	const struct surface *s;
	size_t took = 0;
	double truth;
	(void)state;

	for (int i = 0; i < 1500; i++)
		request(model, 27, 1.25, false);
	s = model_surface(model, PHASE_RUN, 0);
	truth = truth_ns(grid_point(s->grid, 27));
	while (s->bound_ns[27] * s->slowdown_bound > 1.05 * truth && took < 1000) {
		request(model, 27, 1, false);
		s = model_surface(model, PHASE_RUN, 0);
		took++;
	}
	printf("# | after 1,500 requests at a slow-down of 25 %% %zu without it are enough to believe that it is "
	       "over\n",
	       took);
	assert_true(took <= 30);
	model_free(model);
}

/* The same while every request runs at another point: the slow-down of the board is not stored in the
 * cells, neither when it begins nor when it ends. */
static void contention_elsewhere(void **state)
{
	static const size_t places[] = {45, 20, 38, 51, 13, 30, 59, 22, 44, 35};
	size_t points = sizeof(places) / sizeof(*places);
	struct model *model = learned();
	const struct surface *s;
	double worst = 0;
	(void)state;

	for (int i = 0; i < 200; i++)
		request(model, 27, 1, false);
	request(model, 27, 1.25, false);
	for (size_t i = 0; i < points / 2; i++)
		request(model, places[i], 1.25, false);
	assert_true(model_surface(model, PHASE_RUN, 0)->slowdown > 1.15);
	for (size_t i = points / 2; i < points; i++)
		request(model, places[i], 1, false);
	s = model_surface(model, PHASE_RUN, 0);
	printf("# | a slow-down of 25 %% that comes and goes while every request runs elsewhere: %.2f x is left of "
	       "it\n",
	       s->slowdown);
	assert_true(s->slowdown < 1.06);
	for (size_t i = 0; i < points; i++)
		worst = fmax(worst,
			     fabs(s->latency_ns[places[i]] * s->slowdown / truth_ns(grid_point(s->grid, places[i])) -
				  1));
	assert_true(worst < 0.1);
	model_free(model);
}

/* Contention slows a few requests, and the clocks go to a point with few measurements because of it. When requests are
 * fast again, the slow-down is over, and the point keeps what was measured there before. */
static void burst_ends_elsewhere(void **state)
{
	double left = 0;
	(void)state;

	for (size_t place = 28; place < 48; place++) {
		struct model *model = learned();
		for (int i = 0; i < 200; i++)
			request(model, 27, 1, false);
		request(model, place, 1, false);
		request(model, 27, 1.045, false);
		request(model, 27, 1.04, false);
		request(model, place, 1.03, false);
		for (int i = 0; i < 50; i++)
			request(model, place, 1, false);
		const struct surface *s = model_surface(model, PHASE_RUN, 0);
		left += log(s->slowdown) / 20;
		model_free(model);
	}
	printf("# | a slow-down of 4 %% that ends at another place: %.2f %% is left of it\n", 100 * left);
	assert_true(fabs(left) < 0.005);
}

/* A latency that was corrected for concurrent requests changes a known cell little, and is no slow-down of the
 * board. */
static void corrected_requests(void **state)
{
	struct model *model = learned();
	float before;
	(void)state;

	for (int i = 0; i < 50; i++)
		request(model, 27, 1, false);
	before = model_surface(model, PHASE_RUN, 0)->latency_ns[27];
	for (int i = 0; i < 50; i++)
		request(model, 27, 1.3, true);
	const struct surface *s = model_surface(model, PHASE_RUN, 0);
	assert_true(fabs(s->latency_ns[27] / before - 1) < 0.01);
	assert_int_equal(s->measured[27], 100);
	assert_true(s->slowdown < 1.02);
	model_free(model);
}

/* One request in a hundred that takes thrice as long moves nothing. */
static void lone_tails(void **state)
{
	struct model *model = learned();
	(void)state;

	for (int i = 0; i < 400; i++)
		request(model, 27, i % 100 == 99 ? 3 : 1, false);
	const struct surface *s = model_surface(model, PHASE_RUN, 0);
	assert_true(fabs(s->latency_ns[27] / truth_ns(grid_point(s->grid, 27)) - 1) < 0.02);
	assert_true(fabs(s->slowdown - 1) < 0.02);
	model_free(model);
}

/* A measured cell carries its neighbours, less so the farther. */
static void neighbours(void **state)
{
	struct model *model = learned();
	const struct surface *s = model_surface(model, PHASE_RUN, 0);
	const size_t cells[] = {27, 28, 29}; /* along the GPU's axis */
	double before[3], moved[3];
	(void)state;

	for (size_t i = 0; i < 3; i++)
		before[i] = s->latency_ns[cells[i]];
	for (int i = 0; i < 3; i++)
		model_observe(model, PHASE_RUN, 0, grid_point(s->grid, 27), (uint64_t)(before[0] * 1.08), 0, 0, 1);
	for (size_t i = 0; i < 3; i++)
		moved[i] = s->latency_ns[cells[i]] / before[i] - 1;
	printf("# | a cell 8 %% off moves itself by %.1f %%, the next two by %.1f %% and %.1f %%\n", 100 * moved[0],
	       100 * moved[1], 100 * moved[2]);
	assert_true(moved[0] > 0.05 && moved[1] < moved[0] && moved[1] > moved[2] && moved[2] > 0.001);
	model_free(model);
}

static double truth_uw(struct op_point p)
{
	return 3e6 + 2e6 * (double)p.hz[0] / (2000 * MHZ) + 4e6 * pow((double)p.hz[1] / (1000 * MHZ), 2);
}

/* A sensor of instantaneous power, 40 % above or below the mean: one reading of twice the power does not outweigh the
 * measurements around it, many such readings do. */
static void lone_reading(void **state)
{
	struct model *model = learned();
	struct op_point p;
	double off[2];
	(void)state;

	for (size_t i = 0; i < 64; i += 9) {
		p = grid_point(model_surface(model, PHASE_RUN, 0)->grid, i);
		struct sample s = {.point = p,
				   .latency_ns = (uint64_t)truth_ns(p),
				   .n = 30,
				   .sd_ns = (uint64_t)(0.004 * truth_ns(p)),
				   .power_uw = (uint64_t)truth_uw(p)};
		assert_int_equal(model_learn_sample(model, &s), 0);
	}
	for (int k = 0; k < 2; k++) {
		for (int i = 0; i < (k ? 200 : 1); i++) {
			p = grid_point(model_surface(model, PHASE_RUN, 0)->grid, 29);
			assert_int_equal(model_observe(model, PHASE_RUN, 0, p, (uint64_t)truth_ns(p), 0,
						       (uint64_t)(2 * truth_uw(p)), 1),
					 0);
		}
		for (int i = 0; i < 80; i++) {
			struct op_point other = grid_point(model_surface(model, PHASE_RUN, 0)->grid, 43);
			assert_int_equal(model_observe(model, PHASE_RUN, 0, other, (uint64_t)truth_ns(other), 0,
						       (uint64_t)(truth_uw(other) * (i % 2 ? 0.6 : 1.4)), 1),
					 0);
		}
		off[k] = model_surface(model, PHASE_RUN, 0)->power_uw[29] / truth_uw(p) - 1;
	}
	printf("# | power read at twice the truth: once moves it by %.0f %%, 200 times by %.0f %%\n", 100 * off[0],
	       100 * off[1]);
	assert_true(off[0] < 0.3 && off[1] > 0.5);
	model_free(model);
}

/* Points without a measurement near. */
static double far_share(const struct surface *s)
{
	size_t far = 0;

	for (size_t i = 0; i < s->grid->points; i++)
		far += s->measured[i] == 0 && s->source[i] == BOUND_ENVELOPE;
	return (double)far / (double)s->grid->points;
}

/* Never profiled: requests alone make it ready. */
static void ready_from_requests(void **state)
{
	struct model *whole = learned(), *model;
	const struct grid *grid = model_surface(whole, PHASE_RUN, 0)->grid;
	struct model_options options;
	size_t used = 0;
	(void)state;

	model_options_default(&options);
	model = model_new(grid, &options);
	while (model_surface(model, PHASE_RUN, 0)->state != SURFACE_READY && used < 400) {
		request(model, used < 5 ? 63 : 63 - used % 4 * 9, 1, false);
		used++;
	}
	printf("# | ready for decisions from requests of its own after %zu\n", used);
	assert_true(used <= 100);
	/* They ran at four points of one corner: the surface as a whole is not reported as ready. */
	assert_true(far_share(model_surface(model, PHASE_RUN, 0)) > 0.5);
	assert_int_equal(model_state(model, PHASE_RUN), SURFACE_EXTRAPOLATED);
	assert_int_equal(model_best_state(model), SURFACE_EXTRAPOLATED);
	for (size_t i = 0; i < 64; i++)
		request(model, i * 27 % 64, 1, false);
	while (model_work(model, PHASE_RUN, 0))
		;
	assert_true(far_share(model_surface(model, PHASE_RUN, 0)) <= 0.5);
	assert_int_equal(model_state(model, PHASE_RUN), SURFACE_READY);
	assert_int_equal(model_best_state(model), SURFACE_READY);
	model_free(model);
	model_free(whole);
}

/* Ten points about one, all 6 % slower than the fit, or slower and faster in turn. None is carried away from its own
 * measurement by those that come later, nor the one between them by their sum. */
static void many_neighbours(void **state)
{
	const size_t around[] = {25, 26, 28, 29, 18, 19, 20, 34, 35, 36}, between = 27;
	(void)state;

	for (int in_turn = 0; in_turn < 2; in_turn++) {
		struct model *model = learned();
		const struct surface *s = model_surface(model, PHASE_RUN, 0);
		double before = s->latency_ns[between], own[10], worst = 0;

		for (size_t i = 0; i < 10; i++)
			own[i] = (in_turn && i % 2 ? 0.94 : 1.06) * (double)s->latency_ns[around[i]];
		for (size_t i = 0; i < 10; i++)
			model_observe(model, PHASE_RUN, 0, grid_point(s->grid, around[i]), (uint64_t)own[i], 0, 0, 1);
		for (size_t i = 0; i < 10; i++)
			worst = fmax(worst, fabs((double)s->latency_ns[around[i]] * s->slowdown / own[i] - 1));
		printf("# | ten cells 6 %% off: the one between them moves by %.1f %%, the worst is %.1f %% off\n",
		       100 * ((double)s->latency_ns[between] / before - 1), 100 * worst);
		assert_true(fabs((double)s->latency_ns[between] / before - 1) < 0.08);
		assert_true(worst < 0.02);
		model_free(model);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cell_bound),           cmocka_unit_test(contention),
		cmocka_unit_test(contention_elsewhere), cmocka_unit_test(burst_ends_elsewhere),
		cmocka_unit_test(contention_for_long),  cmocka_unit_test(corrected_requests),
		cmocka_unit_test(lone_reading),         cmocka_unit_test(lone_tails),
		cmocka_unit_test(neighbours),           cmocka_unit_test(ready_from_requests),
		cmocka_unit_test(many_neighbours),
	};
	int failed;

	sim_noise_open(&noise, &rng);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	sim_noise_close(&noise);
	return failed;
}
