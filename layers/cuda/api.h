/* SPDX-License-Identifier: MIT */
/* The part of the CUDA driver API used by the layer and its test driver, as documented in the CUDA
 * Driver API reference. No NVIDIA header is included; where a toolkit is installed, a test compiles
 * these prototypes against its cuda.h. */
#ifndef LAYERS_CUDA_API_H
#define LAYERS_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

#ifndef __cuda_cuda_h__ /* the toolkit's header, in that test only */
typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef uint64_t cuuint64_t;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUlib_st *CUlibrary;
typedef struct CUkern_st *CUkernel;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUarray_st *CUarray;
typedef int CUmemorytype;
typedef int CUstreamCaptureMode;
typedef int CUstreamCaptureStatus;
typedef int CUdriverProcAddressQueryResult;
typedef int CUgraphExecUpdateResult;
typedef int CUdevice_attribute;
typedef int CUjit_option;
typedef int CUlibraryOption;
typedef void (*CUhostFn)(void *arg);
typedef void (*CUstreamCallback)(CUstream stream, CUresult status, void *arg);
typedef struct CUgraphEdgeData_st CUgraphEdgeData;
typedef struct CUgraphExecUpdateResultInfo_st CUgraphExecUpdateResultInfo;
typedef struct CUlaunchAttribute_st CUlaunchAttribute;

typedef struct CUlaunchConfig_st {
	unsigned int gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
	CUstream hStream;
	CUlaunchAttribute *attrs;
	unsigned int numAttrs;
} CUlaunchConfig;

typedef struct CUDA_GRAPH_INSTANTIATE_PARAMS_st {
	cuuint64_t flags;
	CUstream hUploadStream;
	CUgraphNode hErrNode_out;
	int result_out;
} CUDA_GRAPH_INSTANTIATE_PARAMS;

typedef struct CUDA_LAUNCH_PARAMS_st {
	CUfunction function;
	unsigned int gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
	CUstream hStream;
	void **kernelParams;
} CUDA_LAUNCH_PARAMS;

typedef struct CUDA_KERNEL_NODE_PARAMS_st {
	CUfunction func;
	unsigned int gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
	void **kernelParams, **extra;
} CUDA_KERNEL_NODE_PARAMS_v1;

typedef struct CUDA_KERNEL_NODE_PARAMS_v2_st {
	CUfunction func;
	unsigned int gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
	void **kernelParams, **extra;
	CUkernel kern; /* used if func is NULL */
	CUcontext ctx;
} CUDA_KERNEL_NODE_PARAMS_v2;

/* One side of a copy in two or three dimensions: memory of the host, of a device, an array, or unified (by address). */
enum { CU_MEMORYTYPE_HOST = 1, CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_ARRAY, CU_MEMORYTYPE_UNIFIED };

typedef struct CUDA_MEMCPY2D_st {
	size_t srcXInBytes, srcY;
	CUmemorytype srcMemoryType;
	const void *srcHost;
	CUdeviceptr srcDevice;
	CUarray srcArray;
	size_t srcPitch, dstXInBytes, dstY;
	CUmemorytype dstMemoryType;
	void *dstHost;
	CUdeviceptr dstDevice;
	CUarray dstArray;
	size_t dstPitch, WidthInBytes, Height;
} CUDA_MEMCPY2D;

typedef struct CUDA_MEMCPY3D_st {
	size_t srcXInBytes, srcY, srcZ, srcLOD;
	CUmemorytype srcMemoryType;
	const void *srcHost;
	CUdeviceptr srcDevice;
	CUarray srcArray;
	void *reserved0;
	size_t srcPitch, srcHeight, dstXInBytes, dstY, dstZ, dstLOD;
	CUmemorytype dstMemoryType;
	void *dstHost;
	CUdeviceptr dstDevice;
	CUarray dstArray;
	void *reserved1;
	size_t dstPitch, dstHeight, WidthInBytes, Height, Depth;
} CUDA_MEMCPY3D;

enum { CU_GRAPH_NODE_TYPE_KERNEL };
typedef struct CUgraphNodeParams_st {
	int type, reserved0[3];
	union {
		long long reserved1[29];
		CUDA_KERNEL_NODE_PARAMS_v2 kernel;
	};
	long long reserved2;
} CUgraphNodeParams;

