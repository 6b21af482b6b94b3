/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REAL_WORK_ITEMS 4096

/* Some real work, as in the OpenCL kernel. */
static void thread_real(void *arg, struct lane_item *item)
{
	volatile float sum = (float)item->cost.exec_ns;

	(void)arg;
	for (int i = 0; i < REAL_WORK_ITEMS; i++)
		sum = sum * 0.999F + (float)i;
}

static void thread_done(void *arg, struct lane_item *item)
{
	(void)arg;
	(void)item;
}

int queue_open(struct kernel_queue *queue, struct board_page *page, bool threads)
{
	static const struct lane_ops ops = {.real = thread_real, .done = thread_done};
	int rc = threads ? -ENODEV : opencl_open(queue, page);

	if (rc != -ENODEV)
		return rc;
	snprintf(queue->name, sizeof(queue->name), "two threads and a queue (%s)",
		 threads ? "as asked" : "no OpenCL device");
	queue->opencl = NULL;
	return lane_start(&queue->lane, page, &ops);
}

int queue_launch(struct kernel_queue *queue, const struct step_cost *cost, uint64_t launched_ns)
{
	struct lane_item item = {.cost = *cost, .launched_ns = launched_ns};

	if (queue->opencl)
		return opencl_launch(queue, cost, launched_ns);
	lane_push(&queue->lane, &item);
	return 0;
}

uint64_t queue_finish(struct kernel_queue *queue)
{
	if (queue->opencl)
		opencl_finish(queue);
	return lane_finish(&queue->lane);
}

void queue_close(struct kernel_queue *queue)
{
	lane_stop(&queue->lane);
	if (queue->opencl)
		opencl_close(queue);
}
