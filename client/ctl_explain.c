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

/* "cpu 1344 MHz, gpu 510 MHz" of the clocks that are controlled. */
static void print_point(const struct ctl *ctl, const char *prefix)
{
	static const char *const clocks[] = { "cpu", "gpu", "mem" };
	const char *gap = "";

	for (size_t i = 0; i < 3; i++) {
		uint64_t hz = ctl_u64(ctl, "%s%s_hz", prefix, clocks[i]);
		char text[32];

		if (!hz)
			continue;
		printf("%s%s %s%s%s", gap, clocks[i], sgr(ctl, SGR_BOLD), format_frequency(text, sizeof(text), hz), sgr(ctl, SGR_OFF));
		gap = ", ";
	}
}

static void print_power(const struct ctl *ctl, const char *prefix)
{
	char text[32];

	if (ctl_u64(ctl, "power_known"))
		printf(", drawing about %s", format_power(text, sizeof(text), ctl_u64(ctl, "%spower_uw", prefix)));
}

/* Text of a word in a table that ends with NULL; the word itself when it is
 * not there. */
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
		{ "envelope", "nothing near it was measured, so the bound assumes that the slowest clock slows everything" },
		{ "fit", "the bound is the prediction times the upper quantile of what predictions were off by" },
		{ "neighbour", "the bound is the prediction corrected by measured points near by" },
		{ "cell", "the bound is the upper quantile of what was measured at this very point" },
		{ NULL, NULL },
	};

	return translate(texts, source);
}

static const char *refusal_reason(const char *refusal)
{
	static const char *const texts[][2] = {
		{ "bound", "it could take longer than there is" },
		{ "settle", "it would do, but not with the time it takes to get there" },
		{ "shared", "alone it would do, but not beside the deadlines of other requests" },
		{ "ceiling", "it lies above a ceiling that others hold" },
		{ "floor", "it lies under the floor that flamed.conf sets" },
		{ "hold", "a recent miss holds the clocks up for a while" },
		{ "dwell", "the memory clock moved too short a time ago" },
		{ "gain", "it saves too little to be worth moving" },
		{ "standby", "from there the clocks could not come up in time for a tighter deadline that was seen lately" },
		{ NULL, NULL },
	};

	return translate(texts, refusal);
}

static void print_regime(const struct ctl *ctl)
{
	const char *regime = ctl_text(ctl, "regime");

	if (!*regime || strcmp(regime, "unknown") == 0)
		return;
	printf("There the model is %s", regime);
	if (ctl_u64(ctl, "bubble_ns"))
		printf("; the GPU idles %s of an inference", duration(ctl, "bubble_ns"));
	printf(".\n");
}

static void print_margin(const struct ctl *ctl)
{
	uint64_t predicted_ns = ctl_u64(ctl, "predicted_ns"), margin_ns = ctl_u64(ctl, "margin_ns");
	uint64_t needed_ns = ctl_u64(ctl, "bound_ns") + ctl_u64(ctl, "settle_ns"), slack_ns = ctl_u64(ctl, "slack_ns");
	double slowdown = strtod(ctl_text(ctl, "slowdown"), NULL), factor = strtod(ctl_text(ctl, "factor"), NULL);
	char spare[32];

	printf("It should take %s, at most %s", duration(ctl, "predicted_ns"), duration(ctl, "bound_ns"));
	if (ctl_u64(ctl, "settle_ns"))
		printf(", and %s for the clocks to settle", duration(ctl, "settle_ns"));
	if (slack_ns > needed_ns)
		printf("; that leaves %s to spare", format_duration(spare, sizeof(spare), slack_ns - needed_ns));
	if (margin_ns && predicted_ns)
		printf(".\nThe margin of %s (%.0f %%): %s", duration(ctl, "margin_ns"), 100.0 * (double)margin_ns / (double)predicted_ns,
		       source_text(ctl_text(ctl, "source")));
	else
		printf(".\nThe margin: %s", source_text(ctl_text(ctl, "source")));
	if (factor > 1.005)
		printf(", times %.2f for contention, past misses and the configured margin", factor);
	printf(".\n");
	if (fabs(slowdown - 1) > 0.005)
		printf("Everything runs %.0f %% %s just now than when it was learned.\n", 100 * fabs(slowdown - 1), slowdown > 1 ? "slower" : "faster");
}

