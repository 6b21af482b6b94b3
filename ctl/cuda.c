/* SPDX-License-Identifier: MIT */
#include "cuda.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../common/file.h"
#include "../common/nvml_api.h"

#define DRIVER          "libcuda.so.1"
#define MODULE_PARAMS   "/proc/driver/nvidia/params"
#define ATTRIBUTE_MAJOR 75 /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, and _MINOR */

static void ask(void *arg)
{
	struct cuda_report *report = arg;
	void *driver = dlopen(DRIVER, RTLD_NOW | RTLD_LOCAL);
	int (*version)(int *), (*init)(unsigned), (*count)(int *), (*get)(int *, int), (*name)(char *, int, int),
		(*attribute)(int *, int, int);
	int device = 0;

	if (!driver) {
		snprintf(report->why, sizeof(report->why), "%s", dlerror());
		return;
	}
	report->loaded = true;
	*(void **)&version = dlsym(driver, "cuDriverGetVersion");
	*(void **)&init = dlsym(driver, "cuInit");
	*(void **)&count = dlsym(driver, "cuDeviceGetCount");
	*(void **)&get = dlsym(driver, "cuDeviceGet");
	*(void **)&name = dlsym(driver, "cuDeviceGetName");
	*(void **)&attribute = dlsym(driver, "cuDeviceGetAttribute");
	if (!version || !init || !count || !get || !name || !attribute) {
		report->error = ENOSYS;
		return;
	}
	version(&report->version);
	report->error = init(0);
	if (report->error == 0)
		report->error = count(&report->devices);
	if (report->error || report->devices == 0)
		return;
	report->error = get(&device, 0);
	if (report->error == 0)
		report->error = name(report->name, sizeof(report->name), device);
	attribute(&report->major, ATTRIBUTE_MAJOR, device);
	attribute(&report->minor, ATTRIBUTE_MAJOR + 1, device);
}

/* A library that is broken ends the child only. */
static int ask_apart(void (*question)(void *out), void *out, size_t size)
{
	int ends[2], status = 0;
	ssize_t n;
	pid_t pid;

	memset(out, 0, size);
	if (pipe(ends) < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		question(out);
		n = write(ends[1], out, size);
		_exit(n == (ssize_t)size ? 0 : 1);
	}
	close(ends[1]);
	n = pid > 0 ? read(ends[0], out, size) : -1;
	close(ends[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -EIO;
	return n == (ssize_t)size ? 0 : -EIO;
}

int cuda_ask(struct cuda_report *out)
{
	return ask_apart(ask, out, sizeof(*out));
}

struct nvml_pci { /* nvmlPciInfo_t of nvmlDeviceGetPciInfo_v3(), NVML API Reference */
	char bus_id_legacy[16];
	unsigned domain, bus, device, device_id, subsystem_id;
	char bus_id[32];
};

/* The first function that the keeper needs and the library lacks; NULL: it has all. */
static const char *nvml_lacks(void *library)
{
#define NAME(name, params) #name,
	static const char *const names[] = {NVML_API(NAME)};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!dlsym(library, names[i]))
			return names[i];
	return NULL;
}

static void ask_nvml(void *arg)
{
	struct nvml_report *report = arg;
	void *library = dlopen(NVML_LIBRARY, RTLD_NOW | RTLD_LOCAL), *device = NULL;
	int (*init)(void), (*handle)(unsigned, void **), (*pci)(void *, struct nvml_pci *),
		(*most)(void *, int, unsigned *);
	struct nvml_pci where = {0};
	const char *missing;

	report->error = -ENOENT;
	if (!library)
		return;
	missing = nvml_lacks(library);
	if (missing) {
		snprintf(report->missing, sizeof(report->missing), "%s", missing);
		report->error = -ELIBACC;
		return;
	}
	*(void **)&init = dlsym(library, "nvmlInit_v2");
	*(void **)&handle = dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
	*(void **)&pci = dlsym(library, "nvmlDeviceGetPciInfo_v3");
	*(void **)&most = dlsym(library, "nvmlDeviceGetMaxClockInfo");
	report->error = -ENODEV;
	if (!init || !handle || !pci || !most || init() || handle(0, &device) || pci(device, &where))
		return;
	snprintf(report->bus_id, sizeof(report->bus_id), "%.31s", where.bus_id);
	if (most(device, 0, &report->graphics_mhz)) /* NVML_CLOCK_GRAPHICS */
		report->graphics_mhz = 0;
	if (most(device, 2, &report->memory_mhz)) /* NVML_CLOCK_MEM */
		report->memory_mhz = 0;
	report->error = report->graphics_mhz ? 0 : -ENODEV;
}

int cuda_ask_nvml(struct nvml_report *out)
{
	int rc = ask_apart(ask_nvml, out, sizeof(*out));

	return rc < 0 ? rc : out->error;
}

int cuda_counters_restricted(void)
{
	CLEANUP_FILE FILE *in = fopen(MODULE_PARAMS, "re");
	char line[128];
	int value;

	while (in && fgets(line, sizeof(line), in))
		if (sscanf(line, "RmProfilingAdminOnly: %d", &value) == 1)
			return value != 0;
	return -ENOENT;
}
