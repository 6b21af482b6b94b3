/* SPDX-License-Identifier: MIT */
/* Power sensors: their discovery and readings. */
#include <errno.h>

#include "../../common/clock.h"
#include "sysroot.h"

static void test_rapl_wraps(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	uint64_t uw = 0;

	put("/sys/class/powercap/intel-rapl:0/name", "package-0");
	put("/sys/class/powercap/intel-rapl:0/energy_uj", "999000000");
	put("/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "1000000000");
	put("/sys/class/powercap/intel-rapl:0:0/name", "core");
	put("/sys/class/powercap/intel-rapl:0:0/energy_uj", "5");
	put("/sys/class/powercap/intel-rapl-mmio:0/name", "package-0");
	put("/sys/class/powercap/intel-rapl-mmio:0/energy_uj", "5");
	rails_find(board, &root);
	assert_int_equal(board->rails, 1);
	struct power_meter *meter = power_meter_new(board, &root, NULL);
	assert_non_null(meter);
	assert_int_equal(power_meter_read(meter, NS_PER_S, false, &uw), -EAGAIN);
	assert_int_equal(power_meter_read(meter, NS_PER_S, false, &uw), -EAGAIN); /* no time has passed */
	put("/sys/class/powercap/intel-rapl:0/energy_uj", "4000000");             /* 5 J later, past the end */
	assert_int_equal(power_meter_read(meter, 2 * NS_PER_S, false, &uw), 0);
	assert_int_equal(uw, 5000000);
	put("/sys/class/powercap/intel-rapl:0/energy_uj", "10000000");
	assert_int_equal(power_meter_read(meter, 5 * NS_PER_S, false, &uw), 0);
	assert_int_equal(uw, 2000000);
	/* a suspend resets it */
	put("/sys/class/powercap/intel-rapl:0/energy_uj", "9000000");
	assert_int_equal(power_meter_read(meter, 6 * NS_PER_S, false, &uw), -EAGAIN);
	put("/sys/class/powercap/intel-rapl:0/energy_uj", "12000000");
	assert_int_equal(power_meter_read(meter, 7 * NS_PER_S, false, &uw), 0);
	assert_int_equal(uw, 3000000);
	power_meter_free(meter);
	free(board);
}

static void put_ina(int n, const char *label, const char *mv, const char *ma)
{
	const char *const text[] = {label, mv, ma};
	const char *const before[] = {"in", "in", "curr"}, *const after[] = {"label", "input", "input"};
	char path[160];

	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/sys/class/hwmon/hwmon7/%s%d_%s", before[i], n, after[i]);
		put(path, text[i]);
	}
}

static void test_ina(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	uint64_t uw = 0;
	char path[PATH_MAX];

	put("/sys/class/hwmon/hwmon7/name", "ina3221");
	put_ina(1, "GPU", "5000", "1000");
	put_ina(2, "CPU", "5000", "200");
	put_ina(3, "NC", "5000", "7");
	put_ina(4, "shunt 1", "9", "1300"); /* curr4 is the sum of the channels */
	put_ina(7, "sum of shunt voltages", "9", "9");
	rails_find(board, &root);
	assert_int_equal(board->rails, 2);
	struct power_meter *meter = power_meter_new(board, &root, NULL);
	assert_int_equal(power_meter_read(meter, 1, false, &uw), 0);
	assert_int_equal(uw, 6000000);
	/* a sensor that dies is an error; one that is there again is read again */
	snprintf(path, sizeof(path), "%s/sys/class/hwmon/hwmon7/curr2_input", top);
	unlink(path);
	assert_int_equal(power_meter_read(meter, 2, false, &uw), -ENODEV);
	put("/sys/class/hwmon/hwmon7/curr2_input", "-3"); /* noise at idle counts as nothing */
	assert_int_equal(power_meter_read(meter, 3, false, &uw), 0);
	assert_int_equal(uw, 5000000);
	power_meter_free(meter);
	put_ina(3, "VDD_IN", "5000", "1400");
	rails_find(board, &root);
	assert_int_equal(board->rails, 3); /* the input, and its replacement if it has no usable value */
	assert_int_equal(board->rail[1].source, 1);
	assert_int_equal(board->rail[2].source, 1);
	assert_string_equal(board->rail[0].label, "VDD_IN");
	assert_true(board->rail[0].total);
	free(board);
}

