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

/* Until a queue, or for VK_NULL_HANDLE each queue of the device, is idle by the board's clocks. */
void submit_wait(const struct device *device, VkQueue queue);

/* The wrapper of a function that submits, or NULL. */
PFN_vkVoidFunction submit_wrapper(const char *name);

#endif
