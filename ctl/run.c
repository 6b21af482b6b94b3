/* SPDX-License-Identifier: MIT */
/* flamectl run: run a program under a deadline, and summarise the result. */
#include "ctl.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/file.h"
#include "../common/units.h"
#include "child.h"
#include "installation.h"
#include "json.h"
#include "layers.h"
#include "page.h"
#include "savings.h"

#define TAG_MAX  48
#define LAST_NS  (2 * NS_PER_S)  /* time for the program's last message to reach flamed, */
#define TRACE_NS (NS_PER_S / 2)  /* how often requests are fetched for --report: flamed keeps 256 */
#define POLL_NS  (5 * NS_PER_MS) /* polled at this interval */

#define LAYER_KEY 40 /* bytes of a name in the JSON summary, such as layer.0.launches */

#define NEEDED "It must use libflamed, or an API that one of flamed's layers intercepts"

/* The page that --report writes. */
struct report {
	const char *path; /* NULL: nothing */
	FILE *out;
	struct report_page *page;
};

/* Without messages: `run` works without a daemon too. A tally ends with its connection: after one reply that does not
 * come, all others are -ENOTCONN. */
static int ask_tally(struct ctl *ctl, const char *tag, bool shadow, struct report_page *page)
{
	struct kv_out out = {0};
	int rc;

	kv_add(&out, "op", "tally");
	kv_add(&out, "tag", "%s", tag);
	if (shadow)
		kv_add_u64(&out, "shadow", 1);
	if (page)
		kv_add_u64(&out, "trace", 1);
	rc = ctl_exchange(ctl, &out);
	kv_free(&out);
	if (rc == 0 && page)
		page_take(page, ctl);
	return rc;
}

/* The final figures, once flamed has handled the program's last message. */
static int ask_last_tally(struct ctl *ctl, const char *tag, struct report_page *page)
{
	uint64_t until_ns = clock_now_ns() + LAST_NS;
	int rc;

	while ((rc = ask_tally(ctl, tag, false, page)) == 0 && ctl_u64(ctl, "open") > 0 && clock_now_ns() < until_ns)
		clock_sleep_ns(POLL_NS);
	return rc;
}

static void summary_clocks(const struct ctl *ctl, uint64_t requests)
{
	char prefix[40], point[64];

	for (size_t i = 0; *ctl_text(ctl, "clock.%zu.requests", i); i++) {
		double share = 100.0 * (double)ctl_u64(ctl, "clock.%zu.requests", i) / (double)requests;

		snprintf(prefix, sizeof(prefix), "clock.%zu.", i);
		ctl_point(ctl, prefix, point, sizeof(point));
		if (strcmp(point, "-/-/-") == 0) {
			fprintf(stderr, "  clocks   none can be controlled here; run flamectl verify for the reason");
			break;
		}
		fprintf(stderr, "%s%s MHz %.0f %%", i ? ", " : "  clocks   cpu/gpu/mem ", point, share);
		if (i == 3) {
			fprintf(stderr, ", ...");
			break;
		}
	}
	if (*ctl_text(ctl, "clock.0.requests"))
		fprintf(stderr, "\n");
}

/* "14.9 tokens a second of 15.0, 2 late", and the times to the first token. */
static void summary_stream(const struct ctl *ctl)
{
	char text[4][32];

	fprintf(stderr, "  stream   %s of the requested %s, %llu of %llu late against the schedule\n",
		format_rate(text[0], sizeof(text[0]), ctl_u64(ctl, "stream.reached_mhz")),
		format_rate(text[1], sizeof(text[1]), ctl_u64(ctl, "stream.rate_mhz")),
		(unsigned long long)ctl_u64(ctl, "stream.late"), (unsigned long long)ctl_u64(ctl, "stream.scheduled"));
	if (ctl_u64(ctl, "stream.starts") == 0) {
		fprintf(stderr, "  first    no prompt was seen, and no time to the first token\n");
		return;
	}
	fprintf(stderr, "  first    %s median, %s 99th percentile of %llu starts, due after %s\n",
		format_duration(text[0], sizeof(text[0]), ctl_u64(ctl, "stream.first_median_ns")),
		format_duration(text[1], sizeof(text[1]), ctl_u64(ctl, "stream.first_p99_ns")),
		(unsigned long long)ctl_u64(ctl, "stream.starts"),
		format_duration(text[2], sizeof(text[2]), ctl_u64(ctl, "stream.first_ns")));
}

