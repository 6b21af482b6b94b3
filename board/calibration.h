/* SPDX-License-Identifier: MIT */
/* Cost of each launch of a program on this machine, learned from its first repetitions and then fixed, so that the
 * board's times are the same every time. A launch is identified by its kernel and by the launches before it since the
 * host last waited. */
#ifndef BOARD_CALIBRATION_H
#define BOARD_CALIBRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CALIBRATION_MAX  16384 /* distinct launches; a power of two */
#define CALIBRATION_RUNS 12    /* repetitions after which the cost of a launch is fixed */

struct calibration_entry {
	uint64_t key; /* 0: free */
	uint32_t host_runs, exec_runs;
	double host_ns, exec_ns; /* the least of the repetitions */
};

struct calibration {
	struct calibration_entry entry[CALIBRATION_MAX];
	size_t count;
	bool changed;
};

/* Key of a launch after `previous` (0: the first), identified by `size` bytes at
 * `what`. Never 0. */
uint64_t calibration_key(uint64_t previous, const void *what, size_t size);

/* The entry of a key, added if it is new; NULL when the table is full. */
struct calibration_entry *calibration_find(struct calibration *calibration, uint64_t key);

/* One more repetition was measured. */
void calibration_host(struct calibration *calibration, struct calibration_entry *entry, double ns);
void calibration_exec(struct calibration *calibration, struct calibration_entry *entry, double ns);

/* CSV in the board's directory, a file for each API: `key,host_runs,exec_runs,host_ns,exec_ns`.
 * Returns 0 or -errno; a file that is damaged is -EINVAL and not used. */
int calibration_load(struct calibration *calibration, const char *path);
int calibration_save(const struct calibration *calibration, const char *path);

#endif
