/* SPDX-License-Identifier: MIT */
/* flamed's end: the contents of the keeper's first message. */
#include <stdio.h>
#include <string.h>

#include "../common/clock.h"
#include "keeper.h"

#define EMC_SETTLE_NS (10 * NS_PER_MS) /* the same guess as in probes/clocks.c */

void keeper_hello_merge(struct board *board, const struct keeper_reply *hello)
{
	struct clock_domain *mem = &board->clock[CLOCK_MEM];
	struct clock_device *d = &mem->device[0];

	if (hello->op != KEEPER_HELLO || hello->mem_steps == 0 || hello->mem_steps > GRID_AXIS_MAX)
		return;
	if (mem->devices == 0) {
		memset(d, 0, sizeof(*d));
		d->method = METHOD_BPMP_EMC;
		snprintf(d->name, sizeof(d->name), "emc");
		snprintf(d->dir, sizeof(d->dir), "/sys/kernel/debug/bpmp/debug/clk/emc");
		mem->devices = 1;
		mem->lead = 0;
		mem->why_not[0] = '\0';
		if (mem->settle_ns == 0)
			mem->settle_ns = mem->settle_up_ns = mem->settle_down_ns = EMC_SETTLE_NS;
	} else if (d->method != METHOD_BPMP_EMC) {
		return;
	}
	d->count = hello->mem_steps;
	memcpy(d->hz, hello->mem_hz, d->count * sizeof(d->hz[0]));
	d->min_hz = d->hz[0];
	d->max_hz = d->hz[d->count - 1];
}
