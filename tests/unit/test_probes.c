/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "../../common/clock.h"
#include "sysroot.h"

#define MHZ 1000000ULL

static void test_tables(void **state)
{
	(void)state;
	uint64_t hz[GRID_AXIS_MAX];

	assert_int_equal(freq_table_parse("300 200 100 200\n", 1000, hz, GRID_AXIS_MAX), 3);
	assert_int_equal(hz[0], 100000);
	assert_int_equal(hz[2], 300000);
	assert_int_equal(freq_table_parse("204000 665600 2133000 (kHz)", 1000, hz, GRID_AXIS_MAX), 3);
	assert_int_equal(hz[2], 2133 * MHZ);
	assert_int_equal(freq_table_parse("", 1, hz, GRID_AXIS_MAX), 0);
	assert_int_equal(freq_table_parse("<unsupported>", 1, hz, GRID_AXIS_MAX), 0);
	assert_int_equal(freq_table_parse("99999999999999999999999 5 0 -3 7x", 1, hz, GRID_AXIS_MAX), 1);
	assert_int_equal(hz[0], 5);
	char many[4096] = "";
	for (int i = 300; i > 0; i--)
		sprintf(many + strlen(many), "%d ", i);
	assert_int_equal(freq_table_parse(many, 1, hz, GRID_AXIS_MAX), GRID_AXIS_MAX);
	assert_int_equal(hz[0], 1);
	assert_int_equal(hz[GRID_AXIS_MAX - 1], 300);
	for (int i = 1; i < GRID_AXIS_MAX; i++)
		assert_true(hz[i] > hz[i - 1]);
}

static void test_made_tables(void **state)
{
	(void)state;
	uint64_t hz[GRID_AXIS_MAX];

	/* any range: ascending, both ends in, never over the room there is */
	srandom(4);
	for (int i = 0; i < 2000; i++) {
		uint64_t lo = 1 + (uint64_t)random() % (5000 * MHZ), hi = lo + (uint64_t)random() % (6000 * MHZ);
		size_t n = freq_table_make(lo, hi, 100 * MHZ, hz, GRID_AXIS_MAX);
		assert_in_range(n, 1, GRID_AXIS_MAX);
		assert_int_equal(hz[0], lo);
		assert_int_equal(hz[n - 1], hi);
		for (size_t k = 1; k < n; k++)
			assert_true(hz[k] > hz[k - 1]);
	}
	assert_int_equal(freq_table_make(0, 5, 1, hz, GRID_AXIS_MAX), 0);
	assert_int_equal(freq_table_make(7, 5, 1, hz, GRID_AXIS_MAX), 0);
}

static void test_dpm(void **state)
{
	(void)state;
	struct dpm_table t;

	assert_int_equal(dpm_table_parse("0: 500Mhz\n1: 800Mhz *\n2: 1900Mhz\n", &t), 3);
	assert_int_equal(t.now_hz, 800 * MHZ);
	assert_int_equal(t.hz[2], 1900 * MHZ);
	dpm_table_ends(&t); /* a fine-grained clock: the middle is the current value */
	assert_int_equal(t.count, 2);
	assert_int_equal(t.hz[1], 1900 * MHZ);
	assert_int_equal(t.level[1], 2);
	/* asleep: the middle is no level */
	assert_int_equal(dpm_table_parse("0: 500Mhz\n1: 0Mhz *\n2: 2210Mhz\n", &t), 2);
	assert_int_equal(t.hz[0], 500 * MHZ);
	assert_int_equal(t.level[0], 0);
	assert_int_equal(t.level[1], 2);
	dpm_table_ends(&t);
	assert_int_equal(t.count, 2);
	assert_int_equal(dpm_table_parse("0: 500Mhz\n1: 800Mhz\n2: 1900Mhz *\n", &t), 3);
	dpm_table_ends(&t);
	assert_int_equal(t.count, 3);
	assert_int_equal(dpm_table_parse("S: 19Mhz *\n0: 500Mhz\n1: 800Mhz\n", &t), 2);
	assert_int_equal(t.now_hz, 0);
	assert_int_equal(dpm_table_parse("0: 500Mhz\n2: 800Mhz\n", &t), 2);
	assert_int_equal(t.level[1], 2);
	assert_int_equal(dpm_table_parse("0: 1900Mhz\n1: 500Mhz *\n", &t), 2); /* in any order */
	assert_int_equal(t.hz[0], 500 * MHZ);
	assert_int_equal(t.level[0], 1);
	assert_int_equal(dpm_table_parse("0: 500Mhz\n1: 500Mhz\n", &t), 1);
	assert_int_equal(dpm_table_parse("1: 500Mhz\n0: 600Mhz\n", &t), 0);
	assert_int_equal(dpm_table_parse("manual", &t), 0);
}

