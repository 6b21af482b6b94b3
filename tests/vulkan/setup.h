/* SPDX-License-Identifier: MIT */
/* What the Vulkan program of the tests computes on: a device, or a queue of one, with its objects. */
#ifndef TESTS_VULKAN_SETUP_H
#define TESTS_VULKAN_SETUP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <vulkan/vulkan.h>
#include "shader.h"

#define KERNELS_MAX 80
#define SUBMITS_MAX 12
#define ITEMS       65536U
#define FOREVER     60000000000ULL

#define CHECK(call) \
	do { \
		VkResult check = (call); \
		if (check != VK_SUCCESS) { \
			printf("error %d in %s\n", check, #call); \
			exit(check == VK_ERROR_DEVICE_LOST ? 3 : 1); \
		} \
	} while (0)

/* Options of the command line. */
struct options {
	unsigned runs, kernels, submits, rounds, devices, flight, size, pause_us, crowd, again, group, polls;
	bool submit2, resubmit, compile, fork, exec, kill, leave, reset, secondary, swapchain, upload, single, late,
		afresh, wrong, reuse, recycle, other, inlined, shared, swapchains, hold, behind, turns, aside, batch,
		rest, nested;
	const char *wait;
};
extern struct options want;

struct engine {
	unsigned seed;
	const struct engine *first; /* whose device it shares; NULL: it has its own */
	struct engine *inner;       /* runs once between the last submission of this one and its begin; NULL: none */
	VkPhysicalDevice physical;
	VkDevice device;
	VkQueue queue, second; /* the second computes nothing, or the rest */
	uint32_t family;
	VkDescriptorSetLayout set_layout;
	VkPipelineLayout layout;
	VkShaderModule module;
	VkPipeline pipeline[3];
	VkDescriptorPool sets;
	VkDescriptorSet set;
	VkBuffer buffer;
	VkDeviceMemory memory;
	uint32_t *data;
	VkCommandPool pool[2];
	VkCommandBuffer commands[2][SUBMITS_MAX], secondary, copy;
	VkFence fence[2][SUBMITS_MAX], copied;
	VkSemaphore timeline, gate; /* the gate holds the last submission until the host has polled enough */
	uint64_t value, gate_value, reuse_value, last_value; /* the last: of the run */
	uint64_t host_ns; /* processor time of its thread in the later half of the runs */
};

extern VkInstance instance;
extern uint32_t shader[sizeof(rounds_spirv) / sizeof(*rounds_spirv)];

void make_device(struct engine *engine);
VkPipeline make_pipeline(struct engine *engine, uint32_t rounds);
/* The device, and all else. */
void make_engine(struct engine *engine);
void free_engine(struct engine *engine);

#endif
