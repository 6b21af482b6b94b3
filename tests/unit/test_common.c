/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../../common/csv.h"
#include "../../common/file.h"
#include "../../common/kv.h"
#include "../../common/log.h"
#include "../../common/point.h"
#include "../../common/units.h"
#include "skip.h"

static void test_parse_u64(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int rc;
		uint64_t value;
	} row[] = {
		{"0", 0, 0},
		{"33000000", 0, 33000000},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0},
		{"99999999999999999999999", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"1e9", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1.0", -EINVAL, 0},
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
		uint64_t value = 7;

		assert_int_equal(parse_u64(row[i].text, &value), row[i].rc);
		assert_true(value == (row[i].rc ? 7 : row[i].value));
	}
}

static void test_parse_units(void **state)
{
	(void)state;
	uint64_t value = 0;

	assert_int_equal(parse_duration_ns("33ms", &value), 0);
	assert_true(value == 33000000);
	assert_int_equal(parse_duration_ns("1.5 s", &value), 0);
	assert_true(value == 1500000000);
	assert_int_equal(parse_duration_ns("250", &value), 0);
	assert_true(value == 250);
	assert_int_equal(parse_duration_ns("1.5", &value), -EINVAL);
	assert_int_equal(parse_duration_ns("-1ms", &value), -EINVAL);
	assert_int_equal(parse_duration_ns("33mss", &value), -EINVAL);
	assert_int_equal(parse_duration_ns("99999999999999999999 h", &value), -ERANGE);
	assert_int_equal(parse_frequency_hz("1.728GHz", &value), 0);
	assert_true(value == 1728000000);
	assert_int_equal(parse_frequency_hz("306 mhz", &value), 0);
	assert_true(value == 306000000);
	assert_int_equal(parse_power_uw("10W", &value), 0);
	assert_true(value == 10000000);
	assert_int_equal(parse_power_uw("10mW", &value), 0);
	assert_true(value == 10000);
	assert_int_equal(parse_power_uw("10MW", &value), -EINVAL);
	assert_int_equal(parse_rate_mhz("15/s", &value), 0);
	assert_int_equal(value, 15000);
	assert_int_equal(parse_rate_mhz("29.97 fps", &value), 0);
	assert_int_equal(value, 29970);
	assert_int_equal(parse_rate_mhz("60HZ", &value), 0);
	assert_int_equal(value, 60000);
	assert_int_equal(parse_rate_mhz("2", &value), 0);
	assert_int_equal(value, 2000);
	assert_int_equal(parse_rate_mhz("-2/s", &value), -EINVAL);
	assert_int_equal(parse_rate_mhz("15/min", &value), -EINVAL);
	assert_int_equal(parse_rate_mhz("", &value), -EINVAL);
	assert_int_equal(parse_deadline_ns("40fps", &value), 0);
	assert_int_equal(value, 25000000);
	assert_int_equal(parse_deadline_ns("33 ms", &value), 0);
	assert_int_equal(value, 33000000);
	assert_int_equal(parse_deadline_ns("0/s", &value), -ERANGE);
	assert_int_equal(parse_deadline_ns("fast", &value), -EINVAL);
}

static void test_parse_double(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "nan", "inf", "0x1p3", "1e", "e5", ".", "1.0.0", "1 ", "--1", "1e999"};
	double value = 0;

	assert_int_equal(parse_double("-2.5e3", &value), 0);
	assert_true(value == -2500.0);
	assert_int_equal(parse_double("13132800.0", &value), 0);
	assert_true(value == 13132800.0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_true(parse_double(bad[i], &value) < 0);
}

/* The layers read deadlines in programs that have set a locale with a decimal comma. */
static void test_decimal_comma(void **state)
{
	char dir[] = "/tmp/flamed-locale-XXXXXX", command[256];
	uint64_t value;
	double number;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command), "localedef -c -f UTF-8 -i de_DE %s/de_DE.UTF-8 >%s/log 2>&1", dir, dir);
	bool made = system(command) == 0;
	setenv("LOCPATH", dir, 1);
	bool set = setlocale(LC_NUMERIC, "de_DE.UTF-8") != NULL;
	unsetenv("LOCPATH");
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
	if (!made)
		skip_because("localedef cannot make de_DE.UTF-8: its sources, package locales, are not installed");
	assert_true(set);
	assert_string_equal(localeconv()->decimal_point, ",");
	assert_int_equal(parse_duration_ns("33.3ms", &value), 0);
	assert_int_equal(value, 33300000);
	assert_int_equal(parse_double("2.5", &number), 0);
	assert_true(number == 2.5);
	setlocale(LC_NUMERIC, "C");
}

