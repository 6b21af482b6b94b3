/* SPDX-License-Identifier: MIT */
/* The stand-in's devices, contexts and modules, its table of entry points, and the checks that every call passes.
 *
 * A module's image is text: the line "//standin", then lines
 *	launch CYCLES NS            host side of each launch
 *	graph CYCLES NS             host side of a graph's launch
 *	kernel NAME GPU_CYCLES MEM_CYCLES NS N [sink]
 * where the cycles are those of one block, and N elements are computed. */
#include "standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../../common/units.h"

#define VERSION_DEFAULT 12040

struct context {
	struct handle handle;
};

pthread_mutex_t state = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t progress = PTHREAD_COND_INITIALIZER;
__thread bool per_thread_default;
__thread bool in_callback;
static __thread struct context *current;
static struct context *primary;
static unsigned primary_retained;
static struct handle *handles;
static struct counter *counters;
static bool initialised, forked; /* a child of the process that called cuInit() has no driver */

void *handle_new(size_t size, enum magic magic)
{
	struct handle *handle = calloc(1, size);

	if (!handle)
		abort();
	handle->magic = magic;
	pthread_mutex_lock(&state);
	handle->next = handles;
	handles = handle;
	pthread_mutex_unlock(&state);
	return handle;
}

bool alive(const void *handle, enum magic magic)
{
	return handle && ((uintptr_t)handle & 7) == 0 && ((const struct handle *)handle)->magic == magic;
}

static void list_counter(struct counter *counter)
{
	if (atomic_exchange(&counter->listed, true))
		return;
	pthread_mutex_lock(&state);
	counter->next = counters;
	counters = counter;
	pthread_mutex_unlock(&state);
}

/* tests/cuda/lockwatch.c, where it is preloaded. */
__attribute__((weak)) int lockwatch_held(void);

CUresult enter(struct counter *counter, bool context)
{
	if (lockwatch_held && lockwatch_held() != 0) {
		fprintf(stderr, "flamed-standin-cuda: %s is called with a lock of the layer held\n", counter->name);
		_exit(9);
	}
	if (!counter->listed)
		list_counter(counter);
	atomic_fetch_add_explicit(&counter->calls, 1, memory_order_relaxed);
	if (!initialised)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	if (context && !alive(current, CONTEXT))
		return CUDA_ERROR_INVALID_CONTEXT;
	return CUDA_SUCCESS;
}

CUresult leave(struct counter *counter, CUresult rc)
{
	if (rc != CUDA_SUCCESS && rc != CUDA_ERROR_NOT_READY) {
		atomic_fetch_add(&counter->errors, 1);
		counter->last_error = rc;
	}
	return rc;
}

/* Calls and errors of each function, to $FLAMED_STANDIN_LOG. */
__attribute__((destructor)) static void write_log(void)
{
	const char *path = getenv("FLAMED_STANDIN_LOG");
	FILE *out = path && initialised ? fopen(path, "we") : NULL;

	if (initialised)
		standin_report();
	for (struct counter *c = counters; out && c; c = c->next)
		fprintf(out, "%s calls=%lu errors=%lu last=%d\n", c->name, c->calls, c->errors, c->last_error);
	if (out)
		fclose(out);
}

/* Initialisation, devices, contexts */

static void child(void)
{
	forked = initialised;
	initialised = false;
}

EXPORT CUresult cuInit(unsigned int flags)
{
	if (flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (forked)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!initialised)
		pthread_atfork(NULL, NULL, child);
	initialised = true;
	return CUDA_SUCCESS;
}

static int driver_version(void)
{
	const char *text = getenv("FLAMED_STANDIN_VERSION");

	return text ? atoi(text) : VERSION_DEFAULT;
}

