/* SPDX-License-Identifier: MIT */
/* The entry points that a program calls in place of the driver's. Each calls the driver's own, with
 * no lock held, and returns its result. */
#include "layer.h"

#include <stdlib.h>

#define DEVICES_MAX 16 /* of one launch: the largest system of one driver has 16 */

/* Two definitions of one entry point: for the legacy default stream, and for the per-thread default
 * stream. Both call DO(fn, per_thread, ...). */
#define ONE(name, per_thread, params, call) \
	CUDA_EXPORT CUresult name params; \
	CUDA_EXPORT CUresult name params \
	{ \
		const enum fn fn = FN_##name; \
		const bool own_default = per_thread; \
\
		(void)own_default; \
		return call; \
	}
#define BOTH(name, suffix, params, call) ONE(name, false, params, call) ONE(name##suffix, true, params, call)

/* In an expression: the driver's function behind `fn`, with the type of `name`. */
#define REAL(name) ((__typeof__(&name))cuda_fn(fn))
#define MISSING    CUDA_ERROR_NOT_INITIALIZED

static inline struct launch launch_of(const void *function, DIMS)
{
	uint64_t kernel = kernel_hash(function);
	uint64_t identity = mix(mix(kernel, gx | (uint64_t)gy << 32), gz | (uint64_t)bx << 32);

	return (struct launch){kernel, mix(mix(identity, by | (uint64_t)bz << 32), shared), (uint64_t)gx * gy * gz};
}

/* True if the launch is followed: call track_launched() after the driver. */
static inline bool before_launch(struct shot *shot, const struct launch *launch, CUstream stream, bool per_thread)
{
	if (__builtin_expect(captures > 0, 0) && capture_takes(stream, per_thread, launch))
		return false;
	track_launching(shot, stream, per_thread, launch, 1, false);
	return shot->stream != NULL;
}

#define LAUNCH(name, dims, stream, args) \
	({ \
		__typeof__(&name) real_ = REAL(name); \
		struct shot shot_; \
		CUresult rc_ = MISSING; \
\
		if (!real_ || !layer_on()) { \
			rc_ = real_ ? real_ args : MISSING; \
		} else { \
			struct launch launch_ = launch_of dims; \
			bool followed_ = before_launch(&shot_, &launch_, stream, own_default); \
\
			rc_ = real_ args; \
			if (followed_) \
				track_launched(&shot_, rc_ == CUDA_SUCCESS); \
		} \
		rc_; \
	})

BOTH(cuLaunchKernel, _ptsz, (CUfunction f, DIMS, CUstream stream, void **params, void **extra),
     LAUNCH(cuLaunchKernel, (f, DIMS_ARGS), stream, (f, DIMS_ARGS, stream, params, extra)))
BOTH(cuLaunchCooperativeKernel, _ptsz, (CUfunction f, DIMS, CUstream stream, void **params),
     LAUNCH(cuLaunchCooperativeKernel, (f, DIMS_ARGS), stream, (f, DIMS_ARGS, stream, params)))

static const CUlaunchConfig *config_or_none(const CUlaunchConfig *config)
{
	static const CUlaunchConfig none;

	return config ? config : &none; /* the driver reports this error */
}

BOTH(cuLaunchKernelEx, _ptsz, (const CUlaunchConfig *config, CUfunction f, void **params, void **extra), ({
	     const CUlaunchConfig *c = config_or_none(config);

	     LAUNCH(cuLaunchKernelEx,
		    (f, c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ,
		     c->sharedMemBytes),
		    c->hStream, (config, f, params, extra));
     }))

/* Before CUDA 4: the shape of the blocks was set beforehand, and is not known. */
ONE(cuLaunch, false, (CUfunction f), LAUNCH(cuLaunch, (f, 1, 1, 1, 0, 0, 0, 0), NULL, (f)))
ONE(cuLaunchGrid, false, (CUfunction f, int width, int height),
    LAUNCH(cuLaunchGrid, (f, (unsigned int)width, (unsigned int)height, 1, 0, 0, 0, 0), NULL, (f, width, height)))
