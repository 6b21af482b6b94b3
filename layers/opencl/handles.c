/* SPDX-License-Identifier: MIT */
/* Small tables by handle. The driver may reuse a handle's address, so creation always overwrites. */
#include "layer.h"

#include <pthread.h>
#include <string.h>

#define PROPERTIES_MAX 16 /* words of a property list, including the final 0 */

struct queue_entry {
	cl_command_queue queue;
	struct queue_info info;
	uint32_t references; /* held by the program */
	int stream;
	size_t properties;
	cl_queue_properties property[PROPERTIES_MAX];
};

struct kernel_entry {
	cl_kernel kernel;
	uint64_t name;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct queue_entry queues[LAYER_QUEUES_MAX];
static size_t queue_count;
static struct kernel_entry kernels[LAYER_KERNELS_MAX];
static struct {
	uint64_t hash;
	char *name;
} names[LAYER_NAMES_MAX]; /* entries are never removed */
static size_t name_count;
static atomic_uint generation;

unsigned handles_generation(void)
{
	return atomic_load_explicit(&generation, memory_order_acquire);
}

static struct queue_entry *find_queue(cl_command_queue queue)
{
	for (size_t i = 0; i < queue_count; i++)
		if (queues[i].queue == queue)
			return &queues[i];
	return NULL;
}

void queue_created(cl_command_queue queue, bool hidden, bool profiled, const cl_queue_properties *properties)
{
	struct queue_entry *entry;

	pthread_mutex_lock(&lock);
	entry = find_queue(queue);
	if (!entry && queue_count < LAYER_QUEUES_MAX)
		entry = &queues[queue_count++];
	if (entry) {
		*entry = (struct queue_entry){.queue = queue, .references = 1, .stream = -1};
		entry->info = (struct queue_info){hidden, profiled};
		while (properties && properties[entry->properties] && entry->properties + 2 < PROPERTIES_MAX)
			entry->properties += 2;
		if (properties)
			memcpy(entry->property, properties, ++entry->properties * sizeof(*properties));
		entry->property[PROPERTIES_MAX - 1] = 0;
	}
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&generation, 1);
}

bool queue_room(void)
{
	bool room;

	pthread_mutex_lock(&lock);
	room = queue_count < LAYER_QUEUES_MAX;
	pthread_mutex_unlock(&lock);
	return room;
}

void queue_retained(cl_command_queue queue)
{
	struct queue_entry *entry;

	pthread_mutex_lock(&lock);
	entry = find_queue(queue);
	if (entry)
		entry->references++;
	pthread_mutex_unlock(&lock);
}

void queue_released(cl_command_queue queue)
{
	struct queue_entry *entry;

	pthread_mutex_lock(&lock);
	entry = find_queue(queue);
	if (entry && --entry->references == 0)
		*entry = queues[--queue_count];
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&generation, 1);
}

bool queue_lookup(cl_command_queue queue, struct queue_info *out)
{
	struct queue_entry *entry;

	pthread_mutex_lock(&lock);
	entry = find_queue(queue);
	if (entry && out)
		*out = entry->info;
	pthread_mutex_unlock(&lock);
	return entry != NULL;
}

size_t queue_properties(cl_command_queue queue, cl_queue_properties *out, size_t count)
{
	struct queue_entry *entry;
	size_t n = 0;

	pthread_mutex_lock(&lock);
	entry = find_queue(queue);
	if (entry && entry->info.hidden) {
		n = entry->properties;
		memcpy(out, entry->property, (n < count ? n : count) * sizeof(*out));
	}
	pthread_mutex_unlock(&lock);
	return n * sizeof(*out);
}

void queue_set_stream(cl_command_queue queue, int stream)
{
	struct queue_entry *entry;

	pthread_mutex_lock(&lock);
	entry = find_queue(queue);
	if (entry)
		entry->stream = stream;
	pthread_mutex_unlock(&lock);
}

void queues_leave_stream(int stream)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < queue_count; i++)
		if (queues[i].stream == stream)
			queues[i].stream = -1;
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&generation, 1); /* threads that still launch on them set theirs again */
}

int queue_stream(cl_command_queue queue)
{
	struct queue_entry *entry;
	int stream;

	pthread_mutex_lock(&lock);
	entry = find_queue(queue);
	stream = entry ? entry->stream : -1;
	pthread_mutex_unlock(&lock);
	return stream;
}

static struct kernel_entry *kernel_slot(cl_kernel kernel)
{
	size_t start = ((uintptr_t)kernel >> 4) % LAYER_KERNELS_MAX;

	for (size_t i = 0; i < 8; i++) {
		struct kernel_entry *entry = &kernels[(start + i) % LAYER_KERNELS_MAX];

		if (entry->kernel == kernel || !entry->kernel)
			return entry;
	}
	return &kernels[start]; /* evicted: looked up again when needed */
}

static void remember_name(uint64_t hash, const char *name)
{
	size_t i = 0;

	pthread_mutex_lock(&lock);
	while (i < name_count && names[i].hash != hash)
		i++;
	if (i == name_count && i < LAYER_NAMES_MAX) {
		names[i].name = strdup(name);
		names[i].hash = hash;
		name_count += names[i].name != NULL;
	}
	pthread_mutex_unlock(&lock);
}

const char *kernel_name(uint64_t hash)
{
	const char *name = NULL;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < name_count; i++)
		if (names[i].hash == hash)
			name = names[i].name;
	pthread_mutex_unlock(&lock);
	return name;
}

static uint64_t ask_name(cl_kernel kernel)
{
	char name[256];
	size_t size = 0;
	uint64_t hash;

	if (layer.target.clGetKernelInfo(kernel, CL_KERNEL_FUNCTION_NAME, sizeof(name), name, &size) != CL_SUCCESS ||
	    size == 0)
		return 0;
	hash = boundary_hash(0, name, strnlen(name, size));
	if (core.config.trace)
		remember_name(hash, name);
	return hash;
}

void kernel_created(cl_kernel kernel)
{
	uint64_t name = ask_name(kernel);
	struct kernel_entry *entry;

	pthread_mutex_lock(&lock);
	entry = kernel_slot(kernel);
	*entry = (struct kernel_entry){kernel, name};
	pthread_mutex_unlock(&lock);
}

uint64_t kernel_name_hash(cl_kernel kernel)
{
	struct kernel_entry *entry;
	uint64_t name = 0;

	pthread_mutex_lock(&lock);
	entry = kernel_slot(kernel);
	if (entry->kernel == kernel)
		name = entry->name;
	pthread_mutex_unlock(&lock);
	return name ? name : ask_name(kernel);
}
