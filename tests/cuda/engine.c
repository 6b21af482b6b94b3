/* SPDX-License-Identifier: MIT */
/* Makes the driver calls that a script lists, in the way the CUDA runtime
 * would: it opens libcuda.so.1, asks dlsym() for cuGetProcAddress_v2 and takes
 * everything else from there. It prints a checksum of its results, and nothing
 * that depends on time; on stderr how many inferences the script really made.
 *
 * usage: engine SCRIPT [resolve=runtime|old|dlsym|linked] [module] [ptsz] [threads=N] [runs=N] [times]
 *	[ptx[=FILE]]
 *
 * With `ptx` the kernels are PTX text for a real GPU: made up, with work in proportion to GPU_CYCLES, or of a file
 * (kernels.cu, compiled); else an image for the stand-in. `show-ptx` prints that text and ends; `device` names the
 * device and the driver. script.h has the language of scripts. */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../../layers/cuda/api.h"
#include "copies.h"
#include "image.h"
#include "ranges.h"
#include "script.h"

#define NAMED_MAX   32
#define BUFFERS     4 /* of a thread; a stream works on one, so that streams need no order among them */
#define THREADS_MAX 8
#define VERSION     12040 /* the runtime that this program claims to hold */

/* Name for cuGetProcAddress(), name as exported. */
/* clang-format off */
#define NEEDED(X) \
	X(cuInit, cuInit) X(cuDeviceGet, cuDeviceGet) X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain) \
	X(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2) \
	X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2) X(cuCtxCreate, cuCtxCreate_v2) \
	X(cuCtxSetCurrent, cuCtxSetCurrent) \
	X(cuCtxSynchronize, cuCtxSynchronize) X(cuLibraryLoadData, cuLibraryLoadData) \
	X(cuLibraryGetKernel, cuLibraryGetKernel) X(cuKernelGetFunction, cuKernelGetFunction) \
	X(cuModuleLoadData, cuModuleLoadData) X(cuModuleGetFunction, cuModuleGetFunction) \
	X(cuMemAlloc, cuMemAlloc_v2) X(cuMemFree, cuMemFree_v2) X(cuMemcpyHtoD, cuMemcpyHtoD_v2) \
	X(cuMemcpyDtoH, cuMemcpyDtoH_v2) X(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2) \
	X(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2) X(cuMemcpy2D, cuMemcpy2D_v2) \
	X(cuMemcpy2DUnaligned, cuMemcpy2DUnaligned_v2) X(cuMemcpy2DAsync, cuMemcpy2DAsync_v2) \
	X(cuMemcpy3D, cuMemcpy3D_v2) X(cuMemcpy3DAsync, cuMemcpy3DAsync_v2) X(cuStreamCreate, cuStreamCreate) \
	X(cuStreamDestroy, cuStreamDestroy_v2) X(cuStreamSynchronize, cuStreamSynchronize) \
	X(cuStreamQuery, cuStreamQuery) X(cuStreamWaitEvent, cuStreamWaitEvent) \
	X(cuStreamBeginCapture, cuStreamBeginCapture_v2) X(cuStreamEndCapture, cuStreamEndCapture) \
	X(cuStreamAddCallback, cuStreamAddCallback) X(cuEventCreate, cuEventCreate) \
	X(cuEventRecord, cuEventRecord) X(cuEventQuery, cuEventQuery) \
	X(cuEventSynchronize, cuEventSynchronize) X(cuLaunchKernel, cuLaunchKernel) \
	X(cuLaunchKernelEx, cuLaunchKernelEx) X(cuLaunchCooperativeKernel, cuLaunchCooperativeKernel) \
	X(cuLaunchHostFunc, cuLaunchHostFunc) X(cuGraphInstantiateWithFlags, cuGraphInstantiateWithFlags) \
	X(cuGraphExecUpdate, cuGraphExecUpdate_v2) X(cuGraphExecDestroy, cuGraphExecDestroy) \
	X(cuGraphDestroy, cuGraphDestroy) X(cuGraphClone, cuGraphClone) X(cuGraphLaunch, cuGraphLaunch)
