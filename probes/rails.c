/* SPDX-License-Identifier: MIT */
/* Power sources of the machine: board input first, then parts that are added up, energy counters of
 * the processor, and the battery last. */
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "probe.h"

#define WINDOW_MS_MAX 60000 /* hwmon: a longer update_interval is not an averaging window */
#define INA_CHANNELS  3     /* of an INA3221: in4-6 are shunt voltages, in7 and curr4 sums */

static bool readable_by_all(const struct sysroot *root, const char *path)
{
	char full[PATH_MAX];
	struct stat st;

	return sysroot_path(root, path, full, sizeof(full)) == 0 && stat(full, &st) == 0 && (st.st_mode & S_IROTH);
}

/* Add a rail of one or two files in `dir`, if they exist. */
static struct rail *add_rail(struct board *board, const struct sysroot *root, enum rail_kind kind, const char *dir,
			     const char *first, const char *second)
{
	if (board->rails == RAILS_MAX)
		return NULL;
	struct rail *rail = &board->rail[board->rails];
	const char *file[2] = {first, second};

	bool asleep = board_suspended(root, dir); /* reading a file would resume the device */
	if (asleep && kind != RAIL_HWMON_POWER)
		return NULL;
	memset(rail, 0, sizeof(*rail));
	rail->kind = kind;
	for (int i = 0; i < 2 && file[i]; i++) {
		if (sysroot_join(rail->path[i], dir, file[i]) < 0 || !sysroot_exists(root, rail->path[i]))
			return NULL;
		if (!readable_by_all(root, rail->path[i]))
			rail->root_only = true;
	}
	uint64_t interval_ms;
	if (kind != RAIL_RAPL && !asleep && sysroot_read_u64_at(root, dir, "update_interval", &interval_ms) == 0 &&
	    interval_ms <= WINDOW_MS_MAX)
		rail->window_ns = interval_ms * NS_PER_MS;
	board->rails++;
	return rail;
}

static bool label_is_total(const char *label)
{
	static const char *const totals[] = {"VDD_IN", "POM_5V_IN", "VIN", "VDD_INPUT", "TOTAL*"};

	for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++)
		if (fnmatch(totals[i], label, FNM_CASEFOLD) == 0)
			return true;
	return false;
}

static bool label_is_no_part(const char *label)
{
	return !strcasecmp(label, "NC") || strcasestr(label, "sum") != NULL;
}

/* Upstream hwmon driver: in{1,2,3}_label, in*_input in mV, curr*_input in mA. */
static void ina_hwmon(struct board *board, const struct sysroot *root, const char *dir)
{
	for (int n = 1; n <= INA_CHANNELS; n++) {
		char label_file[32], volt[32], amp[32], label[48];
		snprintf(label_file, sizeof(label_file), "in%d_label", n);
		snprintf(volt, sizeof(volt), "in%d_input", n);
		snprintf(amp, sizeof(amp), "curr%d_input", n);
		if (sysroot_read_at(root, dir, label_file, label, sizeof(label)) <= 0)
			snprintf(label, sizeof(label), "channel %d", n);
		if (label_is_no_part(label))
			continue;
		struct rail *rail = add_rail(board, root, RAIL_INA, dir, volt, amp);
		if (rail) {
			memcpy(rail->label, label, sizeof(label));
			rail->total = label_is_total(label);
		}
	}
}

/* NVIDIA's ina3221x driver up to L4T 32: rail_name_{0,1,2}, in_voltage*_input
 * mV, in_current*_input mA. */
static void ina_iio(struct board *board, const struct sysroot *root, const char *dir)
{
	for (int n = 0; n < INA_CHANNELS; n++) {
		char label_file[32], volt[32], amp[32], label[48];
		snprintf(label_file, sizeof(label_file), "rail_name_%d", n);
		snprintf(volt, sizeof(volt), "in_voltage%d_input", n);
		snprintf(amp, sizeof(amp), "in_current%d_input", n);
		if (sysroot_read_at(root, dir, label_file, label, sizeof(label)) <= 0 || label_is_no_part(label))
			continue;
		struct rail *rail = add_rail(board, root, RAIL_INA, dir, volt, amp);
		if (rail) {
			memcpy(rail->label, label, sizeof(label));
			rail->total = label_is_total(label);
		}
	}
}

