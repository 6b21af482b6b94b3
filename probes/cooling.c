/* SPDX-License-Identifier: MIT */
/* Cooling devices: which of them limit the clock of a device. */
#include <ctype.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "../common/file.h"
#include "../common/units.h"
#include "probe.h"

/* Relation of a cooling device to a clock device. */
enum relation {
	OTHER,   /* limits something else */
	SIBLING, /* names another device of the same clock */
	SHARED,  /* names the clock, or nothing: may limit any device of it */
	OWN      /* names this device */
};

static bool matches(const char *const *patterns, size_t count, const char *text)
{
	for (size_t i = 0; i < count; i++)
		if (fnmatch(patterns[i], text, FNM_CASEFOLD) == 0)
			return true;
	return false;
}

#define MATCHES(patterns, text) matches(patterns, sizeof(patterns) / sizeof((patterns)[0]), text)

/* Fans, radios and idle injection limit no frequency; the units in the second line have their own
 * clocks. */
static const char *const unrelated[] = {"*fan*",     "*backlight*", "*lcd*",        "*wifi*", "*iwl*", "*modem*",
					"*isolate*", "*idle*",      "*powerclamp*", "*npu*",  "*dla*", "*pva*",
					"*vic*",     "*nvdec*",     "*nvenc*",      "cv*",    "*isp*", "*vpu*"};
static const char *const memory_words[] = {"*emc*", "*dmc*", "*dram*", "*ddr*", "*bwmgr*", "*memory*"};
static const char *const general_words[] = {"*throttle*", "*-alert", "*balanced*"};

enum clock_id clock_of_dir(const char *dir)
{
	if (strstr(dir, "cpufreq"))
		return CLOCK_CPU;
	return MATCHES(memory_words, path_base(dir)) ? CLOCK_MEM : CLOCK_GPU;
}

/* Does a list such as "0-3 5" or "0 1 2 3" contain a number? */
static bool list_holds(const char *list, unsigned long number)
{
	char *end;

	for (const char *p = list; *p; p = *end ? end + 1 : end) {
		unsigned long first = strtoul(p, &end, 10), last = first;

		if (end == p)
			return false;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (number >= first && number <= last)
			return true;
	}
	return false;
}

static enum relation relation_to_cpu(const struct sysroot *root, const char *dir, unsigned long cpu)
{
	char cpus[SYSFS_TEXT_MAX], name[32];

	if (sysroot_read_at(root, dir, "related_cpus", cpus, sizeof(cpus)) > 0)
		return list_holds(cpus, cpu) ? OWN : SIBLING;
	snprintf(name, sizeof(name), "policy%lu", cpu);
	return !strcmp(path_base(dir), name) ? OWN : SIBLING;
}

/* ACPI gives every processor's cooling device the same name; its physical node is the processor. */
static enum relation relation_of_processor(const struct sysroot *root, const char *cooler, const char *dir)
{
	char link[SYSFS_PATH_MAX], node[SYSFS_PATH_MAX];
	unsigned long cpu;

	if (sysroot_join(link, cooler, "device/physical_node") < 0 ||
	    sysroot_resolve(root, link, node, sizeof(node)) < 0 || sscanf(path_base(node), "cpu%lu", &cpu) != 1 ||
	    !sysroot_exists(root, node))
		return SHARED;
	return relation_to_cpu(root, dir, cpu);
}

static enum relation relation_to_devfreq(const char *dir, const char *name)
{
	char parent[SYSFS_PATH_MAX];

	if (!strcmp(path_base(dir), name))
		return OWN;
	snprintf(parent, sizeof(parent), "%s", dir);
	char *above = strstr(parent, "/devfreq/");
	if (above)
		*above = '\0';
	return above && !strcmp(path_base(parent), name) ? OWN : OTHER;
}

static enum relation relation(const struct sysroot *root, const char *cooler, const char *type, const char *dir)
{
	enum clock_id id = clock_of_dir(dir);
	bool cpu = fnmatch("*cpu*", type, FNM_CASEFOLD) == 0, gpu = fnmatch("*gpu*", type, FNM_CASEFOLD) == 0;
	unsigned long number;

	if (!strncmp(type, "devfreq-", 8))
		return id == CLOCK_CPU ? OTHER : relation_to_devfreq(dir, type + 8);
	if (!strncmp(type, "thermal-devfreq-", 16)) /* numbered in order of registration */
		return strstr(dir, "/devfreq/") ? SHARED : OTHER;
	if (MATCHES(unrelated, type))
		return OTHER;
	if (!strcasecmp(type, "Processor"))
		return id == CLOCK_CPU ? relation_of_processor(root, cooler, dir) : OTHER;
	if (sscanf(type, "cpufreq-cpu%lu", &number) == 1)
		return id == CLOCK_CPU ? relation_to_cpu(root, dir, number) : OTHER;
	if (cpu || gpu)
		return (cpu && id == CLOCK_CPU) || (gpu && id == CLOCK_GPU) ? SHARED : OTHER;
	if (MATCHES(memory_words, type))
		return id == CLOCK_MEM ? SHARED : OTHER;
	return id != CLOCK_MEM && MATCHES(general_words, type) ? SHARED : OTHER;
}

/* A policy without its own cooling device is covered by the cpufreq cooling device of all policies. */
bool board_cooling(const struct sysroot *root, const char *dir, char who[COOLING_NAME_MAX])
{
	CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(root, "/sys/class/thermal/cooling_device*");
	bool own = false, active[OWN + 1] = {false};
	char named[OWN + 1][COOLING_NAME_MAX];

	for (size_t i = 0; found && i < found->count; i++) {
		char type[COOLING_TYPE_MAX], state[32];
		int64_t value;
		if (sysroot_read_at(root, found->path[i], "type", type, sizeof(type)) <= 0)
			continue;
		enum relation kin = relation(root, found->path[i], type, dir);
		own |= kin == OWN;
		if (sysroot_read_at(root, found->path[i], "cur_state", state, sizeof(state)) <= 0 ||
		    parse_i64(state, &value) < 0 || value <= 0)
			continue;
		active[kin] = true;
		snprintf(named[kin], sizeof(named[kin]), "%s (%.30s)", type, path_base(found->path[i]));
	}
	int kin = active[OWN] ? OWN : active[SHARED] ? SHARED : active[SIBLING] && !own ? SIBLING : OTHER;
	memcpy(who, kin == OTHER ? "" : named[kin], kin == OTHER ? 1 : COOLING_NAME_MAX);
	return kin != OTHER;
}
