/* SPDX-License-Identifier: MIT */
/* Scenarios of measured latencies, which are not in the repository. */
#include <stdio.h>
#include "vtime.h"

#define DATA "../shared/data/"

/* Measured latencies at several deadlines, each with a daemon of its own. */
static void replay(const char *file)
{
	static const double factors[] = {1.3, 1.7, 2.5};
	struct drive sum = {.requests = 0};
	char path[256];
	bool clean = true;

	snprintf(path, sizeof(path), DATA "%s", file);
	for (size_t i = 0; i < sizeof(factors) / sizeof(*factors); i++) {
		if (!plant_replay(&drive.plant, path)) {
			skip(path);
			return;
		}
		begin_on(true, "", "");
		drive_session(&drive, "net");
		steady(factors[i], 600, 0);
		sum.requests += drive.requests, sum.counted += drive.counted, sum.missed += drive.missed;
		sum.early_missed += drive.early_missed, sum.price += drive.price, sum.optimum += drive.optimum;
		if (draw + 1 == DRAWS)
			printf("# | %-34s at %.1f of the fastest: missed %zu, power %.3f in the last draw\n", file,
			       factors[i], drive.missed, drive.price / drive.optimum);
		clean = drive_stop(&drive) && clean;
	}
	drive.requests = sum.requests, drive.counted = sum.counted, drive.missed = sum.missed;
	drive.early_missed = sum.early_missed, drive.price = sum.price, drive.optimum = sum.optimum;
	verdict();
	check(clean, "ends with 0, every knob as found");
}

void replay_mobilenet(void)
{
	replay("orin-nano/mobilenet.csv");
}
void replay_proxy(void)
{
	replay("orin-nano/proxy.csv");
}
void replay_inception(void)
{
	replay("tx2/inceptionv3_400.csv");
}

/* A long run: a wrong combination of clocks must not be kept. */
void replay_inception_long(void)
{
	if (!plant_replay(&drive.plant, DATA "tx2/inceptionv3_400.csv")) {
		skip(DATA "tx2/inceptionv3_400.csv");
		return;
	}
	begin_on(true, "", "");
	drive_session(&drive, "net");
	steady(2.0, 6000, 0.3);
	verdict();
	finish();
}

void replay_xception(void)
{
	replay("tx2/xception_600.csv");
}
