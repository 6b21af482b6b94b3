/* SPDX-License-Identifier: MIT */
/* Online correction: cells, slow-down and scatter. */
#include "correct.h"

#include <math.h>
#include <string.h>

#define SLOW_MEMORY   0.9998  /* a slow-down that lasts becomes the cells' own in some 5,000 requests */
#define SLOW_STEP_VAR 2.25e-6 /* a request: (0.15 %)^2 */
#define SLOW_VAR_MAX  0.04
#define SLOW_MAX      2.079441542 /* log 8: a larger slow-down is no contention that higher clocks could make up for */
#define SLOW_MIN      (-0.5)      /* log; below 0 if the model was mostly learned under contention */
#define CELL_VAR_MIN  2.5e-7
#define NOISE_FIRST   3.6e-5 /* (0.6 %)^2: 1.5 times the measured scatter of one request */
#define NOISE_MIN     4e-6
#define NOISE_RATE    0.03
#define EXTRA_SHARE   0.25 /* share of extra_var that is common to such requests */
#define OUTLIER_SD    4.0  /* standard deviations */
#define SURPRISE      2.0  /* of a fit, standard deviations */
#define SAME_SHARE    0.5  /* least ratio of the second of two similar innovations to the first */
#define BIN_WIDTH     0.0025
#define BIN_LOW       (-0.10)
#define SCATTER_KEEP  0.999 /* a thousand requests */
#define SCATTER_TRUST 30.0f
#define TAIL_SHARE    0.01  /* prior share of requests that have an exponential tail */
#define TAIL_MEAN     3.3   /* of it, in standard deviations: 2 % where they scatter by 0.6 % */
#define SCATTER_MIN   0.002 /* log: least scatter of requests */

void correct_init(struct correct *correct)
{
	memset(correct, 0, sizeof(*correct));
	correct->noise_var = NOISE_FIRST;
	correct->slow_var = SLOW_STEP_VAR * 4;
}

/* An innovation at a cell with a large variance is the fit's error, not a slow-down of the board, unless a well-known
 * cell had an outlier of that size just before, or a slow-down may be over. Returns the cell's variance. */
static double blame(struct correct *c, double innovation, double cell_var)
{
	double board_sd = sqrt(c->slow_var + c->noise_var), size = fabs(innovation), share = 0;
	bool of_a_kind = c->outlier * innovation > 0 && size >= SAME_SHARE * fabs(c->outlier);

	if (of_a_kind && size >= OUTLIER_SD * board_sd && size >= SURPRISE * hypot(board_sd, sqrt(cell_var))) {
		c->outlier = 0;
		share = size;
	} else if (innovation < 0 && c->slow > 0) {
		share = fmin(size, c->slow);
	}
	c->slow_var = fmin(c->slow_var + share * share, SLOW_VAR_MAX);
	return fmax(cell_var, innovation * innovation - c->slow_var - c->noise_var);
}

/* Clip a single outlier; two in a row of the same sign are a change of the slow-down. */
static double judge(struct correct *c, double innovation, double cell_var)
{
	double sd = sqrt(cell_var + c->slow_var + c->noise_var), size = fabs(innovation);
	double clipped = copysign(fmin(size, OUTLIER_SD * sd), innovation);
	bool repeated = c->outlier * innovation > 0;

	/* The slow-down of the board is over; the innovation is not the error of this cell. */
	if (innovation < 0 && c->slow > 0 && size >= SURPRISE * sqrt(c->slow_var + c->noise_var))
		c->slow_var = fmin(c->slow_var + fmin(size, c->slow) * fmin(size, c->slow), SLOW_VAR_MAX);
	if (size <= OUTLIER_SD * sd) {
		c->outlier = 0;
		return innovation;
	}
	c->outlier = innovation;
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

void correct_observe(struct correct *c, double log_ns, double *mean, double *var, double extra_var)
{
	double cell_var = fmax(*var, CELL_VAR_MIN), noise_var = c->noise_var, innovation, total, clipped;

	c->noise_var += extra_var;
	c->slow *= SLOW_MEMORY;
	c->slow_var = fmin(c->slow_var + SLOW_STEP_VAR, SLOW_VAR_MAX);
	innovation = log_ns - *mean - c->slow;
	if (cell_var >= c->noise_var) {
		cell_var = blame(c, innovation, cell_var);
		clipped = innovation;
	} else {
		clipped = judge(c, innovation, cell_var);
	}
	total = cell_var + c->slow_var + c->noise_var;
	if (extra_var <= noise_var) { /* a correction for concurrent requests is no slow-down of the board */
		c->slow = fmin(fmax(c->slow + clipped * c->slow_var / total, SLOW_MIN), SLOW_MAX);
		c->slow_var -= c->slow_var * c->slow_var / total;
	}
	/* Its error is common to such requests: averaging removes at most 1 - EXTRA_SHARE of the variance. */
	if (cell_var > EXTRA_SHARE * extra_var) {
		*mean += clipped * cell_var / total;
		*var = fmax(cell_var - cell_var * cell_var / total, fmax(CELL_VAR_MIN, EXTRA_SHARE * extra_var));
	}
	c->noise_var = noise_var;
	/* Once the cell is known, the residual measures the scatter of requests. */
	if (cell_var < noise_var && extra_var <= 0) {
		double left = copysign(fmin(fabs(innovation), OUTLIER_SD * sqrt(total)), innovation);

		c->noise_var = fmax(c->noise_var + NOISE_RATE * (left * left - c->noise_var), NOISE_MIN);
		note_scatter(c, innovation);
	}
	c->seen += c->seen < UINT32_MAX;
}

static double late_prior(double z)
{
	return (1 - TAIL_SHARE) * 0.5 * erfc(z / sqrt(2)) + TAIL_SHARE * (z > 0 ? exp(-z / TAIL_MEAN) : 1);
}

void correct_late(const struct correct *c, float *late, size_t bins, double low, double step)
{
	double above[SCATTER_BINS + 1], sd = sqrt(c->noise_var), sum = (double)c->scatter_sum;
	double trust = sum / (sum + (double)SCATTER_TRUST);

	above[SCATTER_BINS] = 0;
	for (size_t b = SCATTER_BINS; b-- > 0;)
		above[b] = above[b + 1] + (double)c->scatter[b];
	for (size_t k = 0; k < bins; k++) {
		double z = low + (double)k * step, at = (z * sd - BIN_LOW) / BIN_WIDTH, share, seen;
		size_t b = (size_t)fmax(fmin(at, SCATTER_BINS), 0);

		share = fmax(at - (double)b, 0);
		seen = b < SCATTER_BINS ? above[b] + share * (above[b + 1] - above[b]) : 0;
		late[k] = (float)(trust * (sum > 0 ? seen / sum : 0) + (1 - trust) * late_prior(z));
	}
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
