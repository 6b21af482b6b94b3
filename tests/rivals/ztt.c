/* SPDX-License-Identifier: MIT */
/* zTT (Kim et al., MobiSys 2021; the authors' agent.py for Jetson TX2): a Q-network of 7-6-6-9 that is told clocks,
 * powers, temperatures and frame rate once a second and takes one of nine joint actions, three CPU by three GPU
 * clocks (entries 3, 7 and 11 of 12). Reward: min(1, rate / target) + 0.2 tanh(target - temperature) + 2 / power in
 * 100 mW. Every step ends an episode there, so a target is its reward; batches of 64 of the last 500 samples,
 * exploration from 1 down by 0.95 a step once 200 samples are there, samples of reward above 1 kept threefold; Adam,
 * rate 0.05. Assumed: it has run for 600 s on this very work before, none of which is counted; it is never hot; the
 * rate is what the latencies allow and the target is the deadline's, with the session that is furthest behind; the
 * memory clock is highest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "rival.h"

#define STEP_NS    1000000000ULL
#define INPUTS     7
#define HIDDEN     6
#define ACTIONS    9
#define MEMORY     500
#define TRAIN_FROM 200
#define BATCH      64
#define RATE       0.05
#define DECAY      0.95
#define BETA       2.0
#define PRACTICE_S 600
#define CELSIUS    40.0

/* Weights and biases of three layers, one after the other. */
#define W1      0
#define B1      (W1 + INPUTS * HIDDEN)
#define W2      (B1 + HIDDEN)
#define B2      (W2 + HIDDEN * HIDDEN)
#define W3      (B2 + HIDDEN)
#define B3      (W3 + HIDDEN * ACTIONS)
#define WEIGHTS (B3 + ACTIONS)

struct memory {
	double state[INPUTS], reward;
	int action;
};

struct ztt {
	struct base base;
	struct sim_rng rng;
	double weight[WEIGHTS], first[WEIGHTS], second[WEIGHTS]; /* and Adam's moments */
	size_t steps;
	struct memory memory[MEMORY];
	size_t memories, next_memory;
	double epsilon, state[INPUTS];
	int action;
	uint64_t at_ns;
	double power_uw, behind; /* latest power; least rate over target in this second */
	double deadline_ns[LOOP_SESSIONS_MAX];
};

struct activity {
	double hidden1[HIDDEN], hidden2[HIDDEN], q[ACTIONS];
};

static void forward(const double *w, const double *in, struct activity *a)
{
	for (int i = 0; i < HIDDEN; i++) {
		a->hidden1[i] = w[B1 + i];
		for (int k = 0; k < INPUTS; k++)
			a->hidden1[i] += w[W1 + i * INPUTS + k] * in[k];
		a->hidden1[i] = fmax(a->hidden1[i], 0);
	}
	for (int i = 0; i < HIDDEN; i++) {
		a->hidden2[i] = w[B2 + i];
		for (int k = 0; k < HIDDEN; k++)
			a->hidden2[i] += w[W2 + i * HIDDEN + k] * a->hidden1[k];
		a->hidden2[i] = fmax(a->hidden2[i], 0);
	}
	for (int i = 0; i < ACTIONS; i++) {
		a->q[i] = w[B3 + i];
		for (int k = 0; k < HIDDEN; k++)
			a->q[i] += w[W3 + i * HIDDEN + k] * a->hidden2[k];
	}
}

static void backward(const struct ztt *z, const struct memory *m, double *gradient)
{
	struct activity a;
	double at2[HIDDEN], at1[HIDDEN], error;

	forward(z->weight, m->state, &a);
	error = 2 * (a.q[m->action] - m->reward) / (BATCH * ACTIONS);
	gradient[B3 + m->action] += error;
	for (int i = 0; i < HIDDEN; i++) {
		gradient[W3 + m->action * HIDDEN + i] += error * a.hidden2[i];
		at2[i] = a.hidden2[i] > 0 ? error * z->weight[W3 + m->action * HIDDEN + i] : 0;
		gradient[B2 + i] += at2[i];
	}
	for (int k = 0; k < HIDDEN; k++) {
		at1[k] = 0;
		for (int i = 0; i < HIDDEN; i++) {
			gradient[W2 + i * HIDDEN + k] += at2[i] * a.hidden1[k];
			at1[k] += at2[i] * z->weight[W2 + i * HIDDEN + k];
		}
		at1[k] = a.hidden1[k] > 0 ? at1[k] : 0;
		gradient[B1 + k] += at1[k];
		for (int j = 0; j < INPUTS; j++)
			gradient[W1 + k * INPUTS + j] += at1[k] * m->state[j];
	}
}

static void train(struct ztt *z)
{
	double gradient[WEIGHTS] = {0};

	z->epsilon *= DECAY;
	for (int i = 0; i < BATCH; i++)
		backward(z, &z->memory[(size_t)sim_uniform(&z->rng, 0, (double)z->memories - 1e-6)], gradient);
	z->steps++;
	for (int i = 0; i < WEIGHTS; i++) {
		z->first[i] = 0.9 * z->first[i] + 0.1 * gradient[i];
		z->second[i] = 0.999 * z->second[i] + 0.001 * gradient[i] * gradient[i];
		double mean = z->first[i] / (1 - pow(0.9, (double)z->steps)),
		       square = z->second[i] / (1 - pow(0.999, (double)z->steps));
		z->weight[i] -= RATE * mean / (sqrt(square) + 1e-7);
	}
}

