/* SPDX-License-Identifier: MIT */
/* A layer for tests, to be loaded below flamed's: counts events that are created and released, and, depending on
 * $BELOW, has no profiling (noprofile), no times (notimes), fails every retain (noretain) or is slow to flush
 * (slowflush). */
#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl_layer.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOW_FLUSH_US 3000
#define EXPORT        __attribute__((visibility("default")))

static cl_icd_dispatch target, ours;
static atomic_long made, retained, released;

static int below(const char *word)
{
	const char *text = getenv("BELOW");

	return text && strstr(text, word) != NULL;
}

static cl_int count(cl_int rc, const cl_event *event)
{
	if (rc == CL_SUCCESS && event)
		made++;
	return rc;
}

static CL_API_ENTRY cl_int CL_API_CALL kernel(cl_command_queue q, cl_kernel k, cl_uint d, const size_t *o,
					      const size_t *g, const size_t *l, cl_uint n, const cl_event *w,
					      cl_event *e)
{
	return count(target.clEnqueueNDRangeKernel(q, k, d, o, g, l, n, w, e), e);
}

static CL_API_ENTRY cl_int CL_API_CALL reading(cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t s, void *p,
					       cl_uint n, const cl_event *w, cl_event *e)
{
	return count(target.clEnqueueReadBuffer(q, m, b, o, s, p, n, w, e), e);
}

static CL_API_ENTRY cl_int CL_API_CALL retain(cl_event event)
{
	if (below("noretain"))
		return CL_OUT_OF_RESOURCES;
	retained++;
	return target.clRetainEvent(event);
}

static CL_API_ENTRY cl_int CL_API_CALL release(cl_event event)
{
	released++;
	return target.clReleaseEvent(event);
}

static CL_API_ENTRY cl_command_queue CL_API_CALL queue(cl_context c, cl_device_id d, cl_command_queue_properties p,
						       cl_int *error)
{
	if (p & CL_QUEUE_PROFILING_ENABLE && below("noprofile")) {
		if (error)
			*error = CL_INVALID_QUEUE_PROPERTIES;
		return NULL;
	}
	return target.clCreateCommandQueue(c, d, p, error);
}

static CL_API_ENTRY cl_int CL_API_CALL flush(cl_command_queue q)
{
	if (below("slowflush"))
		usleep(SLOW_FLUSH_US);
	return target.clFlush(q);
}

static CL_API_ENTRY cl_int CL_API_CALL times(cl_event event, cl_profiling_info name, size_t size, void *value,
					     size_t *size_ret)
{
	if (below("notimes"))
		return CL_PROFILING_INFO_NOT_AVAILABLE;
	return target.clGetEventProfilingInfo(event, name, size, value, size_ret);
}

EXPORT CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info name, size_t size, void *value, size_t *size_ret)
{
	cl_layer_api_version version = CL_LAYER_API_VERSION_100;

	if (name != CL_LAYER_API_VERSION || (value && size < sizeof(version)))
		return CL_INVALID_VALUE;
	if (value)
		memcpy(value, &version, sizeof(version));
	if (size_ret)
		*size_ret = sizeof(version);
	return CL_SUCCESS;
}

EXPORT CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint entries, const cl_icd_dispatch *below_us,
						   cl_uint *entries_ret, const cl_icd_dispatch **ours_ret)
{
	(void)entries;
	target = *below_us;
	ours.clEnqueueNDRangeKernel = kernel;
	ours.clEnqueueReadBuffer = reading;
	ours.clRetainEvent = retain;
	ours.clReleaseEvent = release;
	ours.clCreateCommandQueue = queue;
	ours.clGetEventProfilingInfo = times;
	ours.clFlush = flush;
	*entries_ret = sizeof(ours) / sizeof(void *);
	*ours_ret = &ours;
	return CL_SUCCESS;
}

__attribute__((destructor)) static void leave(void)
{
	fprintf(stderr, "below: made=%ld retained=%ld released=%ld\n", (long)made, (long)retained, (long)released);
}
