/* SPDX-License-Identifier: MIT */
/* The stand-in's streams, launches and waits: each stream is a worker thread, a lane of the emulated board. */
#include "standin.h"
#include "standin_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../board/waits.h"
#include "../../common/clock.h"

#define CATCH_UP_NS (2 * NS_PER_MS) /* further behind than that, the host was waiting, not slow */
#define FALLBACK_HZ 1000000000U     /* of every clock where there is no board */

static struct board_page *page;
static pthread_once_t page_once = PTHREAD_ONCE_INIT;
static struct stream *streams[STREAMS_MAX]; /* alive; under `state` */
static size_t stream_count;
static struct stream *legacy;
static __thread struct stream *of_thread;
static struct waits waits;
static _Atomic unsigned long launches;

static __thread struct {
	uint64_t at_ns,
		prompt_ns; /* where the host is by the board's CPU clock; and had this machine never been late */
	uint64_t first_ns, since_ns, launches;
} host;

static void attach(void)
{
	static struct board_page fallback;
	const char *dir = getenv("FLAMED_BOARD");
	int rc = 0;

	page = dir ? page_attach(dir, &rc) : NULL;
	if (dir && !page)
		fprintf(stderr, "flamed-standin-cuda: no board in %s: %s\n", dir, strerror(-rc));
	if (page)
		return;
	for (int c = 0; c < CLOCK_COUNT; c++) {
		fallback.hz[c] = FALLBACK_HZ;
		fallback.max_hz[c] = FALLBACK_HZ;
	}
	page = &fallback;
}

struct board_page *standin_page(void)
{
	pthread_once(&page_once, attach);
	return page;
}

void standin_report(void)
{
	if (!getenv("FLAMED_BOARD") || waits.count == 0)
		return;
	fprintf(stderr, "flamed-standin-cuda: %lu launches; waits %.2f %% too long\n", launches,
		waits_late_percent(&waits));
	waits_write(&waits, getenv("FLAMED_BOARD_WAITS"));
}

/* The host's side */

uint64_t host_work(const struct step_cost *cost, uint64_t *prompt_ns)
{
	uint64_t now_ns = clock_now_ns(), base_hz = FALLBACK_HZ;
	double left = cost->launch_cycles / (double)base_hz * NS_PER_S; /* at FALLBACK_HZ */

	atomic_fetch_add_explicit(&launches, 1, memory_order_relaxed);
	if (host.launches == 0 || now_ns > host.at_ns + CATCH_UP_NS)
		host.at_ns = now_ns;
	if (host.launches++ == 0)
		host.prompt_ns = host.at_ns;
	if (host.first_ns == 0)
		host.first_ns = now_ns;
	host.at_ns += (uint64_t)cost->launch_ns;
	host.prompt_ns += (uint64_t)cost->launch_ns;
	while (left >= 1) {
		double stretch = (double)base_hz / (double)page_hz(standin_page(), CLOCK_CPU);
		double step = left * stretch < (double)LANE_SLICE_NS ? left * stretch : (double)LANE_SLICE_NS;

		page_busy(standin_page(), CLOCK_CPU, (uint64_t)step, (uint64_t)step);
		host.at_ns += (uint64_t)step;
		host.prompt_ns += (uint64_t)step;
		left -= step / stretch;
		if (left >= 1)
			lane_sleep_until(host.at_ns);
	}
	*prompt_ns = host.prompt_ns;
	return host.at_ns;
}

void host_uploads(void)
{
	if (host.first_ns == 0)
		host.first_ns = clock_now_ns();
}

void host_waited(struct stream *stream)
{
	uint64_t now_ns = clock_now_ns();

	pthread_mutex_lock(&state);
	if (host.since_ns && host.launches > 0 && stream->end_ns > host.since_ns && stream->end_ns <= now_ns)
		waits_add(&waits, &(struct wait){.launches = host.launches,
						 .at_ns = now_ns,
						 .since_ns = host.since_ns,
						 .first_ns = host.first_ns,
						 .end_ns = stream->end_ns,
						 .due_ns = stream->due_ns});
	pthread_mutex_unlock(&state);
	host.at_ns = host.since_ns = now_ns;
	host.launches = host.first_ns = 0;
}

