/* SPDX-License-Identifier: MIT */
/* Quantiles of a list of times, and of the normal distribution. */
#ifndef COMMON_QUANTILE_H
#define COMMON_QUANTILE_H

#include <stddef.h>
#include <stdint.h>

/* In place, ascending. */
void sort_u64(uint64_t *values, size_t count);

/* The least value such that at least the fraction `q`, in [0, 1], of the values do not exceed it
 * (nearest rank, without interpolation, so the result is one of the values). 0 if there are none. */
uint64_t quantile_u64(const uint64_t *sorted, size_t count, double q);

/* Quantile of the standard normal distribution, for p in [0.5, 1): Acklam's
 * rational approximation, relative error under 1.2e-9. */
double quantile_normal(double p);

#endif
