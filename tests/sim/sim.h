/* SPDX-License-Identifier: MIT */
/* An event-driven simulator of one inference: a CPU thread that launches, a
 * bounded queue, a GPU that executes. Ground truth for the estimator's tests,
 * so it shares no code with estimator/. */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_LAYERS_MAX 4096

struct sim_rng {
	uint64_t state;
};

double sim_uniform(struct sim_rng *rng, double low, double high);
double sim_log_uniform(struct sim_rng *rng, double low, double high);
double sim_gauss(struct sim_rng *rng);

/* Times in ns at `top` clocks and context 0. */
struct sim_layer {
	double cpu_scaled, cpu_fixed; /* the former goes with 1 / CPU clock */
	double gpu_core, gpu_memory, gpu_fixed;
	double overlap;                      /* exponent n joining core and memory time */
	double per_token, per_token_squared; /* growth of core and memory time */
	bool sync;
};

struct sim_clocks {
	double cpu, gpu, mem; /* Hz */
};

struct sim_model {
	struct sim_layer layer[SIM_LAYERS_MAX];
	size_t layers;
	struct sim_clocks top;
	size_t queue;    /* launches in flight before the CPU blocks */
	double delay_ns; /* launch to start */
	double tail_scaled, tail_fixed;
	double jitter_gpu; /* sd of log execution time */
	double jitter_cpu; /* same of launches, with one in forty taking up to thrice as long */
};

enum sim_kind { SIM_DNN, SIM_DECODE, SIM_PREFILL, SIM_KINDS };

/* A random model of a kind: 20 to 600 layers, execution over launch time at
 * top clocks log-uniform between 0.05 and 20. */
void sim_random(struct sim_model *model, enum sim_kind kind, struct sim_clocks top, struct sim_rng *rng);

/* One inference; returns its latency in ns. rng NULL: no jitter. cpu_ns and gpu_ns (NULL, or [layers]) receive the
 * times of each layer. */
double sim_run(const struct sim_model *model, struct sim_clocks at, double context, struct sim_rng *rng, double *cpu_ns,
	       double *gpu_ns);

/* Noise of whole inferences: log of latency over its median, as a sequence. A
 * first-order autoregression with an exponential tail, of the size measured at fixed
 * clocks. */
struct sim_noise {
	double *log_ratio;
	size_t count, next;
};

void sim_noise_open(struct sim_noise *noise, struct sim_rng *rng);
double sim_noise_next(struct sim_noise *noise); /* a factor around 1 */
void sim_noise_close(struct sim_noise *noise);

#endif
