/* SPDX-License-Identifier: MIT */
/* Assignment of CUDA streams to streams of the core. Each CUDA stream that launches kernels has its own, so that double
 * buffering with two streams gives two sequences of inferences; streams that wait for each other's events share one; a
 * stream that only copies counts as the one that it continues after. */
#include "nvtx.h"

#include <pthread.h>
#include "../../common/clock.h"

#define EVENTS 2048 /* slots; a wait for an evicted event is not seen */

struct track {
	CUstream handle;    /* as in named_stream(); NULL: free */
	const void *thread; /* of CU_STREAM_PER_THREAD */
	CUcontext context;
	struct stream *stream;     /* NULL: no launch is known */
	bool launches, full;       /* it has launched; the core had no stream left for it */
	bool blocking;             /* the legacy default stream waits for it */
	_Atomic uint64_t last;     /* number of its newest command; with ranges, the next stream here continues it */
	const struct track *after; /* with ranges: the track that it continues after, up to */
	uint64_t after_number;
};

static struct {
	CUevent event;
	struct cover cover;
} events[EVENTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct track tracks[TRACKS_MAX];
static _Atomic unsigned generation = 1;
static __thread struct {
	CUstream handle;
	unsigned generation;
	struct track *track;
} newest;                             /* most recent lookup */
static __thread uint64_t uploaded_ns; /* a stream without launches transferred input to the device */
static pthread_key_t thread_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* With the lock held: does no other track use the stream? */
static bool lone(const struct stream *stream)
{
	for (size_t i = 0; i < TRACKS_MAX; i++)
		if (tracks[i].handle && tracks[i].stream == stream)
			return false;
	return true;
}

/* The CUDA stream was destroyed; with the last one of a core stream, its inference ends. */
static void remove_track(CUstream handle, const void *thread)
{
	struct stream *left = NULL;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < TRACKS_MAX; i++) {
		if (tracks[i].handle != handle || tracks[i].thread != thread)
			continue;
		left = tracks[i].stream;
		tracks[i] = (struct track){.last = tracks[i].last};
		generation++;
	}
	if (left && !lone(left))
		left = NULL;
	for (size_t i = 0; i < EVENTS && left; i++)
		if (events[i].cover.stream == left)
			events[i].event = NULL;
	pthread_mutex_unlock(&lock);
	if (left)
		stream_leave(left);
}

static void thread_ends(void *mine)
{
	if (layer_on())
		remove_track(CU_STREAM_PER_THREAD, mine);
}

static void make_key(void)
{
	if (pthread_key_create(&thread_key, thread_ends) != 0)
		layer_off("no thread-specific data key left");
}

/* With the lock held. */
static struct track *find(CUstream handle, const void *thread, bool create)
{
	struct track *free_one = NULL;

	for (size_t i = 0; i < TRACKS_MAX; i++) {
		if (tracks[i].handle == handle && tracks[i].thread == thread)
			return &tracks[i];
		if (!tracks[i].handle && !free_one)
			free_one = &tracks[i];
	}
	if (!create || !free_one)
		return NULL;
	*free_one = (struct track){.handle = handle, .thread = thread, .blocking = true, .last = free_one->last};
	return free_one;
}

static struct track *lookup(CUstream handle, bool per_thread, bool create)
{
	CUstream name = named_stream(handle, per_thread);
	const void *thread = name == CU_STREAM_PER_THREAD ? &newest : NULL;
	unsigned now = atomic_load_explicit(&generation, memory_order_acquire);
	struct track *track;

	if (newest.handle == name && newest.generation == now)
		return newest.track;
	pthread_mutex_lock(&lock);
	track = find(name, thread, create);
	pthread_mutex_unlock(&lock);
	if (!track)
		return NULL;
	if (thread) {
		pthread_once(&once, make_key);
		pthread_setspecific(thread_key, thread);
	}
	newest.handle = name;
	newest.generation = now;
	newest.track = track;
	return track;
}

