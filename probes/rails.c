/* SPDX-License-Identifier: MIT */
/* Where the machine says what power it draws: board input first, then parts
 * that add up, energy counters of the processor, and the battery last. */
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/file.h"
#include "probe.h"

#define INA_CHANNELS 3 /* of an INA3221: in4-6 are shunt voltages, in7 and curr4 sums */

static bool readable_by_all(const struct sysroot *root, const char *path)
{
	char full[PATH_MAX];
	struct stat st;

	return sysroot_path(root, path, full, sizeof(full)) == 0 && stat(full, &st) == 0 && (st.st_mode & S_IROTH);
}

/* Add a rail of one or two files in `dir`; not there: nothing. */
static struct rail *add_rail(struct board *board, const struct sysroot *root, enum rail_kind kind, const char *dir,
			     const char *first, const char *second)
{
	if (board->rails == RAILS_MAX)
		return NULL;
	struct rail *rail = &board->rail[board->rails];
	const char *file[2] = {first, second};

	memset(rail, 0, sizeof(*rail));
	rail->kind = kind;
	for (int i = 0; i < 2 && file[i]; i++) {
		if (sysroot_join(rail->path[i], dir, file[i]) < 0 || !sysroot_exists(root, rail->path[i]))
			return NULL;
		if (!readable_by_all(root, rail->path[i]))
			rail->root_only = true;
	}
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

/* Upstream hwmon driver: in{1,2,3}_label, in*_input mV, curr*_input mA. */
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
	char name[64];

	for (size_t i = 0; hwmon && i < hwmon->count; i++)
		if (sysroot_read_at(root, hwmon->path[i], "name", name, sizeof(name)) > 0 && !strncmp(name, "ina3221", 7))
			ina_hwmon(board, root, hwmon->path[i]);
	if (board->rails)
		return;
	CLEANUP_MEM struct sysroot_matches *iio = sysroot_glob(root, "/sys/bus/i2c/drivers/ina3221x/*/iio:device*");
	for (size_t i = 0; iio && i < iio->count; i++)
		ina_iio(board, root, iio->path[i]);
}

/* A total makes the parts double. */
static void keep_total(struct board *board)
{
	for (size_t i = 0; i < board->rails; i++)
		if (board->rail[i].total) {
			board->rail[0] = board->rail[i];
			board->rails = 1;
			return;
		}
}

/* hwmon power1: a meter of the whole machine before one of its GPU. */
static void find_hwmon_power(struct board *board, const struct sysroot *root)
{
	static const char *const ranks[] = {"power_meter", "ina2*", "*", "amdgpu", "xe"};
	static const char *const never[] = {"BAT*", "ucsi*", "nvme*", "amdgpu", "xe", "power_meter", "ina2*"};
	CLEANUP_MEM struct sysroot_matches *hwmon = sysroot_glob(root, "/sys/class/hwmon/hwmon*");
	char name[48];

	for (size_t rank = 0; rank < sizeof(ranks) / sizeof(ranks[0]) && board->rails == 0; rank++)
		for (size_t i = 0; hwmon && i < hwmon->count; i++) {
			if (sysroot_read_at(root, hwmon->path[i], "name", name, sizeof(name)) <= 0 ||
			    fnmatch(ranks[rank], name, 0) != 0)
				continue;
			bool other = !strcmp(ranks[rank], "*");
			for (size_t k = 0; other && k < sizeof(never) / sizeof(never[0]); k++)
				other = fnmatch(never[k], name, 0) != 0;
			if (!strcmp(ranks[rank], "*") && !other)
				continue;
			struct rail *rail = add_rail(board, root, RAIL_HWMON_POWER, hwmon->path[i], "power1_average", NULL);
			if (!rail)
				rail = add_rail(board, root, RAIL_HWMON_POWER, hwmon->path[i], "power1_input", NULL);
			if (rail)
				snprintf(rail->label, sizeof(rail->label), "%s", name);
		}
}

/* Packages and their DRAM, or the platform (psys) which holds them all.
 * intel-rapl-mmio:* is the first package again and does not match. */
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
	char type[32];

	for (size_t i = 0; found && i < found->count; i++) {
		if (sysroot_read_at(root, found->path[i], "type", type, sizeof(type)) <= 0 || strcmp(type, "Battery") != 0)
			continue;
		struct rail *rail = add_rail(board, root, RAIL_BATTERY, found->path[i], "power_now", NULL);
		if (!rail)
			rail = add_rail(board, root, RAIL_BATTERY, found->path[i], "voltage_now", "current_now");
		if (rail)
			snprintf(rail->label, sizeof(rail->label), "%.47s", path_base(found->path[i]));
	}
}

void rails_find(struct board *board, const struct sysroot *root)
{
	static void (*const finders[])(struct board *, const struct sysroot *) = {find_ina, find_hwmon_power, find_rapl,
										 find_battery};

	board->rails = 0;
	for (size_t i = 0; i < sizeof(finders) / sizeof(finders[0]) && board->rails == 0; i++)
		finders[i](board, root);
	keep_total(board);
	if (board->rails == 0)
		snprintf(board->power_why_not, sizeof(board->power_why_not),
			 "no ina3221 or power1 in /sys/class/hwmon, no intel-rapl in /sys/class/powercap, no battery");
}
