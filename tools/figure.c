/* SPDX-License-Identifier: MIT */
/* docs/estimator.svg: latency of one generated model over CPU clock at three
 * GPU clocks; simulated, predicted from eight points, and an additive fit.
 * usage: figure > docs/estimator.svg */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "../estimator/lsq.h"
#include "../estimator/timeline.h"
#include "../tests/sim/measure.h"

#define LEFT     64.0
#define TOP      34.0
#define WIDTH    600.0
#define HEIGHT   320.0
#define LAYERS   120
#define MEASURED 8
#define REPS     3
#define CURVES   3

struct plot {
	double x_low, x_high, y_low, y_high; /* MHz, and ms on a log scale */
};

static double at_x(const struct plot *p, double mhz)
{
	return LEFT + WIDTH * (mhz - p->x_low) / (p->x_high - p->x_low);
}

static double at_y(const struct plot *p, double ms)
{
	return TOP + HEIGHT * (1 - log(ms / p->y_low) / log(p->y_high / p->y_low));
}

static void draw_axes(const struct plot *p)
{
	static const double ticks_ms[] = {1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200};

	printf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" "
	       "font-size=\"12\">\n",
	       LEFT + WIDTH + 150, TOP + HEIGHT + 50);
	printf("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n");
	printf("<text x=\"%.0f\" y=\"20\" font-size=\"14\">Latency of one generated model of %d layers, learned at "
	       "%d of 319 points</text>\n",
	       LEFT, LAYERS, MEASURED);
	for (size_t i = 0; i < sizeof(ticks_ms) / sizeof(*ticks_ms); i++) {
		if (ticks_ms[i] < p->y_low || ticks_ms[i] > p->y_high)
			continue;
		printf("<path d=\"M%.1f %.1fh%.1f\" stroke=\"#ddd\"/><text x=\"%.1f\" y=\"%.1f\" "
		       "text-anchor=\"end\">%g</text>\n",
		       LEFT, at_y(p, ticks_ms[i]), WIDTH, LEFT - 6, at_y(p, ticks_ms[i]) + 4, ticks_ms[i]);
	}
	for (double mhz = 200; mhz < p->x_high; mhz += 400)
		printf("<path d=\"M%.1f %.1fv5\" stroke=\"#444\"/><text x=\"%.1f\" y=\"%.1f\" "
		       "text-anchor=\"middle\">%g</text>\n",
		       at_x(p, mhz), TOP + HEIGHT, at_x(p, mhz), TOP + HEIGHT + 18, mhz);
	printf("<path d=\"M%.1f %.1fv%.1fh%.1f\" fill=\"none\" stroke=\"#444\"/>\n", LEFT, TOP, HEIGHT, WIDTH);
	printf("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">CPU clock, MHz</text>\n", LEFT + WIDTH / 2,
	       TOP + HEIGHT + 38);
	printf("<text transform=\"translate(16 %.1f) rotate(-90)\" text-anchor=\"middle\">latency, ms (log)</text>\n",
	       TOP + HEIGHT / 2);
}

static double additive_ns(const double *x, struct op_point at)
{
	return exp(x[0]) + exp(x[1]) * 1e9 / (double)at.hz[CLOCK_CPU] + exp(x[2]) * 1e9 / (double)at.hz[CLOCK_GPU];
}

static void additive_evaluate(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct sample *sample = arg;

	for (size_t k = 0; k < MEASURED; k++) {
		double ns = additive_ns(x, sample[k].point);
		residual[k] = 50 * log(ns / (double)sample[k].latency_ns);
		for (int j = 0; j < 3 && jacobian; j++) {
			double term = exp(x[j]) * (j ? 1e9 / (double)sample[k].point.hz[j - 1] : 1);
			jacobian[k * 3 + (size_t)j] = 50 * term / ns;
		}
	}
}

static void additive_fit(const struct sample *sample, double x[3])
{
	double mean[3], sd[3] = {5, 5, 5};
	struct lsq problem = {.params = 3,
			      .residuals = MEASURED,
			      .prior_mean = mean,
			      .prior_sd = sd,
			      .iterations = 60,
			      .evaluate = additive_evaluate,
			      .arg = sample};

	for (int j = 0; j < 3; j++)
		x[j] = mean[j] = log((double)sample[0].latency_ns / 4);
	lsq_solve(&problem, x, NULL);
}

