/* SPDX-License-Identifier: MIT */
/* Board power over clocks from a few measurements (docs/DESIGN.md 5.4).
 *
 * Non-negative combination of terms that never fall as a clock rises: a constant; per
 * clock f, f^2, f^3 (the cost of a running clock: leakage and a clock tree at a voltage that rises with f); and
 * energy per inference over latency (the cost of work: V^2(f) per cycle, or f V^2(f) where units wait for memory).
 * Weak priors, then a Gaussian process on the log of the residual. */
#ifndef ESTIMATOR_POWER_H
#define ESTIMATOR_POWER_H

#include "fit.h"

#define POWER_TERMS 15

struct power_row {
	struct fit_point at;
	struct op_point point;
	double latency_ns, power_uw;
	double var; /* relative variance of power_uw as the mean of a few readings */
};

struct power_model {
	bool known; /* false: relative cost, 1e6 = every clock at its highest, busy */
	double top_hz[CLOCK_COUNT];
	double fastest_ns;          /* latency that counts as full speed */
	double idle_share;          /* of the clock terms of CPU and GPU, with nothing running */
	double weight[POWER_TERMS]; /* uW at full clocks, busy */
	size_t rows;
	struct fit_point at[FIT_ROWS_MAX];
	double alpha[FIT_ROWS_MAX];
};

/* `frame` gives the axes. `prior` is the board's power under other work: the clock terms are common to both and fitted
 * together; a prior that contradicts the rows is ignored. With neither rows nor prior (a board without sensor) the
 * weights are the typical ones of power.c. */
void power_solve(struct power_model *model, const struct grid *grid, const struct fit *frame,
		 const struct power_row *rows, size_t count, double fastest_ns, const struct board_powers *prior);

/* Power while inferences run back to back at a point where one takes
 * `latency_ns`; `*idle_uw` becomes the power at these clocks with nothing running. */
double power_predict(const struct power_model *model, const struct fit *frame, const struct fit_point *at,
		     struct op_point point, double latency_ns, double *idle_uw);

/* Make arrays over a grid monotone: never less than at a point with lower clocks. */
void power_monotone(const struct grid *grid, float *power_uw);

#endif
