/* SPDX-License-Identifier: MIT */
/* The workload's queue on an OpenCL device. Each layer is a real kernel in an
 * in-order queue, which waits for a user event: the lane's thread sets it once the
 * layer before has also ended by the board's clocks. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "queue.h"

#define ITEMS 256

static const char source[] = "kernel void layer(global float *data, int rounds)\n"
			     "{\n"
			     "	size_t i = get_global_id(0);\n"
			     "	float x = data[i];\n"
			     "	for (int k = 0; k < rounds; k++)\n"
			     "		x = mad(x, 0.999f, 0.001f * k);\n"
			     "	data[i] = x;\n"
			     "}\n";

struct opencl {
	cl_context context;
	cl_command_queue queue;
	cl_program program;
	cl_kernel kernel;
	cl_mem data;
	cl_event ended; /* of the last layer launched, by the board's clocks */
};

/* Both events of a launch. */
struct ticket {
	cl_event real, ended;
};

/* First device of any platform. */
static int find_device(cl_device_id *device, cl_platform_id *platform)
{
	cl_platform_id platforms[8];
	cl_uint count = 0, devices = 0;

	if (clGetPlatformIDs(8, platforms, &count) != CL_SUCCESS)
		return -ENODEV;
	for (cl_uint i = 0; i < count && i < 8; i++) {
		if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, 1, device, &devices) == CL_SUCCESS &&
		    devices > 0) {
			*platform = platforms[i];
			return 0;
		}
	}
	return -ENODEV;
}

static void lane_real(void *arg, struct lane_item *item)
{
	struct ticket *ticket = item->ticket;

	(void)arg;
	clWaitForEvents(1, &ticket->real);
}

static void lane_done(void *arg, struct lane_item *item)
{
	struct ticket *ticket = item->ticket;

	(void)arg;
	clSetUserEventStatus(ticket->ended, CL_COMPLETE);
	clReleaseEvent(ticket->real);
	clReleaseEvent(ticket->ended);
	free(ticket);
}

static int build(struct opencl *cl, cl_device_id device)
{
	const char *text = source;
	float zero[ITEMS] = {0};
	cl_int rc;

	cl->context = clCreateContext(NULL, 1, &device, NULL, NULL, &rc);
	if (rc == CL_SUCCESS)
		cl->queue = clCreateCommandQueue(cl->context, device, CL_QUEUE_PROFILING_ENABLE, &rc);
	if (rc == CL_SUCCESS)
		cl->program = clCreateProgramWithSource(cl->context, 1, &text, NULL, &rc);
	if (rc == CL_SUCCESS)
		rc = clBuildProgram(cl->program, 1, &device, "", NULL, NULL);
	if (rc == CL_SUCCESS)
		cl->kernel = clCreateKernel(cl->program, "layer", &rc);
	if (rc == CL_SUCCESS)
		cl->data =
			clCreateBuffer(cl->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof(zero), zero, &rc);
	return rc == CL_SUCCESS ? 0 : -EIO;
}

static void destroy(struct opencl *cl)
{
	if (cl->ended)
		clReleaseEvent(cl->ended);
	if (cl->data)
		clReleaseMemObject(cl->data);
	if (cl->kernel)
		clReleaseKernel(cl->kernel);
	if (cl->program)
		clReleaseProgram(cl->program);
	if (cl->queue)
		clReleaseCommandQueue(cl->queue);
	if (cl->context)
		clReleaseContext(cl->context);
	free(cl);
}

static cl_int enqueue(struct opencl *cl, struct ticket *ticket)
{
	size_t global = ITEMS;
	cl_int rounds = 64, rc;

	ticket->ended = clCreateUserEvent(cl->context, &rc);
	if (rc != CL_SUCCESS)
		return rc;
	clSetKernelArg(cl->kernel, 0, sizeof(cl->data), (void *)&cl->data);
	clSetKernelArg(cl->kernel, 1, sizeof(rounds), &rounds);
	rc = clEnqueueNDRangeKernel(cl->queue, cl->kernel, 1, NULL, &global, NULL, cl->ended ? 1 : 0,
				    cl->ended ? &cl->ended : NULL, &ticket->real);
	if (rc != CL_SUCCESS) {
		clReleaseEvent(ticket->ended);
		return rc;
	}
	clFlush(cl->queue);
	if (cl->ended)
		clReleaseEvent(cl->ended);
	clRetainEvent(ticket->ended);
	cl->ended = ticket->ended;
	return CL_SUCCESS;
}

int opencl_launch(struct kernel_queue *queue, const struct step_cost *cost, uint64_t launched_ns)
{
	struct lane_item item = {.cost = *cost, .launched_ns = launched_ns};
	struct ticket *ticket = calloc(1, sizeof(*ticket));

	if (!ticket)
		return -ENOMEM;
	if (enqueue(queue->opencl, ticket) != CL_SUCCESS) {
		free(ticket);
		return -EIO;
	}
	item.ticket = ticket;
	lane_push(&queue->lane, &item);
	return 0;
}

void opencl_finish(struct kernel_queue *queue)
{
	struct opencl *cl = queue->opencl;

	if (cl->ended)
		clWaitForEvents(1, &cl->ended);
}

/* The first launch compiles the kernel for its size. */
static int warm_up(struct kernel_queue *queue)
{
	static const struct step_cost nothing;
	int rc = opencl_launch(queue, &nothing, 0);

	if (rc == 0)
		queue_finish(queue);
	return rc;
}

int opencl_open(struct kernel_queue *queue, struct board_page *page)
{
	static const struct lane_ops ops = {.real = lane_real, .done = lane_done};
	char device_name[64] = "", platform_name[48] = "";
	cl_platform_id platform;
	cl_device_id device;
	struct opencl *cl;
	int rc = find_device(&device, &platform);

	if (rc)
		return rc;
	cl = calloc(1, sizeof(*cl));
	if (!cl)
		return -ENOMEM;
	rc = build(cl, device);
	if (rc) {
		destroy(cl);
		return -ENODEV; /* a device that cannot run a kernel is not used */
	}
	clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof(device_name) - 1, device_name, NULL);
	clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof(platform_name) - 1, platform_name, NULL);
	snprintf(queue->name, sizeof(queue->name), "OpenCL, %s: %s", platform_name, device_name);
	queue->opencl = cl;
	rc = lane_start(&queue->lane, page, &ops);
	if (rc) {
		destroy(cl);
		return rc;
	}
	return warm_up(queue);
}

void opencl_close(struct kernel_queue *queue)
{
	destroy(queue->opencl);
	queue->opencl = NULL;
}
