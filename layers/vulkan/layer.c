/* SPDX-License-Identifier: MIT */
/* Entry points that the Vulkan loader calls; instances and devices. */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static bool active; /* the environment enables the layer */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct instance *instances;

/* Devices are found without a lock: the slot of one that was destroyed is used again, never freed. Other
 * threads may destroy other devices meanwhile, so that only the device whose key matches may be looked into:
 * the caller uses it. No number of them is too many, since calls of a device that is not in the list could
 * not be passed on. */
struct device_slot {
	_Atomic(void *) key; /* of the device; NULL: none */
	struct device *device;
	struct device_slot *next;
};
static _Atomic(struct device_slot *) slots;

static const char *spirv_name(uint64_t kernel)
{
	static __thread char text[24];

	snprintf(text, sizeof(text), "spirv-%016llx", (unsigned long long)kernel);
	return text;
}

static uint64_t spirv_of(const char *name)
{
	static const char prefix[] = "spirv-";
	char *end = NULL;
	uint64_t kernel;

	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return 0;
	kernel = strtoull(name + strlen(prefix), &end, 16);
	return *end ? 0 : kernel;
}

static const struct layer_backend backend = {
	.name = "vulkan",
	.times = stamp_times,
	.complete = stamp_complete,
	.release = stamp_release,
	.kernel_name = spirv_name,
	.kernel_of = spirv_of,
	.polls_believed = 0, /* engines that poll in order to reuse buffers poll older submissions */
};

/* Every dispatchable handle begins with the loader's dispatch pointer. */
static void *key_of(const void *handle)
{
	return *(void *const *)handle;
}

struct device *device_of(const void *handle)
{
	void *key = key_of(handle);

	for (struct device_slot *slot = atomic_load_explicit(&slots, memory_order_acquire); slot; slot = slot->next)
		if (atomic_load_explicit(&slot->key, memory_order_acquire) == key)
			return slot->device;
	return NULL; /* not reached: an intercepted call belongs to a device in the list */
}

static struct instance *instance_of(const void *handle)
{
	void *key = key_of(handle);
	struct instance *found;

	pthread_mutex_lock(&lock);
	for (found = instances; found && found->key != key; found = found->next)
		;
	pthread_mutex_unlock(&lock);
	return found;
}

static VkLayerInstanceLink *instance_link(const VkInstanceCreateInfo *info)
{
	for (const VkLayerInstanceCreateInfo *in = info->pNext; in; in = in->pNext)
		if (in->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && in->function == VK_LAYER_LINK_INFO) {
			VkLayerInstanceLink *link = in->u.pLayerInfo;

			/* for the next layer */
			((VkLayerInstanceCreateInfo *)(uintptr_t)in)->u.pLayerInfo = link->pNext;
			return link;
		}
	return NULL;
}

static struct instance *new_instance(VkInstance handle, PFN_vkGetInstanceProcAddr get)
{
	struct instance *instance = malloc(sizeof(*instance));

	if (!instance)
		return NULL;
	*instance = (struct instance){
		.key = key_of(handle),
		.handle = handle,
		.get = get,
		.destroy = (PFN_vkDestroyInstance)get(handle, "vkDestroyInstance"),
		.properties = (PFN_vkGetPhysicalDeviceProperties)get(handle, "vkGetPhysicalDeviceProperties"),
		.families =
			(PFN_vkGetPhysicalDeviceQueueFamilyProperties)get(handle,
									  "vkGetPhysicalDeviceQueueFamilyProperties"),
	};
	pthread_mutex_lock(&lock);
	instance->next = instances;
	instances = instance;
	pthread_mutex_unlock(&lock);
	return instance;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
						      const VkAllocationCallbacks *allocator, VkInstance *instance)
{
	VkLayerInstanceLink *link = instance_link(info);
	PFN_vkCreateInstance create;
	VkResult rc;

	if (!link)
		return VK_ERROR_INITIALIZATION_FAILED;
	create = (PFN_vkCreateInstance)link->pfnNextGetInstanceProcAddr(NULL, "vkCreateInstance");
	if (!create)
		return VK_ERROR_INITIALIZATION_FAILED;
	rc = create(info, allocator, instance);
	if (rc != VK_SUCCESS || new_instance(*instance, link->pfnNextGetInstanceProcAddr))
		return rc;
	((PFN_vkDestroyInstance)link->pfnNextGetInstanceProcAddr(*instance, "vkDestroyInstance"))(*instance, allocator);
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

static VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance handle, const VkAllocationCallbacks *allocator)
{
	struct instance *instance = handle ? instance_of(handle) : NULL;
	PFN_vkDestroyInstance destroy;

	if (!instance)
		return;
	destroy = instance->destroy;
	pthread_mutex_lock(&lock);
	struct instance **at = &instances;
	while (*at != instance)
		at = &(*at)->next;
	*at = instance->next;
	pthread_mutex_unlock(&lock);
	free(instance);
	destroy(handle, allocator);
}

