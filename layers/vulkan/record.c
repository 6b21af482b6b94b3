/* SPDX-License-Identifier: MIT */
/* Shaders, pipelines and command buffers: which launches a submission executes, identified by code,
 * constants and numbers of workgroups. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

#define STAMPS_FIRST 128 /* in a command buffer's first query pool; doubled when they were too few */

/* Of the tables of command buffers. One for all devices: a new one may have the address of one that was freed. */
static atomic_uint generation;

static void remember_hash(struct device *device, void **table, uint64_t handle, uint64_t hash)
{
	struct hashed *hashed;

	pthread_mutex_lock(&device->lock);
	hashed = table_add(table, handle, sizeof(*hashed));
	if (hashed)
		hashed->hash = hash;
	pthread_mutex_unlock(&device->lock);
}

static uint64_t known_hash(struct device *device, void **table, uint64_t handle)
{
	const struct hashed *hashed;
	uint64_t hash;

	pthread_mutex_lock(&device->lock);
	hashed = table_get(table, handle);
	hash = hashed ? hashed->hash : 0;
	pthread_mutex_unlock(&device->lock);
	return hash;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice handle, const VkShaderModuleCreateInfo *info,
						    const VkAllocationCallbacks *allocator, VkShaderModule *module)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.CreateShaderModule(handle, info, allocator, module);

	if (rc == VK_SUCCESS && device_watched(device))
		remember_hash(device, &device->modules, HANDLE(*module), boundary_hash(0, info->pCode, info->codeSize));
	return rc;
}

static VKAPI_ATTR void VKAPI_CALL destroy_module(VkDevice handle, VkShaderModule module,
						 const VkAllocationCallbacks *allocator)
{
	struct device *device = device_of(handle);

	table_forget(device, &device->modules, HANDLE(module));
	device->next.DestroyShaderModule(handle, module, allocator);
}

/* The code of a stage: a module, or code or an identifier in the pNext chain. */
static uint64_t hash_code(struct device *device, const VkPipelineShaderStageCreateInfo *stage)
{
	if (stage->module)
		return known_hash(device, &device->modules, HANDLE(stage->module));
	for (const VkBaseInStructure *in = stage->pNext; in; in = in->pNext) {
		const VkShaderModuleCreateInfo *text = (const void *)in;
		const VkPipelineShaderStageModuleIdentifierCreateInfoEXT *identifier = (const void *)in;

		if (in->sType == VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO)
			return boundary_hash(0, text->pCode, text->codeSize);
		if (in->sType == VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_MODULE_IDENTIFIER_CREATE_INFO_EXT)
			return boundary_hash(0, identifier->pIdentifier, identifier->identifierSize);
	}
	return 0;
}

static uint64_t hash_stage(struct device *device, const VkPipelineShaderStageCreateInfo *stage)
{
	const VkSpecializationInfo *constants = stage->pSpecializationInfo;
	uint64_t hash = hash_code(device, stage);

	hash = boundary_hash(hash, stage->pName, strlen(stage->pName));
	for (uint32_t i = 0; constants && i < constants->mapEntryCount; i++) {
		const VkSpecializationMapEntry *entry = &constants->pMapEntries[i];

		hash = boundary_hash(hash, &entry->constantID, sizeof(entry->constantID));
		if (entry->offset <= constants->dataSize && entry->size <= constants->dataSize - entry->offset)
			hash = boundary_hash(hash, (const char *)constants->pData + entry->offset, entry->size);
	}
	return hash;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_pipelines(VkDevice handle, VkPipelineCache cache, uint32_t count,
						       const VkComputePipelineCreateInfo *infos,
						       const VkAllocationCallbacks *allocator, VkPipeline *pipelines)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.CreateComputePipelines(handle, cache, count, infos, allocator, pipelines);

	if (!device_watched(device))
		return rc;
	for (uint32_t i = 0; i < count; i++)
		if (pipelines[i]) /* some may have been created even if others failed */
			remember_hash(device, &device->pipelines, HANDLE(pipelines[i]),
				      hash_stage(device, &infos[i].stage));
	device_compiles(device);
	return rc;
}

