/* SPDX-License-Identifier: MIT */
#include "units.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	double factor;
	bool exact_case;
};

int parse_u64(const char *text, uint64_t *out)
{
	uint64_t value = 0;

	if (*text == '\0')
		return -EINVAL;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return -EINVAL;
	}
	for (const char *p = text; *p; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (value > (UINT64_MAX - digit) / 10)
			return -ERANGE;
		value = value * 10 + digit;
	}
	*out = value;
	return 0;
}

int parse_i64(const char *text, int64_t *out)
{
	bool negative = *text == '-';
	uint64_t value;
	int rc = parse_u64(text + negative, &value);

	if (rc < 0)
		return rc;
	if (value > (uint64_t)INT64_MAX)
		return -ERANGE;
	*out = negative ? -(int64_t)value : (int64_t)value;
	return 0;
}

/* As in the C locale: the layers run in programs that may have set another one, with a decimal comma. */
static double to_double(const char *text)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", NULL); /* glibc's own, which needs no memory */
	double value = strtod_l(text, NULL, c);

	freelocale(c);
	return value;
}

/* Length of `12`, `12.5` or `.5`, with a sign if `sign`; 0 if it is not a number. */
static size_t decimal_length(const char *text)
{
	const char *p = text + (*text == '-' || *text == '+');
	size_t whole = strspn(p, "0123456789"), part = 0;

	p += whole;
	if (*p == '.') {
		part = strspn(p + 1, "0123456789");
		p += 1 + part;
	}
	return whole + part ? (size_t)(p - text) : 0;
}

int parse_double(const char *text, double *out)
{
	size_t len = decimal_length(text);
	double value;

	if (len == 0)
		return -EINVAL;
	if (text[len] == 'e' || text[len] == 'E') {
		size_t sign = text[len + 1] == '-' || text[len + 1] == '+';
		size_t digits = strspn(text + len + 1 + sign, "0123456789");

		if (digits == 0)
			return -EINVAL;
		len += 1 + sign + digits;
	}
	if (text[len] != '\0')
		return -EINVAL;
	value = to_double(text);
	if (!isfinite(value))
		return -ERANGE;
	*out = value;
	return 0;
}

static int parse_with_unit(const char *text, const struct unit *units, size_t count, uint64_t *out)
{
	size_t len = decimal_length(text);
	const char *name = text + len;
	double value;

	if (len == 0 || *text == '-' || *text == '+' || len > 40)
		return -EINVAL;
	while (*name == ' ')
		name++;
	if (*name == '\0' && !memchr(text, '.', len)) {
		char digits[48];

		snprintf(digits, sizeof(digits), "%.*s", (int)len, text);
		return parse_u64(digits, out);
	}
	for (size_t i = 0; i < count; i++) {
		if (units[i].exact_case ? strcmp(name, units[i].name) : strcasecmp(name, units[i].name))
			continue;
		value = rint(to_double(text) * units[i].factor);
		if (value >= 18446744073709551615.0)
			return -ERANGE;
		*out = (uint64_t)value;
		return 0;
	}
	return -EINVAL;
}

int parse_duration_ns(const char *text, uint64_t *out)
{
	static const struct unit units[] = {{"ns", 1, false},  {"us", 1e3, false},   {"ms", 1e6, false},
					    {"s", 1e9, false}, {"min", 60e9, false}, {"h", 3600e9, false}};

	return parse_with_unit(text, units, sizeof(units) / sizeof(*units), out);
}

int parse_frequency_hz(const char *text, uint64_t *out)
{
	static const struct unit units[] = {{"Hz", 1, false},
					    {"kHz", 1e3, false},
					    {"MHz", 1e6, false},
					    {"GHz", 1e9, false}};

	return parse_with_unit(text, units, sizeof(units) / sizeof(*units), out);
}

int parse_rate_mhz(const char *text, uint64_t *out)
{
	static const struct unit units[] = {{"/s", 1e3, false}, {"fps", 1e3, false}, {"Hz", 1e3, false}};
	double plain;

	if (parse_double(text, &plain) < 0)
		return parse_with_unit(text, units, sizeof(units) / sizeof(*units), out);
	if (plain < 0 || plain >= 1e15)
		return plain < 0 ? -EINVAL : -ERANGE;
	*out = (uint64_t)rint(plain * 1e3);
	return 0;
}

int parse_deadline_ns(const char *text, uint64_t *out)
{
	uint64_t rate_mhz;
	int rc = parse_duration_ns(text, out);

	if (rc != -EINVAL)
		return rc;
	rc = parse_rate_mhz(text, &rate_mhz);
	if (rc == 0 && rate_mhz == 0)
		return -ERANGE;
	if (rc == 0)
		*out = (uint64_t)rint(1e12 / (double)rate_mhz);
	return rc;
}

int parse_power_uw(const char *text, uint64_t *out)
{
	static const struct unit units[] = {{"uW", 1, true}, {"mW", 1e3, true}, {"W", 1e6, true}};

	return parse_with_unit(text, units, sizeof(units) / sizeof(*units), out);
}

/* Format a value in the largest unit in which it is at least 1, with three or four significant
 * digits. */
static char *format_scaled(char *buf, size_t size, uint64_t value, const char *const *units, const double *factors,
			   size_t count)
{
	size_t i = 0;
	double scaled;

	if (value == 0) {
		snprintf(buf, size, "-");
		return buf;
	}
	while (i + 1 < count && (double)value >= factors[i + 1])
		i++;
	scaled = (double)value / factors[i];
	snprintf(buf, size, "%.*f %s", scaled < 10 ? 2 : scaled < 100 ? 1 : 0, scaled, units[i]);
	return buf;
}

char *format_duration(char *buf, size_t size, uint64_t ns)
{
	static const char *const units[] = {"ns", "us", "ms", "s", "min", "h"};
	static const double factors[] = {1, 1e3, 1e6, 1e9, 60e9, 3600e9};

	return format_scaled(buf, size, ns, units, factors, 6);
}

char *format_frequency(char *buf, size_t size, uint64_t hz)
{
	if (hz == 0)
		snprintf(buf, size, "-");
	else if (hz % 1000000 && hz < 1000000000000ULL)
		snprintf(buf, size, "%.1f MHz", (double)hz / 1e6);
	else
		snprintf(buf, size, "%.0f MHz", (double)hz / 1e6);
	return buf;
}

char *format_rate(char *buf, size_t size, uint64_t mhz)
{
	snprintf(buf, size, "%.*f/s", mhz < 10000 ? 2 : 1, (double)mhz / 1e3);
	return buf;
}

char *format_power(char *buf, size_t size, uint64_t uw)
{
	static const char *const units[] = {"uW", "mW", "W"};
	static const double factors[] = {1, 1e3, 1e6};

	return format_scaled(buf, size, uw, units, factors, 3);
}

char *format_energy(char *buf, size_t size, uint64_t uj)
{
	static const char *const units[] = {"uJ", "mJ", "J"};
	static const double factors[] = {1, 1e3, 1e6};

	return format_scaled(buf, size, uj, units, factors, 3);
}