static void draw(const struct grid *grid, const struct measure *m, const float *latency_ns, const struct sample *sample)
{
	static const size_t gpu_of[CURVES] = {0, 3, 10};
	static const char *const colour[CURVES] = {"#c0392b", "#d68910", "#1f618d"};
	size_t gpus = grid->count[CLOCK_GPU];
	struct plot plot = {0, (double)grid->hz[CLOCK_CPU][28] / 1e6, 0.8 * (double)latency_ns[grid->points - 1] / 1e6,
			    1.1 * (double)latency_ns[0] / 1e6};
	double additive[3];

	additive_fit(sample, additive);
	draw_axes(&plot);
	for (int c = 0; c < CURVES; c++) {
		printf("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour[c]);
		for (size_t i = 0; i < grid->count[CLOCK_CPU]; i++)
			printf("%.1f,%.1f ", at_x(&plot, (double)grid->hz[CLOCK_CPU][i] / 1e6),
			       at_y(&plot, (double)latency_ns[i * gpus + gpu_of[c]] / 1e6));
		printf("\"/>\n<polyline fill=\"none\" stroke=\"%s\" stroke-dasharray=\"3 4\" points=\"", colour[c]);
		for (size_t i = 0; i < grid->count[CLOCK_CPU]; i++)
			printf("%.1f,%.1f ", at_x(&plot, (double)grid->hz[CLOCK_CPU][i] / 1e6),
			       at_y(&plot, additive_ns(additive, measure_point(grid, i * gpus + gpu_of[c])) / 1e6));
		printf("\"/>\n");
		for (size_t i = 0; i < grid->count[CLOCK_CPU]; i++) {
			struct op_point at = measure_point(grid, i * gpus + gpu_of[c]);
			printf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"%s\"/>\n",
			       at_x(&plot, (double)at.hz[CLOCK_CPU] / 1e6),
			       at_y(&plot, measure_truth_ns(m, at, 0) / 1e6), colour[c]);
		}
		printf("<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">GPU %.0f MHz</text>\n", LEFT + WIDTH + 8,
		       at_y(&plot, (double)latency_ns[28 * gpus + gpu_of[c]] / 1e6) + 4, colour[c],
		       (double)grid->hz[CLOCK_GPU][gpu_of[c]] / 1e6);
	}
	printf("<text x=\"%.1f\" y=\"%.1f\">dots: simulated. Lines: the timeline. Dashes: additive "
	       "fit.</text>\n</svg>\n",
	       LEFT + 230, TOP + 16);
}

int main(void)
{
	static const size_t cpu_at[MEASURED] = {28, 6, 28, 14, 10, 3, 20, 0},
			    gpu_at[MEASURED] = {10, 10, 2, 6, 0, 7, 3, 1};
	static struct sim_model model;
	static struct layer rows[MEASURED * REPS * LAYERS];
	static float latency_ns[GRID_POINTS_MAX];
	struct sample sample[MEASURED];
	struct sim_rng rng = {11};
	struct sim_noise noise;
	struct timeline *timeline;
	struct grid grid;

	measure_grid(&grid, false);
	sim_noise_open(&noise, &rng);
	do
		sim_random(&model, SIM_DNN, measure_top(&grid), &rng);
	while (model.layers < LAYERS);
	model.layers = LAYERS;
	model.layer[LAYERS - 1].sync = true;
	double cpu = 0, gpu = 0;
	for (size_t i = 0; i < LAYERS; i++) {
		cpu += model.layer[i].cpu_scaled + model.layer[i].cpu_fixed;
		gpu += model.layer[i].gpu_core + model.layer[i].gpu_fixed;
	}
	for (size_t i = 0; i < LAYERS; i++) { /* a knee in sight */
		model.layer[i].gpu_core *= 0.5 * cpu / gpu;
		model.layer[i].gpu_memory *= 0.5 * cpu / gpu;
	}
	struct measure m = {&model, PHASE_RUN, &rng, &noise};
	for (size_t k = 0; k < MEASURED; k++)
		sample[k] = measure_sample(&m,
					   (struct op_point){{grid.hz[CLOCK_CPU][cpu_at[k]],
							      grid.hz[CLOCK_GPU][gpu_at[k]], grid.hz[CLOCK_MEM][0]}},
					   0, REPS, rows + k * REPS * LAYERS);
	if (timeline_fit(&grid, PHASE_RUN, rows, MEASURED * REPS * LAYERS, sample, MEASURED, &timeline))
		return 1;
	timeline_surface(timeline, 0, latency_ns, NULL, NULL);
	draw(&grid, &m, latency_ns, sample);
	timeline_free(timeline);
	sim_noise_close(&noise);
	return 0;
}
