/* SPDX-License-Identifier: MIT */
/* Finds the devices of the CPU, GPU and memory clock: by pattern, never by a fixed index, with
 * links resolved to /sys/devices. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/units.h"
#include "probe.h"

#define BPMP_EMC_DIR "/sys/kernel/debug/bpmp/debug/clk/emc"
#define EMC_CAP_FILE "/sys/kernel/nvpmodel_clk_cap/emc"

/* Default time from the write until the new frequency is in effect: the upper figures measured on
 * an Orin Nano (CPU 1.4, GPU 5.2, EMC 9.3 ms, arXiv 2606.16106) with a margin. i915, xe and amdgpu
 * return at once and change at their next evaluation, after tens of ms at most. */
static const uint64_t settle_guess_ns[METHOD_COUNT] = {
	[METHOD_CPUFREQ_LIMITS] = 2 * NS_PER_MS, [METHOD_CPUFREQ_SETSPEED] = 2 * NS_PER_MS,
	[METHOD_DEVFREQ_LIMITS] = 6 * NS_PER_MS, [METHOD_DEVFREQ_USERSPACE] = 6 * NS_PER_MS,
	[METHOD_I915] = 10 * NS_PER_MS,          [METHOD_XE] = 10 * NS_PER_MS,
	[METHOD_AMDGPU] = 20 * NS_PER_MS,        [METHOD_BPMP_EMC] = 10 * NS_PER_MS,
	[METHOD_NVML] = 50 * NS_PER_MS, /* not measured yet; a board file may have a better value */
};

/* Does reading a file of the device resume it? */
static bool wakes(enum clock_method method)
{
	return method == METHOD_AMDGPU || method == METHOD_XE;
}

bool domain_add(struct clock_domain *domain, const struct sysroot *root, enum clock_method method, const char *dir)
{
	if (domain->devices == CPU_POLICIES_MAX)
		return false;
	struct clock_device *d = &domain->device[domain->devices];

	/* preset by a board file's table, or by an amdgpu's level file */
	device_label(dir, d->name, sizeof(d->name));
	if (method == METHOD_AMDGPU && !d->levels[0])
		snprintf(d->levels, sizeof(d->levels), DPM_SHADER);
	d->method = method;
	snprintf(d->dir, sizeof(d->dir), "%s", dir);
	if (wakes(method) && board_suspended(root, dir)) {
		snprintf(domain->why_not, sizeof(domain->why_not), "%s is suspended and is not woken", d->name);
		memset(d, 0, sizeof(*d));
		return false;
	}
	if (device_probe(d, root, domain->why_not, sizeof(domain->why_not)) < 0) {
		memset(d, 0, sizeof(*d));
		return false;
	}
	if (d->max_hz > domain->device[domain->lead].max_hz)
		domain->lead = domain->devices;
	domain->devices++;
	if (domain->settle_ns < settle_guess_ns[method])
		domain->settle_ns = domain->settle_up_ns = domain->settle_down_ns = settle_guess_ns[method];
	return true;
}

static size_t add_all(struct clock_domain *domain, const struct sysroot *root, enum clock_method method,
		      const char *pattern, const char *levels)
{
	CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(root, pattern);
	size_t before = domain->devices;

	for (size_t i = 0; found && i < found->count && domain->devices < CPU_POLICIES_MAX; i++) {
		if (levels)
			snprintf(domain->device[domain->devices].levels, sizeof(domain->device[0].levels), "%s",
				 levels);
		domain_add(domain, root, method, found->path[i]);
	}
	return domain->devices - before;
}

