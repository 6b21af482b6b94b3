/* SPDX-License-Identifier: MIT */
/* The stand-in's memory, which is the host's, and copies. */
#include "standin.h"

#include <stdlib.h>

#define ALLOCATIONS_MAX 4096

static struct {
	char *at;
	size_t bytes;
} allocation[ALLOCATIONS_MAX];
static size_t allocations;

static bool known(uintptr_t at, size_t bytes)
{
	bool found = false;

	pthread_mutex_lock(&state);
	for (size_t i = 0; i < allocations; i++)
		found |= at >= (uintptr_t)allocation[i].at &&
			 at + bytes <= (uintptr_t)allocation[i].at + allocation[i].bytes;
	pthread_mutex_unlock(&state);
	return found;
}

static CUresult allocate(void **at, size_t bytes)
{
	char *memory = bytes ? calloc(1, bytes) : NULL;

	if (!memory)
		return bytes ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&state);
	if (allocations == ALLOCATIONS_MAX)
		abort();
	allocation[allocations].at = memory;
	allocation[allocations++].bytes = bytes;
	pthread_mutex_unlock(&state);
	*at = memory;
	return CUDA_SUCCESS;
}

static CUresult release(const void *at)
{
	CUresult rc = CUDA_ERROR_INVALID_VALUE;

	streams_wait_idle();
	pthread_mutex_lock(&state);
	for (size_t i = 0; i < allocations && rc != CUDA_SUCCESS; i++)
		if (allocation[i].at == at) {
			free(allocation[i].at);
			allocation[i] = allocation[--allocations];
			rc = CUDA_SUCCESS;
		}
	pthread_mutex_unlock(&state);
	return rc;
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes)
{
	void *memory = NULL;
	CUresult rc;

	ENTER;
	rc = unsafe() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : allocate(&memory, bytes);
	*at = (CUdeviceptr)(uintptr_t)memory;
	RETURN(rc);
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr at)
{
	ENTER;
	RETURN(unsafe() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : release((const void *)(uintptr_t)at));
}

EXPORT CUresult cuMemAllocHost_v2(void **at, size_t bytes)
{
	ENTER;
	RETURN(unsafe() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : allocate(at, bytes));
}

EXPORT CUresult cuMemFreeHost(void *at)
{
	ENTER;
	RETURN(release(at));
}

static CUresult copy_async(uintptr_t to, bool to_device, uintptr_t from, bool from_device, size_t bytes,
			   CUstream handle)
{
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream = stream_of(handle, &rc);

	if (!stream)
		return rc;
	if ((to_device && !known(to, bytes)) || (from_device && !known(from, bytes)))
		return CUDA_ERROR_INVALID_VALUE;
	if (!from_device)
		host_uploads();
	return stream_push(stream,
			   &(struct op){.kind = OP_COPY, .to = (void *)to, .from = (const void *)from, .bytes = bytes});
}

/* On the default stream, and the host waits for it. */
static CUresult copy(uintptr_t to, bool to_device, uintptr_t from, bool from_device, size_t bytes)
{
	CUresult rc = unsafe();
	struct stream *stream;

	if (rc == CUDA_SUCCESS)
		rc = copy_async(to, to_device, from, from_device, bytes, NULL);
	if (rc != CUDA_SUCCESS)
		return rc;
	stream = stream_of(NULL, &rc);
	stream_wait_idle(stream);
	if (from_device)
		host_waited(stream);
	return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
	ENTER;
	RETURN(copy((uintptr_t)to, true, (uintptr_t)from, false, bytes));
}

EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
	ENTER;
	RETURN(copy((uintptr_t)to, false, (uintptr_t)from, true, bytes));
}

EXPORT CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
	ENTER;
	RETURN(copy((uintptr_t)to, known((uintptr_t)to, bytes), (uintptr_t)from, known((uintptr_t)from, bytes), bytes));
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
	ENTER;
	RETURN(copy_async((uintptr_t)to, true, (uintptr_t)from, false, bytes, stream));
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	ENTER;
	RETURN(copy_async((uintptr_t)to, false, (uintptr_t)from, true, bytes, stream));
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	ENTER;
	RETURN(copy_async((uintptr_t)to, true, (uintptr_t)from, true, bytes, stream));
}

EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	ENTER;
	RETURN(copy_async((uintptr_t)to, known((uintptr_t)to, bytes), (uintptr_t)from, known((uintptr_t)from, bytes),
			  bytes, stream));
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream handle)
{
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream;

	ENTER;
	stream = stream_of(handle, &rc);
	if (!stream)
		RETURN(rc);
	if (!known((uintptr_t)to, bytes))
		RETURN(CUDA_ERROR_INVALID_VALUE);
	RETURN(stream_push(stream,
			   &(struct op){.kind = OP_SET, .to = (void *)(uintptr_t)to, .value = value, .bytes = bytes}));
}
