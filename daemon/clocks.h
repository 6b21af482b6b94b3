/* SPDX-License-Identifier: MIT */
/* The clocks as flamed sees them: what the board can hold, what is in force,
 * what others allow, and the keeper that moves them. */
#ifndef DAEMON_CLOCKS_H
#define DAEMON_CLOCKS_H

#include "../governor/governor.h"
#include "config.h"
#include "keeper_link.h"

struct clocks {
	const struct board *board;
	struct grid grid;
	struct governor_board view;      /* what the governor is given */
	struct op_point found;           /* axes of one entry: the clock that stands there */
	struct keeper_link *keeper;
	struct keeper_reply last;        /* newest answer; op 0: none yet */
	bool managed[CLOCK_COUNT];       /* controllable and not left alone */
	bool timed[CLOCK_COUNT];         /* a write of it was measured */
	unsigned moves[CLOCK_COUNT];     /* of them, those that moved it */
	uint64_t least_ns[CLOCK_COUNT];  /* that a move of it took, with head room */
	unsigned forgets;                /* requests for clocks_forget() */
	bool held;                       /* a target stands; else the kernel has them */
	bool released;                   /* by op=release: nothing is written until the next begin */
	size_t target;                   /* grid point asked for, while held */
	struct op_point target_point;
	uint64_t serial;                 /* of the newest request to the keeper */
	uint64_t epoch;                  /* grows with every move: tells whether clocks stood still */
	uint64_t arrives_ns;             /* when the move under way should be done, real time */
};

/* Axes from the board's tables and the configuration, ceilings from the keeper's
 * first message. `keeper` and `last` of the struct are kept. */
int clocks_init(struct clocks *clocks, const struct board *board, const struct config *config);
void clocks_configure(struct clocks *clocks, const struct config *config);

/* Ask for a grid point. Returns the serial whose answer says it is applied; 0:
 * nothing to wait for (already there, or no keeper). */
uint64_t clocks_apply(struct clocks *clocks, size_t point);

/* How long a move that is under way still takes, as writes go here; 0: none. A
 * request that begins meanwhile waits so long before anything of its own. */
uint64_t clocks_flight_ns(const struct clocks *clocks);

/* Hand them back to the kernel, exactly as found. */
void clocks_release(struct clocks *clocks);

/* An answer of the keeper, or that it is gone. */
void clocks_take(struct clocks *clocks, const struct keeper_reply *reply);
void clocks_lose(struct clocks *clocks);

/* The point in force: read back where known, else asked for. Clocks that are
 * not managed are what the axis says. */
struct op_point clocks_point(const struct clocks *clocks);

/* A request ended: doubt the write times a little, down to the least that a move took. One that was long by chance
 * would otherwise keep the clocks from ever moving, and so from being timed again. */
void clocks_forget(struct clocks *clocks);

/* First fault worth showing, "" when all is well. */
const char *clocks_fault(const struct clocks *clocks);

#endif
