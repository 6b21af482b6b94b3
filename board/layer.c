/* SPDX-License-Identifier: MIT */
/* libflamed-board-opencl.so: an OpenCL layer that slows any program down to the
 * clocks of the board in $FLAMED_BOARD. Each kernel is followed in its queue by
 * a marker that completes once the kernel would have ended on the board;
 * the host is delayed after each launch as if its own work took longer. */
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl_layer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../common/clock.h"
#include "layer_event.h"
#include "slower.h"

#ifndef CL_LAYER_NAME /* headers of 2022.01, as in Ubuntu 22.04 */
#define CL_LAYER_NAME 0x4241
#endif
#define NAME_MOST             128
#define QUEUE_PROPERTIES_MOST 16

#define EXPORT __attribute__((visibility("default")))

/* One launch, from its enqueue to its end on the board. */
struct board_launch {
	cl_event real, user, marker;
	bool handed_out; /* the program holds the marker as its event */
	cl_int status;
	uint64_t key, launched_ns, prompt_ns;
	cl_ulong at[TIME_COUNT];
};

static struct {
	struct layer_events events;
	pthread_mutex_t lock;
	int64_t device_clock; /* least difference of CLOCK_MONOTONIC and the device's clock so far */
} layer = {.events.lock = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .device_clock = INT64_MAX};

static const cl_icd_dispatch *target;
static cl_icd_dispatch dispatch;

/* Kernels */

static cl_ulong event_time(cl_event event, cl_profiling_info which)
{
	cl_ulong at = 0;

	if (target->clGetEventProfilingInfo(event, which, sizeof(at), &at, NULL) != CL_SUCCESS)
		return 0;
	return at;
}

/* The real kernel has ended: pass the launch to the board's queue. Called by
 * the OpenCL implementation. */
static void CL_CALLBACK on_real_end(cl_event event, cl_int status, void *user_data)
{
	static const cl_profiling_info which[TIME_COUNT] = {CL_PROFILING_COMMAND_QUEUED, CL_PROFILING_COMMAND_SUBMIT,
							    CL_PROFILING_COMMAND_START, CL_PROFILING_COMMAND_END};
	struct board_launch *launch = user_data;
	struct lane_item item = {.launched_ns = launch->launched_ns, .prompt_ns = launch->prompt_ns, .ticket = launch};
	uint64_t start_ns;
	double ns;

	launch->status = status;
	for (int i = 0; i < TIME_COUNT; i++)
		launch->at[i] = event_time(event, which[i]);
	ns = launch->at[TIME_END] > launch->at[TIME_START] ? (double)(launch->at[TIME_END] - launch->at[TIME_START]) :
							     0;
	pthread_mutex_lock(&layer.lock);
	if (launch->at[TIME_END]) {
		int64_t clock = (int64_t)(clock_now_ns() - launch->at[TIME_END]);

		if (clock < layer.device_clock)
			layer.device_clock = clock;
	}
	start_ns = launch->at[TIME_START] ? launch->at[TIME_START] + (uint64_t)layer.device_clock : 0;
	pthread_mutex_unlock(&layer.lock);
	slower_executed(launch->key, status == CL_COMPLETE ? ns : 0, start_ns, &item);
	lane_push(&slower.lane, &item);
}

static void lane_real(void *arg, struct lane_item *item)
{
	(void)arg;
	(void)item; /* it ended before it was pushed */
}

static void lane_done(void *arg, struct lane_item *item)
{
	struct board_launch *launch = item->ticket;

	(void)arg;
	slower_done(item);
	pthread_mutex_lock(&layer.lock);
	launch->at[TIME_START] = (cl_ulong)((int64_t)item->start_ns - layer.device_clock);
	launch->at[TIME_END] = (cl_ulong)((int64_t)item->end_ns - layer.device_clock);
	if (launch->at[TIME_SUBMIT] > launch->at[TIME_START])
		launch->at[TIME_SUBMIT] = launch->at[TIME_START];
	if (launch->at[TIME_QUEUED] > launch->at[TIME_SUBMIT])
		launch->at[TIME_QUEUED] = launch->at[TIME_SUBMIT];
	pthread_mutex_unlock(&layer.lock);
	if (launch->handed_out)
		layer_event_end(&layer.events, launch->marker, launch->at);
	target->clSetUserEventStatus(launch->user, launch->status < 0 ? launch->status : CL_COMPLETE);
	target->clReleaseEvent(launch->user);
	target->clReleaseEvent(launch->real);
	target->clReleaseEvent(launch->marker);
	free(launch);
}

static cl_int create_user_event(cl_command_queue queue, cl_event *event)
{
	cl_context context;
	cl_int rc = target->clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof(context), &context, NULL);

	if (rc == CL_SUCCESS)
		*event = target->clCreateUserEvent(context, &rc);
	return rc;
}

static cl_int CL_API_CALL release_event(cl_event event)
{
	layer_event_release(&layer.events, event);
	return target->clReleaseEvent(event);
}

