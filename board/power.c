/* SPDX-License-Identifier: MIT */
#include "power.h"

#include <math.h>
#include <string.h>

void power_init(struct power *power, const struct spec *spec, uint64_t now_ns, uint64_t seed)
{
	memset(power, 0, sizeof(*power));
	power->spec = spec;
	power->celsius = spec->ambient_c + 8;
	power->at_ns = now_ns;
	power->random = seed | 1;
}

double power_phi(const struct spec_clock *clock, uint64_t hz)
{
	double low = (double)clock->hz[0], top = (double)clock->hz[clock->count - 1], f = (double)hz;
	double share = top > low ? (f - low) / (top - low) : 1;
	double volts = clock->volt_min + share * (clock->volt_max - clock->volt_min);

	return f * volts * volts / (top * clock->volt_max * clock->volt_max);
}

/* Share of `dt` that a backlog fills, at most `cap`; the rest of it remains. */
static double spend(double *backlog_ns, double dt_ns, double cap)
{
	double used = fmin(*backlog_ns, dt_ns * cap);

	*backlog_ns -= used;
	return used / dt_ns;
}

static double device_w(const struct board_clock *device, const double work[CLOCK_COUNT])
{
	const struct spec_clock *clock = device->spec;
	double activity = clock->id == CLOCK_CPU && !clock->host ? 0 : work[clock->id];

	return (clock->idle_w + clock->busy_w * activity) * power_phi(clock, device->cur_hz);
}

static double cores(const struct spec *spec)
{
	const struct spec_clock *host = spec_lead(spec, CLOCK_CPU);

	return host ? host->cpu_last - host->cpu_first + 1 : 1;
}

void power_account(struct power *power, const struct board_clock *devices, const uint64_t busy_ns[CLOCK_COUNT],
		   const uint64_t work_ns[CLOCK_COUNT], uint64_t now_ns)
{
	double dt_ns = (double)(now_ns - power->at_ns), dt_s = dt_ns / 1e9, work[CLOCK_COUNT];
	double total;

	for (int id = 0; id < CLOCK_COUNT; id++) {
		power->backlog_ns[id] += (double)busy_ns[id];
		power->work_ns[id] += (double)work_ns[id];
	}
	if (now_ns <= power->at_ns)
		return;
	for (int id = 0; id < CLOCK_COUNT; id++) {
		double cap = id == CLOCK_CPU ? cores(power->spec) : 1;

		power->busy[id] = spend(&power->backlog_ns[id], dt_ns, cap);
		work[id] = spend(&power->work_ns[id], dt_ns, cap);
	}
	memset(power->watts, 0, sizeof(power->watts));
	for (size_t i = 0; i < power->spec->clocks; i++)
		power->watts[devices[i].spec->id] += device_w(&devices[i], work);
	power->watts[CLOCK_COUNT] = power->spec->base_w;
	power->at_ns = now_ns;
	total = power_total_w(power);
	power->energy_j += total * dt_s;
	if (power->spec->heat_s > 0) {
		double end = power->spec->ambient_c + total * power->spec->kelvin_per_w;

		power->celsius = end + (power->celsius - end) * exp(-dt_s / power->spec->heat_s);
	}
}

double power_total_w(const struct power *power)
{
	double total = 0;

	for (int id = 0; id <= CLOCK_COUNT; id++)
		total += power->watts[id];
	return total;
}

/* Approximately normal, standard deviation 1: a sum of twelve uniforms (xorshift64). */
static double noise(struct power *power)
{
	double sum = -6;

	for (int i = 0; i < 12; i++) {
		power->random ^= power->random << 13;
		power->random ^= power->random >> 7;
		power->random ^= power->random << 17;
		sum += (double)(power->random >> 11) * 0x1p-53;
	}
	return sum;
}

double power_rail_ma(struct power *power, const struct spec_rail *rail)
{
	double watts = 0;

	for (int id = 0; id <= CLOCK_COUNT; id++)
		watts += rail->share[id] * power->watts[id];
	watts *= 1 + power->spec->noise * noise(power);
	return watts > 0 ? watts * 1e6 / rail->mv : 0;
}