static void test_format(void **state)
{
	(void)state;
	char buf[32];

	assert_string_equal(format_duration(buf, sizeof(buf), 28100000), "28.1 ms");
	assert_string_equal(format_duration(buf, sizeof(buf), 999), "999 ns");
	assert_string_equal(format_frequency(buf, sizeof(buf), 1728000000), "1728 MHz");
	assert_string_equal(format_frequency(buf, sizeof(buf), 665600000), "665.6 MHz");
	assert_string_equal(format_power(buf, sizeof(buf), 9710000), "9.71 W");
	assert_string_equal(format_energy(buf, sizeof(buf), 310000), "310 mJ");
	assert_string_equal(format_power(buf, sizeof(buf), 0), "-");
}

/* A framed message is found whole however the bytes arrive, and never before
 * its empty line. */
static void test_frame(void **state)
{
	(void)state;
	const char *text = "op=begin\nsession=1\ndeadline_ns=33000000\n\nop=end\n";
	long whole = (long)(strstr(text, "\n\n") - text) + 2;

	for (size_t len = 0; len <= strlen(text); len++)
		assert_int_equal(kv_frame(text, len), (long)len < whole ? 0 : whole);
	assert_int_equal(kv_frame("\n", 1), 1);
}

static void test_frame_limits(void **state)
{
	(void)state;
	char *buf = malloc(2 * MESSAGE_BYTES_MAX);

	assert_non_null(buf);
	memset(buf, 'a', 2 * MESSAGE_BYTES_MAX);
	assert_int_equal(kv_frame(buf, LINE_BYTES_MAX), 0);
	assert_int_equal(kv_frame(buf, LINE_BYTES_MAX + 1), -EMSGSIZE);
	for (size_t i = 99; i < 2 * MESSAGE_BYTES_MAX; i += 100)
		buf[i] = '\n';
	assert_int_equal(kv_frame(buf, MESSAGE_BYTES_MAX - 100), 0);
	assert_int_equal(kv_frame(buf, 2 * MESSAGE_BYTES_MAX), -EMSGSIZE);
	free(buf);
}

static int parse(const char *text, struct kv *kv, size_t *line)
{
	static char buf[MESSAGE_BYTES_MAX];
	size_t len = strlen(text);

	memcpy(buf, text, len);
	return kv_parse(buf, len, kv, line);
}

static void test_parse(void **state)
{
	(void)state;
	struct kv kv;
	size_t line;
	uint64_t value = 0;

	assert_int_equal(parse("op=begin\nsession=1\nmodel=a=b\nsession=2\n\n", &kv, &line), 0);
	assert_string_equal(kv_get(&kv, "op"), "begin");
	assert_string_equal(kv_get(&kv, "model"), "a=b");
	assert_int_equal(kv_u64(&kv, "session", 1, 10, &value), 1);
	assert_true(value == 1);
	assert_int_equal(kv_u64(&kv, "session", 2, 10, &value), -ERANGE);
	assert_int_equal(kv_u64(&kv, "none", 0, 10, &value), 0);
	assert_int_equal(kv_u64(&kv, "op", 0, 10, &value), -EINVAL);
	assert_int_equal(parse("op=a\nnonsense\n\n", &kv, &line), -EINVAL);
	assert_int_equal(line, 2);
	assert_int_equal(parse("op=a\n=x\n\n", &kv, &line), -EINVAL);
	assert_int_equal(parse("Op=a\n\n", &kv, &line), -EINVAL);
	assert_int_equal(parse("op=a\tb\n\n", &kv, &line), -EINVAL);
	assert_int_equal(parse("\n", &kv, &line), 0);
	assert_int_equal(kv.count, 0);
}

