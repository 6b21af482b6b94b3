/* SPDX-License-Identifier: MIT */
/* What the layer knows of the events it handed out in place of a kernel's own:
 * its times on the board. Found by the event, counted like it. */
#ifndef BOARD_LAYER_EVENT_H
#define BOARD_LAYER_EVENT_H

#include <CL/cl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define LAYER_BUCKETS 1024

enum layer_time { TIME_QUEUED, TIME_SUBMIT, TIME_START, TIME_END, TIME_COUNT };

struct layer_event {
	struct layer_event *next;
	cl_event event;
	unsigned refs;
	bool ended;
	cl_ulong at[TIME_COUNT]; /* in the device's clock */
};

struct layer_events {
	pthread_mutex_t lock;
	struct layer_event *bucket[LAYER_BUCKETS];
};

/* Remember an event with one reference. 0 or -ENOMEM. */
int layer_event_add(struct layer_events *events, cl_event event);
/* Its times are known; no-op for one that is not there any more. */
void layer_event_end(struct layer_events *events, cl_event event, const cl_ulong at[TIME_COUNT]);
void layer_event_retain(struct layer_events *events, cl_event event);
void layer_event_release(struct layer_events *events, cl_event event);
/* A copy of what is known. False: not ours. */
bool layer_event_get(struct layer_events *events, cl_event event, struct layer_event *out);

#endif
