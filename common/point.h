/* SPDX-License-Identifier: MIT */
/* Types used by every folder: the three clock domains, an operating point, the phases of a model. */
#ifndef COMMON_POINT_H
#define COMMON_POINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum clock_id {
	CLOCK_CPU,
	CLOCK_GPU,
	CLOCK_MEM, /* DRAM: EMC, DMC, bandwidth manager */
	CLOCK_COUNT
};

/* One frequency for every clock, in Hz. 0: not controllable, or unknown. */
struct op_point {
	uint64_t hz[CLOCK_COUNT];
};

/* Power of a board at some operating points, from a board file: under a load that took
 * `latency_ns`, and idle at the same clocks. 0: not measured. */
#define BOARD_POWERS_MAX 16

struct board_powers {
	size_t count;
	struct board_power {
		struct op_point point;
		double latency_ns, power_uw, idle_uw;
	} point[BOARD_POWERS_MAX];
};

enum phase {
	PHASE_RUN,     /* fixed-shape network, context always 0 */
	PHASE_PREFILL, /* language model, context = tokens of the prompt */
	PHASE_DECODE,  /* language model, context = tokens before this one */
	PHASE_COUNT
};

static inline bool op_point_equal(struct op_point a, struct op_point b)
{
	return memcmp(&a, &b, sizeof(a)) == 0;
}

/* "cpu", "gpu", "mem". */
const char *clock_name(enum clock_id id);

/* "run", "prefill", "decode". */
const char *phase_name(enum phase phase);

/* Parse the name of a phase; an empty name is PHASE_RUN. Returns 0 or -EINVAL. */
int phase_parse(const char *name, enum phase *out);

#endif
