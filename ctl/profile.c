/* SPDX-License-Identifier: MIT */
/* flamectl profile: measure a model with a program, or watch it being
 * measured. */
#include "ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/units.h"
#include "child.h"
#include "../lib/flamed.h"
#include "installation.h"
#include "json.h"
#include "table.h"

#define REFRESH_NS 300000000ULL
#define GRACE_NS   3000000000ULL /* time for the program to exit by itself after the last measurement */
#define BAR_CELLS  16
#define IDLE_RUNS  2 /* give up after this many runs without a measurement */

/* "1344/510/2133" for profile i. */
static char *point_text(const struct ctl *ctl, size_t i, char *out, size_t size)
{
	char prefix[40];

	snprintf(prefix, sizeof(prefix), "profile.%zu.", i);
	return ctl_point(ctl, prefix, out, size);
}

void print_profiles(const struct ctl *ctl)
{
	static const char *const titles[] = {"?>ID",  "MODEL", ">STEP", "CPU/GPU/MEM MHz", ">LAST", ">BOUND",
					     ">BUYS", "",      NULL};
	char point[64], last[32];
	struct table table;

	table_init(&table, titles);
	for (size_t i = 0; *ctl_text(ctl, "profile.%zu.id", i); i++) {
		table_add(&table, NULL, "%s", ctl_text(ctl, "profile.%zu.id", i));
		table_add(&table, SGR_BOLD, "%s", ctl_text(ctl, "profile.%zu.model", i));
		table_add(&table, NULL, "%s of %s", ctl_text(ctl, "profile.%zu.step", i),
			  ctl_text(ctl, "profile.%zu.budget", i));
		table_add(&table, NULL, "%s", point_text(ctl, i, point, sizeof(point)));
		table_add(&table, NULL, "%s",
			  format_duration(last, sizeof(last), ctl_u64(ctl, "profile.%zu.latency_ns", i)));
		table_add(&table, NULL, "+%.1f %%", (double)ctl_u64(ctl, "profile.%zu.bound_permille", i) / 10);
		table_add(&table, NULL, "%.1f %%", (double)ctl_u64(ctl, "profile.%zu.gain_permille", i) / 10);
		table_add(&table, SGR_YELLOW, "%s",
			  ctl_u64(ctl, "profile.%zu.paused", i) ? "paused by a deadline" : "");
	}
	table_print(&table, ctl, 2);
}

/* One line on one profile: bar, step, operating point, latency, mean bound, and how much the point is expected to
 * reduce that. */
static void print_progress(const struct ctl *ctl, size_t i)
{
	uint64_t step = ctl_u64(ctl, "profile.%zu.step", i), budget = ctl_u64(ctl, "profile.%zu.budget", i);
	char point[64], last[32];

	printf("%s%-16s%s ", sgr(ctl, SGR_BOLD), ctl_text(ctl, "profile.%zu.model", i), sgr(ctl, SGR_OFF));
	for (uint64_t c = 0; c < BAR_CELLS; c++) {
		bool full = budget && step * BAR_CELLS > c * budget;

		fputs(ctl->utf8 ? (full ? "\u2588" : "\u2591") : (full ? "#" : "."), stdout);
	}
	printf(" %llu/%llu  %s MHz", (unsigned long long)step, (unsigned long long)budget,
	       point_text(ctl, i, point, sizeof(point)));
	if (ctl_u64(ctl, "profile.%zu.latency_ns", i))
		printf("  last %s", format_duration(last, sizeof(last), ctl_u64(ctl, "profile.%zu.latency_ns", i)));
	printf("  bound +%.1f %%", (double)ctl_u64(ctl, "profile.%zu.bound_permille", i) / 10);
	if (ctl_u64(ctl, "profile.%zu.gain_permille", i))
		printf(", this point: -%.1f %%", (double)ctl_u64(ctl, "profile.%zu.gain_permille", i) / 10);
	if (ctl_u64(ctl, "profile.%zu.paused", i))
		printf("  %spaused by a deadline%s", sgr(ctl, SGR_YELLOW), sgr(ctl, SGR_OFF));
}

/* Last progress printed: a file gets one line for each step, a terminal one line that is rewritten. */
struct progress {
	bool terminal;
	uint64_t shown_step, shown_id;
	bool any;
};

