/* SPDX-License-Identifier: MIT */
/* FLAME's deadline-aware governor (arXiv 2604.15357), on flamed's surface, which is more exact than the one it was
 * published with: the CPU at its highest, the lowest GPU clock that meets the deadline, then the CPU as low as the
 * deadline allows; predictions are corrected by a running average of errors. The memory clock is outside its scope and
 * stays at its highest. Its profile of eight points is made beforehand, and costs it nothing here. Assumed, as not to
 * be confirmed: the average is over ten requests; there is no margin; beside others each request is planned alone, and
 * the clocks are the highest that any in flight asks for. */
#include <math.h>
#include <stdlib.h>
#include "../../estimator/model.h"
#include "rival.h"

#define SAMPLES  8
#define REPEATS  10
#define AVERAGED 10.0

struct flame {
	struct base base;
	struct model *model[LOOP_SESSIONS_MAX];
	double factor[LOOP_SESSIONS_MAX], predicted_ns[LOOP_SESSIONS_MAX];
	size_t cpu[LOOP_SESSIONS_MAX], gpu[LOOP_SESSIONS_MAX]; /* points of the requests in flight */
};

static void profile(struct flame *f, size_t s)
{
	const struct board_made *board = f->base.run->loop.board;
	const struct board_work *work = &board->work[f->base.run->loop.session[s].work];
	struct board_noise noise = work->noise;
	struct sim_rng rng = {f->base.run->loop.seed + s};
	struct model_options options;

	model_options_default(&options);
	f->model[s] = model_new(&board->grid, &options);
	for (int i = 0; i < SAMPLES; i++) {
		struct op_point at = grid_point(&board->grid, board->grid.points - 1);
		uint32_t context = 0;
		double gain, sum = 0;
		if (i > 0 && model_plan(f->model[s], PHASE_RUN, NULL, &at, &context, &gain) != 1)
			break;
		size_t point = grid_nearest(&board->grid, at);
		for (int k = 0; k < REPEATS; k++)
			sum += work->latency_ns[point] * board_noise_next(&noise, &rng) / REPEATS;
		struct sample sample = {.phase = PHASE_RUN,
					.point = at,
					.n = REPEATS,
					.latency_ns = (uint64_t)sum,
					.power_uw = (uint64_t)work->power_uw[point]};
		if (model_learn_sample(f->model[s], &sample))
			abort();
	}
	f->factor[s] = 1;
}

static double predicted(const struct flame *f, const struct surface *surface, size_t cpu, size_t gpu)
{
	const struct grid *grid = &f->base.run->loop.board->grid;

	return (double)surface->latency_ns[base_point(f->base.run, cpu, gpu, grid->count[CLOCK_MEM] - 1)];
}

static void follow(struct flame *f)
{
	size_t axis[CLOCK_COUNT] = {0, 0, f->base.run->loop.board->grid.count[CLOCK_MEM] - 1};

	for (size_t s = 0; s < f->base.run->loop.sessions; s++) {
		axis[CLOCK_CPU] = f->cpu[s] > axis[CLOCK_CPU] ? f->cpu[s] : axis[CLOCK_CPU];
		axis[CLOCK_GPU] = f->gpu[s] > axis[CLOCK_GPU] ? f->gpu[s] : axis[CLOCK_GPU];
	}
	mover_set(&f->base.mover, axis);
}

static void begin(void *state, size_t s, uint64_t deadline_ns)
{
	struct flame *f = state;
	const struct grid *grid = &f->base.run->loop.board->grid;
	const struct surface *surface = model_surface(f->model[s], PHASE_RUN, 0);
	size_t cpu = grid->count[CLOCK_CPU] - 1, gpu = 0;

	while (gpu + 1 < grid->count[CLOCK_GPU] && predicted(f, surface, cpu, gpu) * f->factor[s] > (double)deadline_ns)
		gpu++;
	while (cpu > 0 && predicted(f, surface, cpu - 1, gpu) * f->factor[s] <= (double)deadline_ns)
		cpu--;
	f->cpu[s] = cpu;
	f->gpu[s] = gpu;
	f->predicted_ns[s] = predicted(f, surface, cpu, gpu);
	follow(f);
}

static void end(void *state, size_t s, uint64_t total_ns)
{
	struct flame *f = state;

	f->factor[s] += ((double)total_ns / f->predicted_ns[s] - f->factor[s]) / AVERAGED;
	f->cpu[s] = f->gpu[s] = 0;
	for (size_t k = 0; k < f->base.run->loop.sessions; k++)
		if (f->cpu[k] || f->gpu[k]) {
			follow(f);
			return;
		}
}

static void create(const struct stage_run *run, struct manager *manager)
{
	struct flame *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	*manager = base_manager(f, run);
	manager->begin = begin;
	manager->end = end;
	for (size_t s = 0; s < run->loop.sessions; s++)
		profile(f, s);
}

static void destroy(struct manager *manager)
{
	struct flame *f = manager->state;

	for (size_t s = 0; s < f->base.run->loop.sessions; s++)
		model_free(f->model[s]);
	free(f);
}

const struct rival rival_flame = {"FLAME's governor", "arXiv 2604.15357, on flamed's surface", create, destroy};
