/* SPDX-License-Identifier: MIT */
/* The unmodified daemon with streams of tokens at a rate, in virtual time, on boards drawn at random: TAP and one
 * table. For comparison, the same tokens with a deadline of one period each.
 *   streams [--seed N] [--runs N] [--list] [--figures]
 * --list prints every run; --figures prints name=value lines instead of TAP. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "conversation.h"
#include "figures.h"
#include "flamed.h"

#define RUNS_MAX 4096
#define RUNS     32
#define WARM     30    /* tokens of the first stream before the limits count */
#define NOISE    0.008 /* of the power sensor */

/* The promise. */
#define LATE_MOST  0.005
#define POWER_MOST 1.04

enum ask { BY_RATE, BY_DEADLINE, ASKS };
static const char *const ask_name[ASKS] = {"at a rate", "a deadline per token"};

struct result {
	bool clean;
	enum board_kind kind;
	double tightness;
	struct outcome {
		size_t tokens, late; /* after the first WARM */
		size_t early_late;   /* of those */
		double power;        /* over the oracle's, in the mean over time */
	} out[ASKS];
};

static struct result *results;
static size_t runs = RUNS;
static uint64_t seed = 1;
static bool list;
static int number, failures;

static void check(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
	failures += !good;
}

/* ---- one run ---- */

struct play {
	const struct conversation *talk;
	struct flamed flamed;
	struct manager manager;
	struct sim_rng sensor;
	uint64_t session;
	double ns, uj; /* while a request is in flight */
};

static uint64_t now_ns(const struct play *play)
{
	return world_now_ns(&play->flamed.world) - play->flamed.start_ns;
}

/* Time passes until the daemon acts, or for that long, in flight or (phase BOARD_PHASES) not. Returns how much did. */
static double pass(struct play *play, enum board_phase phase, bool runs_now, double ns)
{
	size_t point = play->manager.point(play->manager.state);
	uint64_t was_ns = now_ns(play), next_ns = play->manager.next_ns(play->manager.state);
	double power_uw = runs_now ? play->talk->board.work[phase].power_uw[point] : play->talk->board.idle_uw[point];
	uint64_t to_ns = isfinite(ns) ? was_ns + (uint64_t)ceil(ns) : STAGE_NEVER;

	if (next_ns == STAGE_NEVER && to_ns == STAGE_NEVER) {
		fprintf(stderr, "population: nothing happens any more\n");
		abort();
	}
	play->manager.sense(play->manager.state, power_uw * (1 + NOISE * sim_gauss(&play->sensor)));
	play->manager.pass(play->manager.state, next_ns < to_ns ? next_ns : to_ns);
	double passed_ns = (double)(now_ns(play) - was_ns);
	if (phase != BOARD_PHASES) {
		play->ns += passed_ns;
		play->uj += play->talk->board.work[phase].power_uw[point] * passed_ns / 1e9;
	}
	return passed_ns;
}

static void pause_for(struct play *play, double ns)
{
	uint64_t until_ns = now_ns(play) + (uint64_t)ns;

	while (now_ns(play) < until_ns)
		pass(play, BOARD_PHASES, false, (double)(until_ns - now_ns(play)));
}

static void request(struct play *play, enum ask ask, const struct turn *turn, uint32_t k)
{
	struct client *client = &play->flamed.client[0];
	enum board_phase phase = conversation_phase(k);
	uint64_t begin_ns = now_ns(play);
	char due[64] = "";
	int rc;

	if (ask == BY_DEADLINE)
		snprintf(due, sizeof(due), "\ndeadline_ns=%.0f",
			 k ? conversation_period_ns(play->talk) : (double)play->talk->first_ns);
	else if (k == 0)
		snprintf(due, sizeof(due), "\nstream=1");
	client_send(client, "op=begin\nsession=%llu\nphase=%s\ncontext=%u\nwait=1%s", (unsigned long long)play->session,
		    phase == BOARD_PREFILL ? "prefill" : "decode", conversation_context(turn, k), due);
	world_quiesce(&play->flamed.world);
	while (!client_try(client, &rc))
		pass(play, phase, false, INFINITY);
	if (rc) {
		fprintf(stderr, "population: begin: %d %s\n", rc, client_text(client, "message"));
		abort();
	}
	unsigned long long id = client_u64(client, "request");
	for (double left = 1; left > 1e-9;) {
		double whole_ns =
			conversation_latency_ns(play->talk, turn, k, play->manager.point(play->manager.state));
		left -= pass(play, phase, true, left * whole_ns) / whole_ns;
	}
	client_send(client, "op=end\nrequest=%llu\ntotal_ns=%llu", id, (unsigned long long)(now_ns(play) - begin_ns));
	world_quiesce(&play->flamed.world);
}

