/* SPDX-License-Identifier: MIT */
/* The scheduling priority of the emulator's programs. */
#ifndef BOARD_PRIORITY_H
#define BOARD_PRIORITY_H

#include <sys/resource.h>

#define BOARD_NICE (-10) /* the same as flamed's, which must not get ahead of the emulated clocks */

/* A late emulator is a slow board: run before this machine's other work where that is permitted (root, RLIMIT_NICE).
 * A priority other than the default is left as it is. */
static inline void run_on_time(void)
{
	if (getpriority(PRIO_PROCESS, 0) == 0)
		(void)!setpriority(PRIO_PROCESS, 0, BOARD_NICE);
}

#endif
