/* SPDX-License-Identifier: MIT */
/* The unmodified daemon over a population of boards, workloads, deadlines and arrivals drawn at random, in virtual
 * time: TAP and one table.
 *   daemon [--seed N] [--runs N] [--company N] [--long N] [--energy N] [--only N] [--list] [--figures]
 * --only plays that run alone of each part; --list prints every run; --figures prints name=value lines instead
 * of TAP. With STAGE_TRACE set every request of it is printed. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "../../common/file.h"
#include "figures.h"
#include "flamed.h"

#define RUNS_MAX      4096
#define LONG_REQUESTS 6000
#define REQUESTS      400
#define STUCK         1.02 /* a long run that ends over this has stayed off its optimum */

enum part { ALONE, COMPANY, ENERGY, LONG, PARTS };
static const char *const part_name[PARTS] = {"alone", "company", "energy", "long"};

/* The promise, and the limits of runs where it is not reached yet: the result, and the variation between draws of the
 * same size. */
static const struct promise {
	double missed, mean, p90, worst, first, stuck; /* 0: nothing promised */
} promise[PARTS] =
	{
		[ALONE] = {0.003, 1.02, 1.06, 1.15, 1, 0},
		[COMPANY] = {0.005, 1.05, 0, 0, 0, 0},
		[ENERGY] = {0.003, 1.02, 1.06, 1.15, 1, 0},
		[LONG] = {0.003, 0, 0, 0, 0, 0.05},
},
  held[PARTS] = {
	  [ALONE] = {0.003, 1.02, 1.06, 1.30, 1.0, 0},
	  [COMPANY] = {0.005, 1.05, 0, 0, 0, 0},
	  [ENERGY] = {0.003, 1.02, 1.06, 1.20, 1.0, 0},
	  [LONG] = {0.003, 0, 0, 0, 0, 0.10},
};
#define BASELINE "tests/population/baseline.txt"

struct result {
	bool drawn, clean;
	enum board_kind kind;
	struct stage_outcome out;
};

struct figures {
	size_t runs, counted, missed;
	double mean, low, high, p90, worst, first, stuck;
};

static struct result *results[PARTS];
static const size_t all_runs[PARTS] = {320, 200, 64, 20};
static size_t runs[PARTS] = {320, 200, 64, 20};
static uint64_t seed = 1;
static size_t only = SIZE_MAX;
static bool list;
static int number, failures;

static void check(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
	failures += !good;
}

/* ---- runs ---- */

static void play(enum part part, size_t i, struct result *result)
{
	static struct board_made board;
	static struct flamed flamed;
	uint64_t run_seed = seed * 100000 + (uint64_t)part * 10000 + i;
	enum board_kind kind = (enum board_kind)(i % BOARD_KINDS);
	size_t sessions = part != COMPANY ? 1 : i / BOARD_KINDS % 3 == 2 ? 3 : 2;
	struct stage_run run;
	struct manager manager;

	board_draw(&board, kind, run_seed, sessions);
	if (!stage_draw(&run, &board, sessions, part == LONG ? LONG_REQUESTS : REQUESTS, run_seed))
		return;
	if (part == ENERGY) {
		run.loop.objective = OBJECTIVE_ENERGY;
		if (run.loop.session[0].period_ns <= 0)
			run.loop.session[0].period_ns = 1.3 * run.loop.session[0].deadline_ns;
	}
	flamed_start(&flamed, &run, &manager);
	stage_play(&run, &manager, &result->out);
	result->clean = flamed_stop(&flamed);
	result->kind = kind;
	result->drawn = true;
	if (list)
		printf("%s %zu %s, %s, %zu models, %.2f x the fastest: power %.3f, at the end %.3f, missed %zu of "
		       "%zu, first %zu of %zu, requests %zu\n",
		       part_name[part], i, board.name, arrival_name[run.loop.session[0].arrival], sessions,
		       run.loop.session[0].deadline_ns / board.work[0].fastest_ns, result->out.power,
		       result->out.late_power, result->out.missed, result->out.counted, result->out.early_missed,
		       result->out.early, result->out.requests);
}

/* The longest first. */
static void play_job(size_t job)
{
	for (int p = PARTS - 1; p >= 0; p--) {
		if (job < runs[p]) {
			if (only == SIZE_MAX || only == job)
				play((enum part)p, job, &results[p][job]);
			return;
		}
		job -= runs[p];
	}
}

