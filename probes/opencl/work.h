/* SPDX-License-Identifier: MIT */
/* OpenCL devices, and three small pieces of work that show what each clock is
 * worth: launches of an empty kernel, a compute-bound kernel, a
 * bandwidth-bound one. */
#ifndef PROBES_OPENCL_WORK_H
#define PROBES_OPENCL_WORK_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORK_DEVICES_MAX 16

struct work_device {
	char platform[96], name[128], type[16], version[64];
	char why_not[192]; /* "" when it can be used */
	cl_device_id id;
};

/* What one round measured; 0: not in this round. */
struct work_round {
	uint64_t at_ns; /* when it ended */
	uint64_t launch_ns, compute_ns, bandwidth_ns;
};

struct work;

/* Every device of every platform. Returns their number; 0 with `why` when there
 * is none at all. */
size_t work_devices(struct work_device devices[WORK_DEVICES_MAX], char why[192]);

/* Kernels built and sized so that one takes about `kernel_ns` now. NULL with
 * `why`. */
struct work *work_new(const struct work_device *device, uint64_t kernel_ns, char why[192]);
void work_free(struct work *work);

/* One round of all three; returns 0 or an OpenCL error. */
int work_run(struct work *work, struct work_round *out);

/* Bytes that the bandwidth-bound kernel moves, operations of the other one. */
uint64_t work_bytes(const struct work *work);
uint64_t work_operations(const struct work *work);

#endif
