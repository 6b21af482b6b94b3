/* SPDX-License-Identifier: MIT */
/* The stand-in libnvidia-ml.so.1: one GPU, 0000:01:00.0, whose state is files in $STANDIN_NVML, so that it outlives the
 * process as a lock does: graphics_lock and memory_lock ("MIN MAX"; no file: default), graphics_clock and memory_clock
 * (what it runs at, else its lock), busy (percent), reasons, fault ("FUNCTION ERROR": that call fails), delay_us (of a
 * lock), calls (a log). Strict as the NVML API Reference is: nothing before nvmlInit, no handle made up, no lock with
 * its ends crossed or above 3000 MHz. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUS_ID  "0000:01:00.0"
#define TOP_MHZ 3000

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6 };

struct utilization {
	unsigned int gpu, memory;
};

static int initialized, device_handle;

static void path_of(const char *name, char path[512])
{
	const char *dir = getenv("STANDIN_NVML");

	snprintf(path, 512, "%s/%s", dir ? dir : "/nonexistent", name);
}

static int get(const char *name, char text[128])
{
	char path[512];
	FILE *file;
	int found = 0;

	path_of(name, path);
	file = fopen(path, "r");
	if (file) {
		found = fgets(text, 128, file) != NULL;
		fclose(file);
	}
	return found;
}

static void put(const char *name, const char *mode, const char *text)
{
	char path[512];
	FILE *file;

	path_of(name, path);
	file = fopen(path, mode);
	if (!file)
		return;
	fprintf(file, "%s\n", text);
	fclose(file);
}

/* Every call begins with it: 0, or the error that it is to return. */
static int enter(const char *function, const void *device)
{
	char text[128], name[128];
	int error;

	put("calls", "a", function);
	if (get("fault", text) && sscanf(text, "%127s %d", name, &error) == 2 && strcmp(name, function) == 0)
		return error;
	if (!initialized && strcmp(function, "nvmlInit_v2") != 0)
		return UNINITIALIZED;
	return device && device != &device_handle ? INVALID_ARGUMENT : OK;
}
#define ENTER(device) \
	int error_ = enter(__func__, device); \
	if (error_ != OK) \
	return error_

static int lock(const char *name, unsigned int min_mhz, unsigned int max_mhz)
{
	char text[128];

	if (min_mhz > max_mhz || max_mhz > TOP_MHZ)
		return INVALID_ARGUMENT;
	if (get("delay_us", text))
		usleep((useconds_t)atoi(text));
	snprintf(text, sizeof(text), "%u %u", min_mhz, max_mhz);
	put(name, "w", text);
	return OK;
}

static int reset(const char *name)
{
	char path[512];

	path_of(name, path);
	unlink(path);
	return OK;
}

int nvmlInit_v2(void)
{
	ENTER(NULL);
	initialized = 1;
	return OK;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device)
{
	ENTER(NULL);
	if (strcmp(bus_id, BUS_ID) != 0 && strcmp(bus_id, "0000" BUS_ID) != 0)
		return NOT_FOUND;
	*device = &device_handle;
	return OK;
}

int nvmlDeviceSetGpuLockedClocks(void *device, unsigned int min_mhz, unsigned int max_mhz)
{
	ENTER(device);
	return lock("graphics_lock", min_mhz, max_mhz);
}

int nvmlDeviceResetGpuLockedClocks(void *device)
{
	ENTER(device);
	return reset("graphics_lock");
}

int nvmlDeviceSetMemoryLockedClocks(void *device, unsigned int min_mhz, unsigned int max_mhz)
{
	ENTER(device);
	return lock("memory_lock", min_mhz, max_mhz);
}

int nvmlDeviceResetMemoryLockedClocks(void *device)
{
	ENTER(device);
	return reset("memory_lock");
}

int nvmlDeviceGetClockInfo(void *device, int type, unsigned int *mhz)
{
	char text[128];

	ENTER(device);
	if (type != 0 && type != 2)
		return INVALID_ARGUMENT;
	*mhz = get(type ? "memory_clock" : "graphics_clock", text) ||
			       get(type ? "memory_lock" : "graphics_lock", text) ?
		       (unsigned int)atoi(text) :
		       TOP_MHZ;
	return OK;
}

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *out)
{
	char text[128];

	ENTER(device);
	out->gpu = get("busy", text) ? (unsigned int)atoi(text) : 0;
	out->memory = 0;
	return OK;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons)
{
	char text[128];

	ENTER(device);
	*reasons = get("reasons", text) ? strtoull(text, NULL, 0) : 0;
	return OK;
}

/* For flamectl verify */

struct pci {
	char bus_id_legacy[16];
	unsigned int domain, bus, device, device_id, subsystem_id;
	char bus_id[32];
};

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device)
{
	ENTER(NULL);
	if (index != 0)
		return INVALID_ARGUMENT;
	*device = &device_handle;
	return OK;
}

int nvmlDeviceGetPciInfo_v3(void *device, struct pci *out)
{
	ENTER(device);
	*out = (struct pci){.bus = 1, .bus_id = "0000" BUS_ID};
	return OK;
}

int nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned int *mhz)
{
	ENTER(device);
	*mhz = type == 2 ? 2619 : 1980;
	return OK;
}
