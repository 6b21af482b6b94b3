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

/* The host waits for a copy on the default stream. */
static CUresult blocked(CUresult rc, bool from_device)
{
	struct stream *stream;

	if (rc != CUDA_SUCCESS)
		return rc;
	stream = stream_of(NULL, &rc);
	stream_wait_idle(stream);
	if (from_device)
		host_waited(stream);
	return CUDA_SUCCESS;
}

static CUresult copy(uintptr_t to, bool to_device, uintptr_t from, bool from_device, size_t bytes)
{
	CUresult rc = unsafe();

	return blocked(rc != CUDA_SUCCESS ? rc : copy_async(to, to_device, from, from_device, bytes, NULL),
		       from_device);
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

/* A side of a copy by rows: its memory, and the bytes from a row and from a slice to the next. */
struct side {
	CUmemorytype type;
	uintptr_t at;
	size_t pitch, slice;
};

static struct side side_of(CUmemorytype type, const void *host, CUdeviceptr device, size_t pitch, size_t height,
			   size_t x, size_t y, size_t z)
{
	uintptr_t base = type == CU_MEMORYTYPE_HOST ? (uintptr_t)host : (uintptr_t)device;

	return (struct side){type, base + z * pitch * height + y * pitch + x, pitch, pitch * height};
}

/* Arrays and unified memory are not stood in for. */
static CUresult copy_rows(const struct side *to, const struct side *from, size_t width, size_t height, size_t depth,
			  CUstream stream)
{
	CUresult rc = CUDA_SUCCESS;

	for (int i = 0; i < 2; i++) {
		const struct side *side = i ? to : from;
		if (side->type != CU_MEMORYTYPE_HOST && side->type != CU_MEMORYTYPE_DEVICE)
			return CUDA_ERROR_NOT_SUPPORTED;
		if (side->pitch < width)
			return CUDA_ERROR_INVALID_VALUE;
	}
	for (size_t z = 0; z < depth && rc == CUDA_SUCCESS; z++)
		for (size_t y = 0; y < height && rc == CUDA_SUCCESS; y++)
			rc = copy_async(to->at + z * to->slice + y * to->pitch, to->type == CU_MEMORYTYPE_DEVICE,
					from->at + z * from->slice + y * from->pitch,
					from->type == CU_MEMORYTYPE_DEVICE, width, stream);
	return rc;
}

static CUresult copy_2d(const CUDA_MEMCPY2D *c, CUstream stream)
{
	struct side to =
		side_of(c->dstMemoryType, c->dstHost, c->dstDevice, c->dstPitch, c->Height, c->dstXInBytes, c->dstY, 0);
	struct side from =
		side_of(c->srcMemoryType, c->srcHost, c->srcDevice, c->srcPitch, c->Height, c->srcXInBytes, c->srcY, 0);

	return copy_rows(&to, &from, c->WidthInBytes, c->Height, 1, stream);
}

static CUresult copy_3d(const CUDA_MEMCPY3D *c, CUstream stream)
{
	struct side to = side_of(c->dstMemoryType, c->dstHost, c->dstDevice, c->dstPitch, c->dstHeight, c->dstXInBytes,
				 c->dstY, c->dstZ);
	struct side from = side_of(c->srcMemoryType, c->srcHost, c->srcDevice, c->srcPitch, c->srcHeight,
				   c->srcXInBytes, c->srcY, c->srcZ);

	if (c->reserved0 || c->reserved1)
		return CUDA_ERROR_INVALID_VALUE;
	return copy_rows(&to, &from, c->WidthInBytes, c->Height, c->Depth, stream);
}

EXPORT CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *c)
{
	CUresult rc;

	ENTER;
	rc = unsafe();
	RETURN(blocked(rc != CUDA_SUCCESS ? rc : copy_2d(c, NULL), c->srcMemoryType == CU_MEMORYTYPE_DEVICE));
}

EXPORT CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *c)
{
	return cuMemcpy2D_v2(c);
}

EXPORT CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *c)
{
	CUresult rc;

	ENTER;
	rc = unsafe();
	RETURN(blocked(rc != CUDA_SUCCESS ? rc : copy_3d(c, NULL), c->srcMemoryType == CU_MEMORYTYPE_DEVICE));
}

EXPORT CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *c, CUstream stream)
{
	ENTER;
	RETURN(copy_2d(c, stream));
}

EXPORT CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *c, CUstream stream)
{
	ENTER;
	RETURN(copy_3d(c, stream));
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
