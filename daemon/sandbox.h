/* SPDX-License-Identifier: MIT */
/* What a helper process gives up before it works, whatever started flamed: beside the sandbox of
 * the unit, or without one. */
#ifndef DAEMON_SANDBOX_H
#define DAEMON_SANDBOX_H

#include <stddef.h>

/* From now on this process gains no privilege, starts no process, writes no core and no file over
 * `file_bytes`, uses at most `cpu_s` seconds of processor time, and opens files below `dir` only
 * (Landlock). Descriptors that are open stay so. What the kernel does not offer is left out.
 * Returns 0, or a negative errno where only Landlock is missing: -ENOSYS, -EOPNOTSUPP, -EPERM (a
 * system call filter), or that of opening `dir`. */
int sandbox_enter(const char *dir, size_t file_bytes, unsigned cpu_s);

#endif
