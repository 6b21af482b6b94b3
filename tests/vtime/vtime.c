/* SPDX-License-Identifier: MIT */
/* flamed and its keeper, unmodified, in closed loop on simulated and replayed
 * boards, in virtual time: TAP and one table.
 *
 * Each scenario is run with several draws of the noise of latencies, and judged by the mean over them.
 * $VTIME_TRACE prints every request to stderr, $VTIME_KEEP leaves the directories.
 *   vtime [--replay] [SCENARIO ...]
 * --replay: the client runs ahead of the board; a request ends after a fraction of the time that it reports */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "vtime.h"

/* The promise for one model: share missed, and power over the optimum for nine runs of ten. A scenario has these
 * limits, or others with a reason in the table. The mean of the promise is over a population (tests/population); as
 * scenarios are chosen to be hard, their mean has a limit of its own, over the scenarios that need no recordings, so
 * that it is the same without them. */
#define MISSES_MAX       0.003
#define REPLAY_POWER_MAX 1.05
#define POWER_MAX        1.04
#define SINGLE_POWER_MAX 1.06

#define CHECKS_MAX 8 /* of a scenario */

struct drive drive;
bool replays;
static int number, failures;
static const struct scenario *current;
unsigned draw;

/* Over all scenarios that need no recordings. */
static struct {
	size_t scenarios, counted, missed;
	double power;
} all;

/* Of the scenario that is on, over its draws. */
static struct {
	size_t requests, counted, missed, spare, early_missed, checks;
	double power, power_worst;
	bool failed[CHECKS_MAX];
} sum;

void verdict(void)
{
	double power = drive.optimum > 0 ? drive.price / drive.optimum : INFINITY;
	double power_max = current->power_max > 0 ? current->power_max : SINGLE_POWER_MAX;
	const char *why = replays && current->replay_why ? current->replay_why : current->why;

	if (replays && current->replay_power_max > 0)
		power_max = current->replay_power_max;
	sum.requests += drive.requests;
	sum.counted += drive.counted;
	sum.missed += drive.missed;
	sum.spare += current->spare;
	sum.early_missed += drive.early_missed;
	sum.power += power / DRAWS;
	sum.power_worst = fmax(sum.power_worst, power);
	if (draw + 1 < DRAWS)
		return;
	if (!current->apart) {
		all.scenarios++;
		all.counted += sum.counted;
		all.missed += sum.missed;
		all.power += sum.power;
	}
	size_t missed_max = (size_t)ceil(MISSES_MAX * (double)sum.counted) + sum.spare;
	bool good = sum.counted && sum.missed <= missed_max && sum.power <= power_max;

	printf("# | %-29s %4zu requests  missed %zu of %5zu (limit %zu)  power %.3f (limit %.2f, worst %.3f)  "
	       "first %d: %.1f missed\n",
	       current->name, sum.requests / DRAWS, sum.missed, sum.counted, missed_max, sum.power, power_max,
	       sum.power_worst, DRIVE_WARM, (double)sum.early_missed / DRAWS);
	if (why)
		printf("# |     held to less: %s\n", why);
	printf("%sok %d - %s: misses and power\n", good ? "" : "not ", ++number, current->name);
	failures += !good;
	if (good || drive.client.fd < 0)
		return;
	client_call(&drive.client, "op=explain\nsession=%llu", (unsigned long long)drive.session);
	fprintf(stderr, "vtime: %s: %s\n", current->name, client_text(&drive.client, "text"));
}

/* Has to hold in each draw. */
void check(bool good, const char *what)
{
	size_t i = sum.checks++;

	if (i < CHECKS_MAX)
		sum.failed[i] |= !good;
	if (!good && current)
		fprintf(stderr, "vtime: %s, draw %u: not so: %s\n", current->name, draw, what);
	if (current && draw + 1 < DRAWS)
		return;
	good = i < CHECKS_MAX && !sum.failed[i];
	printf("%sok %d - %s: %s\n", good ? "" : "not ", ++number, current ? current->name : "all", what);
	failures += !good;
}

void skip(const char *path)
{
	if (draw + 1 == DRAWS)
		printf("ok %d - %s: misses and power # SKIP no %s\n", ++number, current->name, path);
}

int main(int argc, char **argv)
{
	int first = argc > 1 && strcmp(argv[1], "--replay") == 0 ? 2 : 1;

	replays = first == 2;
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < scenario_count; i++) {
		bool asked = first >= argc;
		for (int a = first; a < argc; a++)
			asked = asked || strstr(scenarios[i].name, argv[a]);
		if (!asked || (replays && !scenarios[i].replay_too))
			continue;
		current = &scenarios[i];
		memset(&sum, 0, sizeof(sum));
		for (draw = 0; draw < DRAWS; draw++) {
			sum.checks = 0;
			scenarios[i].run();
		}
	}
	if (first >= argc) {
		double misses = (double)all.missed / (double)all.counted, power = all.power / (double)all.scenarios;
		printf("# | %-34s misses %.2f %%, power %.3f\n", "all", 100 * misses, power);
		current = NULL;
		memset(&sum, 0, sizeof(sum));
		check(misses <= MISSES_MAX && power <= (replays ? REPLAY_POWER_MAX : POWER_MAX), "misses and power");
	}
	printf("1..%d\n", number);
	return failures != 0;
}
