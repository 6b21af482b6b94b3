/* SPDX-License-Identifier: MIT */
/* Latency from a few end-to-end measurements, with its uncertainty: the form of
 * shape.h, plus a Gaussian process for deviations along whole rows, plus an
 * independent deviation at every point.
 *
 *   log latency(p) = shape(x; p) + r(p) + e(p)
 *   x ~ Gaussian prior     r ~ GP(0, spread^2 K)     e ~ N(0, nugget^2), independent from point to point
 *
 * x is found by Gauss-Newton at each (spread, nugget) of a small table, its
 * posterior is Laplace's approximation there, and the table's entries and local optima are
 * averaged by their marginal likelihood. Rasmussen and Williams, Gaussian Processes
 * for Machine Learning, 2.7 (explicit basis functions) and 5.4; MacKay, Information Theory,
 * Inference and Learning Algorithms, ch. 27-28. */
#ifndef ESTIMATOR_FIT_H
#define ESTIMATOR_FIT_H

#include "grid.h"
#include "lsq.h"
#include "shape.h"

#define FIT_ROWS_MAX  24
#define FIT_MODES_MAX 4
#define FIT_AXES      (CLOCK_COUNT + 1) /* clocks, and context */

struct timeline;

/* A point with its coordinates in the Gaussian process. */
struct fit_point {
	struct place place;
	double timeline;    /* log ns by the timeline, where the fit has one */
	double u[FIT_AXES]; /* log slowness of each clock, log(1 + context / 64) */
};

struct fit_row {
	struct fit_point at;
	double log_ns;
	double noise_var; /* of log_ns as a measurement of this point */
	bool others;      /* of other boards, with a common error */
};

/* One optimum at one (spread, nugget). */
struct fit_mode {
	double weight; /* they sum to 1 */
	double spread, nugget;
	double param[LSQ_PARAMS_MAX];
	double covariance[LSQ_PARAMS_MAX * LSQ_PARAMS_MAX];
	double lower[FIT_ROWS_MAX * FIT_ROWS_MAX];    /* Cholesky factor of the rows' covariance */
	double alpha[FIT_ROWS_MAX];                   /* its inverse times the residuals */
	double slopes[FIT_ROWS_MAX * LSQ_PARAMS_MAX]; /* its inverse times the slopes in the parameters */
};

struct fit {
	enum phase phase;
	size_t params, rows, modes; /* modes 0: nothing fitted */
	struct clock_scale scale;
	bool active[FIT_AXES];         /* axes that vary */
	struct timeline *timeline;     /* used instead of the form; not owned; NULL: none */
	double prior_sd[1 + FIT_AXES]; /* of x, with a timeline */
	/* Deviation of the error that rows of other boards share: in level, and in the slope over each axis. */
	double others_sd[1 + FIT_AXES];
	struct fit_row row[FIT_ROWS_MAX];
	struct fit_mode mode[FIT_MODES_MAX];
};

struct fit_guess {
	double log_ns;
	double sd; /* standard deviation of the log latency at this point */
};

/* Initialise for a phase, with the scale and axes of `grid` and no rows. */
void fit_init(struct fit *fit, enum phase phase, const struct grid *grid);
/* Use log latency(p) = log timeline(p) + x_0 + sum_i x_i u_i(p) + r(p) + e(p) instead of the end-to-end form: the
 * layers give the shape, and end-to-end measurements correct it. Call it right after fit_init(). */
void fit_use_timeline(struct fit *fit, struct timeline *timeline);
/* log ns of the form or the timeline alone, and its slopes. */
double fit_mean(const struct fit *fit, const double *x, const struct fit_point *at, double *gradient);
/* The first leaves `timeline` unset, for callers that have it from a whole surface; the second evaluates it. */
struct fit_point fit_place(const struct fit *fit, struct op_point point, uint32_t context);
struct fit_point fit_point(const struct fit *fit, struct op_point point, uint32_t context);

/* Fit to `row[0..rows)`, which the caller has set (rows 1 to FIT_ROWS_MAX). A
 * row that no choice of the parameters explains is an outlier, and its noise_var is
 * raised. Allocates no memory. */
void fit_solve(struct fit *fit);

/* The state that fit_solve() would reach at `param` without any latency: the uncertainty follows from the positions
 * of the rows alone. For planning. */
void fit_assume(struct fit *fit, struct fit_mode *mode, const double *param, double spread, double nugget);

/* Prediction at a point. */
struct fit_guess fit_predict(const struct fit *fit, const struct fit_point *at);

/* Covariance structure of one mode, for planning: the prior kernel between two
 * points, the nugget where they are the same one. */
double fit_correlation(const struct fit *fit, const struct fit_point *a, const struct fit_point *b); /* K */
double fit_kernel(const struct fit *fit, const struct fit_mode *mode, const struct fit_point *a,
		  const struct fit_point *b);

#endif
