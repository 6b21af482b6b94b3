/* SPDX-License-Identifier: MIT */
/* Scenarios in virtual time and how each is judged. */
#ifndef TESTS_VTIME_H
#define TESTS_VTIME_H

#include "drive.h"

struct scenario {
	const char *name;
	void (*run)(void);
	bool replay_too; /* has the same meaning when it is replayed */
	bool apart;      /* not in the limits over all: of recordings in DATA, or its optimum cannot be reached */
	double power_max, replay_power_max; /* of the mean over the draws; 0: SINGLE_POWER_MAX, power_max */
	size_t spare;                       /* misses beyond MISSES_MAX, per draw */
	const char *why, *replay_why;       /* it is held to less */
};

/* scenarios.c */
extern const struct scenario scenarios[];
extern const size_t scenario_count;
/* A daemon on the board of `drive.plant`; `settle`: its transition latencies, "": those of plain files. */
void begin_on(bool sensor, const char *config, const char *settle);
/* Requests whose deadline is `tightness` x the fastest latency, with gaps of that share of it. */
void steady(double tightness, size_t requests, double gap_share);
/* The daemon ends. */
void finish(void);

/* recordings.c */
void replay_mobilenet(void);
void replay_proxy(void);
void replay_inception(void);
void replay_inception_long(void);
void replay_xception(void);

#define DRAWS 8 /* of the noise, for each scenario */

/* vtime.c: the run that is on, its draw of the noise, and whether its client replays. */
extern struct drive drive;
extern unsigned draw;
extern bool replays;
/* Limits and the line of the table, once a scenario has run. */
void verdict(void);
void check(bool good, const char *what);
/* The scenario needs a file that is not there. */
void skip(const char *path);

#endif
