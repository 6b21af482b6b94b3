/* SPDX-License-Identifier: MIT */
/* Description of the board: clocks with their frequency tables and knob files, power and
 * temperature sensors. Found by searching and reading below a sysroot; nothing is written. */
#ifndef PROBES_BOARD_H
#define PROBES_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "../common/limits.h"
#include "../common/point.h"

/* How a device of a clock is set. The keeper's table has one row for each knob; the method
 * determines which knobs there are, their text unit and their order. */
enum clock_method {
	METHOD_NONE,              /* read only */
	METHOD_CPUFREQ_LIMITS,    /* scaling_min_freq / scaling_max_freq, kHz */
	METHOD_CPUFREQ_SETSPEED,  /* governor userspace + scaling_setspeed, kHz */
	METHOD_DEVFREQ_LIMITS,    /* min_freq / max_freq, Hz */
	METHOD_DEVFREQ_USERSPACE, /* governor userspace + userspace/set_freq, Hz */
	METHOD_I915,              /* gt_{min,max,boost}_freq_mhz or gt/gt0/rps_*_freq_mhz */
	METHOD_XE,                /* freq0/{min,max}_freq, MHz */
	METHOD_AMDGPU,            /* power_dpm_force_performance_level manual + pp_dpm_sclk/mclk index mask */
	METHOD_BPMP_EMC,          /* mrq_rate_locked 1 + rate, Hz */
	METHOD_NVML,              /* NVIDIA desktop and server GPUs, by board file only: locked by NVML, MHz */
	METHOD_COUNT
};

/* One device of a clock: a cpufreq policy, a devfreq node, a GT. */
struct clock_device {
	enum clock_method method;
	char dir[SYSFS_PATH_MAX]; /* without the sysroot, symbolic links resolved: /sys/devices/... */
	char name[64];            /* the administrator's name: "policy4", "17000000.ga10b", "0000:03:00.0" */
	char levels[16];          /* amdgpu: the file of its level table, "pp_dpm_sclk" */
	size_t count;
	uint64_t hz[GRID_AXIS_MAX];   /* supported frequencies, ascending */
	uint8_t level[GRID_AXIS_MAX]; /* amdgpu: the driver's number of each level */
	uint64_t min_hz, max_hz;      /* hardware range */
};

struct clock_domain {
	size_t devices; /* 0: this clock is not controllable */
	struct clock_device device[CPU_POLICIES_MAX];
	size_t lead;        /* device whose table is the axis: the fastest one */
	uint64_t fixed_hz;  /* frequency of a clock that is readable but not controllable; else 0 */
	uint64_t settle_ns; /* write and settle time, from a board file or guessed by method; the maximum of: */
	uint64_t settle_up_ns, settle_down_ns;
	bool settle_documented;
	char why_not[192]; /* if devices == 0: the places searched, and the file that would help */
};

enum rail_kind { RAIL_NONE, RAIL_INA, RAIL_HWMON_POWER, RAIL_RAPL, RAIL_BATTERY };

/* Files of one power rail; only those that its kind needs are set. */
struct rail {
	enum rail_kind kind;
	char label[48];
	char path[2][SYSFS_PATH_MAX]; /* INA: in*_input (mV), curr*_input (mA); else one file */
	uint64_t energy_range_uj;     /* at which a RAPL counter wraps */
	bool root_only;               /* must be opened by the keeper */
	bool total;                   /* board input; otherwise a part, to be added up */
	/* rails of one source are added up; the lowest source with a usable reading counts */
	uint8_t source;
	uint64_t window_ns; /* averaging window according to a board file or its driver; 0: unknown */
};

struct zone {
	char name[48];
	char path[SYSFS_PATH_MAX];
};

struct board {
	char name[96];                   /* device-tree model, DMI product, or "unknown board" */
	char board_file[SYSFS_PATH_MAX]; /* matching file in boards.d, "" if none */
	struct board_powers prior;       /* power measurements from a board file */
	/* nvpmodel or platform_profile; "": unknown; each mode has its own surfaces */
	char power_mode[POWER_MODE_MAX + 1];
	struct clock_domain clock[CLOCK_COUNT];
	size_t rails;
	struct rail rail[RAILS_MAX]; /* in order of source: board input, then parts, then battery */
	char power_why_not[192];
	size_t zones;
	struct zone zone[ZONES_MAX];
};

/* The root of /sys, /proc and /etc. Every path of the probes and the keeper goes through these functions. */
struct sysroot {
	const char *prefix; /* "" for the real machine */
};

/* Store prefix + path in `buf`. Returns 0 or -ENAMETOOLONG. */
int sysroot_path(const struct sysroot *root, const char *path, char *buf, size_t size);
/* Read a small file, without surrounding white space. Returns its length or a negative errno. */
ssize_t sysroot_read(const struct sysroot *root, const char *path, char *buf, size_t size);
int sysroot_read_u64(const struct sysroot *root, const char *path, uint64_t *out);
/* Resolve all symbolic links below the sysroot; the result has no prefix. Returns 0 or a negative
 * errno. */
