/* SPDX-License-Identifier: MIT */
/* OpenCL devices, and three small workloads that show the effect of each clock: launches of an
 * empty kernel, a compute-bound kernel, a bandwidth-bound kernel. */
#ifndef LAYERS_OPENCL_WORK_H
#define LAYERS_OPENCL_WORK_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORK_DEVICES_MAX 16

struct work_device {
	char platform[96], name[128], type[16], version[64];
	char why_not[192]; /* "" if the device is usable */
	cl_device_id id;
};

/* The measurements of one round; 0: not in this round. */
struct work_round {
	uint64_t at_ns; /* end of the round */
	uint64_t launch_ns, compute_ns, bandwidth_ns;
};

struct probe_work;

/* List every device of every platform. Returns their number; 0 with `why` if there is none. */
size_t work_devices(struct work_device devices[WORK_DEVICES_MAX], char why[192]);

/* Build kernels, sized so that one takes about `kernel_ns` at the current clocks. NULL with `why`. */
struct probe_work *work_new(const struct work_device *device, uint64_t kernel_ns, char why[192]);
void work_free(struct probe_work *work);

/* Run one round of all three. Returns 0 or an OpenCL error. */
int work_run(struct probe_work *work, struct work_round *out);

/* Bytes moved by the bandwidth-bound kernel, and operations of the compute-bound one. */
uint64_t work_bytes(const struct probe_work *work);
uint64_t work_operations(const struct probe_work *work);

#endif
