/* SPDX-License-Identifier: MIT */
/* Pooled pairs of events around a launch. They are read after the program has waited by itself, and
 * never during a capture: querying an event can invalidate a capture in another thread. */
#include "profiler.h"

#include <pthread.h>
#include <stdlib.h>
#include "../../common/clock.h"

#define PAIRS_MAX (2 * LAYERS_MAX)
#define ANCHORS   8
#define ANCHOR_NS NS_PER_S /* the driver returns times as float ms: a resolution of 60 ns over one second */

/* A reference event for the times of others. It is recorded just after the host has waited, so that
 * the device reaches it at once: its host time is then its device time, to within microseconds. */
struct anchor {
	CUevent event;
	CUcontext context;
	uint64_t at_ns;
	unsigned users;
};

struct pair {
	CUevent start, end;
	CUcontext context;
	uint64_t launched_ns; /* host time at which the launch returned */
	struct anchor *anchor;
	struct pair *next; /* in the free list */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pair *pairs[PAIRS_MAX], *free_pairs;
static size_t pair_count;
static struct anchor anchors[ANCHORS];

static CUevent make(void)
{
	CUevent event = NULL;

	return own.cuEventCreate && own.cuEventCreate(&event, 0) == CUDA_SUCCESS ? event : NULL;
}

/* How well an anchor may become another of this context: its event can be recorded again, there is none yet, or it is
 * of another context, and has to be made again. */
static int fitness(const struct anchor *anchor, CUcontext context)
{
	return !anchor->event ? 1 : anchor->context == context ? 2 : 0;
}

/* The newest anchor in this context; a new one if it is old, or if `renew`. */
static struct anchor *anchor_for(CUcontext context, CUstream stream, bool renew)
{
	uint64_t now_ns = clock_now_ns();
	struct anchor *best = NULL, *spare = NULL;
	CUevent event = NULL;
	bool recorded;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < ANCHORS; i++) {
		int better = spare ? fitness(&anchors[i], context) - fitness(spare, context) : 1;

		if (!renew && anchors[i].event && anchors[i].context == context &&
		    now_ns - anchors[i].at_ns < ANCHOR_NS && (!best || anchors[i].at_ns > best->at_ns))
			best = &anchors[i];
		if (anchors[i].users == 0 && (better > 0 || (better == 0 && anchors[i].at_ns < spare->at_ns)))
			spare = &anchors[i];
	}
	if (best) {
		best->users++;
	} else if (spare) {
		spare->users++;
		event = spare->event;
		spare->event = NULL; /* no anchor for another thread until it is recorded */
	}
	pthread_mutex_unlock(&lock);
	if (best || !spare)
		return best;
	if (event && spare->context != context && own.cuEventDestroy_v2) {
		own.cuEventDestroy_v2(event);
		event = NULL;
	}
	if (!event)
		event = make();
	recorded = event && own.cuEventRecord(event, stream) == CUDA_SUCCESS;
	pthread_mutex_lock(&lock);
	spare->event = event;
	spare->context = context;
	spare->at_ns = recorded ? now_ns : 0;
	spare->users -= !recorded;
	pthread_mutex_unlock(&lock);
	return recorded ? spare : NULL;
}

static struct pair *take_pair(CUcontext context)
{
	struct pair *pair = NULL;

	pthread_mutex_lock(&lock);
	for (struct pair **at = &free_pairs; *at && !pair; at = &(*at)->next)
		if ((*at)->context == context || !(*at)->start) {
			pair = *at;
			*at = pair->next;
			break;
		}
	if (!pair && pair_count < PAIRS_MAX) {
		pair = calloc(1, sizeof(*pair));
		if (pair)
			pairs[pair_count++] = pair;
	}
	pthread_mutex_unlock(&lock);
	if (!pair)
		return NULL;
	pair->context = context;
	if (!pair->start)
		pair->start = make();
	if (!pair->end)
		pair->end = make();
	return pair;
}

