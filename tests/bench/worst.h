/* SPDX-License-Identifier: MIT */
/* The operations of a client of another user that cost flamed most, beside the client whose round trips
 * tests/bench_daemon.c measures. Each runs in a process of its own until it is killed. */
#ifndef TESTS_BENCH_WORST_H
#define TESTS_BENCH_WORST_H

#include <stdbool.h>

#define OTHER_UID   65534
#define QUESTIONERS 1000 /* connections of one kind */
#define WORST_KINDS 8

struct worst_kind {
	const char *name;
	void (*run)(void);
	bool fills; /* it opens its models first, while it is alone, and then writes one byte to stdout */
};

extern const struct worst_kind worst_kinds[WORST_KINDS];

/* The model files that "models" opens, 4,000 contexts measured of each, in power mode `mode`. `owner`: "@UID", or "",
 * the administrator. */
void worst_write_models(const char *mode, const char *owner);

/* The same for "saves": as many models as one user may have, which fill its share of memory with samples and layers. */
void worst_write_full(const char *mode, const char *owner);

/* Samples and layers of as many models as one user may have, with surfaces of several contexts each. Returns. */
void worst_fill_models(void);

/* The same models in use, requests in flight, incomplete messages. Writes one byte to stdout once it has all
 * of it. */
void worst_hold_everything(void);

#endif