ONE(cuLaunchGridAsync, false, (CUfunction f, int width, int height, CUstream stream),
    LAUNCH(cuLaunchGridAsync, (f, (unsigned int)width, (unsigned int)height, 1, 0, 0, 0, 0), stream,
	   (f, width, height, stream)))

/* A kernel on each of several devices, in a stream of each. */
static CUresult launch_multi(enum fn fn, CUDA_LAUNCH_PARAMS *list, unsigned int count, unsigned int flags)
{
	__typeof__(&cuLaunchCooperativeKernelMultiDevice) real = REAL(cuLaunchCooperativeKernelMultiDevice);
	struct shot shots[DEVICES_MAX] = {0};
	bool followed = list && real && layer_on();
	CUresult rc;

	if (followed && count > DEVICES_MAX) {
		layer_off("a launch on more than %d devices", DEVICES_MAX);
		followed = false;
	}
	for (unsigned int i = 0; i < count && followed; i++) {
		const CUDA_LAUNCH_PARAMS *one = &list[i];
		struct launch launch = launch_of(one->function, one->gridDimX, one->gridDimY, one->gridDimZ,
						 one->blockDimX, one->blockDimY, one->blockDimZ, one->sharedMemBytes);

		before_launch(&shots[i], &launch, one->hStream, false); /* there is no _ptsz variant */
	}
	rc = real ? real(list, count, flags) : MISSING;
	for (unsigned int i = 0; i < count && followed; i++)
		track_launched(&shots[i], rc == CUDA_SUCCESS);
	return rc;
}
ONE(cuLaunchCooperativeKernelMultiDevice, false, (CUDA_LAUNCH_PARAMS * list, unsigned int count, unsigned int flags),
    launch_multi(fn, list, count, flags))

static CUresult graph_launch(enum fn fn, bool per_thread, CUgraphExec exec, CUstream stream)
{
	__typeof__(&cuGraphLaunch) real = REAL(cuGraphLaunch);
	struct launch launches[2];
	struct shot shot;
	CUresult rc;

	if (!real || !layer_on() || capturing(stream, per_thread))
		return real ? real(exec, stream) : MISSING;
	track_launching(&shot, stream, per_thread, launches, exec_launches(exec, launches), true);
	rc = real(exec, stream);
	track_launched(&shot, rc == CUDA_SUCCESS);
	return rc;
}
BOTH(cuGraphLaunch, _ptsz, (CUgraphExec exec, CUstream stream), graph_launch(fn, own_default, exec, stream))

static CUresult named_kernel(CUresult rc, const void *const *out, const char *name)
{
	if (rc == CUDA_SUCCESS && out && name && layer_on())
		kernel_found(*out, name);
	return rc;
}
ONE(cuModuleGetFunction, false, (CUfunction * function, CUmodule module, const char *name),
    named_kernel(REAL(cuModuleGetFunction) ? REAL(cuModuleGetFunction)(function, module, name) : MISSING,
		 (const void *const *)function, name))
ONE(cuLibraryGetKernel, false, (CUkernel * kernel, CUlibrary library, const char *name),
    named_kernel(REAL(cuLibraryGetKernel) ? REAL(cuLibraryGetKernel)(kernel, library, name) : MISSING,
		 (const void *const *)kernel, name))

static CUresult kernel_function(enum fn fn, CUfunction *function, CUkernel kernel)
{
	CUresult rc = cuda_fn(fn) ? REAL(cuKernelGetFunction)(function, kernel) : MISSING;

	if (rc == CUDA_SUCCESS && function && layer_on())
		kernel_alias(*function, kernel);
	return rc;
}
ONE(cuKernelGetFunction, false, (CUfunction * function, CUkernel kernel), kernel_function(fn, function, kernel))

typedef CUresult begin_v1(CUstream stream);
typedef CUresult begin_graph(CUstream stream, CUgraph graph, const CUgraphNode *nodes, const CUgraphEdgeData *edges,
			     size_t count, CUstreamCaptureMode mode);

