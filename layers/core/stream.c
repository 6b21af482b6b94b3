/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <pthread.h>
#include <stdlib.h>
#include "../../common/clock.h"
#include "../../lib/flamed.h"
#include "session.h"
#include "task.h"
#include "tokens.h"

#define CALLS_BELIEVED   24 /* waits by callback before callbacks count as the program's method of waiting, */
#define HARD_SHARE       3  /* and how many times its soft waits (by callback or polling) between two blocking waits */
#define SPENT_SHARE      4  /* an upload counts as part of the inference if it began less than 1/4 deadline before */
#define PENDING_MAX      4  /* inferences of one stream that a rule has closed and the host has not waited for */
#define OVERLAP_BELIEVED 64 /* consecutive waits that left launches in progress, before a message says so */

struct stream {
	pthread_mutex_t lock;
	atomic_bool used;
	struct boundary boundary;
	struct tokens tokens;
	uint64_t arguments; /* hash of those of the current segment's launches */
	uint64_t family;    /* common name of all steps of a language model, whatever their shapes */
	size_t step;        /* launches of the step that the newest segment began with; 0: with another launch */
	bool more;          /* after the newest step there were more launches before the wait */
	struct layer_session *session;
	uint64_t mark_ns;            /* return of the last launch or wait */
	uint64_t write_ns;           /* begin of the first upload since then; 0: none */
	bool reading;                /* a non-blocking read is in progress */
	uint64_t commands, launched; /* numbers of the newest command and of the newest launch; one that is still with
				      * the driver already counts as launched */
	bool passing;                /* a batch whose launches are to be recorded is with the driver */
	uint64_t early_ns;           /* return of a wait for the batch that is still with the driver; 0: none */
	bool polled;                 /* the newest command was polled and not complete */
	/* values of `commands` when a callback was last set, and of `launched` at the last blocking
	 * wait */
	uint64_t called_at, blocked_at;
	unsigned polls, calls; /* apparent waits by polling and by callback, without evidence to the contrary since */
	unsigned soft, most;   /* both, since the last blocking wait; and the maximum between two blocking waits */
	unsigned overlaps;     /* consecutive waits that left launches under way */
	uint64_t launches, overlap_at; /* launches executed so far, and when `overlaps` was last 0 */
	struct task now;
	struct task pending[PENDING_MAX];
	size_t pendings;
	struct launch_record *spare; /* memory for the next inference */
};

/* The result of a call, to be reported after the lock is released. */
struct outcome {
	struct task done[PENDING_MAX + 1];
	size_t count;
	const char *why_off;  /* reason for giving the stream up; NULL: none */
	uint64_t overlapping; /* launches between two waits of a program whose inferences overlap */
};

static struct stream streams[LAYER_STREAMS_MAX];
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_streams(void)
{
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++)
		pthread_mutex_init(&streams[i].lock, NULL);
}

size_t stream_index(const struct stream *stream)
{
	return (size_t)(stream - streams);
}

struct stream *stream_at(size_t index)
{
	return &streams[index];
}

/* Reset everything except the lock, the session and spare memory. */
static void renew(struct stream *stream)
{
	boundary_init(&stream->boundary, &core.config.boundary);
	tokens_init(&stream->tokens);
	stream->mark_ns = stream->write_ns = stream->early_ns = stream->arguments = 0;
	stream->step = 0;
	stream->reading = stream->polled = stream->more = stream->passing = false;
	stream->called_at = stream->blocked_at = 0;
	stream->polls = stream->calls = stream->soft = stream->most = stream->overlaps = 0;
	stream->now = (struct task){0};
	stream->pendings = 0;
}

struct stream *stream_take(void)
{
	struct stream *stream = NULL;

	pthread_once(&once, init_streams);
	pthread_mutex_lock(&streams_lock);
	for (size_t i = 0; i < LAYER_STREAMS_MAX && !stream; i++)
		if (!streams[i].used)
			stream = &streams[i];
	if (stream && !stream->session)
		stream->session = session_new();
	else if (stream)
		session_reset(stream->session);
	if (stream && stream->session) {
		pthread_mutex_lock(&stream->lock);
		renew(stream);
		pthread_mutex_unlock(&stream->lock);
		stream->used = true;
	}
	pthread_mutex_unlock(&streams_lock);
	return stream && stream->session ? stream : NULL;
}

