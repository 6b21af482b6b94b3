/* SPDX-License-Identifier: MIT */
/* flamed and its rivals over the same boards, workloads, deadlines, arrivals and noise: one table.
 *   rivals [--seed N] [--runs N] [--company N] [--rival NAME] [--markdown] */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../population/flamed.h"
#include "rival.h"

#define RUNS_MAX 1024
#define REQUESTS 1000 /* some of the rivals learn slowly */

static const struct rival *const rivals[] = {
	&rival_highest, &rival_kernel, &rival_flame, &rival_kang, &rival_adpf, &rival_ztt, &rival_oracle,
};
#define RIVALS   (sizeof(rivals) / sizeof(rivals[0]))
#define MANAGERS (RIVALS + 1) /* the last is flamed */

enum part { ALONE, COMPANY, PARTS };
static const char *const part_name[PARTS] = {"one model", "two or three models"};

struct result {
	bool drawn;
	struct stage_outcome out[MANAGERS];
};

static struct result *results[PARTS];
static size_t runs[PARTS] = {160, 64};
static uint64_t seed = 1;
static const char *only;

static const char *name_of(size_t m)
{
	return m < RIVALS ? rivals[m]->name : "flamed";
}

static void play_one(const struct stage_run *run, size_t m, struct stage_outcome *out)
{
	static struct flamed flamed;
	struct manager manager;

	if (only && strcmp(only, name_of(m)))
		return;
	if (m == RIVALS) {
		flamed_start(&flamed, run, &manager);
		stage_play(run, &manager, out);
		flamed_stop(&flamed);
		return;
	}
	rivals[m]->create(run, &manager);
	stage_play(run, &manager, out);
	rivals[m]->destroy(&manager);
}

static void play(enum part part, size_t i, struct result *result)
{
	static struct board_made board;
	uint64_t run_seed = seed * 100000 + 50000 + (uint64_t)part * 10000 + i;
	size_t sessions = part == ALONE ? 1 : i / BOARD_KINDS % 3 == 2 ? 3 : 2;
	struct stage_run run;

	board_draw(&board, (enum board_kind)(i % BOARD_KINDS), run_seed, sessions);
	if (!stage_draw(&run, &board, sessions, REQUESTS, run_seed))
		return;
	for (size_t m = 0; m < MANAGERS; m++)
		play_one(&run, m, &result->out[m]);
	result->drawn = true;
}

static void play_all(void)
{
	long workers = sysconf(_SC_NPROCESSORS_ONLN);

	for (long w = 0; w < workers; w++) {
		pid_t pid = fork();
		if (pid < 0)
			abort();
		if (pid > 0)
			continue;
		for (int p = 0; p < PARTS; p++)
			for (size_t i = (size_t)w; i < runs[p]; i += (size_t)workers)
				play((enum part)p, i, &results[p][i]);
		_exit(0);
	}
	for (long w = 0; w < workers; w++) {
		int status;
		if (wait(&status) < 0 || status != 0) {
			fprintf(stderr, "rivals: a worker failed\n");
			exit(1);
		}
	}
}

/* ---- the table ---- */

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct line {
	size_t runs, counted, missed, early;
	double power, p90, per_watt, rate, steady;
};

/* Requests over energy, against every clock at its highest. */
static double per_watt(const struct stage_outcome *o)
{
	return o->energy_uj > 0 ? (double)o->requests / o->energy_uj : 0;
}

static struct line line_of(enum part part, size_t m)
{
	static double power[RUNS_MAX], steady[RUNS_MAX];
	struct line l = {0};
	size_t warmed = 0;

	for (size_t i = 0; i < runs[part]; i++) {
		const struct result *r = &results[part][i];
		const struct stage_outcome *o = &r->out[m];
		if (!r->drawn || !o->requests)
			continue;
		if (o->power > 0) {
			power[warmed++] = o->power;
			l.power += o->power;
		}
		steady[l.runs++] = (double)o->steady_after;
		l.counted += o->counted;
		l.missed += o->missed;
		l.early += o->early_missed;
		l.rate += o->rate_ratio;
		l.per_watt += r->out[0].requests ? per_watt(o) / per_watt(&r->out[0]) : 0;
	}
	if (!warmed)
		return l;
	l.power /= (double)warmed;
	l.rate /= (double)l.runs;
	l.per_watt /= (double)l.runs;
	qsort(power, warmed, sizeof(*power), by_size);
	qsort(steady, l.runs, sizeof(*steady), by_size);
	l.p90 = power[warmed * 9 / 10];
	l.steady = steady[l.runs / 2];
	return l;
}

static void print_table(enum part part)
{
	printf("\n| %s | missed, %% | first %d, missed | power over the oracle | 90th percentile | performance per "
	       "watt | rate ratio | steady after |\n"
	       "|---|---|---|---|---|---|---|---|\n",
	       part_name[part], STAGE_FIRST);
	for (size_t m = 0; m < MANAGERS; m++) {
		struct line l = line_of(part, m);
		if (l.runs)
			printf("| %s | %.2f | %.2f | %.3f | %.3f | %.2f | %.4f | %.0f |\n", name_of(m),
			       100 * (double)l.missed / (double)l.counted, (double)l.early / (double)l.runs, l.power,
			       l.p90, l.per_watt, l.rate, l.steady);
	}
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(argv[i], "--seed"))
			seed = strtoull(value, NULL, 10);
		else if (!strcmp(argv[i], "--runs"))
			runs[ALONE] = strtoul(value, NULL, 10);
		else if (!strcmp(argv[i], "--company"))
			runs[COMPANY] = strtoul(value, NULL, 10);
		else if (!strcmp(argv[i], "--rival"))
			only = value;
		else
			return 2;
	}
	if (runs[ALONE] > RUNS_MAX || runs[COMPANY] > RUNS_MAX)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	for (int p = 0; p < PARTS; p++) {
		results[p] = mmap(NULL, RUNS_MAX * sizeof(struct result), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (results[p] == MAP_FAILED)
			return 1;
	}
	play_all();
	for (int p = 0; p < PARTS; p++)
		print_table((enum part)p);
	return 0;
}