static CUresult begun(CUresult rc, CUstream stream, bool per_thread)
{
	if (rc == CUDA_SUCCESS && layer_on())
		capture_begun(stream, per_thread);
	return rc;
}
BOTH(cuStreamBeginCapture, _ptsz, (CUstream stream),
     begun(cuda_fn(fn) ? ((begin_v1 *)cuda_fn(fn))(stream) : MISSING, stream, own_default))
BOTH(cuStreamBeginCapture_v2, _ptsz, (CUstream stream, CUstreamCaptureMode mode),
     begun(cuda_fn(fn) ? REAL(cuStreamBeginCapture_v2)(stream, mode) : MISSING, stream, own_default))
BOTH(cuStreamBeginCaptureToGraph, _ptsz,
     (CUstream stream, CUgraph graph, const CUgraphNode *nodes, const CUgraphEdgeData *edges, size_t count,
      CUstreamCaptureMode mode),
     begun(cuda_fn(fn) ? ((begin_graph *)cuda_fn(fn))(stream, graph, nodes, edges, count, mode) : MISSING, stream,
	   own_default))

/* A capture may survive an attempt to end it from the wrong thread or stream. */
static CUresult end_capture(enum fn fn, bool per_thread, CUstream stream, CUgraph *graph)
{
	CUresult rc = cuda_fn(fn) ? REAL(cuStreamEndCapture)(stream, graph) : MISSING;

	if (layer_on() && !capturing(stream, per_thread))
		capture_ended(stream, per_thread, rc == CUDA_SUCCESS && graph ? *graph : NULL);
	return rc;
}
BOTH(cuStreamEndCapture, _ptsz, (CUstream stream, CUgraph *graph), end_capture(fn, own_default, stream, graph))

static CUresult made(CUresult rc, const CUgraphExec *exec, CUgraph graph)
{
	if (rc == CUDA_SUCCESS && exec && layer_on())
		exec_made(*exec, graph);
	return rc;
}
typedef CUresult instantiate_log(CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t size);
ONE(cuGraphInstantiate, false, (CUgraphExec * exec, CUgraph graph, CUgraphNode *node, char *log, size_t size),
    made(cuda_fn(fn) ? ((instantiate_log *)cuda_fn(fn))(exec, graph, node, log, size) : MISSING, exec, graph))
ONE(cuGraphInstantiate_v2, false, (CUgraphExec * exec, CUgraph graph, CUgraphNode *node, char *log, size_t size),
    made(cuda_fn(fn) ? REAL(cuGraphInstantiate_v2)(exec, graph, node, log, size) : MISSING, exec, graph))
ONE(cuGraphInstantiateWithFlags, false, (CUgraphExec * exec, CUgraph graph, unsigned long long flags),
    made(cuda_fn(fn) ? REAL(cuGraphInstantiateWithFlags)(exec, graph, flags) : MISSING, exec, graph))
BOTH(cuGraphInstantiateWithParams, _ptsz, (CUgraphExec * exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params),
     made(cuda_fn(fn) ? REAL(cuGraphInstantiateWithParams)(exec, graph, params) : MISSING, exec, graph))

typedef CUresult update_v1(CUgraphExec exec, CUgraph graph, CUgraphNode *node, CUgraphExecUpdateResult *result);
ONE(cuGraphExecUpdate, false, (CUgraphExec exec, CUgraph graph, CUgraphNode *node, CUgraphExecUpdateResult *result),
    made(cuda_fn(fn) ? ((update_v1 *)cuda_fn(fn))(exec, graph, node, result) : MISSING, &exec, graph))
ONE(cuGraphExecUpdate_v2, false, (CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info),
    made(cuda_fn(fn) ? REAL(cuGraphExecUpdate_v2)(exec, graph, info) : MISSING, &exec, graph))

/* Sets the parameters of one kernel of an executable graph: versions of CUDA 10 and 12, and a node of any kind. The
 * fields used here are the same in each. */