/* The caller holds the lock. Remove every inference without reporting it. */
static void take_all(struct stream *stream, struct outcome *outcome)
{
	for (size_t i = 0; i < stream->pendings; i++)
		outcome->done[outcome->count++] = stream->pending[i];
	stream->pendings = 0;
	outcome->done[outcome->count++] = stream->now;
	stream->now = (struct task){0};
}

/* Drop the inferences of a stream, and close its sessions. */
static void stop(struct stream *stream)
{
	struct outcome rest = {0};

	pthread_mutex_lock(&stream->lock);
	take_all(stream, &rest);
	pthread_mutex_unlock(&stream->lock);
	for (size_t i = 0; i < rest.count; i++)
		task_release(&rest.done[i]);
	if (stream->session)
		session_stop(stream->session);
}

void stream_leave(struct stream *stream)
{
	stop(stream);
	stream->used = false;
}

bool stream_open(struct stream *stream)
{
	bool open;

	pthread_mutex_lock(&stream->lock);
	open = stream->boundary.now.launches > 0 || stream->now.begun;
	pthread_mutex_unlock(&stream->lock);
	return open;
}

uint64_t stream_commands(struct stream *stream)
{
	uint64_t commands;

	pthread_mutex_lock(&stream->lock);
	commands = stream->commands;
	pthread_mutex_unlock(&stream->lock);
	return commands;
}

/* Return the memory of the records to the stream, for the next inference. */
static void give_back(struct stream *stream, struct launch_record *records)
{
	pthread_mutex_lock(&stream->lock);
	if (!stream->spare && stream->used) {
		stream->spare = records;
		records = NULL;
	}
	pthread_mutex_unlock(&stream->lock);
	free(records);
}

/* Its boundaries cannot be found. Others may go on: the layer is off once there is none. */
static void give_up(struct stream *stream, const char *why)
{
	bool others = false;

	pthread_mutex_lock(&streams_lock);
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++) {
		if (&streams[i] == stream || !streams[i].used)
			continue;
		pthread_mutex_lock(&streams[i].lock);
		others |= !boundary_why(&streams[i].boundary);
		pthread_mutex_unlock(&streams[i].lock);
	}
	pthread_mutex_unlock(&streams_lock);
	if (!others) {
		layer_off("%s: set FLAMED_BOUNDARY to say where an inference ends", why);
		return;
	}
	if (!atomic_exchange(&core.gave_up_told, true))
		layer_say("%s in one of its threads or queues, which is not observed any more: set FLAMED_BOUNDARY",
			  why);
	stop(stream);
}

/* Report results to flamed and the user. No lock is held. */
static void report(struct stream *stream, struct outcome *outcome, bool may_block)
{
	if (outcome->why_off)
		give_up(stream, outcome->why_off);
	if (outcome->overlapping && !atomic_exchange(&core.overlap_told, true))
		layer_say("the program launches the next inference before it waits for the last one, so that they "
			  "cannot be told apart: "
			  "set FLAMED_BOUNDARY=count:N; it launches %llu kernels between two waits",
			  (unsigned long long)outcome->overlapping);
	for (size_t i = 0; i < outcome->count; i++) {
		struct launch_record *records = task_report(&outcome->done[i], stream->session, may_block);

		if (records)
			give_back(stream, records);
	}
}

/* The same after a wait: exclude the layer's own work from the program's time. */
static void report_wait(struct stream *stream, struct outcome *outcome, bool may_block)
{
	report(stream, outcome, may_block);
	if (outcome->count == 0)
		return;
	pthread_mutex_lock(&stream->lock);
	stream->mark_ns = clock_now_ns();
	pthread_mutex_unlock(&stream->lock);
}

static struct task take_now(struct stream *stream, uint64_t total_ns, bool cancel)
{
	struct task task = stream->now;

	task.total_ns = total_ns;
	task.cancel |= cancel || task.spoiled;
	stream->now = (struct task){0};
	return task;
}

