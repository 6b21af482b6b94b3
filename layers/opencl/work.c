/* SPDX-License-Identifier: MIT */
#include "work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../common/clock.h"

#define LAUNCHES     50
#define BUFFER_BYTES (64U << 20) /* larger than every cache of an edge board */
#define ITEMS_MIN    256U
#define ITEMS_MAX    (1U << 20)
#define OPS_AN_ITEM  (512 * 8)

static const char source[] =
	"kernel void nothing(global float *x) { if (get_global_id(0) == 99) x[0] = 1; }\n"
	"kernel void compute(global float *x) { float4 a = (float4)(get_global_id(0)); float4 b = a * 0.5f;\n"
	" for (uint i = 0; i < 512; i++) a = a * 0.999f + b; x[get_global_id(0)] = a.x + a.y + a.z + a.w; }\n"
	"kernel void stream(global const float4 *from, global float4 *to) { size_t i = get_global_id(0); to[i] = "
	"from[i] + 1.0f; }\n";

struct probe_work {
	cl_context context;
	cl_command_queue queue;
	cl_program program;
	cl_kernel nothing, compute, stream;
	cl_mem from, to;
	size_t items;
	size_t floats4;
};

static const char *type_name(cl_device_type type)
{
	return type & CL_DEVICE_TYPE_GPU         ? "GPU" :
	       type & CL_DEVICE_TYPE_ACCELERATOR ? "accelerator" :
	       type & CL_DEVICE_TYPE_CPU         ? "CPU" :
						   "other";
}

/* The reason why a device cannot be used, determined before anything is built for it. */
static void judge(struct work_device *device)
{
	cl_bool available = CL_FALSE, compiler = CL_FALSE;
	cl_command_queue_properties properties = 0;

	clGetDeviceInfo(device->id, CL_DEVICE_AVAILABLE, sizeof(available), &available, NULL);
	clGetDeviceInfo(device->id, CL_DEVICE_COMPILER_AVAILABLE, sizeof(compiler), &compiler, NULL);
	clGetDeviceInfo(device->id, CL_DEVICE_QUEUE_PROPERTIES, sizeof(properties), &properties, NULL);
	if (!available)
		snprintf(device->why_not, sizeof(device->why_not), "the driver reports it as not available");
	else if (!compiler)
		snprintf(device->why_not, sizeof(device->why_not), "its driver has no compiler for OpenCL C");
	else if (!(properties & CL_QUEUE_PROFILING_ENABLE))
		snprintf(device->why_not, sizeof(device->why_not),
			 "its queues cannot be profiled, so kernels have no times");
}

static size_t platform_devices(cl_platform_id platform, struct work_device *out, size_t room)
{
	cl_device_id ids[WORK_DEVICES_MAX];
	cl_uint count = 0;
	size_t n = 0;

	if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, WORK_DEVICES_MAX, ids, &count) != CL_SUCCESS)
		return 0;
	for (cl_uint i = 0; i < count && i < WORK_DEVICES_MAX && n < room; i++, n++) {
		cl_device_type type = 0;

		out[n] = (struct work_device){.id = ids[i]};
		clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof(out[n].platform) - 1, out[n].platform, NULL);
		clGetDeviceInfo(ids[i], CL_DEVICE_NAME, sizeof(out[n].name) - 1, out[n].name, NULL);
		clGetDeviceInfo(ids[i], CL_DEVICE_VERSION, sizeof(out[n].version) - 1, out[n].version, NULL);
		clGetDeviceInfo(ids[i], CL_DEVICE_TYPE, sizeof(type), &type, NULL);
		snprintf(out[n].type, sizeof(out[n].type), "%s", type_name(type));
		judge(&out[n]);
	}
	return n;
}

size_t work_devices(struct work_device devices[WORK_DEVICES_MAX], char why[192])
{
	cl_platform_id platforms[WORK_DEVICES_MAX];
	cl_uint count = 0;
	size_t n = 0;
	cl_int rc = clGetPlatformIDs(WORK_DEVICES_MAX, platforms, &count);

	why[0] = '\0';
	if (rc != CL_SUCCESS || count == 0) {
		snprintf(why, 192,
			 "no OpenCL driver (ICD) is installed: /etc/OpenCL/vendors names none that loads (%d)", rc);
		return 0;
	}
	for (cl_uint i = 0; i < count && i < WORK_DEVICES_MAX; i++)
		n += platform_devices(platforms[i], devices + n, WORK_DEVICES_MAX - n);
	if (n == 0)
		snprintf(why, 192, "%u OpenCL platform%s, and no device on %s", count, count == 1 ? "" : "s",
			 count == 1 ? "it" : "any");
	return n;
}

static uint64_t event_ns(cl_event event)
{
	cl_ulong start = 0, end = 0;

	clWaitForEvents(1, &event);
	clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof(start), &start, NULL);
	clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof(end), &end, NULL);
	clReleaseEvent(event);
	return end > start ? end - start : 0;
}

