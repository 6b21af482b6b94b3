/* SPDX-License-Identifier: MIT */
/* One clock device by the kernel's rules: the effect of a write to its files, the values
 * that they then show, the speed that the governor selects, and the time from which it is in effect.
 * Pure: time and utilisation are parameters. */
#ifndef BOARD_CLOCK_DEVICE_H
#define BOARD_CLOCK_DEVICE_H

#include "spec.h"

enum board_knob { KNOB_MIN, KNOB_MAX, KNOB_GOVERNOR, KNOB_SET, KNOB_LOCK, KNOB_RATE, KNOB_COUNT };

struct board_clock {
	const struct spec_clock *spec;
	uint64_t want_min_hz, want_max_hz; /* requests as last accepted; max 0: no limit */
	char governor[32];
	uint64_t set_hz; /* of the userspace governor */
	bool locked;     /* bpmp */
	uint64_t rate_hz;
	uint64_t ceiling_hz;                /* set by thermal throttling */
	uint64_t cur_hz, target_hz, due_ns; /* target in effect at due_ns; 0: nothing under way */
	uint64_t rejected;                  /* writes the kernel would have refused */
	double util;                        /* of the last governor window, at cur_hz */
};

/* As after power on: no limits, the board's governor, the highest clock. */
void board_clock_init(struct board_clock *device, const struct spec_clock *spec);

/* A write of `text` to a knob. Returns 0, -EINVAL (no number, crossed limits
 * on an old kernel, no such governor) or -EPERM (setspeed under another
 * governor); an error leaves everything as it was and is counted. */
int board_clock_write(struct board_clock *device, enum board_knob knob, const char *text);

/* The text that a knob shows now. Returns `buf`. */
char *board_clock_read(const struct board_clock *device, enum board_knob knob, char *buf, size_t size);

/* Limits in force. */
uint64_t board_clock_min(const struct board_clock *device);
uint64_t board_clock_max(const struct board_clock *device);

/* Select a frequency from `device->util`, the governor and the limits, and start the move to it at
 * `from_ns`: it is in effect one settle time of its direction later, divided by
 * `share`. True when a move began. */
bool board_clock_govern(struct board_clock *device, uint64_t from_ns, uint64_t share);

/* Finish a move that is due. True when cur_hz changed. */
bool board_clock_settle(struct board_clock *device, uint64_t now_ns);

/* Does the frequency depend on the load, at this governor and these limits? */
bool board_clock_follows_load(const struct board_clock *device);

#endif
