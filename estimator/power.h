/* SPDX-License-Identifier: MIT */
/* Board power over clocks from a few measurements (DESIGN 5.4).
 *
 * Non-negative combination of terms that never fall as a clock rises: a constant; per
 * clock f, f^2, f^3 (what a ticking clock costs: leakage and a clock tree at
 * a voltage that rises with f); and energy per inference over latency (what work costs:
 * V^2(f) per cycle, or f V^2(f) where units burn while they wait for memory, over the time it takes). Weak priors, then
 * a Gaussian process on the log of what is left. */
#ifndef ESTIMATOR_POWER_H
#define ESTIMATOR_POWER_H

#include "fit.h"

#define POWER_TERMS 15

struct power_row {
	struct fit_point at;
	struct op_point point;
	double latency_ns, power_uw;
	double var; /* of power_uw, relative: what few readings of a power that comes and goes leave open */
};

struct power_model {
	bool known; /* false: relative cost, 1e6 = every clock at its highest, busy */
	double top_hz[CLOCK_COUNT];
	double fastest_ns; /* latency that counts as full speed */
	double idle_share; /* of the clock terms of CPU and GPU, with nothing running */
	double weight[POWER_TERMS]; /* uW at full clocks, busy */
	size_t rows;
	struct fit_point at[FIT_ROWS_MAX];
	double alpha[FIT_ROWS_MAX];
};

/* `frame` gives the axes. `prior` is what the board drew under other work: the terms of
 * the clocks are common to both, and solved for together; where that does not agree with
 * the rows it is dropped. With neither rows nor prior (a board without sensor) the weights are
 * typical ones: see power.c. Returns nothing: it cannot fail. */
void power_solve(struct power_model *model, const struct grid *grid, const struct fit *frame, const struct power_row *rows,
		 size_t count, double fastest_ns, const struct board_powers *prior);

/* Power while inferences run back to back at a point where one takes
 * `latency_ns`; `*idle_uw` becomes the power at these clocks with nothing running. */
double power_predict(const struct power_model *model, const struct fit *frame, const struct fit_point *at,
		     struct op_point point, double latency_ns, double *idle_uw);

/* Make arrays over a grid monotone: never less than at a point with lower clocks. */
void power_monotone(const struct grid *grid, float *power_uw);

#endif
