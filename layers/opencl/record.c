/* SPDX-License-Identifier: MIT */
/* Each thread that launches has a stream of the core, with events as tokens. This file keeps what
 * the core cannot know: which event belongs to which command. */
#include "layer.h"

#include <pthread.h>

#define EVENTS_KEPT 64 /* launches of a thread whose events are distinguished */

/* Belongs to a stream, with its own lock. */
struct thread_events {
	pthread_mutex_t lock;
	_Atomic(cl_event) last; /* the program's event of the newest command; NULL: none */
	atomic_ulong number;    /* of that command */
	struct {
		cl_event event;
		uint64_t number;
	} launch[EVENTS_KEPT]; /* the program's events of launches since the last wait */
	size_t launches;
	cl_command_queue queue; /* most recent lookup */
	unsigned generation;
	bool profiled;
};

static struct thread_events threads[LAYER_STREAMS_MAX];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static __thread struct stream *mine;
static __thread bool none_left;

static bool event_times(const struct launch_token *token, struct launch_times *out)
{
	const cl_profiling_info what[3] = {CL_PROFILING_COMMAND_QUEUED, CL_PROFILING_COMMAND_START,
					   CL_PROFILING_COMMAND_END};
	cl_ulong ns[3] = {0};

	for (int i = 0; i < 3; i++)
		if (layer.target.clGetEventProfilingInfo((cl_event)token->object, what[i], sizeof(ns[i]), &ns[i],
							 NULL) != CL_SUCCESS)
			return false;
	*out = (struct launch_times){ns[0], ns[1], ns[2]};
	return true;
}

static bool event_complete(const struct launch_token *token)
{
	cl_int status = CL_QUEUED;

	layer.target.clGetEventInfo((cl_event)token->object, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(status), &status,
				    NULL);
	return status == CL_COMPLETE;
}

static void event_release(const struct launch_token *token)
{
	layer.target.clReleaseEvent((cl_event)token->object);
}

const struct layer_backend backend = {
	.name = "opencl",
	.times = event_times,
	.complete = event_complete,
	.release = event_release,
	.kernel_name = kernel_name,
	.polls_believed = 3, /* programs query a status for many reasons */
};

/* Waits for its commands, by handle, are no longer its own. */
static void forget_all(struct thread_events *thread)
{
	pthread_mutex_lock(&thread->lock);
	atomic_store(&thread->last, NULL);
	thread->launches = 0;
	thread->queue = NULL;
	pthread_mutex_unlock(&thread->lock);
}

/* The thread exits; its stream can be reused, by another one. */
static void leave_thread(void *arg)
{
	size_t index = stream_index(arg);

	queues_leave_stream((int)index);
	forget_all(&threads[index]);
	stream_leave(arg);
	mine = NULL;
}

static void make_key(void)
{
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++)
		pthread_mutex_init(&threads[i].lock, NULL);
	if (pthread_key_create(&key, leave_thread) != 0)
		layer_off("no thread-specific data key left");
}

/* A thread that never launches has no stream. */
static struct stream *my_stream(bool launching)
{
	if (mine || none_left || !launching)
		return mine;
	pthread_once(&once, make_key);
	mine = stream_take();
	none_left = !mine;
	if (!mine)
		return NULL;
	if (pthread_setspecific(key, mine) != 0) {
		layer_off("out of memory");
		return NULL;
	}
	return mine;
}

static struct thread_events *events_of(const struct stream *stream)
{
	return &threads[stream_index(stream)];
}

/* Do kernels of this queue have times? The table is read once. Called only by the stream's own
 * thread. */
static bool queue_is_profiled(struct stream *stream, cl_command_queue queue)
{
	struct thread_events *thread = events_of(stream);
	struct queue_info info = {0};
	unsigned generation = handles_generation();

	if (thread->queue == queue && thread->generation == generation)
		return thread->profiled;
	queue_lookup(queue, &info);
	queue_set_stream(queue, (int)stream_index(stream));
	thread->queue = queue;
	thread->generation = generation;
	thread->profiled = info.profiled;
	return info.profiled;
}

cl_event *record_launching(struct event_call *call, cl_command_queue queue, uint64_t name, uint64_t identity,
			   uint64_t work, cl_event *event)
{
	const struct launch launch = {name, identity, work};

	*call = (struct event_call){.stream = my_stream(true), .kernel = name};
	if (!call->stream)
		return event;
	stream_launching(call->stream, &call->launch, &launch, 1, queue_is_profiled(call->stream, queue), false);
	return call->launch.record && !event ? &call->own : event;
}