/* First launch in this stream. */
static void take_stream(struct track *track)
{
	struct stream *stream = track->stream || nvtx_on() ? track->stream : stream_take();
	unsigned int flags = 0;
	CUcontext context = NULL;

	own.cuCtxGetCurrent(&context);
	if (own.cuStreamGetFlags && track->handle != CU_STREAM_LEGACY &&
	    own.cuStreamGetFlags(track->handle, &flags) != CUDA_SUCCESS)
		flags = 0;
	pthread_mutex_lock(&lock);
	track->context = context;
	track->blocking = !(flags & CU_STREAM_NON_BLOCKING);
	track->stream = stream;
	track->full = stream == NULL;
	track->launches = true;
	pthread_mutex_unlock(&lock);
}

void track_launching(struct shot *shot, CUstream handle, bool per_thread, const struct launch *launches, size_t count,
		     bool replay)
{
	struct track *track = lookup(handle, per_thread, true);
	uint64_t number;
	bool first;

	shot->stream = NULL;
	if (__builtin_expect(track && !track->launches, 0))
		take_stream(track);
	if (track && nvtx_on()) {
		nvtx_launched((size_t)(track - tracks), ++track->last);
		atomic_fetch_add_explicit(&core.launches, count, memory_order_relaxed);
	}
	if (!track || !track->stream)
		return;
	if (uploaded_ns) {
		stream_uploading_since(track->stream, uploaded_ns);
		uploaded_ns = 0;
	}
	if (count == 1 && stream_launch_plain(track->stream, launches, &number)) {
		atomic_store_explicit(&track->last, number, memory_order_relaxed);
		return;
	}
	shot->stream = track->stream;
	shot->track = track;
	shot->handle = handle;
	shot->per_thread = per_thread;
	shot->kernel = launches[0].kernel;
	first = !stream_open(shot->stream);
	stream_launching(shot->stream, &shot->call, launches, count, true, replay);
	shot->timed = shot->call.record && event_before(&shot->token, handle, per_thread, first);
	if (shot->call.record)
		shot->call.begin_ns = clock_now_ns(); /* the layer's own work must not count as launch time */
}

void track_launched(struct shot *shot, bool taken)
{
	uint64_t begin_ns;

	if (!shot->stream)
		return;
	if (shot->timed) {
		begin_ns = clock_now_ns();
		shot->timed = event_after(&shot->token, shot->handle, shot->per_thread, begin_ns);
		shot->call.begin_ns += clock_now_ns() - begin_ns;
	}
	shot->track->last = stream_launched(shot->stream, &shot->call, taken, &shot->token, &shot->kernel, shot->timed);
}

void track_enqueued(CUstream handle, bool per_thread)
{
	struct track *track = lookup(handle, per_thread, false);

	if (track && track->stream)
		track->last = stream_enqueued(track->stream);
}

void track_upload(CUstream handle, bool per_thread)
{
	struct track *track = lookup(handle, per_thread, false);

	if (track && track->stream && track->launches) {
		stream_uploading(track->stream);
		track->last = stream_enqueued(track->stream);
	} else if (!uploaded_ns) {
		uploaded_ns = clock_now_ns();
	}
}

void track_download(CUstream handle, bool per_thread)
{
	struct track *track = lookup(handle, per_thread, false);

	if (!track || !track->stream)
		return;
	stream_reading(track->stream);
	track->last = stream_enqueued(track->stream);
}

struct cover track_cover(CUstream handle, bool per_thread)
{
	const struct track *track = lookup(handle, per_thread, false);

	return track && (track->stream || nvtx_on()) ? (struct cover){track->stream, track, track->last} :
						       (struct cover){0};
}

/* With ranges: waiting for a stream includes what it continued after. */
static void ranges_waited(const struct track *track, uint64_t through, bool may_block)
{
	const struct track *after;
	uint64_t number;

	pthread_mutex_lock(&lock);
	after = track->after;
	number = track->after_number;
	pthread_mutex_unlock(&lock);
	nvtx_waited((size_t)(track - tracks), through, may_block);
	if (after)
		nvtx_waited((size_t)(after - tracks), number, may_block);
}

void track_waited(struct cover cover, enum boundary_wait kind)
{
	if (cover.stream)
		stream_waited(cover.stream, kind, cover.through);
	else if (cover.track)
		ranges_waited(cover.track, cover.through, true);
}

