/* SPDX-License-Identifier: MIT */
/* The physical envelope: no latency grows by more than the largest ratio of clocks.
 * From any measured point s and for any point p
 *   L(p) <= L(s) * max(1, max_i f_s,i / f_p,i)
 *   L(p) >= L(s) * min(1, min_i f_s,i / f_p,i)
 * since every part of an inference scales with at most one clock's period, and
 * a longest path over such parts is monotone and homogeneous of degree one in them. Over contexts no latency falls as
 * they grow, and none grows faster than with the square of a prefill's tokens, or with a decode's. */
#ifndef ESTIMATOR_BOUND_H
#define ESTIMATOR_BOUND_H

#include "fit.h"

struct envelope {
	double low, high; /* logs of ns; -inf and inf without a row to bound them */
};

/* From the rows of a fit, without outliers. */
struct envelope bound_envelope(const struct fit *fit, const struct fit_point *at);

#endif