static void test_battery_and_hwmon(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	uint64_t uw = 0;

	rails_find(board, &root);
	assert_int_equal(board->rails, 0);
	assert_true(board->power_why_not[0] != '\0');
	put("/sys/class/power_supply/BAT0/type", "Battery");
	put("/sys/class/power_supply/BAT0/status", "Charging");
	put("/sys/class/power_supply/BAT0/voltage_now", "12000000");
	put("/sys/class/power_supply/BAT0/current_now", "500000");
	put("/sys/class/power_supply/AC/type", "Mains");
	rails_find(board, &root);
	assert_int_equal(board->rails, 1);
	struct power_meter *meter = power_meter_new(board, &root, NULL);
	assert_int_equal(power_meter_read(meter, 1, false, &uw), -ENODATA);
	put("/sys/class/power_supply/BAT0/status", "Discharging");
	assert_int_equal(power_meter_read(meter, 1, false, &uw), 0);
	assert_int_equal(uw, 6000000);
	put("/sys/class/power_supply/BAT0/current_now", "-250000"); /* a gauge that counts discharge as negative */
	assert_int_equal(power_meter_read(meter, 2, false, &uw), 0);
	assert_int_equal(uw, 3000000);
	power_meter_free(meter);
	/* of two batteries one discharges first; that of a mouse is none of the board's */
	put("/sys/class/power_supply/BAT1/type", "Battery");
	put("/sys/class/power_supply/BAT1/status", "Not charging");
	put("/sys/class/power_supply/BAT1/power_now", "2000000");
	put("/sys/class/power_supply/mouse/type", "Battery");
	put("/sys/class/power_supply/mouse/scope", "Device");
	put("/sys/class/power_supply/mouse/status", "Discharging");
	put("/sys/class/power_supply/mouse/power_now", "1000000");
	rails_find(board, &root);
	assert_int_equal(board->rails, 2);
	meter = power_meter_new(board, &root, NULL);
	assert_int_equal(power_meter_read(meter, 1, false, &uw), 0);
	assert_int_equal(uw, 3000000);
	put("/sys/class/power_supply/BAT1/status", "Discharging");
	assert_int_equal(power_meter_read(meter, 2, false, &uw), 0);
	assert_int_equal(uw, 5000000);
	put("/sys/class/power_supply/BAT0/status", "Full");
	put("/sys/class/power_supply/BAT1/status", "Charging");
	assert_int_equal(power_meter_read(meter, 3, false, &uw), -ENODATA);
	power_meter_free(meter);
	put("/sys/class/power_supply/BAT1/type", "UPS");
	put("/sys/class/hwmon/hwmon1/name", "BAT0");
	put("/sys/class/hwmon/hwmon1/power1_input", "1");
	put("/sys/class/hwmon/hwmon2/name", "amdgpu");
	put("/sys/class/hwmon/hwmon2/power1_average", "9000000");
	rails_find(board, &root);
	assert_int_equal(board->rails, 2);
	assert_string_equal(board->rail[0].label, "amdgpu");
	assert_string_equal(board->rail[1].label, "BAT0");
	put("/sys/class/hwmon/hwmon9/name", "power_meter");
	put("/sys/class/hwmon/hwmon9/power1_average", "20000000");
	rails_find(board, &root);
	assert_string_equal(board->rail[0].label, "power_meter");
	free(board);
}

