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
#define NODES        4096              /* slots for nodes of executable graphs that were set to another launch */
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

/* The content of a capture: the first launch, and the hash of all; of an executable graph, also the sum of the
 * launches that its nodes were set to since. */
struct content {
	struct launch first;
	uint64_t hash, set;
	size_t launches;
};
static struct {
	CUstream origin;    /* as in named_stream(); NULL: free */
	const void *thread; /* of CU_STREAM_PER_THREAD */
	uint64_t id;        /* the driver's */
	struct content content;
} capture[CAPTURES_MAX];
static __thread char this_thread; /* its address */
struct graph_slot {
	const void *handle;
	struct content content;
};
static struct graph_slot graphs[GRAPHS], execs[GRAPHS];
static struct {
	const void *exec, *node;
	uint64_t identity; /* of the launch it was set to */
} set_nodes[NODES];
static size_t set_count;

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

/* A handle may be reused after its module was unloaded, so the newest name is valid. */
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

void kernel_alias(const void *function, const void *kernel)
{
	put_kernel(function, kernel_hash(kernel));
}

uint64_t capture_of(CUstream handle, bool per_thread)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	cuuint64_t id = 0;

	if (captures <= 0 || own.cuStreamGetCaptureInfo_v2(named_stream(handle, per_thread), &status, &id, NULL, NULL,
							   NULL) != CUDA_SUCCESS)
		return 0;
	/* one that is invalidated has no id */
	return status == CU_STREAM_CAPTURE_STATUS_NONE ? 0 : id ? id : UINT64_MAX;
}

bool capturing(CUstream handle, bool per_thread)
{
	return captures > 0 && capture_of(handle, per_thread) != 0;
}

bool capture_takes(CUstream handle, bool per_thread, const struct launch *launch)
{
	uint64_t id = capture_of(handle, per_thread);

	if (id == 0)
		return false;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < CAPTURES_MAX; i++) {
		struct content *content = &capture[i].content;

		if (!capture[i].origin || capture[i].id != id)
			continue;
		if (content->launches++ == 0)
			content->first = *launch;
		content->hash = mix(content->hash, launch->identity);
	}
	pthread_mutex_unlock(&lock);
	return true;
}

/* With the lock held: the capture that began in this stream; `origin` NULL: a free entry. CAPTURES_MAX: none. */
static size_t find_capture(CUstream origin)
{
	const void *thread = origin == CU_STREAM_PER_THREAD ? &this_thread : NULL;
	size_t i = 0;

	while (i < CAPTURES_MAX && (capture[i].origin != origin || (origin && capture[i].thread != thread)))
		i++;
	return i;
}

void capture_begun(CUstream handle, bool per_thread)
{
	CUstream origin = named_stream(handle, per_thread);
	uint64_t id;
	size_t at;

	captures++; /* counted first: from now on no event of the layer may be recorded in the stream */
	id = capture_of(handle, per_thread);
	pthread_mutex_lock(&lock);
	at = find_capture(NULL);
	if (at < CAPTURES_MAX) {
		capture[at].origin = origin;
		capture[at].thread = origin == CU_STREAM_PER_THREAD ? &this_thread : NULL;
		capture[at].id = id;
		capture[at].content = (struct content){0};
	}
	pthread_mutex_unlock(&lock);
	if (at == CAPTURES_MAX)
		layer_off("more than %d captures at the same time", CAPTURES_MAX);
}

/* With the lock held: the slot of `handle`, or, with `make`, one for it, which may be that of another. */
static struct graph_slot *find(struct graph_slot *slots, const void *handle, bool make)
{
	size_t start = start_of(handle, GRAPHS);
	struct graph_slot *room = NULL;

	for (size_t i = 0; i < PROBES; i++) {
		struct graph_slot *slot = &slots[(start + i) % GRAPHS];

		if (slot->handle == handle)
			return slot;
		if (!slot->handle && !room)
			room = slot;
	}
	return !make ? NULL : room ? room : &slots[start];
}

static void put(struct graph_slot *slots, const void *handle, const struct content *content)
{
	*find(slots, handle, true) = (struct graph_slot){handle, *content};
}

void capture_ended(CUstream handle, bool per_thread, CUgraph graph)
{
	size_t at;

	pthread_mutex_lock(&lock);
	at = find_capture(named_stream(handle, per_thread));
	if (at < CAPTURES_MAX) {
		if (graph)
			put(graphs, graph, &capture[at].content);
		capture[at].origin = NULL;
		captures--;
	}
	pthread_mutex_unlock(&lock);
}

static void forget(struct graph_slot *slots, const void *handle)
{
	struct graph_slot *slot;

	pthread_mutex_lock(&lock);
	slot = find(slots, handle, false);
	if (slot)
		slot->handle = NULL;
	pthread_mutex_unlock(&lock);
}

/* A graph built node by node is identified by its size. */
static struct content content_of(CUgraph graph)
{
	struct content content = {0};
	const struct graph_slot *slot;
	size_t nodes = 0;

	pthread_mutex_lock(&lock);
	slot = find(graphs, graph, false);
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

/* With the lock held. */
static void forget_nodes(const void *exec)
{
	for (size_t i = 0; i < NODES && set_count > 0; i++)
		if (set_nodes[i].exec == exec) {
			set_nodes[i].exec = NULL;
			set_count--;
		}
}

void exec_made(CUgraphExec exec, CUgraph graph)
{
	struct content content = content_of(graph);

	pthread_mutex_lock(&lock);
	forget_nodes(exec);
	put(execs, exec, &content);
	pthread_mutex_unlock(&lock);
}

void exec_gone(CUgraphExec exec)
{
	forget(execs, exec);
	pthread_mutex_lock(&lock);
	forget_nodes(exec);
	pthread_mutex_unlock(&lock);
}

void exec_node_set(CUgraphExec exec, CUgraphNode node, const struct launch *launch)
{
	size_t start = start_of(node, NODES), at = NODES;
	struct graph_slot *slot;

	pthread_mutex_lock(&lock);
	slot = find(execs, exec, false);
	for (size_t i = 0; i < PROBES && slot; i++) {
		size_t probe = (start + i) % NODES;

		if (set_nodes[probe].exec == exec && set_nodes[probe].node == node) {
			at = probe;
			slot->content.set -= set_nodes[at].identity;
			break;
		}
		if (!set_nodes[probe].exec && at == NODES)
			at = probe;
	}
	if (at < NODES) {
		set_count += !set_nodes[at].exec;
		set_nodes[at].exec = exec;
		set_nodes[at].node = node;
		set_nodes[at].identity = launch->identity;
		slot->content.set += launch->identity;
	}
	pthread_mutex_unlock(&lock);
}

size_t exec_launches(CUgraphExec exec, struct launch out[2])
{
	struct content content = {0};
	const struct graph_slot *slot;
	uint64_t all;

	pthread_mutex_lock(&lock);
	slot = find(execs, exec, false);
	if (slot)
		content = slot->content;
	pthread_mutex_unlock(&lock);
	all = mix(content.hash, content.launches + content.set);
	out[0] = (struct launch){content.first.kernel, mix(GRAPH_TAG, all), content.first.work};
	out[1] = (struct launch){mix(GRAPH_TAG, content.hash), all, 0};
	return content.launches == 1 ? 1 : 2;
}