static void put_pair(struct pair *pair)
{
	pthread_mutex_lock(&lock);
	if (pair->anchor)
		pair->anchor->users--;
	pair->anchor = NULL;
	pair->next = free_pairs;
	free_pairs = pair;
	pthread_mutex_unlock(&lock);
}

bool event_before(struct launch_token *token, CUstream handle, bool per_thread, bool first)
{
	CUstream stream = named_stream(handle, per_thread);
	CUcontext context = NULL;
	struct pair *pair;

	if (captures == 0 && profiler_before(token))
		return true;
	if (captures > 0 || !own.cuEventRecord || own.cuCtxGetCurrent(&context) != CUDA_SUCCESS || !context)
		return false;
	pair = take_pair(context);
	if (!pair)
		return false;
	if (pair->start && pair->end)
		pair->anchor = anchor_for(context, stream, first);
	if (!pair->anchor || own.cuEventRecord(pair->start, stream) != CUDA_SUCCESS) {
		put_pair(pair);
		return false;
	}
	*token = (struct launch_token){.object = pair};
	return true;
}

bool event_after(struct launch_token *token, CUstream handle, bool per_thread, uint64_t launched_ns)
{
	struct pair *pair = token->object;

	if (profiler_has(token))
		return profiler_after(token);
	pair->launched_ns = launched_ns;
	if (captures == 0 && pair->end &&
	    own.cuEventRecord(pair->end, named_stream(handle, per_thread)) == CUDA_SUCCESS)
		return true;
	put_pair(pair);
	return false;
}

/* Captures of this thread, and global captures of others, must not be affected: the calls made here
 * do not touch a captured stream. */
static CUstreamCaptureMode relax(CUstreamCaptureMode mode)
{
	own.cuThreadExchangeStreamCaptureMode(&mode);
	return mode;
}

static bool elapsed_ns(const struct anchor *anchor, CUevent event, uint64_t *out)
{
	float ms = 0;

	if (!anchor->event || !event || own.cuEventElapsedTime(&ms, anchor->event, event) != CUDA_SUCCESS || ms < 0)
		return false;
	*out = anchor->at_ns + (uint64_t)((double)ms * 1e6);
	return true;
}

bool event_times(const struct launch_token *token, struct launch_times *out)
{
	const struct pair *pair = token->object;
	CUstreamCaptureMode before;
	bool known;

	if (captures > 0 || in_host_function)
		return false;
	if (profiler_has(token))
		return profiler_times(token, out);
	if (!pair->anchor || !own.cuEventElapsedTime)
		return false;
	before = relax(CU_STREAM_CAPTURE_MODE_RELAXED);
	known = elapsed_ns(pair->anchor, pair->start, &out->start_ns) &&
		elapsed_ns(pair->anchor, pair->end, &out->end_ns);
	relax(before);
	/* An idle device passes the first event while the host is still launching: execution begins
	 * when the launch returned. */
	if (known && out->start_ns < pair->launched_ns && pair->launched_ns < out->end_ns)
		out->start_ns = pair->launched_ns;
	return known;
}

bool event_complete(const struct launch_token *token)
{
	const struct pair *pair = token->object;
	CUstreamCaptureMode before;
	CUresult rc;

	struct launch_times times;

	if (captures > 0 || in_host_function)
		return false;
	if (profiler_has(token))
		return profiler_times(token, &times);
	if (!pair->end || !own.cuEventQuery)
		return false;
	before = relax(CU_STREAM_CAPTURE_MODE_RELAXED);
	rc = own.cuEventQuery(pair->end);
	relax(before);
	return rc == CUDA_SUCCESS;
}

void event_release(const struct launch_token *token)
{
	if (!profiler_has(token))
		put_pair(token->object);
}

void event_context_gone(CUcontext context)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < pair_count; i++)
		if (!context || pairs[i]->context == context)
			pairs[i]->start = pairs[i]->end = NULL;
	for (size_t i = 0; i < ANCHORS; i++)
		if (!context || anchors[i].context == context)
			anchors[i].event = NULL;
	pthread_mutex_unlock(&lock);
}
