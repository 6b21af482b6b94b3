/* SPDX-License-Identifier: MIT */
#include "moves.h"

#include <math.h>
#include <string.h>

void moves_limits(const struct governor_board *board, int clock, size_t *low, size_t *high)
{
	const uint64_t *hz = board->grid->hz[clock];
	uint64_t ceiling_hz = board->ceiling_hz[clock] < board->ceiling_config_hz[clock] ? board->ceiling_hz[clock]
											 : board->ceiling_config_hz[clock];

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

float moves_cost(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT], bool waits)
{
	uint64_t up_ns = 0, down_ns = 0;
	bool up = !board->current_known;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		if (board->current_known && from[c] == to[c])
			continue;
		bool rises = !board->current_known || to[c] > from[c];
		up = up || rises;
		up_ns += rises ? board->settle_ns[c] : 0;
		down_ns += rises ? 0 : board->write_ns[c];
	}
	return (float)(up || waits ? up_ns + down_ns : 0);
}

uint64_t moves_settle_ns(const struct governor_board *board, size_t point)
{
	size_t from[CLOCK_COUNT], to[CLOCK_COUNT];

	grid_axes(board->grid, board->current, from);
	grid_axes(board->grid, point, to);
	return (uint64_t)moves_cost(board, from, to, true);
}

/* The next point of the grid, in its order: axes count up like digits. */
static void next_axes(const struct grid *grid, size_t axis[CLOCK_COUNT])
{
	for (int c = CLOCK_COUNT - 1; c >= 0 && ++axis[c] == grid->count[c]; c--)
		axis[c] = 0;
}

const float *moves_to(struct moves *moves, const struct governor_board *board, const size_t low[CLOCK_COUNT],
		      const size_t high[CLOCK_COUNT], bool waits)
{
	const struct grid *grid = board->grid;
	size_t from[CLOCK_COUNT] = {0}, axis[CLOCK_COUNT] = {0};
	struct moves_key key = {.current = board->current, .known = board->current_known, .waits = waits};

	memcpy(key.count, grid->count, sizeof(key.count));
	memcpy(key.low, low, sizeof(key.low));
	memcpy(key.high, high, sizeof(key.high));
	memcpy(key.settle_ns, board->settle_ns, sizeof(key.settle_ns));
	memcpy(key.write_ns, board->write_ns, sizeof(key.write_ns));
	if (memcmp(&key, &moves->key, sizeof(key)) == 0)
		return moves->ns;
	moves->key = key;
	if (board->current_known)
		grid_axes(grid, board->current, from);
	for (size_t i = 0; i < grid->points; i++, next_axes(grid, axis))
		moves->ns[i] = moves_within(axis, low, high) ? moves_cost(board, from, axis, waits) : INFINITY;
	return moves->ns;
}
