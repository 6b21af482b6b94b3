/* SPDX-License-Identifier: MIT */
/* What each launch of an OpenCL program really costs on this machine, learned
 * from its first repetitions and then kept, so that the board's times come out
 * the same every time. A launch is known by its kernel's name and sizes and by
 * the launches before it since the host last waited. */
#ifndef BOARD_CALIBRATION_H
#define BOARD_CALIBRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CALIBRATION_MAX  16384 /* launches told apart; a power of two */
#define CALIBRATION_RUNS 12    /* repetitions until a launch's costs stay */
#define CALIBRATION_FILE "opencl-calibration.csv"

struct calibration_entry {
	uint64_t key; /* 0: free */
	uint32_t host_runs, exec_runs;
	double host_ns, exec_ns; /* least seen */
};

struct calibration {
	struct calibration_entry entry[CALIBRATION_MAX];
	size_t count;
	bool changed;
};

/* Key of a launch after `previous` (0: the first). Never 0. */
uint64_t calibration_key(uint64_t previous, const char *kernel, const size_t *global, const size_t *local, unsigned dims);

/* The entry of a key, made if there is room; NULL when full. */
struct calibration_entry *calibration_find(struct calibration *calibration, uint64_t key);

/* One more repetition was measured. */
void calibration_host(struct calibration *calibration, struct calibration_entry *entry, double ns);
void calibration_exec(struct calibration *calibration, struct calibration_entry *entry, double ns);

/* CSV in the board's directory: `key,host_runs,exec_runs,host_ns,exec_ns`.
 * Returns 0 or -errno; a file that is damaged is -EINVAL and not used. */
int calibration_load(struct calibration *calibration, const char *path);
int calibration_save(const struct calibration *calibration, const char *path);

#endif
