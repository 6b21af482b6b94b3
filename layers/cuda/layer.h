/* SPDX-License-Identifier: MIT */
/* The CUDA layer, a back end of layers/core: a library that is preloaded and
 * replaces some entry points of the CUDA driver. State shared by its files.
 *
 *	resolve.c   dlsym() and cuGetProcAddress(), which return ours instead of the driver's
 *	dispatch.c  the entry points
 *	track.c     which stream of the core a CUDA stream, an event, an inference belongs to
 *	graph.c     captures, graphs, and names of kernels
 *	event.c     pooled events, for times of launches
 *	profiler.c  CUPTI instead of events, on request; cupti/ is its library
 *	nvtx.c      ranges that the program names itself
 *
 * The layer never waits for the device, and neither records nor queries anything in a stream that is captured. */
#ifndef LAYERS_CUDA_LAYER_H
#define LAYERS_CUDA_LAYER_H

#include "../core/stream.h"
#include "api.h"
#include "names.h"

/* The explicit name of a default stream, whichever variant was called. */
static inline CUstream named_stream(CUstream handle, bool per_thread)
{
	return handle ? handle : per_thread ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
}

#define CUDA_EXPORT __attribute__((visibility("default")))
#define TRACKS_MAX  128 /* CUDA streams known at the same time; further ones are not observed */

/* resolve.c */
extern void *cuda_real[FN_COUNT];
/* This thread is given the driver's functions as they are. */
extern __thread bool cuda_unwrapped;
/* The driver's own function, NULL before the driver is loaded. The first call starts the layer. */
void *cuda_resolve(enum fn fn);
/* A driver function that is not wrapped; NULL if the driver lacks it. */
void *cuda_symbol(const char *name);

static inline void *cuda_fn(enum fn fn)
{
	return __builtin_expect(cuda_real[fn] != NULL, 1) ? cuda_real[fn] : cuda_resolve(fn);
}

/* layer.c. Read the environment, once; false if there is nothing to do. */
bool layer_begin(void);
/* Called once, when the driver is loaded. */
void cuda_start(void);
/* Driver functions that the layer calls itself; their errors are ignored. NULL: the driver lacks it. */
#define CUDA_OWN(X) \
	X(cuCtxGetCurrent) \
	X(cuDevicePrimaryCtxGetState) \
	X(cuEventCreate) \
	X(cuEventDestroy_v2) \
	X(cuEventRecord) \
	X(cuEventQuery) \
	X(cuEventElapsedTime) \
	X(cuStreamGetFlags) \
	X(cuStreamGetCaptureInfo_v2) \
	X(cuThreadExchangeStreamCaptureMode) \
	X(cuFuncGetName) \
	X(cuKernelGetName) \
	X(cuGraphGetNodes)
#define CUDA_OWN_FIELD(name) __typeof__(&name) name;
extern struct cuda_own {
	CUDA_OWN(CUDA_OWN_FIELD)
} own;

/* track.c. A CUDA stream as the program names it. */
struct track;
struct shot {                  /* a launch, or a launch of a graph, that is being made */
	struct stream *stream; /* NULL: not followed */
	CUstream handle;
	bool per_thread;
	struct track *track;
	struct launch_call call;
	struct launch_token token;
	uint64_t kernel;
	bool timed;
};
/* A launch outside a capture is about to be made; `replay`: of a graph. */
void track_launching(struct shot *shot, CUstream handle, bool per_thread, const struct launch *launches, size_t count,
		     bool replay);
void track_launched(struct shot *shot, bool taken);
/* A command other than a launch was enqueued. */
void track_enqueued(CUstream handle, bool per_thread);
void track_upload(CUstream handle, bool per_thread);
void track_download(CUstream handle, bool per_thread);
/* The commands that a wait covers: obtained before the wait, passed on after it. */
struct cover {
	struct stream *stream;
	const struct track *track; /* used if ranges are inferences and there is no stream */
	uint64_t through;
};
struct cover track_cover(CUstream handle, bool per_thread);
void track_waited(struct cover cover, enum boundary_wait kind);
/* The same for everything in streams that the legacy default stream waits for. */
void track_waited_legacy(enum boundary_wait kind);
void track_waited_all(CUcontext context);
void track_polled(struct cover cover, bool complete);
/* The ticket of a host function; see stream_calling(). */
uint64_t track_calling(CUstream handle, bool per_thread);
void track_called(uint64_t ticket);
void track_stream_gone(CUstream handle);
void track_event_recorded(CUevent event, CUstream handle, bool per_thread);
void track_event_gone(CUevent event);
struct cover track_event(CUevent event);
/* A stream continues after an event of another one. */
void track_joined(CUstream handle, bool per_thread, CUevent event);

/* graph.c */
extern _Atomic int captures; /* under way, in any thread */
/* Hash of a kernel's name, obtained when the program asks the driver for the kernel. */
void kernel_found(const void *function, const char *name);
uint64_t kernel_hash(const void *function);
const char *kernel_name(uint64_t hash);
/* `function` is another handle of `kernel`. */
void kernel_alias(const void *function, const void *kernel);
/* True if the launch was captured, and is not an execution. */
bool capture_takes(CUstream handle, bool per_thread, const struct launch *launch);
bool capturing(CUstream handle, bool per_thread);
/* Id of the capture that a stream is part of; 0: none. */
uint64_t capture_of(CUstream handle, bool per_thread);
void capture_begun(CUstream handle, bool per_thread);
/* The capture that began in this stream, if one did, is over; `graph` is NULL if it failed. */
void capture_ended(CUstream handle, bool per_thread, CUgraph graph);
void graph_gone(CUgraph graph);
void graph_cloned(CUgraph clone, CUgraph graph);
void exec_made(CUgraphExec exec, CUgraph graph);
void exec_gone(CUgraphExec exec);
/* A kernel of an executable graph was set to another launch. */
void exec_node_set(CUgraphExec exec, CUgraphNode node, const struct launch *launch);
/* A replay as the core sees it: its first kernel, and the rest; both have the identity of the whole graph, so that no
 * other graph that begins alike is taken for it. Returns the number of entries of `out` that are used. */
size_t exec_launches(CUgraphExec exec, struct launch out[2]);

/* event.c */
/* Record the event before a launch (`first`: right after the host has waited), and the one after
 * it. False: no times. */
bool event_before(struct launch_token *token, CUstream handle, bool per_thread, bool first);
bool event_after(struct launch_token *token, CUstream handle, bool per_thread, uint64_t launched_ns);
bool event_times(const struct launch_token *token, struct launch_times *out);
bool event_complete(const struct launch_token *token);
void event_release(const struct launch_token *token);
/* Forget the events of a context; NULL: of all contexts. */
void event_context_gone(CUcontext context);
/* Driver entry points must not be called inside a host function. */
extern __thread bool in_host_function;

static inline uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9fb21c651e98df25ULL;
	return hash ^ hash >> 32;
}

#endif
