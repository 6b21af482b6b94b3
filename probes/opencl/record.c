/* SPDX-License-Identifier: MIT */
/* Launches and waits of each thread that launches (a stream): when they were
 * made, with which event, and in which inference. Times of kernels are asked
 * for only after an inference is over. */
#include "layer.h"

#include <pthread.h>
#include <stdlib.h>
#include "../../client/flamed.h"
#include "../../common/clock.h"

#define POLLS_BELIEVED 3 /* times a program was seen to wait by polling until that is taken for its way, */
#define CALLS_BELIEVED 24 /* ... or by a callback, */
#define HARD_SHARE     3 /* ... and so many times what it did so between two waits that block */
#define SPENT_SHARE 4 /* an upload counts for the inference if it began less than 1/4 deadline before */

struct record {
	cl_event event;
	uint64_t name, gap_ns, call_ns;
	bool sync;
};

struct stream {
	pthread_mutex_t lock;
	atomic_bool used;
	struct boundary boundary;
	struct session *session;
	uint64_t mark_ns;  /* when the last launch or wait returned */
	uint64_t write_ns; /* when the first upload since then began; 0: none */
	bool reading;      /* a non-blocking read is under way */
	_Atomic(cl_event) last; /* the program's event of the last command; NULL: it has none */
	uint64_t commands;      /* enqueued so far */
	bool polled;            /* `last` was seen not to be complete */
	uint64_t called_at, blocked_at; /* `commands` when a callback was last set, when a wait last blocked */
	unsigned polls, calls;  /* what looked like a wait by polling, by callback, with no sign of the contrary since */
	unsigned soft, most;    /* both since the last wait that blocked, and the most there were between two of these */
	bool begun, recording, partial;
	bool ending;       /* closed by its rule, not waited for yet */
	uint64_t begin_ns;
	int64_t request;
	struct record *records;
	size_t count;
	cl_command_queue queue; /* looked up last */
	unsigned generation;
	bool profiled;
};

/* An inference that is over, taken out of its stream. */
struct finished {
	struct session *session;
	struct record *records;
	size_t count;
	int64_t request;
	uint64_t total_ns; /* 0: from the events */
	bool over, cancel, layers;
	const char *why_off; /* NULL, or what makes the layer give up */
};

static struct stream streams[LAYER_STREAMS_MAX];
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static __thread int mine; /* index + 1; 0: not asked yet; -1: none left */

static void release_events(struct record *records, size_t count)
{
	for (size_t i = 0; i < count; i++)
		layer.target.clReleaseEvent(records[i].event);
}

/* The thread ends, its stream is free for another. */
static void leave_stream(void *arg)
{
	struct stream *stream = arg;
	struct record *records;
	size_t count;

	pthread_mutex_lock(&stream->lock);
	records = stream->records;
	count = stream->count;
	session_stop(stream->session);
	stream->records = NULL;
	stream->count = 0;
	stream->begun = stream->recording = stream->ending = stream->used = false;
	pthread_mutex_unlock(&stream->lock);
	release_events(records, count);
	free(records);
	mine = 0;
}

static void make_key(void)
{
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++)
		pthread_mutex_init(&streams[i].lock, NULL);
	if (pthread_key_create(&key, leave_stream) != 0)
		layer_off("no thread-specific data left");
}

static int take_stream(void)
{
	int found = -1;

	pthread_once(&once, make_key);
	pthread_mutex_lock(&streams_lock);
	for (int i = 0; i < LAYER_STREAMS_MAX && found < 0; i++)
		if (!streams[i].used)
			found = i;
	if (found >= 0)
		streams[found].used = true;
	pthread_mutex_unlock(&streams_lock);
	if (found < 0) {
		mine = -1;
		return -1;
	}
	boundary_init(&streams[found].boundary, &layer.config.boundary);
	streams[found].polls = streams[found].calls = streams[found].soft = streams[found].most = 0;
	streams[found].mark_ns = streams[found].write_ns = 0;
	if (streams[found].session)
		session_reset(streams[found].session);
	else
		streams[found].session = session_new();
	if (!streams[found].session || pthread_setspecific(key, &streams[found]) != 0) {
		layer_off("out of memory");
		return -1;
	}
	mine = found + 1;
	return found;
}

