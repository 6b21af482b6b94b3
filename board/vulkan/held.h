/* SPDX-License-Identifier: MIT */
/* Submissions that the board's Vulkan layer holds, by number: which of
 * them have ended by the board's clocks, and the fences and semaphores that
 * signal them. Has its own lock; calls no driver. */
#ifndef BOARD_VULKAN_HELD_H
#define BOARD_VULKAN_HELD_H

#include <stdbool.h>
#include <stdint.h>

#define HELD_FOREVER UINT64_MAX

/* A number for a new submission to hold; the number of the newest one. */
uint64_t held_new(void);
uint64_t held_newest(void);
/* It has ended by the board's clocks. Real ticks from `from` to `to` are `start` to `end` on the board, in the same
 * unit. */
void held_done(uint64_t number, double from, double to, double start, double end);
bool held_is_done(uint64_t number);
/* Blocks until it is done or CLOCK_MONOTONIC is at `until_ns`. */
bool held_wait(uint64_t number, uint64_t until_ns);

/* A fence (value 0) or semaphore signals this submission. */
void held_signal(uint64_t handle, uint64_t value, uint64_t number);
void held_forget(uint64_t handle);
/* The submission that a fence signals; 0: none. */
uint64_t held_by(uint64_t handle);
/* The newest submission that a semaphore's value covers, 0: none. */
uint64_t held_by_value(uint64_t handle, uint64_t value);
/* The value that the program may see of a semaphore that has reached `value`. */
uint64_t held_value(uint64_t handle, uint64_t value);

/* Convert a time of the real device to the board's; false: it is in no known submission. */
bool held_time(double real, double *board);

#endif
