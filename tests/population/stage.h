/* SPDX-License-Identifier: MIT */
/* One run of the population: clients whose requests arrive, share a board of boards.h and end, under any manager of
 * clocks. The same run gives every manager the same board, arrivals and noise. */
#ifndef TESTS_POPULATION_STAGE_H
#define TESTS_POPULATION_STAGE_H

#include "loop.h"

#define STAGE_NEVER UINT64_MAX

/* The manager, which moves the clocks. Times are ns since the run began. */
struct manager {
	void *state;
	/* A client begins and ends; its requests are of work `s`. */
	void (*open)(void *state, size_t s);
	void (*close)(void *state, size_t s);
	/* A request is announced, with its deadline; whether its client may run it; and it has ended. */
	void (*begin)(void *state, size_t s, uint64_t deadline_ns);
	bool (*ready)(void *state, size_t s);
	void (*end)(void *state, size_t s, uint64_t total_ns);
	/* The time at which the manager acts next by itself, and advance time to then at most. */
	uint64_t (*next_ns)(void *state);
	void (*pass)(void *state, uint64_t to_ns);
	/* Clocks in effect, and the power sensor's value from now on. */
	size_t (*point)(void *state);
	void (*sense)(void *state, double power_uw);
	/* Utilisation of CPU and GPU, which only a kernel's governor uses; NULL: not needed. */
	void (*busy)(void *state, uint64_t ns, double cpu_share, double gpu_share);
};

struct stage_run {
	struct loop_run loop;
	/* A session is there from the join-th to the leave-th end of session 0. */
	size_t join[LOOP_SESSIONS_MAX], leave[LOOP_SESSIONS_MAX];
};

struct stage_outcome {
	/* of all; after warm requests of each session, while some point keeps every deadline of the active ones */
	size_t requests, counted, missed;
	size_t early, early_missed; /* the first STAGE_FIRST of a session */
	double power;               /* over the oracle's, while every session there is warm; 0: they never were */
	double late_power;          /* the same in the last tenth */
	double energy_uj, busy_ns, all_ns; /* of the whole run; time with a request in flight */
	double rate_ratio;                 /* mean of min(1, deadline / total) */
	size_t steady_after;               /* requests of session 0 until power stays within 5 % of where it ends */
};

#define STAGE_FIRST 30

/* Joins, leaves and the loop's draw; false where nothing is feasible. `sessions` 1: alone. */
bool stage_draw(struct stage_run *run, const struct board_made *board, size_t sessions, size_t requests, uint64_t seed);
/* Price of the cheapest point at which no request of the sessions in `mask` is late, each of them with the noise at
 * QUANTILE_DEFAULT; INFINITY: there is none. */
double stage_optimum(const struct stage_run *run, unsigned mask, size_t *point);
void stage_play(const struct stage_run *run, const struct manager *manager, struct stage_outcome *out);

#endif
