/* SPDX-License-Identifier: MIT */
/* flamectl status, models and release. */
#include "ctl.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/point.h"
#include "../common/units.h"
#include "json.h"
#include "table.h"

#define GAUGE_CELLS 12

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

/* Position of a clock between its minimum and maximum, as a bar. */
static void gauge(const struct ctl *ctl, uint64_t cur, uint64_t min, uint64_t max, char *out, size_t size)
{
	double share = max > min && cur > min ? (double)(cur - min) / (double)(max - min) : 0;
	int full = (int)(share * GAUGE_CELLS + 0.5);
	size_t len = 0;

	*out = '\0';
	if (cur == 0 || max <= min)
		return;
	full = full > GAUGE_CELLS ? GAUGE_CELLS : full;
	for (int i = 0; i < GAUGE_CELLS; i++)
		len += (size_t)snprintf(out + len, size - len, "%s",
					ctl->utf8 ? (i < full ? "\u2588" : "\u2591") : (i < full ? "#" : "."));
}

static const char *owner_colour(const char *owner)
{
	if (strcmp(owner, "flamed") == 0)
		return SGR_GREEN;
	return strcmp(owner, "foreign") == 0 ? SGR_YELLOW : NULL;
}

static void print_clocks(const struct ctl *ctl)
{
	static const char *const titles[] = {"CLOCK",    "OWNER",   ">NOW", "?>MIN", "?",        "?MAX",
					     ">CEILING", "?>STEPS", "?HOW", "STATE", "?DEVICES", NULL};
	char cur[32], min[32], max[32], ceiling[32], bar[GAUGE_CELLS * 4 + 1];
	struct table table;

	table_init(&table, titles);
	for (int c = 0; c < CLOCK_COUNT; c++) {
		const char *name = clock_name((enum clock_id)c), *state = ctl_text(ctl, "clock.%s.state", name);
		const char *owner = ctl_text(ctl, "clock.%s.owner", name);
		bool controllable = ctl_u64(ctl, "clock.%s.controllable", name) != 0;
		uint64_t cur_hz = ctl_u64(ctl, "clock.%s.cur_hz", name),
			 ceiling_hz = ctl_u64(ctl, "clock.%s.ceiling_hz", name);
		uint64_t min_hz = ctl_u64(ctl, "clock.%s.min_hz", name), max_hz = ctl_u64(ctl, "clock.%s.max_hz", name);

		gauge(ctl, cur_hz, min_hz, max_hz, bar, sizeof(bar));
		table_add(&table, SGR_BOLD, "%s", name);
		table_add(&table, owner_colour(owner), "%s", owner);
		table_add(&table, SGR_BOLD, "%s", format_frequency(cur, sizeof(cur), cur_hz));
		table_add(&table, NULL, "%s", min_hz ? format_frequency(min, sizeof(min), min_hz) : "");
		table_add(&table, SGR_CYAN, "%s", bar);
		table_add(&table, NULL, "%s", max_hz ? format_frequency(max, sizeof(max), max_hz) : "");
		table_add(&table, SGR_YELLOW, "%s",
			  ceiling_hz && ceiling_hz < max_hz ? format_frequency(ceiling, sizeof(ceiling), ceiling_hz) :
							      "");
		table_add(&table, NULL, "%s", controllable ? ctl_text(ctl, "clock.%s.steps", name) : "");
		table_add(&table, controllable ? NULL : SGR_DIM, "%s",
			  controllable ? ctl_text(ctl, "clock.%s.method", name) : "not controlled");
		table_add(&table, SGR_RED, "%s", controllable && strcmp(state, "ok") != 0 ? state : "");
		table_add(&table, NULL, "%s", ctl_text(ctl, "clock.%s.devices", name));
	}
	table_print(&table, ctl, 2);
}

static void heading(const struct ctl *ctl, const char *text)
{
	printf("\n%s%s%s\n", sgr(ctl, SGR_BOLD), text, sgr(ctl, SGR_OFF));
}