/* "vulkan saw 44 inferences in 3254 launches, opencl nothing", for the layers that the program
 * loaded. */
static void summary_layers(const struct layers_seen *seen)
{
	unsigned shown = 0;

	for (size_t i = 0; i < layers_count(); i++) {
		if (!seen->loaded[i])
			continue;
		fprintf(stderr, shown++ ? ", " : "  layers   ");
		if (seen->launches[i])
			fprintf(stderr, "%s saw %llu inferences in %llu launches", layers_name(i),
				(unsigned long long)seen->inferences[i], (unsigned long long)seen->launches[i]);
		else
			fprintf(stderr, "%s nothing", layers_name(i));
	}
	if (shown)
		fprintf(stderr, "\n");
}

/* Why a layer saw no inference; `why` is memory for it. */
static const char *why_nothing(const struct layers_seen *seen, size_t kind, char *why, size_t size)
{
	if (seen->loaded[kind])
		return seen->launches[kind] ? "was loaded, but found no repeating sequence: set FLAMED_BOUNDARY" :
					      "was loaded, but saw no launch";
	return layers_check(kind, why, size) == 0 ? "was not loaded by the program" : why;
}

/* No inference was seen: list the APIs that the program could use, and whether each is available. */
static void explain_nothing(const char *command, const struct layers_seen *seen)
{
	char why[512];

	fprintf(stderr, "flamectl run: no inference of %s was seen. " NEEDED ":\n", command);
	for (size_t i = 0; i < layers_count(); i++)
		fprintf(stderr, "  %-9s %s\n", layers_name(i), why_nothing(seen, i, why, sizeof(why)));
}

static const char *layer_key(char key[LAYER_KEY], size_t kind, const char *name)
{
	snprintf(key, LAYER_KEY, "layer.%zu.%s", kind, name);
	return key;
}

/* The reply and, unless the user's own FLAMED_SUMMARY received it (`seen` is NULL), what the layers saw; `nothing`:
 * no inference was seen, and it says why. */
static void json_summary(struct ctl *ctl, const struct layers_seen *seen, bool nothing)
{
	CLEANUP_MEM struct kv *layers = calloc(1, sizeof(*layers));
	struct kv *reply = &ctl->wire.reply;
	size_t line, count = reply->count;
	struct kv_out out = {0};
	char key[LAYER_KEY], why[512];

	if (nothing)
		kv_add(&out, "text", "no inference was seen. " NEEDED);
	for (size_t i = 0; seen && i < layers_count(); i++) {
		kv_add(&out, layer_key(key, i, "name"), "%s", layers_name(i));
		kv_add_u64(&out, layer_key(key, i, "loaded"), seen->loaded[i]);
		kv_add_u64(&out, layer_key(key, i, "inferences"), seen->inferences[i]);
		kv_add_u64(&out, layer_key(key, i, "launches"), seen->launches[i]);
		if (nothing)
			kv_add(&out, layer_key(key, i, "text"), "%s", why_nothing(seen, i, why, sizeof(why)));
	}
	kv_end(&out);
	if (layers && !out.error && kv_parse(out.data, out.len, layers, &line) == 0)
		for (size_t i = 0; i < layers->count && reply->count < KV_PAIRS_MAX; i++)
			reply->pair[reply->count++] = layers->pair[i];
	json_reply(stderr, reply);
	reply->count = count;
	kv_free(&out);
}

/* Requests too slow at any clocks, with the latency at the fastest point. */
static void summary_infeasible(const struct ctl *ctl, uint64_t deadline_ns, uint64_t requests)
{
	uint64_t infeasible = ctl_u64(ctl, "infeasible"), fastest_ns = ctl_u64(ctl, "fastest_ns");
	char text[2][32];

	if (!infeasible || !fastest_ns)
		return;
	format_duration(text[0], sizeof(text[0]), fastest_ns);
	if (deadline_ns && fastest_ns > deadline_ns)
		fprintf(stderr, "  deadline %s cannot be met: the fastest possible here is %s\n",
			format_duration(text[1], sizeof(text[1]), deadline_ns), text[0]);
	else
		fprintf(stderr, "  deadline not to be promised to %llu of %llu; the fastest possible here is %s\n",
			(unsigned long long)infeasible, (unsigned long long)requests, text[0]);
}

