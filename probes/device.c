/* SPDX-License-Identifier: MIT */
/* One clock device of each method: which files it must have, its table and
 * its hardware range. */
#include <errno.h>
#include <string.h>

#include "probe.h"

#define KHZ 1000ULL
#define MHZ 1000000ULL
#define CPU_STEP_HZ  (100 * MHZ) /* intel_pstate and amd-pstate have no table; their ratio is 100 MHz */
#define GPU_STEP_HZ  (50 * MHZ)  /* i915 and xe: GT ratios are multiples of 50 (or 16.67) MHz */

static const char *const names[METHOD_COUNT] = {
	[METHOD_NONE] = "none",
	[METHOD_CPUFREQ_LIMITS] = "cpufreq-limits",
	[METHOD_CPUFREQ_SETSPEED] = "cpufreq-setspeed",
	[METHOD_DEVFREQ_LIMITS] = "devfreq-limits",
	[METHOD_DEVFREQ_USERSPACE] = "devfreq-userspace",
	[METHOD_I915] = "i915",
	[METHOD_XE] = "xe",
	[METHOD_AMDGPU] = "amdgpu",
	[METHOD_BPMP_EMC] = "bpmp-emc",
};

const char *method_name(enum clock_method method)
{
	return method < METHOD_COUNT ? names[method] : "?";
}

int method_parse(const char *name, enum clock_method *out)
{
	for (unsigned i = 0; i < METHOD_COUNT; i++)
		if (!strcmp(name, names[i])) {
			*out = (enum clock_method)i;
			return 0;
		}
	return -EINVAL;
}

/* A value file in `unit` Hz; 0 when it cannot be read. */
static uint64_t read_hz(const struct sysroot *root, const char *dir, const char *name, uint64_t unit)
{
	uint64_t value;

	return sysroot_read_u64_at(root, dir, name, &value) == 0 && value < UINT64_MAX / unit ? value * unit : 0;
}

/* The table, unless a board file gave one. No such file, or an empty one, is
 * no error; a file that cannot be read is: a table made up in its place would
 * be wrong. */
static int read_table(struct clock_device *d, const struct sysroot *root, const char *name, uint64_t unit)
{
	char text[SYSFS_TEXT_MAX];

	if (d->count)
		return 0;
	ssize_t n = sysroot_read_at(root, d->dir, name, text, sizeof(text));
	if (n > 0)
		d->count = freq_table_parse(text, unit, d->hz, GRID_AXIS_MAX);
	return n < 0 && n != -ENOENT ? (int)n : 0;
}

/* The range of the table where the hardware names none; no entry outside it. */
static int range_from_table(struct clock_device *d)
{
	size_t kept = 0;

	if (d->count == 0)
		return -ENODATA;
	if (d->min_hz == 0)
		d->min_hz = d->hz[0];
	if (d->max_hz == 0)
		d->max_hz = d->hz[d->count - 1];
	for (size_t i = 0; i < d->count; i++)
		if (d->hz[i] >= d->min_hz && d->hz[i] <= d->max_hz)
			d->hz[kept++] = d->hz[i];
	d->count = kept;
	return kept ? 0 : -ERANGE;
}

static int probe_cpufreq(struct clock_device *d, const struct sysroot *root)
{
	d->min_hz = read_hz(root, d->dir, "cpuinfo_min_freq", KHZ);
	d->max_hz = read_hz(root, d->dir, "cpuinfo_max_freq", KHZ);
	int rc = read_table(d, root, "scaling_available_frequencies", KHZ);
	if (rc == 0 && d->count == 0)
		d->count = freq_table_make(d->min_hz, d->max_hz, CPU_STEP_HZ, d->hz, GRID_AXIS_MAX);
	return rc < 0 ? rc : range_from_table(d);
}

static int probe_devfreq(struct clock_device *d, const struct sysroot *root)
{
	int rc = read_table(d, root, "available_frequencies", 1);
	if (rc == 0 && d->count == 0) /* the limits as found: all that is known of its range */
		d->count = freq_table_make(read_hz(root, d->dir, "min_freq", 1), read_hz(root, d->dir, "max_freq", 1),
					   GPU_STEP_HZ, d->hz, GRID_AXIS_MAX);
	return rc < 0 ? rc : range_from_table(d);
}

/* i915 names its files gt_* below card*, rps_* below card*\/gt/gt*. */
static int probe_i915(struct clock_device *d, const struct sysroot *root)
{
	bool rps = strstr(d->dir, "/gt/gt") != NULL;

	d->min_hz = read_hz(root, d->dir, rps ? "rps_RPn_freq_mhz" : "gt_RPn_freq_mhz", MHZ);
	d->max_hz = read_hz(root, d->dir, rps ? "rps_RP0_freq_mhz" : "gt_RP0_freq_mhz", MHZ);
	if (d->count == 0)
		d->count = freq_table_make(d->min_hz, d->max_hz, GPU_STEP_HZ, d->hz, GRID_AXIS_MAX);
	return range_from_table(d);
}

