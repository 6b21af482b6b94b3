/* SPDX-License-Identifier: MIT */
/* Parsers of frequency tables in sysfs. Pure. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe.h"

#define TABLE_TEXT_MAX 1024 /* entries parsed before thinning */
#define HZ_PER_MHZ     1000000ULL
#define HZ_SANE_MAX    100000000000ULL /* 100 GHz: a larger number is not a clock */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Parse the number at `*p`; false if there is none, or if it cannot be a clock. */
static bool take_number(const char **p, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)**p))
		return false;
	errno = 0;
	unsigned long long value = strtoull(*p, &end, 10);
	*p = end;
	*out = value;
	return errno == 0 && value <= HZ_SANE_MAX;
}

/* Drop equal neighbours. */
static size_t unique(uint64_t *hz, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (kept == 0 || hz[i] != hz[kept - 1])
			hz[kept++] = hz[i];
	return kept;
}

static size_t thin(uint64_t *hz, size_t n, size_t max)
{
	if (n <= max || max < 2)
		return n < max ? n : max;
	for (size_t i = 0; i < max; i++)
		hz[i] = hz[i * (n - 1) / (max - 1)];
	return max;
}

size_t freq_table_parse(const char *text, uint64_t unit_hz, uint64_t *hz, size_t max)
{
	uint64_t all[TABLE_TEXT_MAX], value;
	size_t n = 0;

	for (const char *p = text; *p && n < TABLE_TEXT_MAX;) {
		p += strspn(p, " \t\r\n");
		const char *word = p;
		if (take_number(&p, &value) && (*p == '\0' || isspace((unsigned char)*p)) && value > 0 &&
		    value <= HZ_SANE_MAX / unit_hz)
			all[n++] = value * unit_hz;
		p = word + strcspn(word, " \t\r\n");
	}
	if (n == 0)
		return 0;
	qsort(all, n, sizeof(all[0]), compare_u64);
	size_t kept = thin(all, unique(all, n), max);
	memcpy(hz, all, kept * sizeof(hz[0]));
	return kept;
}

/* Insert a level in order; a duplicate is ignored. */
static void add_level(struct dpm_table *t, uint64_t hz, uint64_t level)
{
	size_t at = t->count;

	for (size_t i = 0; i < t->count; i++)
		if (t->hz[i] == hz)
			return;
	if (t->count == GRID_AXIS_MAX)
		return;
	for (; at > 0 && t->hz[at - 1] > hz; at--) {
		t->hz[at] = t->hz[at - 1];
		t->level[at] = t->level[at - 1];
	}
	t->hz[at] = hz;
	t->level[at] = (uint8_t)level;
	t->count++;
}

void dpm_table_ends(struct dpm_table *t)
{
	if (!t->middle_now || t->count < 3)
		return;
	t->hz[1] = t->hz[t->count - 1];
	t->level[1] = t->level[t->count - 1];
	t->count = 2;
}

size_t dpm_table_parse(const char *text, struct dpm_table *out)
{
	uint64_t level, mhz, last = 0;
	size_t lines = 0, starred = SIZE_MAX;

	memset(out, 0, sizeof(*out));
	for (const char *p = text; *p; p += *p == '\n') {
		const char *end = p + strcspn(p, "\n");
		if (take_number(&p, &level) && *p == ':') {
			p++;
			p += strspn(p, " ");
			if (!take_number(&p, &mhz) || strncasecmp(p, "mhz", 3) != 0 || level > UINT8_MAX ||
			    (lines && level <= last) || mhz > HZ_SANE_MAX / HZ_PER_MHZ) {
				memset(out, 0, sizeof(*out));
				return 0;
			}
			last = level;
			if (memchr(p, '*', (size_t)(end - p))) {
				starred = lines;
				out->now_hz = mhz * HZ_PER_MHZ;
			}
			lines++;
			if (mhz)
				add_level(out, mhz * HZ_PER_MHZ, level);
		}
		p = end;
	}
	out->middle_now = lines == 3 && starred == 1;
	return out->count;
}

size_t freq_table_make(uint64_t lo, uint64_t hi, uint64_t step_hz, uint64_t *hz, size_t max)
{
	if (lo == 0 || hi < lo || max < 2)
		return 0;
	size_t steps = (size_t)((hi - lo + step_hz / 2) / step_hz);
	if (steps == 0 && hi > lo)
		steps = 1;
	if (steps > max - 1)
		steps = max - 1;
	for (size_t i = 0; i <= steps; i++) {
		uint64_t at = steps ? lo + (hi - lo) / steps * i : lo;
		hz[i] = i == steps ? hi : at / step_hz * step_hz >= lo ? at / step_hz * step_hz : lo;
	}
	return unique(hz, steps + 1);
}
