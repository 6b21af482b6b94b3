/* SPDX-License-Identifier: MIT */
/* One subscriber of CUPTI: a callback receives the number of each launch, and the records of its kernels, delivered in
 * buffers, carry the same number. */
#include "cupti.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "abi.h"

#define BUFFER_BYTES 1048576 /* CUPTI's guide: 1 to 10 MB */
#define ALIGNMENT    8       /* of a buffer, as CUPTI demands */
#define SLOTS        65536   /* launches remembered; numbers are given in order */
#define LOST_MAX     4096    /* consecutive launches without a record, after which CUPTI counts as not working */

#define FIELD(name, params) int(*name) params;
static struct {
	CUPTI_API(FIELD)
} cupti;

struct kernel_slot {
	uint32_t correlation; /* 0: free */
	uint64_t start_ns, end_ns;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kernel_slot *slots;
static void *subscriber;
static _Atomic(const char *) fault;
static atomic_uint lost;
static __thread uint32_t in_runtime, in_driver; /* numbers of the launch under way in this thread */

/* Keeps the first error. May be called from any thread. */
static void fail(const char *text)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&fault, &none, text);
}

static const char *text_of(int result)
{
	const char *text = NULL;

	return cupti.cuptiGetResultString(result, &text) == CUPTI_OK && text ? text : "an error without a name";
}

/* The kernel's record has the number of the runtime's call where there was one, and of the driver's where not. */
static void called(void *arg, int domain, uint32_t callback, const void *data)
{
	const struct cupti_callback *call = data;

	(void)arg;
	(void)callback;
	if (!call || (domain != CUPTI_DOMAIN_DRIVER && domain != CUPTI_DOMAIN_RUNTIME))
		return;
	if (domain == CUPTI_DOMAIN_RUNTIME)
		in_runtime = call->site == CUPTI_ENTER ? call->correlation : 0;
	else if (call->site == CUPTI_ENTER)
		in_driver = call->correlation;
}

static void requested(uint8_t **buffer, size_t *size, size_t *records_max)
{
	*buffer = aligned_alloc(ALIGNMENT, BUFFER_BYTES);
	*size = *buffer ? BUFFER_BYTES : 0;
	*records_max = 0; /* as many as fit */
	if (!*buffer)
		fail("no memory for CUPTI's records");
}

/* With the lock. A graph's kernels share the number of its launch. */
static void note(const struct cupti_kernel *kernel)
{
	struct kernel_slot *slot = &slots[kernel->correlation % SLOTS];

	if (kernel->start_ns == 0 || kernel->end_ns < kernel->start_ns)
		return;
	if (slot->correlation != kernel->correlation)
		*slot = (struct kernel_slot){kernel->correlation, kernel->start_ns, kernel->end_ns};
	slot->start_ns = kernel->start_ns < slot->start_ns ? kernel->start_ns : slot->start_ns;
	slot->end_ns = kernel->end_ns > slot->end_ns ? kernel->end_ns : slot->end_ns;
}

static void completed(void *context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid)
{
	void *record = NULL;
	size_t dropped = 0;
	int rc = CUPTI_OK;

	(void)size;
	pthread_mutex_lock(&lock);
	while (buffer && valid && (rc = cupti.cuptiActivityGetNextRecord(buffer, valid, &record)) == CUPTI_OK)
		if (*(const uint32_t *)record == CUPTI_KIND_CONCURRENT_KERNEL)
			note(record);
	pthread_mutex_unlock(&lock);
	if (rc != CUPTI_OK && rc != CUPTI_MAX_LIMIT_REACHED)
		fail("a buffer of CUPTI's records cannot be read");
	if (cupti.cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_OK && dropped)
		fail("CUPTI dropped records");
	free(buffer);
}

static void launching(void)
{
	in_driver = 0;
}

static uint64_t launched(void)
{
	uint64_t launch = (uint64_t)in_runtime << 32 | in_driver;

	if (launch == 0)
		fail("CUPTI does not see the launches of this program");
	return launch;
}

