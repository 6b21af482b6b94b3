/* SPDX-License-Identifier: MIT */
/* An OpenCL program that knows nothing of boards: a chain of kernels, read back
 * with a blocking read, again and again. Prints the time of each round, what
 * profiling says of its kernels, and the result.
 * usage: cl_program KERNELS ROUNDS [in|ooo] [PAUSE_US]    the pause comes before every second round */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ITEMS       8192
#define KERNELS_MAX 256

static const char source[] =
	"kernel void step_it(global float *x, int n) { size_t i = get_global_id(0); float v = x[i];\n"
	"for (int k = 0; k < n; k++) v = mad(v, 0.999f, 0.5f); x[i] = v; }\n";

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static cl_ulong at(cl_event event, cl_profiling_info which)
{
	cl_ulong value = 0;

	clGetEventProfilingInfo(event, which, sizeof(value), &value, NULL);
	return value;
}

/* Execution time by profiling; -1 where the times are in no order. */
static double profiled_ms(cl_event *events, int kernels)
{
	cl_ulong sum = 0, before = 0;

	for (int i = 0; i < kernels; i++) {
		cl_ulong start = at(events[i], CL_PROFILING_COMMAND_START),
			 end = at(events[i], CL_PROFILING_COMMAND_END);
		cl_ulong queued = at(events[i], CL_PROFILING_COMMAND_QUEUED),
			 submit = at(events[i], CL_PROFILING_COMMAND_SUBMIT);
		cl_command_type type = 0;

		clGetEventInfo(events[i], CL_EVENT_COMMAND_TYPE, sizeof(type), &type, NULL);
		if (type != CL_COMMAND_NDRANGE_KERNEL || queued == 0 || submit < queued || start < submit ||
		    start < before || end < start)
			return -1;
		sum += end - start;
		before = end;
		clReleaseEvent(events[i]);
	}
	return (double)sum / 1e6;
}

int main(int argc, char **argv)
{
	int kernels = argc > 1 ? atoi(argv[1]) : 20, rounds = argc > 2 ? atoi(argv[2]) : 5;
	useconds_t pause_us = argc > 4 ? (useconds_t)atoi(argv[4]) : 0;
	cl_command_queue_properties flags = CL_QUEUE_PROFILING_ENABLE;
	static float data[ITEMS];
	cl_event events[KERNELS_MAX];
	const char *text = source;
	size_t global = ITEMS;
	cl_platform_id platform;
	cl_device_id device;
	cl_context context;
	cl_command_queue queue;
	cl_program program;
	cl_kernel kernel;
	cl_mem buffer;
	cl_int rc, n = 200;
	uint64_t hash = 0xcbf29ce484222325ULL;

	if (kernels < 1 || kernels > KERNELS_MAX || clGetPlatformIDs(1, &platform, NULL) != CL_SUCCESS ||
	    clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL) != CL_SUCCESS)
		return 77;
	if (argc > 3 && strcmp(argv[3], "ooo") == 0)
		flags |= CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
	context = clCreateContext(NULL, 1, &device, NULL, NULL, &rc);
	queue = clCreateCommandQueue(context, device, flags, &rc);
	program = clCreateProgramWithSource(context, 1, &text, NULL, &rc);
	if (clBuildProgram(program, 1, &device, "", NULL, NULL) != CL_SUCCESS)
		return 1;
	kernel = clCreateKernel(program, "step_it", &rc);
	buffer = clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof(data), data, &rc);
	clSetKernelArg(kernel, 0, sizeof(buffer), &buffer);
	clSetKernelArg(kernel, 1, sizeof(n), &n);
	for (int round = 0; round < rounds; round++) {
		double begin;

		if (round % 2)
			usleep(pause_us);
		begin = now_ms();
		for (int i = 0; i < kernels; i++)
			if (clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &global, NULL, i > 0,
						   i > 0 ? &events[i - 1] : NULL, &events[i]) != CL_SUCCESS)
				return 1;
		if (clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, sizeof(data), data, 1, &events[kernels - 1], NULL) !=
		    CL_SUCCESS)
			return 1;
		printf("round_ms=%.3f ", now_ms() - begin);
		printf("profiled_ms=%.3f\n", profiled_ms(events, kernels));
	}
	for (size_t i = 0; i < sizeof(data); i++)
		hash = (hash ^ ((unsigned char *)data)[i]) * 0x100000001b3ULL;
	printf("result=%016llx\n", (unsigned long long)hash);
	clReleaseMemObject(buffer);
	clReleaseKernel(kernel);
	clReleaseProgram(program);
	clReleaseCommandQueue(queue);
	clReleaseContext(context);
	return 0;
}
