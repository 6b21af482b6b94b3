/* SPDX-License-Identifier: MIT */
/* The surroundings of the daemon's own code in tests/daemon/replies.c: clock, event loop, users and keeper, all of them
 * driven by the test and by one sequence of random numbers. */
#ifndef TESTS_DAEMON_WORLD_H
#define TESTS_DAEMON_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include "../../daemon/daemon.h"

#define UIDS 3

extern uint64_t seed, now_ns;

unsigned below(unsigned n); /* a random number */
bool one_in(unsigned n);

struct loop {
	struct loop_watch *first;
};

extern struct loop loop;

/* Call the handler of every descriptor that is ready, from a random one on. */
void turn(void);
/* Let time pass; every timer that is due by then is called. */
void pass(uint64_t ns);

struct keeper {
	bool alive, hung;
	uint64_t serial, answered;
	struct op_point point;
};

extern struct keeper keeper;

void keeper_answer(struct daemon *d);
void keeper_die(struct daemon *d);
void keeper_return(struct daemon *d);

#endif
