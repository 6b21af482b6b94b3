/* SPDX-License-Identifier: MIT */
/* Shared by the files of this folder: one search function for each clock, and pure parsers of sysfs
 * text. */
#ifndef PROBES_PROBE_H
#define PROBES_PROBE_H

#include "board.h"
#include "sysroot.h"

/* Parse frequencies in any order, in units of `unit_hz`, skipping words that are not numbers; `hz`
 * receives them in ascending order without duplicates. If there are more than `max`, they are
 * thinned evenly, keeping both ends. Returns the count. */
size_t freq_table_parse(const char *text, uint64_t unit_hz, uint64_t *hz, size_t max);

/* An amdgpu level table, "0: 500Mhz *". Levels of 0 MHz and duplicates are skipped. */
struct dpm_table {
	size_t count;
	uint64_t hz[GRID_AXIS_MAX];   /* ascending */
	uint8_t level[GRID_AXIS_MAX]; /* the driver's number of each level */
	uint64_t now_hz;              /* current frequency; 0: not shown */
	bool middle_now;              /* three lines, of which the middle one is current */
};
/* Returns the number of levels, 0 if the text is not such a table. */
size_t dpm_table_parse(const char *text, struct dpm_table *out);

/* Drop the middle line of a fine-grained shader clock: drivers print its two ends, and between them
 * the current frequency, which is not a level. */
void dpm_table_ends(struct dpm_table *table);

/* Make even steps of about `step_hz` from lo to hi, both included. Returns the count. */
size_t freq_table_make(uint64_t lo, uint64_t hi, uint64_t step_hz, uint64_t *hz, size_t max);

/* Fill `device`, whose method is set, from a directory. Returns 0, or a negative errno with the
 * reason in `why`: a missing file, or its contents. */
int device_probe(struct clock_device *device, const struct sysroot *root, char *why, size_t size);

/* The administrator's name of a device. */
void device_label(const char *dir, char *buf, size_t size);

#define DPM_SHADER "pp_dpm_sclk"
#define DPM_MEMORY "pp_dpm_mclk"

/* Find the devices of a clock; if there are none, set `why_not`. */
void cpu_find(struct clock_domain *domain, const struct sysroot *root);
void gpu_find(struct clock_domain *domain, const struct sysroot *root);
void mem_find(struct clock_domain *domain, const struct sysroot *root);

/* Add a device, and update the lead. False if it was rejected, with the reason in why_not. */
bool domain_add(struct clock_domain *domain, const struct sysroot *root, enum clock_method method, const char *dir);

void rails_find(struct board *board, const struct sysroot *root);
void zones_find(struct board *board, const struct sysroot *root);

/* A board file. */
#define BOARD_FILE_DEVICES_MAX CPU_POLICIES_MAX
#define BOARD_FILE_BYTES_MAX   65536
#define BOARD_FILE_MATCHES_MAX 16

struct board_file_clock {
	size_t paths;
	char path[BOARD_FILE_DEVICES_MAX][SYSFS_PATH_MAX];
	enum clock_method method; /* METHOD_COUNT: not given */
	size_t count;
	uint64_t hz[GRID_AXIS_MAX];
	uint64_t settle_up_ns, settle_down_ns; /* 0: not given */
	bool ignore;                           /* control = no */
};

struct board_file {
	char name[96];
	size_t matches;
	char model[BOARD_FILE_MATCHES_MAX][96]; /* fnmatch(3) patterns of the model or a compatible string */
	struct board_file_clock clock[CLOCK_COUNT];
	char power_total[48];     /* label of the board's input rail */
	char power_parts[192];    /* labels of rails to add up if there is no total, comma separated */
	uint64_t power_window_ns; /* averaging window of either; 0: not given */
	struct board_powers prior;
};

/* Parse a board file. Returns 0, or the line at fault with `message`. */
int board_file_parse(const char *text, struct board_file *out, char *message, size_t size);

/* Read the matching board files into a new struct (NULL: none), in order of their names: a later
 * file only adds what earlier ones leave open. The path of the first one is stored in
 * board->board_file. */
struct board_file *board_file_find(struct board *board, const struct sysroot *root, const char *boards_dir);
void board_file_apply(const struct board_file *file, struct board *board, const struct sysroot *root);
/* Order the rails as in the file. */
void board_file_rails(const struct board_file *file, struct board *board);

const char *method_name(enum clock_method method);
int method_parse(const char *name, enum clock_method *out);

/* Match device-tree compatible strings or DMI names against a pattern. */
bool machine_matches(const struct sysroot *root, const char *pattern);

#endif
