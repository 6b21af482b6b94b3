/* SPDX-License-Identifier: MIT */
/* The stand-in libcupti.so.12: subscribers, callbacks and activity buffers as its
 * documentation describes them, over launches of the stand-in driver. Strict:
 * a call out of order is an error, and at exit it reports buffers that were not
 * returned. FLAMED_STANDIN_CUPTI: "FUNCTION=ERROR" makes a call fail, "held" has
 * another subscriber, "blind" makes no callback, "mute" records nothing,
 * "drop" drops records, "late" leaves every record incomplete until a forced
 * flush. */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../layers/cuda/cupti/abi.h"
#include "standin.h"
#include "standin_trace.h"

#define RECORD_BYTES 208 /* as of CUDA 12's */
#define RUNNING_MAX  65536

#define PROTOTYPE(name, params) int name params;
CUPTI_API(PROTOTYPE)

struct running {
	uint32_t correlation;
	uint64_t start_ns, end_ns;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int subscribed; /* its address is the subscriber */
static cupti_callback_fn *callback;
static void *callback_arg;
static bool enabled[3][1024], recording;
static cupti_request_fn *request;
static cupti_complete_fn *complete;
static struct running pending[RUNNING_MAX]; /* kernels done, but in no buffer yet */
static size_t pending_count, asked, given;
static uint32_t correlations;
static uint8_t *out; /* being read */
static size_t out_valid;

static bool mode(const char *word)
{
	const char *text = getenv("FLAMED_STANDIN_CUPTI");

	return text && strcmp(text, word) == 0;
}

/* The error that the call is to fail with; 0: none. */
static int wished(const char *function)
{
	const char *text = getenv("FLAMED_STANDIN_CUPTI");
	size_t len = strlen(function);

	return text && strncmp(text, function, len) == 0 && text[len] == '=' ? atoi(text + len + 1) : CUPTI_OK;
}
#define WISHED \
	do { \
		int wished_ = wished(__func__); \
		if (wished_) \
			return wished_; \
	} while (0)

/* Calls from the driver */

static uint32_t launching(unsigned number)
{
	struct cupti_callback data = {.site = CUPTI_ENTER, .function = "launch"};

	pthread_mutex_lock(&lock);
	data.correlation = ++correlations;
	pthread_mutex_unlock(&lock);
	if (number < 1024 && callback && enabled[CUPTI_DOMAIN_DRIVER][number] && !mode("blind"))
		callback(callback_arg, CUPTI_DOMAIN_DRIVER, number, &data);
	return data.correlation;
}

static void executed(uint32_t correlation, uint64_t start_ns, uint64_t end_ns)
{
	pthread_mutex_lock(&lock);
	if (recording && pending_count < RUNNING_MAX && !mode("mute"))
		pending[pending_count++] = (struct running){correlation, start_ns, end_ns};
	pthread_mutex_unlock(&lock);
}

static const struct standin_trace trace = {launching, executed};

/* Calls from a tool */

EXPORT int cuptiSubscribe(void **subscriber, cupti_callback_fn *fn, void *arg)
{
	WISHED;
	if (!subscriber || !fn)
		return CUPTI_INVALID_PARAMETER;
	if (subscribed || mode("held"))
		return CUPTI_MULTIPLE_SUBSCRIBERS;
	subscribed = 1;
	callback = fn;
	callback_arg = arg;
	*subscriber = &subscribed;
	standin_set_trace(&trace);
	return CUPTI_OK;
}

EXPORT int cuptiUnsubscribe(void *subscriber)
{
	if (subscriber != &subscribed || !subscribed)
		return CUPTI_INVALID_PARAMETER;
	subscribed = 0;
	callback = NULL;
	memset(enabled, 0, sizeof(enabled));
	return CUPTI_OK;
}

EXPORT int cuptiEnableCallback(uint32_t enable, void *subscriber, int domain, uint32_t number)
{
	WISHED;
	if (subscriber != &subscribed || !subscribed || domain < 1 || domain > 2 || number >= 1024)
		return CUPTI_INVALID_PARAMETER;
	enabled[domain][number] = enable;
	return CUPTI_OK;
}

EXPORT int cuptiActivityRegisterCallbacks(cupti_request_fn *funcBufferRequested, cupti_complete_fn *funcBufferCompleted)
{
	WISHED;
	if (!funcBufferRequested || !funcBufferCompleted)
		return CUPTI_INVALID_PARAMETER;
	request = funcBufferRequested;
	complete = funcBufferCompleted;
	return CUPTI_OK;
}

EXPORT int cuptiActivityEnable(int kind)
{
	WISHED;
	if (kind != CUPTI_KIND_CONCURRENT_KERNEL)
		return CUPTI_INVALID_KIND;
	recording = true;
	return CUPTI_OK;
}

EXPORT int cuptiActivityDisable(int kind)
{
	if (kind != CUPTI_KIND_CONCURRENT_KERNEL)
		return CUPTI_INVALID_KIND;
	recording = false;
	return CUPTI_OK;
}

/* With the lock: as many as fit. */
static size_t fill(uint8_t *buffer, size_t size)
{
	size_t count = size / RECORD_BYTES < pending_count ? size / RECORD_BYTES : pending_count;

	for (size_t i = 0; i < count; i++) {
		struct cupti_kernel kernel = {.kind = CUPTI_KIND_CONCURRENT_KERNEL,
					      .start_ns = pending[i].start_ns,
					      .end_ns = pending[i].end_ns,
					      .correlation = pending[i].correlation};

		memset(buffer + i * RECORD_BYTES, 0xee, RECORD_BYTES);
		memcpy(buffer + i * RECORD_BYTES, &kernel, sizeof(kernel));
	}
	pending_count -= count;
	memmove(pending, pending + count, pending_count * sizeof(pending[0]));
	return count * RECORD_BYTES;
}

EXPORT int cuptiActivityFlushAll(uint32_t flags)
{
	WISHED;
	if (!request)
		return CUPTI_INVALID_OPERATION;
	for (;;) {
		uint8_t *buffer = NULL;
		size_t size = 0, most = 0, valid;

		pthread_mutex_lock(&lock);
		valid = mode("late") && !flags ? 0 : pending_count;
		pthread_mutex_unlock(&lock);
		if (valid == 0)
			return CUPTI_OK;
		request(&buffer, &size, &most);
		asked++;
		if (!buffer || size < RECORD_BYTES || (uintptr_t)buffer % 8 || most != 0)
			return CUPTI_INVALID_PARAMETER;
		pthread_mutex_lock(&lock);
		valid = fill(buffer, size);
		pthread_mutex_unlock(&lock);
		out = buffer;
		out_valid = valid;
		given++;
		complete(NULL, 0, buffer, size, valid);
		out = NULL;
	}
}

EXPORT int cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, void **record)
{
	uint8_t *next;

	WISHED;
	if (!record || buffer != out || valid != out_valid)
		return CUPTI_INVALID_PARAMETER;
	next = *record ? (uint8_t *)*record + RECORD_BYTES : buffer;
	if (next >= buffer + valid)
		return CUPTI_MAX_LIMIT_REACHED;
	*record = next;
	return CUPTI_OK;
}

EXPORT int cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *dropped)
{
	(void)context;
	(void)stream;
	*dropped = mode("drop");
	return CUPTI_OK;
}

EXPORT int cuptiGetResultString(int result, const char **text)
{
	static __thread char buffer[32];

	if (!text)
		return CUPTI_INVALID_PARAMETER;
	snprintf(buffer, sizeof(buffer), "CUPTI_ERROR_%d", result);
	*text = buffer;
	return CUPTI_OK;
}

__attribute__((destructor)) static void report(void)
{
	if (asked || subscribed || recording || callback)
		fprintf(stderr, "standin-cupti: asked for %zu buffers, gave %zu back, %s\n", asked, given,
			subscribed ? "subscribed" :
			recording  ? "still recording" :
				     "left");
}