static void rapl(int zone, const char *name, uint64_t uj)
{
	char path[96], text[32];

	snprintf(path, sizeof(path), "/sys/class/powercap/intel-rapl:%d/name", zone);
	put(path, name);
	snprintf(path, sizeof(path), "/sys/class/powercap/intel-rapl:%d/energy_uj", zone);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)uj);
	put(path, text);
	snprintf(path, sizeof(path), "/sys/class/powercap/intel-rapl:%d/max_energy_range_uj", zone);
	put(path, "262143328850");
}

static void hwmon(int number, const char *name, const char *file, const char *text)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/hwmon/hwmon%d/name", number);
	put(path, name);
	snprintf(path, sizeof(path), "/sys/class/hwmon/hwmon%d/%s", number, file);
	put(path, text);
}

/* A sensor that reads 0, or implausibly little or much, is replaced by the next one: none of its readings is used. */
static void test_sensor_that_says_nothing(void **state)
{
	(void)state;
	static const char *const absurd[] = {"0", "12000", "-3000", "99999", "4294967295000000", "20000000001"};

	for (size_t i = 0; i < sizeof(absurd) / sizeof(*absurd); i++) {
		struct board *board = calloc(1, sizeof(*board));
		uint64_t uw = 1, reads = 0;
		hwmon(2, "amdgpu", "power1_average", absurd[i]);
		rapl(0, "package-0", 1000000);
		rails_find(board, &root);
		struct power_meter *meter = power_meter_new(board, &root, NULL);
		assert_string_equal(power_meter_label(meter), "amdgpu");
		for (uint64_t second = 1; second < 8; second++) {
			rapl(0, "package-0", 1000000 + second * 35000000);
			if (power_meter_read(meter, second * NS_PER_S, second % 2, &uw) == 0) {
				assert_int_equal(uw, 35000000);
				reads++;
			}
		}
		assert_true(reads >= 3);
		assert_string_equal(power_meter_label(meter), "package-0");
		assert_true(power_meter_counts(meter));
		/* and a message gives the reason */
		assert_non_null(strstr(power_meter_passed_over(meter), absurd[i][0] == '4' || absurd[i][0] == '2' ?
									       "more than any" :
									       "amdgpu reads 0."));
		power_meter_free(meter);
		free(board);
	}
	/* psys that never counts beside a package that does; and alone: no power rather than none drawn */
	struct board *board = calloc(1, sizeof(*board));
	uint64_t uw = 1;
	hwmon(2, "amdgpu", "power1_average", "0");
	rapl(1, "psys", 0);
	rails_find(board, &root);
	struct power_meter *meter = power_meter_new(board, &root, NULL);
	assert_string_equal(power_meter_label(meter), "psys");
	for (uint64_t second = 1; second < 20; second++) {
		rapl(0, "package-0", second * 9000000);
		if (power_meter_read(meter, second * NS_PER_S, false, &uw) == 0)
			assert_int_equal(uw, 9000000);
	}
	assert_int_equal(uw, 9000000);
	assert_non_null(strstr(power_meter_passed_over(meter), "psys reads 0.000 W"));
	for (uint64_t second = 20; second < 30; second++)
		/* the package stops, too */
		assert_int_not_equal(power_meter_read(meter, second * NS_PER_S, false, &uw), 0);
	assert_string_equal(power_meter_label(meter), "");
	power_meter_free(meter);
	free(board);
}

/* One that reads the same with and without load yields, unless it is the last; one that moves does not. */
static void test_sensor_that_never_moves(void **state)
{
	(void)state;
	for (int moves = 0; moves < 2; moves++) {
		struct board *board = calloc(1, sizeof(*board));
		uint64_t uw = 0;
		hwmon(2, "amdgpu", "power1_average", "12000000");
		hwmon(3, "power_meter", "power1_average", "30000000");
		rails_find(board, &root);
		struct power_meter *meter = power_meter_new(board, &root, NULL);
		for (int i = 0; i < 40; i++) {
			hwmon(3, "power_meter", "power1_average", moves && i % 2 ? "31000000" : "30000000");
			assert_int_equal(power_meter_read(meter, ((uint64_t)i + 1) * NS_PER_S, i % 2 != 0, &uw), 0);
		}
		assert_string_equal(power_meter_label(meter), moves ? "power_meter" : "amdgpu");
		assert_int_equal(uw, moves ? 31000000 : 12000000);
		power_meter_free(meter);
		free(board);
	}
}