void cpu_find(struct clock_domain *domain, const struct sysroot *root)
{
	snprintf(domain->why_not, sizeof(domain->why_not),
		 "no /sys/devices/system/cpu/cpufreq/policy* : the kernel has no cpufreq driver for this machine");
	if (add_all(domain, root, METHOD_CPUFREQ_LIMITS, "/sys/devices/system/cpu/cpufreq/policy*", NULL) == 0)
		add_all(domain, root, METHOD_CPUFREQ_LIMITS, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq", NULL);
	if (domain->devices == 0) /* there are no limits to pin the frequency with */
		add_all(domain, root, METHOD_CPUFREQ_SETSPEED, "/sys/devices/system/cpu/cpufreq/policy*", NULL);
}

/* Directories of devfreq devices; the later ones serve trees and containers without /sys/class. */
static const char *const devfreq_places[] = {
	"/sys/class/devfreq/*",
	"/sys/devices/*/devfreq/*",
	"/sys/devices/platform/*/devfreq/*",
	"/sys/devices/platform/*/*/devfreq/*",
};

static const char *const gpu_names[] = {
	"*.gpu",  "*.gp10b", "*.gv11b",    "*.ga10b",   "gpu-gpc-*", /* Jetson Nano to Thor */
	"*mali*", "*.gpu-*", "*panfrost*", "*panthor*",              /* Mali */
	"*kgsl*", "gpu",     "*adreno*",                             /* Adreno */
};
static const char *const mem_names[] = {"dmc",    "*.dmc", "*:dmc", "bwmgr",
					"*bwmgr", "*.emc", "emc",   "*memory-controller*"};
static const char *const never[] = {"*npu*", "*dla*", "*bw", "*memlat*", "*nvdec*", "*nvenc*", "*.vic", "*pva*"};

static bool any_match(const char *const *patterns, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (fnmatch(patterns[i], name, FNM_CASEFOLD) == 0)
			return true;
	return false;
}

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void devfreq_find(struct clock_domain *domain, const struct sysroot *root, const char *const *names, size_t n)
{
	for (size_t place = 0; place < COUNT(devfreq_places) && domain->devices == 0; place++) {
		CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(root, devfreq_places[place]);
		for (size_t i = 0; found && i < found->count; i++) {
			char name[64];
			device_label(found->path[i], name, sizeof(name));
			if (any_match(names, n, name) && !any_match(never, COUNT(never), name))
				domain_add(domain, root, METHOD_DEVFREQ_LIMITS, found->path[i]);
		}
	}
}

void gpu_find(struct clock_domain *domain, const struct sysroot *root)
{
	snprintf(domain->why_not, sizeof(domain->why_not),
		 "no GPU in /sys/class/devfreq, no amdgpu, xe or i915 node in /sys/class/drm; [gpu] path= in "
		 "boards.d names one");
	devfreq_find(domain, root, gpu_names, COUNT(gpu_names));
	if (domain->devices == 0)
		add_all(domain, root, METHOD_AMDGPU, "/sys/class/drm/card[0-9]*/device", DPM_SHADER);
	if (domain->devices == 0)
		add_all(domain, root, METHOD_XE, "/sys/class/drm/card[0-9]*/device/tile*/gt0/freq0", NULL);
	if (domain->devices == 0)
		add_all(domain, root, METHOD_I915, "/sys/class/drm/card[0-9]*/gt/gt0", NULL);
	if (domain->devices == 0)
		add_all(domain, root, METHOD_I915, "/sys/class/drm/card[0-9]*", NULL);
}

void mem_find(struct clock_domain *domain, const struct sysroot *root)
{
	snprintf(domain->why_not, sizeof(domain->why_not),
		 "no " BPMP_EMC_DIR ", no dmc or bwmgr in /sys/class/devfreq; [mem] path= in boards.d names one");
	add_all(domain, root, METHOD_BPMP_EMC, BPMP_EMC_DIR, NULL);
	if (domain->devices == 0)
		devfreq_find(domain, root, mem_names, COUNT(mem_names));
	if (domain->devices == 0)
		add_all(domain, root, METHOD_AMDGPU, "/sys/class/drm/card[0-9]*/device", DPM_MEMORY);
	if (domain->devices == 0 && sysroot_read_u64(root, EMC_CAP_FILE, &domain->fixed_hz) < 0)
		domain->fixed_hz = 0;
}

/* The current level of an amdgpu table, marked with a star. */
static uint64_t dpm_current(const struct clock_device *d, const struct sysroot *root)
{
	char text[SYSFS_TEXT_MAX];
	struct dpm_table table;

	if (sysroot_read_at(root, d->dir, d->levels, text, sizeof(text)) < 0 || !dpm_table_parse(text, &table))
		return 0;
	return table.now_hz;
}

/* The file with the current frequency, and its unit. NULL: none. */
static const char *current_file(const struct clock_device *d, uint64_t *unit_hz)
{
	*unit_hz = 1;
	switch (d->method) {
	case METHOD_CPUFREQ_LIMITS:
	case METHOD_CPUFREQ_SETSPEED: *unit_hz = 1000; return "scaling_cur_freq";
	case METHOD_DEVFREQ_LIMITS:
	case METHOD_DEVFREQ_USERSPACE: return "cur_freq";
	case METHOD_I915: *unit_hz = 1000000; return strstr(d->dir, "/gt/gt") ? "rps_act_freq_mhz" : "gt_act_freq_mhz";
	case METHOD_XE: *unit_hz = 1000000; return "act_freq";
	case METHOD_BPMP_EMC: return "rate";
	case METHOD_AMDGPU:
	case METHOD_NVML: /* the keeper reports it */
	case METHOD_NONE:
	case METHOD_COUNT: return NULL;
	}
	return NULL;
}

uint64_t board_current_hz(const struct board *board, const struct sysroot *root, enum clock_id id)
{
	const struct clock_domain *domain = &board->clock[id];

	if (domain->devices == 0)
		return domain->fixed_hz;
	const struct clock_device *d = &domain->device[domain->lead];
	uint64_t unit_hz, value;
	const char *name = current_file(d, &unit_hz);

	if (wakes(d->method) && board_suspended(root, d->dir))
		return 0;
	if (d->method == METHOD_AMDGPU)
		return dpm_current(d, root);
	return name && sysroot_read_u64_at(root, d->dir, name, &value) == 0 && value < UINT64_MAX / unit_hz ?
		       value * unit_hz :
		       0;
}

void clock_reader_init(struct clock_reader *reader)
{
	for (int i = 0; i < CLOCK_COUNT; i++)
		reader->fd[i] = -1;
}

void clock_reader_close(struct clock_reader *reader)
{
	for (int i = 0; i < CLOCK_COUNT; i++) {
		if (reader->fd[i] >= 0)
			close(reader->fd[i]);
		reader->fd[i] = -1;
	}
}

uint64_t clock_reader_hz(struct clock_reader *reader, const struct board *board, const struct sysroot *root,
			 enum clock_id id)
{
	const struct clock_domain *domain = &board->clock[id];
	const struct clock_device *d = &domain->device[domain->lead];
	const char *name = domain->devices ? current_file(d, &reader->unit_hz[id]) : NULL;
	char path[SYSFS_PATH_MAX], resolved[SYSFS_PATH_MAX], text[64];
	uint64_t value;
	ssize_t n;

	if (!name)
		return board_current_hz(board, root, id);
	if (wakes(d->method) && board_suspended(root, d->dir))
		return 0;
	if (reader->fd[id] < 0 && sysroot_join(path, d->dir, name) == 0 &&
	    sysroot_resolve(root, path, resolved, sizeof(resolved)) == 0)
		reader->fd[id] = sysroot_open(root, resolved, O_RDONLY | O_NONBLOCK);
	if (reader->fd[id] < 0)
		return 0;
	n = pread(reader->fd[id], text, sizeof(text) - 1, 0);
	if (n < 0) { /* the device was removed, and may return as another file */
		close(reader->fd[id]);
		reader->fd[id] = -1;
		return 0;
	}
	text[n] = '\0';
	text[strcspn(text, " \t\r\n")] = '\0';
	return parse_u64(text, &value) == 0 && value < UINT64_MAX / reader->unit_hz[id] ? value * reader->unit_hz[id] :
											  0;
}
