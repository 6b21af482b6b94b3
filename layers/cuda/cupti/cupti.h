/* SPDX-License-Identifier: MIT */
/* libflamed-cupti.so: times of kernels by CUPTI, for `flamectl profile --cupti`
 * only. A library of its own, so that nobody loads it who did not ask. */
#ifndef LAYERS_CUDA_CUPTI_H
#define LAYERS_CUDA_CUPTI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CUPTI_STARTER "flamed_cupti_start"

struct cupti_ops {
	/* Before a launch in this thread, and after it: what names the launch to times(); 0: CUPTI did not see it. */
	void (*launching)(void);
	uint64_t (*launched)(void);
	/* First start and last end of its kernels, in ns of one clock. False: not recorded, or not yet. */
	bool (*times)(uint64_t launch, uint64_t *start_ns, uint64_t *end_ns);
	/* What went wrong since; NULL: nothing. Nothing is recorded from then on. Call stop() then. */
	const char *(*fault)(void);
	/* Leave CUPTI to others. Not from a callback of CUPTI's. */
	void (*stop)(void);
};

/* Check, then subscribe. `cuda` as cuDriverGetVersion() has it. NULL: `why` says
 * what is in the way, and CUPTI is as it was. Once a process. */
typedef const struct cupti_ops *cupti_starter(int cuda, char *why, size_t size);

/* access.c. Whether CUPTI may be asked on this machine: on Jetson up to CUDA 12
 * root may, from 13 who can open the profiling nodes; CUPTI itself crashes
 * where it cannot (github.com/JuliaGPU/CUDA.jl pull request 3254). Elsewhere
 * tracing is for everybody (NVIDIA, CUPTI_ERROR_INSUFFICIENT_PRIVILEGES), and
 * CUPTI says itself what it refuses. `root` stands before each path. */
bool cupti_allowed(const char *root, int cuda, bool privileged, char *why, size_t size);

#endif
