/* SPDX-License-Identifier: MIT */
/* The points that are allowed, and the time to move there. */
#include "state.h"

void moves_limits(const struct governor_board *board, int clock, size_t *low, size_t *high)
{
	const uint64_t *hz = board->grid->hz[clock];
	uint64_t ceiling_hz = board->ceiling_hz[clock] < board->ceiling_config_hz[clock] ?
				      board->ceiling_hz[clock] :
				      board->ceiling_config_hz[clock];

	*low = 0;
	*high = board->grid->count[clock] - 1;
	while (*high > 0 && hz[*high] > ceiling_hz)
		--*high;
	while (*low < *high && hz[*low] < board->floor_hz[clock])
		++*low;
}

bool moves_within(const size_t axis[CLOCK_COUNT], const size_t low[CLOCK_COUNT], const size_t high[CLOCK_COUNT])
{
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (axis[c] < low[c] || axis[c] > high[c])
			return false;
	return true;
}

double moves_up_ns(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT])
{
	uint64_t ns = 0;

	for (int c = 0; c < CLOCK_COUNT; c++)
		if (!board->current_known || to[c] > from[c])
			ns += board->up_ns[c];
	return (double)ns;
}

double moves_down_ns(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT])
{
	uint64_t ns = 0;

	for (int c = 0; c < CLOCK_COUNT; c++)
		if (to[c] < from[c])
			ns += board->down_ns[c];
	return (double)ns;
}