static void remember(struct thread_events *thread, cl_event event, uint64_t number, bool launch)
{
	atomic_store(&thread->number, number);
	atomic_store(&thread->last, event);
	if (!event)
		return;
	pthread_mutex_lock(&thread->lock);
	for (size_t i = 0; !launch && i < EVENTS_KEPT && i < thread->launches; i++)
		if (thread->launch[i].event == event) /* it was released, and its address reused */
			thread->launch[i].event = NULL;
	if (launch) {
		thread->launch[thread->launches % EVENTS_KEPT].event = event;
		thread->launch[thread->launches++ % EVENTS_KEPT].number = number;
	}
	pthread_mutex_unlock(&thread->lock);
}

void record_launched(struct event_call *call, cl_int result, cl_event *event)
{
	bool taken = result == CL_SUCCESS, keep = taken && call->launch.record, own = event == &call->own;
	struct launch_token token = {0};
	uint64_t number;

	if (!call->stream)
		return;
	if (keep && event && !own && layer.target.clRetainEvent(*event) != CL_SUCCESS)
		keep = false;
	token.object = keep && event ? *event : NULL;
	number = stream_launched(call->stream, &call->launch, taken, &token, &call->kernel, keep);
	remember(events_of(call->stream), taken && event && !own ? *event : NULL, number, true);
}

void record_enqueued(cl_event event)
{
	struct stream *stream = my_stream(false);

	if (stream)
		remember(events_of(stream), event, stream_enqueued(stream), false);
}

void record_flushed(uint64_t begin_ns)
{
	struct stream *stream = my_stream(false);

	if (stream)
		stream_flushed(stream, begin_ns);
}

void record_write(void)
{
	struct stream *stream = my_stream(false);

	if (stream)
		stream_uploading(stream);
}

void record_read(void)
{
	struct stream *stream = my_stream(false);

	if (stream)
		stream_reading(stream);
}

/* The stream whose launches were waited for: this thread's if it has open ones, else that of the
 * thread that launched on the queue last. */
static struct stream *waited_stream(cl_command_queue queue, cl_event event)
{
	struct stream *stream = my_stream(false);
	int other;

	if (stream && stream_open(stream))
		return stream;
	if (!queue && event)
		layer.target.clGetEventInfo(event, CL_EVENT_COMMAND_QUEUE, sizeof(queue), &queue, NULL);
	other = queue ? queue_stream(queue) : -1;
	return other >= 0 ? stream_at((size_t)other) : stream;
}

static void forget(struct thread_events *thread)
{
	pthread_mutex_lock(&thread->lock);
	thread->launches = 0;
	pthread_mutex_unlock(&thread->lock);
}

void record_waited(enum boundary_wait kind, cl_command_queue queue)
{
	struct stream *stream = waited_stream(queue, NULL);

	if (!stream)
		return;
	forget(events_of(stream));
	stream_waited(stream, kind, STREAM_ALL);
}

/* Number of the launch that an event belongs to; any other command, such as a marker or a read,
 * follows all launches so far. */
static uint64_t covered(struct thread_events *thread, cl_event event)
{
	uint64_t number = STREAM_ALL;

	pthread_mutex_lock(&thread->lock);
	for (size_t i = 0; i < EVENTS_KEPT && i < thread->launches; i++)
		if (thread->launch[i].event == event && (number == STREAM_ALL || thread->launch[i].number > number))
			number = thread->launch[i].number;
	pthread_mutex_unlock(&thread->lock);
	return number;
}

void record_waited_events(cl_uint count, const cl_event *events)
{
	struct stream *stream = waited_stream(NULL, events[count - 1]);
	uint64_t through = 0;

	if (!stream)
		return;
	for (cl_uint i = 0; i < count && through < STREAM_ALL; i++) {
		uint64_t number = covered(events_of(stream), events[i]);

		through = number > through ? number : through;
	}
	if (through == STREAM_ALL)
		forget(events_of(stream));
	stream_waited(stream, WAIT_EVENT, through);
}

/* The stream whose newest command has this event; this thread's first. */
static struct stream *stream_of_last(cl_event event)
{
	struct stream *stream = my_stream(false);

	if (stream && atomic_load_explicit(&events_of(stream)->last, memory_order_relaxed) == event)
		return stream;
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++)
		if (atomic_load_explicit(&threads[i].last, memory_order_relaxed) == event)
			return stream_at(i);
	return NULL;
}

void record_polled(cl_event event, cl_int status)
{
	struct stream *stream = stream_of_last(event);
	struct thread_events *thread;
	uint64_t number;

	if (!stream)
		return;
	thread = events_of(stream);
	number = atomic_load(&thread->number);
	if (status <= CL_COMPLETE)
		atomic_compare_exchange_strong(&thread->last, &event, NULL);
	stream_polled(stream, number, status <= CL_COMPLETE);
}

uint64_t record_calling(cl_event event)
{
	struct stream *stream = stream_of_last(event);

	return stream ? stream_calling(stream, atomic_load(&events_of(stream)->number)) : 0;
}