/* A thread that never launches gets none. */
static struct stream *my_stream(bool launching)
{
	int index = mine > 0 ? mine - 1 : mine == 0 && launching ? take_stream() : -1;

	return index >= 0 ? &streams[index] : NULL;
}

/* Whether kernels of this queue have times; asked of the table once. */
static bool queue_is_profiled(struct stream *stream, cl_command_queue queue)
{
	struct queue_info info = { 0 };
	unsigned generation = handles_generation();

	if (stream->queue == queue && stream->generation == generation)
		return stream->profiled;
	queue_lookup(queue, &info);
	queue_set_stream(queue, (int)(stream - streams));
	stream->queue = queue;
	stream->generation = generation;
	stream->profiled = info.profiled;
	return info.profiled;
}

/* Take the inference out of the stream, under its lock. */
static void take_finished(struct stream *stream, uint64_t total_ns, bool cancel, struct finished *out)
{
	*out = (struct finished){ .session = stream->session, .records = stream->records, .count = stream->count,
		.request = stream->request, .total_ns = total_ns, .over = true, .cancel = cancel,
		.layers = stream->recording && !stream->partial };
	stream->records = NULL;
	stream->count = 0;
	stream->begun = stream->recording = stream->partial = stream->ending = false;
}

static uint64_t event_time(cl_event event, cl_profiling_info what)
{
	cl_ulong ns = 0;

	if (layer.target.clGetEventProfilingInfo(event, what, sizeof(ns), &ns, NULL) != CL_SUCCESS)
		return 0;
	return ns;
}

/* Times of every launch, as far as they are known: the number of layers, 0 if
 * any is missing. */
static size_t harvest(const struct finished *finished, struct flamed_layer *layers, struct trace_row *rows)
{
	for (size_t i = 0; i < finished->count; i++) {
		const struct record *record = &finished->records[i];
		uint64_t queued = event_time(record->event, CL_PROFILING_COMMAND_QUEUED);
		uint64_t start = event_time(record->event, CL_PROFILING_COMMAND_START);
		uint64_t end = event_time(record->event, CL_PROFILING_COMMAND_END);

		if (end == 0 || end < start)
			return 0;
		layers[i] = (struct flamed_layer){ record->gap_ns + record->call_ns, end - start, record->sync };
		rows[i] = (struct trace_row){ record->name, record->gap_ns, record->call_ns, start > queued ? start - queued : 0,
			end - start, record->sync };
	}
	return finished->count;
}

/* Closed by a rule and never waited for: from first queued to last end. */
static uint64_t device_total(const struct finished *finished)
{
	uint64_t begin, end;
	cl_int status = CL_QUEUED;

	if (finished->count == 0)
		return 0;
	layer.target.clGetEventInfo(finished->records[finished->count - 1].event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(status),
				    &status, NULL);
	if (status != CL_COMPLETE)
		return 0;
	begin = event_time(finished->records[0].event, CL_PROFILING_COMMAND_QUEUED);
	end = event_time(finished->records[finished->count - 1].event, CL_PROFILING_COMMAND_END);
	return end > begin ? end - begin : 0;
}

/* Memory of the records goes back to the stream for the next inference. */
static void give_back(struct stream *stream, struct record *records)
{
	pthread_mutex_lock(&stream->lock);
	if (!stream->records && stream->used) {
		stream->records = records;
		records = NULL;
	}
	pthread_mutex_unlock(&stream->lock);
	free(records);
}

