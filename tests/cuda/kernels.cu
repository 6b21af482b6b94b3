/* SPDX-License-Identifier: MIT */
/* Kernels for a real GPU, for on-gpu.sh: a small convolution network, and the steps of a decoder. They have the names
 * of the scripts `plain`, `llama-decode` and `eager-then-graph`, and the arguments that the engine gives each kernel.
 * Every block works, the first one alone writes: results do not depend on an order. Compiled by nvcc or by NVRTC. */
#define N 256 /* floats of a buffer */

/* One row of N values in shared memory, which each thread has its share of. */
__device__ static void load(float *row, const float *memory)
{
	for (int i = threadIdx.x; i < N; i += blockDim.x)
		row[i] = memory[i];
	__syncthreads();
}

__device__ static void store(float *memory, const float *row)
{
	__syncthreads();
	for (int i = threadIdx.x; i < N && blockIdx.x == 0; i += blockDim.x)
		memory[i] = row[i];
}

/* Value i of a convolution with three taps, and of a matrix, made up on the spot, times the row. */
__device__ static float convolved(const float *row, int i)
{
	return 0.25f * row[(i + N - 1) % N] + 0.5f * row[i] + 0.24f * row[(i + 1) % N];
}

__device__ static float multiplied(const float *row, int i)
{
	float sum = 0;

	for (int j = 0; j < N; j++)
		sum += row[j] * (float)((i * 31 + j * 17) % 7 - 3) * (1.0f / N);
	return sum;
}

/* `passes` of them, from one row to the other and back. */
template <float (*value)(const float *, int)> __device__ static void apply(float *memory, float bias, int passes)
{
	__shared__ float row[2][N];

	load(row[0], memory);
	for (int pass = 0; pass < passes; pass++) {
		for (int i = threadIdx.x; i < N; i += blockDim.x)
			row[1 - pass % 2][i] = value(row[pass % 2], i) + bias;
		__syncthreads();
	}
	store(memory, row[passes % 2]);
}

__device__ static void normalise(float *memory, float bias)
{
	__shared__ float row[N];
	float sum = 0;

	load(row, memory);
	for (int i = 0; i < N; i++)
		sum += row[i] * row[i];
	__syncthreads();
	for (int i = threadIdx.x; i < N; i += blockDim.x)
		row[i] = row[i] * rsqrtf(sum / N + 1e-5f) + bias;
	store(memory, row);
}

#define KERNEL(name, work) \
	extern "C" __global__ void name(float *memory, float argument) \
	{ \
		work; \
	}
KERNEL(conv, apply<convolved>(memory, argument, 64))
KERNEL(relu, normalise(memory, argument))
KERNEL(fc, apply<multiplied>(memory, argument, 2))
KERNEL(rms_norm, normalise(memory, argument))
KERNEL(mul_mat_vec_q, apply<multiplied>(memory, argument, 4))
KERNEL(flash_attn, apply<multiplied>(memory, argument, 2))
KERNEL(mul_mat_q, apply<multiplied>(memory, argument, 8))
