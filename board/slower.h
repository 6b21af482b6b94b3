/* SPDX-License-Identifier: MIT */
/* Common to the board's layers for every API: the board in $FLAMED_BOARD,
 * a host that launches as slowly as the board's CPU, an execution queue,
 * calibrated costs, and the layer's own error. */
#ifndef BOARD_SLOWER_H
#define BOARD_SLOWER_H

#include "calibration.h"
#include "lane.h"
#include "waits.h"

#define SLOWER_CATCH_UP_NS 2000000ULL /* further behind than that, the host was waiting, not slow */
#define SLOWER_LATES       4096       /* ends of which the delay is recorded */

struct slower {
	const char *name; /* "opencl": messages say flamed-board-opencl, DIR/opencl-calibration.csv */
	bool on;
	char dir[SYSFS_PATH_MAX];
	struct board_page *page;
	struct lane lane;
	pthread_mutex_t lock; /* calibration and the figures below */
	struct calibration calibration;
	uint64_t launches, late_ns[SLOWER_LATES], last_end_ns, last_due_ns;
	struct waits waits;
};
extern struct slower slower;

/* Attach to the board and start its execution queue; a failure is reported on stderr. */
void slower_start(const char *name, const struct lane_ops *ops);
/* At the program's end: print the report on stderr, write calibration and waits to their files. */
void slower_report(void);

/* The host is about to launch, after its own work since the last delay; `size` bytes at `what` identify the launch.
 * Returns its key. *launched_ns: the end of the launch by the board's clocks; *prompt_ns: the same on a machine that is
 * never late. */
uint64_t slower_launch(const void *what, size_t size, uint64_t *launched_ns, uint64_t *prompt_ns);
/* The launch is made: delay the host until that end. */
void slower_launched(void);
/* Calibrated cost of work of the host's own that is identified by `key` and took `cpu_ns` this time; 0: only looked up.
 * Returns 0 if it was never measured. */
double slower_cost(uint64_t key, uint64_t cpu_ns);
/* The host has done such work since `begin_ns`, without a launch: delay it until the board would have ended work that
 * costs `ns` on this machine. */
void slower_worked(double ns, uint64_t begin_ns);
/* CPU time of the calling thread so far. */
uint64_t slower_thread_ns(void);
/* Input is being transferred: it is not slowed down, but an inference begins with it. */
void slower_uploads(void);
/* The host has waited: its time continues from now. */
void slower_waited(void);

/* The cost on the board of an execution that took `ns` on this machine (0: not known),
 * calibrated by its key. `start_ns`: its start on this machine; 0: not known. */
void slower_executed(uint64_t key, double ns, uint64_t start_ns, struct lane_item *item);
/* An execution has ended by the board's clocks. */
void slower_done(const struct lane_item *item);

#endif
