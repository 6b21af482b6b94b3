/* SPDX-License-Identifier: MIT */
/* The functions that a program calls in place of the driver's. Each returns the driver's result. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>
#include "../../common/clock.h"

#define PROPERTIES_MAX 16 /* words of a property list that can be copied */

static CL_API_ENTRY cl_command_queue CL_API_CALL create_queue(cl_context context, cl_device_id device,
							      cl_command_queue_properties properties, cl_int *error)
{
	bool asked = properties & CL_QUEUE_PROFILING_ENABLE, add = !asked && layer_on() && queue_room();
	cl_command_queue queue = NULL;

	if (add)
		queue = layer.target.clCreateCommandQueue(context, device, properties | CL_QUEUE_PROFILING_ENABLE,
							  error);
	if (!queue) { /* the device does not support profiling, or the program made an error */
		add = false;
		queue = layer.target.clCreateCommandQueue(context, device, properties, error);
	}
	if (queue)
		queue_created(queue, add, add || asked, NULL);
	return queue;
}

/* Copy the program's list with profiling added; false if that is not possible. */
static bool add_profiling(const cl_queue_properties *in, cl_queue_properties out[PROPERTIES_MAX], bool *asked)
{
	size_t n = 0;
	bool found = false;

	for (; in && in[n]; n += 2) {
		if (n + 4 >= PROPERTIES_MAX)
			return false;
		out[n] = in[n];
		out[n + 1] = in[n + 1];
		if (in[n] != CL_QUEUE_PROPERTIES)
			continue;
		found = true;
		*asked = in[n + 1] & CL_QUEUE_PROFILING_ENABLE;
		if (in[n + 1] & CL_QUEUE_ON_DEVICE)
			return false;
		out[n + 1] |= CL_QUEUE_PROFILING_ENABLE;
	}
	if (!found) {
		out[n++] = CL_QUEUE_PROPERTIES;
		out[n++] = CL_QUEUE_PROFILING_ENABLE;
	}
	out[n] = 0;
	return !*asked;
}

static CL_API_ENTRY cl_command_queue CL_API_CALL create_queue_with(cl_context context, cl_device_id device,
								   const cl_queue_properties *properties, cl_int *error)
{
	cl_queue_properties changed[PROPERTIES_MAX];
	bool asked = false, add = add_profiling(properties, changed, &asked) && layer_on() && queue_room();
	cl_command_queue queue = NULL;

	if (add)
		queue = layer.target.clCreateCommandQueueWithProperties(context, device, changed, error);
	if (!queue) {
		add = false;
		queue = layer.target.clCreateCommandQueueWithProperties(context, device, properties, error);
	}
	if (queue)
		queue_created(queue, add, add || asked, properties);
	return queue;
}

static CL_API_ENTRY cl_int CL_API_CALL retain_queue(cl_command_queue queue)
{
	cl_int rc = layer.target.clRetainCommandQueue(queue);

	if (rc == CL_SUCCESS)
		queue_retained(queue);
	return rc;
}

static CL_API_ENTRY cl_int CL_API_CALL release_queue(cl_command_queue queue)
{
	queue_released(queue);
	return layer.target.clReleaseCommandQueue(queue);
}

static bool is_hidden(cl_command_queue queue)
{
	struct queue_info info;

	return queue_lookup(queue, &info) && info.hidden;
}

/* The property list of a queue as the program gave it. */
static cl_int original_properties(cl_command_queue queue, size_t size, void *value, size_t *size_ret)
{
	cl_queue_properties list[PROPERTIES_MAX];
	size_t bytes = queue_properties(queue, list, PROPERTIES_MAX);

	if (value && size < bytes)
		return CL_INVALID_VALUE;
	if (value)
		memcpy(value, list, bytes);
	if (size_ret)
		*size_ret = bytes;
	return CL_SUCCESS;
}

static CL_API_ENTRY cl_int CL_API_CALL queue_info(cl_command_queue queue, cl_command_queue_info name, size_t size,
						  void *value, size_t *size_ret)
{
	cl_int rc;

	if (name == CL_QUEUE_PROPERTIES_ARRAY && is_hidden(queue))
		return original_properties(queue, size, value, size_ret);
	rc = layer.target.clGetCommandQueueInfo(queue, name, size, value, size_ret);
	if (rc == CL_SUCCESS && value && name == CL_QUEUE_PROPERTIES && is_hidden(queue))
		*(cl_command_queue_properties *)value &= ~(cl_command_queue_properties)CL_QUEUE_PROFILING_ENABLE;
	return rc;
}

