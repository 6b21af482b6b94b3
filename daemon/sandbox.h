/* SPDX-License-Identifier: MIT */
/* A helper process, a fork(2) of flamed, and its sandbox, in addition to that of the systemd unit, if there is one. */
#ifndef DAEMON_SANDBOX_H
#define DAEMON_SANDBOX_H

#include <stddef.h>

#define HELPER_S     30 /* a helper process that runs longer is killed, */
#define HELPER_CPU_S 20 /* and one that uses more processor time */

/* The beginning of a helper process: it ends with flamed, keeps only descriptors below `first_fd`, so neither a
 * connection nor the keeper's socket, and runs at normal priority, which is below flamed's. */
void helper_begin(unsigned first_fd);

/* From now on this process gains no privilege, starts no process, writes no core and no file over `file_bytes`, uses at
 * most `cpu_s` seconds of processor time, and opens files below `dir` only, or none if that is NULL (Landlock). Open
 * descriptors remain usable. Restrictions that the kernel does not support are skipped. Returns 0, or a negative errno
 * if only Landlock is missing: -ENOSYS, -EOPNOTSUPP, -EPERM (a system call filter), or that of opening `dir`. */
int sandbox_enter(const char *dir, size_t file_bytes, unsigned cpu_s);

#endif
