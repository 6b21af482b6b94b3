/* SPDX-License-Identifier: MIT */
/* The error of a board layer, as measured by itself: for every wait of the host, the time
 * that the launches before it took, and the time that they would have taken on a machine that is never late. */
#ifndef BOARD_WAITS_H
#define BOARD_WAITS_H

#include <stddef.h>
#include <stdint.h>

#define WAITS_MAX 65536 /* kept; later ones only count */

struct wait {
	uint64_t launches; /* since the wait before */
	uint64_t at_ns;    /* the wait returned; CLOCK_MONOTONIC, as all below */
	uint64_t since_ns; /* the previous wait returned */
	uint64_t first_ns; /* first upload or launch since then */
	uint64_t end_ns;   /* computed end of the last execution */
	uint64_t due_ns;   /* the same on a machine that is never late */
};

struct waits {
	struct wait *wait;
	size_t count, size;
	double late_ns, all_ns;
};

void waits_add(struct waits *waits, const struct wait *wait);
/* Excess of the waits, in percent of the total time between them. */
double waits_late_percent(const struct waits *waits);
/* CSV `at_ns,launches,total_ns,due_ns`: total from the first upload or launch
 * to the return of the wait; due the same on a machine that is never late. Does nothing without a path. */
void waits_write(const struct waits *waits, const char *path);

#endif