static void test_sensor_that_fails(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	uint64_t uw = 0;

	hwmon(3, "power_meter", "power1_average", "rubbish");
	hwmon(2, "amdgpu", "power1_average", "12000000");
	rails_find(board, &root);
	struct power_meter *meter = power_meter_new(board, &root, NULL);
	for (int i = 0; i < 20; i++)
		(void)!power_meter_read(meter, ((uint64_t)i + 1) * NS_PER_S, false, &uw);
	assert_string_equal(power_meter_label(meter), "amdgpu");
	assert_int_equal(uw, 12000000);
	power_meter_free(meter);
	free(board);
}

/* A driver that answers EAGAIN, or nothing, for ever: the next sensor is used, but not for a pause. */
static void test_sensor_that_never_answers(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	uint64_t uw = 0, now_ns = 0;

	hwmon(3, "power_meter", "power1_average", "15000000");
	hwmon(2, "amdgpu", "power1_average", "12000000");
	rails_find(board, &root);
	struct power_meter *meter = power_meter_new(board, &root, NULL);
	for (int pause = 0; pause < 3; pause++) {
		hwmon(3, "power_meter", "power1_average", "");
		for (int i = 0; i < 40; i++)
			assert_int_equal(power_meter_read(meter, now_ns += NS_PER_S, false, &uw), -EAGAIN);
		hwmon(3, "power_meter", "power1_average", "15000000");
		assert_int_equal(power_meter_read(meter, now_ns += NS_PER_S, false, &uw), 0);
		assert_int_equal(uw, 15000000);
	}
	assert_string_equal(power_meter_label(meter), "power_meter");
	hwmon(3, "power_meter", "power1_average", "");
	for (int i = 0; i < 100; i++)
		(void)!power_meter_read(meter, now_ns += NS_PER_S, false, &uw);
	assert_string_equal(power_meter_label(meter), "amdgpu");
	assert_int_equal(uw, 12000000);
	power_meter_free(meter);
	free(board);
}

/* An APU and a card, added up: the one that sleeps counts as nothing, and is not an error unless all sleep. */
static void test_card_that_sleeps(void **state)
{
	(void)state;
	static const char *const address[] = {"/sys/devices/pci0000:00/0000:07:00.0",
					      "/sys/devices/pci0000:00/0000:03:00.0"};
	static const char *const watts[] = {"8000000", "20000000"};
	static const uint64_t sum_uw[] = {28000000, 20000000, 8000000, 0}; /* bit i: card i sleeps */
	struct board *board = calloc(1, sizeof(*board));
	struct power_meter *meter = NULL, *found_asleep = NULL;
	uint64_t uw = 0;
	char path[160], target[160];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/hwmon/hwmon%d/name", address[i], i);
		put(path, "amdgpu");
		snprintf(path, sizeof(path), "%s/hwmon/hwmon%d/power1_average", address[i], i);
		put(path, watts[i]);
		snprintf(path, sizeof(path), "/sys/class/hwmon/hwmon%d", i);
		snprintf(target, sizeof(target), "../../..%s/hwmon/hwmon%d", address[i], i);
		put_link(path, target);
	}
	for (unsigned sleeps = 0; sleeps < 4; sleeps++) {
		for (int i = 0; i < 2; i++) {
			snprintf(path, sizeof(path), "%s/power/runtime_status", address[i]);
			put(path, sleeps >> i & 1 ? "suspended" : "active");
		}
		rails_find(board, &root);
		assert_int_equal(board->rails, sleeps == 3 ? 0 : 2); /* if all sleep, another sensor is used */
		if (sleeps == 1)
			found_asleep = power_meter_new(board, &root, NULL);
		if (sleeps == 0)
			meter = power_meter_new(board, &root, NULL);
		int rc = power_meter_read(meter, (sleeps + 1) * NS_PER_S, false, &uw);
		assert_int_equal(rc, sum_uw[sleeps] ? 0 : -EAGAIN);
		if (rc == 0)
			assert_int_equal(uw, sum_uw[sleeps]);
	}
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/power/runtime_status", address[i]);
		put(path, "active");
	}
	/* one that slept when it was found counts once it is awake */
	assert_int_equal(power_meter_read(found_asleep, NS_PER_S, false, &uw), 0);
	assert_int_equal(uw, sum_uw[0]);
	power_meter_free(found_asleep);
	power_meter_free(meter);
	free(board);
}

