/* SPDX-License-Identifier: MIT */
/* Conversion between text with units and the units of the code: Hz, ns, uW, uJ, millidegrees Celsius. */
#ifndef COMMON_UNITS_H
#define COMMON_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* Plain decimal digits only: no sign, space, exponent or trailing byte.
 * Return 0, -EINVAL (not a number) or -ERANGE (over UINT64_MAX). */
int parse_u64(const char *text, uint64_t *out);

/* The same with an optional leading '-'. */
int parse_i64(const char *text, int64_t *out);

/* A finite decimal number; "nan", "inf" and hex are -EINVAL. */
int parse_double(const char *text, double *out);

/* A number (fraction allowed) with a unit. Without a unit: ns, Hz, uW.
 * ns us ms s min h / Hz kHz MHz GHz / uW mW W. Units ignore case, except that
 * mW is not MW. Return 0, -EINVAL or -ERANGE. */
int parse_duration_ns(const char *text, uint64_t *out);
int parse_frequency_hz(const char *text, uint64_t *out);
int parse_power_uw(const char *text, uint64_t *out);

/* Parse a rate: "15/s", "30fps", "60hz", "0.5 Hz", "15", in requests per second. The result is in
 * millihertz. */
int parse_rate_mhz(const char *text, uint64_t *out);

/* Parse a deadline: a duration, or a rate ("/s", "fps", "hz"), which gives its period. */
int parse_deadline_ns(const char *text, uint64_t *out);

/* Format for people: "28.1 ms", "1728 MHz", "9.71 W", "0.31 J"; "-" for 0. Return `buf`. 32 bytes
 * suffice. */
char *format_duration(char *buf, size_t size, uint64_t ns);
char *format_frequency(char *buf, size_t size, uint64_t hz);
char *format_rate(char *buf, size_t size, uint64_t mhz); /* "15.0/s" */
char *format_power(char *buf, size_t size, uint64_t uw);
char *format_energy(char *buf, size_t size, uint64_t uj);

#endif
