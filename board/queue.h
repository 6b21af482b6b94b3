/* SPDX-License-Identifier: MIT */
/* Execution of the workload's kernels: by an OpenCL device, or by a thread where there is none. */
#ifndef BOARD_QUEUE_H
#define BOARD_QUEUE_H

#include "lane.h"

struct queue {
	struct lane lane;
	char name[128]; /* of the device, for output */
	void *opencl;   /* queue_opencl.c; NULL: a thread */
};

/* Returns 0 or -errno; without an OpenCL device, or with `threads`, the queue is a thread
 * and `name` says why. */
int queue_open(struct queue *queue, struct page *page, bool threads);
/* Launch a kernel; returns at once unless the queue is full. */
int queue_launch(struct queue *queue, const struct cost *cost, uint64_t launched_ns);
/* Wait for everything launched. Returns the end by the board's clocks. */
uint64_t queue_finish(struct queue *queue);
void queue_close(struct queue *queue);

/* queue_opencl.c */
int opencl_open(struct queue *queue, struct page *page);
int opencl_launch(struct queue *queue, const struct cost *cost, uint64_t launched_ns);
void opencl_finish(struct queue *queue);
void opencl_close(struct queue *queue);

#endif