static void find_ina(struct board *board, const struct sysroot *root)
{
	CLEANUP_MEM struct sysroot_matches *hwmon = sysroot_glob(root, "/sys/class/hwmon/hwmon*");
	size_t before = board->rails;
	char name[64];

	for (size_t i = 0; hwmon && i < hwmon->count; i++)
		if (sysroot_read_at(root, hwmon->path[i], "name", name, sizeof(name)) > 0 &&
		    !strncmp(name, "ina3221", 7))
			ina_hwmon(board, root, hwmon->path[i]);
	if (board->rails > before)
		return;
	CLEANUP_MEM struct sysroot_matches *iio = sysroot_glob(root, "/sys/bus/i2c/drivers/ina3221x/*/iio:device*");
	for (size_t i = 0; iio && i < iio->count; i++)
		ina_iio(board, root, iio->path[i]);
}

/* Kinds of hwmon power sensors, board inputs first: ACPI power meters, single-channel monitors such
 * as ina226 and ina238, any others, and last those of graphics cards. */
static const char *const hwmon_ranks[] = {"power_meter", "ina2*", "*", "amdgpu", "xe", "i915"};
enum { HWMON_OTHER = 2, HWMON_CARDS = 3, HWMON_RANKS = sizeof(hwmon_ranks) / sizeof(hwmon_ranks[0]) };
static const char *const no_board_power[] = {"BAT*", "ucsi*", "nvme*", "iwlwifi*", "ina3221*"};

static size_t hwmon_rank(const char *name)
{
	for (size_t i = 0; i < sizeof(no_board_power) / sizeof(no_board_power[0]); i++)
		if (fnmatch(no_board_power[i], name, 0) == 0)
			return HWMON_RANKS;
	for (size_t rank = 0; rank < HWMON_RANKS; rank++)
		if (rank != HWMON_OTHER && fnmatch(hwmon_ranks[rank], name, 0) == 0)
			return rank;
	return HWMON_OTHER;
}

/* A device that sleeps draws next to nothing and counts once it wakes, if there is one that is awake. */
static void find_hwmon_power(struct board *board, const struct sysroot *root, size_t rank)
{
	CLEANUP_MEM struct sysroot_matches *hwmon = sysroot_glob(root, "/sys/class/hwmon/hwmon*");
	size_t before = board->rails, awake = 0;
	char name[48], label[48];

	for (size_t i = 0; hwmon && i < hwmon->count; i++) {
		if (sysroot_read_at(root, hwmon->path[i], "name", name, sizeof(name)) <= 0 || hwmon_rank(name) != rank)
			continue;
		struct rail *rail = add_rail(board, root, RAIL_HWMON_POWER, hwmon->path[i], "power1_average", NULL);
		if (!rail)
			rail = add_rail(board, root, RAIL_HWMON_POWER, hwmon->path[i], "power1_input", NULL);
		if (!rail)
			continue;
		bool asleep = board_suspended(root, hwmon->path[i]);
		awake += !asleep;
		rail->total = rank < HWMON_CARDS;
		if (rank == HWMON_OTHER || asleep ||
		    sysroot_read_at(root, hwmon->path[i], "power1_label", label, sizeof(label)) <= 0)
			memcpy(label, name, sizeof(label));
		memcpy(rail->label, label, sizeof(label));
	}
	if (!awake)
		board->rails = before;
}

/* Packages and their DRAM, or the platform (psys), which includes them all. intel-rapl-mmio:* is
 * the first package again, and does not match. */
static void find_rapl(struct board *board, const struct sysroot *root)
{
	CLEANUP_MEM struct sysroot_matches *zones = sysroot_glob(root, "/sys/class/powercap/intel-rapl:*");
	char name[48];

	for (size_t i = 0; zones && i < zones->count; i++) {
		if (sysroot_read_at(root, zones->path[i], "name", name, sizeof(name)) <= 0)
			continue;
		if (strncmp(name, "package-", 8) != 0 && strcmp(name, "dram") != 0 && strcmp(name, "psys") != 0)
			continue;
		struct rail *rail = add_rail(board, root, RAIL_RAPL, zones->path[i], "energy_uj", NULL);
		if (!rail)
			continue;
		snprintf(rail->label, sizeof(rail->label), "%s", name);
		rail->total = !strcmp(name, "psys");
		if (sysroot_read_u64_at(root, zones->path[i], "max_energy_range_uj", &rail->energy_range_uj) < 0)
			rail->energy_range_uj = 0;
	}
}