/* A Thor: parts on an INA3221, the input on a monitor of its own. */
static void test_input_before_parts(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	uint64_t uw = 0;

	put("/sys/class/hwmon/hwmon7/name", "ina3221");
	put("/sys/class/hwmon/hwmon7/update_interval", "35");
	put_ina(1, "VDD_GPU", "20000", "500");
	put_ina(2, "VDD_CPU_SOC_MSS", "20000", "400");
	put_ina(3, "VIN_SYS_5V0", "5000", "700");
	hwmon(4, "ina238", "power1_input", "48000000");
	rails_find(board, &root);
	struct power_meter *meter = power_meter_new(board, &root, NULL);
	assert_string_equal(power_meter_label(meter), "ina238");
	assert_int_equal(power_meter_read(meter, NS_PER_S, false, &uw), 0);
	assert_int_equal(uw, 48000000);
	hwmon(4, "ina238", "power1_input", "0"); /* a monitor that is not fitted */
	for (uint64_t i = 2; i < 8; i++)
		(void)!power_meter_read(meter, i * NS_PER_S, false, &uw);
	assert_int_equal(uw, 21500000);
	assert_string_equal(power_meter_label(meter), "VDD_GPU");
	assert_int_equal(power_meter_window_ns(meter), 35 * NS_PER_MS); /* as its driver reports */
	power_meter_free(meter);
	free(board);
}

/* The averaging window is measured by the time for which a value is constant. */
static void test_sensor_window(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	uint64_t uw = 0;
	char text[32];

	hwmon(2, "amdgpu", "power1_average", "12000000");
	rails_find(board, &root);
	struct power_meter *meter = power_meter_new(board, &root, NULL);
	uint64_t guess_ns = power_meter_window_ns(meter);
	assert_true(guess_ns > 0);
	for (uint64_t ms = 0; ms < 3000; ms += 50) { /* a new value every 400 ms */
		snprintf(text, sizeof(text), "%d", 12000000 + (int)ms / 400 * 1000);
		hwmon(2, "amdgpu", "power1_average", text);
		assert_int_equal(power_meter_read(meter, NS_PER_S + ms * NS_PER_MS, false, &uw), 0);
	}
	assert_int_equal(power_meter_window_ns(meter), 400 * NS_PER_MS);
	power_meter_free(meter);
	free(board);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_ROOT(test_rapl_wraps),
		IN_ROOT(test_ina),
		IN_ROOT(test_battery_and_hwmon),
		IN_ROOT(test_sensor_that_says_nothing),
		IN_ROOT(test_sensor_that_never_moves),
		IN_ROOT(test_sensor_that_fails),
		IN_ROOT(test_sensor_that_never_answers),
		IN_ROOT(test_card_that_sleeps),
		IN_ROOT(test_input_before_parts),
		IN_ROOT(test_sensor_window),
	};

	return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
