/* SPDX-License-Identifier: MIT */
#include "cost.h"

#include <math.h>

/* Relative costs of the layers of a network. CNN: wide maps first, many small ones later,
 * with a heavy layer in each stage; decoder: equal layers and a large head. */
static double gpu_weight(enum spec_model_id id, uint32_t layer, uint32_t layers)
{
	if (id == MODEL_DECODE)
		return layer + 1 == layers ? 4 : 1;
	return (layer % 6 == 2 ? 2.2 : 0.8) * (1.5 - (double)layer / layers);
}

static double mem_weight(enum spec_model_id id, uint32_t layer, uint32_t layers)
{
	if (id == MODEL_DECODE)
		return layer + 1 == layers ? 3 : 1;
	return (layer % 6 == 5 ? 2.0 : 0.8) * (0.5 + (double)layer / layers);
}

static double launch_weight(uint32_t layer)
{
	return 0.7 + 0.2 * (layer % 4);
}

void cost_layers(const struct spec_model *model, enum spec_model_id id, uint32_t context, struct step_cost *out)
{
	double gpu = 0, mem = 0, launch = 0, tokens = (double)context / model->layers;

	for (uint32_t i = 0; i < model->layers; i++) {
		gpu += gpu_weight(id, i, model->layers);
		mem += mem_weight(id, i, model->layers);
		launch += launch_weight(i);
	}
	for (uint32_t i = 0; i < model->layers; i++)
		out[i] = (struct step_cost){
			.launch_cycles = model->launch_cycles * launch_weight(i) / launch,
			.launch_ns = model->launch_us * 1e3 / model->layers,
			.gpu_cycles = model->gpu_cycles * gpu_weight(id, i, model->layers) / gpu +
				      model->gpu_cycles_per_token * tokens,
			.mem_cycles = model->mem_cycles * mem_weight(id, i, model->layers) / mem +
				      model->mem_cycles_per_token * tokens,
			.exec_ns = model->exec_us * 1e3,
		};
}

static double ticks_ns(double cycles, uint64_t hz)
{
	return hz ? cycles / (double)hz * 1e9 : 0;
}

double cost_launch_ns(const struct step_cost *cost, uint64_t cpu_hz)
{
	return cost->launch_ns + ticks_ns(cost->launch_cycles, cpu_hz);
}

double cost_exec_ns(const struct step_cost *cost, uint64_t gpu_hz, uint64_t mem_hz)
{
	double p = ticks_ns(cost->gpu_cycles, gpu_hz), q = ticks_ns(cost->mem_cycles, mem_hz);

	return cost->exec_ns + cbrt(p * p * p + q * q * q);
}

/* Busy time of GPU and memory during an execution of `ns`. */
static void exec_work(const struct step_cost *cost, double ns, uint64_t gpu_hz, uint64_t mem_hz, double *gpu_ns,
		      double *mem_ns)
{
	double p = ticks_ns(cost->gpu_cycles, gpu_hz), q = ticks_ns(cost->mem_cycles, mem_hz);

	*gpu_ns = p + COST_STALL_SHARE * fmax(ns - p, 0);
	*mem_ns = fmin(q, ns);
}

void cost_post_exec(struct board_page *page, const struct step_cost *cost, double ns, uint64_t gpu_hz, uint64_t mem_hz)
{
	double gpu_ns, mem_ns;

	exec_work(cost, ns, gpu_hz, mem_hz, &gpu_ns, &mem_ns);
	page_busy(page, CLOCK_GPU, (uint64_t)ns, (uint64_t)gpu_ns);
	page_busy(page, CLOCK_MEM, (uint64_t)mem_ns, (uint64_t)mem_ns);
}

struct cost_total cost_timeline(const struct step_cost *layers, uint32_t count, const uint64_t hz[CLOCK_COUNT])
{
	struct cost_total total = {0};
	double launch_ns = 0, end_ns = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct step_cost *cost = &layers[i];
		double exec_ns = cost_exec_ns(cost, hz[CLOCK_GPU], hz[CLOCK_MEM]), gpu_ns, mem_ns;

		launch_ns += cost_launch_ns(cost, hz[CLOCK_CPU]);
		end_ns = fmax(launch_ns, end_ns) + exec_ns;
		exec_work(cost, exec_ns, hz[CLOCK_GPU], hz[CLOCK_MEM], &gpu_ns, &mem_ns);
		total.work_ns[CLOCK_GPU] += gpu_ns;
		total.work_ns[CLOCK_MEM] += mem_ns;
	}
	total.work_ns[CLOCK_CPU] = launch_ns;
	total.latency_ns = end_ns;
	return total;
}

double cost_power_w(const struct board_page *page, const size_t step[CLOCK_COUNT], const struct cost_total *total,
		    double period_ns)
{
	double watts = page->base_w, span_ns = fmax(period_ns, total->latency_ns);

	for (int id = 0; id < CLOCK_COUNT; id++) {
		if (page->steps[id] == 0)
			continue;
		watts += page->idle_w[id][step[id]] + page->busy_w[id][step[id]] * total->work_ns[id] / span_ns;
	}
	return watts;
}