static CUresult node_set(CUresult rc, CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *params,
			 CUkernel kernel)
{
	const void *function = params && params->func ? (const void *)params->func : (const void *)kernel;
	struct launch launch;

	if (rc != CUDA_SUCCESS || !function || !layer_on())
		return rc;
	launch = launch_of(function, params->gridDimX, params->gridDimY, params->gridDimZ, params->blockDimX,
			   params->blockDimY, params->blockDimZ, params->sharedMemBytes);
	exec_node_set(exec, node, &launch);
	return rc;
}
typedef CUresult set_v1(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *params);
ONE(cuGraphExecKernelNodeSetParams, false,
    (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *params),
    node_set(cuda_fn(fn) ? ((set_v1 *)cuda_fn(fn))(exec, node, params) : MISSING, exec, node, params, NULL))
ONE(cuGraphExecKernelNodeSetParams_v2, false,
    (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v2 *params),
    node_set(cuda_fn(fn) ? REAL(cuGraphExecKernelNodeSetParams_v2)(exec, node, params) : MISSING, exec, node,
	     (const CUDA_KERNEL_NODE_PARAMS_v1 *)params, params ? params->kern : NULL))
ONE(cuGraphExecNodeSetParams, false, (CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *params), ({
	    CUresult rc = cuda_fn(fn) ? REAL(cuGraphExecNodeSetParams)(exec, node, params) : MISSING;
	    bool kernel = params && params->type == CU_GRAPH_NODE_TYPE_KERNEL;

	    node_set(rc, exec, node, kernel ? (const CUDA_KERNEL_NODE_PARAMS_v1 *)&params->kernel : NULL,
		     kernel ? params->kernel.kern : NULL);
    }))

/* Forget the handle first: the driver may reuse it at once. A layer that is off has nothing to forget, and in a forked
 * child a lock may be held by a thread that does not exist there. */
#define GONE(name, params, forget, args) \
	ONE(name, false, params, ({ \
		    if (layer_on()) \
			    forget; \
		    cuda_fn(fn) ? ((CUresult(*) params)cuda_fn(fn))args : MISSING; \
	    }))
GONE(cuGraphExecDestroy, (CUgraphExec exec), exec_gone(exec), (exec))
GONE(cuGraphDestroy, (CUgraph graph), graph_gone(graph), (graph))
GONE(cuStreamDestroy, (CUstream stream), (capture_ended(stream, false, NULL), track_stream_gone(stream)), (stream))
GONE(cuStreamDestroy_v2, (CUstream stream), (capture_ended(stream, false, NULL), track_stream_gone(stream)), (stream))
GONE(cuEventDestroy, (CUevent event), track_event_gone(event), (event))
GONE(cuEventDestroy_v2, (CUevent event), track_event_gone(event), (event))
GONE(cuCtxDestroy, (CUcontext context), event_context_gone(context), (context))
GONE(cuCtxDestroy_v2, (CUcontext context), event_context_gone(context), (context))
GONE(cuDevicePrimaryCtxReset, (CUdevice device), event_context_gone(NULL), (device))
GONE(cuDevicePrimaryCtxReset_v2, (CUdevice device), event_context_gone(NULL), (device))

/* The context is gone only if nothing else in the program retains it. */
static CUresult released(enum fn fn, CUdevice device)
{
	CUresult rc = cuda_fn(fn) ? REAL(cuDevicePrimaryCtxRelease_v2)(device) : MISSING;
	unsigned int flags = 0;
	int active = 0;

	if (rc != CUDA_SUCCESS || !layer_on())
		return rc;
	if (!own.cuDevicePrimaryCtxGetState ||
	    own.cuDevicePrimaryCtxGetState(device, &flags, &active) != CUDA_SUCCESS || !active)
		event_context_gone(NULL);
	return rc;
}
ONE(cuDevicePrimaryCtxRelease, false, (CUdevice device), released(fn, device))
ONE(cuDevicePrimaryCtxRelease_v2, false, (CUdevice device), released(fn, device))

static CUresult graph_clone(enum fn fn, CUgraph *clone, CUgraph graph)
{
	CUresult rc = cuda_fn(fn) ? REAL(cuGraphClone)(clone, graph) : MISSING;

	if (rc == CUDA_SUCCESS && clone && layer_on())
		graph_cloned(*clone, graph);
	return rc;
}
ONE(cuGraphClone, false, (CUgraph * clone, CUgraph graph), graph_clone(fn, clone, graph))

