/* SPDX-License-Identifier: MIT */
/* The physical envelope, and quantiles. */
#include "bound.h"

#include <math.h>

#define WILD_VAR 0.04 /* noise_var above which a row is not believed */
#define CONTEXT_NEAR 0.02 /* in the context's own coordinate */

struct envelope bound_envelope(const struct fit *fit, const struct fit_point *at)
{
	struct envelope e = {-INFINITY, INFINITY};

	for (size_t k = 0; k < fit->rows; k++) {
		const struct fit_row *row = &fit->row[k];
		double slower = 0, faster = 0;

		if (row->noise_var > WILD_VAR || fabs(row->at.u[CLOCK_COUNT] - at->u[CLOCK_COUNT]) > CONTEXT_NEAR)
			continue;
		for (int c = 0; c < CLOCK_COUNT; c++) {
			slower = fmax(slower, at->u[c] - row->at.u[c]);
			faster = fmin(faster, at->u[c] - row->at.u[c]);
		}
		e.high = fmin(e.high, row->log_ns + slower);
		e.low = fmax(e.low, row->log_ns + faster);
	}
	return e;
}

double bound_normal_quantile(double p)
{
	static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02,
				   1.383577518672690e+02, -3.066479806614716e+01, 2.506628277459239e+00};
	static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
				   6.680131188771972e+01, -1.328068155288572e+01};
	static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
				   -2.549732539343734e+00, 4.374664141464968e+00, 2.938163982698783e+00};
	static const double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00};

	if (p <= 1 - 0.02425) {
		double q = p - 0.5, r = q * q;
		return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
		       (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
	}
	double q = sqrt(-2 * log(1 - p));
	return -(((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
	       ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
}
