/* SPDX-License-Identifier: MIT */
/* Identities of launches: kernels by name, captures, and graphs made from them. A launch into a
 * capture is not an execution; the captured launches identify the graph, and each of its replays. */
#include "layer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KERNELS      8192 /* slots, a power of two; an evicted kernel is looked up again */
#define NAMES_MAX    2048 /* kept for FLAMED_TRACE */
#define PROBES       8
#define CAPTURES_MAX 16
#define GRAPHS       1024              /* slots for graphs and for executable graphs */
#define GRAPH_TAG    0x677261706821ULL /* distinguishes a replay from the same kernels launched one by one */

_Atomic int captures;

static struct {
	_Atomic(const void *) function;
	_Atomic uint64_t hash;
} kernels[KERNELS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	uint64_t hash;
	char *name;
} names[NAMES_MAX];
static size_t name_count;
static uint64_t unnamed;

/* The content of a capture: the first launch, and the hash of all. */
struct content {
	struct launch first;
	uint64_t hash;
	size_t launches;
};
static struct {
	uint64_t id; /* the driver's id; 0: free */
	struct content content;
} capture[CAPTURES_MAX];
struct slot {
	const void *handle;
	struct content content;
};
static struct slot graphs[GRAPHS], execs[GRAPHS];

static size_t start_of(const void *handle, size_t slots)
{
	return (size_t)(mix(0, (uintptr_t)handle) % slots);
}

const char *kernel_name(uint64_t hash)
{
	const char *name = NULL;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < name_count && !name; i++)
		if (names[i].hash == hash)
			name = names[i].name;
	pthread_mutex_unlock(&lock);
	return name;
}

static void remember_name(uint64_t hash, const char *name)
{
	size_t i = 0;

	pthread_mutex_lock(&lock);
	while (i < name_count && names[i].hash != hash)
		i++;
	if (i == name_count && i < NAMES_MAX) {
		names[i].name = strdup(name);
		names[i].hash = hash;
		name_count += names[i].name != NULL;
	}
	pthread_mutex_unlock(&lock);
}

/* A handle may be reused after its module was unloaded: the newest name is valid. */
static void put_kernel(const void *function, uint64_t hash)
{
	size_t start = start_of(function, KERNELS), at = start;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < PROBES; i++) {
		at = (start + i) % KERNELS;
		if (!kernels[at].function || kernels[at].function == function)
			break;
		if (i + 1 == PROBES)
			at = start;
	}
	atomic_store(&kernels[at].function, NULL);
	atomic_store(&kernels[at].hash, hash);
	atomic_store(&kernels[at].function, function);
	pthread_mutex_unlock(&lock);
}

void kernel_found(const void *function, const char *name)
{
	uint64_t hash = boundary_hash(0, name, strlen(name));

	remember_name(hash, name);
	put_kernel(function, hash);
}

/* Query the driver (since CUDA 12.3); otherwise use the order of first use, which is the same in
 * every run of a deterministic program. */
static uint64_t ask_name(const void *function)
{
	char number[32];
	const char *name = NULL;

	if (own.cuFuncGetName && own.cuFuncGetName(&name, (CUfunction)(uintptr_t)function) != CUDA_SUCCESS)
		name = NULL;
	if (!name && own.cuKernelGetName && own.cuKernelGetName(&name, (CUkernel)(uintptr_t)function) != CUDA_SUCCESS)
		name = NULL;
	if (!name) {
		pthread_mutex_lock(&lock);
		snprintf(number, sizeof(number), "kernel-%llu", (unsigned long long)unnamed++);
		pthread_mutex_unlock(&lock);
		name = number;
	}
	kernel_found(function, name);
	return boundary_hash(0, name, strlen(name));
}

uint64_t kernel_hash(const void *function)
{
	size_t start = start_of(function, KERNELS);

	for (size_t i = 0; i < PROBES; i++) {
		size_t at = (start + i) % KERNELS;

		if (atomic_load_explicit(&kernels[at].function, memory_order_acquire) == function)
			return atomic_load_explicit(&kernels[at].hash, memory_order_relaxed);
	}
	return ask_name(function);
}

