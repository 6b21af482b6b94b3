/* SPDX-License-Identifier: MIT */
/* The physical envelope: no latency grows by more than the largest ratio of clocks.
 * From any measured point s and for any point p
 *   L(p) <= L(s) * max(1, max_i f_s,i / f_p,i)
 *   L(p) >= L(s) * min(1, min_i f_s,i / f_p,i)
 * since every part of an inference scales with at most one clock's period, and
 * a longest path over such parts is monotone and homogeneous of degree one in them. Latency does not
 * fall as a context grows; it grows at most with the square of the tokens of a prefill, and linearly with those of a
 * decode. */
#ifndef ESTIMATOR_BOUND_H
#define ESTIMATOR_BOUND_H

#include "fit.h"

struct envelope {
	double low, high; /* logs of ns; -inf and inf without a row to bound them */
};

/* From the rows of a fit, outliers and those of other boards excluded. */
struct envelope bound_envelope(const struct fit *fit, const struct fit_point *at);

#endif
