/* SPDX-License-Identifier: MIT */
/* Ceilings: changes that the kernel itself makes to a limit. Used by all code that applies, verifies or restores
 * limits, or detects foreign writes. */
#ifndef KEEPER_HOLD_H
#define KEEPER_HOLD_H

#include "knob.h"

/* A cpufreq maximum without a limit, as in the kernel's own default request
 * (FREQ_QOS_MAX_DEFAULT_VALUE). The file then shows the hardware's maximum. */
#define NO_LIMIT_KHZ "2147483647"

#define HOLD_LIMITS 4

struct knob_hold {
	size_t count;
	struct {
		uint64_t value;  /* in the knob's unit: no file of this device shows more */
		const char *who; /* the file that sets this limit */
	} limit[HOLD_LIMITS];
	bool boost_off;
	bool takes_no_limit;           /* NO_LIMIT_KHZ may be written: cpufreq */
	uint64_t table_top;            /* highest entry of the policy's tables, boost included; 0: none */
	bool cooling;                  /* set by hold_cools(): */
	char cooler[COOLING_NAME_MAX]; /* name of the active cooling device */
};

/* Collect the limits in force for the file at `path`: cpuinfo_max_freq, bios_limit, disabled boost; devfreq's table;
 * RP0 of i915 and xe. */
void hold_find(const struct sysroot *root, const struct knob_kind *kind, const char *path, struct knob_hold *out);

/* Is the device's own cooling device active? Its name is stored in `out`. */
bool hold_cools(const struct sysroot *root, const char *path, struct knob_hold *out);

/* Explain why the file shows `value` although `wrote` was written: returns the name of a file or
 * cooling device, stored in `hold`. NULL when there is no known reason, so that a foreign write
 * must be assumed. */
const char *hold_explains(const struct sysroot *root, const struct knob_kind *kind, const char *path, uint64_t value,
			  uint64_t wrote, struct knob_hold *hold);

/* The highest value that the file can show now: the lowest of those limits; UINT64_MAX: none is known. */
uint64_t hold_lowest(const struct knob_hold *hold);

/* The meaning of an original maximum. Only where the hardware range is known: cpufreq, devfreq, i915 and xe. */
enum found_max {
	FOUND_LIMIT,    /* a limit set by someone: this number is restored */
	FOUND_HIGHEST,  /* the hardware's maximum, equivalent to no limit: this number is restored */
	FOUND_UNLIMITED /* everything that boost, firmware or the driver allow at present: restored as "no limit" */
};
enum found_max hold_found(const struct knob_hold *hold, const struct knob_kind *kind, uint64_t found);

#endif