static void play_turn(struct play *play, enum ask ask, size_t t, struct outcome *out)
{
	const struct conversation *c = play->talk;
	const struct turn *turn = &c->turn[t];
	uint64_t start_ns = now_ns(play);

	for (uint32_t k = 0; k <= turn->tokens; k++) {
		request(play, ask, turn, k);
		double due_ns = (double)(start_ns + c->first_ns) + k * conversation_period_ns(c);
		bool late = (double)now_ns(play) > due_ns;
		if (getenv("STAGE_TRACE"))
			fprintf(stderr, "%12.3f ms  %s turn %zu token %u context %u point %zu ahead %.3f ms%s\n",
				(double)now_ns(play) / 1e6, ask_name[ask], t, k, conversation_context(turn, k),
				play->manager.point(play->manager.state), (due_ns - (double)now_ns(play)) / 1e6,
				late ? "  LATE" : "");
		if (t == 0 && k < WARM) {
			out->early_late += late;
			play->ns = play->uj = 0;
			continue;
		}
		out->tokens++;
		out->late += late;
	}
}

static void play_all(struct play *play, enum ask ask, const double optimum_uw[TURNS], struct outcome *out)
{
	double best_uj = 0, uj = 0;

	for (size_t t = 0; t < TURNS; t++) {
		play->ns = play->uj = 0;
		play_turn(play, ask, t, out);
		uj += play->uj;
		best_uj += optimum_uw[t] * play->ns / 1e9;
		pause_for(play, play->talk->turn[t].think_ns);
	}
	out->power = uj / best_uj;
}

static void play_job(size_t i)
{
	static struct conversation talk;
	static struct play play;
	uint64_t run_seed = seed * 100000 + 40000 + i;
	enum board_kind kind = (enum board_kind)(i % BOARD_KINDS);
	struct stage_run run = {.loop = {.board = &talk.board, .objective = OBJECTIVE_POWER}};
	struct result *result = &results[i];
	double optimum_uw[TURNS];

	conversation_draw(&talk, kind, run_seed);
	for (size_t t = 0; t < TURNS; t++)
		optimum_uw[t] = conversation_optimum(&talk, &talk.turn[t]);
	result->clean = true;
	result->kind = kind;
	result->tightness = talk.tightness;
	for (enum ask ask = 0; ask < ASKS; ask++) {
		memset(&play, 0, sizeof(play));
		play.talk = &talk;
		play.sensor.state = run_seed * 31 + 7;
		flamed_start(&play.flamed, &run, &play.manager);
		struct client *client = &play.flamed.client[0];
		client_open(client, &play.flamed.world);
		char rate[96] = "";
		if (ask == BY_RATE)
			snprintf(rate, sizeof(rate), "\nrate_mhz=%llu\nfirst_ns=%llu",
				 (unsigned long long)talk.rate_mhz, (unsigned long long)talk.first_ns);
		if (client_call(client, "op=open\nmodel=language%s", rate)) {
			fprintf(stderr, "population: open: %s\n", client_text(client, "message"));
			abort();
		}
		play.session = client_u64(client, "session");
		play_all(&play, ask, optimum_uw, &result->out[ask]);
		result->clean = flamed_stop(&play.flamed) && result->clean;
		const struct outcome *out = &result->out[ask];
		if (list)
			printf("%zu %s, %.2f x the fastest, %s: power %.3f, late %zu of %zu, %zu of the first %d\n", i,
			       talk.board.name, talk.tightness, ask_name[ask], out->power, out->late, out->tokens,
			       out->early_late, WARM);
	}
}

/* ---- figures ---- */

struct figures {
	size_t runs, tokens, late;
	double mean, low, high, p90, worst, early;
};

/* Of runs with a tightness in [from, to). */
static struct figures figures_of(enum ask ask, double from, double to)
{
	static double power[RUNS_MAX];
	struct figures f = {0};

