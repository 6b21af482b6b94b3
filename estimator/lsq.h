/* SPDX-License-Identifier: MIT */
/* Small non-linear least squares with Gaussian priors (a MAP fit). */
#ifndef ESTIMATOR_LSQ_H
#define ESTIMATOR_LSQ_H

#include <stddef.h>

#define LSQ_PARAMS_MAX    12
#define LSQ_RESIDUALS_MAX 128

/* Minimise sum_k rho(r_k(x)) + sum_j ((x_j - mean_j) / sd_j)^2, where rho is
 * Huber's: squares up to `huber`, linear beyond (0: squares throughout). */
struct lsq {
	size_t params;            /* 1 to LSQ_PARAMS_MAX */
	size_t residuals;         /* 0 to LSQ_RESIDUALS_MAX */
	const double *prior_mean; /* [params] */
	const double *prior_sd;   /* [params], each > 0 */
	double huber;
	size_t iterations;
	/* Residuals in units of their own standard deviation; with `jacobian`
	 * (else NULL) also dr_k/dx_j at [k * params + j]. */
	void (*evaluate)(const void *arg, const double *x, double *residual, double *jacobian);
	const void *arg;
};

/* Levenberg-Marquardt from `x`, which becomes the minimum. The value reached is
 * returned; `covariance` (params x params, or NULL) becomes the inverse of the
 * Gauss-Newton matrix there, priors included. A step to a residual that is not finite
 * is rejected. Allocates no memory. Method: Nocedal and Wright,
 * Numerical Optimization, 10.3; Huber weights by re-weighting each step. */
double lsq_solve(const struct lsq *problem, double *x, double *covariance);

/* Inverse of a symmetric positive definite matrix (n x n, row-major, n at most
 * LSQ_PARAMS_MAX) by Cholesky. Returns 0, or -EDOM where it is not. */
int lsq_invert(const double *matrix, size_t n, double *inverse);

#endif