static void test_resolve(void **state)
{
	(void)state;
	char path[SYSFS_PATH_MAX];

	put("/sys/devices/platform/a/file", "7\n");
	put_link("/sys/class/x/rel", "../../devices/platform/a");
	put_link("/sys/class/x/abs", "/sys/devices/platform/a");
	put_link("/sys/class/x/up", "../../../../../../../../etc");
	put_link("/sys/class/x/loop", "loop");
	assert_int_equal(sysroot_resolve(&root, "/sys/class/x/rel/file", path, sizeof(path)), 0);
	assert_string_equal(path, "/sys/devices/platform/a/file");
	assert_int_equal(sysroot_resolve(&root, "/sys/class/x/abs/file", path, sizeof(path)), 0);
	assert_string_equal(path, "/sys/devices/platform/a/file");
	/* above the top is the top: nothing leads out of the sysroot */
	assert_int_equal(sysroot_resolve(&root, "/sys/class/x/up", path, sizeof(path)), -ENOENT);
	assert_int_equal(sysroot_resolve(&root, "/sys/class/x/loop", path, sizeof(path)), -ELOOP);
	assert_int_equal(sysroot_open(&root, "/sys/class/x/rel/file", 0), -ELOOP);
	assert_int_equal(sysroot_open(&root, "/sys/devices/../devices/platform/a/file", 0), -EINVAL);
	uint64_t value = 0;
	assert_int_equal(sysroot_read_u64(&root, "/sys/class/x/rel/file", &value), 0);
	assert_int_equal(value, 7);
	char small[2];
	put("/sys/long", "12345");
	assert_int_equal(sysroot_read(&root, "/sys/long", small, sizeof(small)), -EFBIG);
}

static void test_glob_order(void **state)
{
	(void)state;
	put("/sys/p/policy10/f", "");
	put("/sys/p/policy4/f", "");
	put("/sys/p/policy0/f", "");
	put_link("/sys/p/policy9", "policy4");
	struct sysroot_matches *m = sysroot_glob(&root, "/sys/p/policy*");
	assert_non_null(m);
	assert_int_equal(m->count, 3); /* the link is policy4 again */
	assert_string_equal(m->path[0], "/sys/p/policy0");
	assert_string_equal(m->path[1], "/sys/p/policy4");
	assert_string_equal(m->path[2], "/sys/p/policy10");
	free(m);
}

static void put_policy(int n, const char *table, const char *lo, const char *hi)
{
	char path[128];
	const char *const name[] = {"scaling_available_frequencies", "cpuinfo_min_freq", "cpuinfo_max_freq",
				    "scaling_min_freq", "scaling_max_freq"};
	const char *const text[] = {table, lo, hi, lo, hi};

	for (int i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpufreq/policy%d/%s", n, name[i]);
		if (text[i])
			put(path, text[i]);
	}
}

static void test_cpu(void **state)
{
	(void)state;
	struct clock_domain cpu = {0};

	cpu_find(&cpu, &root);
	assert_int_equal(cpu.devices, 0);
	assert_non_null(strstr(cpu.why_not, "cpufreq/policy"));
	put_policy(0, "1800000 1200000 600000", "600000", "1800000"); /* descending */
	put_policy(4, "408000 2400000 2600000", "408000", "2400000"); /* an entry above the hardware range */
	put_policy(6, NULL, "400000", "1000000");                     /* no table */
	put_policy(7, NULL, NULL, NULL);
	memset(&cpu, 0, sizeof(cpu));
	cpu_find(&cpu, &root);
	assert_int_equal(cpu.devices, 3);
	assert_int_equal(cpu.lead, 1);
	assert_int_equal(cpu.device[0].hz[0], 600 * MHZ);
	assert_int_equal(cpu.device[1].count, 2);
	assert_int_equal(cpu.device[1].hz[1], 2400 * MHZ);
	assert_int_equal(cpu.device[2].count, 7);
	assert_string_equal(cpu.device[2].name, "policy6");
}