static int probe_xe(struct clock_device *d, const struct sysroot *root)
{
	d->min_hz = read_hz(root, d->dir, "rpn_freq", MHZ);
	d->max_hz = read_hz(root, d->dir, "rp0_freq", MHZ);
	if (d->count == 0)
		d->count = freq_table_make(d->min_hz, d->max_hz, GPU_STEP_HZ, d->hz, GRID_AXIS_MAX);
	return range_from_table(d);
}

/* The name of an amdgpu device is that of its level file. A level somebody
 * pinned by hand cannot be read back, so it could not be restored. */
static int probe_amdgpu(struct clock_device *d, const struct sysroot *root)
{
	char text[SYSFS_TEXT_MAX];
	int current;

	if (sysroot_read_at(root, d->dir, d->name, text, sizeof(text)) > 0)
		d->count = dpm_table_parse(text, d->hz, GRID_AXIS_MAX, &current);
	if (d->count < 2)
		return -ENODATA;
	return range_from_table(d);
}

/* Lockable points of memory controllers, for kernels that do not list them.
 * Orin: arXiv 2606.16106 and possible_rates of JetPack 6; TX2: possible_rates of L4T 32. */
static const struct emc_points {
	const char *match[2]; /* of the device tree */
	const char *khz;
} emc_points[] = {
	{{"nvidia,tegra234*", "*orin*"}, "204000 665600 2133000 3199000"},
	{{"nvidia,tegra186*", "*tx2*"}, "40800 68000 102000 204000 408000 665600 800000 1062400 1331200 1600000 1866000"},
};

static void known_emc_points(struct clock_device *d, const struct sysroot *root)
{
	for (size_t i = 0; i < sizeof(emc_points) / sizeof(emc_points[0]); i++)
		if (machine_matches(root, emc_points[i].match[0]) || machine_matches(root, emc_points[i].match[1])) {
			d->count = freq_table_parse(emc_points[i].khz, KHZ, d->hz, GRID_AXIS_MAX);
			return;
		}
}

/* possible_rates is "204000 665600 2133000 (kHz)", next to clk/. Where nobody
 * lists the points, the two ends and the rate that stands are known. */
static int probe_bpmp(struct clock_device *d, const struct sysroot *root)
{
	char text[SYSFS_TEXT_MAX];
	size_t n = 0;

	if (sysroot_read(root, "/sys/kernel/debug/bpmp/debug/emc/possible_rates", text, sizeof(text)) > 0)
		n = freq_table_parse(text, KHZ, d->hz, GRID_AXIS_MAX);
	d->count = n ? n : d->count;
	d->min_hz = read_hz(root, d->dir, "min_rate", 1);
	d->max_hz = read_hz(root, d->dir, "max_rate", 1);
	if (d->count == 0)
		known_emc_points(d, root);
	if (d->count == 0) {
		snprintf(text, sizeof(text), "%llu %llu %llu", (unsigned long long)d->min_hz, (unsigned long long)d->max_hz,
			 (unsigned long long)read_hz(root, d->dir, "rate", 1));
		d->count = freq_table_parse(text, 1, d->hz, GRID_AXIS_MAX);
	}
	return range_from_table(d);
}

static const struct method_row {
	int (*probe)(struct clock_device *d, const struct sysroot *root);
	const char *needs[3]; /* files that must be there; NULL: the probe asks */
	const char *table;
} rows[METHOD_COUNT] = {
	[METHOD_CPUFREQ_LIMITS] = {probe_cpufreq, {"scaling_min_freq", "scaling_max_freq"}, "cpuinfo_max_freq"},
	[METHOD_CPUFREQ_SETSPEED] = {probe_cpufreq, {"scaling_governor", "scaling_setspeed"}, "cpuinfo_max_freq"},
	[METHOD_DEVFREQ_LIMITS] = {probe_devfreq, {"min_freq", "max_freq"}, "available_frequencies"},
	[METHOD_DEVFREQ_USERSPACE] = {probe_devfreq, {"governor"}, "available_frequencies"},
	[METHOD_I915] = {probe_i915, {NULL}, "gt_RP0_freq_mhz"},
	[METHOD_XE] = {probe_xe, {"min_freq", "max_freq"}, "rp0_freq"},
	[METHOD_AMDGPU] = {probe_amdgpu, {"power_dpm_force_performance_level"}, "pp_dpm_sclk"},
	[METHOD_BPMP_EMC] = {probe_bpmp, {"mrq_rate_locked", "rate"}, "max_rate"},
};

int device_probe(struct clock_device *d, const struct sysroot *root, char *why, size_t size)
{
	const struct method_row *row = &rows[d->method];
	char path[SYSFS_PATH_MAX];

	if (!row->probe)
		return -EINVAL;
	for (unsigned i = 0; i < 3 && row->needs[i]; i++) {
		if (sysroot_join(path, d->dir, row->needs[i]) < 0)
			return -ENAMETOOLONG;
		int rc = sysroot_check(root, path);
		if (rc == -EACCES && d->count) /* root only, and a board file says what it holds */
			return range_from_table(d);
		if (rc < 0) {
			snprintf(why, size, "%.120s: %s", path, strerror(-rc));
			return rc;
		}
	}
	int rc = row->probe(d, root);
	if (rc < 0)
		snprintf(why, size, "no table or range in %.140s/%s", d->dir, row->table);
	return rc;
}