/* On stderr, as stdout belongs to the program. */
static void print_summary(const struct ctl *ctl, const char *model, uint64_t deadline_ns, const char *command,
			  const struct layers_seen *seen)
{
	uint64_t requests = ctl_u64(ctl, "requests"), missed = ctl_u64(ctl, "missed");
	char text[4][32];

	if (requests == 0) {
		explain_nothing(command, seen);
		return;
	}
	fprintf(stderr, "flamectl run: %s %s %s: %llu inferences, %llu %s (%.2f %%)\n", model,
		deadline_ns ? "under" : "at",
		deadline_ns ? format_duration(text[0], sizeof(text[0]), deadline_ns) :
			      format_rate(text[0], sizeof(text[0]), ctl_u64(ctl, "stream.rate_mhz")),
		(unsigned long long)requests, (unsigned long long)missed, deadline_ns ? "missed" : "late",
		100.0 * (double)missed / (double)requests);
	fprintf(stderr, "  latency  %s median, %s mean, %s 99th percentile, %s longest\n",
		format_duration(text[0], sizeof(text[0]), ctl_u64(ctl, "median_ns")),
		format_duration(text[1], sizeof(text[1]), ctl_u64(ctl, "mean_ns")),
		format_duration(text[2], sizeof(text[2]), ctl_u64(ctl, "p99_ns")),
		format_duration(text[3], sizeof(text[3]), ctl_u64(ctl, "max_ns")));
	if (ctl_u64(ctl, "stream.rate_mhz"))
		summary_stream(ctl);
	summary_infeasible(ctl, deadline_ns, requests);
	if (ctl_u64(ctl, "power_known"))
		fprintf(stderr, "  energy   %s per %s at %s, measured at %s while they ran\n",
			format_energy(text[0], sizeof(text[0]), ctl_u64(ctl, "energy_uj")),
			deadline_ns ? "inference" : "token",
			format_power(text[1], sizeof(text[1]), ctl_u64(ctl, "power_uw")),
			*ctl_text(ctl, "power_rail") ? ctl_text(ctl, "power_rail") : "the board's input");
	summary_clocks(ctl, requests);
	if (ctl_u64(ctl, "shadow.requests"))
		savings_line(ctl);
	summary_layers(seen);
}

/* Open the page before the program runs, so that an error is found at once: flamed records from here on. If flamed does
 * not answer any more, the program runs all the same. */
static int open_report(struct ctl *ctl, const char *tag, struct report *report)
{
	if (!report->path)
		return 0;
	report->out = fopen(report->path, "we");
	report->page = calloc(1, sizeof(*report->page));
	if (report->out && report->page) {
		(void)ask_tally(ctl, tag, false, report->page);
		return 0;
	}
	ctl_error(ctl, "--report %s: %s", report->path, strerror(errno));
	return -1;
}

static void close_report(struct ctl *ctl, struct report *report, const char *model, char **argv, bool answered)
{
	if (!report->path)
		return;
	int rc = answered ? page_write(report->page, ctl, model, argv, report->out) : -ENODATA;
	if (fclose(report->out) < 0 && rc == 0)
		rc = -errno;
	if (rc < 0)
		ctl_error(ctl, "--report %s: %s", report->path, strerror(-rc));
	free(report->page);
}

static int run_governed(struct ctl *ctl, char **argv, struct child_setup *setup, struct report *report)
{
	struct layers_seen seen = {0};
	char summary[64];
	int status, fd = getenv("FLAMED_SUMMARY") ? -1 : layers_open_summary(summary, sizeof(summary));
	pid_t pid;

	setup->summary = fd >= 0 ? summary : NULL;
	pid = child_start(ctl, argv, setup);
	if (pid < 0) {
		ctl_error(ctl, "cannot start %s: %s", argv[0], strerror(-pid));
		return 1;
	}
	while (child_wait(pid, report->page ? TRACE_NS : 3600 * NS_PER_S, &status, NULL) == 0)
		if (report->page)
			(void)ask_tally(ctl, setup->tag, false, report->page);
	if (fd >= 0)
		layers_read_summary(fd, &seen);
	int rc = ask_last_tally(ctl, setup->tag, report->page);
	bool answered = rc == 0;
	if (!answered)
		ctl_error(ctl, "flamed %s during the run: no summary",
			  rc == -ETIMEDOUT || rc == -ENOTCONN ? "did not answer" : "exited");
	else if (ctl->json)
		json_summary(ctl, fd >= 0 ? &seen : NULL, !setup->profile && ctl_u64(ctl, "requests") == 0);
	else if (!setup->profile || ctl_u64(ctl, "requests"))
		print_summary(ctl, setup->model, setup->deadline_ns, argv[0], &seen);
	close_report(ctl, report, setup->model, argv, answered);
	return child_exit(status);
}

