/* SPDX-License-Identifier: MIT */
#include "nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../common/log.h"
#include "../common/nvml_api.h"
#include "../common/units.h"

#define PREFIX       "/nvml/"
#define BUS_ID_MAX   32 /* bytes of "00000000:01:00.0" and its NUL */
#define BUSY_PERCENT 50 /* of the last sample period, from 1/6 s to 1 s by product, some kernel ran */
#define MHZ          1000000ULL

enum {
	NVML_OK = 0,
	NVML_INVALID_ARGUMENT = 2,
	NVML_NOT_SUPPORTED = 3,
	NVML_NO_PERMISSION = 4,
	NVML_NOT_FOUND = 6,
	NVML_GPU_IS_LOST = 15
};
enum { CLOCK_GRAPHICS = 0, CLOCK_MEMORY = 2 };

#define FIELD(name, params) int(*name) params;
static struct {
	bool loaded;
	NVML_API(FIELD)
} nvml;

static struct {
	char path[SYSFS_PATH_MAX];
	char value[KNOB_VALUE_MAX]; /* last written */
} written[KNOBS_MAX];

static int error_of(int rc)
{
	switch (rc) {
	case NVML_OK: return 0;
	case NVML_INVALID_ARGUMENT: return -EINVAL;
	case NVML_NOT_SUPPORTED: return -EOPNOTSUPP;
	case NVML_NO_PERMISSION: return -EPERM;
	case NVML_NOT_FOUND:
	case NVML_GPU_IS_LOST: return -ENODEV;
	default: return -EIO;
	}
}

static int load(void)
{
	void *library = nvml.loaded ? NULL : dlopen(NVML_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	int rc;

	if (nvml.loaded)
		return 0;
	if (!library) {
		if (log_first(NVML_LIBRARY))
			log_warning("%s", dlerror());
		return -ELIBACC;
	}
#define FIND(name, params) \
	*(void **)&nvml.name = dlsym(library, #name); \
	if (!nvml.name) { \
		if (log_first(#name)) \
			log_warning(NVML_LIBRARY " has no " #name ": its driver is too old to lock clocks"); \
		dlclose(library); \
		return -ELIBACC; \
	}
	NVML_API(FIND)
	rc = error_of(nvml.nvmlInit_v2());
	nvml.loaded = rc == 0;
	if (rc < 0)
		dlclose(library);
	return rc;
}

bool nvml_is(const char *path)
{
	return !strncmp(path, PREFIX, sizeof(PREFIX) - 1);
}

static bool is_memory(const char *path)
{
	return strstr(path, "/memory/") != NULL;
}

/* A handle becomes invalid with its GPU, so it is looked up at each call, which takes microseconds. */
static int find_device(const char *path, void **device)
{
	const char *bus_id = path + sizeof(PREFIX) - 1;
	size_t len = strcspn(bus_id, "/");
	char text[BUS_ID_MAX];
	int rc = load();

	if (len == 0 || len >= sizeof(text))
		return -EINVAL;
	memcpy(text, bus_id, len);
	text[len] = '\0';
	return rc < 0 ? rc : error_of(nvml.nvmlDeviceGetHandleByPciBusId_v2(text, device));
}

/* Where a knob's last value is kept: there are no more knobs than the table has. */
static char *value_of(const char *path)
{
	size_t i = 0;

	while (i + 1 < KNOBS_MAX && written[i].path[0] && strcmp(written[i].path, path) != 0)
		i++;
	if (!written[i].path[0]) {
		snprintf(written[i].path, sizeof(written[i].path), "%s", path);
		snprintf(written[i].value, sizeof(written[i].value), NVML_DEFAULT);
	}
	return written[i].value;
}

int nvml_read(const char *path, char value[KNOB_VALUE_MAX])
{
	memcpy(value, value_of(path), KNOB_VALUE_MAX);
	return 0;
}

int nvml_write(const char *path, const char *value)
{
	bool memory = is_memory(path), reset = !strcmp(value, NVML_DEFAULT);
	char *last = value_of(path);
	uint64_t mhz = 0;
	void *device;

	if (!reset && (parse_u64(value, &mhz) < 0 || mhz == 0 || mhz > UINT32_MAX))
		return -EINVAL;
	int rc = find_device(path, &device);
	if (rc < 0)
		return rc;
	if (reset)
		rc = error_of(memory ? nvml.nvmlDeviceResetMemoryLockedClocks(device) :
				       nvml.nvmlDeviceResetGpuLockedClocks(device));
	else if (memory)
		rc = error_of(nvml.nvmlDeviceSetMemoryLockedClocks(device, (unsigned int)mhz, (unsigned int)mhz));
	else
		rc = error_of(nvml.nvmlDeviceSetGpuLockedClocks(device, (unsigned int)mhz, (unsigned int)mhz));
	if (rc == 0)
		snprintf(last, KNOB_VALUE_MAX, "%s", value);
	return rc;
}

static const char *slowed_by(unsigned long long reasons)
{
	static const struct {
		unsigned long long bit;
		const char *text;
	} names[] = {{0x4, "its power cap"},      {0x8, "a hardware slowdown"}, {0x20, "its temperature"},
		     {0x40, "its temperature"},   {0x80, "the power supply"},   {0x2, "application clocks"},
		     {0x10, "a sync boost group"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (reasons & names[i].bit)
			return names[i].text;
	return NULL;
}

/* Values that a GPU does not report stay 0: in MIG mode there is no utilization of the whole GPU (NVML API
 * Reference). */
static int error_of_query(int rc)
{
	return rc == NVML_NOT_SUPPORTED ? 0 : error_of(rc);
}

int nvml_read_clock(const char *path, struct nvml_clock *out)
{
	struct nvml_utilization used = {0};
	unsigned long long reasons = 0;
	unsigned int mhz = 0;
	void *device;
	int rc = find_device(path, &device);

	*out = (struct nvml_clock){0};
	if (rc == 0)
		rc = error_of_query(
			nvml.nvmlDeviceGetClockInfo(device, is_memory(path) ? CLOCK_MEMORY : CLOCK_GRAPHICS, &mhz));
	if (rc == 0)
		rc = error_of_query(nvml.nvmlDeviceGetUtilizationRates(device, &used));
	if (rc == 0)
		rc = error_of_query(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device, &reasons));
	if (rc < 0)
		return rc;
	*out = (struct nvml_clock){mhz * MHZ, mhz && used.gpu >= BUSY_PERCENT, slowed_by(reasons)};
	return 0;
}
