/* SPDX-License-Identifier: MIT */
/* Keeps a built tree alive: notices writes to knobs, moves clocks, runs the
 * governors, accounts power and heat. */
#ifndef BOARD_ANIMATE_H
#define BOARD_ANIMATE_H

#include "page.h"
#include "tree.h"

struct board_run {
	const struct spec *spec;
	struct board_page *page;
	struct tree tree;
	struct board_clock device[SPEC_CLOCKS_MAX];
	struct power power;
	int inotify_fd, signal_fd, lock_fd;
	uint64_t governed_ns;                                      /* end of the last governor window */
	uint64_t shown_ns;                                         /* sensors last written */
	uint64_t retried_ns;                                       /* values last written that a busy file held up */
	uint64_t busy_at_ns;                                       /* load last seen */
	uint64_t spent_busy[CLOCK_COUNT], spent_work[CLOCK_COUNT]; /* of the page's counters, taken */
	double window_busy_ns[CLOCK_COUNT];                        /* of this governor window */
	double throttle;                                           /* table entries taken off by heat, slowly */
};

/* Devices as after power on, tree, page. Returns 0 or -errno with `message`. */
int run_init(struct board_run *run, const struct spec *spec, const char *dir, char *message);
/* Until SIGTERM or SIGINT, which must be blocked. Returns 0 or -errno. */
int run_loop(struct board_run *run);
void run_close(struct board_run *run);

#endif