/* The result of each session with a stream, measured against its schedule. */
static void print_streams(const struct ctl *ctl, size_t sessions)
{
	static const char *const titles[] = {">ID",  ">RATE", ">REACHED", ">LATE", ">FIRST",
					     ">P99", ">DUE",  ">ENERGY",  NULL};
	struct table table;
	char text[32];
	size_t rows = 0;

	table_init(&table, titles);
	for (size_t i = 0; i < sessions; i++) {
		uint64_t rate_mhz = ctl_u64(ctl, "session.%zu.rate_mhz", i), late = ctl_u64(ctl, "session.%zu.late", i);
		uint64_t ended = ctl_u64(ctl, "session.%zu.scheduled", i),
			 starts = ctl_u64(ctl, "session.%zu.starts", i);

		if (!rate_mhz)
			continue;
		rows++;
		table_add(&table, NULL, "%s", ctl_text(ctl, "session.%zu.id", i));
		table_add(&table, SGR_BOLD, "%s", format_rate(text, sizeof(text), rate_mhz));
		table_add(&table, NULL, "%s",
			  format_rate(text, sizeof(text), ctl_u64(ctl, "session.%zu.reached_mhz", i)));
		table_add(&table, late ? SGR_YELLOW : SGR_GREEN, "%llu of %llu", (unsigned long long)late,
			  (unsigned long long)ended);
		table_add(&table, NULL, "%s",
			  starts ? format_duration(text, sizeof(text), ctl_u64(ctl, "session.%zu.first_median_ns", i)) :
				   "-");
		table_add(&table, NULL, "%s",
			  starts ? format_duration(text, sizeof(text), ctl_u64(ctl, "session.%zu.first_p99_ns", i)) :
				   "-");
		table_add(&table, NULL, "%s",
			  format_duration(text, sizeof(text), ctl_u64(ctl, "session.%zu.first_ns", i)));
		table_add(&table, NULL, "%s",
			  format_energy(text, sizeof(text), ctl_u64(ctl, "session.%zu.energy_uj", i)));
	}
	if (rows) {
		heading(ctl, "Streams");
		table_print(&table, ctl, 2);
	} else {
		free(table.cell);
	}
}

static void print_sessions(const struct ctl *ctl)
{
	static const char *const titles[] = {">ID",       "MODEL",     "?PHASE",  "?>CONTEXT",
					     ">DEADLINE", ">REQUESTS", ">HIT",    "?>MEAN",
					     "?>P99",     "?>POWER",   ">ENERGY", "CPU/GPU/MEM MHz",
					     "?SURFACE",  "?>PID",     NULL};
	char text[32], prefix[40], point[64];
	struct table table;
	size_t i;

	table_init(&table, titles);
	for (i = 0; *ctl_text(ctl, "session.%zu.id", i); i++) {
		uint64_t requests = ctl_u64(ctl, "session.%zu.requests", i),
			 missed = ctl_u64(ctl, "session.%zu.missed", i);
		double hit = requests ? 100.0 * (double)(requests - missed) / (double)requests : 0;
		const char *surface = ctl_text(ctl, "session.%zu.surface", i),
			   *phase = ctl_text(ctl, "session.%zu.phase", i);

		table_add(&table, NULL, "%s", ctl_text(ctl, "session.%zu.id", i));
		table_add(&table, SGR_BOLD, "%s", ctl_text(ctl, "session.%zu.model", i));
		table_add(&table, NULL, "%s", strcmp(phase, "run") ? phase : "");
		table_add(&table, NULL, "%s", strcmp(phase, "run") ? ctl_text(ctl, "session.%zu.context", i) : "");
		table_add(&table, NULL, "%s",
			  format_duration(text, sizeof(text), ctl_u64(ctl, "session.%zu.deadline_ns", i)));
		table_add(&table, NULL, "%llu", (unsigned long long)requests);
		if (requests)
			table_add(&table,
				  hit >= 99.5 ? SGR_GREEN :
				  hit >= 98   ? SGR_YELLOW :
						SGR_RED,
				  "%.*f %%", missed ? 2 : 0, hit);
		else
			table_add(&table, NULL, "-");
		table_add(&table, NULL, "%s",
			  format_duration(text, sizeof(text), ctl_u64(ctl, "session.%zu.mean_ns", i)));
		table_add(&table, NULL, "%s",
			  format_duration(text, sizeof(text), ctl_u64(ctl, "session.%zu.p99_ns", i)));
		table_add(&table, NULL, "%s",
			  format_power(text, sizeof(text), ctl_u64(ctl, "session.%zu.power_uw", i)));
		table_add(&table, NULL, "%s",
			  format_energy(text, sizeof(text), ctl_u64(ctl, "session.%zu.energy_uj", i)));
		snprintf(prefix, sizeof(prefix), "session.%zu.", i);
		table_add(&table, NULL, "%s", ctl_point(ctl, prefix, point, sizeof(point)));
		table_add(&table, strcmp(surface, "ready") ? SGR_YELLOW : SGR_GREEN, "%s", surface);
		table_add(&table, SGR_DIM, "%s", ctl_text(ctl, "session.%zu.pid", i));
	}
	if (i == 0) {
		printf("  %snone: the kernel governs the clocks%s\n", sgr(ctl, SGR_DIM), sgr(ctl, SGR_OFF));
		free(table.cell);
		return;
	}
	table_print(&table, ctl, 2);
	if (ctl_u64(ctl, "more"))
		printf("  and %s more\n", ctl_text(ctl, "more"));
	print_streams(ctl, i);
}

