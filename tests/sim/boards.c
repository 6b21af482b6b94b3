/* SPDX-License-Identifier: MIT */
/* Boards drawn at random. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "boards.h"

#define ENTRIES_MAX 32
#define OPERATORS   12

struct table {
	const char *name;
	double mhz[CLOCK_COUNT][ENTRIES_MAX]; /* up to the first 0 */
};

/* Clock tables as published for these boards; one axis is sometimes fixed. */
static const struct table tables[] = {
	{"orin-nano",
	 {{115.2, 268.8, 422.4, 576, 729.6, 883.2, 1036.8, 1190.4, 1344, 1510.4, 1728},
	  {306, 408, 510, 612, 714, 816, 918, 1020},
	  {204, 665.6, 2133, 3199}}},
	{"agx-orin",
	 {{115.2, 268.8, 422.4, 576, 729.6, 883.2, 1036.8, 1190.4, 1344, 1497.6, 1651.2, 1804.8, 1958.4, 2201.6},
	  {306, 408, 510, 612, 714, 816, 918, 1020, 1122, 1224, 1300.5},
	  {3199}}},
	{"xavier-nx",
	 {{192, 422.4, 652.8, 883.2, 1113.6, 1344, 1574.4, 1804.8, 1907.2},
	  {114.75, 204, 306, 408, 510, 599.25, 701.25, 803.25, 905.25, 1007.25, 1109.25},
	  {1866}}},
	{"tx2",
	 {{345.6, 652.8, 960, 1267.2, 1574.4, 1881.6, 2035.2},
	  {114.75, 318.75, 522.75, 726.75, 930.75, 1134.75, 1300.5},
	  {800, 1062.4, 1331.2, 1600, 1866}}},
	{"rk3588",
	 {{408, 816, 1200, 1608, 2016, 2400}, {300, 400, 500, 600, 700, 800, 900, 1000}, {528, 1068, 1560, 2112}}},
	{"orin-fixed-cpu", {{1728}, {306, 408, 510, 612, 714, 816, 918, 1020}, {665.6, 2133, 3199}}},
};

struct made {
	struct sim_rng rng;
	struct sim_model model;
	bool operators;
	double core[OPERATORS], memory[OPERATORS], host[OPERATORS], flat, overlap;
	double row[CLOCK_COUNT][ENTRIES_MAX], cell_sd, inversion;
	double share[CLOCK_COUNT], base_uw, volts_low, knee;
};

/* A sum of operators, each bound by core or memory, with some of the host's time hidden. */
static double operators_ns(const struct made *made, const double slow[CLOCK_COUNT])
{
	double execution = 0, host = 0;

	for (int i = 0; i < OPERATORS; i++) {
		execution += fmax(made->core[i] * slow[CLOCK_GPU], made->memory[i] * slow[CLOCK_MEM]);
		host += made->host[i] * slow[CLOCK_CPU];
	}
	return made->flat + fmax(host, execution) + made->overlap * fmin(host, execution);
}

static double volts(const struct made *made, double f)
{
	return f < made->knee ? made->volts_low :
				made->volts_low + (1 - made->volts_low) * (f - made->knee) / (1 - made->knee);
}

static double idle_uw(const struct made *made, const double slow[CLOCK_COUNT])
{
	double sum = made->base_uw;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		double v = volts(made, 1 / slow[c]);
		sum += made->share[c] / slow[c] * v * v * (c == CLOCK_MEM ? 0.6 : 0.3);
	}
	return sum;
}

static double power_uw(struct made *made, const double slow[CLOCK_COUNT], double ns, double fastest)
{
	double sum = made->base_uw, busy = fastest / ns;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		double f = 1 / slow[c], v = volts(made, f), use = fmin(busy * slow[c], 1);
		sum += made->share[c] * f * v * v * (c == CLOCK_MEM ? 0.6 + 0.4 * use : 0.3 + 0.7 * use);
	}
	return sum * (1 + 0.01 * sim_gauss(&made->rng));
}

static void draw_work(struct made *made)
{
	struct sim_rng *rng = &made->rng;
	double host, core;

	made->operators = sim_uniform(rng, 0, 1) < 0.4;
	sim_random(&made->model, sim_uniform(rng, 0, 1) < 0.6 ? SIM_DNN : SIM_DECODE,
		   (struct sim_clocks){1e9, 1e9, 1e9}, rng);
	host = sim_log_uniform(rng, 0.05, 3);
	core = sim_uniform(rng, 0.1, 0.9);
	for (int i = 0; i < OPERATORS; i++) {
		made->core[i] = 1e6 * core * sim_log_uniform(rng, 0.2, 2);
		made->memory[i] = 1e6 * (1 - core) * sim_log_uniform(rng, 0.2, 2);
		made->host[i] = 1e6 * host * sim_log_uniform(rng, 0.5, 2) * 0.5;
	}
	made->flat = 12e6 * sim_log_uniform(rng, 0.002, 0.1);
	made->overlap = sim_uniform(rng, 0, 0.4);
}

