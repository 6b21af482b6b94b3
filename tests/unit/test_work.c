/* SPDX-License-Identifier: MIT */
/* Work that requests do not wait for: made in pieces later, or by another process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "apart.h"
#include "small.h"

/* Requests never wait for a fit of many rows: it is made in pieces, with the same result. */
static void work_in_pieces(void **state)
{
	struct grid grid = small_grid();
	struct model *model = small_model(), *whole = small_model();
	size_t pieces = 0;
	float before[24];
	(void)state;

	for (size_t i = 0; i < grid.points; i += 1 + i % 3 / 2) {
		learn(model, grid_point(&grid, i), truth_ns(grid_point(&grid, i)));
		learn(whole, grid_point(&grid, i), truth_ns(grid_point(&grid, i)));
	}
	memcpy(before, model_surface(model, PHASE_RUN, 0)->latency_ns, sizeof(before));
	model_surface(whole, PHASE_RUN, 0);
	/* Requests run where nothing was measured, and take longer than thought there. */
	for (size_t i = 0; i < 200; i++) {
		struct op_point p = grid_point(&grid, 3 + i % 3 * 3);
		model_observe(model, PHASE_RUN, 0, p, (uint64_t)(1.3 * truth_ns(p)), 0, 0, 1);
		model_observe(whole, PHASE_RUN, 0, p, (uint64_t)(1.3 * truth_ns(p)), 0, 0, 1);
	}
	const struct surface *s = model_surface_at_hand(model, PHASE_RUN, 0);
	assert_true(fabsf(s->latency_ns[23] / before[23] - 1) < 0.1F); /* far from there: the old fit's */
	assert_true(model_work_due(model, PHASE_RUN, 0));
	while (model_work(model, PHASE_RUN, 0))
		assert_in_range(++pieces, 1, 4);
	assert_in_range(pieces, 2, 4); /* a fit, and a pass over the grid */
	assert_false(model_work_due(model, PHASE_RUN, 0));
	s = model_surface_at_hand(model, PHASE_RUN, 0);
	for (size_t i = 0; i < grid.points; i++)
		assert_float_equal(s->latency_ns[i] / model_surface(whole, PHASE_RUN, 0)->latency_ns[i], 1, 1e-4F);
	model_free(model);
	model_free(whole);
}

/* A fit of few rows is quick, but whoever asks for what is at hand does not wait for it either. */
static void few_rows_hold_nobody_up(void **state)
{
	struct grid grid = small_grid();
	struct model *model = small_model();
	float before[24];
	(void)state;

	assert_true(model_surface_is_at_hand(model, PHASE_RUN, 0) && !model_refits_quickly(model, PHASE_RUN));
	learn(model, grid_point(&grid, 0), truth_ns(grid_point(&grid, 0)));
	assert_false(model_surface_is_at_hand(model, PHASE_RUN, 0)); /* not without the first fit */
	assert_true(model_work_due(model, PHASE_RUN, 0));
	while (model_work(model, PHASE_RUN, 0))
		;
	assert_true(model_surface_is_at_hand(model, PHASE_RUN, 0));
	memcpy(before, model_surface_at_hand(model, PHASE_RUN, 0)->latency_ns, sizeof(before));
	for (size_t i = 1; i < 6; i++)
		learn(model, grid_point(&grid, i * 4), truth_ns(grid_point(&grid, i * 4)));
	assert_true(model_refits_quickly(model, PHASE_RUN) && model_surface_is_at_hand(model, PHASE_RUN, 0));
	assert_memory_equal(model_surface_at_hand(model, PHASE_RUN, 0)->latency_ns, before, sizeof(before));
	assert_true(model_work_due(model, PHASE_RUN, 0));
	while (model_work(model, PHASE_RUN, 0))
		;
	const struct surface *s = model_surface_at_hand(model, PHASE_RUN, 0);
	assert_memory_not_equal(s->latency_ns, before, sizeof(before));
	assert_ptr_equal(s, model_surface(model, PHASE_RUN, 0));
	model_free(model);
}

/* For a decode whose context grows, every surface is computed beforehand. */
static void growing_context_is_made_ready(void **state)
{
	struct model *model = small_model();
	struct grid grid = small_grid();
	(void)state;

	for (uint32_t i = 0; i < 20; i++) {
		struct op_point p = grid_point(&grid, (i * 7) % grid.points);
		struct sample s = {.phase = PHASE_DECODE,
				   .context = 1 + i * 100,
				   .point = p,
				   .n = 10,
				   .latency_ns = (uint64_t)(truth_ns(p) * (1 + i * 0.02))};
		assert_int_equal(model_learn_sample(model, &s), 0);
	}
	model_surface(model, PHASE_DECODE, 100);
	for (uint32_t context = 100; context < 1500; context += 20) {
		while (model_work(model, PHASE_DECODE, context + 20))
			;
		const struct surface *s = model_surface_at_hand(model, PHASE_DECODE, context + 20);
		assert_true(s->state != SURFACE_NONE && s->context >= context + 20 && s->context <= context + 20 + 32);
		const struct surface *again = model_surface(model, PHASE_DECODE, context + 20);
		assert_ptr_equal(s, again);
	}
	model_free(model);
}

