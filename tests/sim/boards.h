/* SPDX-License-Identifier: MIT */
/* Boards measured at every operating point, drawn at random with the
 * irregularities of real ones. Drawing one shares no code with estimator/ but struct sample; only board_model()
 * calls it. */
#ifndef TESTS_BOARDS_H
#define TESTS_BOARDS_H

#include "../../estimator/model.h"
#include "sim.h"

struct board_set {
	char name[64];
	struct sample *row; /* freed by the caller */
	size_t count;
};

/* Clock tables of a random real board; a model whose latency is a timeline of
 * layers or a sum of operators; power with a voltage table; then irregular rows, noise cell by
 * cell (sd 0.3 to 3 %), and in one of five sets a top clock that is slower than the one below. Returns 0 or -ENOMEM. */
int board_make(uint64_t seed, struct board_set *set);

/* The same with other work on it: board `seed` by its clocks, irregular rows and power, the model drawn again from
 * `work`. `idle_uw` (NULL: not wanted) becomes, row by row, the power with nothing running; the caller frees it. */
int board_make_work(uint64_t seed, uint64_t work, struct board_set *set, double **idle_uw);

/* An empty model over the clocks of `set`, with default options and `prior` (NULL: none). Never NULL: aborts when out
 * of memory. All models share one grid, that of the newest, so there are models of one set at a time. */
struct model *board_model(const struct board_set *set, const struct board_powers *prior);

#endif