/* Act on the marks from the search for boundaries. */
static void apply_marks(struct stream *stream, unsigned marks, uint64_t now_ns, struct outcome *outcome)
{
	if (marks & MARK_END && stream->now.begun)
		outcome->done[outcome->count++] = take_now(stream, now_ns - stream->now.begin_ns, marks & MARK_CHANGED);
	if (marks & MARK_LOCKED) {
		stream->family = boundary_announced(&stream->boundary);
		if (stream->boundary.period == 1)
			tokens_repeats(&stream->tokens);
		session_found(stream->session, stream->family);
	}
	if (marks & MARK_OFF)
		outcome->why_off = boundary_why(&stream->boundary);
}

/* A rule closed the inference with command `number`; its length is known when the host waits. */
static void suspend(struct stream *stream, bool changed, uint64_t number, struct outcome *outcome)
{
	struct task task = take_now(stream, 0, changed);

	task.number = number;
	if (task.cancel)
		outcome->done[outcome->count++] = task;
	else
		stream->pending[stream->pendings++] = task;
}

/* Finish the inferences in flight that the host now knows to be complete. */
static void resume(struct stream *stream, uint64_t through, uint64_t now_ns, struct outcome *outcome)
{
	size_t kept = 0;

	for (size_t i = 0; i < stream->pendings; i++) {
		struct task *task = &stream->pending[i];

		if (task->number <= through) {
			task->total_ns = now_ns - task->begin_ns;
			outcome->done[outcome->count++] = *task;
		} else {
			stream->pending[kept++] = *task;
		}
	}
	stream->pendings = kept;
}

static void begin_inference(struct stream *stream, uint64_t now_ns)
{
	uint64_t spent = stream->write_ns ? now_ns - stream->write_ns : 0;
	struct inference inference = {.fingerprint = boundary_announced(&stream->boundary)};
	struct task *task = &stream->now;
	uint64_t length;
	enum tokens_kind kind = tokens_guess(&stream->tokens, &length);

	if (core.config.deadline_ns == 0 || spent > core.config.deadline_ns / SPENT_SHARE)
		spent = 0;
	if (kind != TOKENS_NONE) {
		uint64_t context = kind == TOKENS_PROMPT ? length : stream->tokens.context;

		inference.fingerprint = stream->family;
		inference.phase = kind == TOKENS_PROMPT ? PHASE_PREFILL : PHASE_DECODE;
		inference.context = context < CONTEXT_TOKENS_MAX ? (uint32_t)context : CONTEXT_TOKENS_MAX;
	}
	*task = (struct task){.begun = true, .kind = kind, .records = stream->spare};
	stream->spare = NULL;
	task->request = session_begin(stream->session, &inference, spent, &task->recording);
	if (core.config.boundary.rule >= BOUNDARY_KERNEL)
		task->recording = true; /* without a wait, its length can only be derived from its launches */
	if (task->recording && !task->records)
		task->records = calloc(LAYERS_MAX, sizeof(*task->records));
	if (!task->records)
		task->recording = false;
	task->begin_ns = stream->mark_ns = clock_now_ns();
}

/* The oldest inference that is closed but was not waited for, so that it can be polled without the
 * lock. False if there is none. */
static bool take_oldest(struct stream *stream, struct task *out)
{
	if (stream->pendings == 0)
		return false;
	*out = stream->pending[0];
	for (size_t i = 1; i < stream->pendings; i++)
		stream->pending[i - 1] = stream->pending[i];
	stream->pendings--;
	return true;
}

/* Inferences that were not waited for: finish those that are complete, and drop the oldest if there
 * are too many. */
static void settle_pending(struct stream *stream)
{
	struct outcome outcome = {0};
	struct task task;
	bool taken;

	pthread_mutex_lock(&stream->lock);
	taken = take_oldest(stream, &task);
	pthread_mutex_unlock(&stream->lock);
	if (!taken)
		return;
	if (task.count > 0 && core.backend->complete(&task.records[task.count - 1].token)) {
		outcome.done[outcome.count++] = task;
	} else {
		pthread_mutex_lock(&stream->lock);
		if (stream->pendings < PENDING_MAX - 1) {
			for (size_t i = stream->pendings++; i > 0; i--)
				stream->pending[i] = stream->pending[i - 1];
			stream->pending[0] = task;
		} else {
			task.cancel = true;
			outcome.done[outcome.count++] = task;
		}
		pthread_mutex_unlock(&stream->lock);
	}
	report(stream, &outcome, true);
}

