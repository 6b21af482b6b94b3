/* SPDX-License-Identifier: MIT */
/* Estimator and governor in closed loop with a board of boards.h, in one process: sessions, clocks
 * that take time to move, requests that share the board, and an oracle that knows everything. */
#ifndef TESTS_POPULATION_LOOP_H
#define TESTS_POPULATION_LOOP_H

#include "../../governor/governor.h"
#include "boards.h"

#define LOOP_SESSIONS_MAX BOARD_WORKLOADS_MAX

enum arrival { ARRIVE_BACK_TO_BACK, ARRIVE_PERIODIC, ARRIVE_JITTERED, ARRIVALS };
extern const char *const arrival_name[ARRIVALS];

struct loop_session {
	size_t work;
	enum arrival arrival;
	double deadline_ns, period_ns; /* begins are period_ns apart, or the last end where that is later */
	double offset_ns;              /* of the first begin */
};

struct loop_run {
	const struct board_made *board;
	struct loop_session session[LOOP_SESSIONS_MAX];
	size_t sessions;
	size_t requests; /* of each session */
	size_t warm;     /* of each session, before the limits count */
	enum objective objective;
	double learning_misses; /* configuration; negative: as by default */
	uint64_t seed;          /* of noise and arrivals */
	bool free_moves;        /* clocks move in no time */
	bool trace;
};

struct loop_outcome {
	size_t counted, missed; /* after warm requests */
	size_t early_missed;    /* in them */
	size_t chosen_missed;   /* in them, of requests decided as exploration or not feasible by choice */
	size_t streak;          /* most misses in a row of one session */
	double price, optimum;  /* after warm requests; mean price and the oracle's */
	double late_price;      /* of the last tenth of all requests */
	size_t moves;
	/* points whose true latency x noise quantile is above the bound; of all points, at the end */
	double above_bound, cells;
};

/* The oracle: the cheapest point at which no request of this pattern is late, each taking its
 * noise at QUANTILE_DEFAULT. INFINITY: none. */
double loop_optimum(const struct loop_run *run, size_t *point);
double loop_price(const struct loop_run *run, size_t point);
void loop_run(const struct loop_run *run, struct loop_outcome *out);

/* Deadlines and periods of a run drawn at random: `tightness` x what each session takes at the
 * fastest clocks with the others in flight. Returns false where no point is feasible. */
bool loop_draw(struct loop_run *run, const struct board_made *board, size_t sessions, uint64_t seed);

#endif