static void print_sensors(const struct ctl *ctl)
{
	char power[32];

	if (*ctl_text(ctl, "power.sensor"))
		printf("  power        %s%s%s  (%s)\n", sgr(ctl, SGR_BOLD),
		       format_power(power, sizeof(power), ctl_u64(ctl, "power.uw")), sgr(ctl, SGR_OFF),
		       ctl_text(ctl, "power.sensor"));
	if (*ctl_text(ctl, "temperature.zone"))
		printf("  temperature  %s%.1f \u00b0C%s  (%s, the hottest)\n", sgr(ctl, SGR_BOLD),
		       strtod(ctl_text(ctl, "temperature.millidegree_c"), NULL) / 1e3, sgr(ctl, SGR_OFF),
		       ctl_text(ctl, "temperature.zone"));
}

static void print_keeper(const struct ctl *ctl)
{
	const char *state = ctl_text(ctl, "keeper.state"), *text = ctl_text(ctl, "keeper.text");
	uint64_t knobs = ctl_u64(ctl, "keeper.journal_knobs"), journal_errno = ctl_u64(ctl, "keeper.journal_errno");

	printf("  keeper       %s%s%s", sgr(ctl, strcmp(state, "running") ? SGR_RED : SGR_GREEN), state,
	       sgr(ctl, SGR_OFF));
	if (ctl_u64(ctl, "keeper.pid"))
		printf(", pid %s", ctl_text(ctl, "keeper.pid"));
	if (journal_errno)
		printf(", %sthe journal cannot be written: %s; no knob is written%s", sgr(ctl, SGR_RED),
		       strerror((int)journal_errno), sgr(ctl, SGR_OFF));
	else if (knobs)
		printf(", journal contains the original values of %llu knobs", (unsigned long long)knobs);
	else
		printf(", journal empty");
	printf("\n");
	if (*text)
		printf("               %s\n", text);
}

/* List the clocks and sensors that were not found, each with the reason. */
static void print_missing(const struct ctl *ctl)
{
	bool any = false;

	for (int c = 0; c <= CLOCK_COUNT; c++) {
		const char *name = c < CLOCK_COUNT ? clock_name((enum clock_id)c) : "power";
		const char *why =
			c < CLOCK_COUNT ? ctl_text(ctl, "clock.%s.why_not", name) : ctl_text(ctl, "power.why_not");

		if (!*why)
			continue;
		if (!any)
			heading(ctl, "Not found");
		any = true;
		printf("  %s%-11s%s  %s\n", sgr(ctl, SGR_YELLOW), name, sgr(ctl, SGR_OFF), why);
	}
	if (*ctl_text(ctl, "board.other_owners"))
		printf("\n%sOther programs that set clocks: %s.%s flamed leaves the knobs that they write alone.\n",
		       sgr(ctl, SGR_YELLOW), ctl_text(ctl, "board.other_owners"), sgr(ctl, SGR_OFF));
}

