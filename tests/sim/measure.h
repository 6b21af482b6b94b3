/* SPDX-License-Identifier: MIT */
/* Measuring a simulated model as a client would measure a real one. */
#ifndef TESTS_MEASURE_H
#define TESTS_MEASURE_H

#include "../../estimator/grid.h"
#include "../../estimator/sample.h"
#include "sim.h"

#define MEASURE_INFERENCES 10

/* 29 CPU x 11 GPU clocks as on an AGX Orin, with `memory` also 4 memory clocks as
 * on an Orin Nano, else one. */
void measure_grid(struct grid *grid, bool memory);
struct sim_clocks measure_clocks(struct op_point point);
struct sim_clocks measure_top(const struct grid *grid);
/* Point number as in grid.h. */
struct op_point measure_point(const struct grid *grid, size_t index);

struct measure {
	const struct sim_model *model;
	enum phase phase;
	struct sim_rng *rng;
	struct sim_noise *noise;
};

/* Mean and spread of MEASURE_INFERENCES inferences. The first `reps` of them
 * are also taken layer by layer into rows[reps * layers] (0: none). */
struct sample measure_sample(const struct measure *measure, struct op_point point, uint32_t context, uint32_t reps,
			     struct layer *rows);

/* The value to predict: mean latency in ns, without noise. */
double measure_truth_ns(const struct measure *measure, struct op_point point, uint32_t context);

/* Errors of predictions, gathered and summed up. */
struct errors {
	double *value; /* |predicted / truth - 1| */
	size_t count, room;
};

void errors_add(struct errors *errors, double predicted, double truth);
double errors_mean(const struct errors *errors);
/* Sorts the values. */
double errors_quantile(struct errors *errors, double share);
void errors_free(struct errors *errors);

#endif
