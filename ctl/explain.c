/* SPDX-License-Identifier: MIT */
/* flamectl explain: the last decision, in sentences. */
#include "ctl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/units.h"
#include "json.h"

static const char *duration(const struct ctl *ctl, const char *key)
{
	static char ring[4][32];
	static unsigned next;
	char *text = ring[next++ % 4];

	return format_duration(text, sizeof(ring[0]), ctl_u64(ctl, "%s", key));
}

/* Print the controlled clocks, like "cpu 1344 MHz, gpu 510 MHz". */
static void print_point(const struct ctl *ctl, const char *prefix)
{
	static const char *const clocks[] = {"cpu", "gpu", "mem"};
	const char *gap = "";

	for (size_t i = 0; i < 3; i++) {
		uint64_t hz = ctl_u64(ctl, "%s%s_hz", prefix, clocks[i]);
		char text[32];

		if (!hz)
			continue;
		printf("%s%s %s%s%s", gap, clocks[i], sgr(ctl, SGR_BOLD), format_frequency(text, sizeof(text), hz),
		       sgr(ctl, SGR_OFF));
		gap = ", ";
	}
}

static void print_power(const struct ctl *ctl, const char *prefix)
{
	const char *rail = ctl_text(ctl, "power_rail");
	char text[32];

	if (ctl_u64(ctl, "power_known"))
		printf(", drawing about %s%s%s", format_power(text, sizeof(text), ctl_u64(ctl, "%spower_uw", prefix)),
		       *prefix || !*rail ? "" : " while it runs, predicted for ", *prefix ? "" : rail);
}

/* Second column of the row that begins with `word`, or `word` itself. The table ends with NULL. */
static const char *translate(const char *const (*table)[2], const char *word)
{
	for (; (*table)[0]; table++)
		if (strcmp(word, (*table)[0]) == 0)
			return (*table)[1];
	return word;
}

static const char *source_text(const char *source)
{
	static const char *const texts[][2] = {
		{"envelope", "nothing was measured near this point, so the bound assumes that latency grows "
			     "in proportion to the clock that is slowest there"},
		{"fit", "the bound is the prediction times an upper quantile of past prediction errors"},
		{"neighbour", "the bound is the prediction, corrected by measurements at neighbouring points"},
		{"cell", "the bound is an upper quantile of the latencies measured at this point"},
		{NULL, NULL},
	};

	return translate(texts, source);
}

static void print_regime(const struct ctl *ctl)
{
	const char *regime = ctl_text(ctl, "regime");

	if (!*regime || strcmp(regime, "unknown") == 0)
		return;
	printf("There the model is %s", regime);
	if (ctl_u64(ctl, "bubble_ns"))
		printf("; the GPU is idle for %s of an inference", duration(ctl, "bubble_ns"));
	printf(".\n");
}

static void print_margin(const struct ctl *ctl)
{
	uint64_t predicted_ns = ctl_u64(ctl, "predicted_ns"), margin_ns = ctl_u64(ctl, "margin_ns");
	uint64_t needed_ns = ctl_u64(ctl, "bound_ns") + ctl_u64(ctl, "settle_ns"), slack_ns = ctl_u64(ctl, "slack_ns");
	double slowdown = strtod(ctl_text(ctl, "slowdown"), NULL);
	char spare[32];

	printf("Expected: %s, at most %s", duration(ctl, "predicted_ns"), duration(ctl, "bound_ns"));
	if (ctl_u64(ctl, "settle_ns"))
		printf(", and %s to set the clocks", duration(ctl, "settle_ns"));
	if (slack_ns > needed_ns)
		printf("; %s to spare", format_duration(spare, sizeof(spare), slack_ns - needed_ns));
	if (margin_ns && predicted_ns)
		printf(".\nThe margin of %s (%.0f %%): %s", duration(ctl, "margin_ns"),
		       100.0 * (double)margin_ns / (double)predicted_ns, source_text(ctl_text(ctl, "source")));
	else
		printf(".\nThe margin: %s", source_text(ctl_text(ctl, "source")));
	printf(".\n");
	if (fabs(slowdown - 1) > 0.005)
		printf("The board is %.0f %% %s now than when the model was measured.\n", 100 * fabs(slowdown - 1),
		       slowdown > 1 ? "slower" : "faster");
}

static void print_runner_up(const struct ctl *ctl)
{
	const char *refused = ctl_text(ctl, "runner_up.refused");
	uint64_t bound_ns = ctl_u64(ctl, "runner_up.bound_ns");

	if (!*refused) {
		printf("No cheaper point was considered.\n");
		return;
	}
	printf("The next cheaper point, ");
	print_point(ctl, "runner_up.");
	print_power(ctl, "runner_up.");
	printf(", was refused because %s", ctl_text(ctl, "runner_up.text"));
	if (bound_ns)
		printf(" (at most %s%s%s)", duration(ctl, "runner_up.bound_ns"),
		       ctl_u64(ctl, "runner_up.settle_ns") ? ", after a transition of " : "",
		       ctl_u64(ctl, "runner_up.settle_ns") ? duration(ctl, "runner_up.settle_ns") : "");
	printf(".\n");
	if (ctl_u64(ctl, "runner_up.deadline_ns") && ctl_u64(ctl, "power_uw") > ctl_u64(ctl, "runner_up.power_uw"))
		printf("A deadline of %s would save %.2f W.\n", duration(ctl, "runner_up.deadline_ns"),
		       1e-6 * (double)(ctl_u64(ctl, "power_uw") - ctl_u64(ctl, "runner_up.power_uw")));
}

