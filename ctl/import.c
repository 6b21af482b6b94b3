/* SPDX-License-Identifier: MIT */
/* flamectl import: samples and net layers from a trace that another tool recorded. Inferences are
 * found as in a running program (layers/core), or by the name of a range. */
#include "import.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../common/file.h"
#include "../common/limits.h"
#include "../common/point.h"
#include "../common/units.h"
#include "../layers/core/boundary.h"
#include "ctl.h"

#define TRACE_EVENTS_MAX 8000000 /* about 600 MB of memory */
#define REPS_MAX         32      /* inferences whose layers are written */

struct traced_layer {
	uint64_t cpu_ns, gpu_ns;
	bool sync;
};

/* One inference: the host events that belong to it. */
struct inference_span {
	size_t first, last; /* indices of host events, */
	uint64_t thread;    /* of a range: only those of its thread */
	uint64_t begin_ns, end_ns, fingerprint;
};

struct import {
	struct trace trace;
	const struct trace_event **host; /* launches and waits, in order of time */
	size_t hosts;
	const struct trace_event **kernel; /* in order of correlation, then time */
	size_t kernels;
	const struct trace_event **copy; /* to the host, in order of correlation */
	size_t copies;
	struct inference_span *span;
	size_t spans;
	const char *range;
	enum phase phase;
	uint64_t context, hz[CLOCK_COUNT];
};

int trace_refuse(struct trace *trace, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(trace->message, sizeof(trace->message), format, args);
	va_end(args);
	return -EINVAL;
}

