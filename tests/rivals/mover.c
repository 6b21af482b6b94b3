/* SPDX-License-Identifier: MIT */
#include "rival.h"

#include <stdlib.h>
#include <string.h>

static void next_move(struct mover *m)
{
	m->moving = -1;
	m->moved_ns = STAGE_NEVER;
	for (int up = 1; up >= 0; up--)
		for (int c = 0; c < CLOCK_COUNT; c++)
			if (m->moving < 0 && (up ? m->target[c] > m->axis[c] : m->target[c] < m->axis[c])) {
				m->moving = c;
				m->moving_to = m->target[c];
				m->moved_ns = m->now_ns + (uint64_t)(up ? m->board->up_ns[c] : m->board->down_ns[c]);
			}
}

void mover_start(struct mover *m, const struct board_made *board, size_t point)
{
	memset(m, 0, sizeof(*m));
	m->board = board;
	grid_axes(&board->grid, point, m->axis);
	memcpy(m->target, m->axis, sizeof(m->axis));
	m->moving = -1;
	m->moved_ns = STAGE_NEVER;
}

void mover_set(struct mover *m, const size_t axis[CLOCK_COUNT])
{
	memcpy(m->target, axis, sizeof(m->target));
	if (m->moving < 0)
		next_move(m);
}

void mover_point(struct mover *m, size_t point)
{
	size_t axis[CLOCK_COUNT];

	grid_axes(&m->board->grid, point, axis);
	mover_set(m, axis);
}

void mover_pass(struct mover *m, uint64_t to_ns)
{
	while (m->moved_ns <= to_ns) {
		m->now_ns = m->moved_ns;
		m->axis[m->moving] = m->moving_to;
		next_move(m);
	}
	m->now_ns = to_ns;
}

size_t mover_now(const struct mover *m)
{
	return grid_index(&m->board->grid, m->axis);
}

bool mover_rising(const struct mover *m)
{
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (m->target[c] > m->axis[c])
			return true;
	return false;
}

/* ---- common to most rivals ---- */

static void no_session(void *state, size_t s)
{
	(void)state;
	(void)s;
}
static void no_request(void *state, size_t s, uint64_t ns)
{
	(void)state;
	(void)s;
	(void)ns;
}
static bool when_up(void *state, size_t s)
{
	(void)s;
	return !mover_rising(&((struct base *)state)->mover);
}
static uint64_t when_moved(void *state)
{
	return ((struct base *)state)->mover.moved_ns;
}
static void moved(void *state, uint64_t ns)
{
	mover_pass(&((struct base *)state)->mover, ns);
}
static size_t point_now(void *state)
{
	return mover_now(&((struct base *)state)->mover);
}
static void no_sense(void *state, double uw)
{
	(void)state;
	(void)uw;
}

bool base_ready_at_once(void *state, size_t s)
{
	(void)state;
	(void)s;
	return true;
}

struct manager base_manager(void *state, const struct stage_run *run)
{
	struct base *base = state;

	base->run = run;
	mover_start(&base->mover, run->loop.board, base_top(run));
	return (struct manager){state,      no_session, no_session, no_request, when_up, no_request,
				when_moved, moved,      point_now,  no_sense,   NULL};
}

void base_destroy(struct manager *manager)
{
	free(manager->state);
}

size_t base_top(const struct stage_run *run)
{
	return run->loop.board->grid.points - 1;
}

size_t base_point(const struct stage_run *run, size_t cpu, size_t gpu, size_t mem)
{
	size_t axis[CLOCK_COUNT] = {cpu, gpu, mem};

	return grid_index(&run->loop.board->grid, axis);
}
