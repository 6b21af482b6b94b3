/* SPDX-License-Identifier: MIT */
/* A Vulkan layer for tests, below flamed's: it gives the driver the faults that FLAMED_BELOW
 * names. nostamps: no timestamps; lost=N: the device is lost with
 * submission N; swapchain: there is a screen to draw on. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXPORT __attribute__((visibility("default")))

/* One instance and any number of devices of one driver, which have the same functions. */
static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
static PFN_vkQueueSubmit next_submit;
static PFN_vkGetPhysicalDeviceQueueFamilyProperties next_families;
static PFN_vkCreateDevice next_create_device;
static atomic_int submissions;

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
}

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos, VkFence fence)
{
	const char *lost = below("lost=");

	if (lost && atomic_fetch_add(&submissions, 1) >= atoi(lost + 5))
		return VK_ERROR_DEVICE_LOST;
	return next_submit(queue, count, infos, fence);
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
	VkResult rc;

	while (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO)
		link = (VkLayerDeviceCreateInfo *)(uintptr_t)link->pNext;
	next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	rc = next_create_device(physical, info, allocator, out);
	if (rc == VK_SUCCESS)
		next_submit = (PFN_vkQueueSubmit)next_device(*out, "vkQueueSubmit");
	return rc;
}

static PFN_vkVoidFunction ours(const char *name)
{
	if (strcmp(name, "vkQueueSubmit") == 0)
		return (PFN_vkVoidFunction)submit;
	if (strcmp(name, "vkCreateSwapchainKHR") == 0 && below("swapchain"))
		return (PFN_vkVoidFunction)swapchain;
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