static VKAPI_ATTR void VKAPI_CALL destroy_pipeline(VkDevice handle, VkPipeline pipeline,
						   const VkAllocationCallbacks *allocator)
{
	struct device *device = device_of(handle);

	table_forget(device, &device->pipelines, HANDLE(pipeline));
	device->next.DestroyPipeline(handle, pipeline, allocator);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_pool(VkDevice handle, const VkCommandPoolCreateInfo *info,
						  const VkAllocationCallbacks *allocator, VkCommandPool *pool)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.CreateCommandPool(handle, info, allocator, pool);
	struct pool *known;

	/* protected memory must not be inspected */
	if (rc != VK_SUCCESS || !device_watched(device) || info->flags & VK_COMMAND_POOL_CREATE_PROTECTED_BIT)
		return rc;
	pthread_mutex_lock(&device->lock);
	known = table_add(&device->pools, HANDLE(*pool), sizeof(*known));
	if (known)
		known->family = info->queueFamilyIndex;
	pthread_mutex_unlock(&device->lock);
	return rc;
}

void command_free(void *object)
{
	struct command *command = object;

	if (!command)
		return;
	stamps_let_go(command->stamps);
	free(command->launches);
	free(command->groups);
	free(command);
}

static void command_clear(struct command *command)
{
	command->count = command->groups_count = 0;
	command->kernel = command->open_kernel = command->pushed = 0;
	command->open = command->untimed = false;
	command->used = 0;
	if (command->stamps)
		stamps_renew(command->stamps);
}

struct of_pool {
	uint64_t pool;
	struct command **found;
	size_t count, room;
};

static void collect(void *object, void *arg)
{
	struct command *command = object, **more;
	struct of_pool *of = arg;

	if (command->pool != of->pool)
		return;
	if (of->count == of->room) {
		more = reallocarray(of->found, of->room ? of->room * 2 : 64, sizeof(struct command *));
		if (!more)
			return;
		of->found = more;
		of->room = of->room ? of->room * 2 : 64;
	}
	of->found[of->count++] = command;
}

static struct of_pool commands_of(struct device *device, VkCommandPool pool)
{
	struct of_pool of = {.pool = HANDLE(pool)};

	table_each(device->commands, collect, &of);
	return of;
}

static VKAPI_ATTR void VKAPI_CALL destroy_pool(VkDevice handle, VkCommandPool pool,
					       const VkAllocationCallbacks *allocator)
{
	struct device *device = device_of(handle);
	struct of_pool of;
	void *known;

	pthread_mutex_lock(&device->lock);
	of = commands_of(device, pool);
	for (size_t i = 0; i < of.count; i++)
		table_take(&device->commands, of.found[i]->object.handle);
	known = table_take(&device->pools, HANDLE(pool));
	pthread_mutex_unlock(&device->lock);
	atomic_fetch_add(&generation, 1);
	free(known);
	for (size_t i = 0; i < of.count; i++)
		command_free(of.found[i]);
	free(of.found);
	device->next.DestroyCommandPool(handle, pool, allocator);
}

static VKAPI_ATTR VkResult VKAPI_CALL reset_pool(VkDevice handle, VkCommandPool pool, VkCommandPoolResetFlags flags)
{
	struct device *device = device_of(handle);
	struct of_pool of;

	pthread_mutex_lock(&device->lock);
	of = commands_of(device, pool);
	for (size_t i = 0; i < of.count; i++)
		command_clear(of.found[i]);
	pthread_mutex_unlock(&device->lock);
	free(of.found);
	return device->next.ResetCommandPool(handle, pool, flags);
}

static VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice handle, const VkCommandBufferAllocateInfo *info,
					       VkCommandBuffer *buffers)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.AllocateCommandBuffers(handle, info, buffers);
	const struct pool *pool;

	if (rc != VK_SUCCESS || !device_watched(device))
		return rc;
	pthread_mutex_lock(&device->lock);
	pool = table_get(&device->pools, HANDLE(info->commandPool));
	for (uint32_t i = 0; pool && i < info->commandBufferCount; i++) {
		struct command *command;

		command_free(table_take(&device->commands, HANDLE(buffers[i])));
		command = table_add(&device->commands, HANDLE(buffers[i]), sizeof(*command));
		if (!command)
			continue;
		command->pool = HANDLE(info->commandPool);
		command->family = pool->family;
		command->secondary = info->level != VK_COMMAND_BUFFER_LEVEL_PRIMARY;
		command->wanted = STAMPS_FIRST;
	}
	pthread_mutex_unlock(&device->lock);
	atomic_fetch_add(&generation, 1);
	return rc;
}

