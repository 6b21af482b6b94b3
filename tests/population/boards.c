/* SPDX-License-Identifier: MIT */
/* Boards with the irregularities of measured ones. Sizes are those of a survey of 33 measured surfaces; models are
 * timelines of tests/sim, redrawn until the ratio of their slowest to their fastest point is in the range of the
 * kind. */
#include "boards.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS_MAX      60
#define QUANTILE_DRAWS 40000

const char *const board_kind_name[BOARD_KINDS] = {"many",   "language", "fixed-cpu", "framework",
						  "engine", "waiting",  "large",     "smooth"};

const double board_knot[BOARD_KNOTS] = {0, 512, 1024, 2048, 4096};

/* Clocks in MHz; bumps in percent of latency: the median along each axis, the largest, and the
 * share that a whole row has in common. */
struct kind {
	size_t count[CLOCK_COUNT];
	double low_mhz[CLOCK_COUNT], high_mhz[CLOCK_COUNT];
	double span_low, span_high;
	double bump[CLOCK_COUNT], bump_most, shared;
	double inversion; /* chance that the highest entry of an axis is slower than the next */
	double slow_row;  /* chance, per axis, of a row slower by a few percent */
	double dynamic;   /* share of full power that follows the clocks */
};

static const struct kind kinds[BOARD_KINDS] = {
	[BOARD_MANY] = {{29, 11, 1},
			{115.2, 306, 3199},
			{2201.6, 1300.5, 3199},
			8,
			19,
			{0.2, 0.2, 0},
			12,
			0.43,
			0.2,
			0.4,
			0.75},
	[BOARD_LANGUAGE] = {{29, 11, 1},
			    {115.2, 306, 3199},
			    {2201.6, 1300.5, 3199},
			    1.6,
			    4.5,
			    {0.9, 1.9, 0},
			    16,
			    0.26,
			    0.4,
			    0.5,
			    0.7},
	[BOARD_FIXED_CPU] =
		{{1, 8, 3}, {1728, 306, 665.6}, {1728, 1020, 3199}, 2.5, 5, {0, 0.4, 1.5}, 15, 0.77, 0.3, 0.4, 0.55},
	[BOARD_FRAMEWORK] = {{12, 4, 4},
			     {345.6, 306, 800},
			     {2035.2, 1300.5, 1866},
			     4,
			     7,
			     {1.2, 2.5, 0.9},
			     24,
			     0.13,
			     0.4,
			     0.5,
			     0.65},
	[BOARD_ENGINE] = {{1, 13, 4},
			  {2035.2, 114.75, 800},
			  {2035.2, 1300.5, 1866},
			  6,
			  11,
			  {0, 0.2, 0.2},
			  2,
			  0.5,
			  0.05,
			  0.1,
			  0.65},
	[BOARD_WAITING] =
		{{8, 5, 1}, {408, 200, 800}, {1800, 800, 800}, 2.5, 3.8, {0.1, 0.4, 0}, 3, 0.43, 0.1, 0.2, 0.45},
	[BOARD_LARGE] =
		{{8, 6, 4}, {648, 504, 665.6}, {2601, 1503, 4266}, 2.8, 4.5, {0.3, 0.4, 0.8}, 5, 0.3, 0.1, 0.2, 0.3},
	[BOARD_SMOOTH] = {{29, 11, 4}, {115.2, 306, 665.6}, {2201.6, 1300.5, 3199}, 3, 25, {0, 0, 0}, 0, 0, 0, 0, 0.7},
};

/* ---- clocks ---- */

static void draw_grid(struct grid *grid, const struct kind *kind)
{
	memset(grid, 0, sizeof(*grid));
	grid->points = 1;
	for (int c = 0; c < CLOCK_COUNT; c++) {
		size_t n = kind->count[c];
		grid->count[c] = n;
		grid->points *= n;
		for (size_t i = 0; i < n; i++) {
			double share = n > 1 ? (double)i / (double)(n - 1) : 1;
			/* Memory tables have few entries, evenly apart by ratio. */
			double mhz = c == CLOCK_MEM ?
					     kind->low_mhz[c] * pow(kind->high_mhz[c] / kind->low_mhz[c], share) :
					     kind->low_mhz[c] + share * (kind->high_mhz[c] - kind->low_mhz[c]);
			grid->hz[c][i] = (uint64_t)(mhz * 10 + 0.5) * 100000;
		}
	}
}

