/* SPDX-License-Identifier: MIT */
/* The events that the layer returned in place of a kernel's own, with the times on the board.
 * A record is found by its event and has the same reference count. */
#ifndef BOARD_LAYER_EVENT_H
#define BOARD_LAYER_EVENT_H

#include <CL/cl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define LAYER_BUCKETS 1024

enum event_time { TIME_QUEUED, TIME_SUBMIT, TIME_START, TIME_END, TIME_COUNT };

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
/* Store the times of an event; does nothing if its record has been freed. */
void layer_event_end(struct layer_events *events, cl_event event, const cl_ulong at[TIME_COUNT]);
void layer_event_retain(struct layer_events *events, cl_event event);
void layer_event_release(struct layer_events *events, cl_event event);
/* Copy the record. False: the event is not one of the layer's. */
bool layer_event_get(struct layer_events *events, cl_event event, struct layer_event *out);

#endif
