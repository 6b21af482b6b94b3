/* SPDX-License-Identifier: MIT */
/* Scenarios in virtual time and how each is judged. */
#ifndef TESTS_VTIME_H
#define TESTS_VTIME_H

#include "drive.h"

struct scenario {
	const char *name;
	void (*run)(void);
	bool replay_too;                    /* means the same when it is replayed */
	bool recorded;                      /* of recordings in DATA: left out of what holds over all */
	double power_max, replay_power_max; /* 0: SINGLE_POWER_MAX, power_max */
	size_t spare, replay_spare;         /* misses beyond MISSES_MAX, and beyond these */
	const char *why, *replay_why;       /* it is held to less */
};

/* scenarios.c */
extern const struct scenario scenarios[];
extern const size_t scenario_count;

/* vtime.c: the run that is on, and whether its client replays. */
extern struct drive drive;
extern bool replays;
/* Limits and the line of the table, once a scenario has run. */
void verdict(void);
void check(bool good, const char *what);
/* The scenario needs a file that is not there. */
void skip(const char *path);

#endif