static VKAPI_ATTR void VKAPI_CALL free_buffers(VkDevice handle, VkCommandPool pool, uint32_t count,
					       const VkCommandBuffer *buffers)
{
	struct device *device = device_of(handle);

	for (uint32_t i = 0; i < count; i++) {
		struct command *command;

		pthread_mutex_lock(&device->lock);
		command = table_take(&device->commands, HANDLE(buffers[i]));
		pthread_mutex_unlock(&device->lock);
		command_free(command);
	}
	atomic_fetch_add(&generation, 1);
	device->next.FreeCommandBuffers(handle, pool, count, buffers);
}

/* Looked up for every recorded command: each thread caches its last result. */
struct command *command_get(struct device *device, VkCommandBuffer handle)
{
	static __thread struct {
		struct device *device;
		VkCommandBuffer handle;
		unsigned generation;
		struct command *command;
	} last;
	unsigned now = atomic_load_explicit(&generation, memory_order_acquire);

	if (last.device == device && last.handle == handle && last.generation == now)
		return last.command;
	pthread_mutex_lock(&device->lock);
	last.command = table_get(&device->commands, HANDLE(handle));
	pthread_mutex_unlock(&device->lock);
	last.device = device;
	last.handle = handle;
	last.generation = now;
	return last.command;
}

static VKAPI_ATTR VkResult VKAPI_CALL begin_buffer(VkCommandBuffer handle, const VkCommandBufferBeginInfo *info)
{
	struct device *device = device_of(handle);
	struct command *command = device_watched(device) ? command_get(device, handle) : NULL;

	if (command) {
		command_clear(command);
		command->simultaneous = info->flags & VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT;
	}
	return device->next.BeginCommandBuffer(handle, info);
}

static VKAPI_ATTR VkResult VKAPI_CALL reset_buffer(VkCommandBuffer handle, VkCommandBufferResetFlags flags)
{
	struct device *device = device_of(handle);
	struct command *command = device_watched(device) ? command_get(device, handle) : NULL;

	if (command)
		command_clear(command);
	return device->next.ResetCommandBuffer(handle, flags);
}

static bool may_stamp(const struct device *device, const struct command *command)
{
	return device->tick_ns > 0 && !command->secondary && !command->simultaneous &&
	       command->family < device->families && device->family[command->family].stamp_bits > 0;
}

/* First launch of a recording: create a query pool that is large enough, reset it whenever the
 * buffer is executed, and write the first timestamp. */
static void first_stamp(struct device *device, VkCommandBuffer handle, struct command *command)
{
	if (command->stamps && stamps_count(command->stamps) < command->wanted) {
		stamps_let_go(command->stamps);
		command->stamps = NULL;
	}
	if (!command->stamps)
		command->stamps = stamps_new(device, command->wanted);
	if (!command->stamps) {
		command->untimed = true;
		return;
	}
	device->next.CmdResetQueryPool(handle, stamps_pool(command->stamps), 0, stamps_count(command->stamps));
	device->next.CmdWriteTimestamp(handle, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, stamps_pool(command->stamps), 0);
	command->used = 1;
}

/* A barrier, or the end: the launches before it are one net layer. */
static void end_group(struct device *device, VkCommandBuffer handle, struct command *command)
{
	struct launch_group *more;

	if (!command->open)
		return;
	command->open = false;
	if (command->untimed || !may_stamp(device, command))
		return;
	if (command->used >= stamps_count(command->stamps)) {
		command->untimed = true;
		command->wanted = command->wanted < LAYERS_MAX ? command->wanted * 2 : command->wanted;
		return;
	}
	if (command->groups_count == command->groups_room) {
		more = reallocarray(command->groups, command->groups_room ? command->groups_room * 2 : 64,
				    sizeof(*more));
		if (!more) {
			command->untimed = true;
			return;
		}
		command->groups = more;
		command->groups_room = command->groups_room ? command->groups_room * 2 : 64;
	}
	device->next.CmdWriteTimestamp(handle, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, stamps_pool(command->stamps),
				       command->used);
	command->groups[command->groups_count++] =
		(struct launch_group){command->open_kernel, command->used - 1, command->used};
	command->used++;
}

static void append(struct command *command, const struct launch *launches, size_t count)
{
	size_t room = command->room ? command->room : 64;

	while (room < command->count + count)
		room *= 2;
	if (room > command->room || !command->launches) {
		struct launch *before = command->launches;

		command->launches = reallocarray(before, room, sizeof(*before));
		if (!command->launches) {
			command->launches = before;
			layer_off("out of memory");
			return;
		}
		command->room = room;
	}
	memcpy(command->launches + command->count, launches, count * sizeof(*launches));
	command->count += count;
}

