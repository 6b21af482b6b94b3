/* SPDX-License-Identifier: MIT */
/* Entry points that the ICD loader calls. */
#include "layer.h"

#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct opencl_layer layer;
static cl_icd_dispatch ours;

EXPORT CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info name, size_t size, void *value, size_t *size_ret)
{
	static const char text[] = "flamed";
	const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
	const void *from = name == CL_LAYER_NAME ? (const void *)text : &version;
	size_t need = name == CL_LAYER_NAME ? sizeof(text) : sizeof(version);

	if ((name != CL_LAYER_NAME && name != CL_LAYER_API_VERSION) || (value && size < need))
		return CL_INVALID_VALUE;
	if (value)
		memcpy(value, from, need);
	if (size_ret)
		*size_ret = need;
	return CL_SUCCESS;
}

EXPORT CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint count, const cl_icd_dispatch *target, cl_uint *count_ret,
						   const cl_icd_dispatch **ours_ret)
{
	static atomic_bool started;
	const cl_uint mine = sizeof(ours) / sizeof(void *);

	if (!target || !count_ret || !ours_ret || atomic_exchange(&started, true))
		return CL_INVALID_VALUE;
	memcpy(&layer.target, target, (count < mine ? count : mine) * sizeof(void *));
	*count_ret = mine;
	*ours_ret = &ours;
	if (!core_start(&backend))
		return CL_SUCCESS; /* an empty table: nothing is intercepted */
	if (!layer.target.clSetEventCallback || !layer.target.clReleaseEvent || !layer.target.clGetEventProfilingInfo) {
		layer_say("this OpenCL is older than 1.1: the program runs without flamed");
		return CL_SUCCESS;
	}
	dispatch_fill(&ours);
	core_go();
	return CL_SUCCESS;
}
