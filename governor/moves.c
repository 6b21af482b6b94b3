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

/* One clock's part of the cost of a move. */
struct part {
	uint64_t ns;
	bool up, within;
};

static struct part part_of(const struct governor_board *board, int clock, size_t from, size_t to)
{
	if (!board->current_known || to > from)
		return (struct part){.ns = board->settle_ns[clock], .up = true};
	return (struct part){.ns = to < from ? board->write_ns[clock] : 0};
}

float moves_cost(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT], bool waits)
{
	bool costs = waits;
	uint64_t ns = 0;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		struct part part = part_of(board, c, from[c], to[c]);
		ns += part.ns;
		costs = costs || part.up;
	}
	return costs ? (float)ns : 0;
}

uint64_t moves_settle_ns(const struct governor_board *board, size_t point)
{
	size_t from[CLOCK_COUNT], to[CLOCK_COUNT];

	grid_axes(board->grid, board->current, from);
	grid_axes(board->grid, point, to);
	return (uint64_t)moves_cost(board, from, to, true);
}

/* Point by point in the order of the grid, the memory clock fastest. */
static void fill(float *ns, const struct grid *grid, struct part part[CLOCK_COUNT][GRID_AXIS_MAX], bool waits)
{
	for (size_t cpu = 0; cpu < grid->count[CLOCK_CPU]; cpu++)
		for (size_t gpu = 0; gpu < grid->count[CLOCK_GPU]; gpu++) {
			struct part a = part[CLOCK_CPU][cpu], b = part[CLOCK_GPU][gpu];
			for (size_t mem = 0; mem < grid->count[CLOCK_MEM]; mem++) {
				struct part c = part[CLOCK_MEM][mem];
				bool costs = waits || a.up || b.up || c.up;
				*ns++ = a.within && b.within && c.within ? (costs ? (float)(a.ns + b.ns + c.ns) : 0) : INFINITY;
			}
		}
}

const float *moves_to(struct moves *moves, const struct governor_board *board, const size_t low[CLOCK_COUNT],
		      const size_t high[CLOCK_COUNT], bool waits)
{
	const struct grid *grid = board->grid;
	struct part part[CLOCK_COUNT][GRID_AXIS_MAX];
	size_t from[CLOCK_COUNT] = {0};
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
	for (int c = 0; c < CLOCK_COUNT; c++)
		for (size_t i = 0; i < grid->count[c]; i++) {
			part[c][i] = part_of(board, c, from[c], i);
			part[c][i].within = i >= low[c] && i <= high[c];
		}
	fill(moves->ns, grid, part, waits);
	return moves->ns;
}
