/* SPDX-License-Identifier: MIT */
/* The choice of the next operating point to measure. */
#include "plan.h"

#include <math.h>
#include <string.h>
#include "dense.h"

#define TYPICAL_SPREAD 0.02
#define TYPICAL_NUGGET 0.01
#define READING_VAR    1e-5f /* of a mean at one point, log */
#define CORNER_LOSS    0.4   /* reduction of weight towards the corner of lowest clocks */
/* Weight of the fit. The rest is that of typical models of every kind, since a fit to few rows underestimates its
 * error. */
#define FITTED_SHARE 0.5
#define N            PLAN_POINTS_MAX
#define R            FIT_ROWS_MAX
#define P            LSQ_PARAMS_MAX

/* Correlations common to all modes, and each point under the current mode:
 * cov(a, b) = kernel - v_a v_b + w_a w_b. */
struct view {
	float same[N][N]; /* correlation of the smooth part */
	float weight[N];
	float v[N][R + P], w[N][R + P];
};

static void compare(const struct fit *fit, const struct plan_point *points, size_t count, struct view *view)
{
	for (size_t a = 0; a < count; a++)
		for (size_t b = 0; b <= a; b++)
			view->same[a][b] = view->same[b][a] = (float)fit_correlation(fit, &points[a].at, &points[b].at);
}

/* The terms of the posterior covariance of each point. */
static void fill_view(const struct fit *fit, const struct fit_mode *mode, const struct plan_point *points, size_t count,
		      struct view *view)
{
	double lower[P * P];

	memcpy(lower, mode->covariance, sizeof(lower));
	if (dense_cholesky(lower, fit->params, fit->params))
		memset(lower, 0, sizeof(lower));
	for (size_t i = 0; i < count; i++) {
		double k[R], h[P];

		fit_mean(fit, mode->param, &points[i].at, h);
		for (size_t r = 0; r < fit->rows; r++) {
			k[r] = fit_kernel(fit, mode, &points[i].at, &fit->row[r].at);
			for (size_t j = 0; j < fit->params; j++)
				h[j] -= k[r] * mode->slopes[r * P + j];
		}
		dense_forward(mode->lower, fit->rows, R, k);
		for (size_t r = 0; r < fit->rows; r++) {
			view->v[i][r] = (float)k[r];
			view->w[i][r] = -(float)k[r];
		}
		for (size_t j = 0; j < fit->params; j++) {
			double sum = 0;
			for (size_t l = j; l < fit->params; l++)
				sum += lower[l * fit->params + j] * h[l];
			view->v[i][fit->rows + j] = view->w[i][fit->rows + j] = (float)sum;
		}
	}
}

static float covariance(const struct fit_mode *mode, const struct view *view, size_t width, size_t a, size_t b)
{
	float sum = (float)(mode->spread * mode->spread) * view->same[a][b] +
		    (a == b ? (float)(mode->nugget * mode->nugget) : 0);

	for (size_t j = 0; j < width; j++)
		sum += view->v[a][j] * view->w[b][j];
	return sum;
}

/* Add to fall[] the share of the weighted variance that a measurement at each point would remove. */
static void add_mode(const struct fit *fit, const struct fit_mode *mode, const struct plan_point *points, size_t count,
		     struct view *view, double share, double *fall)
{
	float own[N], sum[N] = {0}, before = 1e-12f;
	size_t width = fit->rows + fit->params;

	fill_view(fit, mode, points, count, view);
	for (size_t t = 0; t < count; t++) {
		own[t] = fmaxf(covariance(mode, view, width, t, t), 0);
		before += view->weight[t] * own[t];
	}
	for (size_t c = 0; c < count; c++) {
		sum[c] += view->weight[c] * own[c] * own[c];
		for (size_t t = 0; t < c; t++) {
			float cov = covariance(mode, view, width, t, c);
			sum[c] += view->weight[t] * cov * cov;
			sum[t] += view->weight[c] * cov * cov;
		}
	}
	for (size_t c = 0; c < count; c++)
		if (points[c].allowed)
			fall[c] += share * mode->weight * (double)(sum[c] / (own[c] + READING_VAR) / before);
}

