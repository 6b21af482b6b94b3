/* SPDX-License-Identifier: MIT */
/* A buffer of ELEMENTS numbers, copied between the host and the device in two and three dimensions. */
#ifndef TESTS_CUDA_COPIES_H
#define TESTS_CUDA_COPIES_H

#include <stdbool.h>
#include "../../layers/cuda/api.h"

/* As rows, and as two slices of rows. */
CUDA_MEMCPY2D rows_of(float *host, CUdeviceptr memory, bool to_host);
CUDA_MEMCPY3D slices_of(float *host, CUdeviceptr memory, bool to_host);

#endif
