/* SPDX-License-Identifier: MIT */
/* Searches over all grid points, a few ns each: flat arrays, in vectors. */
#ifndef GOVERNOR_SCAN_H
#define GOVERNOR_SCAN_H

#include <stddef.h>

/* One request as the scan sees it, in the order of deadlines. */
struct demand {
	const float *time_ns; /* of a whole inference at each point */
	float scale;          /* share of it left x factor on it */
	float slack_ns;
};

/* What a point costs: power, or, with a horizon, the energy of one run and of
 * idling until then, over it. */
struct price {
	const float *power_uw;
	const float *idle_uw;    /* these three only with a horizon */
	const float *latency_ns;
	float slowdown;
	float horizon_ns;        /* 0: power */
};

/* How much later than asked (negative: earlier) the worst of the requests is
 * at a point, run one after the other. */
float scan_late(const struct demand *demand, size_t count, size_t point);
float scan_price(const struct price *price, size_t point);

/* The cheapest point where late + move <= 0, or SIZE_MAX. A good guess where
 * to `start` (SIZE_MAX: none) makes it quick, and changes nothing else. */
size_t scan_cheapest(const struct demand *demand, size_t count, const struct price *price, const float *move_ns, size_t points,
		     size_t start);

/* The point of least lateness where move is finite, or SIZE_MAX. */
size_t scan_fastest(const struct demand *demand, size_t count, const float *move_ns, size_t points);

/* The dearest point that is cheaper than `below`, or SIZE_MAX. */
size_t scan_next_cheaper(const struct price *price, float below, size_t points);

#endif
