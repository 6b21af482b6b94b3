/* SPDX-License-Identifier: MIT */
/* The page that the driver and every process under the shim share: virtual time, the process that may run, and the
 * wake-up times of the others. */
#ifndef TESTS_VTIME_PAGE_H
#define TESTS_VTIME_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

#define VTIME_SLOTS   16
#define VTIME_CLAMPS  3
#define VTIME_SETTLES 8
#define VTIME_NEVER   UINT64_MAX

/* One process. It runs only while `turn` is 1, and sets it to 0 when it has no more work; both sides sleep on it (a
 * futex). Two processes therefore never run at once, and the order of their actions is fixed. */
struct vtime_slot {
	_Atomic int32_t pid; /* 0: free */
	_Atomic uint32_t turn;
	_Atomic uint32_t ending; /* it has called exit */
	_Atomic uint64_t wake_ns;
};

/* Duration of a write to a file with `name` in its path. */
struct vtime_settle {
	char name[48];
	uint64_t up_ns, down_ns;
	_Atomic uint64_t value; /* in effect: written last, and its time over */
};

/* A file with `name` in its path accepts at most `most`, as if another owner capped it. */
struct vtime_clamp {
	char name[48];
	_Atomic uint64_t most; /* 0: none */
};

struct vtime_page {
	_Atomic uint64_t now_ns;
	_Atomic uint32_t sent; /* counts actions of a process that another can see: bytes sent, sockets closed */
	struct vtime_slot slot[VTIME_SLOTS];
	struct vtime_clamp clamp[VTIME_CLAMPS];
	struct vtime_settle settle[VTIME_SETTLES];
};

#endif