static void find_battery(struct board *board, const struct sysroot *root)
{
	CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(root, "/sys/class/power_supply/*");
	char type[32], scope[32];

	for (size_t i = 0; found && i < found->count; i++) {
		if (sysroot_read_at(root, found->path[i], "type", type, sizeof(type)) <= 0 ||
		    strcmp(type, "Battery") != 0)
			continue;
		if (sysroot_read_at(root, found->path[i], "scope", scope, sizeof(scope)) > 0 &&
		    strcmp(scope, "Device") == 0)
			continue; /* a mouse's */
		struct rail *rail = add_rail(board, root, RAIL_BATTERY, found->path[i], "power_now", NULL);
		if (!rail)
			rail = add_rail(board, root, RAIL_BATTERY, found->path[i], "voltage_now", "current_now");
		if (rail)
			snprintf(rail->label, sizeof(rail->label), "%.47s", path_base(found->path[i]));
	}
}

/* Make rails from `first` on separate sources, or one common source. */
static void close_sources(struct board *board, size_t first, bool apart, unsigned *source)
{
	for (size_t i = first; i < board->rails; i++)
		board->rail[i].source = (uint8_t)(*source + (apart ? i - first : 0));
	if (board->rails > first)
		*source += apart ? (unsigned)(board->rails - first) : 1;
}

/* Totals are board inputs and come first, each as a source; the remaining rails are parts of one
 * source. */
static void split_totals(struct board *board, size_t first, unsigned *source)
{
	struct rail parts[RAILS_MAX] = {0};
	size_t totals = first, count = 0;

	for (size_t i = first; i < board->rails; i++) {
		if (board->rail[i].total)
			board->rail[totals++] = board->rail[i];
		else
			parts[count++] = board->rail[i];
	}
	memcpy(&board->rail[totals], parts, count * sizeof(parts[0]));
	board->rails = totals;
	close_sources(board, first, true, source);
	board->rails += count;
	close_sources(board, totals, false, source);
}

static void number_sources(struct board *board)
{
	unsigned before = RAILS_MAX, number = UINT8_MAX;

	for (size_t i = 0; i < board->rails; i++) {
		number += board->rail[i].source != before;
		before = board->rail[i].source;
		board->rail[i].source = (uint8_t)number;
	}
}

/* Partial rails come after every input, in any order of discovery. */
static void parts_last(struct board *board)
{
	struct rail sorted[RAILS_MAX] = {0};
	size_t n = 0;

	for (int parts = 0; parts < 2; parts++)
		for (size_t i = 0; i < board->rails; i++)
			if (board->rail[i].total != (parts != 0) && board->rail[i].kind != RAIL_BATTERY)
				sorted[n++] = board->rail[i];
	for (size_t i = 0; i < board->rails; i++)
		if (board->rail[i].kind == RAIL_BATTERY)
			sorted[n++] = board->rail[i];
	memcpy(board->rail, sorted, n * sizeof(sorted[0]));
	number_sources(board);
}

void rails_find(struct board *board, const struct sysroot *root)
{
	unsigned source = 0;
	size_t first;

	board->rails = 0;
	find_ina(board, root);
	split_totals(board, 0, &source);
	for (size_t rank = 0; rank < HWMON_RANKS; rank++) {
		first = board->rails;
		find_hwmon_power(board, root, rank);
		close_sources(board, first, false, &source);
	}
	first = board->rails;
	find_rapl(board, root);
	split_totals(board, first, &source);
	first = board->rails;
	find_battery(board, root);
	close_sources(board, first, false, &source);
	parts_last(board);
	if (board->rails == 0)
		snprintf(board->power_why_not, sizeof(board->power_why_not),
			 "no ina3221 or power1 in /sys/class/hwmon, no intel-rapl in /sys/class/powercap, no battery");
}