/* clang-format on */

static struct {
#define FIELD(name, exported) __typeof__(&exported) name;
	NEEDED(FIELD)
} api;

static struct script script;
static unsigned long runs = 12;
static volatile sig_atomic_t ended;
static unsigned threads = 1;
static const char *resolve = "runtime";
static bool ptsz, times, ptx, show_ptx, show_device, by_module;
static const char *image, *ptx_file; /* the latter: of kernels in CUDA C, compiled */
static CUcontext context;
static CUdevice device;
static struct {
	const char *name;
	CUfunction function;
} kernels[NAMED_MAX];
static size_t kernel_count;

/* One thread at its script. */
struct worker {
	unsigned index;
	struct {
		const char *name;
		void *handle;
		unsigned buffer;
	} named[NAMED_MAX];
	size_t named_count;
	unsigned streams;
	CUdeviceptr memory;
	float host[BUFFERS][ELEMENTS];
	unsigned long at, inferences; /* number of the innermost loop */
	CUresult expected;
	pthread_mutex_t lock;
	pthread_cond_t told;
	unsigned called;
};

static void must(struct worker *worker, const struct line *line, CUresult rc)
{
	CUresult expected = worker->expected;

	worker->expected = CUDA_SUCCESS;
	if (rc == expected)
		return;
	fprintf(stderr, "engine: %s:%d: %s: error %d\n", script.path, line->number, line->word[0], rc);
	exit(3);
}

/* How a program comes by the driver */

#ifndef LINKED
static void *by_runtime(void *driver, const char *name)
{
	CUresult (*v2)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);
	CUresult (*v1)(const char *, void **, int, cuuint64_t);
	CUdriverProcAddressQueryResult status;
	void *found = NULL;

	*(void **)&v2 = strcmp(resolve, "old") == 0 ? NULL : dlsym(driver, "cuGetProcAddress_v2");
	if (v2)
		return v2(name, &found, VERSION, ptsz ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM : 0, &status) ==
				       CUDA_SUCCESS ?
			       found :
			       NULL;
	*(void **)&v1 = dlsym(driver, "cuGetProcAddress");
	return v1 && v1(name, &found, VERSION, ptsz ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM : 0) ==
				       CUDA_SUCCESS ?
		       found :
		       NULL;
}

static void *by_symbol(void *driver, const char *exported)
{
	char variant[96];
	void *found = NULL;

	snprintf(variant, sizeof(variant), "%s_%s", exported,
		 strstr(exported, "cuMemcpy") && !strstr(exported, "Async") ? "ptds" : "ptsz");
	if (ptsz)
		found = dlsym(driver, variant);
	return found ? found : dlsym(driver, exported);
}
#endif

