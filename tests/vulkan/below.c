/* SPDX-License-Identifier: MIT */
/* A Vulkan layer for tests, below flamed's: it gives the driver the faults that FLAMED_BELOW
 * names. nostamps: no timestamps; cheap: they cost nothing, and are of a clock that ticks with each that
 * is read; costly: each costs a hundred; lost=N: the device is lost with
 * submission N; slow: a submission returns long after the device has completed it; impatient: the
 * first wait for a fence times out; queues: a family has a second queue, whose work goes to the first, except
 * that a submission of nothing is over at once; swapchain: there is a screen to draw on; queries: a timestamp has its
 * time when the host has waited for a fence of its submission, and reading it never waits: without a value it ends the
 * program. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXPORT      __attribute__((visibility("default")))
#define SLOW_US     20000
#define STAMPED_MAX 64

/* One instance and any number of devices of one driver, which have the same functions. */
static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
static PFN_vkQueueSubmit next_submit;
static PFN_vkQueueSubmit2 next_submit2;
static PFN_vkGetPhysicalDeviceQueueFamilyProperties next_families;
static PFN_vkCreateDevice next_create_device;
static PFN_vkCmdWriteTimestamp next_stamp;
static PFN_vkGetQueryPoolResults next_results;
static PFN_vkWaitForFences next_wait;
static PFN_vkGetDeviceQueue next_queue;
static PFN_vkQueueWaitIdle next_idle;
static atomic_int submissions, ticks, waits;

static const char *below(const char *what)
{
	const char *text = getenv("FLAMED_BELOW");

	return text ? strstr(text, what) : NULL;
}

static VKAPI_ATTR void VKAPI_CALL families(VkPhysicalDevice physical, uint32_t *count, VkQueueFamilyProperties *out)
{
	next_families(physical, count, out);
	for (uint32_t i = 0; out && i < *count && below("nostamps"); i++)
		out[i].timestampValidBits = 0;
	for (uint32_t i = 0; out && i < *count && below("queues"); i++)
		out[i].queueCount = 2;
}

/* The second queue: like every such handle it begins with the loader's dispatch pointer. */
static struct {
	void *dispatch;
} second;
static VkQueue only;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the first queue, if the second one uses it */
static atomic_bool busy;                                 /* the second one used it */
static _Atomic(VkFence) over; /* that a submission of nothing to the second one has signalled */

static VKAPI_ATTR void VKAPI_CALL get_queue(VkDevice device, uint32_t family, uint32_t index, VkQueue *out)
{
	next_queue(device, family, 0, out);
	only = *out;
	if (index == 1)
		*out = (VkQueue)&second;
}

static VkQueue real(VkQueue queue)
{
	return queue == (VkQueue)&second ? only : queue;
}

/* Command buffers with timestamps in one pool each. */
static struct {
	VkCommandBuffer buffer;
	VkQueryPool pool;
	VkFence fence;
	uint64_t executed_ns; /* 0: never */
} stamped[STAMPED_MAX];
static size_t stamped_count;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void remember_pool(VkCommandBuffer buffer, VkQueryPool pool)
{
	bool known = false;

	pthread_mutex_lock(&lock);
	for (size_t i = stamped_count; i-- > 0;) {
		if (stamped[i].buffer == buffer && stamped[i].pool == pool)
			known = true;
		else if (stamped[i].buffer == buffer || stamped[i].pool == pool) /* the other was destroyed */
			stamped[i] = stamped[--stamped_count];
	}
	if (!known && stamped_count == STAMPED_MAX)
		abort();
	if (!known) {
		stamped[stamped_count].buffer = buffer;
		stamped[stamped_count].pool = pool;
		stamped[stamped_count].fence = VK_NULL_HANDLE;
		stamped[stamped_count++].executed_ns = 0;
	}
	pthread_mutex_unlock(&lock);
}

static void remember_fence(const VkSubmitInfo *info, VkFence fence)
{
	for (uint32_t i = 0; i < info->commandBufferCount; i++)
		for (size_t j = 0; j < stamped_count; j++)
			if (stamped[j].buffer == info->pCommandBuffers[i])
				stamped[j].fence = fence;
}

/* Of a fence, or of all that were submitted. */
static void executed(VkFence fence)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < stamped_count; i++) {
		if (!stamped[i].fence || (fence && stamped[i].fence != fence))
			continue;
		stamped[i].fence = VK_NULL_HANDLE;
		stamped[i].executed_ns = now_ns();
	}
	pthread_mutex_unlock(&lock);
}

