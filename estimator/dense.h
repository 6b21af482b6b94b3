/* SPDX-License-Identifier: MIT */
/* Cholesky factors of small symmetric positive definite matrices, row-major
 * with a given stride. Golub and Van Loan, Matrix Computations, 4.2. */
#ifndef ESTIMATOR_DENSE_H
#define ESTIMATOR_DENSE_H

#include <stddef.h>

/* In place: the lower triangle becomes L with L L' = matrix; the upper one is ignored. Returns 0, or -EDOM when the
 * matrix is not positive definite. */
int dense_cholesky(double *matrix, size_t n, size_t stride);

/* b becomes L^-1 b, or L'^-1 b. */
void dense_forward(const double *lower, size_t n, size_t stride, double *b);
void dense_backward(const double *lower, size_t n, size_t stride, double *b);

/* log of the determinant of L L'. */
double dense_log_det(const double *lower, size_t n, size_t stride);

#endif
