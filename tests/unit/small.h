/* SPDX-License-Identifier: MIT */
/* Shared by the tests of the estimator: a small grid, a model on it, and what its samples follow from. */
#ifndef TESTS_UNIT_SMALL_H
#define TESTS_UNIT_SMALL_H

#include <math.h>
#include "../../estimator/model.h"

#define MHZ 1000000ULL

static const uint64_t cpu_hz[] = {400 * MHZ, 800 * MHZ, 1200 * MHZ, 1600 * MHZ};
static const uint64_t gpu_hz[] = {300 * MHZ, 600 * MHZ, 900 * MHZ};
static const uint64_t mem_hz[] = {800 * MHZ, 1600 * MHZ};

static inline struct grid small_grid(void)
{
	const uint64_t *hz[] = {cpu_hz, gpu_hz, mem_hz};
	const size_t count[] = {4, 3, 2};
	struct grid grid;

	assert_int_equal(grid_init(&grid, hz, count), 0);
	return grid;
}

static inline struct model *small_model(void)
{
	struct grid grid = small_grid();
	struct model_options options;
	struct model *model;

	model_options_default(&options);
	model = model_new(&grid, &options);
	assert_non_null(model);
	return model;
}

/* A model of launches and executions, 2 ms to some 20 ms. */
static inline double truth_ns(struct op_point p)
{
	double host = 1.5e6 * 1600 * MHZ / (double)p.hz[0], core = 1.2e6 * 900 * MHZ / (double)p.hz[1];
	double memory = 0.9e6 * 1600 * MHZ / (double)p.hz[2];

	return 2e5 + fmax(host, core + 0.5 * memory) + 0.1 * fmin(host, core);
}

static inline void learn(struct model *model, struct op_point p, double ns)
{
	struct sample s = {.point = p, .latency_ns = (uint64_t)ns, .n = 10, .sd_ns = (uint64_t)(0.004 * ns)};

	assert_int_equal(model_learn_sample(model, &s), 0);
}

/* Finite, ordered, within reason everywhere. */
static inline const struct surface *check_surface(struct model *model)
{
	const struct surface *s = model_surface(model, PHASE_RUN, 0);

	assert_int_not_equal(s->state, SURFACE_NONE);
	for (size_t i = 0; i < s->grid->points; i++) {
		assert_true(isfinite(s->latency_ns[i]) && s->latency_ns[i] > 0);
		assert_true(isfinite(s->bound_ns[i]) && s->bound_ns[i] >= s->latency_ns[i]);
		assert_true(isfinite(s->power_uw[i]) && s->power_uw[i] > 0);
		assert_true(s->idle_power_uw[i] > 0 && s->idle_power_uw[i] <= s->power_uw[i] * 1.0001f);
	}
	return s;
}

#endif
