/* SPDX-License-Identifier: MIT */
#define CL_TARGET_OPENCL_VERSION 300
#include "layer_event.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The link that points at an event's record, or at the end of its bucket. */
static struct layer_event **find(struct layer_events *events, cl_event event)
{
	struct layer_event **at = &events->bucket[((uintptr_t)event >> 4) % LAYER_BUCKETS];

	while (*at && (*at)->event != event)
		at = &(*at)->next;
	return at;
}

int layer_event_add(struct layer_events *events, cl_event event)
{
	struct layer_event *record = calloc(1, sizeof(*record)), **at;

	if (!record)
		return -ENOMEM;
	record->event = event;
	record->refs = 1;
	pthread_mutex_lock(&events->lock);
	at = find(events, event);
	record->next = *at ? (*at)->next : NULL;
	free(*at); /* the program's last reference was released without this layer */
	*at = record;
	pthread_mutex_unlock(&events->lock);
	return 0;
}

void layer_event_end(struct layer_events *events, cl_event event, const cl_ulong at[TIME_COUNT])
{
	struct layer_event *record;

	pthread_mutex_lock(&events->lock);
	record = *find(events, event);
	if (record) {
		memcpy(record->at, at, sizeof(record->at));
		record->ended = true;
	}
	pthread_mutex_unlock(&events->lock);
}

void layer_event_retain(struct layer_events *events, cl_event event)
{
	struct layer_event *record;

	pthread_mutex_lock(&events->lock);
	record = *find(events, event);
	if (record)
		record->refs++;
	pthread_mutex_unlock(&events->lock);
}

void layer_event_release(struct layer_events *events, cl_event event)
{
	struct layer_event **at, *record;

	pthread_mutex_lock(&events->lock);
	at = find(events, event);
	record = *at;
	if (record && --record->refs == 0) {
		*at = record->next;
		free(record);
	}
	pthread_mutex_unlock(&events->lock);
}

bool layer_event_get(struct layer_events *events, cl_event event, struct layer_event *out)
{
	struct layer_event *record;

	pthread_mutex_lock(&events->lock);
	record = *find(events, event);
	if (record)
		*out = *record;
	pthread_mutex_unlock(&events->lock);
	return record != NULL;
}
