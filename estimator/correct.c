/* SPDX-License-Identifier: MIT */
/* Staying true: cells, slow-down and scatter. */
#include "correct.h"

#include <math.h>
#include <string.h>

#define SLOW_MEMORY   0.9998  /* a slow-down that lasts becomes the cells' own in some 5,000 requests */
#define SLOW_STEP_VAR 2.25e-6 /* a request: (0.15 %)^2 */
#define SLOW_VAR_MAX  0.04
#define SLOW_MIN      (-0.5)  /* log; below 0 where most was learned while something else ran */
#define CELL_VAR_MIN  2.5e-7
#define NOISE_FIRST   3.6e-5 /* (0.6 %)^2: half as much again as the measured scatter of one request */
#define NOISE_MIN     4e-6
#define NOISE_RATE    0.03
#define STRANGE       4.0    /* standard deviations */
#define SURPRISE      2.0    /* of a fit, standard deviations */
#define SAME_SHARE    0.5    /* two innovations of which the second is at least half the first are of a kind */
#define BIN_WIDTH     0.0025
#define BIN_LOW       (-0.10)
#define SCATTER_KEEP  0.999  /* a thousand requests */
#define SCATTER_TRUST 30.0f
#define SCATTER_MIN   0.002  /* log: no request is surer than this */

void correct_init(struct correct *correct)
{
	memset(correct, 0, sizeof(*correct));
	correct->noise_var = NOISE_FIRST;
	correct->slow_var = SLOW_STEP_VAR * 4;
}

/* A place hardly known: what is out of line there is the fit's error, not the board's, unless a
 * place well known was out of line as much just before, or what had slowed the board may be over.
 * Returns the cell's variance. */
static double blame(struct correct *c, double innovation, double cell_var)
{
	double board_sd = sqrt(c->slow_var + c->noise_var), size = fabs(innovation), share = 0;
	bool of_a_kind = c->strange * innovation > 0 && size >= SAME_SHARE * fabs(c->strange);

	if (of_a_kind && size >= STRANGE * board_sd && size >= SURPRISE * hypot(board_sd, sqrt(cell_var))) {
		c->strange = 0;
		share = size;
	} else if (innovation < 0 && c->slow > 0) {
		share = fmin(size, c->slow);
	}
	c->slow_var = fmin(c->slow_var + share * share, SLOW_VAR_MAX);
	return fmax(cell_var, innovation * innovation - c->slow_var - c->noise_var);
}

/* Clip a lone innovation; take two of a kind for a change of the slow-down. */
static double judge(struct correct *c, double innovation, double cell_var)
{
	double sd = sqrt(cell_var + c->slow_var + c->noise_var), size = fabs(innovation);
	double clipped = copysign(fmin(size, STRANGE * sd), innovation);
	bool repeated = c->strange * innovation > 0;

	/* What had slowed the board is over: not what is hardly known of this cell. */
	if (innovation < 0 && c->slow > 0 && size >= SURPRISE * sqrt(c->slow_var + c->noise_var))
		c->slow_var = fmin(c->slow_var + fmin(size, c->slow) * fmin(size, c->slow), SLOW_VAR_MAX);
	if (size <= STRANGE * sd) {
		c->strange = 0;
		return innovation;
	}
	c->strange = innovation;
	if (!repeated)
		return clipped;
	c->slow_var = fmin(c->slow_var + innovation * innovation, SLOW_VAR_MAX);
	return innovation;
}

static void note_scatter(struct correct *c, double residual)
{
	double bin = (residual - BIN_LOW) / BIN_WIDTH;
	size_t i = (size_t)fmin(fmax(bin, 0), SCATTER_BINS - 1);

	for (size_t b = 0; b < SCATTER_BINS; b++)
		c->scatter[b] *= (float)SCATTER_KEEP;
	c->scatter[i] += 1;
	c->scatter_sum = c->scatter_sum * (float)SCATTER_KEEP + 1;
}

double correct_observe(struct correct *c, double log_ns, double *mean, double *var, bool contended)
{
	double cell_var = contended ? 0 : fmax(*var, CELL_VAR_MIN), before = *mean, innovation, total, clipped;

	c->slow *= SLOW_MEMORY;
	c->slow_var = fmin(c->slow_var + SLOW_STEP_VAR, SLOW_VAR_MAX);
	innovation = log_ns - *mean - c->slow;
	if (!contended && cell_var >= c->noise_var) {
		cell_var = blame(c, innovation, cell_var);
		clipped = innovation;
	} else {
		clipped = judge(c, innovation, cell_var);
	}
	total = cell_var + c->slow_var + c->noise_var;
	c->slow = fmax(c->slow + clipped * c->slow_var / total, SLOW_MIN);
	c->slow_var -= c->slow_var * c->slow_var / total;
	if (!contended) {
		*mean += clipped * cell_var / total;
		*var = fmax(cell_var - cell_var * cell_var / total, CELL_VAR_MIN);
	}
	/* What is left says how requests scatter, once the cell is known. */
	if (cell_var < c->noise_var) {
		double left = copysign(fmin(fabs(innovation), STRANGE * sqrt(total)), innovation);

		c->noise_var = fmax(c->noise_var + NOISE_RATE * (left * left - c->noise_var), NOISE_MIN);
		note_scatter(c, innovation);
	}
	c->seen += c->seen < UINT32_MAX;
	return *mean - before;
}

double correct_scatter(const struct correct *c, double quantile, double prior)
{
	double above = (1 - quantile) * (double)c->scatter_sum, sum = 0, seen, trust;
	size_t b = SCATTER_BINS;

	while (b > 0 && sum + (double)c->scatter[b - 1] < above)
		sum += (double)c->scatter[--b];
	seen = BIN_LOW + BIN_WIDTH * (double)b;
	trust = (double)(c->scatter_sum / (c->scatter_sum + SCATTER_TRUST));
	return fmax(trust * seen + (1 - trust) * prior, SCATTER_MIN);
}

double correct_slowdown(const struct correct *c)
{
	return exp(c->slow);
}

double correct_slowdown_bound(const struct correct *c)
{
	return exp(c->slow + sqrt(c->slow_var));
}