/* Typical models of every kind, given only the positions of the rows. */
static void add_typical(struct fit *fit, const struct plan_point *points, size_t count, struct view *view, double share,
			double *fall)
{
	static const double sharpness[] = {-0.7, 0.9};
	struct fit_mode mode;
	double param[P], level = 0;

	for (size_t k = 0; k < fit->rows; k++)
		level += fit->row[k].log_ns / (double)fit->rows;
	for (size_t e = 0; e < SHAPE_ENTRIES; e++) {
		for (size_t s = 0; s < 2; s++) {
			for (size_t j = 0; j < fit->params; j++)
				param[j] = shape_prior_mean[j] + shape_entry[e][j] + (shape_is_time[j] ? level : 0);
			param[SHAPE_JOIN] += sharpness[s];
			param[SHAPE_OVERLAP] += sharpness[s];
			fit_assume(fit, &mode, param, TYPICAL_SPREAD, TYPICAL_NUGGET);
			mode.weight = 0.5 / SHAPE_ENTRIES;
			add_mode(fit, &mode, points, count, view, share, fall);
		}
	}
}

static int fastest(const struct plan_point *points, size_t count)
{
	int best = -1;
	double least = INFINITY;

	for (size_t i = 0; i < count; i++) {
		double slow = 0;

		for (int c = 0; c < CLOCK_COUNT; c++)
			slow += points[i].at.u[c];
		if (!points[i].allowed || slow >= least)
			continue;
		least = slow;
		best = (int)i;
	}
	return best;
}

/* Slowness of a point by its fastest clock: 0 where any clock is at its highest, 1 where all are at their lowest, which
 * a deadline is unlikely to need. */
static double idleness(const struct fit *fit, const struct plan_point *points, size_t count,
		       const struct plan_point *at)
{
	double least = 1;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		double low = INFINITY, high = -INFINITY;

		for (size_t i = 0; i < count; i++) {
			low = fmin(low, points[i].at.u[c]);
			high = fmax(high, points[i].at.u[c]);
		}
		if (fit->active[c] && high > low)
			least = fmin(least, (at->at.u[c] - low) / (high - low));
	}
	return least;
}

int plan_next(struct fit *fit, size_t latencies, const struct plan_point *points, size_t count, double *gain)
{
	double fall[N] = {0};
	struct view view;
	int best = -1;

	*gain = 1;
	if (!fit->rows)
		return fastest(points, count);
	compare(fit, points, count, &view);
	for (size_t i = 0; i < count; i++)
		view.weight[i] = points[i].weight * (float)(1 - CORNER_LOSS * idleness(fit, points, count, &points[i]));
	if (!fit->timeline)
		add_typical(fit, points, count, &view, latencies ? 1 - FITTED_SHARE : 1, fall);
	for (size_t m = 0; m < fit->modes && (latencies || fit->timeline); m++) {
		struct fit_mode mode = fit->mode[m];

		if (latencies < fit->rows) {
			fit_assume(fit, &mode, fit->mode[m].param, fit->mode[m].spread, fit->mode[m].nugget);
			mode.weight = fit->mode[m].weight;
		}
		add_mode(fit, &mode, points, count, &view, fit->timeline ? 1 : FITTED_SHARE, fall);
	}
	for (size_t i = 0; i < count; i++)
		if (points[i].allowed && (best < 0 || fall[i] > fall[best]))
			best = (int)i;
	*gain = best >= 0 ? fall[best] : 0;
	return best;
}

void plan_thin(const struct grid *grid, size_t most, bool keep[CLOCK_COUNT][GRID_AXIS_MAX])
{
	size_t count[CLOCK_COUNT];

	memcpy(count, grid->count, sizeof(count));
	while (count[CLOCK_CPU] * count[CLOCK_GPU] * count[CLOCK_MEM] > most) {
		int longest = CLOCK_CPU;
		for (int c = 1; c < CLOCK_COUNT; c++)
			if (count[c] > count[longest])
				longest = c;
		count[longest]--;
	}
	memset(keep, 0, sizeof(bool) * CLOCK_COUNT * GRID_AXIS_MAX);
	for (int c = 0; c < CLOCK_COUNT; c++)
		for (size_t i = 0; i < count[c]; i++)
			keep[c][count[c] == 1 ? grid->count[c] - 1 :
						(i * (grid->count[c] - 1) + (count[c] - 1) / 2) / (count[c] - 1)] =
				true;
}
