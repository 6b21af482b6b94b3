/* SPDX-License-Identifier: MIT */
/* Many runs on every processor, and their statistics. */
#ifndef TESTS_POPULATION_FIGURES_H
#define TESTS_POPULATION_FIGURES_H

#include <stdbool.h>
#include <stddef.h>

#define RESAMPLES 2000 /* of a population, for an interval */

/* play(job) for every job, in processes that share only memory mapped so; job i of `jobs` in
 * process i modulo the number of processors. False where one of them did not end with 0. */
bool on_every_processor(size_t jobs, void (*play)(size_t job));

/* For qsort(): doubles, the least first. */
int by_size(const void *a, const void *b);

/* 95 % interval of the mean of n values: runs are drawn again with replacement. */
void mean_interval(const double *value, size_t n, double *low, double *high);

#endif
