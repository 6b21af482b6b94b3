/* SPDX-License-Identifier: MIT */
/* The part of CUPTI that is used, as its documentation describes it (Activity
 * and Callback API, CUDA 10 to 13). Nothing of NVIDIA's is included;
 * tests/cuda/test_symbols.py compares numbers, offsets and prototypes with an
 * installed toolkit's. */
#ifndef LAYERS_CUDA_CUPTI_ABI_H
#define LAYERS_CUDA_CUPTI_ABI_H

#include <stddef.h>
#include <stdint.h>

enum {
	CUPTI_OK = 0,
	CUPTI_INVALID_PARAMETER = 1,
	CUPTI_INVALID_OPERATION = 7,
	CUPTI_MAX_LIMIT_REACHED = 12,
	CUPTI_NOT_INITIALIZED = 15,
	CUPTI_INVALID_KIND = 21,
	CUPTI_MULTIPLE_SUBSCRIBERS = 39
};
enum { CUPTI_KIND_CONCURRENT_KERNEL = 10 };
enum { CUPTI_DOMAIN_DRIVER = 1, CUPTI_DOMAIN_RUNTIME = 2 };
enum { CUPTI_ENTER = 0, CUPTI_EXIT = 1 };

/* Callback numbers of what launches: X(name without its domain, number). */
#define CUPTI_DRIVER_LAUNCHES(X) \
	X(cuLaunchKernel, 307) \
	X(cuLaunchKernel_ptsz, 442) \
	X(cuLaunchCooperativeKernel, 477) \
	X(cuLaunchCooperativeKernel_ptsz, 478) \
	X(cuGraphLaunch, 514) \
	X(cuGraphLaunch_ptsz, 515) \
	X(cuLaunchKernelEx, 652) \
	X(cuLaunchKernelEx_ptsz, 653)
#define CUPTI_RUNTIME_LAUNCHES(X) \
	X(cudaLaunchKernel_v7000, 211) \
	X(cudaLaunchKernel_ptsz_v7000, 214) \
	X(cudaLaunchCooperativeKernel_v9000, 269) \
	X(cudaLaunchCooperativeKernel_ptsz_v9000, 270) \
	X(cudaGraphLaunch_v10000, 311) \
	X(cudaGraphLaunch_ptsz_v10000, 312) \
	X(cudaLaunchKernelExC_v11060, 430) \
	X(cudaLaunchKernelExC_ptsz_v11060, 431)

struct cupti_callback {
	uint32_t site; /* CUPTI_ENTER or _EXIT */
	const char *function;
	const void *params;
	void *value;
	const char *symbol;
	void *context;
	uint32_t context_uid;
	uint64_t *data;
	uint32_t correlation;
};

/* Begin of a record of a kernel: the same in all its versions since CUDA 9. */
struct cupti_kernel {
	uint32_t kind;
	uint32_t configuration[3];
	uint64_t start_ns, end_ns, completed_ns; /* 0: not known */
	uint32_t device, context, stream;
	int32_t shape[8];
	uint32_t local_memory[2];
	uint32_t correlation;
};

typedef void cupti_callback_fn(void *arg, int domain, uint32_t callback, const void *data);
typedef void cupti_request_fn(uint8_t **buffer, size_t *size, size_t *records_max);
typedef void cupti_complete_fn(void *context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid);

/* X(function, parameters) */
#define CUPTI_API(X) \
	X(cuptiSubscribe, (void **subscriber, cupti_callback_fn *callback, void *arg)) \
	X(cuptiUnsubscribe, (void *subscriber)) \
	X(cuptiEnableCallback, (uint32_t enable, void *subscriber, int domain, uint32_t callback)) \
	X(cuptiActivityRegisterCallbacks, (cupti_request_fn * request, cupti_complete_fn * complete)) \
	X(cuptiActivityEnable, (int kind)) \
	X(cuptiActivityDisable, (int kind)) \
	X(cuptiActivityFlushAll, (uint32_t flags)) \
	X(cuptiActivityGetNextRecord, (uint8_t * buffer, size_t valid, void **record)) \
	X(cuptiActivityGetNumDroppedRecords, (void *context, uint32_t stream, size_t *dropped)) \
	X(cuptiGetResultString, (int result, const char **text))

#endif
