/* SPDX-License-Identifier: MIT */
/* Power of a board under other work as a prior for a model with few samples: generated boards, one kind of work for the
 * prior, another to be predicted. */
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

#define BOARDS 60
#define PROBED 12 /* points of the prior */
#define MOST   8  /* samples of the model */

enum prior { PRIOR_NONE, PRIOR_RIGHT, PRIOR_WRONG, PRIORS };

static double error[PRIORS][MOST + 1], idle_error[PRIORS][MOST + 1]; /* mean over boards */

/* As flamed-probe does: at the points that a new model would be measured at. */
static struct board_powers probe(uint64_t board, double factor)
{
	struct board_powers prior = {0};
	size_t chosen[PROBED], count;
	struct board_set set;
	double *idle;
	struct model *model;

	assert_int_equal(board_make_work(board, 3, &set, &idle), 0);
	model = board_model(&set, NULL);
	count = model_plan_list(model, PHASE_RUN, set.row, set.count, NULL, 0, PROBED, chosen);
	for (size_t k = 0; k < count; k++) {
		const struct sample *s = &set.row[chosen[k]];
		prior.point[prior.count++] =
			(struct board_power){s->point, (double)s->latency_ns, factor * (double)s->power_uw,
					     factor * idle[chosen[k]]};
	}
	model_free(model);
	free(set.row);
	free(idle);
	return prior;
}

static void score(struct model *model, const struct board_set *set, const double *idle, enum prior which,
		  size_t samples)
{
	for (size_t i = 0; i < set->count; i++) {
		struct prediction p;
		double share = 100.0 / (double)set->count / BOARDS;

		assert_int_equal(model_predict(model, PHASE_RUN, 0, set->row[i].point, &p), 0);
		assert_true(p.power_known && p.idle_power_uw <= p.power_uw);
		error[which][samples] += share * fabs(p.power_uw / (double)set->row[i].power_uw - 1);
		idle_error[which][samples] += share * fabs(p.idle_power_uw / idle[i] - 1);
	}
}

static void one_board(uint64_t board)
{
	const struct board_powers prior[PRIORS] = {{0}, probe(board, 1), probe(board + 1, 2.5)};
	size_t chosen[MOST];
	struct board_set set;
	double *idle;

	assert_int_equal(board_make_work(board, 100 + board, &set, &idle), 0);
	for (int which = 0; which < PRIORS; which++) {
		struct model *model = board_model(&set, &prior[which]);

		assert_int_equal(model_plan_list(model, PHASE_RUN, set.row, set.count, NULL, 0, MOST, chosen), MOST);
		for (size_t k = 0; k < MOST; k++) {
			assert_int_equal(model_learn_sample(model, &set.row[chosen[k]]), 0);
			score(model, &set, idle, (enum prior)which, k + 1);
		}
		model_free(model);
	}
	free(set.row);
	free(idle);
}

static void prior_helps(void **state)
{
	(void)state;
	for (uint64_t board = 0; board < BOARDS; board++)
		one_board(board);
	printf("# | mean error of power over %d made-up boards, percent (and of idle power)\n# | samples          "
	       "none           right           wrong\n",
	       BOARDS);
	for (size_t k = 1; k <= MOST; k++)
		printf("# | %7zu  %6.2f (%5.1f)  %6.2f (%5.1f)  %6.2f (%5.1f)\n", k, error[0][k], idle_error[0][k],
		       error[1][k], idle_error[1][k], error[2][k], idle_error[2][k]);
	for (size_t k = 1; k <= 3; k++) {
		assert_true(error[PRIOR_RIGHT][k] < 0.8 * error[PRIOR_NONE][k]);
		assert_true(idle_error[PRIOR_RIGHT][k] < 0.8 * idle_error[PRIOR_NONE][k]);
	}
	assert_true(error[PRIOR_RIGHT][MOST] <= error[PRIOR_NONE][MOST]);
	assert_true(error[PRIOR_WRONG][4] <= 1.1 * error[PRIOR_NONE][4]);
	assert_true(error[PRIOR_WRONG][MOST] <= 1.02 * error[PRIOR_NONE][MOST]);
}

/* Before a model is measured it has no latency, and its power is not needed; after its first sample without power, the
 * prior's watts apply. */
static void prior_without_samples(void **state)
{
	const struct board_powers prior = probe(0, 1);
	struct sample sample;
	struct board_set set;
	struct prediction p;
	struct model *model;

	(void)state;
	assert_int_equal(board_make_work(0, 100, &set, NULL), 0);
	model = board_model(&set, &prior);
	sample = set.row[set.count / 2];
	sample.power_uw = 0;
	assert_int_equal(model_learn_sample(model, &sample), 0);
	assert_int_equal(model_predict(model, PHASE_RUN, 0, sample.point, &p), 0);
	assert_true(p.power_known);
	assert_true(fabs(p.power_uw / (double)set.row[set.count / 2].power_uw - 1) < 0.3);
	model_free(model);
	free(set.row);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(prior_helps), cmocka_unit_test(prior_without_samples)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
