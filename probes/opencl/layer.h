/* SPDX-License-Identifier: MIT */
/* The OpenCL layer from inside: what its files share.
 *
 *	dispatch.c  the functions a program calls instead of the driver's
 *	handles.c   what must be known of queues and kernels
 *	record.c    launches and waits of each thread, their events and times
 *	boundary.c  which of them make one inference
 *	session.c   the dialogue with flamed
 *	summary.c   what is written down for people
 *
 * Two rules keep a program alive. No lock is held while the driver is called
 * (it may call back into the program, and the program into us); and any fault
 * of ours ends in layer_off(), after which every call goes straight through. */
#ifndef PROBES_OPENCL_LAYER_H
#define PROBES_OPENCL_LAYER_H

#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#define CL_USE_DEPRECATED_OPENCL_2_0_APIS
#include <CL/cl_layer.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "../../common/kv.h"
#include "../../common/limits.h"
#include "boundary.h"

#define LAYER_QUEUES_MAX   256  /* queues known at a time; more are left alone */
#define LAYER_KERNELS_MAX  4096 /* kernel names remembered; more are asked for each time */
#define LAYER_NAMES_MAX    1024
#define LAYER_STREAMS_MAX  32   /* threads that launch, at a time; more are left alone */
#define LAYER_SUMMARY_MAX  262144 /* latencies kept for the quantiles */

/* What the environment asks for; see docs/opencl.md. Read once. */
struct layer_config {
	char model[MODEL_NAME_MAX + 1]; /* FLAMED_MODEL; "": named by fingerprint */
	uint64_t deadline_ns;           /* FLAMED_DEADLINE_NS; 0: none */
	bool profile;                   /* FLAMED_PROFILE */
	uint32_t budget;                /* FLAMED_BUDGET: points to measure at most; 0: flamed's choice */
	struct boundary_config boundary;/* FLAMED_BOUNDARY */
	const char *summary;            /* FLAMED_SUMMARY: a path, or the number of a descriptor */
	const char *trace;              /* FLAMED_TRACE: a path */
};

struct layer {
	cl_icd_dispatch target; /* the next layer or the driver */
	struct layer_config config;
	atomic_bool on;
	atomic_ulong launches;
};
extern struct layer layer;

static inline bool layer_on(void)
{
	return atomic_load_explicit(&layer.on, memory_order_relaxed);
}

/* One line on stderr, "flamed-opencl: ..."; the layer goes on. */
void layer_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, and the layer does nothing from here on. Not to be called with a
 * lock held. */
void layer_off(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* dispatch.c: fill in the functions that are intercepted. */
void dispatch_fill(cl_icd_dispatch *out);

/* handles.c. A queue as the program asked for it. */
struct queue_info {
	bool hidden;   /* profiling was added by us */
	bool profiled; /* kernels on it have times */
};

void queue_created(cl_command_queue queue, bool hidden, bool profiled, const cl_queue_properties *properties);
void queue_retained(cl_command_queue queue);
void queue_released(cl_command_queue queue);
/* True if known. `out` may be NULL. */
bool queue_lookup(cl_command_queue queue, struct queue_info *out);
/* Property list the program created it with, when it was changed by us:
 * length in bytes, 0 when it was not. */
size_t queue_properties(cl_command_queue queue, cl_queue_properties *out, size_t count);
bool queue_room(void); /* one more can be remembered */
/* Which stream launched on it last; -1: none. */
void queue_set_stream(cl_command_queue queue, int stream);
int queue_stream(cl_command_queue queue);
/* Changes whenever a queue or kernel is created: what was looked up before
 * may then be another object at the same address. */
unsigned handles_generation(void);

void kernel_created(cl_kernel kernel);
/* Hash of its name; 0 when the driver does not say. */
uint64_t kernel_name_hash(cl_kernel kernel);

/* The name behind a hash, or "?". */
const char *kernel_name(uint64_t hash);

/* record.c. One launch on its way through the driver. */
struct launch_call {
	int stream;  /* -1: not recorded */
	bool record; /* its event is wanted */
	bool last;   /* it ends an inference by the rule the user gave ... */
	bool changed; /* ... another one than announced */
	cl_event own; /* ours, when the program asked for none */
	uint64_t name, gap_ns, begin_ns;
};

/* A kernel, copy or fill is about to be enqueued; `identity` hashes name and
 * sizes. Returns where the driver is to put the event, `event` or our own. */
cl_event *record_launching(struct launch_call *call, cl_command_queue queue, uint64_t name, uint64_t identity, cl_event *event);
/* It was, with `result`; `event` as returned above. */
void record_launched(struct launch_call *call, cl_int result, cl_event *event);
/* Input is on its way to the device, an inference counts from here; a
 * non-blocking read is on its way back. */
void record_write(void);
void record_read(void);
/* A command that is no launch was enqueued without waiting for it; `event` is
 * the program's, NULL if it asked for none. */
void record_enqueued(cl_event event);
/* The driver was told to begin with what was launched, since `begin_ns`. */
void record_flushed(uint64_t begin_ns);
/* The host has waited. `queue` NULL: that of `event`. */
void record_waited(enum boundary_wait kind, cl_command_queue queue, cl_event event);
/* The program has asked how far a command is. Asking for the last one again
 * and again until it is complete is a wait like any other. */
void record_polled(cl_event event, cl_int status);
/* A callback was set for the end of a command: what to give record_called(),
 * 0 when nobody can be waiting for it. In the callback, before the program's
 * own: if nothing was enqueued meanwhile, time after time, the program waits
 * for it. */
uint64_t record_calling(cl_event event);
void record_called(uint64_t ticket);
/* References the layer itself holds to an event. */
cl_uint record_holds(cl_event event);

/* The program ends: what was ended is told to flamed. */
void record_leave(void);
/* Let every event and session go; the layer is off. */
void record_stop(void);

/* session.c. A stream's dialogue with flamed. No call into OpenCL from here;
 * every call takes the session's own lock. */
struct session;
struct flamed_layer;

struct session *session_new(void);
/* Leave flamed for good; the object stays. */
void session_stop(struct session *session);
/* The same at the end of the program, unless a thread is at it even now. */
void session_leave(struct session *session);
/* Leave flamed and be as new, for another thread. */
void session_reset(struct session *session);
/* A cycle was found; it will be called by this fingerprint. */
void session_found(struct session *session, uint64_t fingerprint);
/* An inference begins, after `spent_ns` on its input. May block, when
 * profiling only. Returns a request for the calls below (maybe negative, it is
 * passed on all the same); *layers: whether to record its layers. */
int64_t session_begin(struct session *session, uint64_t fingerprint, uint64_t spent_ns, bool *layers);
/* It took `total_ns` from its begin. Does not block unless it may; what is
 * put off then is done at the next begin. */
void session_end(struct session *session, int64_t request, uint64_t total_ns, const struct flamed_layer *layers, size_t count, bool may_block);
/* It was another one than announced: what began is taken back. */
void session_cancel(struct session *session, int64_t request);

/* summary.c. */
struct trace_row {
	uint64_t name, gap_ns, call_ns, wait_ns, run_ns;
	bool sync;
};
void summary_inference(uint64_t total_ns, bool missed);
void summary_point(uint64_t cpu_hz, uint64_t gpu_hz, uint64_t mem_hz);
void summary_model(const char *model);
/* Profiling is over: 0, or the error. Said at once. */
void summary_done(int rc);
uint64_t summary_inferences(void);
void summary_write(void);
void trace_inference(const struct trace_row *rows, size_t count);

#endif