static CUresult stream_synchronize(enum fn fn, bool per_thread, CUstream stream)
{
	__typeof__(&cuStreamSynchronize) real = REAL(cuStreamSynchronize);
	struct cover cover;
	CUresult rc;

	if (!real || !layer_on())
		return real ? real(stream) : MISSING;
	cover = track_cover(stream, per_thread);
	rc = real(stream);
	if (rc != CUDA_SUCCESS)
		return rc;
	if ((!stream && !per_thread) || stream == CU_STREAM_LEGACY)
		track_waited_legacy(WAIT_FINISH);
	else
		track_waited(cover, WAIT_FINISH);
	return rc;
}
BOTH(cuStreamSynchronize, _ptsz, (CUstream stream), stream_synchronize(fn, own_default, stream))

static CUresult stream_query(enum fn fn, bool per_thread, CUstream stream)
{
	__typeof__(&cuStreamQuery) real = REAL(cuStreamQuery);
	struct cover cover;
	CUresult rc;

	if (!real || !layer_on())
		return real ? real(stream) : MISSING;
	cover = track_cover(stream, per_thread);
	rc = real(stream);
	if (rc == CUDA_SUCCESS || rc == CUDA_ERROR_NOT_READY)
		track_polled(cover, rc == CUDA_SUCCESS);
	return rc;
}
BOTH(cuStreamQuery, _ptsz, (CUstream stream), stream_query(fn, own_default, stream))

static CUresult context_waited(CUresult rc, CUcontext context)
{
	if (rc == CUDA_SUCCESS && layer_on()) {
		if (!context)
			own.cuCtxGetCurrent(&context);
		track_waited_all(context);
	}
	return rc;
}
typedef CUresult synchronize_v2(CUcontext context);
ONE(cuCtxSynchronize, false, (void), context_waited(cuda_fn(fn) ? REAL(cuCtxSynchronize)() : MISSING, NULL))
ONE(cuCtxSynchronize_v2, false, (CUcontext context),
    context_waited(cuda_fn(fn) ? ((synchronize_v2 *)cuda_fn(fn))(context) : MISSING, context))

static CUresult event_synchronize(enum fn fn, CUevent event)
{
	__typeof__(&cuEventSynchronize) real = REAL(cuEventSynchronize);
	struct cover cover = {0};
	CUresult rc;

	if (real && layer_on())
		cover = track_event(event);
	rc = real ? real(event) : MISSING;
	if (rc == CUDA_SUCCESS)
		track_waited(cover, WAIT_EVENT);
	return rc;
}
ONE(cuEventSynchronize, false, (CUevent event), event_synchronize(fn, event))

static CUresult event_query(enum fn fn, CUevent event)
{
	__typeof__(&cuEventQuery) real = REAL(cuEventQuery);
	struct cover cover = {0};
	CUresult rc;

	if (real && layer_on())
		cover = track_event(event);
	rc = real ? real(event) : MISSING;
	if (rc == CUDA_SUCCESS || rc == CUDA_ERROR_NOT_READY)
		track_polled(cover, rc == CUDA_SUCCESS);
	return rc;
}
ONE(cuEventQuery, false, (CUevent event), event_query(fn, event))

static CUresult recorded(CUresult rc, CUevent event, CUstream stream, bool per_thread)
{
	if (rc == CUDA_SUCCESS && layer_on() && !capturing(stream, per_thread))
		track_event_recorded(event, stream, per_thread);
	return rc;
}
BOTH(cuEventRecord, _ptsz, (CUevent event, CUstream stream),
     recorded(cuda_fn(fn) ? REAL(cuEventRecord)(event, stream) : MISSING, event, stream, own_default))
BOTH(cuEventRecordWithFlags, _ptsz, (CUevent event, CUstream stream, unsigned int flags),
     recorded(cuda_fn(fn) ? REAL(cuEventRecordWithFlags)(event, stream, flags) : MISSING, event, stream, own_default))