/* Text is read back as it was written; a control byte cannot forge a line. */
static void test_write(void **state)
{
	(void)state;
	struct kv_out out = {0};
	struct kv kv;
	size_t line;

	kv_add_u64(&out, "errno", 0);
	kv_add(&out, "message", "%s", "two\nlines=1\n");
	kv_end(&out);
	assert_int_equal(out.error, 0);
	assert_int_equal(kv_frame(out.data, out.len), (long)out.len);
	assert_int_equal(kv_parse(out.data, out.len, &kv, &line), 0);
	assert_int_equal(kv.count, 2);
	assert_string_equal(kv_get(&kv, "message"), "two lines=1 ");
	kv_reset(&out);
	kv_add(&out, "long", "%*s", LINE_BYTES_MAX, "x");
	assert_int_equal(out.error, -EMSGSIZE);
	kv_free(&out);
}

/* A line takes no more room than it needs, and is whole wherever the room ends. */
static void test_room(void **state)
{
	(void)state;
	for (int len = 1; len < 1200; len++) {
		struct kv_out out = {0};
		char expected[1300];

		kv_add_u64(&out, "errno", 0);
		size_t size = out.size, n = out.len;
		kv_add(&out, "message", "%0*d", len, 7);
		snprintf(expected, sizeof(expected), "message=%0*d\n", len, 7);
		assert_int_equal(out.error, 0);
		assert_int_equal(out.len, n + strlen(expected));
		assert_memory_equal(out.data + n, expected, strlen(expected));
		assert_true(out.size == size || n + strlen(expected) + 1 > size);
		kv_free(&out);
	}
}

/* Random bytes: framing and parsing never read outside, never accept a pair
 * with an invalid key. (ASan watches the rest.) */
static void test_random_bytes(void **state)
{
	(void)state;
	static const char alphabet[] = "ab=\n\n.\x01\xff";
	struct kv kv;

	srand(1);
	for (int round = 0; round < 20000; round++) {
		char buf[64];
		size_t len = (size_t)rand() % sizeof(buf), line;
		long n;

		for (size_t i = 0; i < len; i++)
			buf[i] = alphabet[(size_t)rand() % (sizeof(alphabet) - 1)];
		n = kv_frame(buf, len);
		assert_in_range(n + 1, 1, len + 1);
		if (n == 0 || kv_parse(buf, (size_t)n, &kv, &line) < 0)
			continue;
		for (size_t i = 0; i < kv.count; i++)
			assert_int_equal(strspn(kv.pair[i].key, "ab."), strlen(kv.pair[i].key));
	}
}

static void test_model_name(void **state)
{
	(void)state;
	char longest[MODEL_NAME_MAX + 2];

	memset(longest, 'm', sizeof(longest));
	longest[MODEL_NAME_MAX + 1] = '\0';
	assert_false(model_name_valid(longest));
	longest[MODEL_NAME_MAX] = '\0';
	assert_true(model_name_valid(longest));
	assert_true(model_name_valid("Qwen2.5-1.5B:q4_0"));
	assert_false(model_name_valid(""));
	assert_false(model_name_valid("../etc"));
	assert_false(model_name_valid("a b"));
}

static void test_csv(void **state)
{
	(void)state;
	char text[] = "\xef\xbb\xbf"
		      "a,b , c\r\n# note\n\n1, 2,3\r\n4,,6\n7,8\n";
	char twice[] = "a,b,a\n", none[] = "\n\n";
	struct csv csv;

	assert_int_equal(csv_open(&csv, text), 0);
	assert_int_equal(csv_column(&csv, "c"), 2);
	assert_int_equal(csv_column(&csv, "d"), -1);
	assert_int_equal(csv_next(&csv), 1);
	assert_string_equal(csv.field[1], "2");
	assert_string_equal(csv.field[2], "3");
	assert_int_equal(csv.line, 4);
	assert_int_equal(csv_next(&csv), 1);
	assert_string_equal(csv.field[1], "");
	assert_int_equal(csv_next(&csv), -EINVAL);
	assert_string_equal(csv.message, "line 6: 2 fields, the header has 3");
	assert_int_equal(csv_open(&csv, twice), -EINVAL);
	assert_string_equal(csv.message, "line 1: column a appears twice");
	assert_int_equal(csv_open(&csv, none), -EINVAL);
}