	for (size_t i = 0; i < runs; i++) {
		const struct outcome *out = &results[i].out[ask];
		if (results[i].tightness < from || results[i].tightness >= to)
			continue;
		power[f.runs++] = out->power;
		f.mean += out->power;
		f.tokens += out->tokens;
		f.late += out->late;
		f.early += (double)out->early_late;
	}
	if (!f.runs)
		return f;
	f.mean /= (double)f.runs;
	f.early /= (double)f.runs;
	mean_interval(power, f.runs, &f.low, &f.high);
	qsort(power, f.runs, sizeof(*power), by_size);
	f.p90 = power[f.runs * 9 / 10];
	f.worst = power[f.runs - 1];
	return f;
}

static double late_share(const struct figures *f)
{
	return f->tokens ? (double)f->late / (double)f->tokens : 0;
}

static void row(const char *name, const struct figures *f)
{
	if (f->runs)
		printf("# | %-28s %4zu %7zu %7.3f   %.3f (%.3f to %.3f) %7.3f %7.3f %9.2f\n", name, f->runs, f->tokens,
		       100 * late_share(f), f->mean, f->low, f->high, f->p90, f->worst, f->early);
}

static void report(void)
{
	static const double edge[] = {1.1, 1.5, 2.1, INFINITY};
	char name[96];

	printf("# | %-28s %4s %7s %7s   %-24s %7s %7s %9s\n", "tokens", "runs", "tokens", "late %",
	       "power over the oracle", "90th p.", "worst", "first 30");
	for (enum ask ask = 0; ask < ASKS; ask++) {
		struct figures all = figures_of(ask, 0, INFINITY);
		row(ask_name[ask], &all);
		for (size_t e = 0; e + 1 < sizeof(edge) / sizeof(*edge); e++) {
			struct figures some = figures_of(ask, edge[e], edge[e + 1]);
			snprintf(name, sizeof(name), "  period over fastest %.1f up", edge[e]);
			row(name, &some);
		}
		if (ask != BY_RATE)
			continue;
		snprintf(name, sizeof(name), "at a rate: at most %.1f %% of tokens are late", 100 * LATE_MOST);
		check(late_share(&all) <= LATE_MOST, name);
		snprintf(name, sizeof(name), "at a rate: power is at most %.2f of the oracle's, in the mean",
			 POWER_MOST);
		check(all.mean <= POWER_MOST, name);
	}
	size_t unclean = 0;
	for (size_t i = 0; i < runs; i++)
		unclean += !results[i].clean;
	check(unclean == 0, "the daemon ends with 0");
}

/* For tools/bench. */
static void print_figures(void)
{
	struct figures rate = figures_of(BY_RATE, 0, INFINITY), each = figures_of(BY_DEADLINE, 0, INFINITY);

	printf("stream_late_percent=%.3f %%\nstream_power_mean=%.3f x\nstream_power_p90=%.3f "
	       "x\nstream_power_worst=%.3f x\n"
	       "stream_by_deadline_power_mean=%.3f x\n",
	       100 * late_share(&rate), rate.mean, rate.p90, rate.worst, each.mean);
}

int main(int argc, char **argv)
{
	bool figures = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seed") && argv[i + 1]) {
			seed = strtoull(argv[++i], NULL, 10);
		} else if (!strcmp(argv[i], "--runs") && argv[i + 1]) {
			runs = strtoul(argv[++i], NULL, 10);
		} else if (!strcmp(argv[i], "--list")) {
			list = true;
		} else if (!strcmp(argv[i], "--figures")) {
			figures = true;
		} else {
			fprintf(stderr, "streams: %s: no such option, or no value\n", argv[i]);
			return 2;
		}
	}
	if (!runs || runs > RUNS_MAX) {
		fprintf(stderr, "streams: --runs takes a number from 1 to %d\n", RUNS_MAX);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	results = mmap(NULL, RUNS_MAX * sizeof(*results), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (results == MAP_FAILED)
		return 1;
	if (!on_every_processor(runs, play_job))
		check(false, "a worker ends with 0");
	if (figures) {
		print_figures();
		return failures != 0;
	}
	report();
	printf("1..%d\n", number);
	return failures != 0;
}