/* Outside every lock: ask for the times, report, let the events go. */
static void report(struct stream *stream, struct finished *finished, bool may_block)
{
	struct flamed_layer *layers = NULL;
	struct trace_row *rows = NULL;
	size_t count = 0;

	if (finished->why_off)
		layer_off("%s: set FLAMED_BOUNDARY to say where an inference ends", finished->why_off);
	if (!finished->over)
		return;
	if (finished->total_ns == 0 && !finished->cancel) {
		finished->total_ns = device_total(finished);
		finished->cancel = finished->total_ns == 0;
	}
	if (finished->layers && finished->count > 0 && !finished->cancel) {
		layers = calloc(finished->count, sizeof(*layers));
		rows = calloc(finished->count, sizeof(*rows));
		if (layers && rows)
			count = harvest(finished, layers, rows);
	}
	if (finished->cancel)
		session_cancel(finished->session, finished->request);
	else
		session_end(finished->session, finished->request, finished->total_ns, layers, count, may_block);
	if (count > 0)
		trace_inference(rows, count);
	release_events(finished->records, finished->count);
	free(layers);
	free(rows);
	if (finished->records)
		give_back(stream, finished->records);
}

/* What the search for boundaries said, under the stream's lock. */
static void obey(struct stream *stream, unsigned marks, uint64_t total_ns, struct finished *finished)
{
	if (marks & MARK_END && stream->begun)
		take_finished(stream, total_ns, marks & MARK_CHANGED, finished);
	if (marks & MARK_LOCKED)
		session_found(stream->session, boundary_announced(&stream->boundary));
	if (marks & MARK_OFF)
		finished->why_off = boundary_why(&stream->boundary);
}

static void begin_inference(struct stream *stream, uint64_t now_ns)
{
	uint64_t spent = stream->write_ns ? now_ns - stream->write_ns : 0;

	if (layer.config.deadline_ns == 0 || spent > layer.config.deadline_ns / SPENT_SHARE)
		spent = 0;
	stream->begun = true;
	stream->partial = false;
	stream->request = session_begin(stream->session, boundary_announced(&stream->boundary), spent, &stream->recording);
	if (layer.config.boundary.rule >= BOUNDARY_KERNEL)
		stream->recording = true; /* their length is known from events only */
	if (stream->recording && !stream->records)
		stream->records = calloc(LAYERS_MAX, sizeof(*stream->records));
	if (!stream->records)
		stream->recording = false;
	stream->begin_ns = stream->mark_ns = clock_now_ns();
}

cl_event *record_launching(struct launch_call *call, cl_command_queue queue, uint64_t name, uint64_t identity, cl_event *event)
{
	struct stream *stream = my_stream(true);
	struct finished finished = { 0 };
	uint64_t now_ns;
	unsigned marks;

	*call = (struct launch_call){ .stream = -1, .name = name };
	atomic_fetch_add_explicit(&layer.launches, 1, memory_order_relaxed);
	if (!stream)
		return event;
	pthread_mutex_lock(&stream->lock);
	now_ns = clock_now_ns();
	if (stream->ending) /* never waited for */
		take_finished(stream, 0, false, &finished);
	marks = boundary_launch(&stream->boundary, name, identity, stream->mark_ns ? now_ns - stream->mark_ns : 0,
				stream->write_ns != 0);
	if (marks & MARK_BEGIN)
		begin_inference(stream, now_ns);
	call->last = marks & MARK_END;
	call->changed = marks & MARK_CHANGED;
	obey(stream, marks & (MARK_LOCKED | MARK_OFF), 0, &finished);
	stream->write_ns = 0;
	stream->reading = false;
	call->stream = (int)(stream - streams);
	call->record = queue_is_profiled(stream, queue) && stream->recording && stream->count < LAYERS_MAX;
	stream->partial |= stream->recording && !call->record;
	now_ns = clock_now_ns();
	call->gap_ns = stream->mark_ns ? now_ns - stream->mark_ns : 0;
	call->begin_ns = now_ns;
	pthread_mutex_unlock(&stream->lock);
	report(stream, &finished, true);
	return call->record && !event ? &call->own : event;
}

/* Under the stream's lock. */
static void enqueued(struct stream *stream, cl_event event)
{
	atomic_store(&stream->last, event);
	stream->commands++;
	stream->polled = false;
}