void stream_arguments(struct stream *stream, uint64_t hash)
{
	pthread_mutex_lock(&stream->lock);
	stream->arguments = boundary_hash(stream->arguments, &hash, sizeof(hash));
	pthread_mutex_unlock(&stream->lock);
}

static uint64_t hash_of(const struct launch *launches, size_t count)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < count; i++)
		hash = boundary_hash(hash, &launches[i].identity, sizeof(launches[i].identity));
	return hash;
}

void stream_launching(struct stream *stream, struct launch_call *call, const struct launch *launches, size_t count,
		      bool timed, bool step)
{
	struct outcome outcome = {0};
	uint64_t now_ns, gap_ns, hash = step ? hash_of(launches, count) : 0;
	bool split = false; /* an inference ends inside the batch, so that its parts have no separate times */

	*call = (struct launch_call){.known = true};
	atomic_fetch_add_explicit(&core.launches, count, memory_order_relaxed);
	settle_pending(stream);
	pthread_mutex_lock(&stream->lock);
	stream->launches += count;
	stream->launched = stream->commands + 1;
	now_ns = clock_now_ns();
	gap_ns = stream->mark_ns ? now_ns - stream->mark_ns : 0;
	if (stream->boundary.now.launches == 0) {
		if (stream->step)
			stream->more = boundary_last(&stream->boundary)->launches > stream->step;
		stream->step = step ? count : 0;
	}
	for (size_t i = 0; i < count; i++) {
		unsigned marks = boundary_launch(&stream->boundary, launches[i].kernel, launches[i].identity,
						 i ? 0 : gap_ns, i == 0 && stream->write_ns != 0);
		uint64_t length;

		tokens_launch(&stream->tokens, launches[i].kernel, launches[i].work);
		if (!(marks & MARK_BEGIN) &&
		    ((step && i == 0 && !stream->more) || tokens_guess(&stream->tokens, &length) != TOKENS_NONE))
			marks |= boundary_expect(&stream->boundary, hash);
		if (marks & MARK_BEGIN && !stream->now.begun)
			begin_inference(stream, now_ns);
		apply_marks(stream, marks & (MARK_LOCKED | MARK_OFF), 0, &outcome);
		call->last = marks & MARK_END;
		call->changed = marks & MARK_CHANGED;
		if (!call->last || i + 1 == count || !stream->now.begun)
			continue;
		split = stream->now.partial = true;
		if (stream->pendings < PENDING_MAX && outcome.count < PENDING_MAX)
			suspend(stream, call->changed, stream->commands + 1, &outcome);
		else
			stream->now.spoiled = true; /* no room: withdrawn, with the next one that ends */
	}
	stream->write_ns = 0;
	stream->reading = false;
	call->record = timed && !split && stream->now.recording && stream->now.count < LAYERS_MAX;
	stream->passing = call->record;
	stream->now.partial |= stream->now.recording && !call->record;
	now_ns = clock_now_ns();
	call->gap_ns = stream->mark_ns ? now_ns - stream->mark_ns : 0;
	call->begin_ns = now_ns;
	pthread_mutex_unlock(&stream->lock);
	report(stream, &outcome, true);
}

static uint64_t enqueued(struct stream *stream)
{
	stream->polled = false;
	return ++stream->commands;
}

uint64_t stream_launched(struct stream *stream, struct launch_call *call, bool taken, const struct launch_token *tokens,
			 const uint64_t *kernels, size_t count)
{
	uint64_t now_ns = clock_now_ns(), number;
	struct outcome outcome = {0};
	size_t kept = 0;

	pthread_mutex_lock(&stream->lock);
	stream->passing = false;
	if (call->record) {
		kept = task_keep(&stream->now, tokens, kernels, taken ? count : 0, call->gap_ns,
				 now_ns - call->begin_ns);
		stream->now.partial |= !kept;
	}
	stream->mark_ns = now_ns;
	number = enqueued(stream);
	stream->launched = number;
	if (call->last && stream->now.begun) {
		if (stream->pendings < PENDING_MAX)
			suspend(stream, call->changed, number, &outcome);
		else
			outcome.done[outcome.count++] = take_now(stream, 0, true);
	}
	if (stream->early_ns)
		resume(stream, number, stream->early_ns, &outcome);
	stream->early_ns = 0;
	pthread_mutex_unlock(&stream->lock);
	for (; kept < count; kept++)
		core.backend->release(&tokens[kept]);
	report(stream, &outcome, true);
	return number;
}

