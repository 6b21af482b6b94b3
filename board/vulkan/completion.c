/* SPDX-License-Identifier: MIT */
#include "completion.h"

#include "../../common/clock.h"
#include "../slower.h"
#include "held.h"
#include "recorded.h"
#include "submit.h"

static uint64_t until(uint64_t begin_ns, uint64_t timeout_ns)
{
	return timeout_ns > HELD_FOREVER - begin_ns ? HELD_FOREVER : begin_ns + timeout_ns;
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_fences(VkDevice handle, uint32_t count, const VkFence *fences, VkBool32 all,
						  uint64_t timeout)
{
	struct device *device = device_of(handle);
	uint64_t until_ns = until(clock_now_ns(), timeout), first = HELD_FOREVER;
	VkResult rc = device->WaitForFences(handle, count, fences, all, timeout);

	for (uint32_t i = 0; rc == VK_SUCCESS && i < count; i++) {
		uint64_t one = held_by((uint64_t)(uintptr_t)fences[i]);

		if ((all || count == 1) && !held_wait(one, until_ns))
			return VK_TIMEOUT;
		if (!all && count > 1 && one < first && device->GetFenceStatus(handle, fences[i]) == VK_SUCCESS)
			first = one;
	}
	if (rc != VK_SUCCESS)
		return rc;
	if (first != HELD_FOREVER && !held_wait(first, until_ns))
		return VK_TIMEOUT;
	slower_waited();
	return rc;
}

/* Repeated polling takes no host time on the board. */
static VKAPI_ATTR VkResult VKAPI_CALL fence_status(VkDevice handle, VkFence fence)
{
	VkResult rc = device_of(handle)->GetFenceStatus(handle, fence);
	uint64_t number = held_by((uint64_t)(uintptr_t)fence);

	if (rc == VK_SUCCESS && !held_is_done(number))
		return VK_NOT_READY;
	if (rc == VK_SUCCESS && number == held_newest())
		slower_waited();
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL reset_fences(VkDevice handle, uint32_t count, const VkFence *fences)
{
	for (uint32_t i = 0; i < count; i++)
		held_forget((uint64_t)(uintptr_t)fences[i]);
	return device_of(handle)->ResetFences(handle, count, fences);
}

static VKAPI_ATTR void VKAPI_CALL destroy_semaphore(VkDevice handle, VkSemaphore semaphore,
						    const VkAllocationCallbacks *allocator)
{
	held_forget((uint64_t)(uintptr_t)semaphore);
	device_of(handle)->DestroySemaphore(handle, semaphore, allocator);
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_semaphores(VkDevice handle, const VkSemaphoreWaitInfo *info,
						      uint64_t timeout)
{
	uint64_t until_ns = until(clock_now_ns(), timeout), first = HELD_FOREVER;
	VkResult rc = device_of(handle)->WaitSemaphores(handle, info, timeout);
	bool any = info->flags & VK_SEMAPHORE_WAIT_ANY_BIT;

	for (uint32_t i = 0; rc == VK_SUCCESS && i < info->semaphoreCount; i++) {
		uint64_t one = held_by_value((uint64_t)(uintptr_t)info->pSemaphores[i], info->pValues[i]);

		if (!any && !held_wait(one, until_ns))
			return VK_TIMEOUT;
		first = one < first ? one : first;
	}
	if (rc != VK_SUCCESS)
		return rc;
	if (any && !held_wait(first, until_ns))
		return VK_TIMEOUT;
	slower_waited();
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL counter_value(VkDevice handle, VkSemaphore semaphore, uint64_t *value)
{
	VkResult rc = device_of(handle)->GetSemaphoreCounterValue(handle, semaphore, value);
	uint64_t key = (uint64_t)(uintptr_t)semaphore;

	if (rc != VK_SUCCESS)
		return rc;
	*value = held_value(key, *value);
	if (held_is_done(held_newest()) && held_by_value(key, *value) == held_newest())
		slower_waited();
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL queue_idle(VkQueue queue)
{
	VkResult rc = device_of(queue)->QueueWaitIdle(queue);

	if (rc == VK_SUCCESS)
		submit_wait(device_of(queue), queue);
	slower_waited();
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL device_idle(VkDevice handle)
{
	VkResult rc = device_of(handle)->DeviceWaitIdle(handle);

	if (rc == VK_SUCCESS)
		submit_wait(device_of(handle), VK_NULL_HANDLE);
	slower_waited();
	return rc;
}

/* Only 64-bit results are converted; a copy to a buffer by the driver is not seen. */
static VKAPI_ATTR VkResult VKAPI_CALL query_results(VkDevice handle, VkQueryPool pool, uint32_t from, uint32_t count,
						    size_t size, void *data, VkDeviceSize stride,
						    VkQueryResultFlags flags)
{
	struct device *device = device_of(handle);
	VkResult rc = device->GetQueryPoolResults(handle, pool, from, count, size, data, stride, flags);

	if (rc != VK_SUCCESS || !slower.on || !(flags & VK_QUERY_RESULT_64_BIT) || device->tick_ns == 0 ||
	    !recorded_holds_timestamps(pool))
		return rc;
	for (uint32_t i = 0; i < count; i++) {
		/* Vulkan requires 64-bit results to be aligned. */
		uint64_t *ticks = (uint64_t *)(void *)((char *)data + i * stride);
		double ns;

		if (held_time((double)*ticks * device->tick_ns, &ns))
			*ticks = (uint64_t)(ns / device->tick_ns);
	}
	return rc;
}

PFN_vkVoidFunction completion_wrapper(const char *name)
{
	static const struct wrapper wrappers[] = {
		WRAPPER("WaitForFences", wait_fences),
		WRAPPER("GetFenceStatus", fence_status),
		WRAPPER("ResetFences", reset_fences),
		WRAPPER("DestroySemaphore", destroy_semaphore),
		WRAPPER("WaitSemaphores", wait_semaphores),
		WRAPPER("WaitSemaphoresKHR", wait_semaphores),
		WRAPPER("GetSemaphoreCounterValue", counter_value),
		WRAPPER("GetSemaphoreCounterValueKHR", counter_value),
		WRAPPER("QueueWaitIdle", queue_idle),
		WRAPPER("DeviceWaitIdle", device_idle),
		WRAPPER("GetQueryPoolResults", query_results),
	};

	return wrapper_find(wrappers, sizeof(wrappers) / sizeof(*wrappers), name);
}