static void put_devfreq(const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "/sys/class/devfreq/%s/available_frequencies", name);
	put(path, "100000000 200000000");
	snprintf(path, sizeof(path), "/sys/class/devfreq/%s/min_freq", name);
	put(path, "100000000");
	snprintf(path, sizeof(path), "/sys/class/devfreq/%s/max_freq", name);
	put(path, "200000000");
}

static void test_gpu_names(void **state)
{
	(void)state;
	static const char *const gpus[] = {"57000000.gpu",         "17000000.gp10b", "17000000.gv11b",
					   "17000000.ga10b",       "gpu-gpc-0",      "fb000000.gpu",
					   "fb000000.gpu-panthor", "ff9a0000.mali",  "5000000.qcom,kgsl-3d0",
					   "3d00000.gpu"};
	static const char *const others[] = {"fdab0000.npu",   "dmc",       "soc:qcom,gpubw",
					     "15380000.nvjpg", "gpu-nvd-0", "15480000.nvdec",
					     "15340000.vic",   "bwmgr",     "soc:qcom,cpu0-memlat"};
	char full[PATH_MAX];

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		put_devfreq(others[i]);
	struct clock_domain gpu = {0};
	gpu_find(&gpu, &root);
	assert_int_equal(gpu.devices, 0);
	for (size_t i = 0; i < sizeof(gpus) / sizeof(gpus[0]); i++) {
		put_devfreq(gpus[i]);
		memset(&gpu, 0, sizeof(gpu));
		gpu_find(&gpu, &root);
		assert_int_equal(gpu.devices, 1);
		assert_string_equal(gpu.device[0].name, gpus[i]);
		snprintf(full, sizeof(full), "%s/sys/class/devfreq/%s", top, gpus[i]);
		assert_int_equal(nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	}
	struct clock_domain mem = {0};
	mem_find(&mem, &root);
	assert_int_equal(mem.devices, 2);
	assert_string_equal(mem.device[0].name, "bwmgr");
	assert_string_equal(mem.device[1].name, "dmc");
}

static void test_emc_points(void **state)
{
	(void)state;
	struct clock_domain mem = {0};

	put("/sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked", "0");
	put("/sys/kernel/debug/bpmp/debug/clk/emc/rate", "1600000000");
	put("/sys/kernel/debug/bpmp/debug/clk/emc/min_rate", "204000000");
	put("/sys/kernel/debug/bpmp/debug/clk/emc/max_rate", "2133000000");
	mem_find(&mem, &root); /* no list of rates: both ends and the current one */
	assert_int_equal(mem.devices, 1);
	assert_int_equal(mem.device[0].count, 3);
	assert_int_equal(mem.device[0].hz[1], 1600 * MHZ);
	put("/sys/firmware/devicetree/base/model", "NVIDIA Jetson AGX Orin Developer Kit");
	memset(&mem, 0, sizeof(mem));
	mem_find(&mem, &root); /* rates of the SoC, as far as this power mode allows */
	assert_int_equal(mem.device[0].count, 3);
	assert_int_equal(mem.device[0].hz[1], 665600000);
	put("/sys/kernel/debug/bpmp/debug/emc/possible_rates", "204000 2133000 (kHz)");
	memset(&mem, 0, sizeof(mem));
	mem_find(&mem, &root);
	assert_int_equal(mem.device[0].count, 2);
}

static void test_thermal(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	int32_t hot = 0;
	const char *zone = NULL;

	zones_find(board, &root);
	assert_int_equal(board_temperature(board, &root, &hot, &zone), -ENODATA);
	put("/sys/class/thermal/thermal_zone0/type", "cpu");
	put("/sys/class/thermal/thermal_zone0/temp", "-5000");
	put("/sys/class/thermal/thermal_zone1/type", "cv0");
	put("/sys/class/thermal/thermal_zone1/temp", ""); /* powered off */
	zones_find(board, &root);
	assert_int_equal(board_temperature(board, &root, &hot, &zone), 0);
	assert_int_equal(hot, -5000);
	put("/sys/class/thermal/thermal_zone1/temp", "61500");
	assert_int_equal(board_temperature(board, &root, &hot, &zone), 0);
	assert_int_equal(hot, 61500);
	assert_string_equal(zone, "cv0");
	free(board);
}

static void cool(int number, const char *type, const char *state)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/thermal/cooling_device%d/type", number);
	put(path, type);
	snprintf(path, sizeof(path), "/sys/class/thermal/cooling_device%d/cur_state", number);
	put(path, state);
}

