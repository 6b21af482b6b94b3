/* SPDX-License-Identifier: MIT */
/* The program's clock, in one file so that tests can replace it. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

#define NS_PER_US 1000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL
#define MHZ_NS    1000000000000ULL /* a period in ns is this divided by its rate in millihertz */

/* CLOCK_MONOTONIC, in ns. */
uint64_t clock_now_ns(void);

/* Processor time of this thread, in ns: the cost of work, independent of other load. */
uint64_t clock_cpu_ns(void);

/* Sleep that many ns on CLOCK_MONOTONIC, resumed after signals. */
void clock_sleep_ns(uint64_t ns);

#endif