/* Block the queue behind a kernel that has just been enqueued, until its end on the board. After an error half-way
 * everything is undone, so that nothing waits for an event that is never set. */
static cl_int follow(cl_command_queue queue, struct board_launch *launch, cl_event *event)
{
	cl_int rc = create_user_event(queue, &launch->user);

	if (rc != CL_SUCCESS)
		return rc;
	rc = target->clEnqueueMarkerWithWaitList(queue, 1, &launch->user, &launch->marker);
	if (rc != CL_SUCCESS)
		goto release_user;
	launch->handed_out = event && layer_event_add(&layer.events, launch->marker) == 0;
	if (event) {
		*event = launch->handed_out ? launch->marker : launch->real;
		target->clRetainEvent(*event);
	}
	rc = target->clSetEventCallback(launch->real, CL_COMPLETE, on_real_end, launch);
	if (rc == CL_SUCCESS)
		return CL_SUCCESS;
	if (event)
		release_event(*event);
	target->clReleaseEvent(launch->marker);
release_user:
	target->clSetUserEventStatus(launch->user, CL_COMPLETE);
	target->clReleaseEvent(launch->user);
	return rc;
}

/* Key of this launch, by name and sizes. */
struct launch_name {
	size_t global[3], local[3];
	char name[NAME_MOST];
};

static struct launch_name launch_name(cl_kernel kernel, cl_uint dims, const size_t *global, const size_t *local)
{
	struct launch_name out = {0};

	target->clGetKernelInfo(kernel, CL_KERNEL_FUNCTION_NAME, sizeof(out.name) - 1, out.name, NULL);
	for (cl_uint i = 0; i < dims && i < 3; i++) {
		out.global[i] = global[i];
		out.local[i] = local ? local[i] : 0;
	}
	return out;
}

/* The kernel runs, but takes as long as on this machine. */
static void give_up(struct board_launch *launch, cl_int error, cl_event *event)
{
	fprintf(stderr, "flamed-board-opencl: OpenCL error %d; kernels are no longer slowed down\n", error);
	slower.on = false;
	if (event)
		*event = launch->real;
	else
		target->clReleaseEvent(launch->real);
	free(launch);
}

static cl_int CL_API_CALL enqueue_kernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset,
					 const size_t *global, const size_t *local, cl_uint waits,
					 const cl_event *wait_list, cl_event *event)
{
	struct board_launch *launch = slower.on ? calloc(1, sizeof(*launch)) : NULL;
	struct launch_name name;
	cl_int rc;

	if (!launch)
		return target->clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, waits, wait_list,
						      event);
	rc = target->clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, waits, wait_list,
					    &launch->real);
	if (rc != CL_SUCCESS) {
		free(launch);
		return rc;
	}
	name = launch_name(kernel, dims, global, local);
	launch->key = slower_launch(&name, sizeof(name), &launch->launched_ns, &launch->prompt_ns);
	rc = follow(queue, launch, event);
	if (rc != CL_SUCCESS)
		give_up(launch, rc, event);
	slower_launched();
	return CL_SUCCESS;
}

static cl_int CL_API_CALL enqueue_task(cl_command_queue queue, cl_kernel kernel, cl_uint waits,
				       const cl_event *wait_list, cl_event *event)
{
	static const size_t one = 1;

	return enqueue_kernel(queue, kernel, 1, NULL, &one, &one, waits, wait_list, event);
}

static cl_int CL_API_CALL write_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset,
				       size_t size, const void *from, cl_uint waits, const cl_event *wait_list,
				       cl_event *event)
{
	slower_uploads();
	return target->clEnqueueWriteBuffer(queue, buffer, blocking, offset, size, from, waits, wait_list, event);
}

/* Waits: the host's time continues from their end. */

static cl_int CL_API_CALL finish(cl_command_queue queue)
{
	cl_int rc = target->clFinish(queue);

	slower_waited();
	return rc;
}

static cl_int CL_API_CALL wait_for_events(cl_uint count, const cl_event *events)
{
	cl_int rc = target->clWaitForEvents(count, events);

	slower_waited();
	return rc;
}

static cl_int CL_API_CALL read_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset,
				      size_t size, void *to, cl_uint waits, const cl_event *wait_list, cl_event *event)
{
	cl_int rc = target->clEnqueueReadBuffer(queue, buffer, blocking, offset, size, to, waits, wait_list, event);

	if (blocking)
		slower_waited();
	return rc;
}

static void *CL_API_CALL map_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_map_flags flags,
				    size_t offset, size_t size, cl_uint waits, const cl_event *wait_list,
				    cl_event *event, cl_int *error)
{
	void *at = target->clEnqueueMapBuffer(queue, buffer, blocking, flags, offset, size, waits, wait_list, event,
					      error);

	if (blocking)
		slower_waited();
	if (!(flags & CL_MAP_READ))
		slower_uploads();
	return at;
}

/* Queues are profiled, for the real times. */

static cl_command_queue CL_API_CALL create_queue(cl_context context, cl_device_id device,
						 cl_command_queue_properties properties, cl_int *error)
{
	return target->clCreateCommandQueue(context, device, properties | CL_QUEUE_PROFILING_ENABLE, error);
}