static bool find(uint32_t correlation, uint64_t *start_ns, uint64_t *end_ns)
{
	const struct kernel_slot *slot = &slots[correlation % SLOTS];
	bool found;

	pthread_mutex_lock(&lock);
	found = correlation && slot->correlation == correlation;
	if (found) {
		*start_ns = slot->start_ns;
		*end_ns = slot->end_ns;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

static bool find_either(uint64_t launch, uint64_t *start_ns, uint64_t *end_ns)
{
	return find((uint32_t)(launch >> 32), start_ns, end_ns) || find((uint32_t)launch, start_ns, end_ns);
}

static bool times(uint64_t launch, uint64_t *start_ns, uint64_t *end_ns)
{
	bool found = launch && find_either(launch, start_ns, end_ns);

	if (!found && launch && !fault) {
		if (cupti.cuptiActivityFlushAll(0) != CUPTI_OK)
			fail("CUPTI does not hand out its records");
		found = find_either(launch, start_ns, end_ns);
	}
	if (found)
		lost = 0;
	else if (++lost >= LOST_MAX)
		fail("CUPTI records nothing");
	return found;
}

static const char *faulted(void)
{
	return fault;
}

static void stop(void)
{
	cupti.cuptiActivityDisable(CUPTI_KIND_CONCURRENT_KERNEL);
	cupti.cuptiUnsubscribe(subscriber);
}

static const struct cupti_ops ops = {launching, launched, times, faulted, stop};

/* The library of the driver's own version: that of the process or the loader's, then that of the toolkit named by
 * CUDA_HOME or CUDA_PATH, as NVIDIA's tools take them. */
static void *open_library(int cuda, char *why, size_t size)
{
	static const char *const variables[] = {"CUDA_HOME", "CUDA_PATH"};
	static const char *const folders[] = {"lib64", "extras/CUPTI/lib64"};
	const char *named = secure_getenv("FLAMED_CUPTI_LIBRARY");
	char path[PATH_MAX], name[32];
	void *library;

	/* up to 11 the name has the minor number, too */
	snprintf(name, sizeof(name), cuda < 12000 ? "libcupti.so.%d.%d" : "libcupti.so.%d", cuda / 1000,
		 cuda % 1000 / 10);
	library = dlopen(named && *named ? named : name, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		snprintf(why, size, "%s", dlerror());
	for (size_t i = 0; i < 4 && !library && !(named && *named); i++) {
		const char *toolkit = secure_getenv(variables[i / 2]);

		if (!toolkit)
			continue;
		snprintf(path, sizeof(path), "%s/%s/%s", toolkit, folders[i % 2], name);
		library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	}
	return library;
}

static bool resolve(void *library, char *why, size_t size)
{
#define FIND(name, params) \
	*(void **)&cupti.name = dlsym(library, #name); \
	if (!cupti.name) { \
		snprintf(why, size, "its library has no " #name); \
		return false; \
	}
	CUPTI_API(FIND)
	return true;
}

static bool well(int rc, const char *what, char *why, size_t size)
{
	if (rc == CUPTI_MULTIPLE_SUBSCRIBERS)
		snprintf(why, size, "another profiler holds it (%s: %s)", what, text_of(rc));
	else if (rc != CUPTI_OK)
		snprintf(why, size, "%s: %s", what, text_of(rc));
	return rc == CUPTI_OK;
}

static bool enable_callbacks(char *why, size_t size)
{
#define DRIVER(name, number)  {CUPTI_DOMAIN_DRIVER, number},
#define RUNTIME(name, number) {CUPTI_DOMAIN_RUNTIME, number},
	static const struct {
		int domain;
		uint32_t number;
	} launches[] = {CUPTI_DRIVER_LAUNCHES(DRIVER) CUPTI_RUNTIME_LAUNCHES(RUNTIME)};
	size_t enabled = 0;
	int rc = CUPTI_OK;

	for (size_t i = 0; i < sizeof(launches) / sizeof(launches[0]); i++) {
		int one = cupti.cuptiEnableCallback(1, subscriber, launches[i].domain, launches[i].number);

		enabled += one == CUPTI_OK;
		rc = one == CUPTI_OK ? rc : one;
	}
	/* an older CUPTI lacks the newest of them */
	return enabled > 0 || well(rc, "cuptiEnableCallback", why, size);
}

/* With everything resolved. On an error, completed steps are undone. */
static bool subscribe(char *why, size_t size)
{
	if (!well(cupti.cuptiSubscribe(&subscriber, called, NULL), "cuptiSubscribe", why, size))
		return false;
	int rc = cupti.cuptiActivityRegisterCallbacks(requested, completed);

	if (!well(rc, "cuptiActivityRegisterCallbacks", why, size) || !enable_callbacks(why, size) ||
	    !well(cupti.cuptiActivityEnable(CUPTI_KIND_CONCURRENT_KERNEL), "cuptiActivityEnable", why, size)) {
		cupti.cuptiUnsubscribe(subscriber);
		return false;
	}
	return true;
}

__attribute__((visibility("default"))) const struct cupti_ops *flamed_cupti_start(int cuda, char *why, size_t size);
__attribute__((visibility("default"))) const struct cupti_ops *flamed_cupti_start(int cuda, char *why, size_t size)
{
	const char *tool = secure_getenv("CUDA_INJECTION64_PATH");
	void *library;

	if (tool && *tool) {
		snprintf(why, size, "CUDA_INJECTION64_PATH is %s: a profiler holds it", tool);
		return NULL;
	}
	if (!cupti_allowed("", cuda, geteuid() == 0, why, size))
		return NULL;
	library = open_library(cuda, why, size);
	if (!library || !resolve(library, why, size))
		return NULL;
	slots = calloc(SLOTS, sizeof(*slots));
	if (!slots)
		snprintf(why, size, "no memory");
	return slots && subscribe(why, size) ? &ops : NULL;
}