/* Tracing */

static _Atomic(const struct standin_trace *) tracer;
static __thread uint32_t correlation; /* of the launch under way */

EXPORT void standin_set_trace(const struct standin_trace *trace)
{
	tracer = trace;
}

void standin_launching(unsigned number, unsigned number_ptsz)
{
	const struct standin_trace *trace = tracer;

	correlation = trace ? trace->launching(per_thread_default ? number_ptsz : number) : 0;
}

/* The device's side */

static void compute(const struct op *op)
{
	float *x = op->to;

	for (unsigned i = 0; i < op->function->n; i++)
		x[i] = x[i] * op->function->a + op->function->b * (float)(i % 7) + op->argument;
}

/* The effect of an operation, in the lane's thread. */
static void perform(void *arg, struct lane_item *item)
{
	struct op *op = item->ticket;

	(void)arg;
	switch (op->kind) {
	case OP_KERNEL: compute(op); break;
	case OP_COPY: memcpy(op->to, op->from, op->bytes); break;
	case OP_SET: memset(op->to, op->value, op->bytes); break;
	case OP_HOST:
		in_callback = true;
		op->host(op->arg);
		in_callback = false;
		break;
	case OP_CALLBACK:
		in_callback = true;
		op->callback((CUstream)op->stream, CUDA_SUCCESS, op->arg);
		in_callback = false;
		break;
	case OP_RECORD: break;
	case OP_WAIT_EVENT:
	case OP_WAIT_STREAM:
		pthread_mutex_lock(&state);
		while (op->kind == OP_WAIT_EVENT ? op->event->done < op->generation : op->other->done < op->other_seq)
			pthread_cond_wait(&progress, &state);
		if (op->kind == OP_WAIT_EVENT && op->event->done == op->generation && op->event->at_ns > item->end_ns) {
			item->end_ns = op->event->at_ns;
			item->due_ns = op->event->due_ns > item->due_ns ? op->event->due_ns : item->due_ns;
		} else if (op->kind == OP_WAIT_STREAM && op->other->end_ns > item->end_ns) {
			item->end_ns = op->other->end_ns;
			item->due_ns = op->other->due_ns > item->due_ns ? op->other->due_ns : item->due_ns;
		}
		pthread_mutex_unlock(&state);
		break;
	}
}

static void performed(void *arg, struct lane_item *item)
{
	struct stream *stream = arg;
	struct op *op = item->ticket;

	if (op->kind == OP_KERNEL && op->correlation && tracer)
		tracer->executed(op->correlation, item->start_ns, item->end_ns);
	pthread_mutex_lock(&state);
	stream->done++;
	stream->end_ns = item->end_ns;
	stream->due_ns = item->due_ns;
	if (op->kind == OP_RECORD) {
		op->event->done = op->generation;
		op->event->at_ns = item->end_ns;
		op->event->due_ns = item->due_ns;
	}
	pthread_cond_broadcast(&progress);
	pthread_mutex_unlock(&state);
	free(op);
}

static struct stream *stream_new(bool blocking)
{
	struct stream *stream = handle_new(sizeof(*stream), STREAM);
	const struct lane_ops ops = {perform, performed, stream};

	stream->blocking = blocking;
	if (lane_start(&stream->lane, standin_page(), &ops) != 0)
		return NULL;
	pthread_mutex_lock(&state);
	if (stream_count == STREAMS_MAX)
		abort();
	streams[stream_count++] = stream;
	pthread_mutex_unlock(&state);
	return stream;
}

static void make_legacy(void)
{
	legacy = stream_new(false);
}

struct stream *legacy_stream(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_legacy);
	return legacy;
}

