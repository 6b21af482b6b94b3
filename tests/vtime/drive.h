/* SPDX-License-Identifier: MIT */
/* One client's requests against flamed on a plant, and how they fared. */
#ifndef TESTS_VTIME_DRIVE_H
#define TESTS_VTIME_DRIVE_H

#include "../population/boards.h"
#include "client.h"
#include "plant.h"
#include "world.h"

#define DRIVE_WARM 30 /* requests before limits count */

struct drive {
	struct world world;
	struct plant plant;
	struct client client;
	struct board_noise noise; /* of whole inferences */
	struct sim_rng rng;
	double quantile; /* share of requests that the oracle has in time: flamed's `quantile` */
	double upper;    /* that quantile of the noise */
	uint64_t session;
	bool energy;                 /* price is energy over the deadline */
	bool waits;                  /* begin with wait=1 */
	bool reports;                /* end says total_ns */
	bool replays;                /* requests end at once, with the total they would have had */
	double slowdown;             /* contention now */
	const double *cost;          /* per point, instead of power; NULL */
	size_t ceiling[CLOCK_COUNT]; /* highest axis entry allowed, SIZE_MAX: all */
	uint64_t context;
	const char *phase;
	/* outcome */
	size_t requests, counted, missed, infeasible, early_missed;
	double price, optimum;
	double run_price; /* of the last request, over the points at which it ran */
	size_t point;     /* at its end */
	uint64_t total_ns, request, bound_ns;
	bool feasible;
};

/* A world with a daemon on the plant, which has to be there already, and a
 * session; `config` is the text of flamed.conf. */
void drive_start(struct drive *drive, bool replays, bool sensor, const char *config, const char *settle);
void drive_session(struct drive *drive, const char *model);
/* Close, end the daemon; true when it exited 0 and every knob is as it was found. */
bool drive_stop(struct drive *drive);

/* One request, `gap_ns` after the last ended. */
void drive_request(struct drive *drive, double deadline_ns, double gap_ns);
/* Its begin, and its inference, `factor` x as long as it takes alone, the clocks moving under it: for several sessions
 * at once. */
void drive_begin(struct drive *drive, double deadline_ns);
void drive_run(struct drive *drive, double factor, double deadline_ns);

/* The cheapest that meets the deadline for all but 1 - quantile of requests; INFINITY: none. */
double drive_optimum(const struct drive *drive, double deadline_ns);
double drive_price(const struct drive *drive, size_t point, double deadline_ns);

/* flamed in $RELEASE_DIR. */
const char *drive_program(void);

#endif
