/* SPDX-License-Identifier: MIT */
/* An event-driven simulator of one inference, and random models for it. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim.h"

static uint64_t next_u64(struct sim_rng *rng)
{
	uint64_t z = (rng->state += 0x9e3779b97f4a7c15ULL); /* splitmix64 */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

double sim_uniform(struct sim_rng *rng, double low, double high)
{
	return low + (high - low) * ((double)(next_u64(rng) >> 11) * 0x1p-53);
}

double sim_log_uniform(struct sim_rng *rng, double low, double high)
{
	return exp(sim_uniform(rng, log(low), log(high)));
}

double sim_gauss(struct sim_rng *rng)
{
	double u = sim_uniform(rng, 1e-300, 1), v = sim_uniform(rng, 0, 2 * M_PI);
	return sqrt(-2 * log(u)) * cos(v);
}

/* ---- one inference ---- */

enum cpu_state { CPU_LAUNCHING, CPU_WANTS_SLOT, CPU_WANTS_END, CPU_DONE };

struct world {
	const struct sim_model *model;
	const double *cpu_ns, *gpu_ns;
	double now, cpu_until, gpu_until; /* DBL_MAX: nothing under way */
	double may_start[SIM_LAYERS_MAX]; /* of what was launched */
	size_t launching, launched, ended;
	bool gpu_busy;
	enum cpu_state cpu;
};

static void cpu_next(struct world *w)
{
	w->launching = w->launched;
	w->cpu = w->launching < w->model->layers ? CPU_LAUNCHING : CPU_DONE;
	w->cpu_until = w->cpu == CPU_LAUNCHING ? w->now + w->cpu_ns[w->launching] : DBL_MAX;
}

static void cpu_advance(struct world *w)
{
	if (w->cpu == CPU_WANTS_SLOT && w->launched - w->ended < w->model->queue) {
		w->may_start[w->launched++] = w->now + w->model->delay_ns;
		w->cpu = CPU_WANTS_END;
		if (!w->model->layer[w->launched - 1].sync)
			cpu_next(w);
	}
	if (w->cpu == CPU_WANTS_END && w->ended == w->launched)
		cpu_next(w);
}

static double next_event(const struct world *w)
{
	double next = fmin(w->cpu_until, w->gpu_until);

	if (!w->gpu_busy && w->ended < w->launched)
		next = fmin(next, fmax(w->may_start[w->ended], w->now));
	return next;
}

static void step(struct world *w)
{
	w->now = next_event(w);
	if (w->gpu_busy && w->gpu_until <= w->now) {
		w->gpu_busy = false;
		w->gpu_until = DBL_MAX;
		w->ended++;
	}
	if (w->cpu == CPU_LAUNCHING && w->cpu_until <= w->now) {
		w->cpu = CPU_WANTS_SLOT;
		w->cpu_until = DBL_MAX;
	}
	cpu_advance(w);
	if (!w->gpu_busy && w->ended < w->launched && w->may_start[w->ended] <= w->now) {
		w->gpu_busy = true;
		w->gpu_until = w->now + w->gpu_ns[w->ended];
	}
}

static double launch_time(const struct sim_model *m, const struct sim_layer *l, struct sim_clocks at,
			  struct sim_rng *rng)
{
	double ns = l->cpu_scaled * m->top.cpu / at.cpu + l->cpu_fixed;

	if (!rng)
		return ns;
	if (sim_uniform(rng, 0, 1) < 1.0 / 40)
		ns *= sim_uniform(rng, 1, 3);
	return ns * exp(m->jitter_cpu * sim_gauss(rng));
}

static double execution_time(const struct sim_model *m, const struct sim_layer *l, struct sim_clocks at, double context,
			     struct sim_rng *rng)
{
	double grow = 1 + l->per_token * context + l->per_token_squared * context * context;
	double core = l->gpu_core * m->top.gpu / at.gpu, memory = l->gpu_memory * m->top.mem / at.mem;
	double ns = l->gpu_fixed + grow * pow(pow(core, l->overlap) + pow(memory, l->overlap), 1 / l->overlap);

	return rng ? ns * exp(m->jitter_gpu * sim_gauss(rng)) : ns;
}

double sim_run(const struct sim_model *m, struct sim_clocks at, double context, struct sim_rng *rng, double *cpu_out,
	       double *gpu_out)
{
	double cpu_ns[SIM_LAYERS_MAX], gpu_ns[SIM_LAYERS_MAX];
	struct world w = {.model = m, .cpu_ns = cpu_ns, .gpu_ns = gpu_ns, .gpu_until = DBL_MAX};

	for (size_t i = 0; i < m->layers; i++) {
		cpu_ns[i] = launch_time(m, &m->layer[i], at, rng);
		gpu_ns[i] = execution_time(m, &m->layer[i], at, context, rng);
	}
	if (cpu_out)
		memcpy(cpu_out, cpu_ns, m->layers * sizeof(*cpu_ns));
	if (gpu_out)
		memcpy(gpu_out, gpu_ns, m->layers * sizeof(*gpu_ns));
	cpu_next(&w);
	while (w.ended < m->layers)
		step(&w);
	return w.now + m->tail_scaled * m->top.cpu / at.cpu + m->tail_fixed;
}

/* ---- random models ---- */

