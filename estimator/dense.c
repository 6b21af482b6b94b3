/* SPDX-License-Identifier: MIT */
/* Cholesky factors of small matrices. */
#include "dense.h"

#include <errno.h>
#include <math.h>

int dense_cholesky(double *a, size_t n, size_t stride)
{
	for (size_t i = 0; i < n; i++) {
		double *row = a + i * stride;

		for (size_t j = 0; j <= i; j++) {
			const double *other = a + j * stride;
			double sum = row[j];

			for (size_t k = 0; k < j; k++)
				sum -= row[k] * other[k];
			if (j < i)
				row[j] = sum / other[j];
			else if (sum > 0 && isfinite(sum))
				row[i] = sqrt(sum);
			else
				return -EDOM;
		}
	}
	return 0;
}

void dense_forward(const double *lower, size_t n, size_t stride, double *b)
{
	for (size_t i = 0; i < n; i++) {
		const double *row = lower + i * stride;
		double sum = b[i];

		for (size_t k = 0; k < i; k++)
			sum -= row[k] * b[k];
		b[i] = sum / row[i];
	}
}

void dense_backward(const double *lower, size_t n, size_t stride, double *b)
{
	for (size_t i = n; i-- > 0;) {
		b[i] /= lower[i * stride + i];
		for (size_t k = 0; k < i; k++)
			b[k] -= lower[i * stride + k] * b[i];
	}
}

double dense_log_det(const double *lower, size_t n, size_t stride)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += 2 * log(lower[i * stride + i]);
	return sum;
}