static int show_progress(struct ctl *ctl, struct progress *progress, const char *model, bool *running)
{
	*running = false;
	if (ctl_ask(ctl, "status") < 0)
		return -EIO;
	for (size_t i = 0; *ctl_text(ctl, "profile.%zu.id", i); i++) {
		uint64_t step = ctl_u64(ctl, "profile.%zu.step", i), id = ctl_u64(ctl, "profile.%zu.id", i);

		if (model && strcmp(model, ctl_text(ctl, "profile.%zu.model", i)) != 0)
			continue;
		*running = true;
		if (!progress->terminal && progress->any && step == progress->shown_step && id == progress->shown_id)
			continue;
		printf("%s", progress->terminal ? "\r\033[K" : "");
		print_progress(ctl, i);
		printf("%s", progress->terminal ? "" : "\n");
		progress->shown_step = step;
		progress->shown_id = id;
		progress->any = true;
		if (progress->terminal)
			break; /* only one line, the first that fits */
	}
	fflush(stdout);
	return 0;
}

/* State and number of samples of a model; "" when it is not known. */
static int model_state(struct ctl *ctl, const char *model, char state[16], uint64_t *samples)
{
	size_t i;
	int rc = ctl_find_model(ctl, model, &i);

	snprintf(state, 16, "%s", rc > 0 ? ctl_text(ctl, "model.%zu.state", i) : "");
	*samples = rc > 0 ? ctl_u64(ctl, "model.%zu.samples", i) : 0;
	return rc < 0 ? rc : 0;
}

/* Print the state of the model at the end. Returns the exit status. */
static int conclude(struct ctl *ctl, const struct progress *progress, const char *model)
{
	char state[16];
	uint64_t samples;

	if (progress->terminal && progress->any)
		printf("\n");
	if (model_state(ctl, model, state, &samples) < 0)
		return 1;
	if (ctl->json)
		return json_reply(stdout, &ctl->wire.reply) < 0;
	if (!*state)
		printf("%s: nothing was measured.\n", model);
	else
		printf("%s: %s, %llu operating points measured. To draw the surface: flamectl surface %s\n", model,
		       state, (unsigned long long)samples, model);
	return *state && strcmp(state, "none") != 0 ? 0 : 1;
}

static int watch(struct ctl *ctl, const char *model)
{
	struct progress progress = {.terminal = isatty(STDOUT_FILENO)};
	bool running;

	if (ctl->json) {
		if (ctl_ask(ctl, "status") < 0)
			return 1;
		return json_reply(stdout, &ctl->wire.reply) < 0;
	}
	for (;;) {
		if (show_progress(ctl, &progress, model, &running) < 0)
			return 1;
		if (!running)
			break;
		clock_sleep_ns(REFRESH_NS);
	}
	if (model)
		return conclude(ctl, &progress, model);
	printf(progress.any ? "\nDone.\n" : "No profile is running. Start one: flamectl profile MODEL -- COMMAND...\n");
	return 0;
}

/* Run the program once in flamed's environment and show its measurements. Terminate it when none
 * are left. Returns 0 to continue, 1 when done or interrupted, or a negative errno. */
