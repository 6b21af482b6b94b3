/* SPDX-License-Identifier: MIT */
/* Governor and estimator over a population of boards drawn at random.
 *   population [--seed N] [--runs N] [--alone|--company|--energy|--long] [--trace] [--kind K] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "loop.h"

#define RUNS_MAX 4096

struct table {
	const char *name;
	double ratio[RUNS_MAX], late[RUNS_MAX];
	size_t runs, counted, missed, early, chosen, streak, moves, stuck;
	double above, cells;
};

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void add(struct table *t, const struct loop_outcome *o)
{
	t->ratio[t->runs] = o->price / o->optimum;
	t->late[t->runs] = o->late_price / o->optimum;
	t->stuck += t->late[t->runs] > 1.02;
	t->runs++;
	t->counted += o->counted;
	t->missed += o->missed;
	t->early += o->early_missed;
	t->chosen += o->chosen_missed;
	t->streak = o->streak > t->streak ? o->streak : t->streak;
	t->moves += o->moves;
	t->above += o->above_bound;
	t->cells += o->cells;
}

static void report(struct table *t)
{
	double sum = 0, square = 0;
	size_t n = t->runs;

	if (!n)
		return;
	for (size_t i = 0; i < n; i++) {
		sum += t->ratio[i];
		square += t->ratio[i] * t->ratio[i];
	}
	double mean = sum / (double)n, error = 1.96 * sqrt(fmax(square / (double)n - mean * mean, 0) / (double)n);
	qsort(t->ratio, n, sizeof(double), by_size);
	printf("# | %-22s %4zu runs  missed %.3f %%  power %.4f +- %.4f  p90 %.3f  worst %.3f  early %.2f (chosen "
	       "%.2f, row %zu)  end over 1.02 %4.1f %%  above bound %.2f %%  moves %.0f\n",
	       t->name, n, 100.0 * (double)t->missed / (double)t->counted, mean, error, t->ratio[n * 9 / 10],
	       t->ratio[n - 1], (double)t->early / (double)n, (double)t->chosen / (double)n, t->streak,
	       100.0 * (double)t->stuck / (double)n, 100 * t->above / t->cells, (double)t->moves / (double)n);
}

int main(int argc, char **argv)
{
	static struct board_made board;
	static struct table all = {.name = "all"}, kind[BOARD_KINDS];
	size_t runs = 160, sessions = 1, requests = 400;
	uint64_t seed = 1;
	int only = -1;
	bool energy = false, trace = false, list = false;
	double learning = -1;
	long one = -1;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--runs"))
			runs = strtoul(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--kind"))
			only = atoi(argv[++i]);
		else if (!strcmp(argv[i], "--learning"))
			learning = atof(argv[++i]);
		else if (!strcmp(argv[i], "--only"))
			one = atol(argv[++i]);
		else if (!strcmp(argv[i], "--company"))
			sessions = 2;
		else if (!strcmp(argv[i], "--energy"))
			energy = true;
		else if (!strcmp(argv[i], "--long"))
			requests = 6000;
		else if (!strcmp(argv[i], "--trace"))
			trace = true;
		else if (!strcmp(argv[i], "--list"))
			list = true;
	}
	for (size_t i = 0; i < runs; i++) {
		struct loop_run run;
		struct loop_outcome out;
		enum board_kind k = only >= 0 ? (enum board_kind)only : (enum board_kind)(i % BOARD_KINDS);
		size_t n = sessions > 1 ? 2 + (i / BOARD_KINDS) % 3 / 2 : 1;

		if (one >= 0 && (long)i != one)
			continue;
		board_draw(&board, k, seed * 10000 + i, n);
		if (!loop_draw(&run, &board, n, seed * 10000 + i))
			continue;
		if (requests != 400)
			run.requests = requests;
		run.trace = trace;
		run.learning_misses = learning;
		if (energy) {
			run.objective = OBJECTIVE_ENERGY;
			for (size_t s = 0; s < n; s++)
				if (run.session[s].period_ns <= 0)
					run.session[s].period_ns = run.session[s].deadline_ns * 1.3;
		}
		loop_run(&run, &out);
		if (list)
			printf("%zu %s %s deadline %.2f sessions %zu ratio %.3f late %.3f missed %zu/%zu early %zu\n",
			       i, board.name, arrival_name[run.session[0].arrival],
			       run.session[0].deadline_ns / board.work[0].fastest_ns, n, out.price / out.optimum,
			       out.late_price / out.optimum, out.missed, out.counted, out.early_missed);
		add(&all, &out);
		kind[k].name = board_kind_name[k];
		add(&kind[k], &out);
	}
	for (int k = 0; k < BOARD_KINDS; k++)
		report(&kind[k]);
	report(&all);
	return 0;
}
