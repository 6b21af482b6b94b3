/* SPDX-License-Identifier: MIT */
/* Frequency tables as sysfs prints them. Pure: from text to numbers. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe.h"

#define TABLE_TEXT_MAX 1024 /* entries looked at before thinning */
#define HZ_PER_MHZ 1000000ULL
#define HZ_SANE_MAX 100000000000ULL /* 100 GHz: above it the text is no clock */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The number at `*p`; false when there is none or it is no sane clock. */
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

/* Drop neighbours that are equal. */
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

size_t dpm_table_parse(const char *text, uint64_t *hz, size_t max, int *current)
{
	size_t n = 0;
	uint64_t level, mhz;

	*current = -1;
	for (const char *p = text; *p; p += *p == '\n') {
		const char *end = p + strcspn(p, "\n");
		if (take_number(&p, &level) && *p == ':') {
			p++;
			p += strspn(p, " ");
			if (!take_number(&p, &mhz) || strncasecmp(p, "mhz", 3) != 0 || level != n || n == max || mhz == 0 ||
			    (n && mhz * HZ_PER_MHZ <= hz[n - 1]))
				return 0;
			if (memchr(p, '*', (size_t)(end - p)))
				*current = (int)n;
			hz[n++] = mhz * HZ_PER_MHZ;
		}
		p = end;
	}
	return n;
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
