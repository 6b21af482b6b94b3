/* SPDX-License-Identifier: MIT */
/* The simulated board: a sysfs tree of plain files, and the latency and power of a model at each operating point. */
#ifndef TESTS_VTIME_PLANT_H
#define TESTS_VTIME_PLANT_H

#include <stdbool.h>
#include "../../estimator/grid.h"

#define PLANT_KNOTS 3 /* contexts at which latency is tabled */

struct plant {
	struct grid grid;
	double context[PLANT_KNOTS];
	double latency_ns[PLANT_KNOTS][GRID_POINTS_MAX];
	double power_uw[GRID_POINTS_MAX], idle_uw[GRID_POINTS_MAX];
	char root[400];
	bool sensor;
};

struct plant_shape {
	size_t cpu, gpu, mem; /* entries of each axis; 0: no such clock */
	bool decode;          /* latency grows with the context */
};

/* A random model of tests/sim on a generated board. */
void plant_generate(struct plant *plant, struct plant_shape shape, uint64_t seed);
/* Measured latencies; power as of a generated board. False: no such file. */
bool plant_replay(struct plant *plant, const char *csv);

/* Write the tree below `root`. */
void plant_build(struct plant *plant, const char *root, bool sensor);

double plant_latency_ns(const struct plant *plant, size_t point, double context);
double plant_fastest_ns(const struct plant *plant, double context);

/* The operating point set by the files; a clock that is not pinned is at its highest. */
size_t plant_point(const struct plant *plant);
/* Set the sensor's value; 0: reads of it fail. */
void plant_sense(const struct plant *plant, double power_uw);

/* A write by another program; path relative to the root. */
void plant_write(const struct plant *plant, const char *path, const char *text);
void plant_read(const struct plant *plant, const char *path, char *text, size_t size);

/* All knob files and their contents, as one text. */
void plant_knobs(const struct plant *plant, char *text, size_t size);

#endif