static void load_driver(void)
{
	void *driver = dlopen("libcuda.so.1", RTLD_NOW);

	if (!driver) {
		fprintf(stderr, "engine: %s\n", dlerror());
		exit(4);
	}
#ifdef LINKED
#define TAKE(name, exported) api.name = exported;
#else
#define TAKE(name, exported) \
	*(void **)&api.name = \
		strcmp(resolve, "dlsym") == 0 ? by_symbol(driver, #exported) : by_runtime(driver, #name); \
	if (!api.name) { \
		fprintf(stderr, "engine: the driver has no %s\n", #name); \
		exit(4); \
	}
#endif
	NEEDED(TAKE)
}

static void **slot(struct worker *worker, const char *name)
{
	size_t i = 0;

	while (i < worker->named_count && strcmp(worker->named[i].name, name) != 0)
		i++;
	if (i == worker->named_count)
		worker->named[worker->named_count++].name = name;
	return &worker->named[i].handle;
}

static void *get(struct worker *worker, const struct line *line, int word)
{
	if (strcmp(line->word[word], "0") == 0 || !*line->word[word])
		return NULL;
	return *slot(worker, line->word[word]);
}

static unsigned buffer_of(const struct worker *worker, const char *stream)
{
	for (size_t i = 0; i < worker->named_count; i++)
		if (strcmp(worker->named[i].name, stream) == 0)
			return worker->named[i].buffer;
	return 0;
}

static CUresult make_stream(struct worker *worker, const struct line *line)
{
	CUresult rc = api.cuStreamCreate((CUstream *)slot(worker, line->word[1]),
					 *line->word[2] ? CU_STREAM_NON_BLOCKING : 0);

	worker->named[worker->named_count - 1].buffer = ++worker->streams % BUFFERS;
	return rc;
}

static CUfunction kernel_of(const struct line *line)
{
	for (size_t i = 0; i < kernel_count; i++)
		if (strcmp(kernels[i].name, line->word[1]) == 0)
			return kernels[i].function;
	script_fail(&script, line, "no such kernel");
}

static unsigned grid_of(const struct worker *worker, const char *text)
{
	char *rest;
	unsigned long base = strtoul(text, &rest, 10);

	if (strncmp(rest, "+i/", 3) == 0)
		base += worker->at / strtoul(rest + 3, NULL, 10);
	return (unsigned)base;
}

static CUresult launch(struct worker *worker, const struct line *line)
{
	CUfunction f = kernel_of(line);
	CUstream stream = get(worker, line, 4);
	unsigned grid = grid_of(worker, line->word[2]), block = (unsigned)strtoul(line->word[3], NULL, 10);
	unsigned long count = *line->word[6] ? strtoul(line->word[6], NULL, 10) : 1;
	CUlaunchConfig config = {.gridDimX = grid,
				 .gridDimY = 1,
				 .gridDimZ = 1,
				 .blockDimX = block,
				 .blockDimY = 1,
				 .blockDimZ = 1,
				 .hStream = stream};
	float argument = 0.125F;
	CUdeviceptr memory = worker->memory + buffer_of(worker, line->word[4]) * sizeof(worker->host[0]);
	void *params[] = {&memory, &argument};
	CUresult rc = CUDA_SUCCESS;

	for (unsigned long i = 0; i < count && rc == CUDA_SUCCESS; i++) {
		if (strcmp(line->word[5], "ex") == 0)
			rc = api.cuLaunchKernelEx(&config, f, params, NULL);
		else if (strcmp(line->word[5], "coop") == 0)
			rc = api.cuLaunchCooperativeKernel(f, grid, 1, 1, block, 1, 1, 0, stream, params);
		else
			rc = api.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, 0, stream, params, NULL);
	}
	return rc;
}

static void told(void *arg)
{
	struct worker *worker = arg;

	pthread_mutex_lock(&worker->lock);
	worker->called++;
	pthread_cond_signal(&worker->told);
	pthread_mutex_unlock(&worker->lock);
}

static void told_back(CUstream stream, CUresult status, void *arg)
{
	(void)stream;
	if (status != CUDA_SUCCESS)
		exit(3);
	told(arg);
}

static CUresult await(struct worker *worker, CUresult rc)
{
	pthread_mutex_lock(&worker->lock);
	while (rc == CUDA_SUCCESS && worker->called == 0)
		pthread_cond_wait(&worker->told, &worker->lock);
	worker->called = 0;
	pthread_mutex_unlock(&worker->lock);
	return rc;
}

/* The child of a program that uses CUDA may not use it, layer or not. This one tries, and ends as a program does. */
static void in_child(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		CUresult rc = CUDA_ERROR_NOT_INITIALIZED;

		for (int i = 0; i < 60 && rc == CUDA_ERROR_NOT_INITIALIZED; i++) {
			for (size_t k = 0; k < kernel_count; k++)
				api.cuLaunchKernel(kernels[k].function, 8, 1, 1, 128, 1, 1, 0, NULL, NULL, NULL);
			rc = api.cuStreamSynchronize(NULL);
		}
		exit(rc == CUDA_ERROR_NOT_INITIALIZED ? 0 : 1);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "engine: the forked child ended with %x\n", (unsigned)status);
		exit(5);
	}
}

