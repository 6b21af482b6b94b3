/* SPDX-License-Identifier: MIT */
/* flamectl savings: results of the kernel's governors, and estimated savings and misses of flamed, from shadow mode. */
#include "savings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/point.h"
#include "../common/units.h"
#include "json.h"

/* A number of the account behind `prefix`. */
static double number(const struct ctl *ctl, const char *prefix, const char *name)
{
	double value;

	return parse_double(ctl_text(ctl, "%s.%s", prefix, name), &value) == 0 ? value : 0;
}

/* Of estimates, in the order of `flamectl savings`: lower end, estimate, upper end. */
struct interval {
	double low, mid, high;
};

/* Share of energy that would have been saved: most where most was underestimated. */
static struct interval saved(const struct ctl *ctl, const char *prefix)
{
	double energy = number(ctl, prefix, "energy_j");

	if (energy <= 0)
		return (struct interval){0};
	return (struct interval){1 - number(ctl, prefix, "would_high_j") / energy,
				 1 - number(ctl, prefix, "would_j") / energy,
				 1 - number(ctl, prefix, "would_low_j") / energy};
}

static struct interval misses(const struct ctl *ctl, const char *prefix)
{
	double judged = number(ctl, prefix, "judged");

	return (struct interval){number(ctl, prefix, "would_miss_low") / judged,
				 number(ctl, prefix, "would_miss") / judged,
				 number(ctl, prefix, "would_miss_high") / judged};
}

/* "cpu 1510 MHz, gpu 918 MHz": mean clocks while requests ran. */
static void print_clocks(const struct ctl *ctl, const char *prefix, const char *which, const char *time)
{
	double ran_s = number(ctl, prefix, time);
	const char *gap = "";

	for (int c = 0; c < CLOCK_COUNT; c++) {
		char name[32];

		snprintf(name, sizeof(name), "%s%s_cycles", which, clock_name((enum clock_id)c));
		if (number(ctl, prefix, name) <= 0)
			continue;
		printf("%s%s %.0f MHz", gap, clock_name((enum clock_id)c), number(ctl, prefix, name) / ran_s / 1e6);
		gap = ", ";
	}
}

/* "cpu schedutil, gpu simple_ondemand" */
static void print_governors(const struct ctl *ctl)
{
	unsigned shown = 0;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		const char *name = ctl_text(ctl, "governor.%s", clock_name((enum clock_id)c));

		if (*name)
			printf("%s%s %s", shown++ ? ", " : "The kernel's governors: ", clock_name((enum clock_id)c),
			       name);
	}
	printf(shown ? "\n" : "");
}

/* A share by its words, or that a sensor is missing. */
static void print_energy(const struct ctl *ctl, const char *prefix)
{
	double metered = number(ctl, prefix, "metered"), window_s = number(ctl, prefix, "window_s");
	double energy_j = number(ctl, prefix, "energy_j"), would_j = number(ctl, prefix, "would_j");
	char text[4][32];

	if (metered <= 0) {
		printf("  energy       unknown, without a power sensor; shares are of the relative cost\n");
		return;
	}
	printf("  energy       %s an inference, %s while they ran\n",
	       format_energy(text[0], sizeof(text[0]), (uint64_t)(energy_j / metered * 1e6)),
	       format_power(text[1], sizeof(text[1]), (uint64_t)(energy_j / window_s * 1e6)));
	printf("    flamed     %s an inference, %s while they ran (%s to %s an inference)\n",
	       format_energy(text[0], sizeof(text[0]), (uint64_t)(would_j / metered * 1e6)),
	       format_power(text[1], sizeof(text[1]), (uint64_t)(would_j / window_s * 1e6)),
	       format_energy(text[2], sizeof(text[2]), (uint64_t)(number(ctl, prefix, "would_low_j") / metered * 1e6)),
	       format_energy(text[3], sizeof(text[3]),
			     (uint64_t)(number(ctl, prefix, "would_high_j") / metered * 1e6)));
}

