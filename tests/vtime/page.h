/* SPDX-License-Identifier: MIT */
/* The page that the driver and every process under the shim share: virtual
 * time, and who waits until when. */
#ifndef TESTS_VTIME_PAGE_H
#define TESTS_VTIME_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

#define VTIME_SLOTS 16
#define VTIME_CLAMPS 3
#define VTIME_NEVER UINT64_MAX

/* One waiting process. `seen`: in this round it looked and had nothing to do. */
struct vtime_slot {
	_Atomic int32_t pid; /* 0: free */
	_Atomic uint32_t seen;
	_Atomic uint64_t wake_ns;
};

/* A file whose path contains `name` takes at most `most`, as one that another owner caps. */
struct vtime_clamp {
	char name[48];
	_Atomic uint64_t most; /* 0: none */
};

struct vtime_page {
	_Atomic uint64_t now_ns;
	_Atomic uint32_t round;    /* bumped to make everybody look again */
	_Atomic uint32_t activity; /* counts returns from a wait */
	_Atomic uint32_t acks;     /* a futex: changes when a process has looked */
	struct vtime_slot slot[VTIME_SLOTS];
	struct vtime_clamp clamp[VTIME_CLAMPS];
};

#endif