static void print_runner_up(const struct ctl *ctl)
{
	const char *refused = ctl_text(ctl, "runner_up.refused");
	uint64_t bound_ns = ctl_u64(ctl, "runner_up.bound_ns");

	if (!*refused || strcmp(refused, "not") == 0) {
		printf("No cheaper point was in question.\n");
		return;
	}
	printf("The next cheaper point, ");
	print_point(ctl, "runner_up.");
	print_power(ctl, "runner_up.");
	printf(", was refused: %s", refusal_reason(refused));
	if (bound_ns)
		printf(" (at most %s%s%s)", duration(ctl, "runner_up.bound_ns"), ctl_u64(ctl, "runner_up.settle_ns") ? ", after settling for " : "",
		       ctl_u64(ctl, "runner_up.settle_ns") ? duration(ctl, "runner_up.settle_ns") : "");
	printf(".\n");
}

static void print_explanation(const struct ctl *ctl)
{
	const char *phase = ctl_text(ctl, "phase");

	printf("%s%s%s", sgr(ctl, SGR_BOLD), ctl_text(ctl, "model"), sgr(ctl, SGR_OFF));
	if (*phase && strcmp(phase, "run") != 0)
		printf(" (%s, %s tokens)", phase, ctl_text(ctl, "context"));
	printf(", session %s%s, asked for %s", ctl_text(ctl, "session"), ctl_u64(ctl, "closed") ? " (closed)" : "", duration(ctl, "deadline_ns"));
	if (ctl_u64(ctl, "slack_ns") < ctl_u64(ctl, "deadline_ns") / 50 * 49)
		printf(" and had %s left when flamed decided", duration(ctl, "slack_ns"));
	printf(".\n");
	if (ctl_u64(ctl, "feasible"))
		printf("Chosen: ");
	else if (ctl_u64(ctl, "late_once"))
		printf("%sMoving takes longer than this one had%s, so it went where those that follow are in time: ", sgr(ctl, SGR_YELLOW), sgr(ctl, SGR_OFF));
	else if (ctl_u64(ctl, "stays"))
		printf("%sNo point can promise that%s in the time that moving takes, and this one hardly ever misses it: ", sgr(ctl, SGR_YELLOW), sgr(ctl, SGR_OFF));
	else
		printf("%sNo point can promise that%s, so flamed goes as fast as it may: ", sgr(ctl, SGR_RED), sgr(ctl, SGR_OFF));
	print_point(ctl, "");
	print_power(ctl, "");
	printf(".\n");
	if (ctl_u64(ctl, "learning"))
		printf("%sThe model is still being learned%s: its bounds are wide and the clocks higher than they will be.\n", sgr(ctl, SGR_YELLOW),
		       sgr(ctl, SGR_OFF));
	if (ctl_u64(ctl, "trial"))
		printf("It is a trial: the bound is a little over what there is, once, to learn or to get where it is cheaper.\n");
	if (ctl_u64(ctl, "step"))
		printf("It is a step: the next request can reach a cheaper point from there, which is too far away now.\n");
	print_margin(ctl);
	print_regime(ctl);
	print_runner_up(ctl);
	if (!ctl_u64(ctl, "power_known"))
		printf("There is no power sensor: points are compared by a documented relative cost.\n");
	if (*ctl_text(ctl, "text"))
		printf("\n%sIn flamed's words: %s%s\n", sgr(ctl, SGR_DIM), ctl_text(ctl, "text"), sgr(ctl, SGR_OFF));
}

int cmd_explain(struct ctl *ctl, int argc, char **argv)
{
	struct kv_out out = { 0 };
	int count, rest, rc;
	uint64_t session;

	if (ctl_options(ctl, NULL, 0, argc, argv, &count, &rest))
		return 2;
	if (count > 2 || (count == 2 && parse_u64(argv[1], &session) < 0))
		return ctl_usage(ctl, "a session is a number from `flamectl status`");
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