static void will_launch(struct device *device, VkCommandBuffer handle, struct command *command,
			const struct launch *launches, size_t count)
{
	if (count == 0)
		return;
	if (!may_stamp(device, command))
		command->untimed = true;
	else if (command->used == 0 && !command->untimed)
		first_stamp(device, handle, command);
	if (!command->open)
		command->open_kernel = launches[0].kernel;
	command->open = true;
	append(command, launches, count);
}

static struct command *recorded(struct device *device, VkCommandBuffer handle)
{
	return device_watched(device) ? command_get(device, handle) : NULL;
}

static VKAPI_ATTR VkResult VKAPI_CALL end_buffer(VkCommandBuffer handle)
{
	struct device *device = device_of(handle);
	struct command *command = recorded(device, handle);

	if (command)
		end_group(device, handle, command);
	return device->next.EndCommandBuffer(handle);
}

static VKAPI_ATTR void VKAPI_CALL bind_pipeline(VkCommandBuffer handle, VkPipelineBindPoint point, VkPipeline pipeline)
{
	struct device *device = device_of(handle);
	struct command *command = point == VK_PIPELINE_BIND_POINT_COMPUTE ? recorded(device, handle) : NULL;

	if (command)
		command->kernel = known_hash(device, &device->pipelines, HANDLE(pipeline));
	device->next.CmdBindPipeline(handle, point, pipeline);
}

static VKAPI_ATTR void VKAPI_CALL push_constants(VkCommandBuffer handle, VkPipelineLayout layout,
						 VkShaderStageFlags stages, uint32_t offset, uint32_t size,
						 const void *values)
{
	struct device *device = device_of(handle);
	struct command *command = stages & VK_SHADER_STAGE_COMPUTE_BIT ? recorded(device, handle) : NULL;

	if (command)
		command->pushed = boundary_hash(command->pushed, values, size);
	device->next.CmdPushConstants(handle, layout, stages, offset, size, values);
}

static void launch_one(struct device *device, VkCommandBuffer handle, const void *sizes, size_t size, uint64_t work)
{
	struct command *command = recorded(device, handle);
	struct launch launch;

	if (!command)
		return;
	launch = (struct launch){command->kernel, boundary_hash(command->kernel, sizes, size), work};
	will_launch(device, handle, command, &launch, 1);
}

static VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer handle, uint32_t x, uint32_t y, uint32_t z)
{
	struct device *device = device_of(handle);
	const uint32_t sizes[3] = {x, y, z};

	launch_one(device, handle, sizes, sizeof(sizes), (uint64_t)x * y * z);
	device->next.CmdDispatch(handle, x, y, z);
}

static VKAPI_ATTR void VKAPI_CALL dispatch_base(VkCommandBuffer handle, uint32_t base_x, uint32_t base_y,
						uint32_t base_z, uint32_t x, uint32_t y, uint32_t z)
{
	struct device *device = device_of(handle);
	const uint32_t sizes[3] = {x, y, z};

	launch_one(device, handle, sizes, sizeof(sizes), (uint64_t)x * y * z);
	device->next.CmdDispatchBase(handle, base_x, base_y, base_z, x, y, z);
}

/* The number of workgroups is known to the device only. */
static VKAPI_ATTR void VKAPI_CALL dispatch_indirect(VkCommandBuffer handle, VkBuffer buffer, VkDeviceSize offset)
{
	struct device *device = device_of(handle);

	launch_one(device, handle, "indirect", 8, 0);
	device->next.CmdDispatchIndirect(handle, buffer, offset);
}

static VKAPI_ATTR void VKAPI_CALL execute(VkCommandBuffer handle, uint32_t count, const VkCommandBuffer *buffers)
{
	struct device *device = device_of(handle);
	struct command *command = recorded(device, handle);

	for (uint32_t i = 0; command && i < count; i++) {
		const struct command *secondary;

		pthread_mutex_lock(&device->lock);
		secondary = table_get(&device->commands, HANDLE(buffers[i]));
		pthread_mutex_unlock(&device->lock);
		if (secondary)
			will_launch(device, handle, command, secondary->launches, secondary->count);
	}
	device->next.CmdExecuteCommands(handle, count, buffers);
	if (command)
		command->kernel = 0; /* bindings are undefined now */
}

