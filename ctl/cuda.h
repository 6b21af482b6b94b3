/* SPDX-License-Identifier: MIT */
/* Facts about the CUDA driver of this machine. */
#ifndef CTL_CUDA_H
#define CTL_CUDA_H

#include <stdbool.h>

#define CUDA_VERSION_MIN 11030 /* the first version in which captures can be identified; see layers/cuda/layer.c */

struct cuda_report {
	bool loaded; /* libcuda.so.1 was loaded */
	int version; /* 12040: CUDA 12.4 */
	int error;   /* of cuInit() or a later query; 0: none */
	int devices;
	char name[128];   /* of the first device */
	int major, minor; /* its compute capability */
	char why[256];    /* dlerror() text if not loaded */
};

/* Query the driver in a child process, as a broken driver may crash. Returns 0, or a negative
 * errno; -EIO if the child crashed. */
int cuda_ask(struct cuda_report *out);

/* Whether the kernel module restricts GPU performance counters to root: 1, 0, or -ENOENT if there is no such module (as
 * on Jetson). */
int cuda_counters_restricted(void);

/* The clocks of the first GPU that NVML can lock. Returns 0, or -ENOENT without the library, -ELIBACC if it lacks a
 * function that the keeper calls, -ENODEV without such a GPU. NVML is called in a process of its own. */
struct nvml_report {
	char bus_id[32];                   /* as in a board file's /nvml/BUS-ID/graphics */
	unsigned graphics_mhz, memory_mhz; /* the highest; 0: unknown */
	char missing[64];                  /* that function; "": none */
	int error;
};
int cuda_ask_nvml(struct nvml_report *out);

#endif
