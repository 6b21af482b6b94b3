/* SPDX-License-Identifier: MIT */
/* flamed and its keeper, unmodified, in closed loop on simulated and replayed
 * boards, in virtual time: TAP and one table.
 *
 *   vtime [--real] [SCENARIO ...]     --real: wall clock, no shim; requests end at once with the time they would have taken */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../common/clock.h"
#include "drive.h"
#include "page.h"

#define MISSES_MAX 0.005
#define POWER_MAX 1.03
#define SETTLE_ORIN "scaling_max_freq:700000,17000000.gpu/max_freq:5100000,dmc/max_freq:9000000"
#define DATA "../shared/data/"

static struct drive drive;
static bool real;
static int number, failures;

static const struct plant_shape ORIN = {29, 11, 4, false}, NANO = {22, 8, 3, false};

struct scenario {
	const char *name;
	void (*run)(void);
	bool real_too; /* means the same without the shim */
};

/* Limits and the line of the table. */
static void verdict(const char *name, double power_max)
{
	double misses = drive.counted ? (double)drive.missed / (double)drive.counted : 1;
	double power = drive.optimum > 0 ? drive.price / drive.optimum : INFINITY;
	bool good = misses <= MISSES_MAX && power <= power_max;

	printf("# | %-34s %5zu requests  missed %zu of %zu  power %.3f  (first %d: %zu missed)\n", name, drive.requests, drive.missed,
	       drive.counted, power, DRIVE_WARM, drive.early_missed);
	printf("%sok %d - %s: misses and power\n", good ? "" : "not ", ++number, name);
	failures += !good;
	if (good)
		return;
	client_call(&drive.client, "op=explain\nsession=%llu", (unsigned long long)drive.session);
	fprintf(stderr, "vtime: %s: %s\n", name, client_text(&drive.client, "text"));
}

static void check(bool good, const char *name, const char *what)
{
	printf("%sok %d - %s: %s\n", good ? "" : "not ", ++number, name, what);
	failures += !good;
}

static const char *current;

static void begin_on(bool sensor, const char *config, const char *settle)
{
	drive.client.fd = -1;
	drive.requests = drive.counted = drive.missed = drive.infeasible = drive.early_missed = 0;
	drive.price = drive.optimum = 0;
	drive.energy = false;
	drive.cost = NULL;
	drive.context = 0;
	drive.phase = NULL;
	drive_start(&drive, real, sensor, config, settle);
}

static void finish(void)
{
	check(drive_stop(&drive), current, "ends with 0, every knob as found");
}

static void steady(double tightness, size_t requests, double gap_share)
{
	double deadline_ns = tightness * plant_fastest_ns(&drive.plant, (double)drive.context);

	for (size_t i = 0; i < requests; i++)
		drive_request(&drive, deadline_ns, gap_share * deadline_ns);
}

/* ---- the scenarios ---- */

static void simple(struct plant_shape shape, uint64_t seed, double tightness, const char *settle, double gap_share)
{
	plant_generate(&drive.plant, shape, seed);
	begin_on(true, "", settle);
	drive_session(&drive, "net");
	steady(tightness, 400, gap_share);
	verdict(current, POWER_MAX);
	finish();
}

static void tight(void) { simple(ORIN, 3, 1.15, "", 0); }
static void middle(void) { simple(ORIN, 10, 1.8, "", 0); }
static void loose(void) { simple(NANO, 12, 5, "", 0.2); }
static void settles(void) { simple(NANO, 3, 2.5, SETTLE_ORIN, 0.5); }

int main(int argc, char **argv)
{
	static const struct scenario scenarios[] = {
		{"tight", tight, true},
		{"middle", middle, true},
		{"loose", loose, true},
		{"settle times, periodic", settles, false},
	};
	int first = argc > 1 && strcmp(argv[1], "--real") == 0 ? 2 : 1;

	real = first == 2;
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++) {
		bool asked = first >= argc;
		for (int a = first; a < argc; a++)
			asked = asked || strstr(scenarios[i].name, argv[a]);
		if (!asked || (real && !scenarios[i].real_too))
			continue;
		current = scenarios[i].name;
		scenarios[i].run();
	}
	printf("1..%d\n", number);
	return failures != 0;
}