static void test_csv_out(void **state)
{
	(void)state;
	struct csv_out out = {0};
	char *text;

	csv_add(&out, "a");
	csv_add(&out, "b");
	csv_add(&out, "c");
	csv_end_row(&out);
	csv_add(&out, "");
	csv_add_u64(&out, 0);
	csv_add_u64(&out, UINT64_MAX);
	csv_end_row(&out);
	text = csv_take(&out);
	assert_string_equal(text, "a,b,c\n,0,18446744073709551615\n");
	free(text);
	/* `out` begins again, and grows. */
	for (int i = 0; i < 10000; i++) {
		csv_add_u64(&out, 123456789);
		csv_end_row(&out);
	}
	text = csv_take(&out);
	assert_int_equal(strlen(text), 10000 * strlen("123456789\n"));
	assert_string_equal(text + 9999 * strlen("123456789\n"), "123456789\n");
	free(text);
	out.failed = true;
	csv_add(&out, "lost");
	assert_null(csv_take(&out));
	assert_false(out.failed);
}

static void test_files(void **state)
{
	(void)state;
	char dir[] = "/tmp/flamed-test-XXXXXX", path[128], text[64];
	char *whole;
	size_t len;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a/b", dir);
	assert_int_equal(dir_make(path, 0755), 0);
	assert_int_equal(dir_make(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/a/b/file", dir);
	assert_int_equal(file_replace(path, "one \n", 5, 0640), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(file_read_text(AT_FDCWD, path, text, sizeof(text)), 3);
	assert_string_equal(text, "one");
	assert_int_equal(file_read_text(AT_FDCWD, path, text, 5), -EFBIG);
	assert_int_equal(file_read(path, 100, &whole, &len), 0);
	assert_int_equal(len, 5);
	assert_string_equal(whole, "one \n");
	free(whole);
	assert_int_equal(file_read(path, 4, &whole, &len), -EFBIG);
	unlink(path);
	assert_int_equal(file_read(path, 4, &whole, &len), -ENOENT);
	snprintf(path, sizeof(path), "%s/none/file", dir);
	assert_int_equal(file_replace(path, "x", 1, 0600), -ENOENT);
	snprintf(path, sizeof(path), "%s/a/b", dir);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/a", dir);
	rmdir(path);
	assert_int_equal(rmdir(dir), 0);
}

static char last_line[256];

static void keep_line(enum log_level level, const char *text)
{
	(void)level;
	snprintf(last_line, sizeof(last_line), "%s", text);
}

static void test_log(void **state)
{
	(void)state;
	log_set_sink(keep_line);
	errno = ENOENT;
	log_warning("knob %d", 3);
	assert_int_equal(errno, ENOENT);
	assert_string_equal(last_line, "knob 3");
	log_debug("not at this level");
	assert_string_equal(last_line, "knob 3");
	log_set_sink(NULL);
	assert_true(log_first("fault"));
	assert_false(log_first("fault"));
	log_forget("fault");
	assert_true(log_first("fault"));
}

static void test_names(void **state)
{
	(void)state;
	enum phase phase = PHASE_COUNT;

	for (int i = 0; i < PHASE_COUNT; i++) {
		assert_int_equal(phase_parse(phase_name((enum phase)i), &phase), 0);
		assert_int_equal(phase, i);
	}
	assert_int_equal(phase_parse("", &phase), 0);
	assert_int_equal(phase, PHASE_RUN);
	assert_int_equal(phase_parse("train", &phase), -EINVAL);
	assert_string_equal(clock_name(CLOCK_MEM), "mem");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_u64),     cmocka_unit_test(test_parse_units),
		cmocka_unit_test(test_parse_double),  cmocka_unit_test(test_format),
		cmocka_unit_test(test_decimal_comma), cmocka_unit_test(test_frame),
		cmocka_unit_test(test_frame_limits),  cmocka_unit_test(test_parse),
		cmocka_unit_test(test_write),         cmocka_unit_test(test_room),
		cmocka_unit_test(test_random_bytes),  cmocka_unit_test(test_model_name),
		cmocka_unit_test(test_csv),           cmocka_unit_test(test_csv_out),
		cmocka_unit_test(test_files),         cmocka_unit_test(test_log),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("common", tests, NULL, NULL);
}
