/* SPDX-License-Identifier: MIT */
/* The Vulkan back end of layers/core:
 *
 *	layer.c    entry points that the loader calls, instances and devices
 *	objects.c  what must be known of a handle
 *	record.c   shaders, pipelines, command buffers: what a submission will execute
 *	stamps.c   timestamps in command buffers, and whether they are cheap enough
 *	submit.c   submissions and host waits: what the core's streams are fed with
 *
 * A stream is a queue: tokens of one model may come from several threads. A
 * device on which a swapchain is made is left alone from there on. */
#ifndef LAYERS_VULKAN_LAYER_H
#define LAYERS_VULKAN_LAYER_H

#include <pthread.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>
#include "../core/core.h"
#include "../core/stream.h"

#ifndef VK_EXT_shader_module_identifier /* headers of 1.3.204, as in Ubuntu 22.04 */
#define VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_MODULE_IDENTIFIER_CREATE_INFO_EXT 1000462002
typedef struct {
	VkStructureType sType;
	const void *pNext;
	uint32_t identifierSize;
	const uint8_t *pIdentifier;
} VkPipelineShaderStageModuleIdentifierCreateInfoEXT;
#endif

#define VULKAN_FAMILIES_MAX 16 /* queue families of a device */
#define VULKAN_QUEUES_MAX   16 /* queues of a device that the program requested; further ones are not observed */
#define VULKAN_SIGNALS_MAX  16 /* submissions remembered for each semaphore */

/* Device functions that are called or intercepted, by core name; a driver may have them under an
 * extension's suffix only. */
/* clang-format off */
#define DEVICE_FUNCTIONS(F) \
	F(DestroyDevice) F(GetDeviceQueue) F(GetDeviceQueue2) F(CreateSwapchainKHR) F(CreateSharedSwapchainsKHR) \
	F(CreateShaderModule) F(DestroyShaderModule) F(CreateComputePipelines) F(DestroyPipeline) F(CreateCommandPool) \
	F(DestroyCommandPool) F(ResetCommandPool) F(AllocateCommandBuffers) F(FreeCommandBuffers) \
	F(BeginCommandBuffer) F(EndCommandBuffer) F(ResetCommandBuffer) F(CmdBindPipeline) F(CmdPushConstants) \
	F(CmdDispatch) F(CmdDispatchBase) F(CmdDispatchIndirect) F(CmdExecuteCommands) F(CmdPipelineBarrier) \
	F(CmdPipelineBarrier2) F(CmdWaitEvents) F(CmdWaitEvents2) F(CmdBeginRenderPass) \
	F(CmdBeginRenderPass2) F(CmdBeginRendering) F(CmdResetQueryPool) F(CmdWriteTimestamp) \
	F(CreateQueryPool) F(DestroyQueryPool) F(GetQueryPoolResults) F(QueueSubmit) F(QueueSubmit2) \
	F(QueueBindSparse) F(QueueWaitIdle) F(DeviceWaitIdle) F(CreateFence) F(WaitForFences) \
	F(GetFenceStatus) F(ResetFences) F(DestroyFence) F(WaitSemaphores) F(GetSemaphoreCounterValue) \
	F(DestroySemaphore)
/* clang-format on */

struct device_table {
#define F(name) PFN_vk##name name;
	DEVICE_FUNCTIONS(F)
#undef F
	PFN_vkGetDeviceProcAddr GetDeviceProcAddr;
};

struct instance {
	struct instance *next;
	void *key; /* the loader's dispatch pointer, common to all handles of an instance */
	VkInstance handle;
	PFN_vkGetInstanceProcAddr get;
	PFN_vkDestroyInstance destroy;
	PFN_vkGetPhysicalDeviceProperties properties;
	PFN_vkGetPhysicalDeviceQueueFamilyProperties families;
};

/* The newest commands that a fence or semaphore covers. */
struct cover {
	struct stream *stream;  /* NULL: unknown */
	uint64_t number, value; /* value: of a timeline semaphore */
	/* of another stream, whose command was waited for in the queue; NULL: none */
	struct stream *other;
	uint64_t other_number;
};

/* A queue that the program requested. */
struct queue {
	VkQueue handle;
	uint32_t family;
	struct stream *stream; /* assigned at its first launch; NULL: none yet, or none left */
	bool refused;          /* there was no stream left */
	struct cover awaited;  /* the newest commands of other queues that it waited for */
};

