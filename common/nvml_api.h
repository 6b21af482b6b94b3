/* SPDX-License-Identifier: MIT */
/* The functions of NVML that flamed calls to lock clocks: the keeper loads all or refuses the library, and
 * `flamectl verify cuda` looks for the same ones. */
#ifndef COMMON_NVML_API_H
#define COMMON_NVML_API_H

#define NVML_LIBRARY "libnvidia-ml.so.1"

struct nvml_utilization {
	unsigned int gpu, memory; /* percent of time */
};

/* X(function, parameters), of the NVML API Reference. */
#define NVML_API(X) \
	X(nvmlInit_v2, (void)) \
	X(nvmlDeviceGetHandleByPciBusId_v2, (const char *bus_id, void **device)) \
	X(nvmlDeviceSetGpuLockedClocks, (void *device, unsigned int min_mhz, unsigned int max_mhz)) \
	X(nvmlDeviceResetGpuLockedClocks, (void *device)) \
	X(nvmlDeviceSetMemoryLockedClocks, (void *device, unsigned int min_mhz, unsigned int max_mhz)) \
	X(nvmlDeviceResetMemoryLockedClocks, (void *device)) \
	X(nvmlDeviceGetClockInfo, (void *device, int type, unsigned int *mhz)) \
	X(nvmlDeviceGetUtilizationRates, (void *device, struct nvml_utilization *out)) \
	X(nvmlDeviceGetCurrentClocksThrottleReasons, (void *device, unsigned long long *reasons))

#endif
