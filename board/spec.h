/* SPDX-License-Identifier: MIT */
/* A board as its INI file describes it: clock devices, power, heat, rails and
 * the models of the workload. Plain data; read once, never changed. */
#ifndef BOARD_SPEC_H
#define BOARD_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../common/limits.h"
#include "../common/point.h"

#define SPEC_CLOCKS_MAX  (CPU_POLICIES_MAX + 4)
#define SPEC_RAILS_MAX   8
#define SPEC_ZONES_MAX   12
#define SPEC_EXTRAS_MAX  16
#define SPEC_MESSAGE_MAX 256

enum spec_kind { SPEC_CPUFREQ, SPEC_DEVFREQ, SPEC_BPMP };

/* One device that holds a frequency. */
struct spec_clock {
	enum clock_id id;
	enum spec_kind kind;
	char name[64]; /* policy4, 17000000.ga10b, emc */
	char dir[256]; /* real directory, from /sys */
	size_t count;
	uint64_t hz[GRID_AXIS_MAX]; /* ascending */
	bool descending;            /* order of the published table */
	char governor[32];          /* at power on */
	char governors[128];        /* governors that the governor file accepts */
	bool crossed_rejects;       /* old kernels: EINVAL; newer ones clamp, max wins */
	bool rounds;                /* limits read back rounded to the table */
	unsigned cpu_first, cpu_last;
	bool host;             /* the policy whose clock sets the speed of the workload's threads */
	uint64_t settle_ns[2]; /* of a whole move of the clock up, and down, from its first write to the new speed */
	uint64_t write_ns;     /* time that all writes of a move block the writer */
	uint64_t boot_hz;      /* memory: the clock of the power mode while unlocked */
	double idle_w, busy_w; /* at the highest clock; busy: one core / whole device */
	double volt_min, volt_max; /* at the ends of the table */
};

struct spec_rail {
	char label[32];
	double mv;
	double share[CLOCK_COUNT + 1]; /* of the power of each clock, then of base_w */
};

/* Cost of the workload's models (cost.h), in cycles of a whole inference. */
struct spec_model {
	uint32_t layers;
	double launch_cycles; /* CPU */
	double launch_us;     /* CPU time that follows no clock */
	double gpu_cycles;
	double mem_cycles;                                 /* memory clock ticks: bytes / bytes a tick */
	double exec_us;                                    /* per layer, follows no clock */
	double gpu_cycles_per_token, mem_cycles_per_token; /* times the context */
};

enum spec_model_id { MODEL_CNN, MODEL_DECODE, MODEL_COUNT };

/* Ratio of this machine's speed to that of the board at its highest clocks, for any
 * program, and the share of an execution that waits for memory there. */
struct spec_opencl {
	double host_slow, exec_slow;
	double mem_share; /* [0, 1] */
};

struct spec {
	char model[96]; /* device-tree model */
	char compatible[96];
	char power_mode[64]; /* nvpmodel status; "" none */
	size_t clocks;
	struct spec_clock clock[SPEC_CLOCKS_MAX];
	double base_w;
	double noise; /* relative, of a power reading */
	size_t rails;
	struct spec_rail rail[SPEC_RAILS_MAX];
	double sum_mv; /* 0: no in7 */
	size_t zones;
	char zone[SPEC_ZONES_MAX][32];
	double ambient_c, kelvin_per_w, heat_s;
	double throttle_c; /* clocks step down above it; 0: never */
	size_t extras;
	struct {
		char path[160];
		char text[160];
	} extra[SPEC_EXTRAS_MAX]; /* static files */
	struct spec_model workload[MODEL_COUNT];
	struct spec_opencl opencl;
};

/* Read a board file. Returns 0, -errno, or -EINVAL with "file:line: ..." in
 * `message` (SPEC_MESSAGE_MAX bytes). */
int spec_read(struct spec *spec, const char *path, char *message);

/* Highest table entry <= hz, or the lowest; lowest >= hz, or the highest. */
uint64_t spec_floor(const struct spec_clock *clock, uint64_t hz);
uint64_t spec_ceil(const struct spec_clock *clock, uint64_t hz);

/* Device that represents a clock domain: the host policy, the GPU, the memory; NULL if the board has none. */
const struct spec_clock *spec_lead(const struct spec *spec, enum clock_id id);

#endif
