/* SPDX-License-Identifier: MIT */
/* A second ICD for tests: a driver that is installed but has no device. */
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl_icd.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct _cl_platform_id {
	const cl_icd_dispatch *dispatch;
};

static cl_int answer(const char *text, size_t size, void *value, size_t *size_ret)
{
	size_t need = strlen(text) + 1;

	if (value && size < need)
		return CL_INVALID_VALUE;
	if (value)
		memcpy(value, text, need);
	if (size_ret)
		*size_ret = need;
	return CL_SUCCESS;
}

static CL_API_ENTRY cl_int CL_API_CALL info(cl_platform_id platform, cl_platform_info name, size_t size, void *value,
					    size_t *size_ret)
{
	(void)platform;
	switch (name) {
	case CL_PLATFORM_VERSION: return answer("OpenCL 1.2 empty", size, value, size_ret);
	case CL_PLATFORM_PROFILE: return answer("FULL_PROFILE", size, value, size_ret);
	case CL_PLATFORM_EXTENSIONS: return answer("cl_khr_icd", size, value, size_ret);
	case CL_PLATFORM_NAME:
	case CL_PLATFORM_VENDOR: return answer("Empty", size, value, size_ret);
	case CL_PLATFORM_ICD_SUFFIX_KHR: return answer("EMPTY", size, value, size_ret);
	default: return CL_INVALID_VALUE;
	}
}

static CL_API_ENTRY cl_int CL_API_CALL devices(cl_platform_id platform, cl_device_type type, cl_uint size,
					       cl_device_id *out, cl_uint *count)
{
	(void)platform;
	(void)type;
	(void)size;
	(void)out;
	if (count)
		*count = 0;
	return CL_DEVICE_NOT_FOUND;
}

static const cl_icd_dispatch table = {.clGetPlatformInfo = info, .clGetDeviceIDs = devices};
static struct _cl_platform_id only = {&table};

EXPORT CL_API_ENTRY cl_int CL_API_CALL clIcdGetPlatformIDsKHR(cl_uint size, cl_platform_id *out, cl_uint *count)
{
	if (out && size > 0)
		out[0] = &only;
	if (count)
		*count = 1;
	return CL_SUCCESS;
}

EXPORT void *CL_API_CALL clGetExtensionFunctionAddress(const char *name)
{
	if (strcmp(name, "clIcdGetPlatformIDsKHR") == 0)
		return (void *)(size_t)clIcdGetPlatformIDsKHR;
	if (strcmp(name, "clGetPlatformInfo") == 0)
		return (void *)(size_t)info;
	return NULL;
}