static VkLayerDeviceCreateInfo *device_info(const VkDeviceCreateInfo *info, VkLayerFunction function)
{
	for (const VkLayerDeviceCreateInfo *in = info->pNext; in; in = in->pNext)
		if (in->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO && in->function == function)
			return (VkLayerDeviceCreateInfo *)(uintptr_t)in;
	return NULL;
}

static PFN_vkVoidFunction device_function(VkDevice device, PFN_vkGetDeviceProcAddr get, const char *name)
{
	PFN_vkVoidFunction function = get(device, name);
	char khr[64];

	if (function)
		return function;
	snprintf(khr, sizeof(khr), "%sKHR", name);
	return get(device, khr);
}

static void fill_table(struct device_table *next, VkDevice device, PFN_vkGetDeviceProcAddr get)
{
	next->GetDeviceProcAddr = get;
#define F(name) next->name = (PFN_vk##name)device_function(device, get, "vk" #name);
	DEVICE_FUNCTIONS(F)
#undef F
}

static void learn_families(struct device *device, const struct instance *instance, VkPhysicalDevice physical)
{
	VkQueueFamilyProperties families[VULKAN_FAMILIES_MAX];
	uint32_t count = 0;

	instance->families(physical, &count, NULL);
	count = count < VULKAN_FAMILIES_MAX ? count : VULKAN_FAMILIES_MAX;
	instance->families(physical, &count, families);
	device->families = count;
	for (uint32_t i = 0; i < count; i++) {
		device->family[i].flags = families[i].queueFlags;
		device->family[i].stamp_bits = families[i].timestampValidBits;
	}
}

/* Returns false when out of memory. */
static bool enlist(struct device *device)
{
	struct device_slot *slot;

	pthread_mutex_lock(&lock);
	for (slot = slots; slot && slot->key; slot = slot->next)
		;
	if (slot) {
		slot->device = device;
		slot->key = device->key;
	} else if ((slot = malloc(sizeof(*slot)))) {
		*slot = (struct device_slot){device->key, device, slots};
		slots = slot;
	}
	pthread_mutex_unlock(&lock);
	return slot != NULL;
}

static void delist(const struct device *device)
{
	pthread_mutex_lock(&lock);
	for (struct device_slot *slot = slots; slot; slot = slot->next)
		if (slot->key == device->key)
			slot->key = NULL;
	pthread_mutex_unlock(&lock);
}

static struct device *new_device(const struct instance *instance, VkPhysicalDevice physical, VkDevice handle,
				 PFN_vkGetDeviceProcAddr get)
{
	struct device *device = calloc(1, sizeof(*device));

	if (!device)
		return NULL;
	device->key = key_of(handle);
	device->handle = handle;
	pthread_mutex_init(&device->lock, NULL);
	fill_table(&device->next, handle, get);
	learn_families(device, instance, physical);
	if (enlist(device))
		return device;
	free(device);
	return NULL;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
						    const VkAllocationCallbacks *allocator, VkDevice *out)
{
	VkLayerDeviceCreateInfo *link = device_info(info, VK_LAYER_LINK_INFO),
				*loader = device_info(info, VK_LOADER_DATA_CALLBACK);
	const struct instance *instance = instance_of(physical);
	PFN_vkGetInstanceProcAddr get_instance;
	PFN_vkGetDeviceProcAddr get_device;
	VkPhysicalDeviceProperties properties;
	struct device *device;
	PFN_vkCreateDevice create;
	VkResult rc;

	if (!link || !instance)
		return VK_ERROR_INITIALIZATION_FAILED;
	get_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
	get_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	create = (PFN_vkCreateDevice)get_instance(instance->handle, "vkCreateDevice");
	if (!create)
		return VK_ERROR_INITIALIZATION_FAILED;
	rc = create(physical, info, allocator, out);
	if (rc != VK_SUCCESS)
		return rc;
	device = new_device(instance, physical, *out, get_device);
	if (!device) { /* out of memory: without an entry, calls could not be passed on */
		((PFN_vkDestroyDevice)get_device(*out, "vkDestroyDevice"))(*out, allocator);
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	}
	if (!layer_on())
		return rc;
	instance->properties(physical, &properties);
	if (loader) {
		device->set_loader_data = loader->u.pfnSetDeviceLoaderData;
		stamps_try(device, &properties, info);
	}
	atomic_store(&device->watched, true);
	return rc;
}

