/* SPDX-License-Identifier: MIT */
/* Between the files of this room: one finder a clock, and the pure parsers of
 * what sysfs says, callable on a buffer. */
#ifndef PROBES_PROBE_H
#define PROBES_PROBE_H

#include "board.h"
#include "sysroot.h"

/* Frequencies in any order, in units of `unit_hz`, words that are no numbers
 * passed over; into `hz` ascending and each once. More than `max`: thinned
 * evenly, the ends kept. Returns the count. */
size_t freq_table_parse(const char *text, uint64_t unit_hz, uint64_t *hz, size_t max);

/* An amdgpu level table, "0: 500Mhz *": levels must be numbered from 0 and
 * ascend. `*current` is the starred level or -1. Returns the count, 0 when it
 * is no such table. */
size_t dpm_table_parse(const char *text, uint64_t *hz, size_t max, int *current);

/* Even steps of about `step_hz` from lo to hi, both included. Returns the count. */
size_t freq_table_make(uint64_t lo, uint64_t hi, uint64_t step_hz, uint64_t *hz, size_t max);

/* Fill `device` from a directory whose method is set. 0, or -errno with a
 * reason in `why`: the file that is missing or what it says. */
int device_probe(struct clock_device *device, const struct sysroot *root, char *why, size_t size);

/* Find the devices of a clock; `why_not` is set where there are none. */
void cpu_find(struct clock_domain *domain, const struct sysroot *root);
void gpu_find(struct clock_domain *domain, const struct sysroot *root);
void mem_find(struct clock_domain *domain, const struct sysroot *root);

/* Add one device found; picks the lead. False when it was refused, with the
 * reason in why_not. */
bool domain_add(struct clock_domain *domain, const struct sysroot *root, enum clock_method method, const char *dir);

void rails_find(struct board *board, const struct sysroot *root);
void zones_find(struct board *board, const struct sysroot *root);

/* A board file. */
#define BOARD_FILE_DEVICES_MAX CPU_POLICIES_MAX
#define BOARD_FILE_BYTES_MAX 65536
#define BOARD_FILE_MATCHES_MAX 16

struct board_file_clock {
	size_t paths;
	char path[BOARD_FILE_DEVICES_MAX][SYSFS_PATH_MAX];
	enum clock_method method; /* METHOD_COUNT: not said */
	size_t count;
	uint64_t hz[GRID_AXIS_MAX];
	uint64_t settle_ns; /* 0: not said */
	bool ignore;        /* control = no */
};

struct board_file {
	char name[96];
	size_t matches;
	char model[BOARD_FILE_MATCHES_MAX][96]; /* fnmatch patterns of model or a compatible string */
	struct board_file_clock clock[CLOCK_COUNT];
	char power_total[48];       /* label of the rail that is the board's input */
	char power_parts[192];      /* labels to add up where there is no total, comma separated */
	struct board_powers prior;
};

/* Parse the text of a board file. 0, or the line at fault with `message`. */
int board_file_parse(const char *text, struct board_file *out, char *message, size_t size);

/* Read the board files that match into a new struct (NULL: none), in the order of
 * their names: a later one says only what those before leave open. The path of the first goes to board->board_file. */
struct board_file *board_file_find(struct board *board, const struct sysroot *root, const char *boards_dir);
void board_file_apply(const struct board_file *file, struct board *board, const struct sysroot *root);
/* Keep the rails the file names. */
void board_file_rails(const struct board_file *file, struct board *board);

const char *method_name(enum clock_method method);
int method_parse(const char *name, enum clock_method *out);

/* Device-tree compatible strings or DMI names, each matched against a pattern. */
bool machine_matches(const struct sysroot *root, const char *pattern);

#endif
