/* SPDX-License-Identifier: MIT */
/* libflamed-cupti.so is loaded at the first launch that is recorded: the driver is up by then, and no lock is held.
 * After any error, a line is printed and events are used instead. */
#include "profiler.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cupti/cupti.h"

#define LIBRARY "libflamed-cupti.so"

static _Atomic(const struct cupti_ops *) ops;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char mark; /* in place of a pair of events */
__thread bool cuda_unwrapped;

static void without(const char *why)
{
	layer_say("no CUPTI: %s; layers are timed by events", why);
}

/* It is in the folder of this library. */
static cupti_starter *load(char *why, size_t size)
{
	char path[PATH_MAX];
	Dl_info self;
	const char *own_path = dladdr(&mark, &self) && self.dli_fname ? self.dli_fname : "";
	const char *slash = strrchr(own_path, '/');
	cupti_starter *starter = NULL;
	void *library;

	snprintf(path, sizeof(path), "%.*s" LIBRARY, slash ? (int)(slash + 1 - own_path) : 0, own_path);
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library)
		*(void **)&starter = dlsym(library, CUPTI_STARTER);
	if (!starter)
		snprintf(why, size, "%s", dlerror());
	return starter;
}

static void start(void)
{
	const char *wanted = secure_getenv("FLAMED_CUPTI");
	CUresult (*version)(int *) = cuda_symbol("cuDriverGetVersion");
	char why[512] = "";
	cupti_starter *starter;
	int cuda = 0;

	if ((!core.config.profile && !core.config.trace) || !wanted || strcmp(wanted, "1") != 0)
		return;
	if (!version || version(&cuda) != CUDA_SUCCESS)
		cuda = 0;
	cuda_unwrapped = true; /* calls of CUPTI to the driver are not the program's */
	starter = load(why, sizeof(why));
	if (starter)
		ops = starter(cuda, why, sizeof(why));
	cuda_unwrapped = false;
	if (!ops)
		without(why);
}

/* NULL: not to be used, or not any more. */
static const struct cupti_ops *current(void)
{
	const struct cupti_ops *now, *none = NULL;

	pthread_once(&once, start);
	now = ops;
	if (!now || !now->fault())
		return now;
	if (atomic_compare_exchange_strong(&ops, &now, none)) {
		now->stop();
		without(now->fault());
	}
	return NULL;
}

bool profiler_on(void)
{
	return ops != NULL;
}

bool profiler_before(struct launch_token *token)
{
	const struct cupti_ops *now = current();

	if (!now)
		return false;
	now->launching();
	*token = (struct launch_token){.object = &mark};
	return true;
}

bool profiler_after(struct launch_token *token)
{
	const struct cupti_ops *now = ops;

	token->serial = now ? now->launched() : 0;
	return token->serial != 0;
}

bool profiler_has(const struct launch_token *token)
{
	return token->object == &mark;
}

bool profiler_times(const struct launch_token *token, struct launch_times *out)
{
	const struct cupti_ops *now = ops;

	return now && now->times(token->serial, &out->start_ns, &out->end_ns);
}