struct stream *stream_of(CUstream handle, CUresult *rc)
{
	if (!handle)
		handle = per_thread_default ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
	if (handle == CU_STREAM_LEGACY)
		return legacy_stream();
	if (handle == CU_STREAM_PER_THREAD) {
		if (!of_thread)
			of_thread = stream_new(true);
		return of_thread;
	}
	if (alive(handle, STREAM))
		return (struct stream *)handle;
	*rc = CUDA_ERROR_INVALID_HANDLE;
	return NULL;
}

/* Pass an operation to the lane. The operations to wait for are read with `state` held. */
static void enqueue(struct stream *stream, const struct op *op, uint64_t launched_ns, uint64_t prompt_ns)
{
	struct op *copy = malloc(sizeof(*copy));
	struct lane_item item = {.launched_ns = launched_ns, .prompt_ns = prompt_ns, .ticket = copy};

	if (!copy)
		abort();
	*copy = *op;
	copy->stream = stream;
	if (op->kind == OP_KERNEL) {
		copy->correlation = correlation;
		item.cost = op->function->cost;
		item.cost.gpu_cycles *= op->blocks;
		item.cost.mem_cycles *= op->blocks;
	}
	pthread_mutex_lock(&state);
	stream->pushed++;
	if (op->kind == OP_RECORD)
		copy->generation = ++op->event->generation;
	if (op->kind == OP_WAIT_EVENT)
		copy->generation = op->event->generation;
	pthread_mutex_unlock(&state);
	lane_push(&stream->lane, &item);
}

/* The legacy stream waits for every blocking one, and each of them for it. */
static void order(struct stream *stream, uint64_t at_ns)
{
	struct op wait[STREAMS_MAX];
	size_t count = 0;

	pthread_mutex_lock(&state);
	for (size_t i = 0; i < stream_count; i++) {
		struct stream *other = streams[i];
		bool bound = stream == legacy ? other->blocking : stream->blocking && other == legacy;

		if (bound && other->done < other->pushed)
			wait[count++] = (struct op){.kind = OP_WAIT_STREAM, .other = other, .other_seq = other->pushed};
	}
	pthread_mutex_unlock(&state);
	for (size_t i = 0; i < count; i++)
		enqueue(stream, &wait[i], at_ns, at_ns);
}

CUresult stream_push(struct stream *stream, const struct op *op)
{
	CUresult rc = CUDA_SUCCESS;
	uint64_t launched_ns, prompt_ns = 0;

	legacy_stream();
	pthread_mutex_lock(&state);
	if (stream == legacy)
		for (struct capture *c = captures; c; c = c->next)
			if (c->origin->blocking) {
				invalidate(c);
				rc = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
			}
	if (rc == CUDA_SUCCESS && stream->capture) {
		struct graph *graph = stream->capture->graph;

		rc = stream->capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
		if (rc == CUDA_SUCCESS && graph->count < NODES_MAX) {
			graph->ops[graph->count++] = *op;
			stream->unjoined = stream != stream->capture->origin;
		}
		pthread_mutex_unlock(&state);
		return rc;
	}
	pthread_mutex_unlock(&state);
	if (rc != CUDA_SUCCESS)
		return rc;
	if (op->kind == OP_KERNEL) {
		launched_ns = host_work(&op->function->module->launch, &prompt_ns);
	} else {
		launched_ns = clock_now_ns();
		prompt_ns = op->kind == OP_RECORD ? 0 : host.launches > 0 ? host.prompt_ns : launched_ns;
	}
	if (op->kind == OP_RECORD && host.at_ns > launched_ns)
		launched_ns = host.at_ns;
	order(stream, launched_ns);
	enqueue(stream, op, launched_ns, prompt_ns);
	if (op->kind == OP_KERNEL)
		lane_sleep_until(launched_ns);
	return CUDA_SUCCESS;
}