static CUresult capture_mode(const char *word)
{
	return strcmp(word, "relaxed") == 0 ? CU_STREAM_CAPTURE_MODE_RELAXED :
	       strcmp(word, "local") == 0   ? CU_STREAM_CAPTURE_MODE_THREAD_LOCAL :
					      CU_STREAM_CAPTURE_MODE_GLOBAL;
}

static CUresult rows_call(const struct line *line, float *host, CUdeviceptr memory, CUstream stream, bool *done)
{
	bool to_host = is(line, "copy-out-2d") || is(line, "copy-out-unaligned") || is(line, "copy-out-3d") ||
		       is(line, "download-2d") || is(line, "download-3d");
	CUDA_MEMCPY2D rows = rows_of(host, memory, to_host);
	CUDA_MEMCPY3D slices = slices_of(host, memory, to_host);

	if (is(line, "copy-in-2d") || is(line, "copy-out-2d"))
		return api.cuMemcpy2D(&rows);
	if (is(line, "copy-out-unaligned"))
		return api.cuMemcpy2DUnaligned(&rows);
	if (is(line, "copy-in-3d") || is(line, "copy-out-3d"))
		return api.cuMemcpy3D(&slices);
	if (is(line, "upload-2d") || is(line, "download-2d"))
		return api.cuMemcpy2DAsync(&rows, stream);
	if (is(line, "upload-3d") || is(line, "download-3d"))
		return api.cuMemcpy3DAsync(&slices, stream);
	*done = false;
	return CUDA_SUCCESS;
}

static CUresult memory_call(struct worker *worker, const struct line *line, bool *done)
{
	const unsigned buffer = buffer_of(worker, line->word[1]);
	const size_t bytes = sizeof(worker->host[0]);
	CUdeviceptr memory = worker->memory + buffer * bytes;

	*done = true;
	if (is(line, "upload"))
		return api.cuMemcpyHtoDAsync(memory, worker->host[buffer], bytes, get(worker, line, 1));
	if (is(line, "download"))
		return api.cuMemcpyDtoHAsync(worker->host[buffer], memory, bytes, get(worker, line, 1));
	if (is(line, "copy-in"))
		return api.cuMemcpyHtoD(memory, worker->host[buffer], bytes);
	if (is(line, "copy-out"))
		return api.cuMemcpyDtoH(worker->host[buffer], memory, bytes);
	if (strstr(line->word[0], "-2d") || strstr(line->word[0], "-3d") || is(line, "copy-out-unaligned"))
		return rows_call(line, worker->host[buffer], memory, get(worker, line, 1), done);
	*done = false;
	return CUDA_SUCCESS;
}

static CUresult polled(CUresult (*ask)(void *handle), void *handle)
{
	CUresult rc;

	while ((rc = ask(handle)) == CUDA_ERROR_NOT_READY)
		sched_yield();
	return rc;
}