EXPORT CUresult cuDriverGetVersion(int *version)
{
	*version = driver_version();
	return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int *count)
{
	ENTER_ANY(false);
	*count = 1;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	ENTER_ANY(false);
	*device = 0;
	RETURN(ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}

EXPORT CUresult cuDeviceGetName(char *name, int len, CUdevice device)
{
	ENTER_ANY(false);
	if (device != 0 || len < 1)
		RETURN(CUDA_ERROR_INVALID_DEVICE);
	snprintf(name, (size_t)len, "flamed stand-in");
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
	ENTER_ANY(false);
	*value = attribute == 75 ? 8 : attribute == 76 ? 7 : 0; /* compute capability */
	RETURN(device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	ENTER_ANY(false);
	if (device != 0)
		RETURN(CUDA_ERROR_INVALID_DEVICE);
	if (!primary)
		primary = handle_new(sizeof(*primary), CONTEXT);
	primary->handle.magic = CONTEXT; /* after a reset the new one may have the old handle */
	primary_retained++;
	*context = (CUcontext)primary;
	RETURN(CUDA_SUCCESS);
}

/* Destroying a context destroys its handles. */
static void kill_handles(void)
{
	streams_wait_idle();
	pthread_mutex_lock(&state);
	for (struct handle *h = handles; h; h = h->next)
		if (h->magic == EVENT || h->magic == FUNCTION || h->magic == MODULE)
			h->magic = DEAD;
	pthread_mutex_unlock(&state);
}

static void kill_primary(void)
{
	kill_handles();
	if (primary)
		primary->handle.magic = DEAD;
	primary_retained = 0;
}

EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	ENTER_ANY(false);
	if (device != 0)
		RETURN(CUDA_ERROR_INVALID_DEVICE);
	kill_primary();
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	ENTER_ANY(false);
	if (device != 0)
		RETURN(CUDA_ERROR_INVALID_DEVICE);
	if (primary_retained == 0)
		RETURN(CUDA_ERROR_INVALID_CONTEXT);
	if (--primary_retained == 0)
		kill_primary();
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
	ENTER_ANY(false);
	*flags = 0;
	*active = primary_retained > 0;
	RETURN(device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}

EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
	ENTER_ANY(false);
	if (device != 0 || flags > 0xff)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	current = handle_new(sizeof(*current), CONTEXT);
	*context = (CUcontext)current;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuCtxDestroy_v2(CUcontext context)
{
	ENTER_ANY(false);
	if (!alive(context, CONTEXT))
		RETURN(CUDA_ERROR_INVALID_CONTEXT);
	kill_handles();
	((struct context *)context)->handle.magic = DEAD;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context)
{
	ENTER_ANY(false);
	if (context && !alive(context, CONTEXT))
		RETURN(CUDA_ERROR_INVALID_CONTEXT);
	current = (struct context *)context;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuCtxGetCurrent(CUcontext *context)
{
	ENTER_ANY(false);
	*context = (CUcontext)current;
	RETURN(CUDA_SUCCESS);
}

/* Modules */

static void parse_line(struct module *module, const char *line)
{
	struct function one = {.a = 0.5F, .b = 0.25F, .handle.magic = FUNCTION}, *added;
	char tail[16] = "";

	if (sscanf(line, "launch %lf %lf", &module->launch.launch_cycles, &module->launch.launch_ns) == 2 ||
	    sscanf(line, "graph %lf %lf", &module->graph.launch_cycles, &module->graph.launch_ns) == 2)
		return;
	if (sscanf(line, "kernel %63s %lf %lf %lf %u %15s", one.name, &one.cost.gpu_cycles, &one.cost.mem_cycles,
		   &one.cost.exec_ns, &one.n, tail) < 5)
		return;
	added = handle_new(sizeof(*added), FUNCTION);
	memcpy(added->name, one.name, sizeof(one.name));
	added->cost = one.cost;
	added->n = one.n;
	added->a = one.a - (float)(strlen(one.name) % 5) / 16.0F;
	added->b = one.b;
	added->sink = strcmp(tail, "sink") == 0;
	added->module = module;
	added->next = module->functions;
	module->functions = added;
}

static struct module *load(const char *image)
{
	struct module *module;
	char line[160];

	if (!image || strncmp(image, "//standin\n", 10) != 0)
		return NULL;
	module = handle_new(sizeof(*module), MODULE);
	for (const char *at = image; *at;) {
		size_t len = strcspn(at, "\n");

		snprintf(line, sizeof(line), "%.*s", (int)len, at);
		parse_line(module, line);
		at += len + (at[len] == '\n');
	}
	return module;
}

static struct function *find(const struct module *module, const char *name)
{
	struct function *function = module->functions;

	while (function && strcmp(function->name, name) != 0)
		function = function->next;
	return function;
}

static CUresult unload(struct module *module)
{
	if (!alive(module, MODULE))
		return CUDA_ERROR_INVALID_HANDLE;
	for (struct function *f = module->functions; f; f = f->next)
		f->handle.magic = DEAD;
	module->handle.magic = DEAD;
	return CUDA_SUCCESS;
}

CUresult unsafe(void)
{
	CUresult rc;

	pthread_mutex_lock(&state);
	rc = unsafe_during_capture();
	pthread_mutex_unlock(&state);
	return rc;
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
	ENTER;
	if (unsafe())
		RETURN(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	*module = (CUmodule)load(image);
	RETURN(*module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE);
}

EXPORT CUresult cuModuleUnload(CUmodule module)
{
	ENTER;
	RETURN(unload((struct module *)module));
}

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
	ENTER;
	if (!alive(module, MODULE))
		RETURN(CUDA_ERROR_INVALID_HANDLE);
	*function = (CUfunction)find((struct module *)module, name);
	RETURN(*function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND);
}

EXPORT CUresult cuFuncGetName(const char **name, CUfunction function)
{
	ENTER;
	if (!alive(function, FUNCTION))
		RETURN(CUDA_ERROR_INVALID_HANDLE);
	*name = ((struct function *)function)->name;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jit, void **jit_values,
				  unsigned int jits, CUlibraryOption *options, void **option_values, unsigned int count)
{
	ENTER_ANY(false); /* needs no context */
	(void)jit, (void)jit_values, (void)jits, (void)options, (void)option_values, (void)count;
	*library = (CUlibrary)load(code);
	RETURN(*library ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE);
}

EXPORT CUresult cuLibraryUnload(CUlibrary library)
{
	ENTER_ANY(false);
	RETURN(unload((struct module *)library));
}

EXPORT CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name)
{
	ENTER_ANY(false);
	if (!alive(library, MODULE))
		RETURN(CUDA_ERROR_INVALID_HANDLE);
	*kernel = (CUkernel)find((struct module *)library, name);
	RETURN(*kernel ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND);
}

EXPORT CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel)
{
	ENTER;
	if (!alive(kernel, FUNCTION))
		RETURN(CUDA_ERROR_INVALID_HANDLE);
	*function = (CUfunction)kernel;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuKernelGetName(const char **name, CUkernel kernel)
{
	ENTER_ANY(false);
	if (!alive(kernel, FUNCTION))
		RETURN(CUDA_ERROR_INVALID_HANDLE);
	*name = ((struct function *)kernel)->name;
	RETURN(CUDA_SUCCESS);
}

/* Functions on a default stream that is the thread's own. They call the others
 * of this library, whatever is preloaded: it is linked with -Bsymbolic. */
#define PER_THREAD(name, suffix, params, args) \
	EXPORT CUresult name##suffix params; \
	EXPORT CUresult name##suffix params \
	{ \
		CUresult rc; \
\
		per_thread_default = true; \
		rc = name args; \
		per_thread_default = false; \
		return rc; \
	}
PER_THREAD(cuLaunchKernel, _ptsz, (CUfunction f, DIMS, CUstream stream, void **params, void **extra),
	   (f, DIMS_ARGS, stream, params, extra))
PER_THREAD(cuLaunchKernelEx, _ptsz, (const CUlaunchConfig *config, CUfunction f, void **params, void **extra),
	   (config, f, params, extra))
PER_THREAD(cuLaunchCooperativeKernel, _ptsz, (CUfunction f, DIMS, CUstream stream, void **params),
	   (f, DIMS_ARGS, stream, params))
PER_THREAD(cuLaunchHostFunc, _ptsz, (CUstream stream, CUhostFn fn, void *arg), (stream, fn, arg))
PER_THREAD(cuStreamAddCallback, _ptsz, (CUstream stream, CUstreamCallback fn, void *arg, unsigned int flags),
	   (stream, fn, arg, flags))
PER_THREAD(cuGraphLaunch, _ptsz, (CUgraphExec exec, CUstream stream), (exec, stream))
PER_THREAD(cuGraphInstantiateWithParams, _ptsz,
	   (CUgraphExec * exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params), (exec, graph, params))
PER_THREAD(cuStreamSynchronize, _ptsz, (CUstream stream), (stream))
PER_THREAD(cuStreamQuery, _ptsz, (CUstream stream), (stream))
PER_THREAD(cuStreamWaitEvent, _ptsz, (CUstream stream, CUevent event, unsigned int flags), (stream, event, flags))
PER_THREAD(cuStreamBeginCapture_v2, _ptsz, (CUstream stream, CUstreamCaptureMode mode), (stream, mode))
PER_THREAD(cuStreamEndCapture, _ptsz, (CUstream stream, CUgraph *graph), (stream, graph))
PER_THREAD(cuStreamIsCapturing, _ptsz, (CUstream stream, CUstreamCaptureStatus *status), (stream, status))
PER_THREAD(cuEventRecord, _ptsz, (CUevent event, CUstream stream), (event, stream))
PER_THREAD(cuEventRecordWithFlags, _ptsz, (CUevent event, CUstream stream, unsigned int flags), (event, stream, flags))
PER_THREAD(cuMemcpyHtoDAsync_v2, _ptsz, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream),
	   (to, from, bytes, stream))
PER_THREAD(cuMemcpyDtoHAsync_v2, _ptsz, (void *to, CUdeviceptr from, size_t bytes, CUstream stream),
	   (to, from, bytes, stream))
PER_THREAD(cuMemcpyAsync, _ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
	   (to, from, bytes, stream))
PER_THREAD(cuMemcpyHtoD_v2, _ptds, (CUdeviceptr to, const void *from, size_t bytes), (to, from, bytes))
PER_THREAD(cuMemcpyDtoH_v2, _ptds, (void *to, CUdeviceptr from, size_t bytes), (to, from, bytes))
PER_THREAD(cuMemcpy, _ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes), (to, from, bytes))
PER_THREAD(cuMemcpy2D_v2, _ptds, (const CUDA_MEMCPY2D *copy), (copy))
PER_THREAD(cuMemcpy2DUnaligned_v2, _ptds, (const CUDA_MEMCPY2D *copy), (copy))
PER_THREAD(cuMemcpy3D_v2, _ptds, (const CUDA_MEMCPY3D *copy), (copy))
PER_THREAD(cuMemcpy2DAsync_v2, _ptsz, (const CUDA_MEMCPY2D *copy, CUstream stream), (copy, stream))
PER_THREAD(cuMemcpy3DAsync_v2, _ptsz, (const CUDA_MEMCPY3D *copy, CUstream stream), (copy, stream))