static void draw_settle(struct board_made *board, struct sim_rng *rng)
{
	static const double low_ns[CLOCK_COUNT] = {3e5, 1e6, 3e6}, high_ns[CLOCK_COUNT] = {4e6, 7e6, 12e6};
	bool huge = board->kind == BOARD_LARGE && sim_uniform(rng, 0, 1) < 0.4;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		board->up_ns[c] = sim_log_uniform(rng, low_ns[c], high_ns[c]) * (huge ? c == CLOCK_GPU ? 25 : 5 : 1);
		/* One clock in two comes down as slowly as it goes up, the others nearly at once. */
		board->down_ns[c] =
			board->up_ns[c] * (sim_uniform(rng, 0, 1) < 0.5 ? 1 : sim_log_uniform(rng, 0.02, 0.3));
	}
}

/* ---- irregularity ---- */

/* Student's t of two degrees of freedom: its 90th percentile is 3.6 times its median, as measured bumps have it. */
static double heavy(struct sim_rng *rng)
{
	double u = sim_uniform(rng, 1e-6, 1 - 1e-6);

	return (2 * u - 1) / sqrt(2 * u * (1 - u));
}

static double bump(struct sim_rng *rng, double median, double most)
{
	/* of the second difference, 1.22 x, halved twice in the median */
	double value = median / 0.82 * heavy(rng) * 0.82;

	return fmax(fmin(value, most), -most) / 100;
}

struct rough {
	double row[CLOCK_COUNT][GRID_AXIS_MAX];
	double cell, most;
};

static void draw_rough(struct rough *rough, const struct grid *grid, const struct kind *kind, struct sim_rng *rng)
{
	rough->cell = INFINITY;
	rough->most = kind->bump_most;
	for (int c = 0; c < CLOCK_COUNT; c++) {
		size_t n = grid->count[c];
		memset(rough->row[c], 0, sizeof(rough->row[c]));
		if (n == 1)
			continue;
		rough->cell = fmin(rough->cell, kind->bump[c] * sqrt(1 - kind->shared));
		for (size_t i = 0; i < n; i++)
			rough->row[c][i] = bump(rng, kind->bump[c] * sqrt(kind->shared), kind->bump_most / 2);
		if (sim_uniform(rng, 0, 1) < kind->slow_row)
			rough->row[c][(size_t)sim_uniform(rng, 0, (double)n - 0.01)] += sim_uniform(rng, 0.01, 0.07);
		if (sim_uniform(rng, 0, 1) < kind->inversion)
			rough->row[c][n - 1] += sim_uniform(rng, 0.01, 0.05);
	}
	if (!isfinite(rough->cell))
		rough->cell = 0;
}

/* ---- work ---- */

static struct sim_clocks clocks_of(const struct grid *grid, size_t point)
{
	struct op_point at = grid_point(grid, point);

	return (struct sim_clocks){(double)at.hz[0], (double)at.hz[1], (double)at.hz[2]};
}

static double draw_model(struct sim_model *model, enum board_kind kind, enum sim_kind sim, const struct grid *grid,
			 struct sim_rng *rng)
{
	const struct kind *k = &kinds[kind];
	double span, nearest = INFINITY, best_span = 1;
	static struct sim_model best;

	for (int i = 0; i < DRAWS_MAX; i++) {
		sim_random(model, sim, clocks_of(grid, grid->points - 1), rng);
		if (kind == BOARD_WAITING)
			for (size_t l = 0; l < model->layers; l++)
				model->layer[l].sync = true;
		span = sim_run(model, clocks_of(grid, 0), 0, NULL, NULL, NULL) /
		       sim_run(model, model->top, 0, NULL, NULL, NULL);
		double off = span < k->span_low ? k->span_low / span : span > k->span_high ? span / k->span_high : 1;
		if (off < nearest) {
			nearest = off;
			best = *model;
			best_span = span;
		}
		if (off <= 1)
			break;
	}
	*model = best;
	return best_span;
}

/* `growth`: latency at more contexts than none, as a factor; NULL: not wanted. */
static void draw_latency(struct board_made *board, struct board_work *work, enum sim_kind sim,
			 struct board_growth *growth, struct sim_rng *rng)
{
	static struct sim_model model;
	static struct rough rough;
	size_t axis[CLOCK_COUNT];
	double scale;