static CUresult joined(CUresult rc, CUstream stream, bool per_thread, CUevent event)
{
	if (rc == CUDA_SUCCESS && layer_on() && !capturing(stream, per_thread))
		track_joined(stream, per_thread, event);
	return rc;
}
BOTH(cuStreamWaitEvent, _ptsz, (CUstream stream, CUevent event, unsigned int flags),
     joined(cuda_fn(fn) ? REAL(cuStreamWaitEvent)(stream, event, flags) : MISSING, stream, own_default, event))

static CUresult copied(CUresult rc, CUstream stream, bool per_thread, void (*what)(CUstream stream, bool per_thread))
{
	if (rc == CUDA_SUCCESS && layer_on() && !capturing(stream, per_thread))
		what(stream, per_thread);
	return rc;
}
BOTH(cuMemcpyHtoDAsync_v2, _ptsz, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream),
     copied(cuda_fn(fn) ? REAL(cuMemcpyHtoDAsync_v2)(to, from, bytes, stream) : MISSING, stream, own_default,
	    track_upload))
BOTH(cuMemcpyDtoHAsync_v2, _ptsz, (void *to, CUdeviceptr from, size_t bytes, CUstream stream),
     copied(cuda_fn(fn) ? REAL(cuMemcpyDtoHAsync_v2)(to, from, bytes, stream) : MISSING, stream, own_default,
	    track_download))
BOTH(cuMemcpyAsync, _ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
     copied(cuda_fn(fn) ? REAL(cuMemcpyAsync)(to, from, bytes, stream) : MISSING, stream, own_default, track_enqueued))
BOTH(cuMemcpyHtoD_v2, _ptds, (CUdeviceptr to, const void *from, size_t bytes),
     copied(cuda_fn(fn) ? REAL(cuMemcpyHtoD_v2)(to, from, bytes) : MISSING, NULL, own_default, track_upload))

/* A copy to the host blocks until everything before it in its stream is complete. */
static CUresult read_back(CUresult rc, struct cover cover, bool per_thread)
{
	if (rc != CUDA_SUCCESS || !layer_on())
		return rc;
	if (per_thread)
		track_waited(cover, WAIT_READ);
	else
		track_waited_legacy(WAIT_READ);
	return rc;
}
BOTH(cuMemcpyDtoH_v2, _ptds, (void *to, CUdeviceptr from, size_t bytes), ({
	     struct cover cover = layer_on() ? track_cover(NULL, own_default) : (struct cover){0};

	     read_back(cuda_fn(fn) ? REAL(cuMemcpyDtoH_v2)(to, from, bytes) : MISSING, cover, own_default);
     }))
/* The direction is unknown: counts neither as a wait nor as an upload. */
BOTH(cuMemcpy, _ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
     copied(cuda_fn(fn) ? REAL(cuMemcpy)(to, from, bytes) : MISSING, NULL, own_default, track_enqueued))

/* Copies in two and three dimensions say what memory both sides are. To the host they are waits, as of a line; between
 * devices, and where an address decides, neither. */
enum direction { ELSEWHERE, TO_DEVICE, TO_HOST };

static enum direction direction_of(CUmemorytype from, CUmemorytype to)
{
	bool of_host = from == CU_MEMORYTYPE_HOST, to_host = to == CU_MEMORYTYPE_HOST;

	if (of_host == to_host || from == CU_MEMORYTYPE_UNIFIED || to == CU_MEMORYTYPE_UNIFIED)
		return ELSEWHERE;
	return to_host ? TO_HOST : TO_DEVICE;
}
#define DIRECTION(copy) ((copy) ? direction_of((copy)->srcMemoryType, (copy)->dstMemoryType) : ELSEWHERE)

static void (*const enqueued_as[])(CUstream stream, bool per_thread) = {
	[ELSEWHERE] = track_enqueued,
	[TO_DEVICE] = track_upload,
	[TO_HOST] = track_download,
};