void stream_wait_idle(struct stream *stream)
{
	uint64_t until;

	pthread_mutex_lock(&state);
	until = stream->pushed;
	while (stream->done < until)
		pthread_cond_wait(&progress, &state);
	pthread_mutex_unlock(&state);
}

size_t streams_list(struct stream **out, size_t room)
{
	size_t count = stream_count < room ? stream_count : room;

	memcpy(out, streams, count * sizeof(struct stream *));
	return count;
}

void streams_wait_idle(void)
{
	struct stream *all[STREAMS_MAX];
	size_t count;

	pthread_mutex_lock(&state);
	count = streams_list(all, STREAMS_MAX);
	pthread_mutex_unlock(&state);
	for (size_t i = 0; i < count; i++)
		stream_wait_idle(all[i]);
}

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
	ENTER;
	if (flags & ~1U)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	*stream = (CUstream)stream_new(!(flags & CU_STREAM_NON_BLOCKING));
	RETURN(*stream ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

EXPORT CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority)
{
	(void)priority;
	return cuStreamCreate(stream, flags);
}

EXPORT CUresult cuStreamGetFlags(CUstream handle, unsigned int *flags)
{
	CUresult rc = CUDA_SUCCESS;
	const struct stream *stream;

	ENTER;
	stream = stream_of(handle, &rc);
	if (stream)
		*flags = stream->blocking ? 0 : CU_STREAM_NON_BLOCKING;
	RETURN(rc);
}

EXPORT CUresult cuStreamDestroy_v2(CUstream handle)
{
	struct stream *stream = (struct stream *)handle;

	ENTER;
	if (!alive(handle, STREAM))
		RETURN(CUDA_ERROR_INVALID_HANDLE);
	pthread_mutex_lock(&state);
	if (stream->capture && stream->capture->origin == stream)
		capture_over(stream->capture);
	else if (stream->capture)
		invalidate(stream->capture);
	stream->handle.magic = DEAD;
	for (size_t i = 0; i < stream_count; i++)
		if (streams[i] == stream)
			streams[i--] = streams[--stream_count];
	pthread_mutex_unlock(&state);
	lane_stop(&stream->lane); /* queued operations are still executed */
	RETURN(CUDA_SUCCESS);
}

/* Waits. All of them end a capture that they touch. */