/* Only a device's own cooling device counts. */
static void test_cooling(void **state)
{
	(void)state;
	static const char policy0[] = "/sys/devices/system/cpu/cpufreq/policy0",
			  policy4[] = "/sys/devices/system/cpu/cpufreq/policy4",
			  gpu[] = "/sys/devices/platform/fb000000.gpu/devfreq/fb000000.gpu",
			  dmc[] = "/sys/devices/platform/dmc/devfreq/dmc",
			  card[] = "/sys/devices/pci0000:00/0000:00:02.0/drm/card0";
	static const char *const nothing_of_ours[] = {
		"pwm-fan", "devfreq-fdab0000.npu", "cpu-isolate0", "thermal-idle-0", "intel_powerclamp",
		"npu",     "cv0-throttle-alert",   "iwlwifi_1",    "acpi_video0"};
	static const struct {
		const char *type;
		bool policy0, policy4, gpu, dmc, card;
	} row[] = {
		{"cpufreq-cpu0", true, true, false, false, false}, /* policy4 has no cooling device of its own */
		{"thermal-cpufreq-3", true, true, false, false, false},
		{"cpu-throttle-alert", true, true, false, false, false},
		{"Processor", true, true, false, false, false},
		{"devfreq-fb000000.gpu", false, false, true, false, false},
		{"thermal-devfreq-0", false, false, true, true, false},
		{"gpu-balanced", false, false, true, false, true},
		{"devfreq-dmc", false, false, false, true, false},
		{"soc0-throttle-alert", true, true, true, false, true},
	};
	char who[COOLING_NAME_MAX];

	assert_false(board_cooling(&root, policy0, who));
	assert_string_equal(who, "");
	for (size_t i = 0; i < sizeof(nothing_of_ours) / sizeof(*nothing_of_ours); i++)
		cool((int)i, nothing_of_ours[i], "3");
	assert_false(board_cooling(&root, policy0, who));
	assert_false(board_cooling(&root, gpu, who));
	assert_false(board_cooling(&root, dmc, who));
	assert_false(board_cooling(&root, card, who));
	for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
		cool(30, row[i].type, "1");
		assert_int_equal(board_cooling(&root, policy0, who), row[i].policy0);
		assert_int_equal(board_cooling(&root, policy4, who), row[i].policy4);
		assert_int_equal(board_cooling(&root, gpu, who), row[i].gpu);
		assert_int_equal(board_cooling(&root, dmc, who), row[i].dmc);
		assert_int_equal(board_cooling(&root, card, who), row[i].card);
	}
	cool(30, "devfreq-fb000000.gpu", "2");
	assert_true(board_cooling(&root, gpu, who));
	assert_string_equal(who, "devfreq-fb000000.gpu (cooling_device30)");
	put("/sys/devices/system/cpu/cpufreq/policy0/related_cpus", "0 1 2 3");
	put("/sys/devices/system/cpu/cpufreq/policy4/related_cpus", "4-7");
	cool(31, "cpufreq-cpu4", "0");
	cool(32, "cpufreq-cpu2", "1"); /* any processor of the policy names it */
	assert_true(board_cooling(&root, policy0, who));
	assert_false(board_cooling(&root, policy4, who));
	cool(31, "cpufreq-cpu6", "2");
	assert_true(board_cooling(&root, policy4, who));
}

