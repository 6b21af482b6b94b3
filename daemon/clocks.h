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
	struct keeper_reply last;  /* newest reply; op 0: none yet */
	bool managed[CLOCK_COUNT]; /* controllable and not left alone */
	struct clock_times {       /* of moves down and up */
		bool timed;        /* one was measured */
		unsigned moves;    /* of them, those that moved the clock */
		uint64_t least_ns; /* that one took, with head room */
		uint64_t write_ns; /* smoothed duration of one */
	} times[2][CLOCK_COUNT];
	unsigned decays; /* calls of clocks_decay_times() */
	bool shadow;     /* mode = shadow in flamed.conf: there is no keeper, and the kernel always sets the clocks */
	bool pretended;  /* view.current is where a session in shadow would have put them */
	bool held;       /* flamed sets the clocks; else the kernel does */
	bool unsent;     /* the target did not reach the keeper: it is sent again with the next request */
	bool released;   /* by op=release: nothing is written until the next begin */
	size_t target;   /* grid point asked for, while held */
	size_t wanted;   /* the point decided: clocks that come down move there once the others are up */
	struct op_point target_point;
	uint64_t serial;     /* of the newest request to the keeper */
	uint64_t epoch;      /* incremented with every move, to detect whether the clocks stood still */
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

/* For a session in shadow: further decisions assume that the clocks were moved there, while no session holds them. */
void clocks_pretend(struct clocks *clocks, size_t point);

/* A session that is not in shadow decides: the current point is unknown. */
void clocks_stop_pretending(struct clocks *clocks);

/* The same for a client that waits, for the clocks that come up only. The others follow with clocks_lower(), which
 * returns the expected time in ns; 0: no clock comes down. */
uint64_t clocks_raise(struct clocks *clocks, size_t point);
uint64_t clocks_lower(struct clocks *clocks);

/* Expected remaining time of the move under way; 0: none. A request that begins now has to wait for
 * it first. */
uint64_t clocks_settling_ns(const struct clocks *clocks);

/* Do the configuration and others' ceilings allow a grid point? */
bool clocks_allow(const struct clocks *clocks, size_t point);

/* Are the clocks at the point in force? Not while the keeper is absent or has not answered, nor where it could not set
 * one of them, or left it to another program, nor that of a device that was suspended when the keeper answered and is
 * awake now. True on a board without a clock that can be moved. */
bool clocks_in_force(const struct clocks *clocks, const struct sysroot *root);

/* Return the clocks to the kernel, with every knob as it was found. */
void clocks_release(struct clocks *clocks);

/* The keeper replied, or was lost. */
void clocks_take(struct clocks *clocks, const struct keeper_reply *reply);
void clocks_lose(struct clocks *clocks);

/* The point in force: as read back if known, else as requested. A clock that is not managed has the only frequency of
 * its axis. */
struct op_point clocks_point(const struct clocks *clocks);

/* A request ended: write times decay a little, but not below the shortest measured move. Otherwise a single slow write
 * could pin the clocks, so that it would never be measured again. */
void clocks_decay_times(struct clocks *clocks);

/* The program that sets the clock now: "flamed", "kernel" or "foreign". */
const char *clocks_owner(const struct clocks *clocks, enum clock_id id);

/* The first fault worth reporting; "" when there is none. */
const char *clocks_fault(const struct clocks *clocks);

#endif
