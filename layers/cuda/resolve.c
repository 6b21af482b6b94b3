/* SPDX-License-Identifier: MIT */
/* Substitution of the driver's entry points. The CUDA runtime opens libcuda.so.1, gets cuGetProcAddress_v2 from dlsym()
 * and all other entry points from that; older programs link the driver, or call dlsym() for each name. */
#include "layer.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define DRIVER "libcuda.so.1"

void *cuda_real[FN_COUNT];

#define DECLARE(name, base, version, per_thread) \
	extern char ours_##name __asm__(#name) __attribute__((visibility("default")));
CUDA_WRAPPED(DECLARE)

static const struct entry {
	const char *symbol, *name;
	int version;
	bool per_thread;
	void *ours;
} entries[FN_COUNT] = {
#define ENTRY(symbol, name, version, per_thread) {#symbol, #name, version, per_thread, &ours_##symbol},
	CUDA_WRAPPED(ENTRY)};

/* Also called during the initialisation of the loader and of sanitizers, and must not depend on
 * them. */
#define EARLY __attribute__((no_sanitize("address", "undefined"), used))

#ifdef __GLIBC__
void *flamed_real_dlsym __attribute__((visibility("hidden")));
void *flamed_dlsym_filter(void *handle, const char *name) __attribute__((visibility("hidden")));

EARLY static void find_dlsym(void)
{
	static const char versions[][12] = {"GLIBC_2.34", "GLIBC_2.17", "GLIBC_2.2.5", "GLIBC_2.27"};

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]) && !flamed_real_dlsym; i++)
		flamed_real_dlsym = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
}

static void *real_dlsym(void *handle, const char *name)
{
	if (!flamed_real_dlsym)
		find_dlsym();
	return flamed_real_dlsym ? ((void *(*)(void *, const char *))flamed_real_dlsym)(handle, name) : NULL;
}

/* dlsym() depends on its caller's return address (RTLD_NEXT), so the real one is jumped to, not
 * called. */
#if defined(__x86_64__)
__asm__(".text\n.globl dlsym\n.type dlsym, @function\ndlsym:\n"
	"	endbr64\n"
	"	pushq %rdi\n	pushq %rsi\n	subq $8, %rsp\n"
	"	call flamed_dlsym_filter\n"
	"	addq $8, %rsp\n	popq %rsi\n	popq %rdi\n"
	"	testq %rax, %rax\n	jne 1f\n"
	"	jmp *flamed_real_dlsym(%rip)\n"
	"1:	ret\n.size dlsym, .-dlsym\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl dlsym\n.type dlsym, %function\ndlsym:\n"
	"	hint #34\n"
	"	stp x29, x30, [sp, #-32]!\n	mov x29, sp\n	stp x0, x1, [sp, #16]\n"
	"	bl flamed_dlsym_filter\n"
	"	mov x9, x0\n	ldp x0, x1, [sp, #16]\n	ldp x29, x30, [sp], #32\n"
	"	cbnz x9, 1f\n"
	"	adrp x16, flamed_real_dlsym\n	ldr x16, [x16, #:lo12:flamed_real_dlsym]\n	br x16\n"
	"1:	mov x0, x9\n	ret\n.size dlsym, .-dlsym\n");
#endif
#else /* no CUDA without glibc: the library is built but intercepts nothing */
static void *real_dlsym(void *handle, const char *name)
{
	return dlsym(handle, name);
}
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(void *) driver;

/* The driver that the program loaded; the layer never loads it. */
static void *find_driver(void)
{
	void *found = atomic_load(&driver);
	bool first = false;

	if (found)
		return found;
	found = dlopen(DRIVER, RTLD_LAZY | RTLD_NOLOAD);
	if (!found)
		return NULL;
	pthread_mutex_lock(&lock);
	if (!atomic_load(&driver)) {
		for (size_t i = 0; i < FN_COUNT; i++)
			cuda_real[i] = real_dlsym(found, entries[i].symbol);
		atomic_store(&driver, found);
		first = true;
	}
	pthread_mutex_unlock(&lock);
	if (first)
		cuda_start();
	return found;
}

