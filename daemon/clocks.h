/* SPDX-License-Identifier: MIT */
/* The clocks as flamed sees them: the grid of operating points, the point in force, limits set by
 * others, and the link to the keeper, which moves the clocks. */
#ifndef DAEMON_CLOCKS_H
#define DAEMON_CLOCKS_H

#include "../governor/governor.h"
#include "config.h"
#include "keeper_link.h"

struct clocks {
	const struct board *board;
	struct grid grid;
	struct governor_board view; /* the part that the governor sees */
	struct op_point found;      /* for axes with a single entry: the fixed frequency */
	struct keeper_link *keeper;
	struct keeper_reply last;  /* newest answer; op 0: none yet */
	bool managed[CLOCK_COUNT]; /* controllable and not left alone */
	struct clock_times {       /* of moves down and up */
		bool timed;        /* one was measured */
		unsigned moves;    /* of them, those that moved the clock */
		uint64_t least_ns; /* that one took, with head room */
		uint64_t write_ns; /* what one takes, smoothed */
	} times[2][CLOCK_COUNT];
	unsigned decays; /* calls of clocks_decay_times() */
	bool shadow;     /* by flamed.conf: there is no keeper, the kernel has them for good */
	bool pretended;  /* view.current is where a session in shadow would have put them */
	bool held;       /* a target stands; else the kernel has them */
	bool released;   /* by op=release: nothing is written until the next begin */
	size_t target;   /* grid point asked for, while held */
	size_t wanted;   /* where clocks that come down are to go once those that come up are up */
	struct op_point target_point;
	uint64_t serial;     /* of the newest request to the keeper */
	uint64_t epoch;      /* incremented with every move, to tell whether the clocks stood still */
	uint64_t asked_ns;   /* when the oldest unanswered message was sent */
	uint64_t arrives_ns; /* expected end of the move under way, real time */
};

/* Build the axes from the board's tables and the configuration, and the ceilings from the keeper's
 * first reply. `keeper` and `last` are kept. */
int clocks_init(struct clocks *clocks, const struct board *board, const struct config *config);
void clocks_configure(struct clocks *clocks, const struct config *config);

/* Move to a grid point. Returns the serial of the reply that will confirm it; 0 when there is
 * nothing to wait for (already there, or no keeper). */
uint64_t clocks_apply(struct clocks *clocks, size_t point);

/* For a session in shadow: decide from here on as if they had been moved there, while nobody holds them. */
void clocks_pretend(struct clocks *clocks, size_t point);

/* A session that is not in shadow decides: where they are is not known. */
void clocks_stop_pretending(struct clocks *clocks);

/* The same for a client that waits, of the clocks that come up alone. Those that come down follow
 * with clocks_lower(), which returns what that takes in ns; 0: none does. */
uint64_t clocks_raise(struct clocks *clocks, size_t point);
uint64_t clocks_lower(struct clocks *clocks);

/* Expected remaining time of the move under way; 0: none. A request that begins now has to wait for
 * it first. */
uint64_t clocks_flight_ns(const struct clocks *clocks);

/* Do the configuration and others' ceilings allow a grid point? */
bool clocks_allow(const struct clocks *clocks, size_t point);

/* Hand the clocks back to the kernel, with every knob as found. */
void clocks_release(struct clocks *clocks);

/* The keeper replied, or was lost. */
void clocks_take(struct clocks *clocks, const struct keeper_reply *reply);
void clocks_lose(struct clocks *clocks);

/* The point in force: as read back where known, else as requested. A clock that is not managed has
 * its axis' only frequency. */
struct op_point clocks_point(const struct clocks *clocks);

/* A request ended: let the write times decay a little, but not below the shortest measured move.
 * Otherwise one write that was slow by chance could keep the clocks from ever moving, and so from
 * being timed again. */
void clocks_decay_times(struct clocks *clocks);

/* What sets the clock now: "flamed", "kernel" or "foreign". */
const char *clocks_owner(const struct clocks *clocks, enum clock_id id);

/* The first fault worth reporting; "" when there is none. */
const char *clocks_fault(const struct clocks *clocks);

#endif
