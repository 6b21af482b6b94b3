/* SPDX-License-Identifier: MIT */
#include "import.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TIME_US_MAX 1e16 /* larger times in microseconds do not fit 64 bits of ns */

/* Event categories of Kineto, and their names in other tools. */
static int kind_of(const char *category, const char *name)
{
	static const char *const kernels[] = {"kernel", "gpu_kernel", "cuda kernel"};
	static const char *const host[] = {"cuda_runtime", "cuda_driver", "runtime", "driver", "cuda api"};
	static const char *const ranges[] = {"user_annotation", "nvtx"};

	for (size_t i = 0; i < sizeof(kernels) / sizeof(*kernels); i++)
		if (strcasecmp(category, kernels[i]) == 0)
			return TRACE_KERNEL;
	if (strcasecmp(category, "gpu_memcpy") == 0 && strncmp(name, "Memcpy DtoH", 11) == 0)
		return TRACE_TO_HOST;
	for (size_t i = 0; i < sizeof(host) / sizeof(*host); i++)
		if (strcasecmp(category, host[i]) == 0)
			return trace_host_kind(name);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++)
		if (strcasecmp(category, ranges[i]) == 0)
			return TRACE_RANGE;
	return -1;
}

/* Convert a time in microseconds to ns; `field` is its name. */
static int time_of(const json_t *event, const char *field, uint64_t *out, struct trace *trace, size_t index)
{
	const json_t *value = json_object_get(event, field);
	double us = json_is_number(value) ? json_number_value(value) : NAN;

	if (!(us >= 0 && us < TIME_US_MAX))
		return trace_refuse(trace, "traceEvents[%zu]: %s is not a number of microseconds", index, field);
	*out = json_is_integer(value) ? (uint64_t)json_integer_value(value) * 1000 : (uint64_t)llround(us * 1000);
	return 0;
}

static uint64_t number_of(const json_t *object, const char *field)
{
	const json_t *value = json_object_get(object, field);

	return json_is_integer(value) && json_integer_value(value) > 0 ? (uint64_t)json_integer_value(value) : 0;
}

static int add(const json_t *event, size_t index, struct trace *trace)
{
	const char *phase = json_string_value(json_object_get(event, "ph")),
		   *name = json_string_value(json_object_get(event, "name"));
	const char *category = json_string_value(json_object_get(event, "cat"));
	const json_t *arguments = json_object_get(event, "args");
	struct trace_event out = {0};
	uint64_t length_ns = 0;
	char where[48];
	int kind, rc;

	if (!json_is_object(event))
		return trace_refuse(trace, "traceEvents[%zu] is not an object", index);
	if (!phase)
		return trace_refuse(trace, "traceEvents[%zu] has no ph", index);
	if (strcmp(phase, "X") != 0 || !category)
		return 0; /* metadata, flows, counters: events without a duration */
	kind = kind_of(category, name ? name : "");
	if (kind == TRACE_KERNEL && !name)
		return trace_refuse(trace, "traceEvents[%zu]: a kernel without a name", index);
	if (kind < 0)
		return 0;
	rc = time_of(event, "ts", &out.begin_ns, trace, index);
	if (rc == 0)
		rc = time_of(event, "dur", &length_ns, trace, index);
	if (rc)
		return rc;
	out.kind = (enum trace_kind)kind;
	out.end_ns = out.begin_ns + length_ns;
	out.correlation = number_of(arguments, "correlation");
	if (!out.correlation)
		out.correlation = number_of(arguments, "correlation_id");
	out.thread = number_of(event, "tid");
	out.name = (char *)(uintptr_t)name;
	if ((kind == TRACE_KERNEL || kind == TRACE_LAUNCH) && !out.correlation)
		return trace_refuse(trace, "traceEvents[%zu]: the %s %.80s has no args.correlation", index,
				    kind == TRACE_KERNEL ? "kernel" : "launch", name);
	snprintf(where, sizeof(where), "traceEvents[%zu]", index);
	return trace_add(trace, out, where);
}

int trace_read_json(const char *path, struct trace *trace)
{
	json_error_t error;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	const json_t *events = json_is_array(root) ? root : json_object_get(root, "traceEvents");
	int rc = 0;

	if (!root)
		return trace_refuse(trace, "line %d, column %d: %.160s", error.line, error.column, error.text);
	if (!json_is_array(events))
		rc = trace_refuse(trace, "no array traceEvents: not in Chrome's trace format");
	for (size_t i = 0; rc == 0 && i < json_array_size(events); i++)
		rc = add(json_array_get(events, i), i, trace);
	json_decref(root);
	return rc;
}
