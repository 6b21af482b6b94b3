/* SPDX-License-Identifier: MIT */
#include "engines.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

#include "../../common/clock.h"
#include "../core/summary.h"

static struct layer_session *session; /* of the process: the first model found has the name given by the user */

pthread_mutex_t engines_lock = PTHREAD_MUTEX_INITIALIZER;

static void take_lock(void)
{
	pthread_mutex_lock(&engines_lock);
}

static void give_lock(void)
{
	pthread_mutex_unlock(&engines_lock);
}

__attribute__((constructor)) static void loaded(void)
{
	pthread_atfork(take_lock, give_lock, give_lock);
}

static const struct layer_backend backend = {.name = "engines"};

static void start(void)
{
	if (!core_start(&backend))
		return;
	session = session_new();
	if (session)
		core_go();
}

bool engines_on(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
	return layer_on();
}

struct engine_call engine_begin(uint64_t fingerprint, enum phase phase, uint32_t context)
{
	const struct inference inference = {fingerprint, phase, context};
	struct engine_call call = {.known = true};
	bool layers;

	atomic_fetch_add_explicit(&core.launches, 1, memory_order_relaxed);
	session_found(session, fingerprint);
	call.request = session_begin(session, &inference, 0, &layers);
	call.begin_ns = clock_now_ns();
	return call;
}

void engine_end(const struct engine_call *call)
{
	if (call->known)
		session_end(session, call->request, clock_now_ns() - call->begin_ns, NULL, 0, true);
}

void engine_cancel(const struct engine_call *call, bool again)
{
	if (call->known)
		session_cancel(session, call->request, again);
}

void *engine_real(const char *name, const void *address)
{
	void *object, *found = dlsym(RTLD_NEXT, name);
	Dl_info caller, mine;

	if (found || !dladdr(address, &caller) || !caller.dli_fname || !*caller.dli_fname)
		return found;
	object = dlopen(caller.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	if (object) {
		found = dlsym(object, name);
		dlclose(object); /* the program still holds a reference */
	}
	/* For the program itself, look in the global search order, where this library is first. */
	if (found && dladdr(found, &caller) && dladdr((void *)engine_real, &mine) && caller.dli_fbase == mine.dli_fbase)
		found = NULL;
	return found;
}