static void print_head(const struct ctl *ctl)
{
	const char *state = ctl_text(ctl, "state"), *reason = ctl_text(ctl, "state_reason"), *colour = SGR_GREEN;
	char uptime[32];

	if (strcmp(state, "degraded") == 0)
		colour = SGR_RED;
	else if (strcmp(state, "busy") != 0)
		colour = SGR_CYAN;
	printf("%s%s%s", sgr(ctl, SGR_BOLD),
	       *ctl_text(ctl, "board.name") ? ctl_text(ctl, "board.name") : "unknown board", sgr(ctl, SGR_OFF));
	if (*ctl_text(ctl, "board.power_mode"))
		printf(", power mode %s", ctl_text(ctl, "board.power_mode"));
	if (*ctl_text(ctl, "board.file"))
		printf("  %s(%s)%s", sgr(ctl, SGR_DIM), ctl_text(ctl, "board.file"), sgr(ctl, SGR_OFF));
	printf("\n%s%s %s%s%s%s", sgr(ctl, colour), ctl->utf8 ? "\u25cf" : "*", state, sgr(ctl, SGR_OFF),
	       *reason ? ": " : "", reason);
	printf("  %sflamed %s, up %s, connections %s, requests in flight %s%s\n\n", sgr(ctl, SGR_DIM),
	       ctl_text(ctl, "version"), format_duration(uptime, sizeof(uptime), ctl_u64(ctl, "uptime_ns")),
	       ctl_text(ctl, "connections"), ctl_text(ctl, "requests"), sgr(ctl, SGR_OFF));
}

static void print_status(const struct ctl *ctl)
{
	print_head(ctl);
	print_clocks(ctl);
	printf("\n");
	print_sensors(ctl);
	print_keeper(ctl);
	heading(ctl, "Sessions");
	print_sessions(ctl);
	if (*ctl_text(ctl, "profile.0.id")) {
		heading(ctl, "Profiles");
		print_profiles(ctl);
	}
	print_missing(ctl);
}

static int status_once(struct ctl *ctl)
{
	int rc = ctl_ask(ctl, "status");

	if (rc < 0)
		return 1;
	if (ctl->json)
		return json_reply(stdout, &ctl->wire.reply) < 0;
	print_status(ctl);
	return 0;
}

/* Redraw in place once each period. Each frame is written with one call to avoid flicker. */
static int status_watch(struct ctl *ctl, uint64_t period_ns)
{
	struct sigaction action = {.sa_handler = stop};
	bool terminal = isatty(STDOUT_FILENO) && !ctl->json;
	static char frame[256 * 1024];
	int rc = 0;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	setvbuf(stdout, frame, _IOFBF, sizeof(frame));
	if (terminal)
		printf("\033[?1049h\033[?25l");
	while (rc == 0 && !stopped) {
		struct timespec pause = {(time_t)(period_ns / NS_PER_S), (long)(period_ns % NS_PER_S)};

		if (terminal)
			printf("\033[H\033[2J");
		rc = status_once(ctl);
		fflush(stdout);
		if (rc == 0 && !stopped)
			nanosleep(&pause, NULL);
	}
	if (terminal)
		printf("\033[?25h\033[?1049l");
	fflush(stdout);
	setvbuf(stdout, NULL, _IOLBF, 0);
	return rc;
}