static void print_account(const struct ctl *ctl, const char *prefix)
{
	double requests = number(ctl, prefix, "requests"), judged = number(ctl, prefix, "judged");
	double over_s = number(ctl, prefix, "until_s") - number(ctl, prefix, "since_s");
	struct interval save = saved(ctl, prefix), miss = misses(ctl, prefix);
	const char *mode = ctl_text(ctl, "%s.mode", prefix);
	char text[32];

	printf("%s%s%s%s%s: %.0f requests in shadow over %s\n", sgr(ctl, SGR_BOLD), ctl_text(ctl, "%s.name", prefix),
	       sgr(ctl, SGR_OFF), *mode ? ", power mode " : "", mode, requests,
	       format_duration(text, sizeof(text), (uint64_t)(over_s * 1e9)));
	if (judged <= 0) {
		printf("  no result yet: the clocks were not read, or the model was not known, in any of them\n");
		return;
	}
	if (judged < requests)
		printf("  judged       %.0f of them (%.1f %%); of the others the clocks or the model were not known\n",
		       judged, 100 * judged / requests);
	printf("  missed       %.2f %%\n    flamed     %.2f %% (%.2f to %.2f)\n",
	       100 * number(ctl, prefix, "missed") / judged, 100 * miss.mid, 100 * miss.low, 100 * miss.high);
	print_energy(ctl, prefix);
	printf("  clocks       ");
	print_clocks(ctl, prefix, "", "ran_s");
	printf("\n    flamed     ");
	print_clocks(ctl, prefix, "would_", "would_run_s");
	printf("\n  would save   %s%.1f %%%s (%.1f to %.1f)%s\n", sgr(ctl, save.low > 0 ? SGR_GREEN : SGR_YELLOW),
	       100 * save.mid, sgr(ctl, SGR_OFF), 100 * save.low, 100 * save.high,
	       save.low <= 0 && save.high >= 0 ? "; it may be zero" : "");
}

/* Print the accounts of a reply, of one model or all (NULL). Returns how many. */
static unsigned print_page(const struct ctl *ctl, const char *model)
{
	unsigned shown = 0;
	char prefix[32];

	for (unsigned i = 0; *ctl_text(ctl, "model.%u.name", i); i++) {
		if (model && strcmp(ctl_text(ctl, "model.%u.name", i), model))
			continue;
		snprintf(prefix, sizeof(prefix), "model.%u", i);
		print_account(ctl, prefix);
		shown++;
	}
	return shown;
}

int cmd_savings(struct ctl *ctl, int argc, char **argv)
{
	unsigned shown = 0;
	uint64_t from = 0;
	double confidence = 0;
	int count, rest;

	if (ctl_options(ctl, NULL, 0, argc, argv, &count, &rest))
		return 2;
	if (count > 2)
		return ctl_usage(ctl, "unexpected argument: %s", argv[2]);
	if (count == 2 && ctl_want_model(ctl, argv[1]))
		return 2;
	do {
		if (ctl_ask_from(ctl, "savings", from) < 0)
			return 1;
		if (ctl->json && json_reply(stdout, &ctl->wire.reply) < 0)
			return 1;
		if (!ctl->json)
			shown += print_page(ctl, count == 2 ? argv[1] : NULL);
		parse_double(ctl_text(ctl, "confidence"), &confidence);
		from = ctl_u64(ctl, "next");
	} while (from);
	if (ctl->json)
		return 0;
	if (!shown) {
		ctl_error(ctl,
			  "nothing ran in shadow yet%s%s: set mode = shadow in flamed.conf, or flamectl run --shadow",
			  count == 2 ? " of " : "", count == 2 ? argv[1] : "");
		return 1;
	}
	print_governors(ctl);
	printf("In brackets: %.0f %% intervals, from how far predictions can be off.\n", 100 * confidence);
	return 0;
}

void savings_line(const struct ctl *ctl)
{
	double judged = number(ctl, "shadow", "judged");
	struct interval save = saved(ctl, "shadow"), miss = misses(ctl, "shadow");

	fprintf(stderr, "  shadow   nothing was written; the kernel's governors chose the clocks\n");
	if (judged <= 0)
		fprintf(stderr,
			"  flamed   cannot be judged: the clocks were not read, or the model is not known yet\n");
	else
		fprintf(stderr,
			"  flamed   would have saved %.1f %% (%.1f to %.1f) and missed %.2f %% (%.2f to %.2f)\n",
			100 * save.mid, 100 * save.low, 100 * save.high, 100 * miss.mid, 100 * miss.low,
			100 * miss.high);
}