/* Parse the deadline of each inference, or the schedule of a stream. Returns 0, or 2 after a usage
 * error. */
static int take_schedule(const struct ctl *ctl, struct child_setup *setup, const char *deadline, const char *rate,
			 const char *first)
{
	if (deadline && rate)
		return ctl_usage(
			ctl, "--deadline and --rate exclude each other: a deadline is for each inference, a rate for a "
			     "stream");
	if (first && !rate)
		return ctl_usage(ctl, "--ttft requires --rate, the tokens per second after the first one");
	if (!deadline && !rate && !setup->profile)
		return ctl_usage(
			ctl, "--deadline or --rate is missing, such as --deadline 33ms for one inference, or --rate "
			     "15/s for tokens");
	if (deadline && (parse_deadline_ns(deadline, &setup->deadline_ns) < 0 || setup->deadline_ns < DEADLINE_NS_MIN ||
			 setup->deadline_ns > DEADLINE_NS_MAX))
		return ctl_usage(
			ctl,
			"--deadline takes a duration from 1us to 1h, such as 33ms, or a rate, such as 30fps, not "
			"\"%s\"",
			deadline);
	if (rate &&
	    (parse_rate_mhz(rate, &setup->rate_mhz) < 0 || setup->rate_mhz == 0 || setup->rate_mhz > RATE_MHZ_MAX))
		return ctl_usage(ctl, "--rate takes a rate such as 15/s, 30fps or 60hz, not \"%s\"", rate);
	if (first && (parse_duration_ns(first, &setup->first_ns) < 0 || setup->first_ns < DEADLINE_NS_MIN ||
		      setup->first_ns > DEADLINE_NS_MAX))
		return ctl_usage(ctl, "--ttft takes a duration from 1us to 1h, such as 800ms, not \"%s\"", first);
	return 0;
}

int cmd_run(struct ctl *ctl, int argc, char **argv)
{
	struct child_setup setup = {0};
	const char *deadline = NULL, *rate = NULL, *first = NULL;
	struct report report = {0};
	bool shadow = false;
	const struct ctl_option options[] = {
		{"--model", &setup.model, NULL}, {"--deadline", &deadline, NULL},     {"--rate", &rate, NULL},
		{"--ttft", &first, NULL},        {"--profile", NULL, &setup.profile}, {"--shadow", NULL, &shadow},
		{"--report", &report.path, NULL}};
	char tag[TAG_MAX];
	int count, rest, rc;

	if (ctl_options(ctl, options, sizeof(options) / sizeof(*options), argc, argv, &count, &rest))
		return 2;
	if (count > 1)
		return ctl_usage(ctl, "unexpected argument: %s; COMMAND follows \"--\"", argv[1]);
	if (!setup.model)
		return ctl_usage(ctl, "--model NAME is missing");
	if (ctl_want_model(ctl, setup.model))
		return 2;
	if (shadow && setup.profile)
		return ctl_usage(ctl, "--shadow moves no clock, but --profile has to move them: give one of the two");
	rc = take_schedule(ctl, &setup, deadline, rate, first);
	if (rc)
		return rc;
	if (rest >= argc)
		return ctl_usage(ctl, "COMMAND is missing: flamectl run --model M --deadline 33ms -- COMMAND...");
	snprintf(tag, sizeof(tag), "run-%ld-%llx", (long)getpid(), (unsigned long long)clock_now_ns());
	setup.tag = tag;
	rc = wire_connect(&ctl->wire, ctl->socket);
	if (rc == 0)
		rc = ask_tally(ctl, tag, shadow, NULL);
	if (rc == 0)
		return open_report(ctl, tag, &report) < 0 ? 1 : run_governed(ctl, argv + rest, &setup, &report);
	ctl_error(ctl, "warning: cannot connect to flamed (%s: %s); %s runs without it", ctl->socket, strerror(-rc),
		  argv[rest]);
	wire_close(&ctl->wire);
	execvp(argv[rest], argv + rest);
	rc = errno;
	ctl_error(ctl, "%s: %s", argv[rest], strerror(rc));
	return rc == ENOENT ? 127 : 126;
}