static CUresult wait_call(struct worker *worker, const struct line *line, bool *done)
{
	CUresult rc;

	*done = true;
	if (is(line, "sync"))
		return api.cuStreamSynchronize(get(worker, line, 1));
	if (is(line, "ctxsync"))
		return api.cuCtxSynchronize();
	if (is(line, "record"))
		return api.cuEventRecord(get(worker, line, 1), get(worker, line, 2));
	if (is(line, "wait"))
		return api.cuStreamWaitEvent(get(worker, line, 1), get(worker, line, 2), 0);
	if (is(line, "eventsync"))
		return api.cuEventSynchronize(get(worker, line, 1));
	if (is(line, "poll"))
		return polled((CUresult(*)(void *))api.cuStreamQuery, get(worker, line, 1));
	if (is(line, "pollevent"))
		return polled((CUresult(*)(void *))api.cuEventQuery, get(worker, line, 1));
	if (is(line, "query")) {
		rc = api.cuEventQuery(get(worker, line, 1));
		return rc == CUDA_ERROR_NOT_READY ? CUDA_SUCCESS : rc;
	}
	if (is(line, "hostfunc"))
		return await(worker, api.cuLaunchHostFunc(get(worker, line, 1), told, worker));
	if (is(line, "callback"))
		return await(worker, api.cuStreamAddCallback(get(worker, line, 1), told_back, worker, 0));
	*done = false;
	return CUDA_SUCCESS;
}

static CUresult graph_call(struct worker *worker, const struct line *line, bool *done)
{
	struct {
		int result;
		CUgraphNode node, from;
	} info;

	*done = true;
	if (is(line, "capture"))
		return api.cuStreamBeginCapture(get(worker, line, 1), capture_mode(line->word[2]));
	if (is(line, "endcapture"))
		return api.cuStreamEndCapture(get(worker, line, 1), (CUgraph *)slot(worker, line->word[2]));
	if (is(line, "clone"))
		return api.cuGraphClone((CUgraph *)slot(worker, line->word[2]), get(worker, line, 1));
	if (is(line, "instantiate"))
		return api.cuGraphInstantiateWithFlags((CUgraphExec *)slot(worker, line->word[2]), get(worker, line, 1),
						       0);
	if (is(line, "update"))
		return api.cuGraphExecUpdate(get(worker, line, 1), get(worker, line, 2),
					     (CUgraphExecUpdateResultInfo *)&info);
	if (is(line, "replay"))
		return api.cuGraphLaunch(get(worker, line, 1), get(worker, line, 2));
	if (is(line, "drop-graph"))
		return api.cuGraphDestroy(get(worker, line, 1));
	if (is(line, "drop-exec"))
		return api.cuGraphExecDestroy(get(worker, line, 1));
	*done = false;
	return CUDA_SUCCESS;
}

/* As a library, or as a module of before CUDA 12. */
static void load_kernels(struct worker *worker)
{
	const struct line first = {.word = {"setup"}};
	CUlibrary library;
	CUmodule module;
	CUkernel kernel;

	if (by_module)
		must(worker, &first, api.cuModuleLoadData(&module, image));
	else
		must(worker, &first, api.cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0));
	for (size_t i = 0; i < kernel_count; i++) {
		if (by_module) {
			must(worker, &first, api.cuModuleGetFunction(&kernels[i].function, module, kernels[i].name));
			continue;
		}
		must(worker, &first, api.cuLibraryGetKernel(&kernel, library, kernels[i].name));
		must(worker, &first, api.cuKernelGetFunction(&kernels[i].function, kernel));
	}
}

/* All that the program had of the device is gone, and what it needs is made again; its streams and memory stay. */
static CUresult reset(struct worker *worker)
{
	const struct line first = {.word = {"setup"}};
	CUresult rc = api.cuDevicePrimaryCtxReset(device);

	must(worker, &first, api.cuDevicePrimaryCtxRetain(&context, device));
	must(worker, &first, api.cuCtxSetCurrent(context));
	load_kernels(worker);
	return rc;
}

static CUresult context_call(struct worker *worker, const struct line *line, bool *done)
{
	CUcontext again;

	*done = true;
	if (is(line, "retain"))
		return api.cuDevicePrimaryCtxRetain(&again, device);
	if (is(line, "release"))
		return api.cuDevicePrimaryCtxRelease(device);
	if (is(line, "reset"))
		return reset(worker);
	if (is(line, "context"))
		return api.cuCtxCreate((CUcontext *)slot(worker, line->word[1]), 0, device);
	if (is(line, "use"))
		return api.cuCtxSetCurrent(get(worker, line, 1));
	*done = false;
	return CUDA_SUCCESS;
}

