/* SPDX-License-Identifier: MIT */
/* Environment, messages, enabling and disabling the layer, exit. */
#include "core.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../../common/units.h"
#include "../../lib/handle.h"
#include "stream.h"
#include "summary.h"

struct layer_core core;
static bool child; /* of a process with the layer */
static _Atomic(struct flamed *) connections[LAYER_CONNECTIONS_MAX];

__attribute__((format(printf, 2, 0))) static void say(const char *tail, const char *format, va_list args)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "flamed-%s: ", core.backend->name);
	size_t used = (size_t)n;

	n = vsnprintf(line + used, sizeof(line) - used, format, args);
	used = n < 0 ? used : used + (size_t)n < sizeof(line) ? used + (size_t)n : sizeof(line) - 1;
	n = snprintf(line + used, sizeof(line) - used, "%s\n", tail);
	used = used + (size_t)n < sizeof(line) ? used + (size_t)n : sizeof(line) - 1;
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* the output is not read */
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

	if (!atomic_exchange(&core.on, false))
		return;
	va_start(args, format);
	say("; the program continues without flamed", format, args);
	va_end(args);
	streams_stop();
	errno = saved;
}

static uint64_t number(const char *name)
{
	const char *text = secure_getenv(name);
	uint64_t value = 0;

	if (text && *text && parse_u64(text, &value) != 0) {
		layer_say("%s=%s is not a number; ignored", name, text);
		return 0;
	}
	return value;
}

static const char *path(const char *name)
{
	const char *text = secure_getenv(name);

	return text && *text ? strdup(text) : NULL;
}

/* Parse FLAMED_BOUNDARY, whose rule may be one that the back end lacks. */
static bool boundary_known(const char *text, struct boundary_config *boundary)
{
	if (boundary_parse(text, boundary) != 0 || (boundary->rule == BOUNDARY_RANGE && !core.backend->ranges))
		return false;
	if (boundary->rule == BOUNDARY_KERNEL && core.backend->kernel_of)
		boundary->kernel = core.backend->kernel_of(strchr(text, ':') + 1);
	return boundary->rule != BOUNDARY_KERNEL || boundary->kernel;
}

/* Returns false if the environment asks for nothing. */
static bool configure(struct layer_config *config)
{
	const char *model = secure_getenv("FLAMED_MODEL"), *boundary = secure_getenv("FLAMED_BOUNDARY");

	if (model && *model) {
		if (model_name_valid(model))
			memcpy(config->model, model, strlen(model) + 1);
		else
			layer_say("FLAMED_MODEL=%s is not a model name ([A-Za-z0-9._:-], at most 64); ignored", model);
	}
	if (!boundary_known(boundary, &config->boundary)) {
		layer_say("FLAMED_BOUNDARY=%s is not read, finish, kernel:NAME%s%s or count:N; ignored", boundary,
			  core.backend->kernel_of ? " as in FLAMED_TRACE" : "",
			  core.backend->ranges ? ", nvtx:NAME" : "");
		config->boundary = (struct boundary_config){.rule = BOUNDARY_AUTO};
	} else if (config->boundary.rule == BOUNDARY_RANGE) {
		config->boundary.range = strdup(config->boundary.range); /* the environment may change */
	}
	config->deadline_ns = number("FLAMED_DEADLINE_NS");
	if (config->deadline_ns && (config->deadline_ns < DEADLINE_NS_MIN || config->deadline_ns > DEADLINE_NS_MAX)) {
		layer_say("FLAMED_DEADLINE_NS is out of range; ignored");
		config->deadline_ns = 0;
	}
	config->rate_mhz = number("FLAMED_RATE_MHZ");
	if (config->rate_mhz)
		config->deadline_ns = 0;
	config->profile = number("FLAMED_PROFILE") != 0;
	config->budget = (uint32_t)number("FLAMED_BUDGET");
	config->summary = path("FLAMED_SUMMARY");
	config->trace = path("FLAMED_TRACE");
	if (config->deadline_ns || config->rate_mhz || config->profile || config->trace || config->summary)
		return true;
	if (config->model[0] && !core.backend->own_deadline)
		layer_say("FLAMED_MODEL=%s has no deadline: set FLAMED_DEADLINE_NS or FLAMED_RATE_MHZ, or use flamectl "
			  "run; the program runs without flamed",
			  config->model);
	return false;
}

int core_connect(struct flamed **out)
{
	int rc = flamed_open(out, NULL);

	for (size_t i = 0; rc == 0 && i < LAYER_CONNECTIONS_MAX; i++) {
		struct flamed *none = NULL;

		if (atomic_compare_exchange_strong(&connections[i], &none, *out))
			break;
	}
	return rc;
}

void core_disconnect(struct flamed *flamed)
{
	for (size_t i = 0; flamed && i < LAYER_CONNECTIONS_MAX; i++) {
		struct flamed *its = flamed;

		if (atomic_compare_exchange_strong(&connections[i], &its, NULL))
			break;
	}
	flamed_close(flamed);
}

/* A forked child cannot use its parent's GPU context, and the session belongs to the parent. After
 * exec the layer starts again. */
static void forked(void)
{
	child = true;
	atomic_store(&core.on, false);
	core.config.summary = core.config.trace = NULL;
	for (size_t i = 0; i < LAYER_CONNECTIONS_MAX; i++)
		if (connections[i])
			handle_forked(connections[i]);
}

bool core_start(const struct layer_backend *backend)
{
	core.backend = backend;
	return configure(&core.config);
}

void core_go(void)
{
	pthread_atfork(NULL, NULL, forked);
	atomic_store(&core.on, true);
}

__attribute__((destructor)) static void leave(void)
{
	unsigned long launches = atomic_load(&core.launches);
	bool on;

	if (!core.backend || child) /* a lock may be that of a thread which the child lacks */
		return;
	on = atomic_exchange(&core.on, false);
	if (on)
		streams_leave();
	if (on && launches > 0 && summary_inferences() == 0 && !core.overlap_told && !core.gave_up_told)
		layer_say("no inference was found in %lu launches: no sequence repeats %d times between host waits; "
			  "set FLAMED_BOUNDARY",
			  launches, BOUNDARY_REPEATS);
	summary_write();
}
