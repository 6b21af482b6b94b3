/* SPDX-License-Identifier: MIT */
/* Completion as the program sees it, by the board's clocks: fences, semaphores, waits and timestamps. */
#ifndef BOARD_VULKAN_COMPLETION_H
#define BOARD_VULKAN_COMPLETION_H

#include "device.h"

/* The wrapper of a function that waits or polls, or NULL. */
PFN_vkVoidFunction completion_wrapper(const char *name);

#endif
