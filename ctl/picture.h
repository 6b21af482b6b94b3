/* SPDX-License-Identifier: MIT */
/* A model's surface as flamectl draws it. It is fetched from the daemon in several messages. */
#ifndef CTL_PICTURE_H
#define CTL_PICTURE_H

#include "../common/point.h"
#include "ctl.h"

enum shown { SHOW_LATENCY, SHOW_BOUND, SHOW_POWER, SHOW_REGIME, SHOW_BUBBLE, SHOW_COUNT };
#define SOURCE_ENVELOPE 0 /* of picture_cell.source, as docs/protocol.md numbers it */
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
	long current;              /* grid index, -1: none */
	struct picture_cell *cell; /* (cpu * count[GPU] + gpu) * count[MEM] + mem */
	/* set by the caller: */
	enum shown shown;
	uint64_t mem_hz;      /* the only memory clock drawn on a terminal; 0: all */
	uint64_t deadline_ns; /* cells whose bound exceeds it are marked; 0: none */
	/* derived from the cells: */
	/* cells; extrapolated: their bound comes from the envelope, as no measurement is near */
	size_t points, measured, extrapolated;
	size_t regimes[CELL_REGIMES]; /* number of cells in each regime */
	long cheapest;                /* least power among cells that meet the deadline; -1: none */
	double low, high;             /* range of the displayed quantity over cells that meet the deadline */
};

/* Fetch the surface from the daemon. The default phase is run, or the one other phase in which the
 * model was measured. Returns 0, or a negative errno after a message. Call picture_free() in either
 * case. */
int picture_fetch(struct picture *picture, struct ctl *ctl, const char *model, const char *phase, const char *context);
void picture_free(struct picture *picture);

/* The displayed quantity of a cell, and its position between low and high on a logarithmic scale, 0 to 1. */
double picture_value(const struct picture *picture, size_t cell);
double picture_level(const struct picture *picture, double value);
size_t picture_index(const struct picture *picture, size_t cpu, size_t gpu, size_t mem);
bool picture_feasible(const struct picture *picture, size_t cell);

/* "predicted latency", ... and its unit's name and divisor ("ms", 1e6). */
const char *shown_title(const struct picture *picture);
const char *shown_unit(const struct picture *picture, double *divisor);
int shown_parse(const char *text, enum shown *out);
const char *regime_name(unsigned regime);

/* The colour map (viridis, dark to light) at 0 to 1. */
void colour_at(double level, uint8_t rgb[3]);

/* Write the surface as SVG. */
void picture_svg(const struct picture *picture, FILE *out);

/* Write the output of `draw` to a file, or to stdout for "-". Returns the exit status, after a
 * message on failure: in state none too, as there is nothing to draw. */
int picture_write(const struct ctl *ctl, const char *path, void (*draw)(const struct picture *, FILE *),
		  const struct picture *picture);

/* In state none: explain that there is no surface, and list the phases that were measured. */
void picture_explain_none(const struct picture *picture, struct ctl *ctl);

/* Print the surface on the terminal. */
void picture_print(const struct picture *picture, const struct ctl *ctl);

#endif
