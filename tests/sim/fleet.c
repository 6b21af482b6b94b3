/* SPDX-License-Identifier: MIT */
/* Samples of ten boards of one kind, imported by the eleventh: kinds are drawn at random, and boards of a kind differ
 * by 3 % in level and in the slope over each clock. How soon the eleventh is ready, and its error then; and a board of
 * another kind, which must ignore the samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <math.h>
#include "../../estimator/model.h"
#include "boards.h"

#define KINDS     60
#define STRANGERS 8
#define DONORS    10
#define SPREAD    0.03  /* between boards of a kind */
#define NOISE     0.005 /* of a measurement */
#define BUDGET    8     /* measurements of a donor */
#define MOST      12    /* of the eleventh */

static struct sim_rng rng;

/* A board of the kind: its own level, and its own slope over each clock. */
struct unit {
	double level, slope[CLOCK_COUNT];
};

static struct unit draw_unit(void)
{
	struct unit unit = {.level = SPREAD * sim_gauss(&rng)};

	for (int c = 0; c < CLOCK_COUNT; c++)
		unit.slope[c] = SPREAD / 2 * sim_gauss(&rng);
	return unit;
}

static double latency_ns(const struct board_set *set, const struct unit *unit, size_t i)
{
	double log_factor = unit->level;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		double top = (double)set->row[set->count - 1].point.hz[c], hz = (double)set->row[i].point.hz[c];

		if (top > 0 && hz > 0)
			log_factor += unit->slope[c] * log(top / hz);
	}
	return (double)set->row[i].latency_ns * exp(log_factor);
}

static void measure(struct model *model, const struct board_set *set, const struct unit *unit, size_t i)
{
	struct sample s = set->row[i];

	s.latency_ns = (uint64_t)(latency_ns(set, unit, i) * exp(NOISE * sim_gauss(&rng)));
	s.n = 10;
	s.sd_ns = (uint64_t)(NOISE * (double)s.latency_ns);
	assert_int_equal(model_learn_sample(model, &s), 0);
}

/* Measure the points that are most worth measuring, given those before. */
static void profile(struct model *model, const struct board_set *set, const struct unit *unit, size_t budget)
{
	size_t chosen[MOST];

	for (size_t k = 0; k < budget; k++)
		if (model_plan_list(model, PHASE_RUN, set->row, set->count, NULL, 0, 1, chosen) == 1)
			measure(model, set, unit, chosen[0]);
}

/* The samples of ten boards, as after `models import` of ten files. */
static struct model *fleet(const struct board_set *set)
{
	struct model *all = board_model(set, NULL);

	for (int b = 0; b < DONORS; b++) {
		struct unit unit = draw_unit();
		struct model *one = board_model(set, NULL);
		struct sample *samples;

		profile(one, set, &unit, BUDGET);
		long count = model_samples(one, &samples);
		for (long i = 0; i < count; i++)
			assert_int_equal(model_learn_sample(all, &samples[i]), 0);
		free(samples);
		model_free(one);
	}
	return all;
}

/* Mean error over the grid, and the share of points that take longer than their bound. */
static double score(struct model *model, const struct board_set *set, const struct unit *unit, double *over)
{
	double error = 0;

	*over = 0;
	for (size_t i = 0; i < set->count; i++) {
		struct prediction p;

		assert_int_equal(model_predict(model, PHASE_RUN, 0, set->row[i].point, &p), 0);
		error += fabs(p.latency_ns / latency_ns(set, unit, i) - 1) / (double)set->count;
		*over += (latency_ns(set, unit, i) > p.bound_ns) / (double)set->count;
	}
	return error;
}

/* Measurements until it is ready; MOST + 1: not by then. */
static size_t until_ready(const struct board_set *set, const struct unit *unit, struct model *inherited, double *error,
			  double *over)
{
	struct model *model = board_model(set, NULL);
	size_t used = 0;

	model_inherit(model, inherited);
	assert_int_equal(model_surface(model, PHASE_RUN, 0)->state, SURFACE_NONE);
	while (used <= MOST && model_surface(model, PHASE_RUN, 0)->state != SURFACE_READY) {
		profile(model, set, unit, 1);
		used++;
	}
	*error = score(model, set, unit, over);
	model_free(model);
	return used;
}