static VkResult remembered(VkQueryPool pool, uint32_t first, uint32_t count, uint64_t *out)
{
	uint64_t at_ns = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < stamped_count; i++)
		if (stamped[i].pool == pool)
			at_ns = stamped[i].executed_ns;
	pthread_mutex_unlock(&lock);
	if (!at_ns) {
		fputs("below: a timestamp is read that no execution has written\n", stderr);
		_exit(7);
	}
	for (uint32_t i = 0; i < count; i++)
		out[i] = at_ns + first + i;
	return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL idle(VkQueue queue)
{
	VkResult rc;

	if (queue == (VkQueue)&second && !busy)
		return VK_SUCCESS;
	pthread_mutex_lock(&lock);
	rc = next_idle(real(queue));
	pthread_mutex_unlock(&lock);
	executed(VK_NULL_HANDLE);
	return rc;
}

static bool loses(void)
{
	const char *lost = below("lost=");

	return lost && atomic_fetch_add(&submissions, 1) >= atoi(lost + 5);
}

static VkResult late(VkResult rc)
{
	if (below("slow"))
		usleep(SLOW_US);
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos, VkFence fence)
{
	VkResult rc;

	if (loses())
		return VK_ERROR_DEVICE_LOST;
	if (queue == (VkQueue)&second && count == 1 && !infos->waitSemaphoreCount && !infos->commandBufferCount) {
		over = fence;
		return VK_SUCCESS;
	}
	if (queue == (VkQueue)&second)
		busy = true;
	pthread_mutex_lock(&lock);
	if (count == 1)
		remember_fence(infos, fence);
	rc = next_submit(real(queue), count, infos, fence);
	pthread_mutex_unlock(&lock);
	return late(rc);
}

