/* SPDX-License-Identifier: MIT */
/* libflamed-board-vulkan.so: a Vulkan layer that slows any program down to the
 * clocks of the board in $FLAMED_BOARD. A submission with dispatches runs
 * between two timestamps of the layer's own; the program sees its end
 * only once it has also ended by the board's clocks, and timestamps that the
 * program reads are converted accordingly. One driver, any number of its devices. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../slower.h"
#include "completion.h"
#include "recorded.h"
#include "submit.h"

#define EXPORT  __attribute__((visibility("default")))
#define DEVICES 8

static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkCreateDevice next_create_device;
static PFN_vkGetPhysicalDeviceProperties next_properties;
static PFN_vkGetPhysicalDeviceQueueFamilyProperties next_families;
/* Other threads may destroy other devices meanwhile, so that only the device whose key matches may be looked into: the
 * caller uses it. */
static struct {
	_Atomic(void *) key; /* of the device; NULL: none */
	struct device *device;
} slots[DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of changes to them */

struct device *device_of(const void *handle)
{
	void *key = *(void *const *)handle;

	for (size_t i = 0; i < DEVICES; i++)
		if (slots[i].key == key)
			return slots[i].device;
	abort(); /* cannot happen: every handle is of a device from CreateDevice */
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
						      const VkAllocationCallbacks *allocator, VkInstance *out)
{
	VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)(uintptr_t)info->pNext;
	static atomic_bool started;
	VkResult rc;

	while (link &&
	       (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO))
		link = (VkLayerInstanceCreateInfo *)(uintptr_t)link->pNext;
	if (!link)
		return VK_ERROR_INITIALIZATION_FAILED;
	next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	rc = ((PFN_vkCreateInstance)next_instance(NULL, "vkCreateInstance"))(info, allocator, out);
	if (rc != VK_SUCCESS)
		return rc;
	/* At this time: later the loader would return this layer itself. */
	next_create_device = (PFN_vkCreateDevice)next_instance(*out, "vkCreateDevice");
	next_properties = (PFN_vkGetPhysicalDeviceProperties)next_instance(*out, "vkGetPhysicalDeviceProperties");
	next_families =
		(PFN_vkGetPhysicalDeviceQueueFamilyProperties)next_instance(*out,
									    "vkGetPhysicalDeviceQueueFamilyProperties");
	if (!atomic_exchange(&started, true))
		submit_start();
	return rc;
}

static PFN_vkVoidFunction device_function(const struct device *device, const char *name)
{
	PFN_vkVoidFunction function = device->get(device->handle, name);
	char khr[64];

	snprintf(khr, sizeof(khr), "%sKHR", name);
	return function ? function : device->get(device->handle, khr);
}

/* The first family that executes kernels and has timestamps. */
static void find_family(struct device *device, VkPhysicalDevice physical, const VkDeviceCreateInfo *info)
{
	VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
	VkQueueFamilyProperties families[16];
	VkPhysicalDeviceProperties properties;
	uint32_t count = 16;

	next_properties(physical, &properties);
	next_families(physical, &count, families);
	for (uint32_t i = 0; i < info->queueCreateInfoCount && !device->pool; i++) {
		uint32_t family = info->pQueueCreateInfos[i].queueFamilyIndex;

		if (family >= count || !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT) ||
		    families[family].timestampValidBits < 36)
			continue;
		pool.queueFamilyIndex = device->family = family;
		if (device->CreateCommandPool(device->handle, &pool, NULL, &device->pool) == VK_SUCCESS)
			device->tick_ns = (double)properties.limits.timestampPeriod;
	}
	if (device->tick_ns == 0)
		fprintf(stderr, "flamed-board-vulkan: %s has no timestamps; it is not slowed down\n",
			properties.deviceName);
}

/* Returns false if there is no room. */
static bool enlist(struct device *device)
{
	size_t i = 0;

	pthread_mutex_lock(&lock);
	while (i < DEVICES && slots[i].key)
		i++;
	if (i < DEVICES) {
		slots[i].device = device;
		slots[i].key = device->key;
	}
	pthread_mutex_unlock(&lock);
	return i < DEVICES;
}

