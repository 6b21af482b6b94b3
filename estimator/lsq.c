/* SPDX-License-Identifier: MIT */
/* Small non-linear least squares with Gaussian priors. */
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "dense.h"
#include "lsq.h"

#define N             LSQ_PARAMS_MAX
#define DAMPING_FIRST 1e-3
#define DAMPING_MAX   1e9
#define TOLERANCE     1e-5 /* relative fall of the objective that ends the search */

static void substitute(const double *lower, size_t n, double *b)
{
	dense_forward(lower, n, n, b);
	dense_backward(lower, n, n, b);
}

int lsq_invert(const double *matrix, size_t n, double *inverse)
{
	double lower[N * N], column[N] = {0};
	int rc;

	memcpy(lower, matrix, n * n * sizeof(*lower));
	rc = dense_cholesky(lower, n, n);
	if (rc)
		return rc;
	for (size_t j = 0; j < n; j++) {
		for (size_t i = 0; i < n; i++)
			column[i] = i == j;
		substitute(lower, n, column);
		for (size_t i = 0; i < n; i++)
			inverse[i * n + j] = column[i];
	}
	return 0;
}

static double objective(const struct lsq *p, const double *x, const double *residual)
{
	double sum = 0;

	for (size_t k = 0; k < p->residuals; k++) {
		double r = fabs(residual[k]);
		sum += p->huber > 0 && r > p->huber ? p->huber * (2 * r - p->huber) : r * r;
	}
	for (size_t j = 0; j < p->params; j++) {
		double r = (x[j] - p->prior_mean[j]) / p->prior_sd[j];
		sum += r * r;
	}
	return isfinite(sum) ? sum : INFINITY;
}

/* Gauss-Newton matrix and the downhill direction at x. */
static void normal_equations(const struct lsq *p, const double *x, const double *residual, const double *jacobian,
			     double *matrix, double *down)
{
	size_t n = p->params;

	memset(matrix, 0, n * n * sizeof(*matrix));
	for (size_t j = 0; j < n; j++) {
		double precision = 1 / (p->prior_sd[j] * p->prior_sd[j]);
		matrix[j * n + j] = precision;
		down[j] = -precision * (x[j] - p->prior_mean[j]);
	}
	for (size_t k = 0; k < p->residuals; k++) {
		const double *row = jacobian + k * n;
		double r = residual[k], size = fabs(r);
		double weight = p->huber > 0 && size > p->huber ? p->huber / size : 1;

		for (size_t i = 0; i < n; i++) {
			down[i] -= weight * row[i] * r;
			for (size_t j = 0; j <= i; j++)
				matrix[i * n + j] += weight * row[i] * row[j];
		}
	}
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n; j++)
			matrix[i * n + j] = matrix[j * n + i];
}

static bool damped_step(const double *matrix, const double *down, size_t n, double damping, const double *x,
			double *next)
{
	double damped[N * N], step[N] = {0};

	memcpy(damped, matrix, n * n * sizeof(*damped));
	for (size_t j = 0; j < n; j++) {
		damped[j * n + j] *= 1 + damping;
		step[j] = down[j];
	}
	if (dense_cholesky(damped, n, n))
		return false;
	substitute(damped, n, step);
	for (size_t j = 0; j < n; j++)
		next[j] = x[j] + step[j];
	return true;
}

double lsq_solve(const struct lsq *p, double *x, double *covariance)
{
	double residual[LSQ_RESIDUALS_MAX], jacobian[LSQ_RESIDUALS_MAX * N];
	double matrix[N * N], down[N] = {0}, next[N], damping = DAMPING_FIRST, best;
	bool stop = false;

	p->evaluate(p->arg, x, residual, p->iterations || covariance ? jacobian : NULL);
	best = objective(p, x, residual);
	for (size_t i = 0; i < p->iterations && !stop; i++) {
		double value = INFINITY;

		normal_equations(p, x, residual, jacobian, matrix, down);
		for (; damping < DAMPING_MAX; damping *= 8) {
			if (!damped_step(matrix, down, p->params, damping, x, next))
				continue;
			p->evaluate(p->arg, next, residual, NULL);
			value = objective(p, next, residual);
			if (value <= best)
				break;
		}
		stop = damping >= DAMPING_MAX || best - value < TOLERANCE * (1 + best);
		if (value <= best) {
			memcpy(x, next, p->params * sizeof(*x));
			best = value;
			damping = fmax(damping / 8, 1e-9);
		}
		p->evaluate(p->arg, x, residual, jacobian);
	}
	if (covariance) {
		normal_equations(p, x, residual, jacobian, matrix, down);
		if (lsq_invert(matrix, p->params, covariance))
			memset(covariance, 0, p->params * p->params * sizeof(*covariance));
	}
	return best;
}