/* The table of cuGetProcAddress(): name without version, and the CUDA version that introduced it. */
struct entry {
	const char *name;
	int version;
	bool per_thread;
	void *function;
};
/* clang-format off */
#define ROW(name, version, symbol) {#name, version, false, (void *)symbol}
#define ROW_PT(name, version, symbol, suffix) \
	ROW(name, version, symbol), {#name, version, true, (void *)symbol##suffix}
/* clang-format on */
static CUresult get_proc(const char *symbol, void **out, int version, cuuint64_t flags,
			 CUdriverProcAddressQueryResult *status);
EXPORT CUresult cuGetProcAddress(const char *symbol, void **out, int version, cuuint64_t flags);

static const struct entry entries[] = {
	ROW(cuInit, 2000, cuInit),
	ROW(cuDriverGetVersion, 2020, cuDriverGetVersion),
	ROW(cuDeviceGet, 2000, cuDeviceGet),
	ROW(cuDeviceGetCount, 2000, cuDeviceGetCount),
	ROW(cuDeviceGetName, 2000, cuDeviceGetName),
	ROW(cuDeviceGetAttribute, 2000, cuDeviceGetAttribute),
	ROW(cuDevicePrimaryCtxRetain, 7000, cuDevicePrimaryCtxRetain),
	ROW(cuDevicePrimaryCtxRelease, 11000, cuDevicePrimaryCtxRelease_v2),
	ROW(cuDevicePrimaryCtxReset, 11000, cuDevicePrimaryCtxReset_v2),
	ROW(cuDevicePrimaryCtxGetState, 7000, cuDevicePrimaryCtxGetState),
	ROW(cuCtxCreate, 3020, cuCtxCreate_v2),
	ROW(cuCtxDestroy, 4000, cuCtxDestroy_v2),
	ROW(cuCtxSetCurrent, 4000, cuCtxSetCurrent),
	ROW(cuCtxGetCurrent, 4000, cuCtxGetCurrent),
	ROW(cuCtxSynchronize, 2000, cuCtxSynchronize),
	ROW(cuModuleLoadData, 2000, cuModuleLoadData),
	ROW(cuModuleUnload, 2000, cuModuleUnload),
	ROW(cuModuleGetFunction, 2000, cuModuleGetFunction),
	ROW(cuFuncGetName, 12030, cuFuncGetName),
	ROW(cuLibraryLoadData, 12000, cuLibraryLoadData),
	ROW(cuLibraryUnload, 12000, cuLibraryUnload),
	ROW(cuLibraryGetKernel, 12000, cuLibraryGetKernel),
	ROW(cuKernelGetFunction, 12000, cuKernelGetFunction),
	ROW(cuKernelGetName, 12030, cuKernelGetName),
	ROW(cuMemAlloc, 3020, cuMemAlloc_v2),
	ROW(cuMemFree, 3020, cuMemFree_v2),
	ROW(cuMemAllocHost, 3020, cuMemAllocHost_v2),
	ROW(cuMemFreeHost, 2000, cuMemFreeHost),
	ROW_PT(cuMemcpyHtoD, 3020, cuMemcpyHtoD_v2, _ptds),
	ROW_PT(cuMemcpyDtoH, 3020, cuMemcpyDtoH_v2, _ptds),
	ROW_PT(cuMemcpy, 4000, cuMemcpy, _ptds),
	ROW_PT(cuMemcpy2D, 3020, cuMemcpy2D_v2, _ptds),
	ROW_PT(cuMemcpy2DUnaligned, 3020, cuMemcpy2DUnaligned_v2, _ptds),
	ROW_PT(cuMemcpy2DAsync, 3020, cuMemcpy2DAsync_v2, _ptsz),
	ROW_PT(cuMemcpy3D, 3020, cuMemcpy3D_v2, _ptds),
	ROW_PT(cuMemcpy3DAsync, 3020, cuMemcpy3DAsync_v2, _ptsz),
	ROW_PT(cuMemcpyHtoDAsync, 3020, cuMemcpyHtoDAsync_v2, _ptsz),
	ROW_PT(cuMemcpyDtoHAsync, 3020, cuMemcpyDtoHAsync_v2, _ptsz),
	ROW(cuMemcpyDtoDAsync, 3020, cuMemcpyDtoDAsync_v2),
	ROW_PT(cuMemcpyAsync, 4000, cuMemcpyAsync, _ptsz),
	ROW(cuMemsetD8Async, 3020, cuMemsetD8Async),
	ROW(cuStreamCreate, 2000, cuStreamCreate),
	ROW(cuStreamCreateWithPriority, 5050, cuStreamCreateWithPriority),
	ROW(cuStreamDestroy, 4000, cuStreamDestroy_v2),
	ROW_PT(cuStreamSynchronize, 2000, cuStreamSynchronize, _ptsz),
	ROW_PT(cuStreamQuery, 2000, cuStreamQuery, _ptsz),
	ROW_PT(cuStreamWaitEvent, 3020, cuStreamWaitEvent, _ptsz),
	ROW_PT(cuStreamBeginCapture, 10010, cuStreamBeginCapture_v2, _ptsz),
	ROW_PT(cuStreamEndCapture, 10000, cuStreamEndCapture, _ptsz),
	ROW_PT(cuStreamIsCapturing, 10000, cuStreamIsCapturing, _ptsz),
	ROW(cuStreamGetCaptureInfo, 11030, cuStreamGetCaptureInfo_v2),
	ROW(cuThreadExchangeStreamCaptureMode, 10010, cuThreadExchangeStreamCaptureMode),
	ROW_PT(cuStreamAddCallback, 5000, cuStreamAddCallback, _ptsz),
	ROW(cuEventCreate, 2000, cuEventCreate),
	ROW(cuEventDestroy, 4000, cuEventDestroy_v2),
	ROW_PT(cuEventRecord, 2000, cuEventRecord, _ptsz),
	ROW_PT(cuEventRecordWithFlags, 11010, cuEventRecordWithFlags, _ptsz),
	ROW(cuEventQuery, 2000, cuEventQuery),
	ROW(cuEventSynchronize, 2000, cuEventSynchronize),
	ROW(cuEventElapsedTime, 2000, cuEventElapsedTime),
	ROW_PT(cuLaunchKernel, 4000, cuLaunchKernel, _ptsz),
	ROW_PT(cuLaunchKernelEx, 11060, cuLaunchKernelEx, _ptsz),
	ROW_PT(cuLaunchCooperativeKernel, 9000, cuLaunchCooperativeKernel, _ptsz),
	ROW_PT(cuLaunchHostFunc, 10000, cuLaunchHostFunc, _ptsz),
	ROW(cuGraphCreate, 10000, cuGraphCreate),
	ROW(cuGraphDestroy, 10000, cuGraphDestroy),
	ROW(cuGraphClone, 10000, cuGraphClone),
	ROW(cuGraphGetNodes, 10000, cuGraphGetNodes),
	ROW(cuGraphInstantiate, 11000, cuGraphInstantiate_v2),
	ROW(cuGraphInstantiateWithFlags, 11040, cuGraphInstantiateWithFlags),
	ROW_PT(cuGraphInstantiateWithParams, 12000, cuGraphInstantiateWithParams, _ptsz),
	ROW(cuGraphExecUpdate, 12000, cuGraphExecUpdate_v2),
	ROW(cuGraphExecDestroy, 10000, cuGraphExecDestroy),
	ROW(cuGraphUpload, 11010, cuGraphUpload),
	ROW_PT(cuGraphLaunch, 10000, cuGraphLaunch, _ptsz),
	ROW(cuGetProcAddress, 11030, cuGetProcAddress),
	ROW(cuGetProcAddress, 12000, cuGetProcAddress_v2),
};

static CUresult get_proc(const char *symbol, void **out, int version, cuuint64_t flags,
			 CUdriverProcAddressQueryResult *status)
{
	const struct entry *best = NULL;
	bool named = false, per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;

	*out = NULL;
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		const struct entry *e = &entries[i];

		if (strcmp(e->name, symbol) != 0)
			continue;
		named = true;
		if (e->version <= version && e->version <= driver_version() &&
		    (!best || e->version > best->version ||
		     (e->version == best->version && e->per_thread == per_thread)))
			best = e;
	}
	if (status)
		*status = best  ? CU_GET_PROC_ADDRESS_SUCCESS :
			  named ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT :
				  CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	if (!best)
		return CUDA_ERROR_NOT_FOUND;
	*out = best->function;
	return CUDA_SUCCESS;
}

EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **out, int version, cuuint64_t flags,
				    CUdriverProcAddressQueryResult *status)
{
	return symbol && out ? get_proc(symbol, out, version, flags, status) : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetProcAddress(const char *symbol, void **out, int version, cuuint64_t flags)
{
	return symbol && out ? get_proc(symbol, out, version, flags, NULL) : CUDA_ERROR_INVALID_VALUE;
}