static CUresult other_call(struct worker *worker, const struct line *line)
{
	const struct timespec gap = {0, (long)strtoul(line->word[1], NULL, 10) * 1000};

	if (range_call(line, is(line, "start")                              ? slot(worker, line->word[2]) :
			     is(line, "stop") || is(line, "stop-elsewhere") ? slot(worker, line->word[1]) :
									      NULL))
		return CUDA_SUCCESS;
	if (is(line, "launch"))
		return launch(worker, line);
	if (is(line, "stream"))
		return make_stream(worker, line);
	if (is(line, "event"))
		return api.cuEventCreate((CUevent *)slot(worker, line->word[1]), 0);
	if (is(line, "drop-stream"))
		return api.cuStreamDestroy(get(worker, line, 1));
	if (is(line, "sleep"))
		nanosleep(&gap, NULL);
	else if (is(line, "fork"))
		in_child();
	else
		script_fail(&script, line, "no such command");
	return CUDA_SUCCESS;
}

static void step(struct worker *worker, const struct line *line)
{
	CUresult rc;
	bool done;

	if (is(line, "inference")) {
		worker->inferences++;
		return;
	}
	if (is(line, "expect-error")) {
		worker->expected = atoi(line->word[1]);
		return;
	}
	if (is(line, "kernel") || is(line, "cost") || is(line, "end"))
		return;
	rc = memory_call(worker, line, &done);
	if (!done)
		rc = wait_call(worker, line, &done);
	if (!done)
		rc = graph_call(worker, line, &done);
	if (!done)
		rc = context_call(worker, line, &done);
	if (!done)
		rc = other_call(worker, line);
	must(worker, line, rc);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void perform(struct worker *worker, size_t from, size_t to)
{
	for (size_t i = from; i < to;) {
		const struct line *line = &script.line[i];
		unsigned long outer = worker->at, n, part;

		if (is(line, "loop")) {
			n = strcmp(line->word[1], "runs") == 0 ? runs : strtoul(line->word[1], NULL, 10);
			for (worker->at = 0; worker->at < n && !ended; worker->at++) {
				uint64_t begin_ns = now_ns();

				perform(worker, i + 1, line->end - 1);
				if (times)
					fprintf(stderr, "times: %llu\n", (unsigned long long)(now_ns() - begin_ns));
			}
			worker->at = outer;
			i = line->end;
		} else if (is(line, "every") || is(line, "unless")) {
			n = strtoul(line->word[1], NULL, 10);
			part = strtoul(line->word[2], NULL, 10);
			if ((worker->at % n == part) == is(line, "every"))
				perform(worker, i + 1, line->end - 1);
			i = line->end;
		} else {
			step(worker, line);
			i++;
		}
	}
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	const struct line first = {.word = {"setup"}};
	const size_t bytes = sizeof(worker->host);

	must(worker, &first, api.cuCtxSetCurrent(context));
	must(worker, &first, api.cuMemAlloc(&worker->memory, bytes));
	for (int i = 0; i < BUFFERS * ELEMENTS; i++)
		worker->host[i / ELEMENTS][i % ELEMENTS] = (float)i / 8;
	must(worker, &first, api.cuMemcpyHtoD(worker->memory, worker->host, bytes));
	perform(worker, 0, script.lines);
	must(worker, &first, api.cuCtxSynchronize());
	must(worker, &first, api.cuMemcpyDtoH(worker->host, worker->memory, bytes));
	must(worker, &first, api.cuMemFree(worker->memory));
	return NULL;
}

static int print_device(void)
{
	void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
	__typeof__(&cuDeviceGetName) name = NULL;
	__typeof__(&cuDeviceGetAttribute) attribute = NULL;
	__typeof__(&cuDriverGetVersion) version = NULL;
	char text[128] = "?";
	int major = 0, minor = 0, cuda = 0;

	if (driver) {
		*(void **)&name = dlsym(driver, "cuDeviceGetName");
		*(void **)&attribute = dlsym(driver, "cuDeviceGetAttribute");
		*(void **)&version = dlsym(driver, "cuDriverGetVersion");
	}
	if (!name || !attribute || !version || name(text, sizeof(text), device) != CUDA_SUCCESS)
		return 1;
	attribute(&major, 75, device); /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, and _MINOR */
	attribute(&minor, 76, device);
	version(&cuda);
	printf("%s, compute capability %d.%d; CUDA %d.%d\n", text, major, minor, cuda / 1000, cuda % 1000 / 10);
	return 0;
}

static void options(int argc, char **argv)
{
	for (int i = 2; i < argc; i++) {
		if (strncmp(argv[i], "resolve=", 8) == 0)
			resolve = argv[i] + 8;
		else if (strncmp(argv[i], "threads=", 8) == 0)
			threads = (unsigned)atoi(argv[i] + 8);
		else if (strncmp(argv[i], "runs=", 5) == 0)
			runs = strtoul(argv[i] + 5, NULL, 10);
		else if (strcmp(argv[i], "ptsz") == 0)
			ptsz = true;
		else if (strcmp(argv[i], "module") == 0)
			by_module = true;
		else if (strcmp(argv[i], "times") == 0)
			times = true;
		else if (strcmp(argv[i], "ptx") == 0)
			ptx = true;
		else if (strncmp(argv[i], "ptx=", 4) == 0)
			ptx_file = argv[i] + 4;
		else if (strcmp(argv[i], "show-ptx") == 0)
			ptx = show_ptx = true;
		else if (strcmp(argv[i], "device") == 0)
			show_device = true;
		else
			script_fail(&script, NULL, argv[i]);
	}
}

/* Ends by itself, so that libraries loaded with it report. */
static void on_term(int signo)
{
	(void)signo;
	ended = 1;
}

int main(int argc, char **argv)
{
	struct worker *worker = calloc(THREADS_MAX, sizeof(*worker));
	pthread_t thread[THREADS_MAX];
	const struct line first = {.word = {"setup"}};
	unsigned long inferences = 0;

	if (argc < 2 || !worker)
		return 2;
	script.path = argv[1];
	options(argc, argv);
	script_read(&script);
	signal(SIGTERM, on_term);
	for (size_t i = 0; i < script.lines; i++)
		if (is(&script.line[i], "kernel"))
			kernels[kernel_count++].name = script.line[i].word[1];
	image = ptx_file ? image_read(&script, ptx_file) : ptx ? image_ptx(&script) : image_standin(&script);
	if (show_ptx) {
		fputs(image, stdout);
		return 0;
	}
	load_driver();
	must(worker, &first, api.cuInit(0));
	must(worker, &first, api.cuDeviceGet(&device, 0));
	if (show_device)
		return print_device();
	must(worker, &first, api.cuDevicePrimaryCtxRetain(&context, device));
	must(worker, &first, api.cuCtxSetCurrent(context));
	load_kernels(worker);
	for (unsigned i = 0; i < threads && i < THREADS_MAX; i++) {
		worker[i].index = i;
		pthread_mutex_init(&worker[i].lock, NULL);
		pthread_cond_init(&worker[i].told, NULL);
		pthread_create(&thread[i], NULL, work, &worker[i]);
	}
	for (unsigned i = 0; i < threads && i < THREADS_MAX; i++) {
		unsigned long sum = 5381;

		pthread_join(thread[i], NULL);
		for (size_t j = 0; j < sizeof(worker[i].host); j++)
			sum = sum * 33 + ((unsigned char *)worker[i].host)[j];
		printf("%u %lx\n", i, sum);
		inferences += worker[i].inferences;
	}
	fprintf(stderr, "truth=%lu\n", inferences);
	free(worker);
	return 0;
}