bool stream_launch_plain(struct stream *stream, const struct launch *launch, uint64_t *number)
{
	bool plain;

	pthread_mutex_lock(&stream->lock);
	plain = stream->boundary.now.launches > 0 && !stream->now.recording && stream->pendings == 0 &&
		stream->write_ns == 0 && core.config.boundary.rule < BOUNDARY_KERNEL &&
		stream->boundary.quiet < BOUNDARY_LAUNCHES_MAX &&
		stream->boundary.quiet_segments <= BOUNDARY_SEGMENTS_MAX;
	if (plain) {
		boundary_launch(&stream->boundary, launch->kernel, launch->identity, 0, false);
		tokens_launch(&stream->tokens, launch->kernel, launch->work);
		stream->launches++;
		stream->reading = false;
		stream->launched = *number = enqueued(stream);
	}
	pthread_mutex_unlock(&stream->lock);
	if (plain)
		atomic_fetch_add_explicit(&core.launches, 1, memory_order_relaxed);
	return plain;
}

uint64_t stream_enqueued(struct stream *stream)
{
	uint64_t number;

	pthread_mutex_lock(&stream->lock);
	number = enqueued(stream);
	pthread_mutex_unlock(&stream->lock);
	return number;
}

/* No execution starts before the flush: add its time to the last launch. */
void stream_flushed(struct stream *stream, uint64_t begin_ns)
{
	uint64_t now_ns = clock_now_ns();

	pthread_mutex_lock(&stream->lock);
	if (stream->boundary.now.launches > 0) {
		if (stream->now.count > 0)
			stream->now.records[stream->now.count - 1].call_ns += now_ns - begin_ns;
		stream->mark_ns += now_ns - begin_ns;
	}
	pthread_mutex_unlock(&stream->lock);
}

void stream_uploading_since(struct stream *stream, uint64_t since_ns)
{
	pthread_mutex_lock(&stream->lock);
	if (!stream->write_ns)
		stream->write_ns = since_ns;
	pthread_mutex_unlock(&stream->lock);
}

void stream_uploading(struct stream *stream)
{
	stream_uploading_since(stream, clock_now_ns());
}

void stream_reading(struct stream *stream)
{
	pthread_mutex_lock(&stream->lock);
	stream->reading = true;
	pthread_mutex_unlock(&stream->lock);
}

void stream_spoil(struct stream *stream)
{
	pthread_mutex_lock(&stream->lock);
	stream->now.spoiled |= stream->now.begun;
	pthread_mutex_unlock(&stream->lock);
}

/* The caller holds the lock. The kind of a segment is known only at its end. */
static unsigned close_segment(struct stream *stream, enum boundary_wait wait)
{
	enum tokens_kind kind;
	uint64_t hash, arguments;

	if (!boundary_closes(&stream->boundary, wait))
		return MARK_NONE;
	hash = boundary_now(&stream->boundary);
	arguments = stream->arguments ? boundary_hash(hash, &stream->arguments, sizeof(hash)) : 0;
	kind = tokens_end(&stream->tokens, hash, arguments);
	stream->arguments = 0;
	if (stream->now.begun && stream->now.kind != kind)
		stream->now.cancel = true;
	return boundary_wait(&stream->boundary, wait, kind != TOKENS_NONE);
}

/* The caller holds the lock. Everything launched is complete, and the host knows it. */
static void waited(struct stream *stream, enum boundary_wait kind, uint64_t now_ns, struct outcome *outcome)
{
	stream->now.partial |= stream->passing; /* complete before the driver returned its tokens */
	if (stream->now.count > 0)
		stream->now.records[stream->now.count - 1].sync = true;
	if (stream->reading && (kind == WAIT_EVENT || core.config.boundary.rule == BOUNDARY_READ))
		kind = WAIT_READ;
	stream->reading = false;
	stream->write_ns = 0;
	stream->overlaps = 0;
	resume(stream, STREAM_ALL, now_ns, outcome);
	apply_marks(stream, close_segment(stream, kind), now_ns, outcome);
	stream->mark_ns = now_ns;
}

/* The caller holds the lock. Part of what was launched is complete. If waits never cover
 * everything, inferences overlap. */
