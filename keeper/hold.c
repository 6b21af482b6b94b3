/* SPDX-License-Identifier: MIT */
/* Reasons why the kernel holds a limit down: hardware range, firmware, boost, cooling. */
#include "hold.h"

#include <string.h>

#include "../common/units.h"
#include "../probes/sysroot.h"

#define TABLE         "scaling_available_frequencies"
#define BOOST_TABLE   "scaling_boost_frequencies"
#define DEVFREQ_TABLE "available_frequencies"

static void add(struct knob_hold *hold, uint64_t value, const char *who)
{
	if (value == 0 || hold->count == HOLD_LIMITS)
		return;
	hold->limit[hold->count].value = value;
	hold->limit[hold->count++].who = who;
}

/* The highest entry not above `limit` in one of the policy's frequency tables; 0: there is no table. */
static uint64_t table_top(const struct sysroot *root, const char *dir, const char *table, uint64_t limit)
{
	char text[SYSFS_TEXT_MAX], *save;
	uint64_t top = 0, entry;

	if (sysroot_read_at(root, dir, table, text, sizeof(text)) <= 0)
		return 0;
	for (char *word = strtok_r(text, " \t\n", &save); word; word = strtok_r(NULL, " \t\n", &save))
		if (parse_u64(word, &entry) == 0 && entry <= limit && entry > top)
			top = entry;
	return top;
}

static bool reads(const struct sysroot *root, const char *path, uint64_t want)
{
	uint64_t value;

	return sysroot_read_u64(root, path, &value) == 0 && value == want;
}

static bool boost_is_off(const struct sysroot *root, const char *dir)
{
	uint64_t own;

	return reads(root, "/sys/devices/system/cpu/intel_pstate/no_turbo", 1) ||
	       reads(root, "/sys/devices/system/cpu/cpufreq/boost", 0) ||
	       reads(root, "/sys/devices/system/cpu/amd_pstate/cpb_boost", 0) ||
	       (sysroot_read_u64_at(root, dir, "boost", &own) == 0 && own == 0);
}

static void dir_of(const char *path, char dir[SYSFS_PATH_MAX])
{
	snprintf(dir, SYSFS_PATH_MAX, "%s", path);
	dir[path_base(path) - path - 1] = '\0';
}

static void find_cpufreq(const struct sysroot *root, const char *dir, struct knob_hold *out)
{
	uint64_t value, boost = table_top(root, dir, BOOST_TABLE, UINT64_MAX);

	out->takes_no_limit = true;
	out->table_top = table_top(root, dir, TABLE, UINT64_MAX);
	if (sysroot_read_u64_at(root, dir, "cpuinfo_max_freq", &value) == 0)
		add(out, value, "cpuinfo_max_freq");
	if (sysroot_read_u64_at(root, dir, "bios_limit", &value) == 0)
		add(out, value, "bios_limit");
	out->boost_off = boost_is_off(root, dir);
	if (out->boost_off && sysroot_read_u64_at(root, dir, "base_frequency", &value) == 0)
		add(out, value, "base_frequency, because boost is off");
	if (out->boost_off)
		add(out, out->table_top, "scaling_available_frequencies, because boost is off");
	out->table_top = boost > out->table_top ? boost : out->table_top;
}

/* A devfreq maximum shows the lowest of all requests for it: at the top of the table there is none. i915 and xe have no
 * table, but name their highest clock. */
static void find_gpu(const struct sysroot *root, const char *dir, struct knob_hold *out)
{
	static const char *const highest[] = {"gt_RP0_freq_mhz", "rps_RP0_freq_mhz", "rp0_freq"};

	out->table_top = table_top(root, dir, DEVFREQ_TABLE, UINT64_MAX);
	add(out, out->table_top, DEVFREQ_TABLE);
	for (size_t i = 0; i < sizeof(highest) / sizeof(highest[0]); i++) {
		uint64_t value;
		if (sysroot_read_u64_at(root, dir, highest[i], &value) == 0)
			add(out, value, highest[i]);
	}
}

void hold_find(const struct sysroot *root, const struct knob_kind *kind, const char *path, struct knob_hold *out)
{
	char dir[SYSFS_PATH_MAX];

	memset(out, 0, sizeof(*out));
	dir_of(path, dir);
	if (kind->role != ROLE_MAX && kind->role != ROLE_MIN)
		return;
	if (clock_of_dir(dir) == CLOCK_CPU)
		find_cpufreq(root, dir, out);
	else
		find_gpu(root, dir, out);
}

bool hold_cools(const struct sysroot *root, const char *path, struct knob_hold *out)
{
	char dir[SYSFS_PATH_MAX];

	dir_of(path, dir);
	out->cooling = board_cooling(root, dir, out->cooler);
	return out->cooling;
}

/* A limit reads back as itself, or since Linux 6.2 as the next lower table entry. */
static bool shows(const struct sysroot *root, const struct knob_kind *kind, const char *path, uint64_t value,
		  uint64_t limit)
{
	char dir[SYSFS_PATH_MAX];

	if (value <= limit + kind->slack && limit <= value + kind->slack)
		return true;
	if (value > limit)
		return false;
	dir_of(path, dir);
	return value == table_top(root, dir, TABLE, limit) || value == table_top(root, dir, BOOST_TABLE, limit);
}

const char *hold_explains(const struct sysroot *root, const struct knob_kind *kind, const char *path, uint64_t value,
			  uint64_t wrote, struct knob_hold *hold)
{
	if ((kind->role != ROLE_MAX && kind->role != ROLE_MIN) || value == UINT64_MAX || wrote == UINT64_MAX ||
	    value >= wrote)
		return NULL;
	hold_find(root, kind, path, hold);
	for (size_t i = 0; i < hold->count; i++)
		if (hold->limit[i].value < wrote && shows(root, kind, path, value, hold->limit[i].value))
			return hold->limit[i].who;
	return hold_cools(root, path, hold) ? hold->cooler : NULL;
}

uint64_t hold_lowest(const struct knob_hold *hold)
{
	uint64_t lowest = UINT64_MAX;

	for (size_t i = 0; i < hold->count; i++)
		lowest = hold->limit[i].value < lowest ? hold->limit[i].value : lowest;
	return lowest;
}

enum found_max hold_found(const struct knob_hold *hold, const struct knob_kind *kind, uint64_t found)
{
	bool all = found == 0 /* no limit, as in limit_of() */,
	     held = hold->boost_off || hold->table_top == 0 || found < hold->table_top;

	if (kind->role != ROLE_MAX || found == UINT64_MAX)
		return FOUND_LIMIT;
	for (size_t i = 0; i < hold->count; i++) {
		all |= found >= hold->limit[i].value;
		held |= hold->limit[i].value < found;
	}
	return !all ? FOUND_LIMIT : held && hold->takes_no_limit ? FOUND_UNLIMITED : FOUND_HIGHEST;
}