int cmd_status(struct ctl *ctl, int argc, char **argv)
{
	uint64_t period_ns = NS_PER_S;
	bool watch = false;
	const struct ctl_option options[] = {{"--watch", NULL, &watch}};
	int count, rest;

	if (ctl_options(ctl, options, 1, argc, argv, &count, &rest))
		return 2;
	if (watch && count == 2) { /* a plain number is in seconds */
		char text[40];

		snprintf(text, sizeof(text), "%s%s", argv[1],
			 strspn(argv[1], "0123456789.") == strlen(argv[1]) ? "s" : "");
		if (parse_duration_ns(text, &period_ns) < 0 || period_ns < 50 * NS_PER_MS)
			return ctl_usage(ctl, "--watch takes a period of at least 0.05 seconds, not \"%s\"", argv[1]);
	} else if (count > 1) {
		return ctl_usage(ctl, "unexpected argument: %s", argv[1]);
	}
	return watch ? status_watch(ctl, period_ns) : status_once(ctl);
}

/* Returns how many there are in this reply. */
static size_t print_models(const struct ctl *ctl)
{
	static const char *const titles[] = {"MODEL",     "STATE",     "PHASES", ">SAMPLES",
					     ">REJECTED", ">CONTEXTS", "LAYERS", NULL};
	struct table table;
	size_t i;

	table_init(&table, titles);
	for (i = 0; *ctl_text(ctl, "model.%zu.name", i); i++) {
		const char *state = ctl_text(ctl, "model.%zu.state", i);

		table_add(&table, SGR_BOLD, "%s", ctl_text(ctl, "model.%zu.name", i));
		table_add(&table, strcmp(state, "ready") ? SGR_YELLOW : SGR_GREEN, "%s", state);
		table_add(&table, NULL, "%s", ctl_text(ctl, "model.%zu.phases", i));
		table_add(&table, NULL, "%s", ctl_text(ctl, "model.%zu.samples", i));
		table_add(&table, ctl_u64(ctl, "model.%zu.rejected", i) ? SGR_YELLOW : NULL, "%s",
			  ctl_text(ctl, "model.%zu.rejected", i));
		table_add(&table, NULL, "%s", ctl_text(ctl, "model.%zu.contexts", i));
		table_add(&table, NULL, "%s", ctl_u64(ctl, "model.%zu.layers", i) ? "known" : "");
	}
	if (i)
		table_print(&table, ctl, 0);
	free(table.cell);
	return i;
}

int cmd_models(struct ctl *ctl, int argc, char **argv)
{
	uint64_t from = 0;
	size_t shown = 0;
	bool other_versions = false;
	const struct ctl_option options[] = {{"--other-versions", NULL, &other_versions}};
	int count, rest;

	if (ctl_options(ctl, options, 1, argc, argv, &count, &rest))
		return 2;
	if (count == 3 && strcmp(argv[1], "import") == 0)
		return models_import(ctl, argv[2], other_versions);
	if (other_versions)
		return ctl_usage(ctl, "--other-versions belongs to import FILE");
	if (count > 1 && strcmp(argv[1], "export") == 0)
		return models_export(ctl, count - 2, argv + 2);
	if (count > 1)
		return ctl_usage(ctl, "export [MODEL...], or import FILE, not \"%s\"", argv[1]);
	do {
		if (ctl_ask_from(ctl, "models", from) < 0)
			return 1;
		if (ctl->json && json_reply(stdout, &ctl->wire.reply) < 0)
			return 1;
		if (!ctl->json)
			shown += print_models(ctl);
		from = ctl_u64(ctl, "next");
	} while (from);
	if (!ctl->json && !shown)
		printf("No model is known yet. A model is added by its first request: flamectl run --model NAME "
		       "--deadline 33ms -- COMMAND\n");
	return 0;
}

int cmd_release(struct ctl *ctl, int argc, char **argv)
{
	int count, rest;

	if (ctl_options(ctl, NULL, 0, argc, argv, &count, &rest))
		return 2;
	if (count > 1)
		return ctl_usage(ctl, "unexpected argument: %s", argv[1]);
	if (ctl_ask(ctl, "release") < 0)
		return 1;
	if (ctl->json)
		return json_reply(stdout, &ctl->wire.reply) < 0;
	printf("The kernel governs the clocks again, as flamed found them, until the next request begins.\n");
	return 0;
}