uint64_t capture_of(CUstream handle, bool per_thread)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	cuuint64_t id = 0;

	if (captures <= 0 || own.cuStreamGetCaptureInfo_v2(named_stream(handle, per_thread), &status, &id, NULL, NULL,
							   NULL) != CUDA_SUCCESS)
		return 0;
	return status == CU_STREAM_CAPTURE_STATUS_NONE ? 0 : id ? id : UINT64_MAX;
}

bool capturing(CUstream handle, bool per_thread)
{
	return captures > 0 && capture_of(handle, per_thread) != 0;
}

bool capture_takes(CUstream handle, bool per_thread, const struct launch *launch)
{
	uint64_t id = capture_of(handle, per_thread);
	size_t at = CAPTURES_MAX;

	if (id == 0)
		return false;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < CAPTURES_MAX; i++)
		if (capture[i].id == id || (capture[i].id == 0 && at == CAPTURES_MAX))
			at = i;
	if (at < CAPTURES_MAX) {
		struct content *content = &capture[at].content;

		if (capture[at].id != id)
			*content = (struct content){.first = *launch};
		capture[at].id = id;
		content->hash = mix(content->hash, launch->identity);
		content->launches++;
	}
	pthread_mutex_unlock(&lock);
	return true;
}

void capture_begun(void)
{
	captures++;
}

static struct slot *find(struct slot *slots, const void *handle)
{
	size_t start = start_of(handle, GRAPHS);

	for (size_t i = 0; i < PROBES; i++)
		if (slots[(start + i) % GRAPHS].handle == handle)
			return &slots[(start + i) % GRAPHS];
	return NULL;
}

static void put(struct slot *slots, const void *handle, const struct content *content)
{
	struct slot *slot = find(slots, handle);

	if (!slot)
		slot = find(slots, NULL);
	for (size_t i = 0, start = start_of(handle, GRAPHS); i < PROBES && !slot; i++)
		slot = i + 1 == PROBES ? &slots[start] : NULL;
	if (slot)
		*slot = (struct slot){handle, *content};
}

void capture_ended(uint64_t id, CUgraph graph)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < CAPTURES_MAX && id; i++) {
		if (capture[i].id != id)
			continue;
		if (graph)
			put(graphs, graph, &capture[i].content);
		capture[i].id = 0;
	}
	pthread_mutex_unlock(&lock);
	if (id)
		captures--;
}

static void forget(struct slot *slots, const void *handle)
{
	struct slot *slot;

	pthread_mutex_lock(&lock);
	slot = find(slots, handle);
	if (slot)
		slot->handle = NULL;
	pthread_mutex_unlock(&lock);
}

/* A graph built node by node is identified by its size. */
static struct content content_of(CUgraph graph)
{
	struct content content = {0};
	const struct slot *slot;
	size_t nodes = 0;

	pthread_mutex_lock(&lock);
	slot = find(graphs, graph);
	if (slot)
		content = slot->content;
	pthread_mutex_unlock(&lock);
	if (slot || !own.cuGraphGetNodes || own.cuGraphGetNodes(graph, NULL, &nodes) != CUDA_SUCCESS)
		return content;
	return (struct content){.first = {GRAPH_TAG, mix(GRAPH_TAG, nodes), 0}, .hash = nodes, .launches = nodes};
}

void graph_gone(CUgraph graph)
{
	forget(graphs, graph);
}

void graph_cloned(CUgraph clone, CUgraph graph)
{
	struct content content = content_of(graph);

	pthread_mutex_lock(&lock);
	put(graphs, clone, &content);
	pthread_mutex_unlock(&lock);
}

void exec_made(CUgraphExec exec, CUgraph graph)
{
	struct content content = content_of(graph);

	pthread_mutex_lock(&lock);
	put(execs, exec, &content);
	pthread_mutex_unlock(&lock);
}

void exec_gone(CUgraphExec exec)
{
	forget(execs, exec);
}

size_t exec_launches(CUgraphExec exec, struct launch out[2])
{
	struct content content = {0};
	const struct slot *slot;

	pthread_mutex_lock(&lock);
	slot = find(execs, exec);
	if (slot)
		content = slot->content;
	pthread_mutex_unlock(&lock);
	out[0] = (struct launch){content.first.kernel, mix(GRAPH_TAG, content.first.identity), content.first.work};
	out[1] = (struct launch){mix(GRAPH_TAG, content.hash), mix(content.hash, content.launches), 0};
	return content.launches == 1 ? 1 : 2;
}