static VKAPI_ATTR VkResult VKAPI_CALL submit2(VkQueue queue, uint32_t count, const VkSubmitInfo2 *infos, VkFence fence)
{
	VkResult rc;

	if (loses())
		return VK_ERROR_DEVICE_LOST;
	if (queue == (VkQueue)&second)
		busy = true;
	pthread_mutex_lock(&lock);
	rc = next_submit2(real(queue), count, infos, fence);
	pthread_mutex_unlock(&lock);
	return late(rc);
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_fences(VkDevice device, uint32_t count, const VkFence *fences, VkBool32 all,
						  uint64_t timeout)
{
	VkResult rc;

	if (count == 1 && fences[0] == over && atomic_exchange(&over, VK_NULL_HANDLE))
		return VK_SUCCESS;
	if (below("impatient") && atomic_fetch_add(&waits, 1) == 0)
		return VK_TIMEOUT;
	rc = next_wait(device, count, fences, all, timeout);
	for (uint32_t i = 0; rc == VK_SUCCESS && i < count; i++)
		executed(fences[i]);
	return rc;
}

static VKAPI_ATTR void VKAPI_CALL stamp(VkCommandBuffer buffer, VkPipelineStageFlagBits stage, VkQueryPool pool,
					uint32_t query)
{
	int times = below("cheap") ? 0 : below("costly") ? 100 : 1;

	if (below("queries"))
		remember_pool(buffer, pool);
	for (int i = 0; i < times; i++)
		next_stamp(buffer, stage, pool, query);
}

static VKAPI_ATTR VkResult VKAPI_CALL results(VkDevice device, VkQueryPool pool, uint32_t first, uint32_t count,
					      size_t size, void *data, VkDeviceSize stride, VkQueryResultFlags flags)
{
	if (below("queries"))
		return remembered(pool, first, count, data);
	if (!below("cheap"))
		return next_results(device, pool, first, count, size, data, stride, flags);
	for (uint32_t i = 0; i < count; i++)
		((uint64_t *)data)[i] = (uint64_t)atomic_fetch_add(&ticks, 1) + 1;
	return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL swapchain(VkDevice device, const VkSwapchainCreateInfoKHR *info,
						const VkAllocationCallbacks *allocator, VkSwapchainKHR *out)
{
	(void)device;
	(void)info;
	(void)allocator;
	*out = VK_NULL_HANDLE;
	return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL swapchains(VkDevice device, uint32_t count, const VkSwapchainCreateInfoKHR *infos,
						 const VkAllocationCallbacks *allocator, VkSwapchainKHR *out)
{
	for (uint32_t i = 0; i < count; i++)
		swapchain(device, &infos[i], allocator, &out[i]);
	return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
						      const VkAllocationCallbacks *allocator, VkInstance *out)
{
	VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)(uintptr_t)info->pNext;
	VkResult rc;

	while (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO)
		link = (VkLayerInstanceCreateInfo *)(uintptr_t)link->pNext;
	next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	rc = ((PFN_vkCreateInstance)next_instance(NULL, "vkCreateInstance"))(info, allocator, out);
	if (rc == VK_SUCCESS) { /* later the loader would answer with ourselves */
		next_families = (PFN_vkGetPhysicalDeviceQueueFamilyProperties)
			next_instance(*out, "vkGetPhysicalDeviceQueueFamilyProperties");
		next_create_device = (PFN_vkCreateDevice)next_instance(*out, "vkCreateDevice");
	}
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
						    const VkAllocationCallbacks *allocator, VkDevice *out)
{
	VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)(uintptr_t)info->pNext;
	VkDeviceQueueCreateInfo queue = *info->pQueueCreateInfos;
	VkDeviceCreateInfo changed = *info;
	VkResult rc;

	while (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO)
		link = (VkLayerDeviceCreateInfo *)(uintptr_t)link->pNext;
	next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	queue.queueCount = 1;
	changed.queueCreateInfoCount = 1;
	changed.pQueueCreateInfos = &queue;
	rc = next_create_device(physical, below("queues") ? &changed : info, allocator, out);
	if (rc == VK_SUCCESS) {
		next_submit = (PFN_vkQueueSubmit)next_device(*out, "vkQueueSubmit");
		next_submit2 = (PFN_vkQueueSubmit2)next_device(*out, "vkQueueSubmit2");
		next_queue = (PFN_vkGetDeviceQueue)next_device(*out, "vkGetDeviceQueue");
		next_idle = (PFN_vkQueueWaitIdle)next_device(*out, "vkQueueWaitIdle");
		next_wait = (PFN_vkWaitForFences)next_device(*out, "vkWaitForFences");
		next_stamp = (PFN_vkCmdWriteTimestamp)next_device(*out, "vkCmdWriteTimestamp");
		next_results = (PFN_vkGetQueryPoolResults)next_device(*out, "vkGetQueryPoolResults");
	}
	return rc;
}

static PFN_vkVoidFunction ours(const char *name)
{
	if (strcmp(name, "vkQueueSubmit") == 0)
		return (PFN_vkVoidFunction)submit;
	if (strcmp(name, "vkQueueSubmit2") == 0)
		return (PFN_vkVoidFunction)submit2;
	if (strcmp(name, "vkWaitForFences") == 0)
		return (PFN_vkVoidFunction)wait_fences;
	if (strcmp(name, "vkCmdWriteTimestamp") == 0)
		return (PFN_vkVoidFunction)stamp;
	if (strcmp(name, "vkGetQueryPoolResults") == 0)
		return (PFN_vkVoidFunction)results;
	if (strcmp(name, "vkGetDeviceQueue") == 0 && below("queues"))
		return (PFN_vkVoidFunction)get_queue;
	if (strcmp(name, "vkQueueWaitIdle") == 0)
		return (PFN_vkVoidFunction)idle;
	if (strcmp(name, "vkCreateSwapchainKHR") == 0 && below("swapchain"))
		return (PFN_vkVoidFunction)swapchain;
	if (strcmp(name, "vkCreateSharedSwapchainsKHR") == 0 && below("swapchain"))
		return (PFN_vkVoidFunction)swapchains;
	return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device(VkDevice device, const char *name)
{
	PFN_vkVoidFunction function = ours(name);

	return function ? function : next_device(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance(VkInstance instance, const char *name)
{
	PFN_vkVoidFunction function = ours(name);

	if (strcmp(name, "vkCreateInstance") == 0)
		return (PFN_vkVoidFunction)create_instance;
	if (strcmp(name, "vkCreateDevice") == 0)
		return (PFN_vkVoidFunction)create_device;
	if (strcmp(name, "vkGetDeviceProcAddr") == 0)
		return (PFN_vkVoidFunction)get_device;
	if (strcmp(name, "vkGetPhysicalDeviceQueueFamilyProperties") == 0)
		return (PFN_vkVoidFunction)families;
	return function || !instance ? function : next_instance(instance, name);
}

EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface);
EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface)
{
	interface->loaderLayerInterfaceVersion = 2;
	interface->pfnGetInstanceProcAddr = get_instance;
	interface->pfnGetDeviceProcAddr = get_device;
	interface->pfnGetPhysicalDeviceProcAddr = NULL;
	return VK_SUCCESS;
}