static void waited_in_part(struct stream *stream, uint64_t through, uint64_t now_ns, struct outcome *outcome)
{
	resume(stream, through, now_ns, outcome);
	stream->mark_ns = now_ns;
	if (core.config.boundary.rule < BOUNDARY_KERNEL && !boundary_why(&stream->boundary) &&
	    ++stream->overlaps >= OVERLAP_BELIEVED)
		outcome->overlapping = stream->launches - stream->overlap_at;
	stream->overlap_at = stream->launches;
}

void stream_waited(struct stream *stream, enum boundary_wait kind, uint64_t through)
{
	uint64_t now_ns = clock_now_ns();
	struct outcome outcome = {0};

	pthread_mutex_lock(&stream->lock);
	if (through > stream->commands && through < STREAM_ALL && stream->launched > stream->commands)
		stream->early_ns = now_ns;
	if (through < stream->launched) {
		waited_in_part(stream, through, now_ns, &outcome);
	} else {
		if (stream->launched > stream->blocked_at) { /* this is the program's way to wait */
			stream->most = stream->soft > stream->most ? stream->soft : stream->most;
			stream->soft = stream->polls = stream->calls = 0;
			stream->blocked_at = stream->launched;
		}
		waited(stream, kind, now_ns, &outcome);
	}
	pthread_mutex_unlock(&stream->lock);
	report_wait(stream, &outcome, true);
}

void stream_polled(struct stream *stream, uint64_t number, bool complete)
{
	uint64_t now_ns = clock_now_ns();
	struct outcome outcome = {0};

	pthread_mutex_lock(&stream->lock);
	if (complete && number > stream->commands && stream->launched > stream->commands)
		stream->early_ns = now_ns;
	if (number < stream->commands || number < stream->launched) {
		if (complete)
			resume(stream, number, now_ns, &outcome);
	} else if (complete) {
		stream->polls += stream->polled;
		stream->soft += stream->polled;
		stream->polled = false;
		if (core.backend->polls_believed == 0 ||
		    stream->polls >= core.backend->polls_believed + HARD_SHARE * stream->most)
			waited(stream, WAIT_EVENT, now_ns, &outcome);
	} else {
		stream->polled = true;
	}
	pthread_mutex_unlock(&stream->lock);
	report_wait(stream, &outcome, true);
}

uint64_t stream_calling(struct stream *stream, uint64_t number)
{
	uint64_t ticket = 0;

	pthread_mutex_lock(&stream->lock);
	if (number == stream->commands) {
		if (stream->commands - stream->called_at > 1)
			ticket = stream->commands * LAYER_STREAMS_MAX + stream_index(stream);
		else /* a callback for every command serves clean-up, not waiting */
			stream->calls = 0;
		stream->called_at = stream->commands;
	}
	pthread_mutex_unlock(&stream->lock);
	return ticket;
}

void stream_called(uint64_t ticket)
{
	uint64_t now_ns = clock_now_ns();
	struct stream *stream = &streams[ticket % LAYER_STREAMS_MAX];
	struct outcome outcome = {0};

	pthread_mutex_lock(&stream->lock);
	if (stream->commands != ticket / LAYER_STREAMS_MAX || stream->launched > stream->commands || !stream->used) {
		stream->calls = 0; /* the program continued without waiting */
	} else {
		stream->soft++;
		if (++stream->calls >= CALLS_BELIEVED + HARD_SHARE * stream->most)
			waited(stream, WAIT_EVENT, now_ns, &outcome);
	}
	pthread_mutex_unlock(&stream->lock);
	report_wait(stream, &outcome, false);
}

uint32_t stream_holds(const void *object)
{
	uint32_t held = 0;

	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++) {
		struct stream *stream = &streams[i];

		if (!stream->used)
			continue;
		pthread_mutex_lock(&stream->lock);
		held += task_holds(&stream->now, object);
		for (size_t j = 0; j < stream->pendings; j++)
			held += task_holds(&stream->pending[j], object);
		pthread_mutex_unlock(&stream->lock);
	}
	return held;
}

void streams_leave(void)
{
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++)
		if (streams[i].used && streams[i].session)
			session_leave(streams[i].session);
}

void streams_stop(void)
{
	pthread_once(&once, init_streams);
	for (size_t i = 0; i < LAYER_STREAMS_MAX; i++)
		stop(&streams[i]);
}
