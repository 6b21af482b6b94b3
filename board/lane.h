/* SPDX-License-Identifier: MIT */
/* The board's execution queue: a bounded in-order queue and the thread that executes it. An execution starts when its
 * launch is done and the one before has ended, takes the time given by the clocks in the page, and is then reported; a
 * clock that moves during an execution counts from that moment. Starts and ends are computed, not read from the clock,
 * so that a thread that wakes late does not make the board slower: it only reports late, and this delay is measured. */
#ifndef BOARD_LANE_H
#define BOARD_LANE_H

#include <pthread.h>
#include "cost.h"

#define LANE_DEPTH    256
#define LANE_SLICE_NS 1000000ULL /* a new clock takes effect on a running execution within this time */

struct lane_item {
	struct step_cost cost;
	uint64_t launched_ns;
	void *ticket;              /* the caller's */
	uint64_t prompt_ns;        /* launched_ns, had this machine never been late; 0: not computed */
	uint64_t start_ns, end_ns; /* filled in before `done` */
	uint64_t due_ns;           /* end_ns, had this machine never been late */
};

struct lane_ops {
	/* Wait for the real execution behind a ticket. */
	void (*real)(void *arg, struct lane_item *item);
	/* The execution has ended, by the board's clocks too. */
	void (*done)(void *arg, struct lane_item *item);
	void *arg;
};

struct lane {
	struct board_page *page;
	struct lane_ops ops;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more, fewer;
	struct lane_item item[LANE_DEPTH];
	size_t head, count; /* count includes the one executing */
	bool stop;
	uint64_t end_ns; /* computed end of the last execution */
	uint64_t due_ns; /* the same of a machine that is never late */
};

/* Returns 0 or -errno. */
int lane_start(struct lane *lane, struct board_page *page, const struct lane_ops *ops);
/* Blocks while LANE_DEPTH executions are queued. */
void lane_push(struct lane *lane, const struct lane_item *item);
/* Waits until everything queued has ended; returns the computed end. */
uint64_t lane_finish(struct lane *lane);
/* Finishes, then ends the thread. */
void lane_stop(struct lane *lane);

/* Sleep to a CLOCK_MONOTONIC time as exactly as the kernel can. */
void lane_sleep_until(uint64_t at_ns);
/* Ask the kernel for exact timers on the calling thread. */
void lane_exact_timers(void);

#endif
