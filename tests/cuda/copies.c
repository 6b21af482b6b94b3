/* SPDX-License-Identifier: MIT */
#include "copies.h"

#include "image.h"

#define ROW_BYTES 64

CUDA_MEMCPY2D rows_of(float *host, CUdeviceptr memory, bool to_host)
{
	CUDA_MEMCPY2D copy = {.srcMemoryType = to_host ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST,
			      .dstMemoryType = to_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE,
			      .srcHost = host,
			      .dstHost = host,
			      .srcDevice = memory,
			      .dstDevice = memory};

	copy.srcPitch = copy.dstPitch = copy.WidthInBytes = ROW_BYTES;
	copy.Height = ELEMENTS * sizeof(float) / ROW_BYTES;
	return copy;
}

CUDA_MEMCPY3D slices_of(float *host, CUdeviceptr memory, bool to_host)
{
	CUDA_MEMCPY2D rows = rows_of(host, memory, to_host);
	CUDA_MEMCPY3D copy = {.srcMemoryType = rows.srcMemoryType,
			      .dstMemoryType = rows.dstMemoryType,
			      .srcHost = host,
			      .dstHost = host,
			      .srcDevice = memory,
			      .dstDevice = memory,
			      .Depth = 2};

	copy.srcPitch = copy.dstPitch = copy.WidthInBytes = ROW_BYTES;
	copy.srcHeight = copy.dstHeight = copy.Height = rows.Height / 2;
	return copy;
}
