/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/file.h"
#include "../../keeper/journal.h"
#include "../../keeper/knob.h"

#define POLICY "/sys/devices/system/cpu/cpufreq/policy0/"

static char top[64], path[128];
static const struct sysroot root = {""};

static int make_top(void **state)
{
	(void)state;
	strcpy(top, "/tmp/flamed-journal-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(path, sizeof(path), "%s/journal", top);
	return 0;
}

static int remove_top(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(top);
}

static struct journal_text *parse(void)
{
	struct journal_text *out = malloc(sizeof(*out));
	char *text = NULL;
	size_t len;

	assert_non_null(out);
	assert_int_equal(file_read(path, JOURNAL_BYTES_MAX, &text, &len), 0);
	journal_parse(text, len, out);
	free(text);
	return out;
}

/* Random values, printable or not, are read back unchanged. */
static void test_round_trip(void **state)
{
	(void)state;
	static struct journal_entry entry[3];
	const struct journal_entry *list[3] = {&entry[0], &entry[1], &entry[2]};
	static const char *const names[] = {"scaling_max_freq", "scaling_min_freq", "scaling_governor"};
	struct journal journal;

	srandom(11);
	for (int round = 0; round < 50; round++) {
		journal_init(&journal, &root, path);
		for (int i = 0; i < 3; i++) {
			memset(&entry[i], 0, sizeof(entry[i]));
			snprintf(entry[i].path, sizeof(entry[i].path), POLICY "%s", names[i]);
			size_t len = (size_t)random() % (KNOB_VALUE_MAX - 1);
			for (size_t k = 0; k < len; k++)
				entry[i].original[k] = (char)(1 + random() % 255);
		}
		assert_int_equal(journal_save(&journal, list, 2), 0);
		assert_int_equal(journal_save(&journal, list + 2, 1), 0);
		for (int k = 0; k < 1 + round * 40; k++) { /* the last rounds are rewritten on the way */
			char value[32];
			snprintf(value, sizeof(value), "%d\n%%", k);
			assert_int_equal(journal_held(&journal, (size_t)k % 3, &entry[k % 3], value), 0);
			if (k % 4 == 0)
				assert_int_equal(journal_seen(&journal, (size_t)k % 3, &entry[k % 3], "seen it"), 0);
		}
		struct journal_text *back = parse();
		assert_int_equal(back->damaged_line, 0);
		assert_int_equal(back->count, 3);
		for (int i = 0; i < 3; i++) {
			assert_string_equal(back->entry[i].path, entry[i].path);
			assert_string_equal(back->entry[i].original, entry[i].original);
			for (int k = 0; k < OURS_COUNT; k++)
				assert_string_equal(back->entry[i].ours[k], entry[i].ours[k]);
		}
		free(back);
		assert_int_equal(journal_remove(&journal), 0);
	}
}

static void test_locked(void **state)
{
	(void)state;
	static struct journal_entry entry = {.path = POLICY "scaling_max_freq", .original = "1"};
	const struct journal_entry *list[] = {&entry};
	struct journal journal, second;

	journal_init(&journal, &root, path);
	journal_init(&second, &root, path);
	assert_int_equal(journal_save(&journal, list, 1), 0);
	assert_int_equal(journal_save(&second, list, 1), -EEXIST);
	assert_int_equal(second.fd, -1);
	assert_int_equal(journal_held(&second, 0, &entry, "2"), -EBADF);
	assert_string_equal(entry.ours[OURS_HELD], "");
	journal_close(&journal); /* as a keeper that was killed */
	int fd = journal_open_left(path);
	assert_true(fd >= 0);
	close(fd);
}

/* Any bytes: no crash, only paths of the table, every string ended. */
static void test_rubbish(void **state)
{
	(void)state;
	static const char good[] =
		"flamed-journal 1\nboot 1-2-3\nsave 0 " POLICY "scaling_max_freq =1728000\nheld 0 =900000\n"
		"seen 0 =9%30\nsave 1 " POLICY "scaling_min_freq =\n";
	struct journal_text *out = malloc(sizeof(*out));
	char text[sizeof(good)];

	journal_parse(good, sizeof(good) - 1, out);
	assert_int_equal(out->damaged_line, 0);
	assert_int_equal(out->count, 2);
	assert_string_equal(out->entry[0].ours[OURS_SEEN], "90");
	assert_string_equal(out->entry[1].original, "");
	srandom(5);
	for (int round = 0; round < 20000; round++) {
		memcpy(text, good, sizeof(good));
		for (int k = 0; k < 1 + round % 8; k++)
			text[(size_t)random() % (sizeof(good) - 1)] = (char)random();
		journal_parse(text, (size_t)random() % sizeof(good), out);
		assert_true(out->count <= KNOBS_MAX);
		for (size_t i = 0; i < out->count; i++) {
			assert_non_null(knob_kind_of(out->entry[i].path));
			assert_non_null(memchr(out->entry[i].original, '\0', KNOB_VALUE_MAX));
		}
	}
	free(out);
}

static void test_closed_table(void **state)
{
	(void)state;
	static const char *const yes[] = {
		POLICY "scaling_max_freq",
		"/sys/devices/system/cpu/cpu3/cpufreq/scaling_min_freq",
		"/sys/devices/platform/bus@0/17000000.gpu/devfreq/17000000.gpu/max_freq",
		"/sys/class/devfreq/dmc/userspace/set_freq",
		"/sys/devices/pci0000:00/0000:00:02.0/drm/card0/gt/gt0/rps_max_freq_mhz",
		"/sys/devices/pci0000:00/0000:00:02.0/tile0/gt0/freq0/max_freq",
		"/sys/devices/pci0000:00/0000:c4:00.0/pp_dpm_sclk",
		"/sys/kernel/debug/bpmp/debug/clk/emc/rate",
	};
	static const char *const no[] = {
		"/sys/kernel/uevent_helper",
		"/sys/kernel/debug/bpmp/debug/clk/gpu/rate",
		"/proc/sys/kernel/core_pattern",
		"/etc/devfreq/x/max_freq",
		POLICY "../../../../../kernel/scaling_max_freq",
		POLICY "/scaling_max_freq",
		POLICY "scaling_max_freq/../affected_cpus",
		"/sys/devices/system/cpu/cpufreq/policy0/affected_cpus",
		"scaling_max_freq",
		"",
	};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (!knob_kind_of(yes[i]))
			fail_msg("%s is a knob", yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (knob_kind_of(no[i]))
			fail_msg("%s is no knob", no[i]);
	assert_true(knob_same_device("/sys/class/devfreq/dmc/governor", "/sys/class/devfreq/dmc/userspace/set_freq"));
	assert_false(knob_same_device(POLICY "scaling_max_freq",
				      "/sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq"));
}

static void test_ours(void **state)
{
	(void)state;
	struct journal_entry entry = {.path = "/sys/class/devfreq/g/max_freq", .original = "5000"};
	const struct knob_kind *kind = knob_kind_of(entry.path), *cpu = knob_kind_of(POLICY "scaling_max_freq");

	assert_false(knob_is_ours(kind, &entry, "5000"));
	assert_false(knob_is_ours(kind, &entry, ""));
	strcpy(entry.ours[OURS_HELD], "3000000");
	strcpy(entry.ours[OURS_BEFORE], "2000000");
	assert_true(knob_is_ours(kind, &entry, "3000000"));
	assert_true(knob_is_ours(kind, &entry, "2000000"));
	assert_true(knob_is_ours(kind, &entry, "2999001")); /* kept in kHz */
	assert_true(knob_is_ours(kind, &entry, ""));
	assert_false(knob_is_ours(kind, &entry, "2990000"));
	assert_false(knob_is_ours(cpu, &entry, "3000001"));
	assert_false(knob_is_ours(kind, &entry, "performance"));
}

/* Limits the size of files from here on. */
static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A full disk: an entry that was not stored is reported as an error, and stored entries stay. */
static void test_full(void **state)
{
	static struct journal_entry entry[2];
	const struct journal_entry *one = &entry[0], *two = &entry[1];
	struct journal j;
	char temp[160], many[PATH_MAX - 2];
	struct stat before, after;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	for (int i = 0; i < 2; i++) {
		snprintf(entry[i].path, sizeof(entry[i].path), "%s%s", POLICY,
			 i ? "scaling_min_freq" : "scaling_max_freq");
		strcpy(entry[i].original, "1200000");
	}
	journal_init(&j, &root, path);
	assert_int_equal(journal_held(&j, 0, &entry[0], "1"), -EBADF);
	limit_files(16);
	assert_int_equal(journal_save(&j, &one, 1), -ENOSPC);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(j.count, 0);
	limit_files(RLIM_INFINITY);
	assert_int_equal(journal_save(&j, &one, 1), 0);
	assert_int_equal(stat(path, &before), 0);
	limit_files((rlim_t)before.st_size + 4);
	assert_int_equal(journal_save(&j, &two, 1), -ENOSPC);
	assert_int_equal(j.count, 1);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	limit_files(16);
	snprintf(temp, sizeof(temp), "%s.new", path);
	assert_int_equal(journal_rewrite(&j), -ENOSPC);
	assert_int_equal(access(temp, F_OK), -1);
	limit_files(RLIM_INFINITY);
	/* A directory that cannot be removed has the name of the new file. */
	assert_int_equal(mkdir(temp, 0700), 0);
	assert_int_equal(journal_rewrite(&j), -EEXIST);
	/* Nor is a value noted in one that is too long to go on with. */
	j.bytes = JOURNAL_BYTES_MAX;
	assert_int_equal(journal_held(&j, 0, &entry[0], "900000"), -EEXIST);
	assert_string_equal(entry[0].ours[OURS_HELD], "");
	assert_int_equal(rmdir(temp), 0);
	assert_int_equal(journal_held(&j, 0, &entry[0], "900000"), 0);
	assert_int_equal(journal_held(&j, 0, &entry[0], "800000"), 0);
	assert_int_equal(journal_seen(&j, 0, &entry[0], "700000"), 0);
	assert_int_equal(journal_rewrite(&j), 0);
	struct journal_text *text = parse();
	assert_int_equal(text->count, 1);
	assert_string_equal(text->entry[0].ours[OURS_HELD], "800000");
	assert_string_equal(text->entry[0].ours[OURS_BEFORE], "900000");
	assert_int_equal(text->damaged_line, 0);
	free(text);
	assert_int_equal(journal_remove(&j), 0);
	/* No folder, and a name that leaves no room for its ending. */
	snprintf(temp, sizeof(temp), "%s/none/journal", top);
	journal_init(&j, &root, temp);
	assert_int_equal(journal_save(&j, &one, 1), -ENOENT);
	memset(many, 'x', sizeof(many));
	many[0] = '/';
	many[sizeof(many) - 1] = '\0';
	journal_init(&j, &root, many);
	assert_int_equal(journal_rewrite(&j), -ENAMETOOLONG);
	signal(SIGXFSZ, SIG_DFL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, make_top, remove_top),
		cmocka_unit_test_setup_teardown(test_locked, make_top, remove_top),
		cmocka_unit_test_setup_teardown(test_full, make_top, remove_top),
		cmocka_unit_test(test_rubbish),
		cmocka_unit_test(test_closed_table),
		cmocka_unit_test(test_ours),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