static void draw(struct made *made, uint64_t seed, const struct table *table)
{
	static const double cell[] = {0.003, 0.006, 0.012, 0.03}, row[] = {0, 0.004, 0.012};
	struct sim_rng *rng = &made->rng;
	double row_sd;

	rng->state = seed * 7919 + 17;
	draw_work(made);
	made->cell_sd = cell[(int)sim_uniform(rng, 0, 3.999)];
	row_sd = row[(int)sim_uniform(rng, 0, 2.999)];
	for (int c = 0; c < CLOCK_COUNT; c++)
		for (int i = 0; i < ENTRIES_MAX; i++)
			made->row[c][i] = table->mhz[c][1] > 0 ? row_sd * sim_gauss(rng) : 0;
	made->inversion = sim_uniform(rng, 0, 1) < 0.2 ? sim_uniform(rng, 0.01, 0.05) : 0;
	made->base_uw = sim_log_uniform(rng, 1.5e6, 5e6);
	made->share[CLOCK_CPU] = sim_log_uniform(rng, 5e5, 6e6);
	made->share[CLOCK_GPU] = sim_log_uniform(rng, 1e6, 1.2e7);
	made->share[CLOCK_MEM] = sim_log_uniform(rng, 5e5, 3e6);
	made->volts_low = sim_uniform(rng, 0.55, 0.8);
	made->knee = sim_uniform(rng, 0.2, 0.6);
}

static double latency_ns(struct made *made, const double slow[CLOCK_COUNT], const int entry[CLOCK_COUNT], bool top)
{
	struct sim_clocks at = {made->model.top.cpu / slow[0], made->model.top.gpu / slow[1],
				made->model.top.mem / slow[2]};
	double ns = made->operators ? operators_ns(made, slow) : sim_run(&made->model, at, 0, NULL, NULL, NULL);
	double off = made->cell_sd * sim_gauss(&made->rng);

	for (int c = 0; c < CLOCK_COUNT; c++)
		off += made->row[c][entry[c]];
	return ns * exp(off + (top ? made->inversion : 0));
}

static int entries(const double *mhz)
{
	int n = 0;

	while (n < ENTRIES_MAX && mhz[n] > 0)
		n++;
	return n;
}

int board_make(uint64_t seed, struct board_set *set)
{
	return board_make_work(seed, 0, set, NULL);
}

int board_make_work(uint64_t seed, uint64_t work, struct board_set *set, double **idle)
{
	const struct table *table = &tables[seed % (sizeof(tables) / sizeof(tables[0]))];
	struct made *made = malloc(sizeof(*made));
	int n[CLOCK_COUNT], e[CLOCK_COUNT];
	double top[CLOCK_COUNT], fastest;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		n[c] = entries(table->mhz[c]);
		top[c] = table->mhz[c][n[c] - 1];
	}
	set->count = 0;
	set->row = calloc((size_t)(n[0] * n[1] * n[2]), sizeof(*set->row));
	if (idle)
		*idle = calloc((size_t)(n[0] * n[1] * n[2]), sizeof(**idle));
	if (!made || !set->row || (idle && !*idle)) {
		free(made);
		free(set->row);
		if (idle)
			free(*idle);
		return -ENOMEM;
	}
	draw(made, seed, table);
	if (work) {
		made->rng.state = work * 104729 + seed;
		draw_work(made);
	}
	fastest = latency_ns(made, (const double[]){1, 1, 1}, (const int[]){n[0] - 1, n[1] - 1, n[2] - 1}, false);
	for (e[0] = 0; e[0] < n[0]; e[0]++) {
		for (e[1] = 0; e[1] < n[1]; e[1]++) {
			for (e[2] = 0; e[2] < n[2]; e[2]++) {
				struct sample *s = &set->row[set->count++];
				double slow[CLOCK_COUNT], ns;

				for (int c = 0; c < CLOCK_COUNT; c++) {
					slow[c] = top[c] / table->mhz[c][e[c]];
					s->point.hz[c] = (uint64_t)(table->mhz[c][e[c]] * 1e6);
				}
				ns = latency_ns(made, slow, e, n[1] > 1 && e[1] == n[1] - 1);
				s->latency_ns = (uint64_t)ns;
				s->power_uw = (uint64_t)power_uw(made, slow, ns, fastest);
				s->n = 1;
				if (idle)
					(*idle)[set->count - 1] = idle_uw(made, slow);
			}
		}
	}
	snprintf(set->name, sizeof(set->name), "%s %s %llu cell %.1f%%", table->name,
		 made->operators                    ? "operators" :
		 made->model.layer[0].per_token > 0 ? "decode" :
						      "layers",
		 (unsigned long long)seed, 100 * made->cell_sd);
	free(made);
	return 0;
}

struct model *board_model(const struct board_set *set, const struct board_powers *prior)
{
	size_t n = set->count, count[CLOCK_COUNT] = {n, n, n};
	uint64_t *hz = malloc(CLOCK_COUNT * n * sizeof(*hz));
	const uint64_t *axis[CLOCK_COUNT] = {hz, hz + n, hz + 2 * n};
	struct model_options options;
	static struct grid grid;
	struct model *model;

	if (!hz)
		abort();
	for (size_t i = 0; i < n; i++)
		for (size_t c = 0; c < CLOCK_COUNT; c++)
			hz[c * n + i] = set->row[i].point.hz[c];
	if (grid_init(&grid, axis, count) < 0)
		abort();
	free(hz);
	model_options_default(&options);
	if (prior)
		options.board = *prior;
	model = model_new(&grid, &options);
	if (!model)
		abort();
	return model;
}
