/* SPDX-License-Identifier: MIT */
/* A program of the CUDA runtime, for on-gpu.sh, built by nvcc: it loads the driver as every such program does.
 * Kernels of kernels.cu; a checksum on stdout, the number of inferences on stderr, as the engine has them.
 * usage: runtime conv|decode|decode-graph RUNS */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "kernels.cu"

static float host[N], *memory;
static cudaStream_t stream;

static void must(cudaError_t rc, int line)
{
	if (rc == cudaSuccess)
		return;
	fprintf(stderr, "runtime: line %d: %s\n", line, cudaGetErrorString(rc));
	exit(3);
}
#define MUST(call) must(call, __LINE__)

static void up()
{
	MUST(cudaMemcpyAsync(memory, host, sizeof(host), cudaMemcpyHostToDevice, stream));
}

static void down()
{
	MUST(cudaMemcpyAsync(host, memory, sizeof(host), cudaMemcpyDeviceToHost, stream));
	MUST(cudaStreamSynchronize(stream));
}

static void network()
{
	for (int i = 0; i < 6; i++)
		conv<<<8, 128, 0, stream>>>(memory, 0.125f);
	relu<<<4, 128, 0, stream>>>(memory, 0.125f);
	fc<<<2, 64, 0, stream>>>(memory, 0.125f);
}

static void token()
{
	for (int layer = 0; layer < 4; layer++) {
		rms_norm<<<1, 256, 0, stream>>>(memory, 0.125f);
		for (int i = 0; i < 4; i++)
			mul_mat_vec_q<<<16, 128, 0, stream>>>(memory, 0.125f);
		flash_attn<<<2, 128, 0, stream>>>(memory, 0.125f);
	}
}

static cudaGraphExec_t captured()
{
	cudaGraphExec_t exec;
	cudaGraph_t graph;

	MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
	token();
	MUST(cudaStreamEndCapture(stream, &graph));
	MUST(cudaGraphInstantiateWithFlags(&exec, graph, 0));
	MUST(cudaGraphDestroy(graph));
	return exec;
}

int main(int argc, char **argv)
{
	int runs = argc == 3 ? atoi(argv[2]) : 0;
	cudaGraphExec_t exec = NULL;
	unsigned long sum = 5381;

	if (runs < 1)
		return 2;
	for (int i = 0; i < N; i++)
		host[i] = (float)i / 8;
	MUST(cudaMalloc(&memory, sizeof(host)));
	MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	if (strcmp(argv[1], "decode-graph") == 0)
		exec = captured();
	for (int i = 0; i < runs; i++) {
		up();
		if (strcmp(argv[1], "conv") == 0)
			network();
		else if (exec)
			MUST(cudaGraphLaunch(exec, stream));
		else
			token();
		MUST(cudaGetLastError());
		down();
	}
	if (exec)
		MUST(cudaGraphExecDestroy(exec));
	for (size_t i = 0; i < sizeof(host); i++)
		sum = sum * 33 + ((unsigned char *)host)[i];
	printf("%s %lx\n", argv[1], sum);
	fprintf(stderr, "truth=%d\n", runs);
	return 0;
}