void record_launched(struct launch_call *call, cl_int result, cl_event *event)
{
	struct stream *stream = call->stream >= 0 ? &streams[call->stream] : NULL;
	bool keep = call->record && result == CL_SUCCESS;
	struct finished finished = { 0 };
	uint64_t now_ns = clock_now_ns();

	if (!stream)
		return;
	if (keep && event != &call->own && layer.target.clRetainEvent(*event) != CL_SUCCESS)
		keep = false;
	pthread_mutex_lock(&stream->lock);
	if (keep && layer_on() && stream->recording && stream->records && stream->count < LAYERS_MAX) {
		stream->records[stream->count++] =
			(struct record){ *event, call->name, call->gap_ns, now_ns - call->begin_ns, false };
		keep = false;
	} else if (call->record) {
		stream->partial = true;
	}
	stream->mark_ns = now_ns;
	enqueued(stream, event && event != &call->own && result == CL_SUCCESS ? *event : NULL);
	if (call->last && stream->begun && call->changed)
		take_finished(stream, 0, true, &finished);
	else
		stream->ending |= call->last && stream->begun;
	pthread_mutex_unlock(&stream->lock);
	if (keep)
		layer.target.clReleaseEvent(*event);
	report(stream, &finished, true);
}

void record_enqueued(cl_event event)
{
	struct stream *stream = my_stream(false);

	if (!stream)
		return;
	pthread_mutex_lock(&stream->lock);
	enqueued(stream, event);
	pthread_mutex_unlock(&stream->lock);
}

/* Before it an execution may not start: its time is the last launch's. */
void record_flushed(uint64_t begin_ns)
{
	uint64_t now_ns = clock_now_ns();
	struct stream *stream = my_stream(false);

	if (!stream)
		return;
	pthread_mutex_lock(&stream->lock);
	if (stream->boundary.now.launches > 0) {
		if (stream->count > 0)
			stream->records[stream->count - 1].call_ns += now_ns - begin_ns;
		stream->mark_ns += now_ns - begin_ns;
	}
	pthread_mutex_unlock(&stream->lock);
}

void record_write(void)
{
	struct stream *stream = my_stream(false);

	if (!stream)
		return;
	pthread_mutex_lock(&stream->lock);
	if (!stream->write_ns)
		stream->write_ns = clock_now_ns();
	pthread_mutex_unlock(&stream->lock);
}

void record_read(void)
{
	struct stream *stream = my_stream(false);

	if (!stream)
		return;
	pthread_mutex_lock(&stream->lock);
	stream->reading = true;
	pthread_mutex_unlock(&stream->lock);
}

/* Whose launches were waited for: this thread's if it has any open, else
 * those of the thread that launched on the queue last. */
static struct stream *waited_stream(cl_command_queue queue, cl_event event)
{
	struct stream *stream = my_stream(false);
	bool open;
	int other;

	if (stream) {
		pthread_mutex_lock(&stream->lock);
		open = stream->boundary.now.launches > 0 || stream->begun;
		pthread_mutex_unlock(&stream->lock);
		if (open)
			return stream;
	}
	if (!queue && event)
		layer.target.clGetEventInfo(event, CL_EVENT_COMMAND_QUEUE, sizeof(queue), &queue, NULL);
	other = queue ? queue_stream(queue) : -1;
	return other >= 0 ? &streams[other] : stream;
}

/* Under the stream's lock: everything launched is done, and the host knows. */
static void waited(struct stream *stream, enum boundary_wait kind, uint64_t now_ns, struct finished *finished)
{
	if (stream->count > 0)
		stream->records[stream->count - 1].sync = true;
	if (stream->reading && (kind == WAIT_EVENT || layer.config.boundary.rule == BOUNDARY_READ))
		kind = WAIT_READ;
	stream->reading = false;
	stream->write_ns = 0;
	if (stream->ending)
		take_finished(stream, now_ns - stream->begin_ns, false, finished);
	else
		obey(stream, boundary_wait(&stream->boundary, kind), now_ns - stream->begin_ns, finished);
	stream->mark_ns = now_ns;
}

/* Our own work is not the program's time. */
static void report_wait(struct stream *stream, struct finished *finished, bool may_block)
{
	report(stream, finished, may_block);
	if (!finished->over)
		return;
	pthread_mutex_lock(&stream->lock);
	stream->mark_ns = clock_now_ns();
	pthread_mutex_unlock(&stream->lock);
}

