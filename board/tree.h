/* SPDX-License-Identifier: MIT */
/* The files of a board below a directory: built once, then kept up to date. This file has paths and texts;
 * clock_device.h and power.h have the values. */
#ifndef BOARD_TREE_H
#define BOARD_TREE_H

#include <signal.h>
#include <time.h>
#include "clock_device.h"
#include "power.h"

#define LEASE_SIGNAL   (SIGRTMIN + 3) /* another program waits for a leased file */
#define TREE_KNOBS_MAX (SPEC_CLOCKS_MAX * 4)

/* A file that others write. */
struct knob_file {
	size_t device;
	enum board_knob knob;
	char path[SYSFS_PATH_MAX]; /* with the board directory */
	int watch;                 /* inotify descriptor, -1 */
	int lease_fd;              /* held to make the writer wait, -1 */
	uint64_t release_ns;       /* a writer waits until then; 0: none */
	uint64_t begun_ns;         /* time of the last writer */
	bool stale;                /* could not be updated while another program had it open */
	/* text and time stamp when the board last wrote or read it: any other is a write whose event is to come */
	char seen[KNOB_VALUE_MAX];
	struct timespec seen_at;
};

struct tree {
	const struct spec *spec;
	const char *dir;
	size_t knobs;
	struct knob_file knob[TREE_KNOBS_MAX];
	int cur_fd[SPEC_CLOCKS_MAX][2]; /* scaling_cur_freq cpuinfo_cur_freq / cur_freq target_freq */
	int load_fd[SPEC_CLOCKS_MAX];
	int rail_fd[SPEC_RAILS_MAX][2]; /* mV, mA */
	int zone_fd[SPEC_ZONES_MAX];
	int cooling_fd[SPEC_CLOCKS_MAX]; /* cur_state of the cooling device of each clock device */
};

/* Whether `dir` may be written in: -EEXIST, with the path in `message`, if it has a sys or proc that is not a
 * board's. */
int tree_check(const char *dir, char *message);

/* Build every file below `dir`. `devices` is parallel to spec->clock. Returns
 * 0 or -errno with the path at fault in `message`. */
int tree_build(struct tree *tree, const struct spec *spec, const char *dir, const struct board_clock *devices,
	       char *message);
void tree_close(struct tree *tree);

/* Read what another program wrote to a knob; false when the board wrote last. */
bool tree_take(struct knob_file *knob, char *text, size_t size);
/* Make a knob read the device's value. A value that another program wrote and that the device has not accepted yet is
 * left alone. */
void tree_show_knob(struct knob_file *knob, const struct board_clock *device);
/* userspace/set_freq of a devfreq device appears and goes with the governor.
 * True when a knob was added (the last of tree->knob). */
bool tree_userspace(struct tree *tree, size_t index, const struct board_clock *device);

void tree_show_clock(struct tree *tree, size_t index, const struct board_clock *device);
void tree_show_power(struct tree *tree, struct power *power);
void tree_show_cooling(struct tree *tree, uint64_t state);

#endif
