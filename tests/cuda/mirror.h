/* SPDX-License-Identifier: MIT */
/* A call of the driver, as mirror.c records it. */
#ifndef TESTS_CUDA_MIRROR_H
#define TESTS_CUDA_MIRROR_H

#include <stdint.h>

#define MIRROR_ARGUMENTS 12 /* of an entry point at most: cuLaunchKernel() has 11 */

struct mirror_call {
	const char *name; /* of the exported symbol */
	uintptr_t arguments[MIRROR_ARGUMENTS];
};

#endif
