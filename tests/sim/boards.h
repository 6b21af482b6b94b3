/* SPDX-License-Identifier: MIT */
/* Whole boards, measured at every operating point: made up at random, with the
 * faults that real ones have. Shares no code with estimator/ but the sample's shape. */
#ifndef TESTS_BOARDS_H
#define TESTS_BOARDS_H

#include "../../estimator/sample.h"
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

/* The same with other work on it: board `seed` by its clocks, irregular rows and power, the model drawn anew from
 * `work`. `idle_uw` (NULL: not wanted) becomes, row by row, the power with nothing running; the caller frees it. */
int board_make_work(uint64_t seed, uint64_t work, struct board_set *set, double **idle_uw);

#endif
