/* SPDX-License-Identifier: MIT */
#include "setup.h"

#include <string.h>

#ifndef VK_EXT_graphics_pipeline_library /* headers of 1.3.204, as in Ubuntu 22.04 */
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_GRAPHICS_PIPELINE_LIBRARY_FEATURES_EXT 1000320000
typedef struct {
	VkStructureType sType;
	void *pNext;
	VkBool32 graphicsPipelineLibrary;
} VkPhysicalDeviceGraphicsPipelineLibraryFeaturesEXT;
#endif

VkInstance instance;
uint32_t shader[sizeof(rounds_spirv) / sizeof(*rounds_spirv)];
static const VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
					      .codeSize = sizeof(shader),
					      .pCode = shader};

VkPipeline make_pipeline(struct engine *engine, uint32_t rounds)
{
	const VkSpecializationMapEntry entry = {.constantID = 0, .size = sizeof(rounds)};
	const VkSpecializationInfo constants = {.mapEntryCount = 1,
						.pMapEntries = &entry,
						.dataSize = sizeof(rounds),
						.pData = &rounds};
	const VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
						  .layout = engine->layout,
						  .stage = {.sType =
								    VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
							    .stage = VK_SHADER_STAGE_COMPUTE_BIT,
							    .pNext = want.inlined ? &code : NULL,
							    .module = engine->module,
							    .pName = "main",
							    .pSpecializationInfo = &constants}};
	VkPipeline pipeline;

	CHECK(vkCreateComputePipelines(engine->device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline));
	return pipeline;
}

/* Has the engine a second queue of its own? */
static bool has_second(void)
{
	return want.behind || want.aside || strcmp(want.wait, "timelinesecond") == 0;
}

void make_device(struct engine *engine)
{
	const float priority[2] = {1, 1};
	const char *swapchain[] = {"VK_KHR_swapchain"};
	const char *inlined[] = {"VK_KHR_pipeline_library", "VK_EXT_graphics_pipeline_library"};
	VkPhysicalDeviceVulkan12Features features12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
						       .timelineSemaphore = VK_TRUE};
	VkPhysicalDeviceVulkan13Features features13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
						       .pNext = &features12,
						       .synchronization2 = VK_TRUE};
	VkPhysicalDeviceGraphicsPipelineLibraryFeaturesEXT library = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_GRAPHICS_PIPELINE_LIBRARY_FEATURES_EXT,
		.pNext = &features13,
		.graphicsPipelineLibrary = VK_TRUE}; /* allows code without a module */
	VkQueueFamilyProperties families[8];
	VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
					 .queueCount = want.shared || has_second() ? 2 : 1,
					 .pQueuePriorities = priority};
	VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
				   .pNext = want.inlined ? (void *)&library : &features13,
				   .queueCreateInfoCount = 1,
				   .pQueueCreateInfos = &queue,
				   .enabledExtensionCount = want.inlined ? 2 : want.swapchain || want.swapchains,
				   .ppEnabledExtensionNames = want.inlined ? inlined : swapchain};
	uint32_t count = 1, family_count = 8;

	if (engine->first) {
		engine->physical = engine->first->physical;
		engine->device = engine->first->device;
		engine->family = engine->first->family;
		vkGetDeviceQueue(engine->device, engine->family, engine->seed, &engine->queue);
		return;
	}
	if (vkEnumeratePhysicalDevices(instance, &count, &engine->physical) < 0 || count == 0) {
		printf("no device\n");
		exit(4);
	}
	vkGetPhysicalDeviceQueueFamilyProperties(engine->physical, &family_count, families);
	while (engine->family < family_count && !(families[engine->family].queueFlags & VK_QUEUE_COMPUTE_BIT))
		engine->family++;
	queue.queueFamilyIndex = engine->family;
	CHECK(vkCreateDevice(engine->physical, &info, NULL, &engine->device));
	vkGetDeviceQueue(engine->device, engine->family, 0, &engine->queue);
	if (has_second())
		vkGetDeviceQueue(engine->device, engine->family, 1, &engine->second);
}

static uint32_t memory_type(const struct engine *engine, uint32_t allowed)
{
	const VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
	VkPhysicalDeviceMemoryProperties properties;
	uint32_t i = 0;

	vkGetPhysicalDeviceMemoryProperties(engine->physical, &properties);
	while (i < properties.memoryTypeCount &&
	       (!(allowed & (1U << i)) || (properties.memoryTypes[i].propertyFlags & wanted) != wanted))
		i++;
	return i;
}

static void make_buffer(struct engine *engine)
{
	const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
					 .size = ITEMS * 4,
					 .usage =
						 VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT};
	VkMemoryAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
	VkMemoryRequirements needs;
	void *at;

	CHECK(vkCreateBuffer(engine->device, &info, NULL, &engine->buffer));
	vkGetBufferMemoryRequirements(engine->device, engine->buffer, &needs);
	allocate.allocationSize = needs.size;
	allocate.memoryTypeIndex = memory_type(engine, needs.memoryTypeBits);
	CHECK(vkAllocateMemory(engine->device, &allocate, NULL, &engine->memory));
	CHECK(vkBindBufferMemory(engine->device, engine->buffer, engine->memory, 0));
	CHECK(vkMapMemory(engine->device, engine->memory, 0, VK_WHOLE_SIZE, 0, &at));
	engine->data = at;
	for (uint32_t i = 0; i < ITEMS; i++)
		engine->data[i] = i * (engine->seed + 1);
}

