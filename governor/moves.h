/* SPDX-License-Identifier: MIT */
/* Which points are allowed, and what moving there costs. */
#ifndef GOVERNOR_MOVES_H
#define GOVERNOR_MOVES_H

#include "governor.h"

/* Entries of an axis inside floor and ceiling; the ceiling wins, and the lowest
 * entry stands when it is below all. */
void moves_limits(const struct governor_board *board, int clock, size_t *low, size_t *high);
bool moves_within(const size_t axis[CLOCK_COUNT], const size_t low[CLOCK_COUNT], const size_t high[CLOCK_COUNT]);

/* Of a request's time, in ns. A clock that comes down leaves a request that runs
 * already at the faster one until it is in effect: it costs the write alone, and
 * that only where the request waits or another clock, which has to come up and
 * to settle, may be written after it. */
float moves_cost(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT], bool waits);

/* moves_cost() to a point from where the board is, of a client that waits. */
uint64_t moves_settle_ns(const struct governor_board *board, size_t point);

/* moves_cost() of every point of board->grid from where the board is, INFINITY outside these axes. It is
 * made anew only when something of that has changed. Returns moves->ns. */
const float *moves_to(struct moves *moves, const struct governor_board *board, const size_t low[CLOCK_COUNT],
		      const size_t high[CLOCK_COUNT], bool waits);

#endif
