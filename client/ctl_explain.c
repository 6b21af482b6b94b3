/* SPDX-License-Identifier: MIT */
/* flamectl explain: the last decision, in sentences. */
#include "ctl.h"

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

static const char *source_text(const char *source)
{
	static const char *const texts[][2] = {
		{ "envelope", "nothing near it was measured, so the bound assumes that the slowest clock slows everything" },
		{ "fit", "the bound is the prediction times the upper quantile of what predictions were off by" },
		{ "neighbour", "the bound is the prediction corrected by measured points near by" },
		{ "cell", "the bound is the upper quantile of what was measured at this very point" },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		if (strcmp(source, texts[i][0]) == 0)
			return texts[i][1];
	return source;
}

static void print_regime(const struct ctl *ctl)
{
	const char *regime = ctl_text(ctl, "regime");

	if (!*regime || strcmp(regime, "unknown") == 0)
		return;
	printf("There the model is %s; the GPU idles %s of an inference.\n", regime, duration(ctl, "bubble_ns"));
}

static void print_margin(const struct ctl *ctl)
{
	double slowdown = strtod(ctl_text(ctl, "slowdown"), NULL);

	printf("It should take %s, at most %s", duration(ctl, "predicted_ns"), duration(ctl, "bound_ns"));
	if (ctl_u64(ctl, "settle_ns"))
		printf(", after %s for the clocks to settle", duration(ctl, "settle_ns"));
	if (ctl_u64(ctl, "margin_ns"))
		printf("; that leaves %s to spare", duration(ctl, "margin_ns"));
	printf(".\nWhere that comes from: %s", source_text(ctl_text(ctl, "source")));
	if (slowdown > 1.005 || (slowdown > 0 && slowdown < 0.995))
		printf(", and everything runs x%.2f slower than predicted just now", slowdown);
	printf(".\n");
}

static void print_runner_up(const struct ctl *ctl)
{
	const char *refused = ctl_text(ctl, "runner_up.refused"), *text = ctl_text(ctl, "runner_up.text");

	if (!*refused || strcmp(refused, "none") == 0) {
		printf("No cheaper point was in question.\n");
		return;
	}
	printf("The next cheaper point, ");
	print_point(ctl, "runner_up.");
	print_power(ctl, "runner_up.");
	printf(", was refused: %s", *text ? text : refused);
	if (!*text && ctl_u64(ctl, "runner_up.bound_ns"))
		printf(" (it could take %s, and %s to get there)", duration(ctl, "runner_up.bound_ns"), duration(ctl, "runner_up.settle_ns"));
	printf(".\n");
}

static void print_explanation(const struct ctl *ctl)
{
	const char *phase = ctl_text(ctl, "phase");

	printf("%s%s%s", sgr(ctl, SGR_BOLD), ctl_text(ctl, "model"), sgr(ctl, SGR_OFF));
	if (*phase && strcmp(phase, "run") != 0)
		printf(" (%s, %s tokens)", phase, ctl_text(ctl, "context"));
	printf(", session %s, asked for %s", ctl_text(ctl, "session"), duration(ctl, "deadline_ns"));
	if (ctl_u64(ctl, "slack_ns"))
		printf(" and had %s left when flamed decided", duration(ctl, "slack_ns"));
	printf(".\n");
	if (ctl_u64(ctl, "feasible"))
		printf("Chosen: ");
	else
		printf("%sNo point can promise that%s, so flamed goes as fast as it may: ", sgr(ctl, SGR_RED), sgr(ctl, SGR_OFF));
	print_point(ctl, "");
	print_power(ctl, "");
	printf(".\n");
	if (ctl_u64(ctl, "learning"))
		printf("%sThe model is still being learned%s: its bounds are wide and the clocks higher than they will be.\n", sgr(ctl, SGR_YELLOW),
		       sgr(ctl, SGR_OFF));
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