void *cuda_resolve(enum fn fn)
{
	find_driver();
	return cuda_real[fn];
}

void *cuda_symbol(const char *name)
{
	void *found = find_driver();

	return found ? real_dlsym(found, name) : NULL;
}

/* The driver's entry point for a name, or ours if it is intercepted. */
static void *swap(void *given)
{
	for (size_t i = 0; i < FN_COUNT; i++)
		if (given && cuda_real[i] == given)
			return entries[i].ours;
	return given;
}

#ifdef __GLIBC__
/* NULL: not intercepted. */
EARLY void *flamed_dlsym_filter(void *handle, const char *name)
{
	void *given;

	if (!flamed_real_dlsym)
		find_dlsym();
	if (!name || name[0] != 'c' || name[1] != 'u' || cuda_unwrapped)
		return NULL;
	for (size_t i = 0; i < FN_COUNT; i++) {
		if (strcmp(entries[i].symbol, name) != 0)
			continue;
		given = real_dlsym(handle, name);
		if (!given || !find_driver())
			return NULL;
		return given == cuda_real[i] ? entries[i].ours : NULL;
	}
	return NULL;
}
#endif

/* Whether the driver has a newer version of an entry point than those in names.h, which may have other arguments. */
static bool newer_exists(const char *name)
{
	char symbol[96];
	int newest = 1;

	for (size_t i = 0; i < FN_COUNT; i++)
		if (strcmp(entries[i].name, name) == 0)
			for (int v = 2; v < 9; v++) {
				snprintf(symbol, sizeof(symbol), "_v%d", v);
				if (strstr(entries[i].symbol, symbol) && v > newest)
					newest = v;
			}
	snprintf(symbol, sizeof(symbol), "%s_v%d", name, newest + 1);
	return cuda_symbol(symbol) != NULL;
}

/* The driver usually returns the addresses of its exported symbols. If not, name, version and flags
 * of the request identify the function. */
static void *swap_named(const char *name, void *given, int version, cuuint64_t flags)
{
	const struct entry *best = NULL;
	bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
	void *ours = swap(given);
	size_t at = 0;

	if (!given || ours != given)
		return ours;
	for (size_t i = 0; i < FN_COUNT; i++) {
		const struct entry *e = &entries[i];

		if (strcmp(e->name, name) != 0 || e->version > version || (e->per_thread && !per_thread))
			continue;
		if (!best || e->version > best->version || (e->version == best->version && e->per_thread)) {
			best = e;
			at = i;
		}
	}
	if (!best || newer_exists(name))
		return given;
	cuda_real[at] = given;
	return best->ours;
}

CUDA_EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **out, int version, cuuint64_t flags,
					 CUdriverProcAddressQueryResult *status)
{
	CUresult (*real)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *) =
		cuda_fn(FN_cuGetProcAddress_v2);
	CUresult rc = real ? real(symbol, out, version, flags, status) : CUDA_ERROR_NOT_INITIALIZED;

	if (rc == CUDA_SUCCESS && symbol && out)
		*out = swap_named(symbol, *out, version, flags);
	return rc;
}

CUDA_EXPORT CUresult cuGetProcAddress(const char *symbol, void **out, int version, cuuint64_t flags);
CUDA_EXPORT CUresult cuGetProcAddress(const char *symbol, void **out, int version, cuuint64_t flags)
{
	CUresult (*real)(const char *, void **, int, cuuint64_t) = cuda_fn(FN_cuGetProcAddress);
	CUresult rc = real ? real(symbol, out, version, flags) : CUDA_ERROR_NOT_INITIALIZED;

	if (rc == CUDA_SUCCESS && symbol && out)
		*out = swap_named(symbol, *out, version, flags);
	return rc;
}