static CL_API_ENTRY cl_int CL_API_CALL event_profiling(cl_event event, cl_profiling_info name, size_t size, void *value,
						       size_t *size_ret)
{
	cl_command_queue queue = NULL;

	if (layer.target.clGetEventInfo(event, CL_EVENT_COMMAND_QUEUE, sizeof(queue), &queue, NULL) == CL_SUCCESS &&
	    queue && is_hidden(queue))
		return CL_PROFILING_INFO_NOT_AVAILABLE;
	return layer.target.clGetEventProfilingInfo(event, name, size, value, size_ret);
}

static CL_API_ENTRY cl_int CL_API_CALL event_info(cl_event event, cl_event_info name, size_t size, void *value,
						  size_t *size_ret)
{
	cl_int rc = layer.target.clGetEventInfo(event, name, size, value, size_ret);

	if (rc == CL_SUCCESS && value && name == CL_EVENT_REFERENCE_COUNT)
		*(cl_uint *)value -= stream_holds(event);
	if (rc == CL_SUCCESS && value && name == CL_EVENT_COMMAND_EXECUTION_STATUS && layer_on())
		record_polled(event, *(cl_int *)value);
	return rc;
}

static CL_API_ENTRY cl_kernel CL_API_CALL create_kernel(cl_program program, const char *name, cl_int *error)
{
	cl_kernel kernel = layer.target.clCreateKernel(program, name, error);

	if (kernel && layer_on())
		kernel_created(kernel);
	return kernel;
}

static CL_API_ENTRY cl_int CL_API_CALL create_kernels(cl_program program, cl_uint count, cl_kernel *kernels,
						      cl_uint *count_ret)
{
	cl_uint made = 0;
	cl_int rc = layer.target.clCreateKernelsInProgram(program, count, kernels, &made);

	if (count_ret)
		*count_ret = made;
	for (cl_uint i = 0; rc == CL_SUCCESS && kernels && i < made && layer_on(); i++)
		kernel_created(kernels[i]);
	return rc;
}

static CL_API_ENTRY cl_kernel CL_API_CALL clone_kernel(cl_kernel source, cl_int *error)
{
	cl_kernel kernel = layer.target.clCloneKernel(source, error);

	if (kernel && layer_on())
		kernel_created(kernel);
	return kernel;
}

static uint64_t hash_sizes(uint64_t hash, cl_uint dims, const size_t *sizes)
{
	return sizes && dims <= 3 ? boundary_hash(hash, sizes, dims * sizeof(*sizes)) : hash * 3 + dims;
}

/* 0: the driver chooses the local size. */
static uint64_t workgroups(cl_uint dims, const size_t *global, const size_t *local)
{
	uint64_t work = 1;

	for (cl_uint i = 0; i < dims && dims <= 3 && work > 0; i++)
		work *= global && local && local[i] ? global[i] / local[i] : 0;
	return work;
}

static CL_API_ENTRY cl_int CL_API_CALL enqueue_kernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
						      const size_t *offset, const size_t *global, const size_t *local,
						      cl_uint waits, const cl_event *wait, cl_event *event)
{
	struct event_call call;
	cl_event *slot;
	uint64_t name;
	cl_int rc;

	if (!layer_on())
		return layer.target.clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, waits, wait,
							   event);
	name = kernel_name_hash(kernel);
	slot = record_launching(&call, queue, name, hash_sizes(hash_sizes(name, dims, global), dims, local),
				workgroups(dims, global, local), event);
	rc = layer.target.clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, waits, wait, slot);
	record_launched(&call, rc, slot);
	return rc;
}

static CL_API_ENTRY cl_int CL_API_CALL enqueue_task(cl_command_queue queue, cl_kernel kernel, cl_uint waits,
						    const cl_event *wait, cl_event *event)
{
	struct event_call call;
	cl_event *slot;
	uint64_t name;
	cl_int rc;

	if (!layer_on())
		return layer.target.clEnqueueTask(queue, kernel, waits, wait, event);
	name = kernel_name_hash(kernel);
	slot = record_launching(&call, queue, name, name, 1, event);
	rc = layer.target.clEnqueueTask(queue, kernel, waits, wait, slot);
	record_launched(&call, rc, slot);
	return rc;
}

