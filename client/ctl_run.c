/* SPDX-License-Identifier: MIT */
/* flamectl run: a program under a deadline, and what became of it. */
#include "ctl.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/units.h"
#include "child.h"
#include "json.h"

#define TAG_MAX 48
#define LAST_NS (2 * NS_PER_S)   /* for what the program said last to reach flamed, */
#define LOOK_NS (5 * NS_PER_MS)  /* ... looked at so often */

/* Quietly: it is no error of `run` that there is no daemon. */
static int ask_tally(struct ctl *ctl, const char *tag)
{
	struct kv_out out = { 0 };
	int rc;

	kv_add(&out, "op", "tally");
	kv_add(&out, "tag", "%s", tag);
	kv_end(&out);
	rc = wire_call(&ctl->wire, &out, CTL_TIMEOUT_NS);
	kv_free(&out);
	return rc;
}

/* Once flamed has heard all of it: what the program said last may still wait to be read. */
static int ask_last_tally(struct ctl *ctl, const char *tag)
{
	uint64_t until_ns = clock_now_ns() + LAST_NS;
	int rc;

	while ((rc = ask_tally(ctl, tag)) == 0 && ctl_u64(ctl, "open") > 0 && clock_now_ns() < until_ns)
		clock_sleep_ns(LOOK_NS);
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
			fprintf(stderr, "  clocks   none can be moved here; flamectl verify says why");
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

/* On stderr: stdout is the program's. */
static void print_summary(const struct ctl *ctl, const char *model, uint64_t deadline_ns, const char *command)
{
	uint64_t requests = ctl_u64(ctl, "requests"), missed = ctl_u64(ctl, "missed");
	char text[4][32];

	if (requests == 0) {
		fprintf(stderr, "flamectl run: no inference of %s was seen.\n", command);
		fprintf(stderr, "  It has to use libflamed, or OpenCL through the ICD loader with flamed's layer (%s).\n",
			access(PRIVLIBDIR "/libflamed-opencl.so", R_OK) == 0 ? "installed" : "not installed: " PRIVLIBDIR "/libflamed-opencl.so");
		return;
	}
	fprintf(stderr, "flamectl run: %s under %s: %llu inferences, %llu missed (%.2f %%)\n", model,
		format_duration(text[0], sizeof(text[0]), deadline_ns), (unsigned long long)requests, (unsigned long long)missed,
		100.0 * (double)missed / (double)requests);
	fprintf(stderr, "  latency  %s median, %s mean, %s 99th percentile, %s longest\n",
		format_duration(text[0], sizeof(text[0]), ctl_u64(ctl, "median_ns")), format_duration(text[1], sizeof(text[1]), ctl_u64(ctl, "mean_ns")),
		format_duration(text[2], sizeof(text[2]), ctl_u64(ctl, "p99_ns")), format_duration(text[3], sizeof(text[3]), ctl_u64(ctl, "max_ns")));
	if (ctl_u64(ctl, "power_known"))
		fprintf(stderr, "  energy   %s per inference at %s\n", format_energy(text[0], sizeof(text[0]), ctl_u64(ctl, "energy_uj")),
			format_power(text[1], sizeof(text[1]), ctl_u64(ctl, "power_uw")));
	summary_clocks(ctl, requests);
}

static int run_governed(struct ctl *ctl, char **argv, const struct child_setup *setup)
{
	int status;
	pid_t pid = child_start(ctl, argv, setup);

	if (pid < 0) {
		ctl_error(ctl, "cannot start %s: %s", argv[0], strerror(-pid));
		return 1;
	}
	while (child_wait(pid, 3600 * NS_PER_S, &status, NULL) == 0)
		;
	if (ask_last_tally(ctl, setup->tag) < 0)
		ctl_error(ctl, "flamed has gone meanwhile: no summary");
	else if (ctl->json)
		json_reply(stderr, &ctl->wire.reply);
	else if (!setup->profile || ctl_u64(ctl, "requests"))
		print_summary(ctl, setup->model, setup->deadline_ns, argv[0]);
	return child_exit(status);
}

int cmd_run(struct ctl *ctl, int argc, char **argv)
{
	struct child_setup setup = { 0 };
	const char *deadline = NULL;
	const struct ctl_option options[] = { { "--model", &setup.model, NULL },
					      { "--deadline", &deadline, NULL },
					      { "--profile", NULL, &setup.profile } };
	char tag[TAG_MAX];
	int count, rest, rc;

	if (ctl_options(ctl, options, 3, argc, argv, &count, &rest))
		return 2;
	if (count > 1)
		return ctl_usage(ctl, "\"%s\" means nothing here; the command goes behind --", argv[1]);
	if (!setup.model || !model_name_valid(setup.model))
		return ctl_usage(ctl, "--model wants a name of letters, digits, and . _ : - (64 at most)");
	if (!deadline && !setup.profile)
		return ctl_usage(ctl, "--deadline is missing: how long may one inference take? For example --deadline 33ms");
	if (deadline && (parse_duration_ns(deadline, &setup.deadline_ns) < 0 || setup.deadline_ns < DEADLINE_NS_MIN ||
			 setup.deadline_ns > DEADLINE_NS_MAX))
		return ctl_usage(ctl, "--deadline wants a duration from 1us to 1h, like 33ms, not \"%s\"", deadline);
	if (rest >= argc)
		return ctl_usage(ctl, "no command: flamectl run --model M --deadline 33ms -- COMMAND...");
	snprintf(tag, sizeof(tag), "run-%ld-%llx", (long)getpid(), (unsigned long long)clock_now_ns());
	setup.tag = tag;
	rc = wire_connect(&ctl->wire, ctl->socket);
	if (rc == 0)
		rc = ask_tally(ctl, tag);
	if (rc == 0)
		return run_governed(ctl, argv + rest, &setup);
	ctl_error(ctl, "warning: flamed cannot be asked (%s: %s); %s runs without it", ctl->socket, strerror(-rc), argv[rest]);
	wire_close(&ctl->wire);
	execvp(argv[rest], argv + rest);
	rc = errno;
	ctl_error(ctl, "%s: %s", argv[rest], strerror(rc));
	return rc == ENOENT ? 127 : 126;
}