int sysroot_resolve(const struct sysroot *root, const char *path, char *buf, size_t size);

/* Detect the board. `boards_dir` contains INI files with facts that cannot be detected (NULL:
 * none). Never fails: missing parts are explained in why_not. An invalid board file is logged with
 * FILE:LINE and ignored. */
void board_detect(struct board *board, const struct sysroot *root, const char *boards_dir);

/* Versions of the software that latencies depend on; "": unknown. */
struct board_software {
	char kernel[96]; /* as uname -r prints it */
	char driver[96]; /* of the GPU, where it has a version of its own: NVIDIA's */
	char system[96]; /* release of Linux for Tegra, otherwise of the distribution */
};
void board_software(struct board_software *software, const struct sysroot *root);

/* Log the clocks and sensors found, the missing ones, and the files that would help. */
void board_log(const struct board *board);

/* Current frequency of a clock; 0 if unreadable (or "<unsupported>"). */
uint64_t board_current_hz(const struct board *board, const struct sysroot *root, enum clock_id id);

/* The same for repeated readings: files stay open, so that a reading costs one system call for each
 * clock. */
struct clock_reader {
	int fd[CLOCK_COUNT]; /* -1: not open */
	uint64_t unit_hz[CLOCK_COUNT];
};
void clock_reader_init(struct clock_reader *reader);
uint64_t clock_reader_hz(struct clock_reader *reader, const struct board *board, const struct sysroot *root,
			 enum clock_id id);
/* Close the files, when the devices changed or nothing reads them any more. */
void clock_reader_close(struct clock_reader *reader);

/* Read the power mode again, as it can change at run time. */
void board_find_power_mode(struct board *board, const struct sysroot *root);

/* The files that contain the power mode, for every request: they stay open. */
#define MODE_FILES 2
struct mode_reader {
	int fd[MODE_FILES]; /* -1: not open */
	uint64_t look_ns;   /* from then on those are looked for again */
	uint64_t hash;
};
void mode_reader_init(struct mode_reader *reader);
/* Have they changed since the last call, or is this the first one? A file that appears counts within a second. */
bool mode_reader_changed(struct mode_reader *reader, const struct sysroot *root, uint64_t now_ns);
void mode_reader_close(struct mode_reader *reader);

/* Programs running now that also set clocks (power-profiles-daemon, tuned, ...), as a
 * comma-separated list, from /proc/PID/comm below the sysroot. */
void board_other_owners(const struct sysroot *root, char *buf, size_t size);

/* Readers of power and temperature. They keep descriptors open. */
struct power_meter;
/* fds: descriptors from the keeper for root-only rails, which the meter then owns; -1 for others. */
struct power_meter *power_meter_new(const struct board *board, const struct sysroot *root, const int fds[RAILS_MAX][2]);
void power_meter_free(struct power_meter *meter);
/* Board power in uW: instantaneous, or for energy counters the mean since the last call. `busy`: a request is running.
 * A source that cannot be read, reads less than any board draws, or reads the same idle and busy is replaced by the
 * next one. Returns 0 or a negative errno (-EAGAIN: an energy counter has no interval yet; -ENODATA: no usable source
 * is left). */
int power_meter_read(struct power_meter *meter, uint64_t now_ns, bool busy, uint64_t *uw);
/* Label of the source in use; "" if none is left. */
const char *power_meter_label(const struct power_meter *meter);
/* Reasons why earlier sources were skipped; "" if none was. */
const char *power_meter_passed_over(const struct power_meter *meter);
/* Is the source in use an energy counter, which must be read at both ends of a measurement? */
bool power_meter_counts(const struct power_meter *meter);
/* Averaging window of the source in use: from a board file or its driver, otherwise as seen in its
 * readings, otherwise a guess by its kind. */
uint64_t power_meter_window_ns(const struct power_meter *meter);
/* Temperature of the hottest zone in millidegree C; -ENODATA if no zone can be read. Zones that
 * return EAGAIN are skipped. */
int board_temperature(const struct board *board, const struct sysroot *root, int32_t *millidegree_c, const char **zone);

/* Is the PCI device that contains `dir` runtime-suspended? Accessing its clocks would resume it. */
bool board_suspended(const struct sysroot *root, const char *dir);

/* The clock of a device directory, from its path alone. */
enum clock_id clock_of_dir(const char *dir);

#define COOLING_TYPE_MAX 64
#define COOLING_NAME_MAX 112

/* Whether the kernel limits the clock of the device in `dir` (link-free) for cooling: a cooling device of that device
 * is active, or one that names only its clock. `who` is then its type and name, "cpufreq-cpu4 (cooling_device2)", else
 * "". A cooling device of another clock does not count. */
bool board_cooling(const struct sysroot *root, const char *dir, char who[COOLING_NAME_MAX]);

#endif
