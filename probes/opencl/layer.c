/* SPDX-License-Identifier: MIT */
/* Entry points the ICD loader calls, the environment, and the way out. */
#include "layer.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../../common/units.h"

#define EXPORT __attribute__((visibility("default")))

struct layer layer;
static cl_icd_dispatch ours;

static void say(const char *tail, const char *format, va_list args)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "flamed-opencl: ");
	size_t used = (size_t)n;

	n = vsnprintf(line + used, sizeof(line) - used, format, args);
	used = n < 0 ? used : used + (size_t)n < sizeof(line) ? used + (size_t)n : sizeof(line) - 1;
	n = snprintf(line + used, sizeof(line) - used, "%s\n", tail);
	used = used + (size_t)n < sizeof(line) ? used + (size_t)n : sizeof(line) - 1;
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* nobody listens */
}

void layer_say(const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	say("", format, args);
	va_end(args);
	errno = saved;
}

void layer_off(const char *format, ...)
{
	int saved = errno;
	va_list args;

	if (!atomic_exchange(&layer.on, false))
		return;
	va_start(args, format);
	say("; the program goes on without flamed", format, args);
	va_end(args);
	record_stop();
	errno = saved;
}

static uint64_t number(const char *name)
{
	const char *text = getenv(name);
	uint64_t value = 0;

	if (text && *text && parse_u64(text, &value) != 0) {
		layer_say("%s=%s is no number and is ignored", name, text);
		return 0;
	}
	return value;
}

static const char *path(const char *name)
{
	const char *text = getenv(name);

	return text && *text ? strdup(text) : NULL;
}

/* False when there is nothing to do. */
static bool configure(struct layer_config *config)
{
	const char *model = getenv("FLAMED_MODEL"), *boundary = getenv("FLAMED_BOUNDARY");

	if (model && *model) {
		if (model_name_valid(model))
			memcpy(config->model, model, strlen(model) + 1);
		else
			layer_say("FLAMED_MODEL=%s is no model name ([A-Za-z0-9._:-], at most 64) and is ignored", model);
	}
	if (boundary_parse(boundary, &config->boundary) != 0)
		layer_say("FLAMED_BOUNDARY=%s is not read, finish, kernel:NAME or count:N and is ignored", boundary);
	config->deadline_ns = number("FLAMED_DEADLINE_NS");
	if (config->deadline_ns && (config->deadline_ns < DEADLINE_NS_MIN || config->deadline_ns > DEADLINE_NS_MAX)) {
		layer_say("FLAMED_DEADLINE_NS is out of range and is ignored");
		config->deadline_ns = 0;
	}
	config->profile = number("FLAMED_PROFILE") != 0;
	config->budget = (uint32_t)number("FLAMED_BUDGET");
	config->summary = path("FLAMED_SUMMARY");
	config->trace = path("FLAMED_TRACE");
	return config->deadline_ns || config->profile || config->trace || config->summary;
}

/* The child of a fork has no OpenCL worth the name, and its parent's session
 * is not its own. After exec the layer starts anew. */
static void forked(void)
{
	atomic_store(&layer.on, false);
	layer.config.summary = layer.config.trace = NULL;
}

EXPORT CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info name, size_t size, void *value, size_t *size_ret)
{
	static const char text[] = "flamed";
	const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
	const void *from = name == CL_LAYER_NAME ? (const void *)text : &version;
	size_t need = name == CL_LAYER_NAME ? sizeof(text) : sizeof(version);

	if ((name != CL_LAYER_NAME && name != CL_LAYER_API_VERSION) || (value && size < need))
		return CL_INVALID_VALUE;
	if (value)
		memcpy(value, from, need);
	if (size_ret)
		*size_ret = need;
	return CL_SUCCESS;
}

EXPORT CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint count, const cl_icd_dispatch *target, cl_uint *count_ret,
						   const cl_icd_dispatch **ours_ret)
{
	static atomic_bool started;
	const cl_uint mine = sizeof(ours) / sizeof(void *);

	if (!target || !count_ret || !ours_ret || atomic_exchange(&started, true))
		return CL_INVALID_VALUE;
	memcpy(&layer.target, target, (count < mine ? count : mine) * sizeof(void *));
	*count_ret = mine;
	*ours_ret = &ours;
	if (!configure(&layer.config))
		return CL_SUCCESS; /* an empty table: nothing is intercepted */
	if (!layer.target.clSetEventCallback || !layer.target.clReleaseEvent || !layer.target.clGetEventProfilingInfo) {
		layer_say("this OpenCL is older than 1.1: the program runs without flamed");
		return CL_SUCCESS;
	}
	pthread_atfork(NULL, NULL, forked);
	dispatch_fill(&ours);
	atomic_store(&layer.on, true);
	return CL_SUCCESS;
}

__attribute__((destructor)) static void leave(void)
{
	unsigned long launches = atomic_load(&layer.launches);
	bool on = atomic_exchange(&layer.on, false);

	if (on)
		record_leave();
	if (on && launches > 0 && summary_inferences() == 0)
		layer_say("no inference was found in %lu launches: nothing repeats %d times between host waits; set FLAMED_BOUNDARY",
			  launches, BOUNDARY_REPEATS);
	summary_write();
}