	draw_model(&model, board->kind, sim, &board->grid, rng);
	draw_rough(&rough, &board->grid, &kinds[board->kind], rng);
	work->fastest_ns = INFINITY;
	for (size_t i = 0; i < board->grid.points; i++) {
		double off = rough.cell > 0 ? bump(rng, rough.cell, rough.most) : 0;
		grid_axes(&board->grid, i, axis);
		for (int c = 0; c < CLOCK_COUNT; c++)
			off += rough.row[c][axis[c]];
		double alone_ns = sim_run(&model, clocks_of(&board->grid, i), 0, NULL, NULL, NULL);
		for (size_t k = 0; growth && k < BOARD_KNOTS; k++)
			growth->factor[k][i] =
				sim_run(&model, clocks_of(&board->grid, i), board_knot[k], NULL, NULL, NULL) / alone_ns;
		work->latency_ns[i] = alone_ns * exp(off);
		work->fastest_ns = fmin(work->fastest_ns, work->latency_ns[i]);
	}
	scale = sim_log_uniform(rng, 5e6, 80e6) / work->fastest_ns;
	if (board->up_ns[CLOCK_GPU] > 3e7) /* boards whose clocks move slowly run large models */
		scale *= 6;
	for (size_t i = 0; i < board->grid.points; i++)
		work->latency_ns[i] *= scale;
	work->fastest_ns *= scale;
	work->noise = (struct board_noise){.rho = sim_uniform(rng, 0.37, 0.54),
					   .sd = sim_log_uniform(rng, 0.0025, 0.008),
					   .tail_share = 0.01,
					   .tail_mean = 0.02};
}

/* ---- power ---- */

struct rail {
	double top_uw[CLOCK_COUNT];               /* of each clock, busy */
	double volt2[CLOCK_COUNT][GRID_AXIS_MAX]; /* squared, 1 at the top */
	double gated[CLOCK_COUNT];                /* share that stays with nothing running */
	double base_uw;
};

/* Voltages have steps: entries share one, so that power rises not at all or by much. */
static void draw_rail(struct rail *rail, const struct grid *grid, const struct kind *kind, struct sim_rng *rng)
{
	static const double share[CLOCK_COUNT] = {0.35, 0.45, 0.2};
	double full_uw = sim_log_uniform(rng, 5e6, 30e6), sum = 0;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		double low = sim_uniform(rng, 0.55, 0.8), knee = sim_uniform(rng, 0.2, 0.6),
		       step = sim_uniform(rng, 0.01, 0.05);
		rail->top_uw[c] = grid->count[c] > 1 ? share[c] * sim_log_uniform(rng, 0.4, 2.5) : 0;
		rail->gated[c] = c == CLOCK_MEM ? sim_uniform(rng, 0.4, 0.7) : sim_uniform(rng, 0.1, 0.4);
		sum += rail->top_uw[c];
		for (size_t i = 0; i < grid->count[c]; i++) {
			double f = (double)grid->hz[c][i] / (double)grid->hz[c][grid->count[c] - 1];
			double v = f < knee ? low : low + (1 - low) * (f - knee) / (1 - knee);
			v = fmin(low + ceil((v - low) / step - 1e-9) * step, 1);
			rail->volt2[c][i] = v * v;
		}
	}
	for (int c = 0; c < CLOCK_COUNT; c++)
		rail->top_uw[c] *= full_uw * kind->dynamic / sum;
	rail->base_uw = full_uw * (1 - kind->dynamic);
}

static void draw_power(struct board_made *board, const struct rail *rail, struct sim_rng *rng)
{
	size_t axis[CLOCK_COUNT], top[CLOCK_COUNT];
	double busy_share[BOARD_WORKLOADS_MAX][CLOCK_COUNT];

	for (size_t w = 0; w < board->workloads; w++)
		for (int c = 0; c < CLOCK_COUNT; c++)
			busy_share[w][c] = sim_uniform(rng, 0.5, 1);
	grid_axes(&board->grid, board->grid.points - 1, top);
	for (size_t i = 0; i < board->grid.points; i++) {
		grid_axes(&board->grid, i, axis);
		board->idle_uw[i] = rail->base_uw;
		for (size_t w = 0; w < board->workloads; w++)
			board->work[w].power_uw[i] = rail->base_uw;
		for (int c = 0; c < CLOCK_COUNT; c++) {
			double f = (double)board->grid.hz[c][axis[c]] / (double)board->grid.hz[c][top[c]];
			double full = rail->top_uw[c] * f * rail->volt2[c][axis[c]];
			board->idle_uw[i] += rail->gated[c] * full;
			for (size_t w = 0; w < board->workloads; w++) {
				struct board_work *work = &board->work[w];
				/* A clock that waits for another is busy for less of the time. */
				double use = fmin(busy_share[w][c] * work->fastest_ns / (work->latency_ns[i] * f), 1);
				work->power_uw[i] += full * (rail->gated[c] + (1 - rail->gated[c]) * use);
			}
		}
		for (size_t w = 0; w < board->workloads; w++)
			board->work[w].power_uw[i] *= 1 + (board->kind == BOARD_SMOOTH ? 0 : 0.005 * sim_gauss(rng));
	}
}

