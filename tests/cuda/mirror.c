/* SPDX-License-Identifier: MIT */
/* A libcuda.so.1 that only records each call, for tests of every entry point of the layer. With
 * $MIRROR_PRIVATE, cuGetProcAddress() returns other addresses than those of the exported symbols. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "mirror.h"
#include "../../layers/cuda/names.h"

#define EXPORT __attribute__((visibility("default")))
#define ARGS \
	uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f, uintptr_t g, uintptr_t h, \
		uintptr_t i, uintptr_t j, uintptr_t k, uintptr_t l

static struct mirror_call last;

EXPORT const struct mirror_call *mirror_last(void);
EXPORT const struct mirror_call *mirror_last(void)
{
	return &last;
}

static int get_proc_address(const char *name, void **out, int version, uint64_t flags);

static int note(const char *name, const uintptr_t arguments[MIRROR_ARGUMENTS])
{
	last.name = name;
	memcpy(last.arguments, arguments, sizeof(last.arguments));
	if (strncmp(name, "cuGetProcAddress", 16) == 0)
		return get_proc_address((const char *)arguments[0], (void **)arguments[1], (int)arguments[2],
					arguments[3]);
	return 0;
}

#define BODY(name) \
	{ \
		return note(#name, (const uintptr_t[]){a, b, c, d, e, f, g, h, i, j, k, l}); \
	}
#define NOTED(name, base, version, per_thread) \
	EXPORT int exported_##name(ARGS) __asm__(#name); \
	int exported_##name(ARGS) BODY(name) static int private_##name(ARGS) BODY(name)

/* Functions that the layer does not wrap, or calls itself: these are not recorded. cuGraphClone_v2 is made up: it is a
 * version of an entry point that the layer does not know yet. */
#define PLAIN(X) \
	X(cuInit) \
	X(cuMemAlloc_v2) \
	X(cuGetExportTable) \
	X(cuStreamCreate) \
	X(cuStreamGetFlags) \
	X(cuStreamGetCaptureInfo_v2) \
	X(cuThreadExchangeStreamCaptureMode) \
	X(cuCtxGetCurrent) \
	X(cuFuncGetName) \
	X(cuKernelGetName) \
	X(cuGraphGetNodes) \
	X(cuEventCreate) \
	X(cuEventElapsedTime) \
	X(cuGraphClone_v2)
#define DO_NOTHING(name) \
	EXPORT int name(void); \
	int name(void) \
	{ \
		return 0; \
	}
PLAIN(DO_NOTHING)

CUDA_WRAPPED(NOTED)

static const struct {
	const char *name;
	int version;
	bool per_thread;
	void *exported, *other;
} table[] = {
#define ROW(symbol, name, version, per_thread) \
	{#name, version, per_thread, (void *)exported_##symbol, (void *)private_##symbol},
#define PLAIN_ROW(name) {#name, 0, false, (void *)name, (void *)name},
	CUDA_WRAPPED(ROW) PLAIN(PLAIN_ROW)};

static int get_proc_address(const char *name, void **out, int version, uint64_t flags)
{
	bool per_thread = flags & 2; /* CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM */
	size_t best = SIZE_MAX;

	for (size_t at = 0; at < sizeof(table) / sizeof(table[0]); at++)
		if (strcmp(table[at].name, name) == 0 && table[at].version <= version &&
		    (per_thread || !table[at].per_thread) &&
		    (best == SIZE_MAX || table[at].version > table[best].version || table[at].per_thread))
			best = at;
	*out = best == SIZE_MAX ? NULL : getenv("MIRROR_PRIVATE") ? table[best].other : table[best].exported;
	return *out ? 0 : 500; /* CUDA_ERROR_NOT_FOUND */
}