static struct device *boundary_of_group(VkCommandBuffer handle)
{
	struct device *device = device_of(handle);
	struct command *command = recorded(device, handle);

	if (command)
		end_group(device, handle, command);
	return device;
}

#define LIST(...) __VA_ARGS__
#define ENDS_GROUP(function, wrapper, PARAMS, ARGS) \
	static VKAPI_ATTR void VKAPI_CALL wrapper(VkCommandBuffer handle, PARAMS) \
	{ \
		boundary_of_group(handle)->next.function(handle, ARGS); \
	}

ENDS_GROUP(CmdPipelineBarrier, barrier,
	   LIST(VkPipelineStageFlags from, VkPipelineStageFlags to, VkDependencyFlags flags, uint32_t memories,
		const VkMemoryBarrier *memory, uint32_t buffers, const VkBufferMemoryBarrier *buffer, uint32_t images,
		const VkImageMemoryBarrier *image),
	   LIST(from, to, flags, memories, memory, buffers, buffer, images, image))
ENDS_GROUP(CmdPipelineBarrier2, barrier2, LIST(const VkDependencyInfo *info), LIST(info))
ENDS_GROUP(CmdWaitEvents, wait_events,
	   LIST(uint32_t events, const VkEvent *event, VkPipelineStageFlags from, VkPipelineStageFlags to,
		uint32_t memories, const VkMemoryBarrier *memory, uint32_t buffers, const VkBufferMemoryBarrier *buffer,
		uint32_t images, const VkImageMemoryBarrier *image),
	   LIST(events, event, from, to, memories, memory, buffers, buffer, images, image))
ENDS_GROUP(CmdWaitEvents2, wait_events2, LIST(uint32_t events, const VkEvent *event, const VkDependencyInfo *info),
	   LIST(events, event, info))
ENDS_GROUP(CmdBeginRenderPass, begin_pass, LIST(const VkRenderPassBeginInfo *info, VkSubpassContents contents),
	   LIST(info, contents))
ENDS_GROUP(CmdBeginRenderPass2, begin_pass2, LIST(const VkRenderPassBeginInfo *info, const VkSubpassBeginInfo *subpass),
	   LIST(info, subpass))
ENDS_GROUP(CmdBeginRendering, begin_rendering, LIST(const VkRenderingInfo *info), LIST(info))

/* clang-format off */
#define ENTRY(name, wrapper) {"vk" name, (PFN_vkVoidFunction)wrapper}
/* clang-format on */

const struct intercept record_entries[] = {
	ENTRY("CreateShaderModule", create_module),
	ENTRY("DestroyShaderModule", destroy_module),
	ENTRY("CreateComputePipelines", create_pipelines),
	ENTRY("DestroyPipeline", destroy_pipeline),
	ENTRY("CreateCommandPool", create_pool),
	ENTRY("DestroyCommandPool", destroy_pool),
	ENTRY("ResetCommandPool", reset_pool),
	ENTRY("AllocateCommandBuffers", allocate),
	ENTRY("FreeCommandBuffers", free_buffers),
	ENTRY("BeginCommandBuffer", begin_buffer),
	ENTRY("EndCommandBuffer", end_buffer),
	ENTRY("ResetCommandBuffer", reset_buffer),
	ENTRY("CmdBindPipeline", bind_pipeline),
	ENTRY("CmdPushConstants", push_constants),
	ENTRY("CmdDispatch", dispatch),
	ENTRY("CmdDispatchBase", dispatch_base),
	ENTRY("CmdDispatchBaseKHR", dispatch_base),
	ENTRY("CmdDispatchIndirect", dispatch_indirect),
	ENTRY("CmdExecuteCommands", execute),
	ENTRY("CmdPipelineBarrier", barrier),
	ENTRY("CmdPipelineBarrier2", barrier2),
	ENTRY("CmdPipelineBarrier2KHR", barrier2),
	ENTRY("CmdWaitEvents", wait_events),
	ENTRY("CmdWaitEvents2", wait_events2),
	ENTRY("CmdWaitEvents2KHR", wait_events2),
	ENTRY("CmdBeginRenderPass", begin_pass),
	ENTRY("CmdBeginRenderPass2", begin_pass2),
	ENTRY("CmdBeginRenderPass2KHR", begin_pass2),
	ENTRY("CmdBeginRendering", begin_rendering),
	ENTRY("CmdBeginRenderingKHR", begin_rendering),
	{NULL, NULL},
};