static void draw_theta(struct board_made *board, struct sim_rng *rng)
{
	for (size_t r = 0; r < BOARD_WORKLOADS_MAX; r++)
		for (size_t s = 0; s <= r; s++) {
			double kind = sim_uniform(rng, 0, 1);
			double theta = r == s || kind < 0.5 ? 1 :
				       kind < 0.7           ? sim_uniform(rng, 0, 0.3) :
							      sim_uniform(rng, 0.3, 1.3);
			board->theta[r][s] = board->theta[s][r] = theta;
		}
}

static void draw(struct board_made *board, enum board_kind kind, uint64_t seed, size_t workloads,
		 const enum sim_kind sim[BOARD_WORKLOADS_MAX], struct board_growth *growth)
{
	struct sim_rng rng = {seed * 1000003 + (uint64_t)kind * 7919 + 11};
	struct rail rail;

	memset(board, 0, sizeof(*board));
	board->kind = kind;
	board->workloads = workloads;
	snprintf(board->name, sizeof(board->name), "%s %llu", board_kind_name[kind], (unsigned long long)seed);
	draw_grid(&board->grid, &kinds[kind]);
	draw_settle(board, &rng);
	draw_rail(&rail, &board->grid, &kinds[kind], &rng);
	for (size_t w = 0; w < workloads; w++)
		draw_latency(board, &board->work[w], sim[w], growth ? &growth[w] : NULL, &rng);
	draw_power(board, &rail, &rng);
	draw_theta(board, &rng);
}

void board_draw(struct board_made *board, enum board_kind kind, uint64_t seed, size_t workloads)
{
	enum sim_kind sim = kind == BOARD_LANGUAGE ? SIM_DECODE : SIM_DNN;

	draw(board, kind, seed, workloads, (const enum sim_kind[BOARD_WORKLOADS_MAX]){sim, sim, sim}, NULL);
}

void board_draw_language(struct board_made *board, struct board_growth growth[BOARD_PHASES], enum board_kind kind,
			 uint64_t seed)
{
	static const enum sim_kind sim[BOARD_WORKLOADS_MAX] = {
		[BOARD_DECODE] = SIM_DECODE, [BOARD_PREFILL] = SIM_PREFILL};

	draw(board, kind, seed, BOARD_PHASES, sim, growth);
}

double board_latency_ns(const struct board_made *board, const struct board_growth *growth, enum board_phase phase,
			size_t point, double context)
{
	size_t k = 0;

	while (k + 2 < BOARD_KNOTS && context >= board_knot[k + 1])
		k++;
	double share = (context - board_knot[k]) / (board_knot[k + 1] - board_knot[k]);
	return board->work[phase].latency_ns[point] *
	       ((1 - share) * growth[phase].factor[k][point] + share * growth[phase].factor[k + 1][point]);
}

/* ---- while it runs ---- */

double board_noise_next(struct board_noise *noise, struct sim_rng *rng)
{
	double tail =
		sim_uniform(rng, 0, 1) < noise->tail_share ? -noise->tail_mean * log(sim_uniform(rng, 1e-9, 1)) : 0;

	noise->state = noise->rho * noise->state + noise->sd * sqrt(1 - noise->rho * noise->rho) * sim_gauss(rng);
	return exp(noise->state + tail);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double board_noise_quantile(const struct board_noise *noise, double quantile)
{
	static double draw[QUANTILE_DRAWS];
	struct board_noise copy = *noise;
	struct sim_rng rng = {12345};

	copy.state = 0;
	for (size_t i = 0; i < QUANTILE_DRAWS; i++)
		draw[i] = board_noise_next(&copy, &rng);
	qsort(draw, QUANTILE_DRAWS, sizeof(*draw), by_size);
	return draw[(size_t)(quantile * QUANTILE_DRAWS)];
}

void board_paces(const struct board_made *board, const size_t *work, size_t count, double *pace)
{
	for (size_t r = 0; r < count; r++)
		pace[r] = 1.0 / (double)count;
	/* Fixed point of pace[r] = 1 - sum over s of theta[r][s] pace[s], damped. */
	for (int i = 0; i < 60; i++)
		for (size_t r = 0; r < count; r++) {
			double left = 1;
			for (size_t s = 0; s < count; s++)
				if (s != r)
					left -= board->theta[work[r]][work[s]] * pace[s];
			pace[r] = 0.7 * pace[r] + 0.3 * fmax(left, 0.05);
		}
}
