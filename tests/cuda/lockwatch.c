/* SPDX-License-Identifier: MIT */
/* Preloaded before the layer: counts the mutexes that the layer holds in this thread, for the stand-in driver, which
 * ends the program if it is called while one is held. */
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

#define HELD_MAX 16

static __thread pthread_mutex_t *mine[HELD_MAX]; /* held, locked by the layer */
static __thread int held;
static uintptr_t from, to; /* where the layer is loaded */

EXPORT int lockwatch_held(void);
EXPORT int lockwatch_held(void)
{
	return held;
}

static int find_layer(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	if (!strstr(info->dlpi_name, "libflamed-cuda.so"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
			from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
			to = from + info->dlpi_phdr[i].p_memsz;
		}
	return 1;
}

__attribute__((constructor)) static void start(void)
{
	dl_iterate_phdr(find_layer, NULL);
}

static int by_layer(const void *caller)
{
	return (uintptr_t)caller >= from && (uintptr_t)caller < to;
}

EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	static int (*next)(pthread_mutex_t *);

	if (!next)
		*(void **)&next = dlvsym(RTLD_NEXT, "pthread_mutex_lock", "GLIBC_2.17");
	if (!next)
		*(void **)&next = dlvsym(RTLD_NEXT, "pthread_mutex_lock", "GLIBC_2.2.5");
	if (by_layer(__builtin_return_address(0)) && held < HELD_MAX)
		mine[held++] = mutex;
	return next(mutex);
}

EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	static int (*next)(pthread_mutex_t *);

	if (!next)
		*(void **)&next = dlvsym(RTLD_NEXT, "pthread_mutex_unlock", "GLIBC_2.17");
	if (!next)
		*(void **)&next = dlvsym(RTLD_NEXT, "pthread_mutex_unlock", "GLIBC_2.2.5");
	/* not by the caller: a function that ends with an unlock may jump there */
	for (int i = 0; i < held; i++)
		if (mine[i] == mutex)
			mine[i] = mine[--held];
	return next(mutex);
}
