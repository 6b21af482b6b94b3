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

/* Bring governor->move_ns, from where the board is, up to date for these limits. */
void moves_prepare(struct governor_task *t, const size_t low[CLOCK_COUNT]);

/* For each point of the grid 0 within these limits, INFINITY outside; the governor's. */
const float *moves_standing(struct governor *governor, const struct grid *grid, const size_t low[CLOCK_COUNT], const size_t high[CLOCK_COUNT]);

#endif