enum {
	CUDA_SUCCESS = 0,
	CUDA_ERROR_INVALID_VALUE = 1,
	CUDA_ERROR_OUT_OF_MEMORY = 2,
	CUDA_ERROR_NOT_INITIALIZED = 3,
	CUDA_ERROR_DEINITIALIZED = 4,
	CUDA_ERROR_INVALID_DEVICE = 101,
	CUDA_ERROR_INVALID_IMAGE = 200,
	CUDA_ERROR_INVALID_CONTEXT = 201,
	CUDA_ERROR_INVALID_HANDLE = 400,
	CUDA_ERROR_NOT_FOUND = 500,
	CUDA_ERROR_NOT_READY = 600,
	CUDA_ERROR_NOT_PERMITTED = 800,
	CUDA_ERROR_NOT_SUPPORTED = 801,
	CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
	CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
	CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
	CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
	CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
	CUDA_ERROR_CAPTURED_EVENT = 907,
	CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
	CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE = 910,
	CUDA_ERROR_UNKNOWN = 999
};
enum { CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_RELAXED };
enum { CU_STREAM_CAPTURE_STATUS_NONE, CU_STREAM_CAPTURE_STATUS_ACTIVE, CU_STREAM_CAPTURE_STATUS_INVALIDATED };
enum { CU_GET_PROC_ADDRESS_SUCCESS, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT };
enum { CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM = 2 };
enum { CU_STREAM_NON_BLOCKING = 1, CU_EVENT_BLOCKING_SYNC = 1, CU_EVENT_DISABLE_TIMING = 2 };
#define CU_STREAM_LEGACY     ((CUstream)0x1)
#define CU_STREAM_PER_THREAD ((CUstream)0x2)
#endif

#define DIMS \
	unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, \
		unsigned int shared
#define DIMS_ARGS gx, gy, gz, bx, by, bz, shared