/* Copies and fills, which are device work in launch order. `size` is hashed into the identity;
 * PARAMS and ARGS are the parameters between the queue and the wait list. */
#define DEVICE_COMMAND(function, wrapper, tag, size, PARAMS, ARGS) \
	static CL_API_ENTRY cl_int CL_API_CALL wrapper(cl_command_queue queue, PARAMS, cl_uint waits, \
						       const cl_event *wait, cl_event *event) \
	{ \
		struct event_call call; \
		cl_event *slot; \
		cl_int rc; \
\
		if (!layer_on()) \
			return layer.target.function(queue, ARGS, waits, wait, event); \
		slot = record_launching(&call, queue, tag, hash_sizes(tag, size), 0, event); \
		rc = layer.target.function(queue, ARGS, waits, wait, slot); \
		record_launched(&call, rc, slot); \
		return rc; \
	}
#define LIST(...) __VA_ARGS__

DEVICE_COMMAND(clEnqueueCopyBuffer, copy_buffer, 1, LIST(1, &size),
	       LIST(cl_mem from, cl_mem to, size_t from_offset, size_t to_offset, size_t size),
	       LIST(from, to, from_offset, to_offset, size))
DEVICE_COMMAND(clEnqueueCopyBufferRect, copy_rect, 2, LIST(3, region),
	       LIST(cl_mem from, cl_mem to, const size_t *from_origin, const size_t *to_origin, const size_t *region,
		    size_t from_row, size_t from_slice, size_t to_row, size_t to_slice),
	       LIST(from, to, from_origin, to_origin, region, from_row, from_slice, to_row, to_slice))
DEVICE_COMMAND(clEnqueueCopyImage, copy_image, 3, LIST(3, region),
	       LIST(cl_mem from, cl_mem to, const size_t *from_origin, const size_t *to_origin, const size_t *region),
	       LIST(from, to, from_origin, to_origin, region))
DEVICE_COMMAND(clEnqueueCopyImageToBuffer, copy_to_buffer, 4, LIST(3, region),
	       LIST(cl_mem from, cl_mem to, const size_t *from_origin, const size_t *region, size_t to_offset),
	       LIST(from, to, from_origin, region, to_offset))
DEVICE_COMMAND(clEnqueueCopyBufferToImage, copy_to_image, 5, LIST(3, region),
	       LIST(cl_mem from, cl_mem to, size_t from_offset, const size_t *to_origin, const size_t *region),
	       LIST(from, to, from_offset, to_origin, region))
DEVICE_COMMAND(clEnqueueFillBuffer, fill_buffer, 6, LIST(1, &size),
	       LIST(cl_mem buffer, const void *pattern, size_t pattern_size, size_t offset, size_t size),
	       LIST(buffer, pattern, pattern_size, offset, size))
DEVICE_COMMAND(clEnqueueFillImage, fill_image, 7, LIST(3, region),
	       LIST(cl_mem image, const void *color, const size_t *origin, const size_t *region),
	       LIST(image, color, origin, region))

static void has_read(cl_command_queue queue, cl_bool blocking, cl_int rc, const cl_event *event)
{
	if (rc != CL_SUCCESS || !layer_on())
		return;
	if (blocking) {
		record_waited(WAIT_READ, queue);
	} else {
		record_read();
		record_enqueued(event ? *event : NULL);
	}
}

static void will_write(void)
{
	if (layer_on())
		record_write();
}

#define READ_COMMAND(function, wrapper, PARAMS, ARGS) \
	static CL_API_ENTRY cl_int CL_API_CALL wrapper(cl_command_queue queue, cl_mem object, cl_bool blocking, \
						       PARAMS, cl_uint waits, const cl_event *wait, cl_event *event) \
	{ \
		cl_int rc = layer.target.function(queue, object, blocking, ARGS, waits, wait, event); \
\
		has_read(queue, blocking, rc, event); \
		return rc; \
	}
#define WRITE_COMMAND(function, wrapper, PARAMS, ARGS) \
	static CL_API_ENTRY cl_int CL_API_CALL wrapper(cl_command_queue queue, cl_mem object, cl_bool blocking, \
						       PARAMS, cl_uint waits, const cl_event *wait, cl_event *event) \
	{ \
		will_write(); \
		return layer.target.function(queue, object, blocking, ARGS, waits, wait, event); \
	}