static VKAPI_ATTR void VKAPI_CALL destroy_device(VkDevice handle, const VkAllocationCallbacks *allocator)
{
	struct device *device = handle ? device_of(handle) : NULL;
	PFN_vkDestroyDevice destroy;

	if (!device)
		return;
	device_leave(device);
	destroy = device->next.DestroyDevice;
	table_free(&device->commands, command_free);
	table_free(&device->modules, free);
	table_free(&device->pipelines, free);
	table_free(&device->pools, free);
	table_free(&device->fences, free);
	table_free(&device->semaphores, free);
	delist(device);
	pthread_mutex_destroy(&device->lock);
	free(device);
	destroy(handle, allocator);
}

static PFN_vkVoidFunction find(const struct intercept *entries, const char *name)
{
	while (entries->name && strcmp(entries->name, name) != 0)
		entries++;
	return entries->function;
}

static PFN_vkVoidFunction device_entry(const char *name)
{
	PFN_vkVoidFunction function = NULL;

	if (active)
		function = find(record_entries, name);
	if (active && !function)
		function = find(submit_entries, name);
	return function;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_function(VkDevice handle, const char *name)
{
	const struct device *device = device_of(handle);
	PFN_vkVoidFunction next, ours;

	if (strcmp(name, "vkGetDeviceProcAddr") == 0)
		return (PFN_vkVoidFunction)get_device_function;
	if (strcmp(name, "vkDestroyDevice") == 0)
		return (PFN_vkVoidFunction)destroy_device;
	next = device->next.GetDeviceProcAddr(handle, name);
	ours = next ? device_entry(name) : NULL; /* do not provide functions that the driver lacks */
	return ours ? ours : next;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance_function(VkInstance handle, const char *name)
{
	static const struct intercept own[] = {
		{"vkGetInstanceProcAddr", (PFN_vkVoidFunction)get_instance_function},
		{"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
		{"vkDestroyInstance", (PFN_vkVoidFunction)destroy_instance},
		{"vkCreateDevice", (PFN_vkVoidFunction)create_device},
		{"vkDestroyDevice", (PFN_vkVoidFunction)destroy_device},
		{"vkGetDeviceProcAddr", (PFN_vkVoidFunction)get_device_function},
		{NULL, NULL},
	};
	PFN_vkVoidFunction ours = find(own, name), next;
	const struct instance *instance;

	if (ours || !handle)
		return ours;
	instance = instance_of(handle);
	if (!instance)
		return NULL;
	next = instance->get(handle, name);
	ours = next ? device_entry(name) : NULL;
	return ours ? ours : next;
}

EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface);
EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface)
{
	static atomic_bool started;

	if (interface->loaderLayerInterfaceVersion < 2)
		return VK_ERROR_INITIALIZATION_FAILED;
	interface->loaderLayerInterfaceVersion = 2;
	interface->pfnGetInstanceProcAddr = get_instance_function;
	interface->pfnGetDeviceProcAddr = get_device_function;
	interface->pfnGetPhysicalDeviceProcAddr = NULL;
	if (!atomic_exchange(&started, true)) {
		active = core_start(&backend);
		if (active)
			core_go();
	}
	return VK_SUCCESS;
}
