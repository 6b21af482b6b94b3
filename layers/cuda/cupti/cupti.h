/* SPDX-License-Identifier: MIT */
/* libflamed-cupti.so: times of kernels by CUPTI, for `flamectl profile --cupti` only. A library of its own, so that it
 * is loaded only on request. */
#ifndef LAYERS_CUDA_CUPTI_H
#define LAYERS_CUDA_CUPTI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CUPTI_STARTER "flamed_cupti_start"

struct cupti_ops {
	/* Before a launch in this thread, and after it: returns the number of the launch for times(); 0: CUPTI did not
	 * see it. */
	void (*launching)(void);
	uint64_t (*launched)(void);
	/* First start and last end of its kernels, in ns of one clock. False: not recorded, or not yet. */
	bool (*times)(uint64_t launch, uint64_t *start_ns, uint64_t *end_ns);
	/* The error since the start, after which nothing is recorded and stop() has to be called; NULL: none. */
	const char *(*fault)(void);
	/* Leave CUPTI to others. Not from a callback of CUPTI's. */
	void (*stop)(void);
};

/* Check, then subscribe. `cuda` as cuDriverGetVersion() has it. Returns NULL with the reason in `why` and CUPTI
 * unchanged. Call it once in a process. */
typedef const struct cupti_ops *cupti_starter(int cuda, char *why, size_t size);

/* access.c. Whether this process may use CUPTI: on Jetson up to CUDA 12 only root, from 13 on a user who can open the
 * profiling nodes; otherwise CUPTI crashes (github.com/JuliaGPU/CUDA.jl pull request 3254). On other machines every
 * user may trace, and CUPTI returns an error if not (NVIDIA, CUPTI_ERROR_INSUFFICIENT_PRIVILEGES). `root` stands before
 * each path. */
bool cupti_allowed(const char *root, int cuda, bool privileged, char *why, size_t size);

#endif