static CUresult before_wait(const struct stream *stream)
{
	CUresult rc;

	pthread_mutex_lock(&state);
	rc = unsafe_during_capture();
	if (stream && stream->capture) {
		invalidate(stream->capture);
		rc = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	pthread_mutex_unlock(&state);
	return rc;
}

EXPORT CUresult cuStreamSynchronize(CUstream handle)
{
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream;

	ENTER;
	stream = stream_of(handle, &rc);
	if (stream)
		rc = before_wait(stream);
	if (rc != CUDA_SUCCESS)
		RETURN(rc);
	stream_wait_idle(stream);
	if (stream == legacy)
		streams_wait_idle();
	host_waited(stream);
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuStreamQuery(CUstream handle)
{
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream;
	bool busy;

	ENTER;
	stream = stream_of(handle, &rc);
	if (stream)
		rc = before_wait(stream);
	if (rc != CUDA_SUCCESS)
		RETURN(rc);
	pthread_mutex_lock(&state);
	busy = stream->done < stream->pushed;
	pthread_mutex_unlock(&state);
	if (!busy && host.launches > 0)
		host_waited(stream);
	RETURN(busy ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS);
}

EXPORT CUresult cuCtxSynchronize(void)
{
	CUresult rc = CUDA_SUCCESS;

	ENTER;
	pthread_mutex_lock(&state);
	for (struct capture *c = captures; c; c = c->next) {
		invalidate(c);
		rc = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	pthread_mutex_unlock(&state);
	if (rc != CUDA_SUCCESS)
		RETURN(rc);
	streams_wait_idle();
	host_waited(legacy_stream());
	RETURN(CUDA_SUCCESS);
}

/* Launches */

static CUresult launch(CUfunction f, unsigned blocks, unsigned threads, CUstream where, void **params)
{
	struct function *function = (struct function *)f;
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream = stream_of(where, &rc);
	struct op op = {.kind = OP_KERNEL, .function = function, .blocks = blocks};

	if (!stream)
		return rc;
	if (!alive(f, FUNCTION))
		return CUDA_ERROR_INVALID_HANDLE;
	if (blocks == 0 || threads == 0 || threads > 1024)
		return CUDA_ERROR_INVALID_VALUE;
	if (function->sink) {
		atomic_fetch_add_explicit(&launches, 1, memory_order_relaxed);
		return CUDA_SUCCESS;
	}
	if (!params || !params[0] || !params[1])
		return CUDA_ERROR_INVALID_VALUE;
	op.to = (void *)(uintptr_t) * (CUdeviceptr *)params[0];
	op.argument = *(float *)params[1];
	stream->host_cost = function->module;
	return stream_push(stream, &op);
}

EXPORT CUresult cuLaunchKernel(CUfunction f, DIMS, CUstream stream, void **params, void **extra)
{
	ENTER;
	(void)shared, (void)extra;
	standin_launching(307, 442);
	RETURN(launch(f, gx * gy * gz, bx * by * bz, stream, params));
}

EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **params, void **extra)
{
	ENTER;
	(void)extra;
	if (!config)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	standin_launching(652, 653);
	RETURN(launch(f, config->gridDimX * config->gridDimY * config->gridDimZ,
		      config->blockDimX * config->blockDimY * config->blockDimZ, config->hStream, params));
}

EXPORT CUresult cuLaunchCooperativeKernel(CUfunction f, DIMS, CUstream stream, void **params)
{
	ENTER;
	(void)shared;
	standin_launching(477, 478);
	RETURN(launch(f, gx * gy * gz, bx * by * bz, stream, params));
}

EXPORT CUresult cuLaunchHostFunc(CUstream handle, CUhostFn fn, void *arg)
{
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream;

	ENTER;
	stream = stream_of(handle, &rc);
	if (!stream || !fn)
		RETURN(stream ? CUDA_ERROR_INVALID_VALUE : rc);
	RETURN(stream_push(stream, &(struct op){.kind = OP_HOST, .host = fn, .arg = arg}));
}

EXPORT CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback callback, void *arg, unsigned int flags)
{
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream;

	ENTER;
	stream = stream_of(handle, &rc);
	if (!stream || !callback || flags)
		RETURN(stream ? CUDA_ERROR_INVALID_VALUE : rc);
	pthread_mutex_lock(&state);
	if (stream->capture) { /* cannot be captured */
		invalidate(stream->capture);
		rc = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	pthread_mutex_unlock(&state);
	if (rc != CUDA_SUCCESS)
		RETURN(rc);
	RETURN(stream_push(stream, &(struct op){.kind = OP_CALLBACK, .callback = callback, .arg = arg}));
}

/* Graph launches (standin_graph.c) go the same way, one host cost for all. */
CUresult stream_push_graph(struct stream *stream, const struct op *ops, size_t count)
{
	static const struct step_cost nothing;
	const struct step_cost *cost = &nothing;
	uint64_t launched_ns, prompt_ns = 0;

	if (stream->capture)
		return CUDA_ERROR_NOT_SUPPORTED; /* child graphs: not modelled */
	for (size_t i = 0; i < count && cost == &nothing; i++)
		if (ops[i].kind == OP_KERNEL)
			cost = &ops[i].function->module->graph;
	launched_ns = host_work(cost, &prompt_ns);
	legacy_stream();
	order(stream, launched_ns);
	for (size_t i = 0; i < count; i++)
		enqueue(stream, &ops[i], launched_ns, prompt_ns);
	lane_sleep_until(launched_ns);
	return CUDA_SUCCESS;
}
