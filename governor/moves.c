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

/* The next point of the grid, in its order: axes count up like digits. */
static void next_axes(const struct grid *grid, size_t axis[CLOCK_COUNT])
{
	for (int c = CLOCK_COUNT - 1; c >= 0 && ++axis[c] == grid->count[c]; c--)
		axis[c] = 0;
}

static void build_moves(struct governor *governor, const struct governor_board *board)
{
	const struct grid *grid = board->grid;
	size_t from[CLOCK_COUNT] = {0}, axis[CLOCK_COUNT] = {0};

	if (board->current_known)
		grid_axes(grid, board->current, from);
	for (size_t i = 0; i < grid->points; i++, next_axes(grid, axis))
		governor->move_ns[i] = moves_within(axis, governor->key.low, governor->key.high) ? moves_cost(board, from, axis, governor->key.waits)
												: INFINITY;
}

const float *moves_standing(struct governor *governor, const struct grid *grid, const size_t low[CLOCK_COUNT], const size_t high[CLOCK_COUNT])
{
	size_t axis[CLOCK_COUNT] = {0}, bytes = sizeof(governor->standing.low);

	if (governor->standing.grid == grid && !memcmp(governor->standing.low, low, bytes) && !memcmp(governor->standing.high, high, bytes))
		return governor->standing.move_ns;
	governor->standing.grid = grid;
	memcpy(governor->standing.low, low, bytes);
	memcpy(governor->standing.high, high, bytes);
	for (size_t i = 0; i < grid->points; i++, next_axes(grid, axis))
		governor->standing.move_ns[i] = moves_within(axis, low, high) ? 0 : INFINITY;
	return governor->standing.move_ns;
}

void moves_prepare(struct governor_task *t, const size_t low[CLOCK_COUNT])
{
	struct governor *governor = t->governor;
	bool same = governor->key.grid == t->board.grid && governor->key.current == t->board.current &&
		    governor->key.known == t->board.current_known && governor->key.waits == t->newest.waits;

	for (int c = 0; c < CLOCK_COUNT; c++)
		same = same && governor->key.settle_ns[c] == t->board.settle_ns[c] &&
		       governor->key.write_ns[c] == t->board.write_ns[c] && governor->key.low[c] == low[c] &&
		       governor->key.high[c] == t->high[c];
	if (same)
		return;
	governor->key.grid = t->board.grid;
	governor->key.current = t->board.current;
	governor->key.known = t->board.current_known;
	governor->key.waits = t->newest.waits;
	for (int c = 0; c < CLOCK_COUNT; c++) {
		governor->key.settle_ns[c] = t->board.settle_ns[c];
		governor->key.write_ns[c] = t->board.write_ns[c];
		governor->key.low[c] = low[c];
		governor->key.high[c] = t->high[c];
	}
	build_moves(governor, &t->board);
}
