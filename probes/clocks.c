/* SPDX-License-Identifier: MIT */
/* Which devices follow the CPU, the GPU and the memory clock of this machine:
 * globbed, never by a fixed index, links resolved into /sys/devices. */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "probe.h"

#define BPMP_EMC_DIR "/sys/kernel/debug/bpmp/debug/clk/emc"
#define EMC_CAP_FILE "/sys/kernel/nvpmodel_clk_cap/emc"

/* Time from the write to the new speed where no board file says it: the upper
 * measured figures of an Orin Nano (CPU 1.4, GPU 5.2, EMC 9.3 ms, arXiv
 * 2606.16106) with some room; i915, xe and amdgpu answer at once and follow
 * at their next evaluation, which is tens of ms at most. */
static const uint64_t settle_guess_ns[METHOD_COUNT] = {
	[METHOD_CPUFREQ_LIMITS] = 2 * NS_PER_MS,  [METHOD_CPUFREQ_SETSPEED] = 2 * NS_PER_MS,
	[METHOD_DEVFREQ_LIMITS] = 6 * NS_PER_MS,  [METHOD_DEVFREQ_USERSPACE] = 6 * NS_PER_MS,
	[METHOD_I915] = 10 * NS_PER_MS,           [METHOD_XE] = 10 * NS_PER_MS,
	[METHOD_AMDGPU] = 20 * NS_PER_MS,         [METHOD_BPMP_EMC] = 10 * NS_PER_MS,
};

bool domain_add(struct clock_domain *domain, const struct sysroot *root, enum clock_method method, const char *dir)
{
	if (domain->devices == CPU_POLICIES_MAX)
		return false;
	struct clock_device *d = &domain->device[domain->devices];
	char name[sizeof(d->name)];

	/* a board file's table, and an amdgpu's level file, come in the empty slot */
	snprintf(name, sizeof(name), "%.63s", d->name[0] ? d->name : path_base(dir));
	memcpy(d->name, name, sizeof(name));
	d->method = method;
	snprintf(d->dir, sizeof(d->dir), "%s", dir);
	if (device_probe(d, root, domain->why_not, sizeof(domain->why_not)) < 0) {
		memset(d, 0, sizeof(*d));
		return false;
	}
	if (d->max_hz > domain->device[domain->lead].max_hz)
		domain->lead = domain->devices;
	domain->devices++;
	if (domain->settle_ns < settle_guess_ns[method])
		domain->settle_ns = settle_guess_ns[method];
	return true;
}

static size_t add_all(struct clock_domain *domain, const struct sysroot *root, enum clock_method method, const char *pattern,
		      const char *device_name)
{
	CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(root, pattern);
	size_t before = domain->devices;

	for (size_t i = 0; found && i < found->count && domain->devices < CPU_POLICIES_MAX; i++) {
		if (device_name)
			snprintf(domain->device[domain->devices].name, sizeof(domain->device[0].name), "%s", device_name);
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
	if (domain->devices == 0) /* no limits to pin with */
		add_all(domain, root, METHOD_CPUFREQ_SETSPEED, "/sys/devices/system/cpu/cpufreq/policy*", NULL);
}

/* Where devfreq devices are listed; the later ones for trees and containers
 * without /sys/class. */
static const char *const devfreq_places[] = {
	"/sys/class/devfreq/*",
	"/sys/devices/*/devfreq/*",
	"/sys/devices/platform/*/devfreq/*",
	"/sys/devices/platform/*/*/devfreq/*",
};

static const char *const gpu_names[] = {
	"*.gpu", "*.gp10b", "*.gv11b", "*.ga10b", "gpu-gpc-*", /* Jetson Nano to Thor */
	"*mali*", "*.gpu-*", "*panfrost*", "*panthor*",        /* Mali */
	"*kgsl*", "gpu", "*adreno*",                           /* Adreno */
};
static const char *const mem_names[] = {"dmc", "*.dmc", "*:dmc", "bwmgr", "*bwmgr", "*.emc", "emc", "*memory-controller*"};
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
			const char *name = path_base(found->path[i]);
			if (any_match(names, n, name) && !any_match(never, COUNT(never), name))
				domain_add(domain, root, METHOD_DEVFREQ_LIMITS, found->path[i]);
		}
	}
}

