/* SPDX-License-Identifier: MIT */
/* What the board's layer measures of its own error: for every host wait how
 * long the launches before it took, and how long they would have taken had
 * this machine done at once what the board's clocks allowed. */
#ifndef BOARD_WAITS_H
#define BOARD_WAITS_H

#include <stddef.h>
#include <stdint.h>

#define WAITS_MAX 65536 /* kept; later ones only count */

struct wait {
	uint64_t launches; /* since the wait before */
	uint64_t at_ns;    /* the wait returned; CLOCK_MONOTONIC, as all below */
	uint64_t since_ns; /* the one before did */
	uint64_t first_ns; /* first upload or launch since then */
	uint64_t end_ns;   /* last execution, as reckoned */
	uint64_t due_ns;   /* the same on a machine that is never late */
};

struct waits {
	struct wait *wait;
	size_t count, size;
	double late_ns, all_ns;
};

void waits_add(struct waits *waits, const struct wait *wait);
/* By how much the waits were too long, of all time between them. */
double waits_late_percent(const struct waits *waits);
/* CSV `at_ns,launches,total_ns,due_ns`: total from the first upload or launch
 * to the return of the wait, due what it would have been. No path, nothing done. */
void waits_write(const struct waits *waits, const char *path);

#endif
