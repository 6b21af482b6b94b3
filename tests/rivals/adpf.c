/* SPDX-License-Identifier: MIT */
/* The method of Android's performance hints: a PID controller on the durations that a session reports, as in the Pixel
 * power HAL (power-libperfmgr, PowerHintSession.cpp): the output is added to a control variable, overruns weigh more
 * than underruns, and a session starts at the highest. The variable is a floor on what the clocks may be; with
 * several sessions the highest counts. Assumed, as gains are a device's own configuration: the error is a share of
 * the target, the target 0.95 x the deadline, gains 0.5 over and 0.06 under it, integral 0.002 within +-5, derivative
 * 0.02; CPU and GPU go by the variable, memory is highest. */
#include <math.h>
#include <stdlib.h>
#include "rival.h"

#define TARGET_SHARE    0.95
#define GAIN_OVER       0.5
#define GAIN_UNDER      0.06
#define GAIN_INTEGRAL   0.002
#define GAIN_DERIVATIVE 0.02
#define INTEGRAL_MAX    5.0

struct adpf {
	struct base base;
	double level[LOOP_SESSIONS_MAX], integral[LOOP_SESSIONS_MAX], before[LOOP_SESSIONS_MAX],
		target_ns[LOOP_SESSIONS_MAX];
};

static void follow(struct adpf *a)
{
	const struct grid *grid = &a->base.run->loop.board->grid;
	size_t axis[CLOCK_COUNT] = {0, 0, grid->count[CLOCK_MEM] - 1};
	double level = 0;

	for (size_t s = 0; s < a->base.run->loop.sessions; s++)
		level = fmax(level, a->level[s]);
	for (int c = CLOCK_CPU; c <= CLOCK_GPU; c++)
		axis[c] = (size_t)ceil(level * (double)(grid->count[c] - 1) - 1e-9);
	mover_set(&a->base.mover, axis);
}

static void come(void *state, size_t s)
{
	struct adpf *a = state;

	a->level[s] = 1;
	a->integral[s] = a->before[s] = 0;
	follow(a);
}

static void go(void *state, size_t s)
{
	struct adpf *a = state;

	a->level[s] = 0;
	follow(a);
}

static void begin(void *state, size_t s, uint64_t deadline_ns)
{
	((struct adpf *)state)->target_ns[s] = TARGET_SHARE * (double)deadline_ns;
}

static void end(void *state, size_t s, uint64_t total_ns)
{
	struct adpf *a = state;
	double error = (double)total_ns / a->target_ns[s] - 1;

	a->integral[s] = fmin(fmax(a->integral[s] + error, -INTEGRAL_MAX), INTEGRAL_MAX);
	double out = (error > 0 ? GAIN_OVER : GAIN_UNDER) * error + GAIN_INTEGRAL * a->integral[s] +
		     GAIN_DERIVATIVE * (error - a->before[s]);
	a->before[s] = error;
	a->level[s] = fmin(fmax(a->level[s] + out, 0), 1);
	follow(a);
}

static void create(const struct stage_run *run, struct manager *manager)
{
	struct adpf *a = calloc(1, sizeof(*a));

	if (!a)
		abort();
	*manager = base_manager(a, run);
	manager->open = come;
	manager->close = go;
	manager->begin = begin;
	manager->end = end;
	manager->ready = base_ready_at_once;
}

const struct rival rival_adpf = {"PID on durations", "Android performance hints, Pixel power HAL", create,
				 base_destroy};