static void make_set(struct engine *engine)
{
	const VkDescriptorSetLayoutBinding binding = {.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
						      .descriptorCount = 1,
						      .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
	const VkDescriptorSetLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
						      .bindingCount = 1,
						      .pBindings = &binding};
	const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1};
	const VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
						 .maxSets = 1,
						 .poolSizeCount = 1,
						 .pPoolSizes = &size};
	VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
					     .setLayoutCount = 1};
	VkDescriptorSetAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
						.descriptorSetCount = 1};
	const VkDescriptorBufferInfo whole = {engine->buffer, 0, VK_WHOLE_SIZE};
	VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
				      .descriptorCount = 1,
				      .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
				      .pBufferInfo = &whole};

	CHECK(vkCreateDescriptorSetLayout(engine->device, &info, NULL, &engine->set_layout));
	layout.pSetLayouts = allocate.pSetLayouts = &engine->set_layout;
	CHECK(vkCreatePipelineLayout(engine->device, &layout, NULL, &engine->layout));
	CHECK(vkCreateDescriptorPool(engine->device, &pool, NULL, &engine->sets));
	allocate.descriptorPool = engine->sets;
	CHECK(vkAllocateDescriptorSets(engine->device, &allocate, &engine->set));
	write.dstSet = engine->set;
	vkUpdateDescriptorSets(engine->device, 1, &write, 0, NULL);
}

static void make_commands(struct engine *engine)
{
	const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
					      .queueFamilyIndex = engine->family,
					      .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT};
	const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
	const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
						.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
	const VkSemaphoreCreateInfo timeline = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
	VkCommandBufferAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
						.commandBufferCount = SUBMITS_MAX};

	for (int i = 0; i < 2; i++) {
		CHECK(vkCreateCommandPool(engine->device, &pool, NULL, &engine->pool[i]));
		allocate.commandPool = engine->pool[i];
		CHECK(vkAllocateCommandBuffers(engine->device, &allocate, engine->commands[i]));
	}
	allocate.commandBufferCount = 1;
	CHECK(vkAllocateCommandBuffers(engine->device, &allocate, &engine->copy));
	allocate.level = VK_COMMAND_BUFFER_LEVEL_SECONDARY;
	CHECK(vkAllocateCommandBuffers(engine->device, &allocate, &engine->secondary));
	for (int i = 0; i < 2 * SUBMITS_MAX; i++)
		CHECK(vkCreateFence(engine->device, &fence, NULL, &engine->fence[i / SUBMITS_MAX][i % SUBMITS_MAX]));
	CHECK(vkCreateFence(engine->device, &fence, NULL, &engine->copied));
	if (want.turns && engine->first)
		engine->timeline = engine->first->timeline;
	else
		CHECK(vkCreateSemaphore(engine->device, &timeline, NULL, &engine->timeline));
	CHECK(vkCreateSemaphore(engine->device, &timeline, NULL, &engine->gate));
}

void make_engine(struct engine *engine)
{
	make_device(engine);
	make_buffer(engine);
	make_set(engine);
	make_commands(engine);
	if (!want.inlined)
		CHECK(vkCreateShaderModule(engine->device, &code, NULL, &engine->module));
	for (uint32_t i = 0; i < 3; i++)
		engine->pipeline[i] = make_pipeline(engine, want.rounds * (i + 1));
}

void free_engine(struct engine *engine)
{
	CHECK(vkDeviceWaitIdle(engine->device));
	for (int i = 0; i < 3; i++)
		vkDestroyPipeline(engine->device, engine->pipeline[i], NULL);
	for (int i = 0; i < 2 * SUBMITS_MAX; i++)
		vkDestroyFence(engine->device, engine->fence[i / SUBMITS_MAX][i % SUBMITS_MAX], NULL);
	vkDestroyFence(engine->device, engine->copied, NULL);
	if (!want.turns || !engine->first)
		vkDestroySemaphore(engine->device, engine->timeline, NULL);
	vkDestroySemaphore(engine->device, engine->gate, NULL);
	for (int i = 0; i < 2; i++)
		vkDestroyCommandPool(engine->device, engine->pool[i], NULL);
	vkDestroyShaderModule(engine->device, engine->module, NULL);
	vkDestroyPipelineLayout(engine->device, engine->layout, NULL);
	vkDestroyDescriptorPool(engine->device, engine->sets, NULL);
	vkDestroyDescriptorSetLayout(engine->device, engine->set_layout, NULL);
	vkDestroyBuffer(engine->device, engine->buffer, NULL);
	vkFreeMemory(engine->device, engine->memory, NULL);
	if (!engine->first)
		vkDestroyDevice(engine->device, NULL);
}
