/* SPDX-License-Identifier: MIT */
/* The stand-in libcuda.so.1: what its files share. It behaves as the CUDA
 * Driver API reference says, refuses what the reference forbids, and gives
 * kernels a time that follows the clocks of a board in a directory
 * ($FLAMED_BOARD). A module's image is text, see standin_module.c. */
#ifndef TESTS_CUDA_STANDIN_H
#define TESTS_CUDA_STANDIN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "../../board/lane.h"
#include "../../layers/cuda/api.h"

#define EXPORT      __attribute__((visibility("default")))
#define NODES_MAX   8192 /* of a graph */
#define STREAMS_MAX 512

enum magic { DEAD = 0xdead, CONTEXT = 0xc0, MODULE, FUNCTION, STREAM, EVENT, GRAPH, GRAPH_EXEC };

/* Every handle begins with one; it is never freed, so that use after destruction is seen. */
struct handle {
	_Atomic enum magic magic;
	struct handle *next;
};

struct function {
	struct handle handle;
	char name[64];
	struct step_cost cost; /* of one block of threads */
	float a, b;            /* x[i] = x[i] * a + b * (i % 7) + argument */
	unsigned n;            /* elements */
	bool sink;             /* checked and counted, never executed */
	struct module *module;
	struct function *next;
};

struct module {
	struct handle handle;
	struct function *functions;
	struct step_cost launch, graph; /* host side of a launch, of a graph's launch */
};

struct event;
struct stream;

enum op_kind { OP_KERNEL, OP_COPY, OP_SET, OP_HOST, OP_CALLBACK, OP_RECORD, OP_WAIT_EVENT, OP_WAIT_STREAM };

struct op {
	enum op_kind kind;
	struct stream *stream;
	struct function *function;
	unsigned blocks;
	float argument;
	void *to;
	const void *from;
	size_t bytes;
	unsigned char value;
	CUhostFn host;
	CUstreamCallback callback;
	void *arg;
	uint32_t correlation; /* of the launch, where somebody traces */
	struct event *event;
	uint64_t generation; /* of the event */
	struct stream *other;
	uint64_t other_seq;
};

struct graph {
	struct handle handle;
	struct op *ops;
	size_t count;
};

struct graph_exec {
	struct handle handle;
	struct op *ops;
	size_t count;
};

struct capture {
	uint64_t id;
	CUstreamCaptureMode mode;
	pthread_t thread;
	struct stream *origin;
	struct graph *graph;
	bool invalid;
	struct capture *next;
};

struct stream {
	struct handle handle;
	struct lane lane;
	bool blocking; /* synchronises with the legacy stream */
	struct capture *capture;
	bool unjoined;            /* captured work that the origin does not wait for yet */
	uint64_t pushed, done;    /* operations; under `state` */
	uint64_t end_ns, due_ns;  /* of the last one done */
	struct module *host_cost; /* whose launches it saw last */
};

struct event {
	struct handle handle;
	bool timing;
	uint64_t generation, done; /* records asked for, and reached */
	uint64_t at_ns, due_ns;
	struct capture *capture; /* recorded in one: it has no completion of its own */
	struct stream *captured_in;
};

struct counter {
	const char *name;
	_Atomic unsigned long calls, errors;
	_Atomic int last_error;
	struct counter *next;
	atomic_bool listed;
};

/* One for everything that several threads see. Never held while anything blocks. */
extern pthread_mutex_t state;
extern pthread_cond_t progress;
extern __thread bool per_thread_default; /* a _ptsz function was called */
extern __thread bool in_callback;        /* a function of the program's runs: no call is permitted */

CUresult enter(struct counter *counter, bool context);
CUresult leave(struct counter *counter, CUresult rc);
/* Every exported function begins with one of these and ends with RETURN. */
#define ENTER_ANY(context) \
	static struct counter counter_ = {.name = __func__}; \
	CUresult entered_ = enter(&counter_, context); \
	if (entered_ != CUDA_SUCCESS) \
	return leave(&counter_, entered_)
#define ENTER      ENTER_ANY(true)
#define RETURN(rc) return leave(&counter_, rc)

void *handle_new(size_t size, enum magic magic);
bool alive(const void *handle, enum magic magic);

/* standin_stream.c */
struct board_page *standin_page(void);
/* NULL and *rc where the handle is none. */
struct stream *stream_of(CUstream handle, CUresult *rc);
/* Enqueue, or add to the graph that the stream is captured into. */
CUresult stream_push(struct stream *stream, const struct op *op);
/* With `state` held: the call is forbidden while something is captured, and ends the capture. */
CUresult unsafe_during_capture(void);
/* The same, without `state` held. */
CUresult unsafe(void);
void invalidate(struct capture *capture);
bool capture_over(struct capture *capture);
extern struct capture *captures; /* under way */
/* Host time of a launch, in the calling thread, at the board's CPU clock. */
uint64_t host_work(const struct step_cost *cost, uint64_t *prompt_ns);
void host_uploads(void);
void host_waited(struct stream *stream);
void stream_wait_idle(struct stream *stream);
void streams_wait_idle(void);
struct stream *legacy_stream(void);
/* Streams alive, with `state` held. */
size_t streams_list(struct stream **out, size_t room);
/* Every operation of a graph, for the host cost of one launch. */
CUresult stream_push_graph(struct stream *stream, const struct op *ops, size_t count);
void standin_report(void);
/* A launch by this entry point begins in this thread: X and X_ptsz have callback numbers of CUPTI's. */
void standin_launching(unsigned number, unsigned number_ptsz);

#endif
