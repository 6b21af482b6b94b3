/* SPDX-License-Identifier: MIT */
/* What the board is: its clocks with their tables and knob files, its power
 * and temperature sensors. Found by globbing and reading below a sysroot,
 * nothing is ever written here. */
#ifndef PROBES_BOARD_H
#define PROBES_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "../common/limits.h"
#include "../common/point.h"

/* How a device of a clock is set. The keeper has one table row a knob; the
 * method says which knobs there are, in which text unit, and in what order. */
enum clock_method {
	METHOD_NONE,          /* read only */
	METHOD_CPUFREQ_LIMITS,  /* scaling_min_freq / scaling_max_freq, kHz */
	METHOD_CPUFREQ_SETSPEED,/* governor userspace + scaling_setspeed, kHz */
	METHOD_DEVFREQ_LIMITS,  /* min_freq / max_freq, Hz */
	METHOD_DEVFREQ_USERSPACE, /* governor userspace + userspace/set_freq, Hz */
	METHOD_I915,          /* gt_{min,max,boost}_freq_mhz or gt/gt0/rps_*_freq_mhz */
	METHOD_XE,            /* freq0/{min,max}_freq, MHz */
	METHOD_AMDGPU,        /* power_dpm_force_performance_level manual + pp_dpm_sclk/mclk index mask */
	METHOD_BPMP_EMC,      /* mrq_rate_locked 1 + rate, Hz */
	METHOD_COUNT
};

/* One device that follows a clock: a cpufreq policy, a devfreq node, a GT. */
struct clock_device {
	enum clock_method method;
	char dir[SYSFS_PATH_MAX]; /* without the sysroot, symbolic links resolved: /sys/devices/... */
	char name[64];            /* "policy4", "17000000.ga10b" */
	size_t count;
	uint64_t hz[GRID_AXIS_MAX]; /* ascending; what it can hold */
	uint64_t min_hz, max_hz;    /* hardware range */
};

struct clock_domain {
	size_t devices; /* 0: this clock is not controllable */
	struct clock_device device[CPU_POLICIES_MAX];
	size_t lead;    /* device whose table is the axis: the fastest one */
	uint64_t fixed_hz; /* not controllable but readable: its clock; else 0 */
	uint64_t settle_ns; /* write + settle: from a board file, or a guess by method */
	bool settle_documented;
	char why_not[192];  /* devices == 0: what was looked for and which file would fix it */
};

enum rail_kind { RAIL_NONE, RAIL_INA, RAIL_HWMON_POWER, RAIL_RAPL, RAIL_BATTERY };

/* Files of one power rail; only what the kind needs is set. */
struct rail {
	enum rail_kind kind;
	char label[48];
	char path[2][SYSFS_PATH_MAX]; /* INA: in*_input (mV), curr*_input (mA); else one file */
	uint64_t energy_range_uj;     /* RAPL wrap */
	bool root_only;               /* the keeper has to open it */
	bool total;                   /* board input; else a part, to be added up */
};

struct zone {
	char name[48];
	char path[SYSFS_PATH_MAX];
};

struct board {
	char name[96];       /* device-tree model, DMI product, or "unknown board" */
	char board_file[SYSFS_PATH_MAX]; /* boards.d file that matched, "" if none */
	struct board_powers prior; /* what it drew when it was measured, by a board file */
	char power_mode[96]; /* nvpmodel / platform_profile as found; "" unknown: keys the surface */
	struct clock_domain clock[CLOCK_COUNT];
	size_t rails;
	struct rail rail[RAILS_MAX]; /* the ones in use: a total, or the parts of one */
	char power_why_not[192];
	size_t zones;
	struct zone zone[ZONES_MAX];
};

/* Where to look. Every path of the probes and the keeper goes through these. */
struct sysroot {
	const char *prefix; /* "" for the real machine */
};

/* prefix + path into buf. Returns 0 or -ENAMETOOLONG. */
int sysroot_path(const struct sysroot *root, const char *path, char *buf, size_t size);
/* Text of a small file, white space trimmed. Length, or -errno. */
ssize_t sysroot_read(const struct sysroot *root, const char *path, char *buf, size_t size);
int sysroot_read_u64(const struct sysroot *root, const char *path, uint64_t *out);
/* Link-free path below the sysroot, without the prefix. 0 or -errno. */
int sysroot_resolve(const struct sysroot *root, const char *path, char *buf, size_t size);

/* Detect. `boards_dir` holds INI files that can name what detection cannot
 * (NULL: none). Never fails: what is not found is said in why_not. A broken
 * board file is logged with file:line and ignored. */
void board_detect(struct board *board, const struct sysroot *root, const char *boards_dir);

/* Log what was found, what was not, and what would fix it. */
void board_log(const struct board *board);

/* Current clock of a device, 0 when unreadable (a value "<unsupported>" too). */
uint64_t board_current_hz(const struct board *board, const struct sysroot *root, enum clock_id id);

/* Look at the power mode again: it changes while we run. */
void board_find_power_mode(struct board *board, const struct sysroot *root);

/* Other owners of clocks that run now (power-profiles-daemon, tuned, ...), as
 * a comma-separated list, by /proc/PID/comm below the sysroot. */
void board_other_owners(const struct sysroot *root, char *buf, size_t size);

/* Readers of power and temperature; keep descriptors open. */
struct power_meter;
/* fds: from the keeper for root-only rails, -1 elsewhere; ownership moves. */
struct power_meter *power_meter_new(const struct board *board, const struct sysroot *root, const int fds[RAILS_MAX][2]);
void power_meter_free(struct power_meter *meter);
/* Board power, uW: instantaneous, or the mean since the last call for energy
 * counters. 0 or -errno (-EAGAIN: an energy counter has no interval yet). */
int power_meter_read(struct power_meter *meter, uint64_t now_ns, uint64_t *uw);
/* Hottest zone, millidegree C; -ENODATA when none answers. EAGAIN zones are passed over. */
int board_temperature(const struct board *board, const struct sysroot *root, int32_t *millidegree_c, const char **zone);

/* True while the kernel cools by holding clocks down: a cooling device of
 * CPU or GPU is active. A limit that reads lower than it was written is then
 * the kernel's ceiling and nobody's write. */
bool board_cooling(const struct sysroot *root);

#endif
