/* SPDX-License-Identifier: MIT */
/* Virtual time for a real flamed: starts it under the shim, and lets time pass
 * only while nobody has anything to do. Or, with `real`, does none of that. */
#ifndef TESTS_VTIME_WORLD_H
#define TESTS_VTIME_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WORLD_PATH_MAX 400

struct world {
	bool real;
	char dir[WORLD_PATH_MAX]; /* holds root/ run/ state/ vtime/ flamed.conf flamed.log */
	struct vtime_page *page;
	pid_t flamed;
	int bell[16]; /* FIFOs of the slots, -1 */
	int32_t bell_pid[16];
};

/* A new world in a fresh directory below $TMPDIR. Nothing runs yet. */
void world_make(struct world *world, bool real);
void world_remove(struct world *world);
const char *world_path(const struct world *world, const char *name, char *buf);

/* Start `program` with its usual options; `settle` as VTIME_SETTLE. Aborts when
 * it does not come up. */
void world_start(struct world *world, const char *program, const char *settle);
/* End it with a signal and wait; returns the wait status. */
int world_stop(struct world *world, int signal);

uint64_t world_now_ns(const struct world *world);
/* Nobody has anything left to do. (Real: a short sleep.) */
void world_quiesce(struct world *world);
/* Time passes up to now + ns; whoever waits for a moment before that runs then. */
void world_advance(struct world *world, uint64_t ns);
/* Until `fd` is readable, time passing as it has to, at most `ns`. False: it never was. */
bool world_wait_fd(struct world *world, int fd, uint64_t ns);

#endif