static int run_kernel(struct probe_work *work, cl_kernel kernel, size_t items, uint64_t *ns)
{
	cl_event event;
	cl_int rc = clEnqueueNDRangeKernel(work->queue, kernel, 1, NULL, &items, NULL, 0, NULL, &event);

	if (rc == CL_SUCCESS)
		*ns = event_ns(event);
	return rc;
}

int work_run(struct probe_work *work, struct work_round *out)
{
	const size_t items = 64;
	uint64_t begin_ns = clock_now_ns();
	cl_int rc = CL_SUCCESS;

	for (int i = 0; i < LAUNCHES && rc == CL_SUCCESS; i++)
		rc = clEnqueueNDRangeKernel(work->queue, work->nothing, 1, NULL, &items, NULL, 0, NULL, NULL);
	out->launch_ns = (clock_now_ns() - begin_ns) / LAUNCHES;
	clFinish(work->queue);
	if (rc == CL_SUCCESS)
		rc = run_kernel(work, work->compute, work->items, &out->compute_ns);
	if (rc == CL_SUCCESS)
		rc = run_kernel(work, work->stream, work->floats4, &out->bandwidth_ns);
	out->at_ns = clock_now_ns();
	return rc;
}

/* Double the number of items until a kernel takes long enough to be timed well. */
static int size_up(struct probe_work *work, uint64_t kernel_ns)
{
	uint64_t ns = 0;
	int rc = CL_SUCCESS;

	for (work->items = ITEMS_MIN / 2; rc == CL_SUCCESS && ns < kernel_ns && work->items < ITEMS_MAX;) {
		work->items *= 2;
		rc = run_kernel(work, work->compute, work->items, &ns);
	}
	work->floats4 = 65536;
	for (ns = 0; rc == CL_SUCCESS && ns < kernel_ns && work->floats4 * 32 < BUFFER_BYTES;) {
		work->floats4 *= 2;
		rc = run_kernel(work, work->stream, work->floats4, &ns);
	}
	return rc;
}

static int build(struct probe_work *work, cl_device_id device)
{
	const char *text = source;
	cl_int rc[8] = {0};

	work->context = clCreateContext(NULL, 1, &device, NULL, NULL, &rc[0]);
	if (rc[0] != CL_SUCCESS)
		return rc[0];
	work->queue = clCreateCommandQueue(work->context, device, CL_QUEUE_PROFILING_ENABLE, &rc[1]);
	work->program = clCreateProgramWithSource(work->context, 1, &text, NULL, &rc[2]);
	if (rc[1] != CL_SUCCESS || rc[2] != CL_SUCCESS)
		return rc[1] != CL_SUCCESS ? rc[1] : rc[2];
	rc[0] = clBuildProgram(work->program, 1, &device, "", NULL, NULL);
	if (rc[0] != CL_SUCCESS)
		return rc[0];
	work->nothing = clCreateKernel(work->program, "nothing", &rc[3]);
	work->compute = clCreateKernel(work->program, "compute", &rc[4]);
	work->stream = clCreateKernel(work->program, "stream", &rc[5]);
	work->from = clCreateBuffer(work->context, CL_MEM_READ_WRITE, BUFFER_BYTES / 2, NULL, &rc[6]);
	work->to = clCreateBuffer(work->context, CL_MEM_READ_WRITE, BUFFER_BYTES / 2, NULL, &rc[7]);
	for (int i = 3; i < 8; i++)
		if (rc[i] != CL_SUCCESS)
			return rc[i];
	clSetKernelArg(work->nothing, 0, sizeof(work->to), &work->to);
	clSetKernelArg(work->compute, 0, sizeof(work->to), &work->to);
	clSetKernelArg(work->stream, 0, sizeof(work->from), &work->from);
	clSetKernelArg(work->stream, 1, sizeof(work->to), &work->to);
	return CL_SUCCESS;
}

struct probe_work *work_new(const struct work_device *device, uint64_t kernel_ns, char why[192])
{
	struct probe_work *work = calloc(1, sizeof(*work));
	int rc = work ? build(work, device->id) : CL_OUT_OF_HOST_MEMORY;

	if (rc == CL_SUCCESS)
		rc = size_up(work, kernel_ns);
	if (rc == CL_SUCCESS)
		return work;
	snprintf(why, 192, "a kernel could not be built and run on %s (OpenCL error %d)", device->name, rc);
	work_free(work);
	return NULL;
}

void work_free(struct probe_work *work)
{
	if (!work)
		return;
	if (work->from)
		clReleaseMemObject(work->from);
	if (work->to)
		clReleaseMemObject(work->to);
	if (work->nothing)
		clReleaseKernel(work->nothing);
	if (work->compute)
		clReleaseKernel(work->compute);
	if (work->stream)
		clReleaseKernel(work->stream);
	if (work->program)
		clReleaseProgram(work->program);
	if (work->queue)
		clReleaseCommandQueue(work->queue);
	if (work->context)
		clReleaseContext(work->context);
	free(work);
}

uint64_t work_bytes(const struct probe_work *work)
{
	return work->floats4 * 32;
}

uint64_t work_operations(const struct probe_work *work)
{
	return (uint64_t)work->items * OPS_AN_ITEM;
}
