/* SPDX-License-Identifier: MIT */
#include "point.h"

#include <errno.h>
#include <stddef.h>

static const char *const clock_names[CLOCK_COUNT] = {"cpu", "gpu", "mem"};
static const char *const phase_names[PHASE_COUNT] = {"run", "prefill", "decode"};

const char *clock_name(enum clock_id id)
{
	return clock_names[id];
}

const char *phase_name(enum phase phase)
{
	return phase_names[phase];
}

int phase_parse(const char *name, enum phase *out)
{
	if (name[0] == '\0') {
		*out = PHASE_RUN;
		return 0;
	}
	for (int i = 0; i < PHASE_COUNT; i++) {
		if (strcmp(name, phase_names[i]) == 0) {
			*out = (enum phase)i;
			return 0;
		}
	}
	return -EINVAL;
}