void gpu_find(struct clock_domain *domain, const struct sysroot *root)
{
	snprintf(domain->why_not, sizeof(domain->why_not),
		 "no GPU in /sys/class/devfreq, no amdgpu, xe or i915 node in /sys/class/drm; [gpu] path= in boards.d names one");
	devfreq_find(domain, root, gpu_names, COUNT(gpu_names));
	if (domain->devices == 0)
		add_all(domain, root, METHOD_AMDGPU, "/sys/class/drm/card[0-9]/device", "pp_dpm_sclk");
	if (domain->devices == 0)
		add_all(domain, root, METHOD_XE, "/sys/class/drm/card[0-9]/device/tile*/gt0/freq0", NULL);
	if (domain->devices == 0)
		add_all(domain, root, METHOD_I915, "/sys/class/drm/card[0-9]/gt/gt0", NULL);
	if (domain->devices == 0)
		add_all(domain, root, METHOD_I915, "/sys/class/drm/card[0-9]", NULL);
}

void mem_find(struct clock_domain *domain, const struct sysroot *root)
{
	snprintf(domain->why_not, sizeof(domain->why_not),
		 "no " BPMP_EMC_DIR ", no dmc or bwmgr in /sys/class/devfreq; [mem] path= in boards.d names one");
	add_all(domain, root, METHOD_BPMP_EMC, BPMP_EMC_DIR, NULL);
	if (domain->devices == 0)
		devfreq_find(domain, root, mem_names, COUNT(mem_names));
	if (domain->devices == 0)
		add_all(domain, root, METHOD_AMDGPU, "/sys/class/drm/card[0-9]/device", "pp_dpm_mclk");
	if (domain->devices == 0 && sysroot_read_u64(root, EMC_CAP_FILE, &domain->fixed_hz) < 0)
		domain->fixed_hz = 0;
}

/* The starred level of an amdgpu table. */
static uint64_t dpm_current(const struct clock_device *d, const struct sysroot *root)
{
	char text[SYSFS_TEXT_MAX];
	uint64_t hz[GRID_AXIS_MAX];
	int current;

	if (sysroot_read_at(root, d->dir, d->name, text, sizeof(text)) < 0)
		return 0;
	dpm_table_parse(text, hz, GRID_AXIS_MAX, &current);
	return current < 0 ? 0 : hz[current];
}

uint64_t board_current_hz(const struct board *board, const struct sysroot *root, enum clock_id id)
{
	const struct clock_domain *domain = &board->clock[id];

	if (domain->devices == 0)
		return domain->fixed_hz;
	const struct clock_device *d = &domain->device[domain->lead];
	const char *name = "";
	uint64_t unit = 1, value;

	switch (d->method) {
	case METHOD_CPUFREQ_LIMITS:
	case METHOD_CPUFREQ_SETSPEED:
		name = "scaling_cur_freq", unit = 1000;
		break;
	case METHOD_DEVFREQ_LIMITS:
	case METHOD_DEVFREQ_USERSPACE:
		name = "cur_freq";
		break;
	case METHOD_I915:
		name = strstr(d->dir, "/gt/gt") ? "rps_act_freq_mhz" : "gt_act_freq_mhz", unit = 1000000;
		break;
	case METHOD_XE:
		name = "act_freq", unit = 1000000;
		break;
	case METHOD_BPMP_EMC:
		name = "rate";
		break;
	case METHOD_AMDGPU:
		return dpm_current(d, root);
	case METHOD_NONE:
	case METHOD_COUNT:
		return 0;
	}
	return sysroot_read_u64_at(root, d->dir, name, &value) == 0 && value < UINT64_MAX / unit ? value * unit : 0;
}