/* A fit that another process began before an import does not rest on it: the next surface comes from a new one. */
static void import_during_a_fit(void **state)
{
	struct model *model = small_model(), *others = small_model();
	struct grid grid = small_grid();
	void *page = shared_page(model);
	double sd;
	(void)state;

	for (size_t i = 0; i < grid.points; i++) {
		struct op_point p = grid_point(&grid, i);
		learn(others, p, 1.05 * truth_ns(p));
		if (i % 6 == 0)
			learn(model, p, truth_ns(p));
	}
	fit_in_fork(model, PHASE_RUN, 0, page);
	model_inherit(model, others);
	model_adopt(model, PHASE_RUN, 0, page);
	assert_false(model_inherited(model, PHASE_RUN, &sd));
	check_surface(model);
	assert_true(model_inherited(model, PHASE_RUN, &sd));
	munmap(page, model_apart_bytes(model));
	model_free(model);
}

/* Whatever contexts were asked for before, one helper process makes all that a context needs: a model keeps few
 * surfaces. */
static void any_context_by_one_helper(void **state)
{
	static const uint32_t asked[] = {500, 2000, 8000, 500, 60, 700, 500, 30000, 2000, 500};
	struct model *model = small_model();
	struct grid grid = small_grid();
	void *page = shared_page(model);
	(void)state;

	for (size_t i = 0; i < grid.points; i++) {
		struct op_point p = grid_point(&grid, i);
		struct sample s = {.phase = PHASE_DECODE, .context = 100U << i % 5, .point = p, .n = 10};
		s.latency_ns = (uint64_t)(truth_ns(p) * (1 + s.context / 1e4));
		assert_int_equal(model_learn_sample(model, &s), 0);
	}
	for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++) {
		int made = 0;
		for (; model_work_due(model, PHASE_DECODE, asked[i]); made++) {
			assert_true(made < 1);
			fit_in_fork(model, PHASE_DECODE, asked[i], page);
			model_adopt(model, PHASE_DECODE, asked[i], page);
		}
		assert_true(made || i);
	}
	munmap(page, model_apart_bytes(model));
	model_free(model);
}

static int observe(struct model *model, struct op_point p, double slowdown)
{
	return model_observe(model, PHASE_RUN, 0, p, (uint64_t)(slowdown * truth_ns(p)), 0, 0, 0);
}

/* What is observed while another process fits is part of the surface that it hands over, and a fit that was made here
 * meanwhile stays. */
static void observed_during_a_fit(void **state)
{
	struct grid grid = small_grid();
	(void)state;

	for (int fits = 0; fits < 2; fits++) {
		struct model *model = small_model();
		void *page = shared_page(model);
		struct op_point again = grid_point(&grid, 6), first = grid_point(&grid, 8);

		for (size_t i = 0; i < grid.points; i += 6)
			learn(model, grid_point(&grid, i), truth_ns(grid_point(&grid, i)));
		model_surface(model, PHASE_RUN, 0);
		learn(model, grid_point(&grid, 3), truth_ns(grid_point(&grid, 3)));
		fit_in_fork(model, PHASE_RUN, 0, page);
		for (int i = 0; i < 5; i++)
			assert_int_equal(observe(model, again, 1.1), 0);
		assert_int_equal(observe(model, first, 1.1), 0);
		const struct surface *s =
			fits ? model_surface(model, PHASE_RUN, 0) : model_surface_kept(model, PHASE_RUN, 0);
		float again_ns = s->latency_ns[6], first_ns = s->latency_ns[8];
		model_adopt(model, PHASE_RUN, 0, page);
		s = model_surface_kept(model, PHASE_RUN, 0);
		assert_int_equal(s->measured[8], 1);
		assert_float_equal(s->latency_ns[6] / again_ns, 1, 1e-4);
		assert_float_equal(s->latency_ns[8] / first_ns, 1, 1e-4);
		munmap(page, model_apart_bytes(model));
		model_free(model);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(work_in_pieces),
		cmocka_unit_test(few_rows_hold_nobody_up),
		cmocka_unit_test(growing_context_is_made_ready),
		cmocka_unit_test(import_during_a_fit),
		cmocka_unit_test(observed_during_a_fit),
		cmocka_unit_test(any_context_by_one_helper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
