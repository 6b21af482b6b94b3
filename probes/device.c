/* SPDX-License-Identifier: MIT */
/* Devices of each method: required files, frequency table and hardware range. */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "probe.h"

#define KHZ         1000ULL
#define MHZ         1000000ULL
#define CPU_STEP_HZ (100 * MHZ) /* intel_pstate and amd-pstate have no table; their ratio is 100 MHz */
#define GPU_STEP_HZ (50 * MHZ)  /* i915 and xe: GT ratios are multiples of 50 (or 16.67) MHz */

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
	[METHOD_NVML] = "nvml",
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

/* A file with a number in units of `unit` Hz; 0 if it cannot be read. */
static uint64_t read_hz(const struct sysroot *root, const char *dir, const char *name, uint64_t unit)
{
	uint64_t value;

	return sysroot_read_u64_at(root, dir, name, &value) == 0 && value < UINT64_MAX / unit ? value * unit : 0;
}

/* Read the table, unless a board file gave one. A missing or empty file is not an error; one that
 * cannot be read is, since a made-up table would be wrong. */
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

/* Take the range from the table if the hardware reports none, and drop entries outside the range. */
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
		if (d->hz[i] >= d->min_hz && d->hz[i] <= d->max_hz) {
			d->level[kept] = d->level[i];
			d->hz[kept++] = d->hz[i];
		}
	d->count = kept;
	return kept ? 0 : -ERANGE;
}

/* Add boost frequencies, which are listed in a separate file or not at all; while boost is off,
 * cpuinfo_max_freq excludes them. */
static void add_boost(struct clock_device *d, const struct sysroot *root)
{
	char text[SYSFS_TEXT_MAX] = "", all[2 * SYSFS_TEXT_MAX];
	size_t n = 0;

	if (d->max_hz <= d->hz[d->count - 1])
		return;
	if (sysroot_read_at(root, d->dir, "scaling_boost_frequencies", text, sizeof(text)) < 0)
		text[0] = '\0';
	for (size_t i = 0; i < d->count; i++)
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%llu ", (unsigned long long)(d->hz[i] / KHZ));
	snprintf(all + n, sizeof(all) - n, "%llu %s", (unsigned long long)(d->max_hz / KHZ), text);
	d->count = freq_table_parse(all, KHZ, d->hz, GRID_AXIS_MAX);
}

static int probe_cpufreq(struct clock_device *d, const struct sysroot *root)
{
	d->min_hz = read_hz(root, d->dir, "cpuinfo_min_freq", KHZ);
	d->max_hz = read_hz(root, d->dir, "cpuinfo_max_freq", KHZ);
	bool given = d->count > 0; /* by a board file */
	int rc = read_table(d, root, "scaling_available_frequencies", KHZ);
	if (rc == 0 && d->count && !given)
		add_boost(d, root);
	if (rc == 0 && d->count == 0)
		d->count = freq_table_make(d->min_hz, d->max_hz, CPU_STEP_HZ, d->hz, GRID_AXIS_MAX);
	return rc < 0 ? rc : range_from_table(d);
}

static int probe_devfreq(struct clock_device *d, const struct sysroot *root)
{
	int rc = read_table(d, root, "available_frequencies", 1);
	if (rc == 0 && d->count == 0) /* the limits as found, as its range is not known otherwise */
		d->count = freq_table_make(read_hz(root, d->dir, "min_freq", 1), read_hz(root, d->dir, "max_freq", 1),
					   GPU_STEP_HZ, d->hz, GRID_AXIS_MAX);
	return rc < 0 ? rc : range_from_table(d);
}

/* i915 files are called gt_* below card*, and rps_* below card*\/gt/gt*. */
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

/* A level pinned by the user cannot be read back, and so not be restored; the keeper leaves such a
 * device alone. */
static int probe_amdgpu(struct clock_device *d, const struct sysroot *root)
{
	struct dpm_table table;
	char text[SYSFS_TEXT_MAX];

	if (sysroot_read_at(root, d->dir, d->levels, text, sizeof(text)) > 0 && dpm_table_parse(text, &table)) {
		if (!strcmp(d->levels, DPM_SHADER))
			dpm_table_ends(&table);
		d->count = table.count;
		memcpy(d->hz, table.hz, sizeof(d->hz));
		memcpy(d->level, table.level, sizeof(d->level));
	}
	if (d->count < 2)
		return -ENODATA;
	return range_from_table(d);
}

/* Memory controller frequencies for kernels that do not list them. Orin: arXiv 2606.16106 and
 * possible_rates of JetPack 6; TX2: possible_rates of L4T 32. */
static const struct emc_points {
	const char *match[2]; /* patterns of device-tree compatible strings or models */
	const char *khz;
} emc_points[] = {
	{{"nvidia,tegra234*", "*orin*"}, "204000 665600 2133000 3199000"},
	{{"nvidia,tegra186*", "*tx2*"},
	 "40800 68000 102000 204000 408000 665600 800000 1062400 1331200 1600000 1866000"},
};

static void known_emc_points(struct clock_device *d, const struct sysroot *root)
{
	for (size_t i = 0; i < sizeof(emc_points) / sizeof(emc_points[0]); i++)
		if (machine_matches(root, emc_points[i].match[0]) || machine_matches(root, emc_points[i].match[1])) {
			d->count = freq_table_parse(emc_points[i].khz, KHZ, d->hz, GRID_AXIS_MAX);
			return;
		}
}