void record_waited(enum boundary_wait kind, cl_command_queue queue, cl_event event)
{
	uint64_t now_ns = clock_now_ns();
	struct stream *stream = waited_stream(queue, event);
	struct finished finished = { 0 };

	if (!stream)
		return;
	pthread_mutex_lock(&stream->lock);
	if (stream->commands > stream->blocked_at) { /* this is how it waits */
		stream->most = stream->soft > stream->most ? stream->soft : stream->most;
		stream->soft = stream->polls = stream->calls = 0;
		stream->blocked_at = stream->commands;
	}
	waited(stream, kind, now_ns, &finished);
	pthread_mutex_unlock(&stream->lock);
	report_wait(stream, &finished, true);
}

/* Whose last command it is: this thread's first. */
static struct stream *stream_of_last(cl_event event)
{
	struct stream *stream = my_stream(false);

	if (stream && atomic_load_explicit(&stream->last, memory_order_relaxed) == event)
		return stream;
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++)
		if (streams[i].used && atomic_load_explicit(&streams[i].last, memory_order_relaxed) == event)
			return &streams[i];
	return NULL;
}

void record_polled(cl_event event, cl_int status)
{
	uint64_t now_ns = clock_now_ns();
	struct stream *stream = stream_of_last(event);
	struct finished finished = { 0 };

	if (!stream)
		return;
	pthread_mutex_lock(&stream->lock);
	if (atomic_load(&stream->last) == event) {
		if (status <= CL_COMPLETE) {
			atomic_store(&stream->last, NULL);
			stream->polls += stream->polled;
			stream->soft += stream->polled;
			if (stream->polls >= POLLS_BELIEVED + HARD_SHARE * stream->most)
				waited(stream, WAIT_EVENT, now_ns, &finished);
		}
		stream->polled = status > CL_COMPLETE;
	}
	pthread_mutex_unlock(&stream->lock);
	report_wait(stream, &finished, true);
}

uint64_t record_calling(cl_event event)
{
	struct stream *stream = stream_of_last(event);
	uint64_t ticket = 0;

	if (!stream)
		return 0;
	pthread_mutex_lock(&stream->lock);
	if (atomic_load(&stream->last) == event) {
		if (stream->commands - stream->called_at > 1)
			ticket = stream->commands * LAYER_STREAMS_MAX + (uint64_t)(stream - streams);
		else /* one for every command: to clean up, not to wait */
			stream->calls = 0;
		stream->called_at = stream->commands;
	}
	pthread_mutex_unlock(&stream->lock);
	return ticket;
}

void record_called(uint64_t ticket)
{
	uint64_t now_ns = clock_now_ns();
	struct stream *stream = &streams[ticket % LAYER_STREAMS_MAX];
	struct finished finished = { 0 };

	pthread_mutex_lock(&stream->lock);
	if (stream->commands != ticket / LAYER_STREAMS_MAX || !stream->used) {
		stream->calls = 0; /* it went on without waiting */
	} else {
		stream->soft++;
		if (++stream->calls >= CALLS_BELIEVED + HARD_SHARE * stream->most)
			waited(stream, WAIT_EVENT, now_ns, &finished);
	}
	pthread_mutex_unlock(&stream->lock);
	report_wait(stream, &finished, false);
}

cl_uint record_holds(cl_event event)
{
	cl_uint held = 0;

	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++) {
		struct stream *stream = &streams[i];

		if (!stream->used)
			continue;
		pthread_mutex_lock(&stream->lock);
		for (size_t j = 0; j < stream->count; j++)
			held += stream->records[j].event == event;
		pthread_mutex_unlock(&stream->lock);
	}
	return held;
}

void record_leave(void)
{
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++)
		if (streams[i].used && streams[i].session)
			session_leave(streams[i].session);
}

void record_stop(void)
{
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++) {
		struct finished rest = { 0 };

		pthread_mutex_lock(&streams[i].lock);
		take_finished(&streams[i], 0, true, &rest);
		pthread_mutex_unlock(&streams[i].lock);
		release_events(rest.records, rest.count);
		free(rest.records);
		if (rest.session)
			session_stop(rest.session);
	}
}