struct device {
	void *key;
	VkDevice handle;
	atomic_bool watched; /* false: not observed */
	struct device_table next;
	PFN_vkSetDeviceLoaderData set_loader_data;
	struct {
		VkQueueFlags flags;
		uint32_t stamp_bits;
	} family[VULKAN_FAMILIES_MAX];
	uint32_t families;
	double tick_ns;       /* of timestamps; 0: timestamps are not used */
	pthread_mutex_t lock; /* the tables and queues */
	void *modules, *pipelines, *pools, *commands, *fences, *semaphores; /* of objects.c */
	struct queue queue[VULKAN_QUEUES_MAX];
	size_t queues;
};

/* layer.c. The device that a dispatchable handle belongs to. */
struct device *device_of(const void *handle);
static inline bool device_watched(const struct device *device)
{
	return layer_on() && atomic_load_explicit(&device->watched, memory_order_relaxed);
}
/* The program's queue; NULL if it is not observed. */
struct queue *device_queue(struct device *device, VkQueue handle);

/* objects.c. Tables of objects by handle, under the device's lock. */
struct object {
	uint64_t handle;
};
#define HANDLE(h) ((uint64_t)(uintptr_t)(h))
void *table_get(void *const *table, uint64_t handle);
/* Add `size` zeroed bytes for a new handle; an old entry is freed. NULL when out of memory. */
void *table_add(void **table, uint64_t handle, size_t size);
/* Remove an entry; the caller frees it. NULL if there was none. */
void *table_take(void **table, uint64_t handle);
struct device;
/* Remove and free an entry of one of the device's tables, with its lock. */
void table_forget(struct device *device, void **table, uint64_t handle);
void table_each(void *table, void (*visit)(void *object, void *arg), void *arg);
void table_free(void **table, void (*destroy)(void *object));

struct hashed { /* a shader module or pipeline */
	struct object object;
	uint64_t hash;
};

struct fence {
	struct object object;
	struct cover cover;
};

struct semaphore {
	struct object object;
	struct cover cover[VULKAN_SIGNALS_MAX]; /* the newest ones */
	size_t count;
};

struct pool {
	struct object object;
	uint32_t family;
};

/* stamps.c. A query pool of a command buffer, referenced by it and by every token. */
struct stamps;
struct stamps *stamps_new(struct device *device, uint32_t count);
void stamps_hold(struct stamps *stamps);
void stamps_let_go(struct stamps *stamps);
uint32_t stamps_count(const struct stamps *stamps);
VkQueryPool stamps_pool(const struct stamps *stamps);
/* Recording or executing again invalidates older tokens. */
uint64_t stamps_renew(struct stamps *stamps);
/* Before a submission that executes it; no other one is in progress. `polled`: stamp_complete() will be asked. */
void stamps_submitting(struct stamps *stamps, bool polled);
uint64_t stamps_serial(const struct stamps *stamps);
/* Functions of the back end. */
bool stamp_times(const struct launch_token *token, struct launch_times *out);
bool stamp_complete(const struct launch_token *token);
void stamp_release(const struct launch_token *token);
/* Are timestamps of a new device meaningful and cheap? Called before any work of the program. Sets
 * device->tick_ns. */
void stamps_try(struct device *device, const VkPhysicalDeviceProperties *properties, const VkDeviceCreateInfo *info);

/* record.c. Launches between two barriers, timed together. */
struct launch_group {
	uint64_t kernel;
	uint32_t first, last; /* timestamps before and after it */
};

struct command {
	struct object object;
	uint64_t pool;
	uint32_t family;
	bool secondary, simultaneous;
	uint64_t kernel; /* of the bound pipeline */
	uint64_t pushed; /* hash of all push constants so far */
	struct launch *launches;
	size_t count, room;
	struct launch_group *groups;
	size_t groups_count, groups_room;
	bool open; /* there were launches since the last barrier */
	uint64_t open_kernel;
	bool untimed; /* a launch in it has no times */
	struct stamps *stamps;
	uint32_t used;   /* timestamps written so far */
	uint32_t wanted; /* timestamps needed by the next recording */
};

struct command *command_get(struct device *device, VkCommandBuffer handle);
void command_free(void *command);

/* Intercepted functions, in the tables of record.c and submit.c; ended by a NULL name. */
struct intercept {
	const char *name;
	PFN_vkVoidFunction function;
};
extern const struct intercept record_entries[], submit_entries[];

/* submit.c: stop observing the device and leave its streams. */
void device_leave(struct device *device);
/* Code is being compiled. */
void device_compiles(struct device *device);

#endif
