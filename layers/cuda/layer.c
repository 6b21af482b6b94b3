/* SPDX-License-Identifier: MIT */
/* Initialisation of the CUDA layer. It has no effect in a program that never loads the driver. */
#include "nvtx.h"
#include "profiler.h"

#include <pthread.h>

struct cuda_own own;
__thread bool in_host_function;

static const char *event_source(void)
{
	return profiler_on() ? "cupti" : "events";
}

static const struct layer_backend backend = {
	.name = "cuda",
	.times = event_times,
	.complete = event_complete,
	.release = event_release,
	.source = event_source,
	.kernel_name = kernel_name,
	.polls_believed = 3, /* as in the OpenCL layer */
	.ranges = true,
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool wanted;

static void start(void)
{
	wanted = core_start(&backend);
	if (wanted && nvtx_on())
		core_go(); /* ranges need no driver */
}

bool layer_begin(void)
{
	pthread_once(&once, start);
	return wanted;
}

void cuda_start(void)
{
	if (!layer_begin())
		return;
#define FIND(name) *(void **)&own.name = cuda_symbol(#name);
	CUDA_OWN(FIND)
	/* CUDA 11.3, or 11.4 on Jetson with JetPack 5: earlier versions cannot identify captures. */
	if (!own.cuCtxGetCurrent || !own.cuStreamGetCaptureInfo_v2 || !own.cuThreadExchangeStreamCaptureMode ||
	    !cuda_fn(FN_cuLaunchKernel) || !cuda_fn(FN_cuStreamSynchronize)) {
		if (layer_on()) /* for ranges */
			layer_off("this CUDA driver is older than 11.3");
		else
			layer_say("this CUDA driver is older than 11.3: the program runs without flamed");
		return;
	}
	if (!nvtx_on())
		core_go();
}
