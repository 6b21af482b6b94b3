/* SPDX-License-Identifier: MIT */
/* Other policies for the clocks: each rival is a manager of a stage (tests/population/stage.h), as its authors
 * describe it. */
#ifndef TESTS_RIVALS_RIVAL_H
#define TESTS_RIVALS_RIVAL_H

#include "../population/stage.h"

/* Clocks that move one at a time, rising ones first; each takes the transition latency of the board. */
struct mover {
	const struct board_made *board;
	size_t axis[CLOCK_COUNT], target[CLOCK_COUNT];
	int moving; /* -1: none */
	size_t moving_to;
	uint64_t now_ns, moved_ns;
};

void mover_start(struct mover *mover, const struct board_made *board, size_t point);
void mover_set(struct mover *mover, const size_t axis[CLOCK_COUNT]);
void mover_point(struct mover *mover, size_t point); /* the same by point */
void mover_pass(struct mover *mover, uint64_t to_ns);
size_t mover_now(const struct mover *mover);  /* the point in effect */
bool mover_rising(const struct mover *mover); /* a clock has yet to come up */

/* Common to most rivals: the first member of their state. */
struct base {
	struct mover mover;
	const struct stage_run *run;
};

/* A manager that only moves clocks, and whose clients wait for clocks that come up; the caller sets the rest. */
struct manager base_manager(void *state, const struct stage_run *run);
void base_destroy(struct manager *manager);
bool base_ready_at_once(void *state, size_t s); /* for clients that do not wait for a manager */

/* The highest entry of every clock. */
size_t base_top(const struct stage_run *run);
size_t base_point(const struct stage_run *run, size_t cpu, size_t gpu, size_t mem); /* by entries */

struct rival {
	const char *name, *source;
	/* A manager for this run; `destroy` frees its state. */
	void (*create)(const struct stage_run *run, struct manager *manager);
	void (*destroy)(struct manager *manager);
};

extern const struct rival rival_oracle, rival_highest, rival_kernel, rival_flame, rival_kang, rival_adpf, rival_ztt;

#endif
