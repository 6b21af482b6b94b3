/* SPDX-License-Identifier: MIT */
/* A device of a program under the board's Vulkan layer: the driver's functions, queues and timestamps. */
#ifndef BOARD_VULKAN_DEVICE_H
#define BOARD_VULKAN_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vulkan/vulkan.h>
#include <vulkan/vk_layer.h>

#define SLOTS  256 /* submissions in flight on a device; further ones have to wait */
#define QUEUES 8

#define FUNCTIONS(F) \
	F(DestroyDevice) \
	F(GetDeviceQueue) \
	F(GetDeviceQueue2) \
	F(CreateCommandPool) \
	F(DestroyCommandPool) \
	F(AllocateCommandBuffers) \
	F(BeginCommandBuffer) \
	F(EndCommandBuffer) \
	F(CmdDispatch) \
	F(CmdResetQueryPool) \
	F(CmdWriteTimestamp) \
	F(CreateQueryPool) \
	F(DestroyQueryPool) \
	F(GetQueryPoolResults) \
	F(QueueSubmit) \
	F(QueueSubmit2) \
	F(QueueWaitIdle) \
	F(DeviceWaitIdle) \
	F(CreateFence) \
	F(DestroyFence) \
	F(WaitForFences) \
	F(ResetFences) \
	F(GetFenceStatus) \
	F(WaitSemaphores) \
	F(GetSemaphoreCounterValue) \
	F(DestroySemaphore) \
	F(CmdExecuteCommands)

/* Timestamps of one submission. */
struct stamp_slot {
	VkCommandBuffer before, after;
	VkQueryPool stamps;
	VkFence fence;
	bool busy;
};

struct device {
	void *key;
	VkDevice handle;
	PFN_vkGetDeviceProcAddr get;
	PFN_vkSetDeviceLoaderData set_loader_data;
#define F(name) PFN_vk##name name;
	FUNCTIONS(F)
#undef F
	double tick_ns;
	VkCommandPool pool; /* of the family of the first queue */
	uint32_t family;
	struct {
		VkQueue handle;
		uint32_t family;
		uint64_t newest; /* held submission that is over when the queue is idle; 0: none */
	} queue[QUEUES];
	size_t queues;
	struct stamp_slot slot[SLOTS];
	double clock_ns; /* least difference of CLOCK_MONOTONIC and the device's clock so far */
};

/* The device of a handle from the driver: of a device, a queue or a command buffer. */
struct device *device_of(const void *handle);

/* A function of Vulkan that the layer wraps. */
struct wrapper {
	const char *name;
	PFN_vkVoidFunction function;
};
#define WRAPPER(name, function) \
	{ \
		"vk" name, (PFN_vkVoidFunction)function \
	}

/* NULL where none has that name. */
PFN_vkVoidFunction wrapper_find(const struct wrapper *wrappers, size_t count, const char *name);

#endif
