/* SPDX-License-Identifier: MIT */
/* Power and heat of a board from its clocks and how busy they are:
 *   P = base + sum over devices (idle + busy x activity) x phi(f)
 *   phi(f) = f V(f)^2 / (fmax Vmax^2), V linear from the lowest to the highest clock
 * (dynamic power of CMOS, C V^2 f). Heat follows P with one time constant.
 * Pure: time is a parameter. */
#ifndef BOARD_POWER_H
#define BOARD_POWER_H

#include "clock_device.h"

struct power {
	const struct spec *spec;
	double backlog_ns[CLOCK_COUNT], work_ns[CLOCK_COUNT]; /* reported, not yet spent */
	double busy[CLOCK_COUNT];                             /* of the last account: share; cpu: cores */
	double watts[CLOCK_COUNT + 1];                        /* of the last account, base last */
	double energy_j;
	double celsius;
	uint64_t at_ns; /* accounted up to here */
	uint64_t random;
};

void power_init(struct power *power, const struct spec *spec, uint64_t now_ns, uint64_t seed);

/* Account the time since the last call at the devices' current clocks.
 * `busy_ns` and `work_ns` are the times that programs reported since then, per clock;
 * time beyond the elapsed time is kept for the next call. */
void power_account(struct power *power, const struct board_clock *devices, const uint64_t busy_ns[CLOCK_COUNT],
		   const uint64_t work_ns[CLOCK_COUNT], uint64_t now_ns);

double power_total_w(const struct power *power);
/* Factor of a device's idle and busy power at a clock. */
double power_phi(const struct spec_clock *clock, uint64_t hz);
/* One reading of a rail with the sensor's noise, in mA. */
double power_rail_ma(struct power *power, const struct spec_rail *rail);

#endif