/* Statistics of the stream so far. */
static void print_stream(const struct ctl *ctl)
{
	char text[2][32];

	if (!ctl_u64(ctl, "rate_mhz"))
		return;
	printf("Stream: %s reached of %s asked, %s of %s late against the schedule",
	       format_rate(text[0], sizeof(text[0]), ctl_u64(ctl, "stream.reached_mhz")),
	       format_rate(text[1], sizeof(text[1]), ctl_u64(ctl, "rate_mhz")), ctl_text(ctl, "stream.late"),
	       ctl_text(ctl, "stream.scheduled"));
	if (ctl_u64(ctl, "stream.starts"))
		printf("; first after %s (median), %s (99th percentile)", duration(ctl, "stream.first_median_ns"),
		       duration(ctl, "stream.first_p99_ns"));
	if (ctl_u64(ctl, "stream.energy_uj"))
		printf("; %s per token", format_energy(text[0], sizeof(text[0]), ctl_u64(ctl, "stream.energy_uj")));
	printf(".\n");
}

static void print_explanation(const struct ctl *ctl)
{
	const char *phase = ctl_text(ctl, "phase");

	printf("%s%s%s", sgr(ctl, SGR_BOLD), ctl_text(ctl, "model"), sgr(ctl, SGR_OFF));
	if (*phase && strcmp(phase, "run") != 0)
		printf(" (%s, %s tokens)", phase, ctl_text(ctl, "context"));
	printf(", session %s%s, asked for %s", ctl_text(ctl, "session"), ctl_u64(ctl, "closed") ? " (closed)" : "",
	       duration(ctl, "deadline_ns"));
	if (ctl_u64(ctl, "slack_ns") < ctl_u64(ctl, "deadline_ns") / 50 * 49)
		printf(" and had %s left when flamed decided", duration(ctl, "slack_ns"));
	printf(".\n");
	print_stream(ctl);
	if (ctl_u64(ctl, "feasible"))
		printf("Chosen: ");
	else if (ctl_u64(ctl, "late_once"))
		printf("%sSetting the clocks takes longer than this request had%s; "
		       "chosen is a point that meets the deadline of the following ones: ",
		       sgr(ctl, SGR_YELLOW), sgr(ctl, SGR_OFF));
	else if (ctl_u64(ctl, "stays"))
		printf("%sNo point can be reached in time%s, and the current one rarely misses this deadline: ",
		       sgr(ctl, SGR_YELLOW), sgr(ctl, SGR_OFF));
	else
		printf("%sNo point can be expected to meet this deadline%s, so flamed chose the fastest that is "
		       "allowed: ",
		       sgr(ctl, SGR_RED), sgr(ctl, SGR_OFF));
	print_point(ctl, "");
	print_power(ctl, "");
	printf(".\n");
	if (ctl_u64(ctl, "learning"))
		printf("%sThe model is still being learned%s: its bounds are wide and the clocks higher than they "
		       "will be later.\n",
		       sgr(ctl, SGR_YELLOW), sgr(ctl, SGR_OFF));
	if (ctl_u64(ctl, "trial"))
		printf("This is exploration: the expected saving is worth the risk of one late request.\n");
	if (ctl_u64(ctl, "step"))
		printf("This is an intermediate point: the next request can reach a cheaper one from here.\n");
	print_margin(ctl);
	print_regime(ctl);
	print_runner_up(ctl);
	if (!ctl_u64(ctl, "power_known"))
		printf("There is no power sensor; points are compared by a documented relative cost.\n");
	if (*ctl_text(ctl, "text"))
		printf("\n%sflamed's own summary: %s%s\n", sgr(ctl, SGR_DIM), ctl_text(ctl, "text"), sgr(ctl, SGR_OFF));
}

int cmd_explain(struct ctl *ctl, int argc, char **argv)
{
	struct kv_out out = {0};
	int count, rest, rc;
	uint64_t session;

	if (ctl_options(ctl, NULL, 0, argc, argv, &count, &rest))
		return 2;
	if (count > 2 || (count == 2 && parse_u64(argv[1], &session) < 0))
		return ctl_usage(ctl, "SESSION is a number that flamectl status shows");
	kv_add(&out, "op", "explain");
	if (count == 2)
		kv_add(&out, "session", "%s", argv[1]);
	rc = ctl_call(ctl, &out);
	kv_free(&out);
	if (rc < 0)
		return 1;
	if (ctl->json)
		return json_reply(stdout, &ctl->wire.reply) < 0;
	print_explanation(ctl);
	return 0;
}
