/* SPDX-License-Identifier: MIT */
/* The physical envelope. */
#include "bound.h"

#include <math.h>

#define WILD_VAR 0.04 /* a row with a larger noise_var is an outlier */

/* The largest growth of latency, in logs, from one context to a longer one: a prefill grows at most with the square of
 * its tokens, a decode at most linearly. */
static double growth_most(const struct fit *fit, const struct fit_point *from, const struct fit_point *to)
{
	double degree = fit->phase == PHASE_PREFILL ? 2 : 1;

	return to->place.grown > from->place.grown ? degree * log(to->place.grown / from->place.grown) : 0;
}

struct envelope bound_envelope(const struct fit *fit, const struct fit_point *at)
{
	struct envelope e = {-INFINITY, INFINITY};

	for (size_t k = 0; k < fit->rows; k++) {
		const struct fit_row *row = &fit->row[k];
		double slower = 0, faster = 0;

		if (row->others || row->noise_var > WILD_VAR)
			continue;
		for (int c = 0; c < CLOCK_COUNT; c++) {
			slower = fmax(slower, at->u[c] - row->at.u[c]);
			faster = fmin(faster, at->u[c] - row->at.u[c]);
		}
		e.high = fmin(e.high, row->log_ns + slower + growth_most(fit, &row->at, at));
		e.low = fmax(e.low, row->log_ns + faster - growth_most(fit, at, &row->at));
	}
	return e;
}