static void test_owners_and_mode(void **state)
{
	(void)state;
	char who[64], small[4];
	struct board *board = calloc(1, sizeof(*board));

	board_other_owners(&root, who, sizeof(who));
	assert_string_equal(who, "");
	put("/proc/77/comm", "tuned\n");
	put("/proc/1234/comm", "power-profiles-\n");
	put("/proc/1235/comm", "tuned\n");
	put("/proc/self/comm", "tlp\n");
	board_other_owners(&root, who, sizeof(who));
	assert_string_equal(who, "power-profiles-daemon, tuned");
	board_other_owners(&root, small, sizeof(small));
	assert_string_equal(small, "pow");
	put("/sys/firmware/acpi/platform_profile", "low power/x");
	board_detect(board, &root, NULL);
	assert_string_equal(board->power_mode, "low-power-x");
	put("/var/lib/nvpmodel/status", "pmode:0002 fmode:cool");
	board_detect(board, &root, NULL);
	assert_string_equal(board->power_mode, "nvpmodel-2");
	put("/etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n");
	board_detect(board, &root, NULL);
	assert_string_equal(board->power_mode, "MAXN_SUPER");
	assert_string_equal(board->name, "unknown board");
	free(board);
}

static void test_board_file_errors(void **state)
{
	(void)state;
	static const struct {
		int line;
		const char *text, *says;
	} row[] = {
		{0, "", ""},
		{0, "[board]\nmatch = x*\n[cpu]\nsettle = 1.4 ms\n", ""},
		{0, "[cpu]\nsettle_up = 3.4 ms\nsettle_down = 0.1 ms\n[power]\nwindow = 20 ms\n", ""},
		{2, "[cpu]\nsettle_down = 0\n", "transition latency"},
		{2, "[power]\nwindow = 2 h\n", "1 ns to 60 s"},
		{2, "[board]\nnames = x\n", "unknown key 'names'"},
		{1, "[boards]\nname = x\n", "unknown section"},
		{2, "[gpu]\npath = /etc/passwd\n", "must begin with /sys/"},
		{2, "[gpu]\npath = /sys/../etc/passwd\n", "not contain .."},
		{2, "[gpu]\nmethod = magic\n", "accepted: cpufreq-limits"},
		{3, "[cpu]\n\nsettle = 2 s\n", "1 ns to 1 s"},
		{2, "[cpu]\nfrequencies = 1 GHz, 500 MHz\n", "must ascend"},
		{2, "[cpu]\nfrequencies = fast\n", "not a frequency: 'fast'"},
		{2, "[mem]\ncontrol = maybe\n", "yes or no"},
		{1, "[mem]\npath = /sys/x\n", "names a path but no method"},
		{1, "rubbish\n", "not a [section]"},
		{0, "[prior]\npoint = 1728 MHz, 1020 MHz, 0, 6.2 ms, 15.2 W, 0\n", ""},
		{2, "[prior]\npoint = 1728 MHz, 1020 MHz, 0, 6.2 ms, 15.2 W\n", "not a point"},
		{2, "[prior]\npoint = 1728 MHz, 1020 MHz, 0, 6.2 ms, 15.2 W, 0, 0\n", "not a point"},
		{2, "[prior]\npoint = 1728 MHz, 1020 MHz, 0, 6.2 ms, 0, 0\n", "not a point"},
		{2, "[prior]\npoint = 1728 MHz, 1020 MHz, 0, 6.2 ms, 1e99 W, 0\n", "not a point"},
		{2, "[prior]\npower = 3 W\n", "unknown key 'power'"},
	};
	struct board_file *file = malloc(sizeof(*file));
	char message[192];

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		int line = board_file_parse(row[i].text, file, message, sizeof(message));
		assert_int_equal(line == 0, row[i].line == 0);
		if (line) {
			if (!strstr(message, row[i].says))
				fail_msg("%s: %s", row[i].text, message);
			assert_true(line == row[i].line || row[i].line == 1);
		}
	}
	free(file);
}

