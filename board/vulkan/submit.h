/* SPDX-License-Identifier: MIT */
/* Submissions with dispatches: each runs between two timestamps of the layer's own, and its duration on this machine
 * is passed to the board's execution queue once the driver has completed it. */
#ifndef BOARD_VULKAN_SUBMIT_H
#define BOARD_VULKAN_SUBMIT_H

#include "device.h"

/* Attach to the board in $FLAMED_BOARD; without one, slower.on is false and nothing is held. Called once. */
void submit_start(void);
/* Free the timestamps of a device; no submission is in flight. */
void submit_close(struct device *device);

/* The newest held submission that is over when a queue is idle, or when all of the device's queues are for
 * VK_NULL_HANDLE; 0: none. */
uint64_t submit_newest(const struct device *device, VkQueue queue);

/* The wrapper of a function that submits, or NULL. */
PFN_vkVoidFunction submit_wrapper(const char *name);

#endif