int trace_add(struct trace *trace, struct trace_event event, const char *where)
{
	if (event.end_ns < event.begin_ns)
		return trace_refuse(trace, "%s: it ends before it begins", where);
	if (trace->count == TRACE_EVENTS_MAX) {
		trace_refuse(trace, "%s: more than %d events", where, TRACE_EVENTS_MAX);
		return -E2BIG;
	}
	if (trace->count == trace->size) {
		size_t size = trace->size ? trace->size * 2 : 4096;
		struct trace_event *grown = reallocarray(trace->event, size, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		trace->event = grown;
		trace->size = size;
	}
	if (event.name && !(event.name = strdup(event.name)))
		return -ENOMEM;
	trace->event[trace->count++] = event;
	return 0;
}

void trace_free(struct trace *trace)
{
	for (size_t i = 0; i < trace->count; i++)
		free(trace->event[i].name);
	free(trace->event);
}

int trace_host_kind(const char *name)
{
	static const char *const launches[] = {"cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cuGraphLaunch"};
	static const char *const waits[] = {"cudaStreamSynchronize", "cuStreamSynchronize",  "cudaDeviceSynchronize",
					    "cuCtxSynchronize",      "cudaEventSynchronize", "cuEventSynchronize"};

	if (strncmp(name, "cudaLaunchHostFunc", 18) == 0 || strncmp(name, "cuLaunchHostFunc", 16) == 0)
		return -1;
	for (size_t i = 0; i < sizeof(launches) / sizeof(*launches); i++)
		if (strncmp(name, launches[i], strlen(launches[i])) == 0)
			return TRACE_LAUNCH;
	for (size_t i = 0; i < sizeof(waits) / sizeof(*waits); i++)
		if (strncmp(name, waits[i], strlen(waits[i])) == 0)
			return TRACE_WAIT;
	if ((strncmp(name, "cudaMemcpy", 10) == 0 || strncmp(name, "cuMemcpy", 8) == 0) && !strstr(name, "Async"))
		return TRACE_COPY;
	return -1;
}

static int by_time(const void *a, const void *b)
{
	const struct trace_event *x = *(const struct trace_event *const *)a, *y = *(const struct trace_event *const *)b;

	return (x->begin_ns > y->begin_ns) - (x->begin_ns < y->begin_ns);
}

static int by_correlation(const void *a, const void *b)
{
	const struct trace_event *x = *(const struct trace_event *const *)a, *y = *(const struct trace_event *const *)b;

	return x->correlation != y->correlation ?
		       (x->correlation > y->correlation) - (x->correlation < y->correlation) :
		       by_time(a, b);
}

/* Whether a call copied to the host, which the device had to finish first: a wait, as in a running program. */
static bool to_host(const struct import *import, const struct trace_event *call)
{
	size_t low = 0, high = import->copies;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (import->copy[middle]->correlation == call->correlation)
			return true;
		if (import->copy[middle]->correlation < call->correlation)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static int sort_events(struct import *import)
{
	struct trace *trace = &import->trace;

	import->copy = calloc(trace->count + 1, sizeof(*import->copy));
	import->host = calloc(trace->count + 1, sizeof(*import->host));
	import->kernel = calloc(trace->count + 1, sizeof(*import->kernel));
	import->span = calloc(trace->count + 1, sizeof(*import->span));
	if (!import->copy || !import->host || !import->kernel || !import->span)
		return -ENOMEM;
	for (size_t i = 0; i < trace->count; i++)
		if (trace->event[i].kind == TRACE_TO_HOST && trace->event[i].correlation)
			import->copy[import->copies++] = &trace->event[i];
	qsort(import->copy, import->copies, sizeof(*import->copy), by_correlation);
	for (size_t i = 0; i < trace->count; i++) {
		struct trace_event *event = &trace->event[i];

		if (event->kind == TRACE_COPY && to_host(import, event))
			event->kind = TRACE_WAIT;
		if (event->kind == TRACE_LAUNCH || event->kind == TRACE_WAIT)
			import->host[import->hosts++] = event;
		else if (event->kind == TRACE_KERNEL)
			import->kernel[import->kernels++] = event;
	}
	qsort(import->host, import->hosts, sizeof(*import->host), by_time);
	qsort(import->kernel, import->kernels, sizeof(*import->kernel), by_correlation);
	return 0;
}

/* The kernels of a launch: one, or all kernels of a graph. Returns their number. */
static size_t kernels_of(const struct import *import, const struct trace_event *launch, size_t *first)
{
	size_t low = 0, high = import->kernels, n = 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (import->kernel[middle]->correlation < launch->correlation)
			low = middle + 1;
		else
			high = middle;
	}
	*first = low;
	while (launch->correlation && low + n < import->kernels &&
	       import->kernel[low + n]->correlation == launch->correlation)
		n++;
	return n;
}

/* Time from the first begin to the last end of a launch's kernels; 0: not in the trace. */
static uint64_t device_ns(const struct import *import, const struct trace_event *launch, uint64_t *end_ns)
{
	size_t first, n = kernels_of(import, launch, &first);
	uint64_t begin = UINT64_MAX, end = 0;

	for (size_t i = first; i < first + n; i++) {
		begin = import->kernel[i]->begin_ns < begin ? import->kernel[i]->begin_ns : begin;
		end = import->kernel[i]->end_ns > end ? import->kernel[i]->end_ns : end;
	}
	*end_ns = n ? end : 0;
	return n ? end - begin : 0;
}

/* Whether a host event from the first to the last of an inference is its own, and not another thread's. */
static bool belongs(const struct import *import, const struct inference_span *span, const struct trace_event *event)
{
	return !import->range || event->thread == span->thread;
}

/* Inferences from ranges of this name: from the begin to the end, or to the wait for what was
 * launched in the range. */
static void spans_by_range(struct import *import)
{
	for (size_t i = 0; i < import->trace.count; i++) {
		const struct trace_event *range = &import->trace.event[i];
		struct inference_span span = {.thread = range->thread,
					      .begin_ns = range->begin_ns,
					      .end_ns = range->end_ns,
					      .fingerprint = 1};
		bool any = false;

		if (range->kind != TRACE_RANGE || !range->name || strcmp(range->name, import->range) != 0)
			continue;
		for (size_t h = 0; h < import->hosts; h++) {
			const struct trace_event *event = import->host[h];
			uint64_t end_ns;

			if (event->begin_ns < range->begin_ns || event->begin_ns > range->end_ns ||
			    event->kind != TRACE_LAUNCH || !belongs(import, &span, event))
				continue;
			if (!any)
				span.first = h;
			any = true;
			span.last = h + 1;
			device_ns(import, event, &end_ns);
			span.end_ns = end_ns > span.end_ns ? end_ns : span.end_ns;
		}
		if (any)
			import->span[import->spans++] = span;
	}
}

/* Inferences from the order of launches and waits, as the layers find them. */
static void spans_by_waits(struct import *import)
{
	const struct boundary_config config = {.rule = BOUNDARY_AUTO};
	struct boundary *boundary = calloc(1, sizeof(*boundary));
	struct inference_span now = {0};
	uint64_t mark_ns = 0;

	if (!boundary)
		return;
	boundary_init(boundary, &config);
	for (size_t h = 0; h < import->hosts; h++) {
		const struct trace_event *event = import->host[h];
		unsigned marks;

		if (event->kind == TRACE_LAUNCH) {
			size_t first, n = kernels_of(import, event, &first);
			uint64_t identity = boundary_hash(0, &n, sizeof(n)), kernel = 0;

			for (size_t i = first; i < first + n; i++) {
				const char *name = import->kernel[i]->name ? import->kernel[i]->name : "";

				identity = boundary_hash(identity, name, strlen(name));
				kernel = kernel ? kernel : identity;
			}
			marks = boundary_launch(boundary, n > 1 ? identity : kernel, identity,
						event->begin_ns > mark_ns ? event->begin_ns - mark_ns : 0, false);
			if (n > 1) /* a graph is not a kernel that an autotuner tries */
				marks |= boundary_launch(boundary, ~identity, ~identity, 0, false);
			if (marks & MARK_BEGIN)
				now = (struct inference_span){.first = h, .begin_ns = event->begin_ns};
		} else {
			marks = boundary_wait(boundary, WAIT_FINISH, false);
			if ((marks & MARK_END) && !(marks & MARK_CHANGED)) {
				now.last = h + 1;
				now.end_ns = event->end_ns;
				now.fingerprint = boundary_ended(boundary);
				import->span[import->spans++] = now;
			}
		}
		mark_ns = event->end_ns;
	}
	free(boundary);
}

/* Keep only inferences with the most frequent sequence of launches. */
static void keep_main_shape(struct import *import)
{
	uint64_t best = 0;
	size_t most = 0, kept = 0;

	for (size_t i = 0; i < import->spans; i++) {
		size_t n = 0;

		for (size_t j = 0; j < import->spans && i < 64; j++)
			n += import->span[j].fingerprint == import->span[i].fingerprint;
		if (n > most) {
			most = n;
			best = import->span[i].fingerprint;
		}
	}
	for (size_t i = 0; i < import->spans; i++)
		if (import->span[i].fingerprint == best)
			import->span[kept++] = import->span[i];
	import->spans = kept;
}

static void put_point(FILE *out, const struct import *import)
{
	fprintf(out, "%s,%llu", phase_name(import->phase), (unsigned long long)import->context);
	for (int c = 0; c < CLOCK_COUNT; c++)
		fprintf(out, ",%llu", (unsigned long long)import->hz[c]);
}

static int write_samples(const struct import *import, const char *path)
{
	FILE *out = path ? fopen(path, "we") : stdout;
	double sum = 0, squares = 0, n = (double)import->spans;
	uint64_t longest = 0;

	if (!out)
		return -errno;
	for (size_t i = 0; i < import->spans; i++) {
		uint64_t ns = import->span[i].end_ns - import->span[i].begin_ns;

		sum += (double)ns;
		longest = ns > longest ? ns : longest;
	}
	for (size_t i = 0; i < import->spans; i++) {
		double off = (double)(import->span[i].end_ns - import->span[i].begin_ns) - sum / n;

		squares += off * off;
	}
	fputs("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw\n", out);
	put_point(out, import);
	fprintf(out, ",%.0f,%zu,%.0f,%llu,0\n", sum / n, import->spans, n > 1 ? sqrt(squares / (n - 1)) : 0,
		(unsigned long long)longest);
	return path ? (fclose(out) == 0 ? 0 : -errno) : 0;
}

static int write_layers(const struct import *import, const char *path)
{
	FILE *out = fopen(path, "we");

	if (!out)
		return -errno;
	fputs("phase,context,cpu_hz,gpu_hz,mem_hz,rep,layer,cpu_ns,gpu_ns,sync,source\n", out);
	for (size_t rep = 0; rep < import->spans && rep < REPS_MAX; rep++) {
		const struct inference_span *span = &import->span[rep];
		uint64_t mark_ns = span->begin_ns, end_ns;
		size_t layer = 0;

		for (size_t h = span->first; h < span->last && layer < LAYERS_MAX; h++) {
			const struct trace_event *event = import->host[h];
			size_t next = h + 1;
			bool sync;

			if (!belongs(import, span, event))
				continue;
			while (next < import->hosts && !belongs(import, span, import->host[next]))
				next++;
			sync = next < import->hosts && import->host[next]->kind == TRACE_WAIT;
			if (event->kind == TRACE_LAUNCH) {
				put_point(out, import);
				fprintf(out, ",%zu,%zu,%llu,%llu,%d,trace\n", rep, layer++,
					(unsigned long long)(event->end_ns -
							     (mark_ns < event->end_ns ? mark_ns : event->end_ns)),
					(unsigned long long)device_ns(import, event, &end_ns), sync);
			}
			mark_ns = event->end_ns;
		}
	}
	return fclose(out) == 0 ? 0 : -errno;
}

static int read_trace(const char *path, struct trace *trace)
{
	static const char magic[] = "SQLite format 3";
	char head[16] = "";
	FILE *in = fopen(path, "re");
	size_t n, at = 0;

	if (!in) {
		trace_refuse(trace, "%s", strerror(errno));
		return -errno;
	}
	n = fread(head, 1, sizeof(head), in);
	fclose(in);
	if (n == sizeof(head) && memcmp(head, magic, sizeof(magic)) == 0)
		return trace_read_nsys(path, trace);
	while (at < n && strchr(" \t\r\n", head[at]))
		at++;
	if (at < n && (head[at] == '{' || head[at] == '['))
		return trace_read_json(path, trace);
	return trace_refuse(trace, "neither an SQLite export of nsys nor a JSON trace (%s)",
			    n > 1 && (unsigned char)head[0] == 0x1f ? "it is compressed: gunzip it" :
								      "nsys-rep files: nsys export --type sqlite");
}

static int find_spans(struct ctl *ctl, struct import *import, const char *path)
{
	if (import->kernels == 0 || import->hosts == 0) {
		ctl_error(ctl, "%s: contains no %s", path, import->kernels == 0 ? "kernel" : "launch of a kernel");
		return -ENOENT;
	}
	if (import->range)
		spans_by_range(import);
	else
		spans_by_waits(import);
	keep_main_shape(import);
	if (import->spans > 0)
		return 0;
	if (import->range)
		ctl_error(ctl, "%s: contains no range \"%s\" with a launch", path, import->range);
	else
		ctl_error(
			ctl,
			"%s: no sequence of launches between host waits repeats %d times; select a range with --range",
			path, BOUNDARY_REPEATS);
	return -ENOENT;
}

static int take_clocks(const struct ctl *ctl, const char *const text[CLOCK_COUNT], struct import *import)
{
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (text[c] && parse_frequency_hz(text[c], &import->hz[c]) < 0)
			return ctl_usage(ctl, "--%s takes a frequency such as 1020MHz, not \"%s\"",
					 clock_name((enum clock_id)c), text[c]);
	return 0;
}

static int run_import(struct ctl *ctl, struct import *import, const char *path, const char *samples, const char *layers)
{
	int rc = read_trace(path, &import->trace);

	if (rc == 0)
		rc = sort_events(import);
	if (rc) {
		ctl_error(ctl, "%s: %s", path, import->trace.message[0] ? import->trace.message : strerror(-rc));
		return 1;
	}
	if (find_spans(ctl, import, path))
		return 1;
	rc = write_samples(import, samples);
	if (rc)
		ctl_error(ctl, "%s: %s", samples, strerror(-rc));
	if (rc == 0 && layers && (rc = write_layers(import, layers)))
		ctl_error(ctl, "%s: %s", layers, strerror(-rc));
	if (rc == 0)
		fprintf(stderr, "%s: %zu inferences, %zu kernels\n", path, import->spans, import->kernels);
	return rc ? 1 : 0;
}

int cmd_import(struct ctl *ctl, int argc, char **argv)
{
	struct import import = {0};
	const char *samples = NULL, *layers = NULL, *phase = "run", *context = "0", *clocks[CLOCK_COUNT] = {NULL};
	const struct ctl_option options[] = {{"--samples", &samples, NULL},       {"--layers", &layers, NULL},
					     {"--range", &import.range, NULL},    {"--phase", &phase, NULL},
					     {"--context", &context, NULL},       {"--cpu", &clocks[CLOCK_CPU], NULL},
					     {"--gpu", &clocks[CLOCK_GPU], NULL}, {"--mem", &clocks[CLOCK_MEM], NULL}};
	int count, rest, rc;

	if (ctl_options(ctl, options, sizeof(options) / sizeof(*options), argc, argv, &count, &rest))
		return 2;
	if (count != 2)
		return ctl_usage(ctl, count < 2 ? "TRACE is missing" : "more than one TRACE");
	if (phase_parse(phase, &import.phase) < 0)
		return ctl_usage(ctl, "--phase takes run, prefill or decode, not \"%s\"", phase);
	if (parse_u64(context, &import.context) < 0 || import.context > UINT32_MAX)
		return ctl_usage(ctl, "--context takes a number of tokens, not \"%s\"", context);
	if (take_clocks(ctl, clocks, &import))
		return 2;
	rc = run_import(ctl, &import, argv[1], samples, layers);
	trace_free(&import.trace);
	free(import.host);
	free(import.kernel);
	free(import.copy);
	free(import.span);
	return rc;
}