#define COPY_BLOCKS(name, type) \
	BOTH(name, _ptds, (const type *copy), ({ \
		     enum direction direction = DIRECTION(copy); \
		     struct cover cover = \
			     direction == TO_HOST && layer_on() ? track_cover(NULL, own_default) : (struct cover){0}; \
		     CUresult rc = cuda_fn(fn) ? REAL(name)(copy) : MISSING; \
\
		     direction == TO_HOST ? read_back(rc, cover, own_default) : \
					    copied(rc, NULL, own_default, enqueued_as[direction]); \
	     }))
#define COPY_ENQUEUED(name, type) \
	BOTH(name, _ptsz, (const type *copy, CUstream stream), \
	     copied(cuda_fn(fn) ? REAL(name)(copy, stream) : MISSING, stream, own_default, \
		    enqueued_as[DIRECTION(copy)]))
COPY_BLOCKS(cuMemcpy2D_v2, CUDA_MEMCPY2D)
COPY_BLOCKS(cuMemcpy2DUnaligned_v2, CUDA_MEMCPY2D)
COPY_BLOCKS(cuMemcpy3D_v2, CUDA_MEMCPY3D)
COPY_ENQUEUED(cuMemcpy2DAsync_v2, CUDA_MEMCPY2D)
COPY_ENQUEUED(cuMemcpy3DAsync_v2, CUDA_MEMCPY3D)

/* Host functions: a program may wait for them without calling a wait. */

struct hooked {
	CUhostFn fn;
	CUstreamCallback callback;
	void *arg;
	uint64_t ticket;
};

static void host_called(void *arg)
{
	struct hooked hooked = *(struct hooked *)arg;

	free(arg);
	in_host_function = true;
	track_called(hooked.ticket);
	in_host_function = false;
	hooked.fn(hooked.arg);
}

static void stream_called_back(CUstream stream, CUresult status, void *arg)
{
	struct hooked hooked = *(struct hooked *)arg;

	free(arg);
	in_host_function = true;
	track_called(hooked.ticket);
	in_host_function = false;
	hooked.callback(stream, status, hooked.arg);
}

/* NULL if the program cannot be waiting for this one. */
static struct hooked *hook(CUstream stream, bool per_thread, CUhostFn fn, CUstreamCallback callback, void *arg)
{
	uint64_t ticket = layer_on() && (fn || callback) && !capturing(stream, per_thread) ?
				  track_calling(stream, per_thread) :
				  0;
	struct hooked *hooked = ticket ? malloc(sizeof(*hooked)) : NULL;

	if (hooked)
		*hooked = (struct hooked){fn, callback, arg, ticket};
	return hooked;
}

static CUresult launch_host(enum fn fn, bool per_thread, CUstream stream, CUhostFn host, void *arg)
{
	__typeof__(&cuLaunchHostFunc) real = REAL(cuLaunchHostFunc);
	struct hooked *hooked = real ? hook(stream, per_thread, host, NULL, arg) : NULL;
	CUresult rc = !real ? MISSING : hooked ? real(stream, host_called, hooked) : real(stream, host, arg);

	if (rc != CUDA_SUCCESS)
		free(hooked);
	return rc;
}
BOTH(cuLaunchHostFunc, _ptsz, (CUstream stream, CUhostFn host, void *arg),
     launch_host(fn, own_default, stream, host, arg))

static CUresult add_callback(enum fn fn, bool per_thread, CUstream stream, CUstreamCallback callback, void *arg,
			     unsigned int flags)
{
	__typeof__(&cuStreamAddCallback) real = REAL(cuStreamAddCallback);
	struct hooked *hooked = real ? hook(stream, per_thread, NULL, callback, arg) : NULL;
	CUresult rc = !real  ? MISSING :
		      hooked ? real(stream, stream_called_back, hooked, flags) :
			       real(stream, callback, arg, flags);

	if (rc != CUDA_SUCCESS)
		free(hooked);
	return rc;
}
BOTH(cuStreamAddCallback, _ptsz, (CUstream stream, CUstreamCallback callback, void *arg, unsigned int flags),
     add_callback(fn, own_default, stream, callback, arg, flags))
