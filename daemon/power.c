/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "../common/clock.h"
#include "daemon.h"

#define POWER_FROM        0.1             /* fraction of a request after which its power is steady */
#define GOLDEN_RATIO      0.618034        /* multiples of it, modulo 1, are spread evenly for any count */
#define READINGS_NEW      4               /* requests at a point before its power counts as known, */
#define READINGS_MOST     4               /* and the most readings in one such request */
#define READINGS_APART_NS (5 * NS_PER_MS) /* least interval: a reading costs up to a millisecond */

/* A sensor read costs up to a millisecond, so readings keep to the configured interval. */
static bool is_due(const struct daemon *d, uint64_t now_ns)
{
	return now_ns - d->power.sampled_ns >= d->config.power_sample_ns ||
	       !op_point_equal(clocks_point(&d->clocks), d->power.point);
}

/* One reading, at the clocks in force. */
static uint64_t reading(struct daemon *d)
{
	uint64_t uw;

	if (!d->power.meter || power_meter_read(d->power.meter, clock_now_ns(), d->requests > 0, &uw) < 0)
		return 0;
	d->power.uw = uw;
	d->power.sampled_ns = daemon_now_ns(d);
	d->power.point = clocks_point(&d->clocks);
	return uw;
}

/* An instantaneous reading shows the power of one part of an inference. Readings are taken at a
 * different moment of each request, spread evenly, so that their mean represents the whole. At a
 * point with few readings, several are taken in one inference; if it is long enough, the first
 * waits until the sensor's averaging window has passed the move of the clocks. */
static void plan(struct daemon *d, const struct request *request)
{
	const struct decision *decision = &request->session->decision;
	uint64_t runs_ns = decision->predicted_ns, from_ns, past_ns;
	uint32_t measured = decision->measured;
	struct power_sampler *power = &d->power;

	if (!power->meter || power_meter_counts(power->meter) || d->requests > 1 ||
	    request->session->connection->replays)
		return;
	if (request->session->shadow)
		runs_ns = shadow_expected_ns(d, request, &measured);
	from_ns = (uint64_t)(POWER_FROM * (double)runs_ns);
	past_ns = decision->settle_ns + power_meter_window_ns(power->meter);
	if (request->serial && past_ns > from_ns && past_ns < runs_ns)
		from_ns = past_ns;
	if (!runs_ns || !is_due(d, daemon_now_ns(d) + from_ns))
		return;
	power->left = 0;
	power->apart_ns = runs_ns - from_ns;
	if (measured < READINGS_NEW && power->apart_ns >= 2 * READINGS_APART_NS) {
		uint64_t readings = power->apart_ns / READINGS_APART_NS;

		readings = readings < READINGS_MOST ? readings : READINGS_MOST;
		power->left = (uint32_t)readings - 1;
		power->apart_ns /= readings;
	}
	power->phase = fmod(power->phase + GOLDEN_RATIO, 1);
	power->request = request->id;
	loop_timer_in(power->timer, from_ns + (uint64_t)(power->phase * (double)power->apart_ns));
}

void power_begin(struct daemon *d, const struct request *request)
{
	if (d->power.meter && power_meter_counts(d->power.meter))
		(void)!power_meter_read(d->power.meter, clock_now_ns(), d->requests > 1, &d->power.uw);
	else
		plan(d, request);
}

void power_sample(void *daemon)
{
	struct daemon *d = daemon;
	struct request *request = request_find(d, NULL, d->power.request);
	uint64_t uw = request && d->requests == 1 ? reading(d) : 0;

	if (!uw)
		return;
	request->power_uw = (request->power_uw * request->readings + uw) / (request->readings + 1);
	request->readings++;
	if (request->session->shadow)
		shadow_poll(d); /* at the same wake-up, and of the same moment */
	if (d->power.left) {
		d->power.left--;
		loop_timer_in(d->power.timer, d->power.apart_ns);
	}
}

uint64_t power_end(struct daemon *d, const struct request *request)
{
	if (request->contended)
		return 0;
	if (!request->session->connection->replays && !(d->power.meter && power_meter_counts(d->power.meter)))
		return request->power_uw;
	/* A replay reports time that did not pass, so the only moment for a reading is now. */
	return is_due(d, daemon_now_ns(d)) ? reading(d) : 0;
}

void power_idle(struct daemon *d)
{
	const struct power_meter *meter = d->power.meter;

	/* the sensor may still average over the last request */
	if (!meter || power_meter_counts(meter) || d->config.release_after_ns <= power_meter_window_ns(meter))
		return;
	(void)!power_meter_read(d->power.meter, clock_now_ns(), false, &d->power.uw);
}