/* possible_rates is "204000 665600 2133000 (kHz)", next to clk/. Without any list, only both ends
 * and the current rate are known. */
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
		snprintf(text, sizeof(text), "%llu %llu %llu", (unsigned long long)d->min_hz,
			 (unsigned long long)d->max_hz, (unsigned long long)read_hz(root, d->dir, "rate", 1));
		d->count = freq_table_parse(text, 1, d->hz, GRID_AXIS_MAX);
	}
	return range_from_table(d);
}

/* "0000:03:00.0" */
static bool is_pci_address(const char *name)
{
	return strlen(name) == 12 &&
	       fnmatch("[0-9a-f][0-9a-f][0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f].[0-7]", name, 0) == 0;
}

/* Cut `dir` to the PCI device that contains it. False: there is none. */
static bool cut_to_pci(char dir[SYSFS_PATH_MAX])
{
	while (dir[0] && !is_pci_address(path_base(dir))) {
		char *slash = strrchr(dir, '/');
		if (!slash)
			return false;
		*slash = '\0';
	}
	return dir[0] != '\0';
}

bool board_suspended(const struct sysroot *root, const char *dir)
{
	char device[SYSFS_PATH_MAX], status[32];

	snprintf(device, sizeof(device), "%s", dir);
	return cut_to_pci(device) &&
	       sysroot_read_at(root, device, "power/runtime_status", status, sizeof(status)) > 0 &&
	       !strncmp(status, "suspend", 7); /* suspended, suspending */
}

/* The administrator's name of a device: the PCI address of a card, the name of a devfreq device or policy. */
void device_label(const char *dir, char *buf, size_t size)
{
	char device[SYSFS_PATH_MAX];
	char *above;

	snprintf(device, sizeof(device), "%s", dir);
	/* Linux 4.10 to 4.20 number devfreq devices: use the parent's name */
	if (fnmatch("devfreq[0-9]*", path_base(device), 0) == 0 && (above = strstr(device, "/devfreq/")))
		*above = '\0';
	else if (!cut_to_pci(device))
		snprintf(device, sizeof(device), "%s", dir);
	snprintf(buf, size, "%.63s", path_base(device));
}

/* Only the keeper calls NVML; a board file lists the clocks that it can lock. */
static int probe_nvml(struct clock_device *d, const struct sysroot *root)
{
	(void)root;
	return range_from_table(d);
}

static const struct method_row {
	int (*probe)(struct clock_device *d, const struct sysroot *root);
	const char *needs[3]; /* required files; without the first, the device is of another kind */
	const char *table;    /* NULL: the device's own */
} rows[METHOD_COUNT] = {
	[METHOD_CPUFREQ_LIMITS] = {probe_cpufreq, {"scaling_min_freq", "scaling_max_freq"}, "cpuinfo_max_freq"},
	[METHOD_CPUFREQ_SETSPEED] = {probe_cpufreq, {"scaling_governor", "scaling_setspeed"}, "cpuinfo_max_freq"},
	[METHOD_DEVFREQ_LIMITS] = {probe_devfreq, {"min_freq", "max_freq"}, "available_frequencies"},
	[METHOD_DEVFREQ_USERSPACE] = {probe_devfreq, {"governor"}, "available_frequencies"},
	[METHOD_I915] = {probe_i915, {NULL}, "RP0 frequency file"},
	[METHOD_XE] = {probe_xe, {"min_freq", "max_freq"}, "rp0_freq"},
	[METHOD_AMDGPU] = {probe_amdgpu, {"power_dpm_force_performance_level"}, NULL},
	[METHOD_BPMP_EMC] = {probe_bpmp, {"mrq_rate_locked", "rate"}, "max_rate"},
	[METHOD_NVML] = {probe_nvml, {NULL}, "frequencies of a board file"},
};

int device_probe(struct clock_device *d, const struct sysroot *root, char *why, size_t size)
{
	const struct method_row *row = &rows[d->method];
	char path[SYSFS_PATH_MAX];

	if (!row->probe)
		return -EINVAL;
	if (d->method == METHOD_I915 &&
	    sysroot_join(path, d->dir, strstr(d->dir, "/gt/gt") ? "rps_max_freq_mhz" : "gt_max_freq_mhz") == 0 &&
	    !sysroot_exists(root, path))
		return -ENOENT; /* a card with another driver */
	for (unsigned i = 0; i < 3 && row->needs[i]; i++) {
		if (sysroot_join(path, d->dir, row->needs[i]) < 0)
			return -ENAMETOOLONG;
		int rc = sysroot_check(root, path);
		if (rc == -EACCES && d->count) /* accessible to root only, and a board file lists its frequencies */
			return range_from_table(d);
		if (rc < 0) {
			if (d->method != METHOD_AMDGPU || rc != -ENOENT)
				snprintf(why, size, "%.120s: %s", path, strerror(-rc));
			return rc;
		}
	}
	int rc = row->probe(d, root);
	if (rc < 0)
		snprintf(why, size, "no table or range in %.130s/%s", d->dir, row->table ? row->table : d->levels);
	return rc;
}
