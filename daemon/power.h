/* SPDX-License-Identifier: MIT */
/* Power of a request: sensor readings at moments spread evenly over many inferences. */
#ifndef DAEMON_POWER_H
#define DAEMON_POWER_H

#include <stdbool.h>
#include <stdint.h>
#include "../common/point.h"

struct daemon;
struct loop_watch;
struct power_meter;
struct request;

struct power_sampler {
	struct power_meter *meter; /* NULL: no sensor */
	uint64_t uw;               /* newest reading */
	uint64_t sampled_ns;       /* virtual time of that reading */
	struct op_point point;     /* clocks at that reading */
	double phase;              /* fraction of a request before the next reading, [0, 1) */
	uint64_t request;          /* id of the request being measured, */
	uint32_t left;             /* number of its readings still to take, */
	uint64_t apart_ns;         /* and the interval between them */
	struct loop_watch *timer;
};

/* A request has begun and its reply is sent: start the energy counter, or schedule readings. */
void power_begin(struct daemon *d, const struct request *request);

/* Timer: take one reading. */
void power_sample(void *daemon);

/* Mean power of a request that ends now, in uW; 0: not measured. */
uint64_t power_end(struct daemon *d, const struct request *request);

/* Nothing has run for release_after: one reading without load, to find a sensor that reads the same as under load. */
void power_idle(struct daemon *d);

#endif
