/* SPDX-License-Identifier: MIT */
/* Boards drawn at random with the irregularities of measured ones, and the work on them: clock
 * tables, latency, power, idle power, transition latencies and noise. A pure generator: the same
 * seed and kind give the same board. Shares no code with estimator/ but the grid and the names of
 * clocks. */
#ifndef TESTS_POPULATION_BOARDS_H
#define TESTS_POPULATION_BOARDS_H

#include <stdbool.h>
#include "../../estimator/grid.h"
#include "../sim/sim.h"

#define BOARD_WORKLOADS_MAX 3

/* One per row of the table of measured surfaces that the population imitates, and a smooth one to compare with. */
enum board_kind {
	BOARD_MANY,      /* 29 CPU x 11 GPU entries, detector */
	BOARD_LANGUAGE,  /* the same clocks, language model, one run a point: the most irregular */
	BOARD_FIXED_CPU, /* 8 GPU x 3 memory entries */
	BOARD_FRAMEWORK, /* 12 CPU x 4 GPU x 4 memory entries, interpreted framework */
	BOARD_ENGINE,    /* 13 GPU x 4 memory entries, compiled engine: nearly smooth */
	BOARD_WAITING,   /* 8 CPU x 5 GPU entries, a library that waits at each layer */
	BOARD_LARGE,     /* 8 CPU x 6 GPU x 4 memory entries */
	BOARD_SMOOTH,    /* 29 CPU x 11 GPU x 4 memory entries, no irregularity */
	BOARD_KINDS
};
extern const char *const board_kind_name[BOARD_KINDS];

/* log(factor) = AR(1) of deviation `sd` plus, once in `tail_every` inferences, an exponential of mean `tail_mean`. */
struct board_noise {
	double rho, sd, tail_share, tail_mean;
	double state;
};

/* Latency and power of one model, per grid point. */
struct board_work {
	double latency_ns[GRID_POINTS_MAX]; /* median of one inference alone */
	double power_uw[GRID_POINTS_MAX];   /* while inferences run back to back */
	double fastest_ns;
	struct board_noise noise;
};

struct board_made {
	char name[64];
	enum board_kind kind;
	struct grid grid;
	double idle_uw[GRID_POINTS_MAX];
	double up_ns[CLOCK_COUNT], down_ns[CLOCK_COUNT]; /* transition latency, write and settling */
	struct board_work work[BOARD_WORKLOADS_MAX];
	size_t workloads;
	/* Of two requests in flight, work r proceeds at the speed 1 - theta[r][s] x the speed of work s: 0 independent
	 * engines, 1 shared engine, above 1 they slow each other down. */
	double theta[BOARD_WORKLOADS_MAX][BOARD_WORKLOADS_MAX];
};

/* `workloads` models (1 to BOARD_WORKLOADS_MAX) on board `seed` of a kind. */
void board_draw(struct board_made *board, enum board_kind kind, uint64_t seed, size_t workloads);

/* A language model: latency at each of a few contexts over that at none. Between them it is a straight line. */
#define BOARD_KNOTS 5
extern const double board_knot[BOARD_KNOTS]; /* tokens */
struct board_growth {
	double factor[BOARD_KNOTS][GRID_POINTS_MAX];
};
enum board_phase { BOARD_DECODE, BOARD_PREFILL, BOARD_PHASES }; /* workloads of the board */

/* A board of a kind whose two workloads are the phases of a language model. */
void board_draw_language(struct board_made *board, struct board_growth growth[BOARD_PHASES], enum board_kind kind,
			 uint64_t seed);
double board_latency_ns(const struct board_made *board, const struct board_growth *growth, enum board_phase phase,
			size_t point, double context);

/* The next factor on a latency. */
double board_noise_next(struct board_noise *noise, struct sim_rng *rng);
/* Quantile of that factor, from 40,000 draws. */
double board_noise_quantile(const struct board_noise *noise, double quantile);

/* Pace of each of `count` requests in flight at once (1: alone), given which work each is. */
void board_paces(const struct board_made *board, const size_t *work, size_t count, double *pace);

#endif
