/* SPDX-License-Identifier: MIT */
/* Execution of the workload's kernels: by an OpenCL device, or by a thread where there is none. */
#ifndef BOARD_QUEUE_H
#define BOARD_QUEUE_H

#include "lane.h"

struct kernel_queue {
	struct lane lane;
	char name[128]; /* of the device, for output */
	void *opencl;   /* queue_opencl.c; NULL: a thread */
};

/* Returns 0 or -errno; without an OpenCL device, or with `threads`, the queue is a thread
 * and `name` says why. */
int queue_open(struct kernel_queue *queue, struct board_page *page, bool threads);
/* Launch a kernel; returns at once unless the queue is full. */
int queue_launch(struct kernel_queue *queue, const struct step_cost *cost, uint64_t launched_ns);
/* Wait for everything launched. Returns the end by the board's clocks. */
uint64_t queue_finish(struct kernel_queue *queue);
void queue_close(struct kernel_queue *queue);

/* queue_opencl.c */
int opencl_open(struct kernel_queue *queue, struct board_page *page);
int opencl_launch(struct kernel_queue *queue, const struct step_cost *cost, uint64_t launched_ns);
void opencl_finish(struct kernel_queue *queue);
void opencl_close(struct kernel_queue *queue);

#endif