static void random_layer(struct sim_layer *l, double cpu_share, double balance, double gpu_fixed, struct sim_rng *rng)
{
	double cpu = exp(0.4 * sim_gauss(rng)), gpu = exp(1.1 * sim_gauss(rng));
	double share = fmin(fmax(cpu_share + 0.08 * sim_gauss(rng), 0.05), 0.98);
	double lean = balance * exp(1.2 * sim_gauss(rng)); /* core over memory time */

	l->cpu_scaled = cpu * share;
	l->cpu_fixed = cpu * (1 - share);
	l->gpu_fixed = gpu_fixed * sim_uniform(rng, 0.5, 1.5);
	l->gpu_core = gpu * lean / (1 + lean);
	l->gpu_memory = gpu / (1 + lean);
	l->overlap = sim_log_uniform(rng, 1, 8);
}

/* Blocks of the same few kernels, of which one reads the cache that grows. */
static void repeat_blocks(struct sim_model *m, enum sim_kind kind, struct sim_rng *rng)
{
	size_t block = (size_t)sim_uniform(rng, 6, 14);
	double growth = sim_log_uniform(rng, 0.0005, 0.01), square = sim_log_uniform(rng, 1e-7, 1e-5);

	for (size_t i = 0; i < m->layers; i++) {
		struct sim_layer *l = &m->layer[i];

		if (i >= block)
			*l = m->layer[i % block];
		if (kind == SIM_PREFILL) {
			l->per_token = growth;
			l->per_token_squared = i % block == block / 2 ? square : 0;
		} else if (i % block == block / 2) {
			l->per_token = growth;
		}
	}
}

/* Scale the sums of launch and execution time to the values drawn. */
static void rescale(struct sim_model *m, double cpu_total, double gpu_total)
{
	double cpu = 0, gpu = 0;

	for (size_t i = 0; i < m->layers; i++) {
		cpu += m->layer[i].cpu_scaled + m->layer[i].cpu_fixed;
		gpu += execution_time(m, &m->layer[i], m->top, 0, NULL);
	}
	for (size_t i = 0; i < m->layers; i++) {
		struct sim_layer *l = &m->layer[i];
		l->cpu_scaled *= cpu_total / cpu;
		l->cpu_fixed *= cpu_total / cpu;
		l->gpu_core *= gpu_total / gpu;
		l->gpu_memory *= gpu_total / gpu;
		l->gpu_fixed *= gpu_total / gpu;
	}
}

void sim_random(struct sim_model *m, enum sim_kind kind, struct sim_clocks top, struct sim_rng *rng)
{
	static const size_t queues[] = {8, 32, 128, 1024};
	double cpu_share = sim_uniform(rng, 0.5, 0.95), gpu_fixed = sim_uniform(rng, 0.01, 0.15);
	double balance = kind == SIM_DECODE ? sim_log_uniform(rng, 0.1, 1) : sim_log_uniform(rng, 0.3, 6);

	memset(m, 0, sizeof(*m));
	m->top = top;
	m->layers = (size_t)sim_log_uniform(rng, 20, 601);
	m->queue = queues[(size_t)sim_uniform(rng, 0, 4)];
	m->delay_ns = sim_log_uniform(rng, 2e3, 2e4);
	m->jitter_gpu = sim_uniform(rng, 0.01, 0.03);
	m->jitter_cpu = sim_uniform(rng, 0.03, 0.12);
	for (size_t i = 0; i < m->layers; i++)
		random_layer(&m->layer[i], cpu_share, balance, gpu_fixed, rng);
	if (kind != SIM_DNN)
		repeat_blocks(m, kind, rng);
	double cpu_total = (double)m->layers * sim_log_uniform(rng, 4e3, 4e4);
	rescale(m, cpu_total, cpu_total * sim_log_uniform(rng, 0.05, 20));
	m->tail_scaled = cpu_total * sim_log_uniform(rng, 0.001, 0.05);
	m->tail_fixed = cpu_total * sim_log_uniform(rng, 0.001, 0.02);
	for (size_t syncs = sim_uniform(rng, 0, 1) < 0.4 ? (size_t)sim_uniform(rng, 1, 6) : 0; syncs > 0; syncs--)
		m->layer[(size_t)sim_uniform(rng, 0, (double)m->layers)].sync = true;
	m->layer[m->layers - 1].sync = true;
}

/* ---- noise ---- */

#define NOISE_SAMPLES    40000
#define NOISE_RHO        0.45  /* lag-one autocorrelation; measured: 0.37 to 0.54 */
#define NOISE_SD         0.004 /* of log latency */
#define NOISE_TAIL_SHARE 0.01  /* of inferences, which take longer than that by an exponential */
#define NOISE_TAIL_MEAN  0.02  /* of this mean, in log */

void sim_noise_open(struct sim_noise *noise, struct sim_rng *rng)
{
	double value = 0;

	*noise = (struct sim_noise){.log_ratio = calloc(NOISE_SAMPLES, sizeof(double)), .count = NOISE_SAMPLES};
	if (!noise->log_ratio)
		abort();
	for (size_t i = 0; i < NOISE_SAMPLES; i++) {
		value = NOISE_RHO * value + NOISE_SD * sqrt(1 - NOISE_RHO * NOISE_RHO) * sim_gauss(rng);
		noise->log_ratio[i] = value;
		if (sim_uniform(rng, 0, 1) < NOISE_TAIL_SHARE)
			noise->log_ratio[i] -= NOISE_TAIL_MEAN * log(sim_uniform(rng, 1e-9, 1));
	}
}

double sim_noise_next(struct sim_noise *noise)
{
	noise->next = (noise->next + 1) % noise->count;
	return exp(noise->log_ratio[noise->next]);
}

void sim_noise_close(struct sim_noise *noise)
{
	free(noise->log_ratio);
}
