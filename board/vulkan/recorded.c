/* SPDX-License-Identifier: MIT */
#include "recorded.h"

#include <pthread.h>
#include <search.h>
#include <stdlib.h>
#include "../calibration.h"

static void *recordings, *pools; /* of struct recorded; of query pools that hold timestamps */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int by_handle(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The entry of a command buffer or pool, added if it is new. The caller holds the lock. */
static struct recorded *recording(void **table, uint64_t handle)
{
	struct recorded key = {.handle = handle}, *made;
	struct recorded **found = tfind(&key, table, by_handle);

	if (found)
		return *found;
	made = calloc(1, sizeof(*made));
	if (!made)
		return NULL;
	made->handle = handle;
	tsearch(made, table, by_handle);
	return made;
}

static void add(VkCommandBuffer handle, uint64_t hash, uint64_t dispatches, bool reset)
{
	struct recorded *recorded;

	pthread_mutex_lock(&lock);
	recorded = recording(&recordings, (uint64_t)(uintptr_t)handle);
	if (recorded && reset)
		recorded->hash = recorded->dispatches = 0;
	if (recorded && dispatches) {
		recorded->hash = calibration_key(recorded->hash, &hash, sizeof(hash));
		recorded->dispatches += dispatches;
	}
	pthread_mutex_unlock(&lock);
}

struct recorded recorded_of(VkCommandBuffer handle)
{
	struct recorded out = {0}, *recorded;

	pthread_mutex_lock(&lock);
	recorded = recording(&recordings, (uint64_t)(uintptr_t)handle);
	if (recorded)
		out = *recorded;
	pthread_mutex_unlock(&lock);
	return out;
}

static VKAPI_ATTR VkResult VKAPI_CALL begin(VkCommandBuffer handle, const VkCommandBufferBeginInfo *info)
{
	add(handle, 0, 0, true);
	return device_of(handle)->BeginCommandBuffer(handle, info);
}

/* A launch is identified by its sizes and by the launches before it. */
static VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer handle, uint32_t x, uint32_t y, uint32_t z)
{
	const uint32_t sizes[3] = {x, y, z};

	add(handle, calibration_key(0, sizes, sizeof(sizes)), 1, false);
	device_of(handle)->CmdDispatch(handle, x, y, z);
}

static VKAPI_ATTR void VKAPI_CALL execute(VkCommandBuffer handle, uint32_t count, const VkCommandBuffer *buffers)
{
	for (uint32_t i = 0; i < count; i++) {
		struct recorded recorded = recorded_of(buffers[i]);

		add(handle, recorded.hash, recorded.dispatches, false);
	}
	device_of(handle)->CmdExecuteCommands(handle, count, buffers);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_query_pool(VkDevice handle, const VkQueryPoolCreateInfo *info,
							const VkAllocationCallbacks *allocator, VkQueryPool *pool)
{
	VkResult rc = device_of(handle)->CreateQueryPool(handle, info, allocator, pool);
	struct recorded *known;

	if (rc != VK_SUCCESS)
		return rc;
	pthread_mutex_lock(&lock);
	known = recording(&pools, (uint64_t)(uintptr_t)*pool);
	if (known)
		known->dispatches = info->queryType == VK_QUERY_TYPE_TIMESTAMP;
	pthread_mutex_unlock(&lock);
	return rc;
}

bool recorded_holds_timestamps(VkQueryPool pool)
{
	const struct recorded *known;
	bool holds;

	pthread_mutex_lock(&lock);
	known = recording(&pools, (uint64_t)(uintptr_t)pool);
	holds = known && known->dispatches;
	pthread_mutex_unlock(&lock);
	return holds;
}

PFN_vkVoidFunction recorded_wrapper(const char *name)
{
	static const struct wrapper wrappers[] = {
		WRAPPER("BeginCommandBuffer", begin),
		WRAPPER("CmdDispatch", dispatch),
		WRAPPER("CmdExecuteCommands", execute),
		WRAPPER("CreateQueryPool", create_query_pool),
	};

	return wrapper_find(wrappers, sizeof(wrappers) / sizeof(*wrappers), name);
}
