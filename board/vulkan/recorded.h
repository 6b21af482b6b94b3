/* SPDX-License-Identifier: MIT */
/* The recordings of the program: the dispatches of each command buffer, and the query pools with timestamps. */
#ifndef BOARD_VULKAN_RECORDED_H
#define BOARD_VULKAN_RECORDED_H

#include "device.h"

/* The dispatches of a command buffer. */
struct recorded {
	uint64_t handle, hash, dispatches;
};

/* All 0 for a command buffer with no dispatches. */
struct recorded recorded_of(VkCommandBuffer handle);
bool recorded_holds_timestamps(VkQueryPool pool);

/* The wrapper of a function that records, or NULL. */
PFN_vkVoidFunction recorded_wrapper(const char *name);

#endif