/* ---- figures ---- */

/* The low end of the 95 % interval of the share missed: misses cluster, so whole runs are drawn. */
static double least_share(enum part part)
{
	static double share[RESAMPLES];
	struct sim_rng rng = {98};

	for (size_t r = 0; r < RESAMPLES; r++) {
		double counted = 0, missed = 0;
		for (size_t i = 0; i < runs[part]; i++) {
			const struct result *result =
				&results[part][(size_t)sim_uniform(&rng, 0, (double)runs[part] - 1e-6)];
			counted += (double)result->out.counted;
			missed += (double)result->out.missed;
		}
		share[r] = counted > 0 ? missed / counted : 0;
	}
	qsort(share, RESAMPLES, sizeof(*share), by_size);
	return share[RESAMPLES / 40];
}

static struct figures figures_of(enum part part, int kind)
{
	static double power[RUNS_MAX];
	struct figures f = {0};
	size_t stuck = 0, early = 0, warmed = 0;

	for (size_t i = 0; i < runs[part]; i++) {
		const struct result *r = &results[part][i];
		if (!r->drawn || (kind >= 0 && r->kind != (enum board_kind)kind))
			continue;
		if (r->out.power > 0) {
			power[warmed++] = r->out.power;
			f.mean += r->out.power;
		}
		f.runs++;
		f.counted += r->out.counted;
		f.missed += r->out.missed;
		early += r->out.early_missed;
		stuck += r->out.late_power > STUCK;
	}
	if (!warmed)
		return f;
	f.mean /= (double)warmed;
	f.first = (double)early / (double)f.runs;
	f.stuck = (double)stuck / (double)f.runs;
	mean_interval(power, warmed, &f.low, &f.high);
	qsort(power, warmed, sizeof(*power), by_size);
	f.p90 = power[warmed * 9 / 10];
	f.worst = power[warmed - 1];
	return f;
}

static double share(const struct figures *f)
{
	return f->counted ? (double)f->missed / (double)f->counted : 0;
}

static void row(const char *name, const struct figures *f)
{
	printf("# | %-20s %4zu %8.3f   %.3f (%.3f to %.3f) %7.3f %7.3f %9.2f %8.1f\n", name, f->runs, 100 * share(f),
	       f->mean, f->low, f->high, f->p90, f->worst, f->first, 100 * f->stuck);
}

/* ---- verdicts ---- */

/* The rows of a table as report() prints it. */
static bool read_baseline(enum part part, struct figures *f)
{
	CLEANUP_MEM char *text = NULL;
	char name[32];
	double missed, stuck;

	if (file_read(BASELINE, 1 << 16, &text, NULL))
		return false;
	for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (sscanf(line, "# | %*u %31s %zu %lf %lf (%lf to %lf) %lf %lf %lf %lf", name, &f->runs, &missed,
			   &f->mean, &f->low, &f->high, &f->p90, &f->worst, &f->first, &stuck) == 10 &&
		    !strcmp(name, part_name[part])) {
			f->counted = 1000000;
			f->missed = (size_t)(missed * 1e4);
			f->stuck = stuck / 100;
			return true;
		}
	return false;
}

static void judge(enum part part, const struct figures *f)
{
	const struct promise *p = &promise[part], *h = &held[part];
	struct figures base = {0};
	char what[200];

	snprintf(what, sizeof(what), "%s: at most %.2f %% missed (promised %.2f)", part_name[part], 100 * h->missed,
		 100 * p->missed);
	check(share(f) <= h->missed, what);
	snprintf(what, sizeof(what),
		 "%s: power: mean %.3f, 90th percentile %.3f, worst %.3f (promised %.3f, %.3f, %.3f)", part_name[part],
		 h->mean, h->p90, h->worst, p->mean, p->p90, p->worst);
	if (h->mean > 0)
		check(f->mean <= h->mean && (h->p90 <= 0 || f->p90 <= h->p90) &&
			      (h->worst <= 0 || f->worst <= h->worst),
		      what);
	snprintf(what, sizeof(what), "%s: at most %.1f missed in the first %d, in the mean (promised %.1f)",
		 part_name[part], h->first, STAGE_FIRST, p->first);
	if (h->first > 0)
		check(f->first <= h->first, what);
	snprintf(what, sizeof(what), "%s: at most %.0f %% end over %.2f (promised %.0f)", part_name[part],
		 100 * h->stuck, STUCK, 100 * p->stuck);
	if (h->stuck > 0)
		check(f->stuck <= h->stuck, what);
	if (!read_baseline(part, &base)) {
		check(false, "baseline is there: " BASELINE);
		return;
	}
	row("  version 0.1", &base);
	snprintf(what, sizeof(what), "%s: power is not worse than that of version 0.1, within its interval",
		 part_name[part]);
	check(f->mean <= base.high, what);
	snprintf(what, sizeof(what),
		 "%s: share missed is not worse than that of version 0.1, within its interval, or as promised",
		 part_name[part]);
	check(least_share(part) <= share(&base) || share(f) <= p->missed, what);
}