static void test_board_file_applied(void **state)
{
	(void)state;
	struct board *board = calloc(1, sizeof(*board));
	char boards[PATH_MAX];

	put("/sys/firmware/devicetree/base/model", "Acme Edge One");
	put("/sys/devices/odd/devfreq/engine/min_freq", "1");
	put("/sys/devices/odd/devfreq/engine/max_freq", "0");
	put("/boards/a.ini", "[board\n");
	put("/boards/b.ini",
	    "[board]\nmatch = acme edge*\nname = Edge\n[gpu]\npath = /sys/devices/odd/devfreq/eng*\n"
	    "method = devfreq-limits\nfrequencies = 100 MHz, 200 MHz\nsettle = 3 ms\n[cpu]\ncontrol = no\n");
	put("/boards/c.ini",
	    "[board]\nmatch = Edge\nname = Other\n[gpu]\nsettle = 9 ms\n[cpu]\nsettle = 2 ms\n[power]\ntotal = VDD_IN\n"
	    "[prior]\npoint = 1800 MHz, 200 MHz, 0, 6.2 ms, 15.2 W, 0\npoint = 600 MHz, 100 MHz, 0, 9 ms, 5 W, 2.5 "
	    "W\n");
	put("/boards/d.ini", "[board]\nmatch = Acme*\n[prior]\npoint = 600 MHz, 100 MHz, 0, 9 ms, 1 W, 0\n");
	put_policy(0, "1800000 600000", "600000", "1800000");
	snprintf(boards, sizeof(boards), "%s/boards", top);
	board_detect(board, &root, boards);
	assert_string_equal(board->name, "Edge");
	assert_non_null(strstr(board->board_file, "/boards/b.ini"));
	assert_int_equal(board->clock[CLOCK_CPU].devices, 0);
	assert_non_null(strstr(board->clock[CLOCK_CPU].why_not, "control = no"));
	assert_int_equal(board->clock[CLOCK_GPU].devices, 1);
	assert_int_equal(board->clock[CLOCK_GPU].device[0].hz[1], 200 * MHZ);
	assert_int_equal(board->clock[CLOCK_GPU].settle_ns, 3 * NS_PER_MS);
	assert_int_equal(board->prior.count, 2); /* a later file only adds missing values */
	assert_int_equal(board->prior.point[1].point.hz[CLOCK_GPU], 100 * MHZ);
	assert_int_equal((uint64_t)board->prior.point[1].idle_uw, 2500000);
	assert_int_equal((uint64_t)board->prior.point[0].latency_ns, 6200000);
	free(board);
}

static void test_shipped_board_files(void **state)
{
	(void)state;
	const struct sysroot host = {""};
	char pattern[PATH_MAX], message[192];
	struct board_file *file = malloc(sizeof(*file));

	assert_non_null(getcwd(pattern, sizeof(pattern) - 32));
	strcat(pattern, "/etc/boards.d/*.ini");
	struct sysroot_matches *found = sysroot_glob(&host, pattern);
	assert_non_null(found);
	assert_in_range(found->count, 5, 64);
	for (size_t i = 0; i < found->count; i++) {
		char *text = NULL;
		assert_int_equal(file_read(found->path[i], BOARD_FILE_BYTES_MAX, &text, NULL), 0);
		int line = board_file_parse(text, file, message, sizeof(message));
		if (line)
			fail_msg("%s:%d: %s", found->path[i], line, message);
		assert_true(file->matches > 0);
		free(text);
	}
	free(found);
	free(file);
}

static void test_software(void **state)
{
	struct board_software software;
	(void)state;

	board_software(&software, &root);
	assert_string_equal(software.kernel, "");
	assert_string_equal(software.driver, "");
	assert_string_equal(software.system, "");
	put("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
	put("/sys/module/nvidia/version", "550.90.07\n");
	put("/usr/lib/os-release",
	    "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n");
	put_link("/etc/os-release", "../usr/lib/os-release");
	board_software(&software, &root);
	assert_string_equal(software.kernel, "6.1.0-18-amd64");
	assert_string_equal(software.driver, "550.90.07");
	assert_string_equal(software.system, "Debian GNU/Linux 12 (bookworm)");
	put("/etc/nv_tegra_release",
	    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n# KERNEL\n");
	board_software(&software, &root);
	assert_string_equal(software.system, "R36 (release), REVISION: 4.3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_made_tables),
		cmocka_unit_test(test_dpm),
		IN_ROOT(test_resolve),
		IN_ROOT(test_glob_order),
		IN_ROOT(test_cpu),
		IN_ROOT(test_gpu_names),
		IN_ROOT(test_emc_points),
		IN_ROOT(test_thermal),
		IN_ROOT(test_cooling),
		IN_ROOT(test_owners_and_mode),
		IN_ROOT(test_software),
		cmocka_unit_test(test_board_file_errors),
		IN_ROOT(test_board_file_applied),
		cmocka_unit_test(test_shipped_board_files),
	};

	return cmocka_run_group_tests_name("probes", tests, NULL, NULL);
}
