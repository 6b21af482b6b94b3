/* SPDX-License-Identifier: MIT */
/* Virtual time for a real flamed: starts it under the shim, runs it and its keeper in turns, and advances time only
 * while neither has work. The same calls give the same run, to the byte. */
#ifndef TESTS_VTIME_WORLD_H
#define TESTS_VTIME_WORLD_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WORLD_PATH_MAX 400

struct world {
	char dir[WORLD_PATH_MAX]; /* holds root/ run/ state/ vtime/ flamed.conf flamed.log */
	struct vtime_page *page;
	pid_t flamed;
	int page_fd;          /* locked as long as this driver lives */
	cpu_set_t processors; /* those that the driver may use */
	uint32_t seen[16];    /* by the process in each slot, of the messages sent */
};

/* A new world in a fresh directory below /dev/shm, or, where there is none, $TMPDIR. Nothing runs yet. */
void world_make(struct world *world);
void world_remove(struct world *world);
const char *world_path(const struct world *world, const char *name, char *buf);

/* Start `program` with its usual options. `settle` is NAME:UP_NS[/DOWN_NS][,...]: a write to a file whose path contains
 * NAME takes that long. Aborts if it does not start. */
void world_start(struct world *world, const char *program, const char *settle);
/* End it with a signal and wait for it and its keeper; returns the wait status of flamed. */
int world_stop(struct world *world, int signal);

uint64_t world_now_ns(const struct world *world);
/* The driver has done something that a process under the shim can see: sent bytes, closed a socket, sent a signal. */
void world_sent(struct world *world);
/* Run until no process has work. */
void world_quiesce(struct world *world);
/* Advance time by ns; processes with a wake-up time before that run then. */
void world_advance(struct world *world, uint64_t ns);
/* The next wake-up time of a process under the shim; VTIME_NEVER: none. */
uint64_t world_next_ns(const struct world *world);
/* Value in effect of the first file of the rule NAME; 0 before it was written. */
uint64_t world_value(const struct world *world, const char *name);
/* Until `fd` is readable, time passing as it has to, at most `ns`. False: it never was. */
bool world_wait_fd(struct world *world, int fd, uint64_t ns);

#endif