static cl_command_queue CL_API_CALL create_queue_with(cl_context context, cl_device_id device,
						      const cl_queue_properties *properties, cl_int *error)
{
	cl_queue_properties all[QUEUE_PROPERTIES_MOST + 3];
	cl_queue_properties flags = CL_QUEUE_PROFILING_ENABLE;
	size_t count = 0;

	for (; properties && *properties && count < QUEUE_PROPERTIES_MOST; properties += 2) {
		if (properties[0] == CL_QUEUE_PROPERTIES) {
			flags |= properties[1];
			continue;
		}
		all[count++] = properties[0];
		all[count++] = properties[1];
	}
	all[count++] = CL_QUEUE_PROPERTIES;
	all[count++] = flags;
	all[count] = 0;
	return target->clCreateCommandQueueWithProperties(context, device, all, error);
}

/* Events: a marker that replaces a kernel is reported as that kernel, with its times on the board. */

static cl_int answer(const void *value, size_t len, size_t size, void *to, size_t *size_ret)
{
	if (to && size < len)
		return CL_INVALID_VALUE;
	if (to)
		memcpy(to, value, len);
	if (size_ret)
		*size_ret = len;
	return CL_SUCCESS;
}

static cl_int CL_API_CALL profiling_info(cl_event event, cl_profiling_info which, size_t size, void *to,
					 size_t *size_ret)
{
	struct layer_event record;
	enum event_time time = TIME_END; /* and CL_PROFILING_COMMAND_COMPLETE */

	if (!layer_event_get(&layer.events, event, &record))
		return target->clGetEventProfilingInfo(event, which, size, to, size_ret);
	if (!record.ended)
		return CL_PROFILING_INFO_NOT_AVAILABLE;
	if (which == CL_PROFILING_COMMAND_QUEUED)
		time = TIME_QUEUED;
	else if (which == CL_PROFILING_COMMAND_SUBMIT)
		time = TIME_SUBMIT;
	else if (which == CL_PROFILING_COMMAND_START)
		time = TIME_START;
	return answer(&record.at[time], sizeof(record.at[time]), size, to, size_ret);
}

static cl_int CL_API_CALL event_info(cl_event event, cl_event_info which, size_t size, void *to, size_t *size_ret)
{
	static const cl_command_type type = CL_COMMAND_NDRANGE_KERNEL;
	struct layer_event record;

	if (which == CL_EVENT_COMMAND_TYPE && layer_event_get(&layer.events, event, &record))
		return answer(&type, sizeof(type), size, to, size_ret);
	return target->clGetEventInfo(event, which, size, to, size_ret);
}

static cl_int CL_API_CALL retain_event(cl_event event)
{
	layer_event_retain(&layer.events, event);
	return target->clRetainEvent(event);
}

/* Start and end */

__attribute__((destructor)) static void report(void)
{
	slower_report();
}

static void intercept(void)
{
	dispatch.clEnqueueNDRangeKernel = enqueue_kernel;
	dispatch.clEnqueueTask = enqueue_task;
	dispatch.clFinish = finish;
	dispatch.clWaitForEvents = wait_for_events;
	dispatch.clEnqueueReadBuffer = read_buffer;
	dispatch.clEnqueueWriteBuffer = write_buffer;
	dispatch.clEnqueueMapBuffer = map_buffer;
	dispatch.clCreateCommandQueue = create_queue;
	dispatch.clCreateCommandQueueWithProperties = create_queue_with;
	dispatch.clGetEventProfilingInfo = profiling_info;
	dispatch.clGetEventInfo = event_info;
	dispatch.clRetainEvent = retain_event;
	dispatch.clReleaseEvent = release_event;
}

EXPORT cl_int CL_API_CALL clGetLayerInfo(cl_layer_info which, size_t size, void *to, size_t *size_ret)
{
	static const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
	static const char name[] = "flamed-board";

	if (which == CL_LAYER_API_VERSION)
		return answer(&version, sizeof(version), size, to, size_ret);
	if (which == CL_LAYER_NAME)
		return answer(name, sizeof(name), size, to, size_ret);
	return CL_INVALID_VALUE;
}

EXPORT cl_int CL_API_CALL clInitLayer(cl_uint entries, const cl_icd_dispatch *target_dispatch, cl_uint *entries_ret,
				      const cl_icd_dispatch **dispatch_ret)
{
	static const struct lane_ops ops = {.real = lane_real, .done = lane_done};
	size_t size = entries * sizeof(void *);

	if (!target_dispatch || !entries_ret || !dispatch_ret)
		return CL_INVALID_VALUE;
	target = target_dispatch;
	memcpy(&dispatch, target_dispatch, size < sizeof(dispatch) ? size : sizeof(dispatch));
	slower_start("opencl", &ops);
	if (slower.on)
		intercept();
	*entries_ret = sizeof(dispatch) / sizeof(void *);
	*dispatch_ret = &dispatch;
	return CL_SUCCESS;
}
