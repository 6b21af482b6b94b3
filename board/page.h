/* SPDX-License-Identifier: MIT */
/* The page DIR/board.page that the board shares with the programs it slows
 * down: clocks in force one way, busy time the other. Lock-free; every field
 * is written by one side only, or added to atomically. */
#ifndef BOARD_PAGE_H
#define BOARD_PAGE_H

#include <stdatomic.h>
#include "spec.h"

#define PAGE_MAGIC 0x464c4234U /* "FLB4" */
#define PAGE_NAME  "board.page"

struct board_page {
	uint32_t magic, size;
	uint64_t max_hz[CLOCK_COUNT], min_hz[CLOCK_COUNT]; /* of the lead device; 0: no such clock */
	uint64_t settle_ns[CLOCK_COUNT];
	struct spec_model workload[MODEL_COUNT];
	uint64_t steps[CLOCK_COUNT]; /* table of the lead device, and what the clock costs there: */
	uint64_t table_hz[CLOCK_COUNT][GRID_AXIS_MAX];
	double idle_w[CLOCK_COUNT][GRID_AXIS_MAX]; /* of all its devices at the nearest clock of each */
	double busy_w[CLOCK_COUNT][GRID_AXIS_MAX]; /* added by one busy core, the busy GPU, the busy memory */
	double base_w;
	struct spec_opencl opencl;
	/* written by the board */
	_Atomic uint64_t hz[CLOCK_COUNT];
	_Atomic uint64_t account;   /* sequence counter: odd while the next three change */
	_Atomic uint64_t now_ns;    /* of the last account */
	_Atomic uint64_t power_uw;  /* mean of the last account, without noise */
	_Atomic uint64_t energy_uj; /* since ready, exact */
	_Atomic uint64_t rejected;  /* writes refused */
	_Atomic uint64_t moves[CLOCK_COUNT];
	/* added to by programs */
	_Atomic uint64_t busy_ns[CLOCK_COUNT]; /* cpu: of all threads together */
	_Atomic uint64_t work_ns[CLOCK_COUNT]; /* the equivalent time at full activity, for power */
};

/* New page file in a board directory, zeroed and locked through `*lock_fd`,
 * which stays open as long as the board runs. NULL and `*error` = -errno;
 * -EBUSY: a board runs there. */
struct board_page *page_create(const char *dir, int *lock_fd, int *error);
/* Page of a running board. NULL and `*error`; -EPROTO: not such a page. */
struct board_page *page_attach(const char *dir, int *error);
void page_detach(struct board_page *page);

/* Energy since the board was ready, and the time up to which it is accounted, as a consistent pair. */
void page_energy(const struct board_page *page, uint64_t *energy_uj, uint64_t *now_ns);

static inline uint64_t page_hz(const struct board_page *page, enum clock_id id)
{
	return atomic_load_explicit(&page->hz[id], memory_order_relaxed);
}

static inline void page_busy(struct board_page *page, enum clock_id id, uint64_t busy_ns, uint64_t work_ns)
{
	atomic_fetch_add_explicit(&page->busy_ns[id], busy_ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&page->work_ns[id], work_ns, memory_order_relaxed);
}

#endif