static void remember(struct ztt *z, const struct memory *m)
{
	z->memory[z->next_memory] = *m;
	z->next_memory = (z->next_memory + 1) % MEMORY;
	z->memories += z->memories < MEMORY;
}

static size_t entry_of(size_t count, int third)
{
	return (size_t)lround((double)(4 * third + 3) / 11 * (double)(count - 1));
}

static size_t point_of(const struct ztt *z, int action)
{
	const struct grid *grid = &z->base.run->loop.board->grid;

	return base_point(z->base.run, entry_of(grid->count[CLOCK_CPU], action / 3),
			  entry_of(grid->count[CLOCK_GPU], action % 3), grid->count[CLOCK_MEM] - 1);
}

/* One second is over: learn from it, and choose for the next. Inputs are scaled as theirs are: entries of 12, 100 mW,
 * degrees. */
static void second(struct ztt *z, double power_uw, double ratio)
{
	double power = fmax(power_uw / 1e5, 1), state[INPUTS] = {4 * (z->action / 3) + 3,
								 4 * (z->action % 3) + 3,
								 power / 2,
								 power / 2,
								 CELSIUS,
								 CELSIUS,
								 30 * ratio};
	struct memory m = {.reward = fmin(1, ratio) + 0.2 * tanh(50 - CELSIUS) + BETA / power, .action = z->action};
	struct activity a;

	memcpy(m.state, z->state, sizeof(m.state));
	memcpy(z->state, state, sizeof(state));
	for (int i = 0; i < (m.reward > 1 || m.reward < 0 ? 3 : 1); i++)
		remember(z, &m);
	if (z->memories >= TRAIN_FROM)
		train(z);
	forward(z->weight, z->state, &a);
	if (sim_uniform(&z->rng, 0, 1) <= z->epsilon) {
		z->action = (int)sim_uniform(&z->rng, 0, ACTIONS - 1e-6);
	} else if (ratio < 1 && sim_uniform(&z->rng, 0, 1) <= 0.3) { /* behind, and cool: something at least as high */
		int cpu = (int)sim_uniform(&z->rng, z->action / 3, 3 - 1e-6),
		    gpu = (int)sim_uniform(&z->rng, z->action % 3, 3 - 1e-6);
		z->action = 3 * cpu + gpu;
	} else {
		z->action = 0;
		for (int i = 1; i < ACTIONS; i++)
			z->action = a.q[i] > a.q[z->action] ? i : z->action;
	}
}

/* The observations of a second at these clocks: none of its requests waits for another. */
static void practise(struct ztt *z)
{
	const struct loop_run *run = &z->base.run->loop;

	for (int i = 0; i < PRACTICE_S; i++) {
		size_t point = point_of(z, z->action);
		double ratio = INFINITY, power = 0;
		for (size_t s = 0; s < run->sessions; s++) {
			const struct board_work *work = &run->board->work[run->session[s].work];
			ratio = fmin(ratio,
				     run->session[s].deadline_ns / (work->latency_ns[point] * (double)run->sessions *
								    exp(0.004 * sim_gauss(&z->rng))));
			power += work->power_uw[point] / (double)run->sessions;
		}
		second(z, power, ratio);
	}
}

static void begin(void *state, size_t s, uint64_t deadline_ns)
{
	((struct ztt *)state)->deadline_ns[s] = (double)deadline_ns;
}

static void end(void *state, size_t s, uint64_t total_ns)
{
	struct ztt *z = state;

	z->behind = fmin(z->behind, z->deadline_ns[s] / (double)total_ns);
}

static void sense(void *state, double power_uw)
{
	((struct ztt *)state)->power_uw = power_uw;
}

static uint64_t next(void *state)
{
	struct ztt *z = state;

	return z->at_ns < z->base.mover.moved_ns ? z->at_ns : z->base.mover.moved_ns;
}

static void pass(void *state, uint64_t to_ns)
{
	struct ztt *z = state;

	mover_pass(&z->base.mover, to_ns);
	if (to_ns < z->at_ns)
		return;
	z->at_ns += STEP_NS;
	if (isfinite(z->behind))
		second(z, z->power_uw, z->behind);
	z->behind = INFINITY;
	mover_point(&z->base.mover, point_of(z, z->action));
}

static void create(const struct stage_run *run, struct manager *manager)
{
	struct ztt *z = calloc(1, sizeof(*z));

	if (!z)
		abort();
	*manager = base_manager(z, run);
	manager->begin = begin;
	manager->end = end;
	manager->ready = base_ready_at_once;
	manager->sense = sense;
	manager->next_ns = next;
	manager->pass = pass;
	z->rng.state = run->loop.seed + 5;
	for (int i = 0; i < WEIGHTS; i++)
		z->weight[i] = i < B1 || (i >= W2 && i < B2) || (i >= W3 && i < B3) ? 0.05 * sim_gauss(&z->rng) : 0;
	z->epsilon = 1;
	z->at_ns = STEP_NS;
	z->behind = INFINITY;
	z->action = ACTIONS - 1;
	practise(z);
	mover_start(&z->base.mover, run->loop.board, point_of(z, z->action));
}

const struct rival rival_ztt = {"zTT", "Kim et al., MobiSys 2021", create, base_destroy};
