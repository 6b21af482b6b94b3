/* SPDX-License-Identifier: MIT */
/* A child program: its environment, its signals, its exit status. */
#ifndef CTL_CHILD_H
#define CTL_CHILD_H

#include <sys/types.h>
#include "ctl.h"

/* The environment of a governed or profiled program. */
struct child_setup {
	const char *model;
	uint64_t deadline_ns;        /* 0: not set */
	uint64_t rate_mhz, first_ns; /* schedule of a stream; 0: not set */
	const char *tag;             /* NULL: not set */
	const char *summary;         /* file in which its layers report what they intercepted; NULL: not set */
	bool profile;                /* measure instead of govern, */
	uint64_t budget;             /* at this many points at most; 0: flamed's choice */
	bool cupti;                  /* CUDA: kernels are timed by CUPTI while it is measured */
	bool quiet;                  /* discard its output */
	bool own_group;              /* run in a new process group, so that all of it can be stopped */
	const char *directory;       /* working directory; NULL: ours */
};

/* Fork and exec. Signals stay blocked in the parent until child_wait() returned the exit status.
 * Returns the pid or a negative errno. */
pid_t child_start(const struct ctl *ctl, char *const *argv, const struct child_setup *setup);

/* Wait up to `timeout_ns` for the child's exit. Signals sent to this process alone are forwarded;
 * those from a terminal, or sent to our process group, reach the child by themselves, so it gets
 * each one once. Returns 1 with the wait status, or 0 on timeout. `*interrupted` (may be NULL)
 * tells whether a signal asked flamectl to terminate. */
int child_wait(pid_t pid, uint64_t timeout_ns, int *status, bool *interrupted);

/* Exit as the child did: with its exit status, or by its signal. */
int child_exit(int status);

#endif