/* Before its handle is destroyed, whose address a new device may have at once. */
static void delist(const struct device *device)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < DEVICES; i++)
		if (slots[i].key == device->key)
			slots[i].key = NULL;
	pthread_mutex_unlock(&lock);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
						    const VkAllocationCallbacks *allocator, VkDevice *out)
{
	VkLayerDeviceCreateInfo *in = (VkLayerDeviceCreateInfo *)(uintptr_t)info->pNext, *link = NULL;
	struct device *device = calloc(1, sizeof(*device));
	VkResult rc;

	for (; in; in = (VkLayerDeviceCreateInfo *)(uintptr_t)in->pNext) {
		if (in->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO)
			continue;
		if (in->function == VK_LAYER_LINK_INFO)
			link = in;
		else if (device && in->function == VK_LOADER_DATA_CALLBACK)
			device->set_loader_data = in->u.pfnSetDeviceLoaderData;
	}
	if (!link || !device) {
		free(device);
		return VK_ERROR_INITIALIZATION_FAILED;
	}
	device->get = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	rc = next_create_device(physical, info, allocator, out);
	if (rc != VK_SUCCESS) {
		free(device);
		return rc;
	}
	device->handle = *out;
	device->key = *(void **)*out;
#define F(name) device->name = (PFN_vk##name)device_function(device, "vk" #name);
	FUNCTIONS(F)
#undef F
	if (device->set_loader_data)
		find_family(device, physical, info);
	if (enlist(device))
		return rc;
	device->DestroyDevice(*out, allocator);
	free(device);
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

static VKAPI_ATTR void VKAPI_CALL destroy_device(VkDevice handle, const VkAllocationCallbacks *allocator)
{
	struct device *device = handle ? device_of(handle) : NULL;

	if (!device)
		return;
	submit_wait(device, VK_NULL_HANDLE);
	submit_close(device);
	if (device->pool)
		device->DestroyCommandPool(handle, device->pool, NULL);
	delist(device);
	device->DestroyDevice(handle, allocator);
	free(device);
}

static void got_queue(struct device *device, VkQueue handle, uint32_t family)
{
	for (size_t i = 0; i < device->queues; i++)
		if (device->queue[i].handle == handle)
			return;
	if (device->queues == QUEUES)
		return;
	device->queue[device->queues].handle = handle;
	device->queue[device->queues++].family = family;
}

static VKAPI_ATTR void VKAPI_CALL get_queue(VkDevice handle, uint32_t family, uint32_t index, VkQueue *queue)
{
	struct device *device = device_of(handle);

	device->GetDeviceQueue(handle, family, index, queue);
	got_queue(device, *queue, family);
}

static VKAPI_ATTR void VKAPI_CALL get_queue2(VkDevice handle, const VkDeviceQueueInfo2 *info, VkQueue *queue)
{
	struct device *device = device_of(handle);

	device->GetDeviceQueue2(handle, info, queue);
	got_queue(device, *queue, info->queueFamilyIndex);
}

PFN_vkVoidFunction wrapper_find(const struct wrapper *wrappers, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(wrappers[i].name, name) == 0)
			return wrappers[i].function;
	return NULL;
}

static PFN_vkVoidFunction ours(const char *name)
{
	static const struct wrapper wrappers[] = {
		WRAPPER("CreateDevice", create_device),
		WRAPPER("DestroyDevice", destroy_device),
		WRAPPER("GetDeviceQueue", get_queue),
		WRAPPER("GetDeviceQueue2", get_queue2),
	};
	PFN_vkVoidFunction function = wrapper_find(wrappers, sizeof(wrappers) / sizeof(*wrappers), name);

	function = function ? function : recorded_wrapper(name);
	function = function ? function : submit_wrapper(name);
	return function ? function : completion_wrapper(name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device(VkDevice handle, const char *name)
{
	PFN_vkVoidFunction next = device_of(handle)->get(handle, name), function = ours(name);

	if (strcmp(name, "vkGetDeviceProcAddr") == 0)
		return (PFN_vkVoidFunction)get_device;
	return next && function ? function : next;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance(VkInstance instance, const char *name)
{
	PFN_vkVoidFunction function = ours(name), next;

	if (strcmp(name, "vkCreateInstance") == 0)
		return (PFN_vkVoidFunction)create_instance;
	if (strcmp(name, "vkGetDeviceProcAddr") == 0)
		return (PFN_vkVoidFunction)get_device;
	if (!instance)
		return NULL;
	next = next_instance(instance, name);
	return next && function ? function : next;
}

__attribute__((destructor)) static void report(void)
{
	slower_report();
}

EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface);
EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface)
{
	if (interface->loaderLayerInterfaceVersion < 2)
		return VK_ERROR_INITIALIZATION_FAILED;
	interface->loaderLayerInterfaceVersion = 2;
	interface->pfnGetInstanceProcAddr = get_instance;
	interface->pfnGetDeviceProcAddr = get_device;
	interface->pfnGetPhysicalDeviceProcAddr = NULL;
	return VK_SUCCESS;
}
