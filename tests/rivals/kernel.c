/* SPDX-License-Identifier: MIT */
/* The kernel's own governors: schedutil for the CPU (the kernel's Documentation/scheduler/schedutil.rst: 1.25 x
 * utilisation, which PELT averages with a half-life of 32 ms and in terms of the highest clock), simple_ondemand for
 * the GPU (drivers/devfreq/governor_simpleondemand.c: up threshold 90, down differential 5), and the memory clock
 * where the power mode has it. NVIDIA's own GPU governor holds a load target in the same way. Clients do not wait
 * for them. Assumed: schedutil decides each 10 ms, devfreq polls each 50 ms; a work keeps each engine
 * busy for 85 % of its fastest time, longer as that engine's clock is lower. */
#include <math.h>
#include <stdlib.h>
#include "rival.h"

#define CPU_TICK_NS       10000000ULL
#define GPU_TICK_NS       50000000ULL
#define HALF_LIFE_NS      32e6
#define HEADROOM          1.25
#define UP                0.90
#define DOWN_DIFFERENTIAL 0.05

struct kernel {
	struct base base;
	double cpu_util, gpu_busy_ns, gpu_all_ns;
	uint64_t cpu_at_ns, gpu_at_ns;
};

/* The lowest entry of at least `hz`. */
static size_t entry(const struct grid *grid, int clock, double hz)
{
	size_t i = 0;

	while (i + 1 < grid->count[clock] && (double)grid->hz[clock][i] < hz)
		i++;
	return i;
}

static double top_hz(const struct grid *grid, int clock)
{
	return (double)grid->hz[clock][grid->count[clock] - 1];
}

static void busy(void *state, uint64_t ns, double cpu_share, double gpu_share)
{
	struct kernel *k = state;
	const struct grid *grid = &k->base.run->loop.board->grid;
	double now = cpu_share * (double)grid->hz[CLOCK_CPU][k->base.mover.axis[CLOCK_CPU]] / top_hz(grid, CLOCK_CPU);

	k->cpu_util = now + (k->cpu_util - now) * pow(0.5, (double)ns / HALF_LIFE_NS);
	k->gpu_busy_ns += gpu_share * (double)ns;
	k->gpu_all_ns += (double)ns;
}

static void tick(struct kernel *k)
{
	const struct grid *grid = &k->base.run->loop.board->grid;
	struct mover *m = &k->base.mover;
	size_t axis[CLOCK_COUNT] = {m->target[0], m->target[1], m->target[2]};

	if (m->now_ns >= k->cpu_at_ns) {
		axis[CLOCK_CPU] = entry(grid, CLOCK_CPU, HEADROOM * k->cpu_util * top_hz(grid, CLOCK_CPU));
		k->cpu_at_ns = m->now_ns + CPU_TICK_NS;
	}
	if (m->now_ns >= k->gpu_at_ns) {
		double load = k->gpu_all_ns > 0 ? k->gpu_busy_ns / k->gpu_all_ns : 0,
		       hz = (double)grid->hz[CLOCK_GPU][m->axis[CLOCK_GPU]];
		if (load > UP)
			axis[CLOCK_GPU] = grid->count[CLOCK_GPU] - 1;
		else if (load <= UP - DOWN_DIFFERENTIAL)
			axis[CLOCK_GPU] = entry(grid, CLOCK_GPU, hz * load / (UP - DOWN_DIFFERENTIAL / 2));
		k->gpu_busy_ns = k->gpu_all_ns = 0;
		k->gpu_at_ns = m->now_ns + GPU_TICK_NS;
	}
	mover_set(m, axis);
}

static uint64_t next(void *state)
{
	struct kernel *k = state;
	uint64_t at_ns = k->cpu_at_ns < k->gpu_at_ns ? k->cpu_at_ns : k->gpu_at_ns;

	return at_ns < k->base.mover.moved_ns ? at_ns : k->base.mover.moved_ns;
}

static void pass(void *state, uint64_t to_ns)
{
	struct kernel *k = state;

	mover_pass(&k->base.mover, to_ns);
	tick(k);
}

static void create(const struct stage_run *run, struct manager *manager)
{
	struct kernel *k = calloc(1, sizeof(*k));

	if (!k)
		abort();
	*manager = base_manager(k, run);
	manager->ready = base_ready_at_once;
	manager->next_ns = next;
	manager->pass = pass;
	manager->busy = busy;
	k->cpu_at_ns = CPU_TICK_NS;
	k->gpu_at_ns = GPU_TICK_NS;
}

const struct rival rival_kernel = {"kernel governors", "schedutil and simple_ondemand, Linux 6.1", create,
				   base_destroy};
