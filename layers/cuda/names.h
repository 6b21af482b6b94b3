/* SPDX-License-Identifier: MIT */
/* Entry points of the driver that the layer stands in for: X(exported name, name in cuGetProcAddress(), CUDA version it
 * came with, default stream is the thread's own). For a name, the newest version up to the requested one is used.
 * tests/cuda/test_symbols.py compares the list with a driver's exports. */
#ifndef LAYERS_CUDA_NAMES_H
#define LAYERS_CUDA_NAMES_H

#define CUDA_WRAPPED(X) \
	X(cuGetProcAddress, cuGetProcAddress, 11030, 0) \
	X(cuGetProcAddress_v2, cuGetProcAddress, 12000, 0) \
	X(cuModuleGetFunction, cuModuleGetFunction, 2000, 0) \
	X(cuLibraryGetKernel, cuLibraryGetKernel, 12000, 0) \
	X(cuKernelGetFunction, cuKernelGetFunction, 12000, 0) \
	X(cuLaunchKernel, cuLaunchKernel, 4000, 0) \
	X(cuLaunchKernel_ptsz, cuLaunchKernel, 7000, 1) \
	X(cuLaunchKernelEx, cuLaunchKernelEx, 11060, 0) \
	X(cuLaunchKernelEx_ptsz, cuLaunchKernelEx, 11060, 1) \
	X(cuLaunchCooperativeKernel, cuLaunchCooperativeKernel, 9000, 0) \
	X(cuLaunchCooperativeKernel_ptsz, cuLaunchCooperativeKernel, 9000, 1) \
	X(cuLaunchCooperativeKernelMultiDevice, cuLaunchCooperativeKernelMultiDevice, 9000, 0) \
	X(cuLaunch, cuLaunch, 2000, 0) \
	X(cuLaunchGrid, cuLaunchGrid, 2000, 0) \
	X(cuLaunchGridAsync, cuLaunchGridAsync, 2000, 0) \
	X(cuLaunchHostFunc, cuLaunchHostFunc, 10000, 0) \
	X(cuLaunchHostFunc_ptsz, cuLaunchHostFunc, 10000, 1) \
	X(cuStreamAddCallback, cuStreamAddCallback, 5000, 0) \
	X(cuStreamAddCallback_ptsz, cuStreamAddCallback, 7000, 1) \
	X(cuGraphLaunch, cuGraphLaunch, 10000, 0) \
	X(cuGraphLaunch_ptsz, cuGraphLaunch, 10000, 1) \
	X(cuStreamBeginCapture, cuStreamBeginCapture, 10000, 0) \
	X(cuStreamBeginCapture_ptsz, cuStreamBeginCapture, 10000, 1) \
	X(cuStreamBeginCapture_v2, cuStreamBeginCapture, 10010, 0) \
	X(cuStreamBeginCapture_v2_ptsz, cuStreamBeginCapture, 10010, 1) \
	X(cuStreamBeginCaptureToGraph, cuStreamBeginCaptureToGraph, 12030, 0) \
	X(cuStreamBeginCaptureToGraph_ptsz, cuStreamBeginCaptureToGraph, 12030, 1) \
	X(cuStreamEndCapture, cuStreamEndCapture, 10000, 0) \
	X(cuStreamEndCapture_ptsz, cuStreamEndCapture, 10000, 1) \
	X(cuGraphInstantiate, cuGraphInstantiate, 10000, 0) \
	X(cuGraphInstantiate_v2, cuGraphInstantiate, 11000, 0) \
	X(cuGraphInstantiateWithFlags, cuGraphInstantiateWithFlags, 11040, 0) \
	X(cuGraphInstantiateWithParams, cuGraphInstantiateWithParams, 12000, 0) \
	X(cuGraphInstantiateWithParams_ptsz, cuGraphInstantiateWithParams, 12000, 1) \
	X(cuGraphExecUpdate, cuGraphExecUpdate, 10020, 0) \
	X(cuGraphExecUpdate_v2, cuGraphExecUpdate, 12000, 0) \
	X(cuGraphExecKernelNodeSetParams, cuGraphExecKernelNodeSetParams, 10010, 0) \
	X(cuGraphExecKernelNodeSetParams_v2, cuGraphExecKernelNodeSetParams, 12000, 0) \
	X(cuGraphExecNodeSetParams, cuGraphExecNodeSetParams, 12020, 0) \
	X(cuGraphExecDestroy, cuGraphExecDestroy, 10000, 0) \
	X(cuGraphDestroy, cuGraphDestroy, 10000, 0) \
	X(cuGraphClone, cuGraphClone, 10000, 0) \
	X(cuStreamSynchronize, cuStreamSynchronize, 2000, 0) \
	X(cuStreamSynchronize_ptsz, cuStreamSynchronize, 7000, 1) \
	X(cuStreamQuery, cuStreamQuery, 2000, 0) \
	X(cuStreamQuery_ptsz, cuStreamQuery, 7000, 1) \
	X(cuStreamWaitEvent, cuStreamWaitEvent, 3020, 0) \
	X(cuStreamWaitEvent_ptsz, cuStreamWaitEvent, 7000, 1) \
	X(cuStreamDestroy, cuStreamDestroy, 2000, 0) \
	X(cuStreamDestroy_v2, cuStreamDestroy, 4000, 0) \
	X(cuCtxSynchronize, cuCtxSynchronize, 2000, 0) \
	X(cuCtxSynchronize_v2, cuCtxSynchronize, 13000, 0) \
	X(cuCtxDestroy, cuCtxDestroy, 2000, 0) \
	X(cuCtxDestroy_v2, cuCtxDestroy, 4000, 0) \
	X(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset, 7000, 0) \
	X(cuDevicePrimaryCtxReset_v2, cuDevicePrimaryCtxReset, 11000, 0) \
	X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease, 7000, 0) \
	X(cuDevicePrimaryCtxRelease_v2, cuDevicePrimaryCtxRelease, 11000, 0) \
	X(cuEventRecord, cuEventRecord, 2000, 0) \
	X(cuEventRecord_ptsz, cuEventRecord, 7000, 1) \
	X(cuEventRecordWithFlags, cuEventRecordWithFlags, 11010, 0) \
	X(cuEventRecordWithFlags_ptsz, cuEventRecordWithFlags, 11010, 1) \
	X(cuEventSynchronize, cuEventSynchronize, 2000, 0) \
	X(cuEventQuery, cuEventQuery, 2000, 0) \
	X(cuEventDestroy, cuEventDestroy, 2000, 0) \
	X(cuEventDestroy_v2, cuEventDestroy, 4000, 0) \
	X(cuMemcpyHtoD_v2, cuMemcpyHtoD, 3020, 0) \
	X(cuMemcpyHtoD_v2_ptds, cuMemcpyHtoD, 7000, 1) \
	X(cuMemcpyDtoH_v2, cuMemcpyDtoH, 3020, 0) \
	X(cuMemcpyDtoH_v2_ptds, cuMemcpyDtoH, 7000, 1) \
	X(cuMemcpy, cuMemcpy, 4000, 0) \
	X(cuMemcpy_ptds, cuMemcpy, 7000, 1) \
	X(cuMemcpy2D_v2, cuMemcpy2D, 3020, 0) \
	X(cuMemcpy2D_v2_ptds, cuMemcpy2D, 7000, 1) \
	X(cuMemcpy2DUnaligned_v2, cuMemcpy2DUnaligned, 3020, 0) \
	X(cuMemcpy2DUnaligned_v2_ptds, cuMemcpy2DUnaligned, 7000, 1) \
	X(cuMemcpy2DAsync_v2, cuMemcpy2DAsync, 3020, 0) \
	X(cuMemcpy2DAsync_v2_ptsz, cuMemcpy2DAsync, 7000, 1) \
	X(cuMemcpy3D_v2, cuMemcpy3D, 3020, 0) \
	X(cuMemcpy3D_v2_ptds, cuMemcpy3D, 7000, 1) \
	X(cuMemcpy3DAsync_v2, cuMemcpy3DAsync, 3020, 0) \
	X(cuMemcpy3DAsync_v2_ptsz, cuMemcpy3DAsync, 7000, 1) \
	X(cuMemcpyHtoDAsync_v2, cuMemcpyHtoDAsync, 3020, 0) \
	X(cuMemcpyHtoDAsync_v2_ptsz, cuMemcpyHtoDAsync, 7000, 1) \
	X(cuMemcpyDtoHAsync_v2, cuMemcpyDtoHAsync, 3020, 0) \
	X(cuMemcpyDtoHAsync_v2_ptsz, cuMemcpyDtoHAsync, 7000, 1) \
	X(cuMemcpyAsync, cuMemcpyAsync, 4000, 0) \
	X(cuMemcpyAsync_ptsz, cuMemcpyAsync, 7000, 1)

#define CUDA_FN(name, base, version, per_thread) FN_##name,
enum fn { CUDA_WRAPPED(CUDA_FN) FN_COUNT };

#endif
