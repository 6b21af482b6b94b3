/* SPDX-License-Identifier: MIT */
#include "scan.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LANES 4 /* of SSE2 and NEON */

typedef float lanes_f __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t lanes_i __attribute__((vector_size(LANES * sizeof(int32_t))));

struct best {
	lanes_f value;
	lanes_i index;
};

static inline lanes_f all(float value)
{
	return value - (lanes_f){0};
}

/* `n` floats from `at`; the lanes past them are NaN, which no comparison takes. */
static inline lanes_f load(const float *at, size_t n)
{
	lanes_f out = all(NAN);

	memcpy(&out, at, n * sizeof(float));
	return out;
}

static inline lanes_f choose(lanes_i mask, lanes_f yes, lanes_f no)
{
	return (lanes_f)((mask & (lanes_i)yes) | (~mask & (lanes_i)no));
}

static inline bool any(lanes_i mask)
{
	uint64_t half[LANES / 2];

	memcpy(half, &mask, sizeof(mask));
	return (half[0] | half[1]) != 0;
}

/* Lanes, of those in `open`, where every request is in time after the move. */
static inline lanes_i in_time(const struct demand *demand, size_t count, const float *move_ns, lanes_i open, size_t i, size_t n)
{
	lanes_f sum = load(move_ns + i, n);

	for (size_t r = 0; r < count && any(open); r++) {
		sum += load(demand[r].time_ns + i, n) * demand[r].scale;
		open &= sum <= demand[r].slack_ns;
	}
	return open;
}

/* The latest of the requests; NaN where a time is. */
static inline lanes_f late(const struct demand *demand, size_t count, size_t i, size_t n)
{
	lanes_f sum = {0}, worst = all(-INFINITY);

	for (size_t r = 0; r < count; r++) {
		sum += load(demand[r].time_ns + i, n) * demand[r].scale;
		lanes_f over = sum - demand[r].slack_ns;
		worst = choose(over > worst, over, worst);
	}
	return choose(sum == sum, worst, sum);
}

static inline lanes_f price_of(const struct price *price, size_t i, size_t n)
{
	lanes_f power = load(price->power_uw + i, n);

	if (price->horizon_ns <= 0)
		return power;
	lanes_f run = load(price->latency_ns + i, n) * price->slowdown, rest = price->horizon_ns - run;
	rest = choose(rest > 0, rest, all(0));
	return (power * run + load(price->idle_uw + i, n) * rest) / price->horizon_ns;
}

static inline void keep(struct best *best, lanes_i better, lanes_f value, size_t i)
{
	best->value = choose(better, value, best->value);
	best->index = (better & (int32_t)i) | (~better & best->index);
}

/* The lane with the least value, the lowest point among equals. */
static size_t reduce(const struct best *best)
{
	size_t point = SIZE_MAX;
	float least = INFINITY;

	for (size_t lane = 0; lane < LANES; lane++) {
		size_t at = (size_t)best->index[lane] + lane;
		if (best->index[lane] >= 0 && (best->value[lane] < least || (best->value[lane] == least && at < point))) {
			least = best->value[lane];
			point = at;
		}
	}
	return point;
}

static inline struct best nothing(void)
{
	return (struct best){all(INFINITY), (lanes_i){0} - 1};
}

static inline size_t block(size_t i, size_t points)
{
	return points - i < LANES ? points - i : LANES;
}

/* Most blocks end at the first comparison: dearer than what was found, or too slow for one request. */
static inline void cheapest_block(struct best *best, const struct demand *demand, size_t count, const struct price *price,
				  const float *move_ns, size_t i, size_t n)
{
	lanes_f value = price_of(price, i, n);
	lanes_i better = value < best->value;

	if (any(better))
		keep(best, in_time(demand, count, move_ns, better, i, n), value, i);
}

size_t scan_cheapest(const struct demand *demand, size_t count, const struct price *price, const float *move_ns, size_t points,
		     size_t start)
{
	struct best best = nothing();
	bool started = start < points && scan_late(demand, count, start) + move_ns[start] <= 0;
	size_t i = 0;

	if (started)
		best = (struct best){all(nextafterf(scan_price(price, start), INFINITY)), (lanes_i){0} - 1};
	for (; i + LANES <= points; i += LANES)
		cheapest_block(&best, demand, count, price, move_ns, i, LANES);
	if (i < points)
		cheapest_block(&best, demand, count, price, move_ns, i, block(i, points));
	size_t found = reduce(&best);
	return found == SIZE_MAX && started ? start : found; /* in time by a rounding error */
}

static inline void fastest_block(struct best *best, const struct demand *demand, size_t count, const float *move_ns, size_t i, size_t n)
{
	lanes_f over = late(demand, count, i, n);

	keep(best, (load(move_ns + i, n) < INFINITY) & (over < best->value), over, i);
}

size_t scan_fastest(const struct demand *demand, size_t count, const float *move_ns, size_t points)
{
	struct best best = nothing();
	size_t i = 0;

	for (; i + LANES <= points; i += LANES)
		fastest_block(&best, demand, count, move_ns, i, LANES);
	if (i < points)
		fastest_block(&best, demand, count, move_ns, i, block(i, points));
	return reduce(&best);
}

static inline void cheaper_block(struct best *best, const struct price *price, float below, size_t i, size_t n)
{
	lanes_f value = price_of(price, i, n);

	keep(best, (value < below) & (-value < best->value), -value, i);
}

size_t scan_next_cheaper(const struct price *price, float below, size_t points)
{
	struct best best = nothing();
	size_t i = 0;

	for (; i + LANES <= points; i += LANES)
		cheaper_block(&best, price, below, i, LANES);
	if (i < points)
		cheaper_block(&best, price, below, i, block(i, points));
	return reduce(&best);
}

float scan_late(const struct demand *demand, size_t count, size_t point)
{
	float sum = 0, worst = -INFINITY;

	for (size_t r = 0; r < count; r++) {
		sum += demand[r].time_ns[point] * demand[r].scale;
		worst = fmaxf(worst, sum - demand[r].slack_ns);
	}
	return isnan(sum) ? sum : worst;
}

float scan_price(const struct price *price, size_t point)
{
	if (price->horizon_ns <= 0)
		return price->power_uw[point];
	float run = price->latency_ns[point] * price->slowdown;
	return (price->power_uw[point] * run + price->idle_uw[point] * fmaxf(price->horizon_ns - run, 0)) / price->horizon_ns;
}