static void report(bool verdicts)
{
	printf("# | %-20s %4s %8s   %-24s %7s %7s %9s %8s\n", "seed and part", "runs", "missed %",
	       "power over the oracle", "90th p.", "worst", "first 30", "stuck %");
	for (int part = 0; part < PARTS; part++) {
		struct figures f = figures_of((enum part)part, -1);
		size_t unclean = 0;
		char name[64];
		if (!f.runs)
			continue;
		snprintf(name, sizeof(name), "%llu %s", (unsigned long long)seed, part_name[part]);
		row(name, &f);
		for (int k = 0; k < BOARD_KINDS && part <= COMPANY; k++) {
			struct figures of = figures_of((enum part)part, k);
			snprintf(name, sizeof(name), "  %s", board_kind_name[k]);
			if (of.runs)
				row(name, &of);
		}
		for (size_t i = 0; i < runs[part]; i++)
			unclean += results[part][i].drawn && !results[part][i].clean;
		snprintf(name, sizeof(name), "%s: the daemon ends with 0", part_name[part]);
		check(unclean == 0, name);
		if (verdicts)
			judge((enum part)part, &f);
	}
}

/* For tools/bench. */
static void print_figures(void)
{
	for (int part = 0; part < PARTS; part++) {
		struct figures f = figures_of((enum part)part, -1);
		const char *name = part_name[part];
		if (f.runs)
			printf("%s_missed_percent=%.3f %%\n%s_power_mean=%.3f x\n%s_power_p90=%.3f "
			       "x\n%s_power_worst=%.3f x\n"
			       "%s_first_30_missed=%.2f\n%s_stuck_percent=%.1f %%\n",
			       name, 100 * share(&f), name, f.mean, name, f.p90, name, f.worst, name, f.first, name,
			       100 * f.stuck);
	}
}

static size_t count_of(const char *text)
{
	unsigned long value = text ? strtoul(text, NULL, 10) : 0;

	if (!text || value > RUNS_MAX) {
		fprintf(stderr, "population: a number up to %d is wanted\n", RUNS_MAX);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	bool figures = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[++i] ? argv[i] : "", NULL, 10);
		else if (!strcmp(argv[i], "--runs"))
			runs[ALONE] = count_of(argv[++i]);
		else if (!strcmp(argv[i], "--company"))
			runs[COMPANY] = count_of(argv[++i]);
		else if (!strcmp(argv[i], "--energy"))
			runs[ENERGY] = count_of(argv[++i]);
		else if (!strcmp(argv[i], "--long"))
			runs[LONG] = count_of(argv[++i]);
		else if (!strcmp(argv[i], "--only"))
			only = count_of(argv[++i]);
		else if (!strcmp(argv[i], "--list"))
			list = true;
		else if (!strcmp(argv[i], "--figures"))
			figures = true;
		else {
			fprintf(stderr, "population: %s: no such option\n", argv[i]);
			return 2;
		}
	}
	/* The limits are those of all runs of the first seed. */
	bool whole = seed == 1 && !memcmp(runs, all_runs, sizeof(runs));
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int p = 0; p < PARTS; p++) {
		results[p] = mmap(NULL, RUNS_MAX * sizeof(struct result), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (results[p] == MAP_FAILED)
			return 1;
	}
	size_t jobs = 0;
	for (int p = 0; p < PARTS; p++)
		jobs += runs[p];
	if (!on_every_processor(jobs, play_job))
		check(false, "a worker ends with 0");
	if (figures) {
		print_figures();
		return failures != 0;
	}
	report(whole);
	printf("1..%d\n", number);
	return failures != 0;
}