static void eleventh(void **state)
{
	double used[2] = {0}, error[2] = {0}, over[2] = {0}, most = 0;
	unsigned late = 0;
	(void)state;

	for (uint64_t kind = 0; kind < KINDS; kind++) {
		struct board_set set;
		struct unit unit = draw_unit();

		assert_int_equal(board_make(kind + 100, &set), 0);
		for (int with = 0; with < 2; with++) {
			double e, o;
			size_t n = until_ready(&set, &unit, with ? fleet(&set) : NULL, &e, &o);

			used[with] += (double)n / KINDS;
			error[with] += e / KINDS;
			over[with] += o / KINDS;
			most = with && (double)n > most ? (double)n : most;
			late += with && n > 2;
		}
		free(set.row);
	}
	for (int with = 1; with >= 0; with--)
		printf("# | %s: ready after %.2f measurements, mean error %.1f %%, %.1f %% over bound\n",
		       with ? "eleventh board" : "alone", used[with], 100 * error[with], 100 * over[with]);
	printf("# | of %d kinds %u take more than two, at most %.0f\n", KINDS, late, most);
	assert_int_equal(late, 0);
	assert_true(over[1] <= over[0] + 0.01); /* about as rarely as of a board that learns alone */
	assert_true(error[1] <= error[0]);
}

/* Another kind of board, for which the level and shape of the samples are wrong: with its own measurements its error is
 * the same as without them. */
static void stranger(void **state)
{
	double error[2] = {0}, sd;
	unsigned believed = 0;
	(void)state;

	for (uint64_t kind = 0; kind < STRANGERS; kind++) {
		struct board_set set, other;
		struct unit unit = draw_unit();

		assert_int_equal(board_make(kind + 100, &set), 0);
		other = set;
		other.row = malloc(set.count * sizeof(*set.row));
		for (size_t i = 0; i < set.count; i++) {
			other.row[i] = set.row[i];
			other.row[i].latency_ns =
				(uint64_t)(1.5 * (double)set.row[i].latency_ns * exp(0.3 * sin((double)i)));
		}
		for (int with = 0; with < 2; with++) {
			struct model *model = board_model(&set, NULL);
			double o;

			model_inherit(model, with ? fleet(&other) : NULL);
			profile(model, &set, &unit, BUDGET);
			error[with] += score(model, &set, &unit, &o) / STRANGERS;
			believed += with && model_inherited(model, PHASE_RUN, &sd) && sd < 0.1;
			model_free(model);
		}
		free(other.row);
		free(set.row);
	}
	printf("# | another kind after %d measurements: mean error %.2f %%, without what it inherited %.2f %%\n",
	       BUDGET, 100 * error[1], 100 * error[0]);
	assert_int_equal(believed, 0);
	assert_true(error[1] <= 1.2 * error[0] + 0.002);
}

/* What others measured of one phase says nothing of another. */
static void other_phase(void **state)
{
	struct board_set set;
	struct unit unit = draw_unit();
	double sd;

	(void)state;
	assert_int_equal(board_make(100, &set), 0);
	struct model *model = board_model(&set, NULL);
	model_inherit(model, fleet(&set));
	for (size_t i = 0; i < set.count; i += set.count / 4) {
		struct sample s = set.row[i];
		s.phase = PHASE_DECODE;
		s.latency_ns = (uint64_t)latency_ns(&set, &unit, i);
		assert_int_equal(model_learn_sample(model, &s), 0);
	}
	assert_int_not_equal(model_surface(model, PHASE_DECODE, 0)->state, SURFACE_NONE);
	assert_false(model_inherited(model, PHASE_DECODE, &sd));
	model_free(model);
	free(set.row);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eleventh),
		cmocka_unit_test(stranger),
		cmocka_unit_test(other_phase),
	};

	rng = (struct sim_rng){11};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
