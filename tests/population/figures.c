/* SPDX-License-Identifier: MIT */
#include "figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../sim/sim.h"

bool on_every_processor(size_t jobs, void (*play)(size_t job))
{
	size_t workers = (size_t)sysconf(_SC_NPROCESSORS_ONLN);
	bool good = true;

	for (size_t w = 0; w < workers; w++) {
		pid_t pid = fork();
		if (pid < 0)
			abort();
		if (pid > 0)
			continue;
		for (size_t job = w; job < jobs; job += workers)
			play(job);
		fflush(stdout);
		_exit(0);
	}
	for (size_t w = 0; w < workers; w++) {
		int status;
		good = wait(&status) >= 0 && status == 0 && good;
	}
	return good;
}

int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void mean_interval(const double *value, size_t n, double *low, double *high)
{
	static double mean[RESAMPLES];
	struct sim_rng rng = {99};

	for (size_t r = 0; r < RESAMPLES; r++) {
		mean[r] = 0;
		for (size_t i = 0; i < n; i++)
			mean[r] += value[(size_t)sim_uniform(&rng, 0, (double)n - 1e-6)] / (double)n;
	}
	qsort(mean, RESAMPLES, sizeof(*mean), by_size);
	*low = mean[RESAMPLES / 40];
	*high = mean[RESAMPLES - RESAMPLES / 40 - 1];
}
