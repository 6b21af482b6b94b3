/* SPDX-License-Identifier: MIT */
/* A model's surface as flamectl draws it: fetched in parts from the daemon. */
#ifndef CLIENT_PICTURE_H
#define CLIENT_PICTURE_H

#include "../common/point.h"
#include "ctl.h"

enum shown { SHOW_LATENCY, SHOW_BOUND, SHOW_POWER, SHOW_REGIME, SHOW_BUBBLE, SHOW_COUNT };
enum cell_regime { CELL_UNKNOWN, CELL_LAUNCH_BOUND, CELL_EXECUTION_BOUND, CELL_MIXED, CELL_REGIMES };

struct picture_cell {
	double latency_ns, bound_ns, power_uw, bubble_ns;
	uint64_t measured; /* inferences */
	unsigned source, regime;
};

struct picture {
	char model[MODEL_NAME_MAX + 1], state[16], phase[16];
	uint64_t context;
	bool power_known;
	double slowdown;
	size_t count[CLOCK_COUNT];
	uint64_t hz[CLOCK_COUNT][GRID_AXIS_MAX];
	long current; /* grid index, -1: none */
	struct picture_cell *cell; /* (cpu * count[GPU] + gpu) * count[MEM] + mem */
	/* as asked for */
	enum shown shown;
	uint64_t deadline_ns; /* 0: none; else cells that cannot meet it are marked */
	/* found */
	size_t points, measured;     /* cells */
	size_t regimes[CELL_REGIMES];/* cells of each */
	long cheapest;               /* least power among those that meet the deadline, -1: none */
	double low, high;            /* of the shown value, over the cells that can promise the deadline */
};

/* Ask the daemon. 0, or -errno after a message. picture_free() in any case. */
int picture_fetch(struct picture *picture, struct ctl *ctl, const char *model, const char *phase, const char *context);
void picture_free(struct picture *picture);

/* What is shown of a cell, and its place between low and high on a
 * logarithmic scale, 0 to 1. */
double picture_value(const struct picture *picture, size_t cell);
double picture_level(const struct picture *picture, double value);
size_t picture_index(const struct picture *picture, size_t cpu, size_t gpu, size_t mem);
bool picture_feasible(const struct picture *picture, size_t cell);

/* "latency", ... and its unit's name and divisor ("ms", 1e6). */
const char *shown_name(enum shown shown);
const char *shown_title(const struct picture *picture);
const char *shown_unit(const struct picture *picture, double *divisor);
int shown_parse(const char *text, enum shown *out);
const char *regime_name(unsigned regime);

/* The colour map (viridis, dark to light) at 0 to 1. */
void colour_at(double level, uint8_t rgb[3]);

/* An SVG of it to a stream. */
void picture_svg(const struct picture *picture, FILE *out);

/* To a terminal. */
void picture_print(const struct picture *picture, const struct ctl *ctl);

#endif