static void waited_some(bool all, CUcontext context, enum boundary_wait kind)
{
	struct stream *some[TRACKS_MAX] = {NULL};
	size_t count = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < TRACKS_MAX; i++) {
		size_t j = 0;

		if (!tracks[i].handle || !tracks[i].stream || !tracks[i].launches ||
		    (all ? tracks[i].context != context : !tracks[i].blocking))
			continue;
		while (j < count && some[j] != tracks[i].stream)
			j++;
		some[count] = tracks[i].stream;
		count += j == count;
	}
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < count; i++)
		stream_waited(some[i], kind, STREAM_ALL);
	for (size_t i = 0; i < TRACKS_MAX && nvtx_on(); i++)
		if (tracks[i].handle && tracks[i].launches && (all ? tracks[i].context == context : tracks[i].blocking))
			nvtx_waited(i, tracks[i].last, true);
}

void track_waited_legacy(enum boundary_wait kind)
{
	waited_some(false, NULL, kind);
}

void track_waited_all(CUcontext context)
{
	waited_some(true, context, WAIT_FINISH);
}

void track_polled(struct cover cover, bool complete)
{
	if (cover.stream)
		stream_polled(cover.stream, cover.through, complete);
	else if (cover.track && complete)
		ranges_waited(cover.track, cover.through, true);
}

uint64_t track_calling(CUstream handle, bool per_thread)
{
	struct track *track = lookup(handle, per_thread, false);

	if (!track || !track->stream)
		return 0;
	track->last = stream_enqueued(track->stream);
	return stream_calling(track->stream, track->last);
}

void track_called(uint64_t ticket)
{
	if (ticket)
		stream_called(ticket);
}

void track_stream_gone(CUstream handle)
{
	remove_track(handle, NULL);
}

static size_t slot_of(CUevent event)
{
	return (size_t)(mix(0, (uintptr_t)event) % EVENTS);
}

void track_event_recorded(CUevent event, CUstream handle, bool per_thread)
{
	struct track *track = lookup(handle, per_thread, false);
	struct cover cover = {0};
	size_t at = slot_of(event);

	if (track && track->stream) {
		track->last = stream_enqueued(track->stream);
		cover = (struct cover){track->stream, NULL, track->last};
	} else if (track && nvtx_on()) {
		cover = (struct cover){NULL, track, track->last};
	}
	pthread_mutex_lock(&lock);
	if (cover.stream || cover.track || events[at].event == event) {
		events[at].event = cover.stream || cover.track ? event : NULL;
		events[at].cover = cover;
	}
	pthread_mutex_unlock(&lock);
}

void track_event_gone(CUevent event)
{
	size_t at = slot_of(event);

	pthread_mutex_lock(&lock);
	if (events[at].event == event)
		events[at].event = NULL;
	pthread_mutex_unlock(&lock);
}

struct cover track_event(CUevent event)
{
	size_t at = slot_of(event);
	struct cover cover = {0};

	pthread_mutex_lock(&lock);
	if (events[at].event == event)
		cover = events[at].cover;
	pthread_mutex_unlock(&lock);
	return cover;
}

/* With the lock held: everything of stream `gone` belongs to `keep` from now on. */
static void unite(struct stream *keep, const struct stream *gone)
{
	uint64_t newest_number = stream_commands(keep);

	for (size_t i = 0; i < TRACKS_MAX; i++)
		if (tracks[i].handle && tracks[i].stream == gone) {
			tracks[i].stream = keep;
			tracks[i].last = newest_number;
		}
	for (size_t i = 0; i < EVENTS; i++)
		if (events[i].event && events[i].cover.stream == gone)
			events[i].event = NULL;
	generation++;
}

void track_joined(CUstream handle, bool per_thread, CUevent event)
{
	struct cover cover = track_event(event);
	struct track *track = cover.stream || cover.track ? lookup(handle, per_thread, true) : NULL;
	struct stream *gone = NULL;

	if (!track || track->full)
		return;
	pthread_mutex_lock(&lock);
	if (cover.track) {
		track->after = cover.track;
		track->after_number = cover.through;
		pthread_mutex_unlock(&lock);
		return;
	}
	if (!track->launches) {
		track->stream = cover.stream;
	} else if (track->stream != cover.stream) {
		bool older = stream_index(track->stream) < stream_index(cover.stream);

		gone = older ? cover.stream : track->stream;
		unite(older ? track->stream : cover.stream, gone);
	}
	pthread_mutex_unlock(&lock);
	if (gone)
		stream_leave(gone);
	track->last = track->launches || gone ? stream_enqueued(track->stream) : cover.through;
}
