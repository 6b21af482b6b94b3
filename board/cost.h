/* SPDX-License-Identifier: MIT */
/* The time of one step of a model at given clocks, and the latency of a whole model:
 * the joint timeline of a host that launches and a queue that executes.
 * Pure.
 *   launch = cycles / f_cpu + fixed
 *   exec   = fixed + ((p / f_gpu)^n + (q / f_mem)^n)^(1/n), n = COST_NORM */
#ifndef BOARD_COST_H
#define BOARD_COST_H

#include "page.h"

#define COST_NORM        3.0
#define COST_STALL_SHARE 0.15 /* power of a GPU that waits for memory, as a share of its busy power */

struct step_cost {
	double launch_cycles, launch_ns;
	double gpu_cycles, mem_cycles, exec_ns;
};

/* The model->layers costs of a model at a context, into `out`; the shares of
 * the layers are fixed and add up to the model's cycles. */
void cost_layers(const struct spec_model *model, enum spec_model_id id, uint32_t context, struct step_cost *out);

/* In ns. A clock of 0 does not exist: the other one alone counts. */
double cost_launch_ns(const struct step_cost *cost, uint64_t cpu_hz);
double cost_exec_ns(const struct step_cost *cost, uint64_t gpu_hz, uint64_t mem_hz);

/* Add the busy time of an execution of `ns` at these clocks to the page. */
void cost_post_exec(struct board_page *page, const struct step_cost *cost, double ns, uint64_t gpu_hz, uint64_t mem_hz);

/* A whole inference: its latency, and the busy time of each clock. */
struct cost_total {
	double latency_ns;
	double work_ns[CLOCK_COUNT];
};
struct cost_total cost_timeline(const struct step_cost *layers, uint32_t count, const uint64_t hz[CLOCK_COUNT]);

/* Mean power, in W, of one inference every `period_ns` at the grid point of these table
 * steps. */
double cost_power_w(const struct board_page *page, const size_t step[CLOCK_COUNT], const struct cost_total *total,
		    double period_ns);

#endif
