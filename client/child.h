/* SPDX-License-Identifier: MIT */
/* A program run for somebody: its environment, its signals, its exit status. */
#ifndef CLIENT_CHILD_H
#define CLIENT_CHILD_H

#include <sys/types.h>
#include "ctl.h"

/* What a governed or profiled program finds in its environment. */
struct child_setup {
	const char *model;
	uint64_t deadline_ns; /* 0: not set */
	const char *tag;      /* NULL: not set */
	bool profile;         /* measured instead of governed, */
	uint64_t budget;      /* at so many points at most; 0: flamed's choice */
	bool quiet;           /* its output is dropped */
	bool own_group;       /* a process group of its own, so that all of it can be stopped */
	const char *directory; /* to run in; NULL: ours */
};

/* Fork and exec; signals are blocked in the parent from here on, until
 * child_wait() has seen the end. Returns the pid or -errno. */
pid_t child_start(const struct ctl *ctl, char *const *argv, const struct child_setup *setup);

/* Wait up to `timeout_ns` for its end, handing on the signals that were sent
 * to us alone (those of a terminal or for our whole process group reach it by
 * themselves), so that it gets each once. Returns 1 with its
 * wait status, 0 at the end of time. `*interrupted` (may be NULL) says that a
 * signal asked us to end. */
int child_wait(pid_t pid, uint64_t timeout_ns, int *status, bool *interrupted);

/* Leave as the child did: its exit status, or its signal. */
int child_exit(int status);

#endif