/* X(exported name, parameters) */
#define CUDA_API(X) \
	X(cuInit, (unsigned int flags)) \
	X(cuDriverGetVersion, (int *version)) \
	X(cuDeviceGet, (CUdevice * device, int ordinal)) \
	X(cuDeviceGetCount, (int *count)) \
	X(cuDeviceGetName, (char *name, int len, CUdevice device)) \
	X(cuDeviceGetAttribute, (int *value, CUdevice_attribute attribute, CUdevice device)) \
	X(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device)) \
	X(cuDevicePrimaryCtxRelease_v2, (CUdevice device)) \
	X(cuDevicePrimaryCtxGetState, (CUdevice device, unsigned int *flags, int *active)) \
	X(cuDevicePrimaryCtxReset_v2, (CUdevice device)) \
	X(cuCtxCreate_v2, (CUcontext * context, unsigned int flags, CUdevice device)) \
	X(cuCtxDestroy_v2, (CUcontext context)) \
	X(cuCtxSetCurrent, (CUcontext context)) \
	X(cuCtxGetCurrent, (CUcontext * context)) \
	X(cuCtxSynchronize, (void)) \
	X(cuModuleLoadData, (CUmodule * module, const void *image)) \
	X(cuModuleUnload, (CUmodule module)) \
	X(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name)) \
	X(cuFuncGetName, (const char **name, CUfunction function)) \
	X(cuLibraryLoadData, (CUlibrary * library, const void *code, CUjit_option *jit, void **jit_values, \
			      unsigned int jits, CUlibraryOption *options, void **option_values, unsigned int count)) \
	X(cuLibraryUnload, (CUlibrary library)) \
	X(cuLibraryGetKernel, (CUkernel * kernel, CUlibrary library, const char *name)) \
	X(cuKernelGetFunction, (CUfunction * function, CUkernel kernel)) \
	X(cuKernelGetName, (const char **name, CUkernel kernel)) \
	X(cuMemAlloc_v2, (CUdeviceptr * at, size_t bytes)) \
	X(cuMemFree_v2, (CUdeviceptr at)) \
	X(cuMemAllocHost_v2, (void **at, size_t bytes)) \
	X(cuMemFreeHost, (void *at)) \
	X(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes)) \
	X(cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t bytes)) \
	X(cuMemcpy, (CUdeviceptr to, CUdeviceptr from, size_t bytes)) \
	X(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream)) \
	X(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream)) \
	X(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)) \
	X(cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)) \
	X(cuMemcpy2D_v2, (const CUDA_MEMCPY2D *copy)) \
	X(cuMemcpy2DUnaligned_v2, (const CUDA_MEMCPY2D *copy)) \
	X(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *copy, CUstream stream)) \
	X(cuMemcpy3D_v2, (const CUDA_MEMCPY3D *copy)) \
	X(cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *copy, CUstream stream)) \
	X(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream)) \
	X(cuStreamCreate, (CUstream * stream, unsigned int flags)) \
	X(cuStreamCreateWithPriority, (CUstream * stream, unsigned int flags, int priority)) \
	X(cuStreamDestroy_v2, (CUstream stream)) \
	X(cuStreamSynchronize, (CUstream stream)) \
	X(cuStreamQuery, (CUstream stream)) \
	X(cuStreamGetFlags, (CUstream stream, unsigned int *flags)) \
	X(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned int flags)) \
	X(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode)) \
	X(cuStreamEndCapture, (CUstream stream, CUgraph * graph)) \
	X(cuStreamIsCapturing, (CUstream stream, CUstreamCaptureStatus * status)) \
	X(cuStreamGetCaptureInfo_v2, (CUstream stream, CUstreamCaptureStatus * status, cuuint64_t * id, \
				      CUgraph * graph, const CUgraphNode **nodes, size_t *count)) \
	X(cuThreadExchangeStreamCaptureMode, (CUstreamCaptureMode * mode)) \
	X(cuStreamAddCallback, (CUstream stream, CUstreamCallback callback, void *arg, unsigned int flags)) \
	X(cuEventCreate, (CUevent * event, unsigned int flags)) \
	X(cuEventDestroy_v2, (CUevent event)) \
	X(cuEventRecord, (CUevent event, CUstream stream)) \
	X(cuEventRecordWithFlags, (CUevent event, CUstream stream, unsigned int flags)) \
	X(cuEventQuery, (CUevent event)) \
	X(cuEventSynchronize, (CUevent event)) \
	X(cuEventElapsedTime, (float *ms, CUevent start, CUevent end)) \
	X(cuLaunchKernel, (CUfunction f, DIMS, CUstream stream, void **params, void **extra)) \
	X(cuLaunchKernelEx, (const CUlaunchConfig *config, CUfunction f, void **params, void **extra)) \
	X(cuLaunchCooperativeKernel, (CUfunction f, DIMS, CUstream stream, void **params)) \
	X(cuLaunchCooperativeKernelMultiDevice, (CUDA_LAUNCH_PARAMS * list, unsigned int count, unsigned int flags)) \
	X(cuLaunch, (CUfunction f)) \
	X(cuLaunchGrid, (CUfunction f, int width, int height)) \
	X(cuLaunchGridAsync, (CUfunction f, int width, int height, CUstream stream)) \
	X(cuLaunchHostFunc, (CUstream stream, CUhostFn fn, void *arg)) \
	X(cuGraphCreate, (CUgraph * graph, unsigned int flags)) \
	X(cuGraphDestroy, (CUgraph graph)) \
	X(cuGraphClone, (CUgraph * clone, CUgraph graph)) \
	X(cuGraphGetNodes, (CUgraph graph, CUgraphNode * nodes, size_t * count)) \
	X(cuGraphInstantiate_v2, (CUgraphExec * exec, CUgraph graph, CUgraphNode * node, char *log, size_t size)) \
	X(cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags)) \
	X(cuGraphInstantiateWithParams, (CUgraphExec * exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS * params)) \
	X(cuGraphExecUpdate_v2, (CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo * info)) \
	X(cuGraphExecKernelNodeSetParams_v2, \
	  (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v2 *params)) \
	X(cuGraphExecNodeSetParams, (CUgraphExec exec, CUgraphNode node, CUgraphNodeParams * params)) \
	X(cuGraphExecDestroy, (CUgraphExec exec)) \
	X(cuGraphUpload, (CUgraphExec exec, CUstream stream)) \
	X(cuGraphLaunch, (CUgraphExec exec, CUstream stream)) \
	X(cuGetProcAddress_v2, \
	  (const char *symbol, void **out, int version, cuuint64_t flags, CUdriverProcAddressQueryResult *status))

#define CUDA_PROTOTYPE(name, params) CUresult name params;
CUDA_API(CUDA_PROTOTYPE)

#endif
