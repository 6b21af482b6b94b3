/* SPDX-License-Identifier: MIT */
/* The physical envelope: no time grows faster than the slowest clock's ratio.
 * From any measured point s and for any point p
 *   L(p) <= L(s) * max(1, max_i f_s,i / f_p,i)
 *   L(p) >= L(s) * min(1, min_i f_s,i / f_p,i)
 * since every part of an inference scales with at most one clock's period, and
 * a longest path over such parts is monotone and homogeneous of degree one in them. */
#ifndef ESTIMATOR_BOUND_H
#define ESTIMATOR_BOUND_H

#include "fit.h"

struct envelope {
	double low, high; /* logs of ns; -inf and inf where no row speaks */
};

/* From the rows of a fit at (nearly) the context of `at`, wild ones left out. */
struct envelope bound_envelope(const struct fit *fit, const struct fit_point *at);

/* Quantile of the standard normal distribution, for p in [0.5, 1): Acklam's
 * rational approximation, relative error under 1.2e-9. */
double bound_normal_quantile(double p);

#endif