READ_COMMAND(clEnqueueReadBuffer, read_buffer, LIST(size_t offset, size_t size, void *to), LIST(offset, size, to))
READ_COMMAND(clEnqueueReadBufferRect, read_rect,
	     LIST(const size_t *buffer_origin, const size_t *host_origin, const size_t *region, size_t buffer_row,
		  size_t buffer_slice, size_t host_row, size_t host_slice, void *to),
	     LIST(buffer_origin, host_origin, region, buffer_row, buffer_slice, host_row, host_slice, to))
READ_COMMAND(clEnqueueReadImage, read_image,
	     LIST(const size_t *origin, const size_t *region, size_t row, size_t slice, void *to),
	     LIST(origin, region, row, slice, to))
WRITE_COMMAND(clEnqueueWriteBuffer, write_buffer, LIST(size_t offset, size_t size, const void *from),
	      LIST(offset, size, from))
WRITE_COMMAND(clEnqueueWriteBufferRect, write_rect,
	      LIST(const size_t *buffer_origin, const size_t *host_origin, const size_t *region, size_t buffer_row,
		   size_t buffer_slice, size_t host_row, size_t host_slice, const void *from),
	      LIST(buffer_origin, host_origin, region, buffer_row, buffer_slice, host_row, host_slice, from))
WRITE_COMMAND(clEnqueueWriteImage, write_image,
	      LIST(const size_t *origin, const size_t *region, size_t row, size_t slice, const void *from),
	      LIST(origin, region, row, slice, from))

static void will_map(cl_map_flags flags)
{
	if (flags & (CL_MAP_WRITE | CL_MAP_WRITE_INVALIDATE_REGION) && !(flags & CL_MAP_READ))
		will_write();
}

static void has_mapped(cl_command_queue queue, cl_bool blocking, cl_map_flags flags, bool mapped, const cl_event *event)
{
	if (mapped && flags & CL_MAP_READ)
		has_read(queue, blocking, CL_SUCCESS, event);
}

static CL_API_ENTRY void *CL_API_CALL map_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
						 cl_map_flags flags, size_t offset, size_t size, cl_uint waits,
						 const cl_event *wait, cl_event *event, cl_int *error)
{
	void *mapped;

	will_map(flags);
	mapped = layer.target.clEnqueueMapBuffer(queue, buffer, blocking, flags, offset, size, waits, wait, event,
						 error);
	has_mapped(queue, blocking, flags, mapped != NULL, event);
	return mapped;
}

static CL_API_ENTRY void *CL_API_CALL map_image(cl_command_queue queue, cl_mem image, cl_bool blocking,
						cl_map_flags flags, const size_t *origin, const size_t *region,
						size_t *row, size_t *slice, cl_uint waits, const cl_event *wait,
						cl_event *event, cl_int *error)
{
	void *mapped;

	will_map(flags);
	mapped = layer.target.clEnqueueMapImage(queue, image, blocking, flags, origin, region, row, slice, waits, wait,
						event, error);
	has_mapped(queue, blocking, flags, mapped != NULL, event);
	return mapped;
}

static CL_API_ENTRY cl_int CL_API_CALL svm_map(cl_command_queue queue, cl_bool blocking, cl_map_flags flags, void *svm,
					       size_t size, cl_uint waits, const cl_event *wait, cl_event *event)
{
	cl_int rc;

	will_map(flags);
	rc = layer.target.clEnqueueSVMMap(queue, blocking, flags, svm, size, waits, wait, event);
	has_mapped(queue, blocking, flags, rc == CL_SUCCESS, event);
	return rc;
}

static CL_API_ENTRY cl_int CL_API_CALL finish(cl_command_queue queue)
{
	cl_int rc = layer.target.clFinish(queue);

	if (rc == CL_SUCCESS && layer_on())
		record_waited(WAIT_FINISH, queue);
	return rc;
}

static CL_API_ENTRY cl_int CL_API_CALL wait_for_events(cl_uint count, const cl_event *events)
{
	cl_int rc = layer.target.clWaitForEvents(count, events);

	if (rc == CL_SUCCESS && layer_on())
		record_waited_events(count, events);
	return rc;
}

static cl_int has_marked(cl_int rc, const cl_event *event)
{
	if (rc == CL_SUCCESS && layer_on())
		record_enqueued(event ? *event : NULL);
	return rc;
}

static CL_API_ENTRY cl_int CL_API_CALL marker(cl_command_queue queue, cl_event *event)
{
	return has_marked(layer.target.clEnqueueMarker(queue, event), event);
}