static int profile_run(struct ctl *ctl, struct progress *progress, char **argv, const struct child_setup *setup)
{
	bool running = false, was_running = false, interrupted = false, ended = false;
	uint64_t done_ns = 0;
	pid_t pid = child_start(ctl, argv, setup);
	int status, rc = 0;

	if (pid < 0)
		return pid;
	while (child_wait(pid, REFRESH_NS, &status, &interrupted) == 0) {
		if (rc == 0 && !ctl->json)
			rc = show_progress(ctl, progress, setup->model, &running);
		was_running = was_running || running;
		if (was_running && !running && done_ns == 0)
			done_ns = clock_now_ns();
		if (!ended && done_ns && clock_now_ns() - done_ns > GRACE_NS) {
			/* The measurements are complete, and the program may never exit by itself. */
			kill(pid, SIGTERM);
			ended = true;
		}
	}
	if (interrupted)
		return 1;
	if (!ended && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
		ctl_error(ctl, "%s %s %d; its measurements are kept", argv[0],
			  WIFEXITED(status) ? "failed with status" : "was killed by signal",
			  WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		return -ECHILD;
	}
	return rc < 0 ? rc : ended;
}

/* Repeat until the surface is ready, the budget is used up, or runs yield no more measurements. */
static int profile_with(struct ctl *ctl, const char *model, uint64_t budget, bool cupti, char **argv)
{
	struct progress progress = {.terminal = isatty(STDOUT_FILENO) && !ctl->json};
	struct child_setup setup = {.model = model, .quiet = true, .profile = true, .cupti = cupti};
	uint64_t samples, before = 0, first = 0;
	char state[16];
	int idle = 0, rc = 0;

	if (model_state(ctl, model, state, &samples) < 0)
		return 1;
	first = samples;
	for (bool again = true; again && rc == 0;) {
		setup.budget = budget ? budget - (samples - first) : 0;
		before = samples;
		rc = profile_run(ctl, &progress, argv, &setup);
		if (model_state(ctl, model, state, &samples) < 0)
			return 1;
		idle = samples > before ? 0 : idle + 1;
		again = strcmp(state, "ready") != 0 && idle < IDLE_RUNS && (budget == 0 || samples - first < budget);
	}
	if (samples == 0)
		ctl_error(ctl,
			  "no inference of %s was seen. It must use libflamed, or an API that one of flamed's layers "
			  "intercepts "
			  "(flamectl verify lists them); or measure whole runs of it with --time",
			  argv[0]);
	return conclude(ctl, &progress, model) || rc < 0;
}

struct timed {
	const struct ctl *ctl;
	char **argv;
	const struct child_setup *setup;
	uint32_t step; /* announced last */
};

/* Run the program once, as one inference. */
static int infer_by_running(void *arg, const struct flamed_point *point)
{
	struct timed *timed = arg;
	bool interrupted = false;
	int status;
	pid_t pid;

	if (!timed->ctl->json && point->step != timed->step)
		printf("step %u of %u  %.0f/%.0f/%.0f MHz, %u runs, expected to reduce the mean bound by %.1f %%\n",
		       point->step + 1, point->budget, (double)point->cpu_hz / 1e6, (double)point->gpu_hz / 1e6,
		       (double)point->mem_hz / 1e6, point->repeat, point->gain_permille / 10.0);
	timed->step = point->step;
	pid = child_start(timed->ctl, timed->argv, timed->setup);
	if (pid < 0)
		return pid;
	while (child_wait(pid, 3600 * NS_PER_S, &status, &interrupted) == 0)
		;
	return interrupted ? -EINTR : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

static int profile_timed(struct ctl *ctl, const char *model, uint64_t budget, char **argv)
{
	const struct child_setup setup = {.model = model, .quiet = true};
	struct timed timed = {.ctl = ctl, .argv = argv, .setup = &setup, .step = UINT32_MAX};
	struct progress progress = {0};
	struct flamed *flamed;
	int rc;

	if (ctl_connect(ctl) < 0 || flamed_open(&flamed, ctl->socket) < 0)
		return 1;
	rc = flamed_profile(flamed, model, NULL, 0, (uint32_t)budget, infer_by_running, &timed);
	flamed_close(flamed);
	if (rc == -ECHILD)
		ctl_error(ctl, "%s failed; its measurements are kept", argv[0]);
	else if (rc < 0)
		ctl_error(ctl, "profiling ended early: %s", strerror(-rc));
	return conclude(ctl, &progress, model) || rc < 0;
}

int cmd_profile(struct ctl *ctl, int argc, char **argv)
{
	const char *budget_text = NULL, *config = SYSCONFDIR "/flamed.conf";
	bool timed = false, background = false, cupti = false;
	const struct ctl_option options[] = {{"--budget", &budget_text, NULL},
					     {"--time", NULL, &timed},
					     {"--background", NULL, &background},
					     {"--cupti", NULL, &cupti},
					     {"--config", &config, NULL}};
	uint64_t budget = 0;
	int count, rest;

	if (ctl_options(ctl, options, 5, argc, argv, &count, &rest))
		return 2;
	if (count > 2)
		return ctl_usage(ctl, "unexpected argument: %s; COMMAND follows --", argv[2]);
	if (count == 2 && ctl_want_model(ctl, argv[1]))
		return 2;
	if (cupti && (timed || background || rest >= argc))
		return ctl_usage(ctl, "--cupti needs MODEL -- COMMAND..., without --time and --background");
	if (background)
		return count == 2 && rest >= argc ?
			       profile_in_background(ctl, config, argv[1]) :
			       ctl_usage(ctl, "--background needs a MODEL; its command is configured in %s", config);
	if (budget_text && (parse_u64(budget_text, &budget) < 0 || budget == 0 || budget > GRID_POINTS_MAX))
		return ctl_usage(ctl, "--budget takes a number of operating points from 1 to %d, not \"%s\"",
				 GRID_POINTS_MAX, budget_text);
	if (rest >= argc)
		return budget_text || timed ?
			       ctl_usage(ctl, "COMMAND is missing: flamectl profile MODEL -- COMMAND...") :
			       watch(ctl, count == 2 ? argv[1] : NULL);
	if (count != 2)
		return ctl_usage(ctl, "MODEL is missing: flamectl profile MODEL -- COMMAND...");
	return timed ? profile_timed(ctl, argv[1], budget, argv + rest) :
		       profile_with(ctl, argv[1], budget, cupti, argv + rest);
}