static CL_API_ENTRY cl_int CL_API_CALL marker_with(cl_command_queue queue, cl_uint waits, const cl_event *wait,
						   cl_event *event)
{
	return has_marked(layer.target.clEnqueueMarkerWithWaitList(queue, waits, wait, event), event);
}

static CL_API_ENTRY cl_int CL_API_CALL flush(cl_command_queue queue)
{
	uint64_t begin_ns = clock_now_ns();
	cl_int rc = layer.target.clFlush(queue);

	if (rc == CL_SUCCESS && layer_on())
		record_flushed(begin_ns);
	return rc;
}

/* The program's callback, called after ours. */
struct callback {
	void(CL_CALLBACK *function)(cl_event, cl_int, void *);
	void *arg;
	uint64_t ticket;
};

static void CL_CALLBACK called(cl_event event, cl_int status, void *arg)
{
	struct callback callback = *(struct callback *)arg;

	free(arg);
	if (layer_on())
		stream_called(callback.ticket);
	callback.function(event, status, callback.arg);
}

static CL_API_ENTRY cl_int CL_API_CALL set_callback(cl_event event, cl_int type,
						    void(CL_CALLBACK *function)(cl_event, cl_int, void *), void *arg)
{
	uint64_t ticket = type == CL_COMPLETE && function && layer_on() ? record_calling(event) : 0;
	struct callback *callback = ticket ? malloc(sizeof(*callback)) : NULL;
	cl_int rc;

	if (!callback)
		return layer.target.clSetEventCallback(event, type, function, arg);
	*callback = (struct callback){function, arg, ticket};
	rc = layer.target.clSetEventCallback(event, type, called, callback);
	if (rc != CL_SUCCESS)
		free(callback);
	return rc;
}

#define INTERCEPT(function, wrapper) \
	do { \
		if (layer.target.function) \
			out->function = wrapper; \
	} while (0)

void dispatch_fill(cl_icd_dispatch *out)
{
	INTERCEPT(clCreateCommandQueue, create_queue);
	INTERCEPT(clCreateCommandQueueWithProperties, create_queue_with);
	INTERCEPT(clRetainCommandQueue, retain_queue);
	INTERCEPT(clReleaseCommandQueue, release_queue);
	INTERCEPT(clGetCommandQueueInfo, queue_info);
	INTERCEPT(clGetEventProfilingInfo, event_profiling);
	INTERCEPT(clGetEventInfo, event_info);
	INTERCEPT(clCreateKernel, create_kernel);
	INTERCEPT(clCreateKernelsInProgram, create_kernels);
	INTERCEPT(clCloneKernel, clone_kernel);
	INTERCEPT(clEnqueueNDRangeKernel, enqueue_kernel);
	INTERCEPT(clEnqueueTask, enqueue_task);
	INTERCEPT(clEnqueueCopyBuffer, copy_buffer);
	INTERCEPT(clEnqueueCopyBufferRect, copy_rect);
	INTERCEPT(clEnqueueCopyImage, copy_image);
	INTERCEPT(clEnqueueCopyImageToBuffer, copy_to_buffer);
	INTERCEPT(clEnqueueCopyBufferToImage, copy_to_image);
	INTERCEPT(clEnqueueFillBuffer, fill_buffer);
	INTERCEPT(clEnqueueFillImage, fill_image);
	INTERCEPT(clEnqueueReadBuffer, read_buffer);
	INTERCEPT(clEnqueueReadBufferRect, read_rect);
	INTERCEPT(clEnqueueReadImage, read_image);
	INTERCEPT(clEnqueueWriteBuffer, write_buffer);
	INTERCEPT(clEnqueueWriteBufferRect, write_rect);
	INTERCEPT(clEnqueueWriteImage, write_image);
	INTERCEPT(clEnqueueMapBuffer, map_buffer);
	INTERCEPT(clEnqueueMapImage, map_image);
	INTERCEPT(clEnqueueSVMMap, svm_map);
	INTERCEPT(clFinish, finish);
	INTERCEPT(clWaitForEvents, wait_for_events);
	INTERCEPT(clEnqueueMarker, marker);
	INTERCEPT(clEnqueueMarkerWithWaitList, marker_with);
	INTERCEPT(clFlush, flush);
	INTERCEPT(clSetEventCallback, set_callback);
}
