/* SPDX-License-Identifier: MIT */
#include "picture.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/file.h"
#include "../common/units.h"

static const char *const shown_names[SHOW_COUNT] = {"latency", "bound", "power", "regime", "bubble"};

int shown_parse(const char *text, enum shown *out)
{
	for (int i = 0; i < SHOW_COUNT; i++) {
		if (strcmp(text, shown_names[i]) == 0) {
			*out = (enum shown)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *shown_title(const struct picture *picture)
{
	static const char *const titles[SHOW_COUNT] = {"predicted latency", "upper bound of latency",
						       "power while running", "regime", "GPU idle between kernels"};

	if (picture->shown == SHOW_POWER && !picture->power_known)
		return "relative power (no sensor)";
	return titles[picture->shown];
}

const char *shown_unit(const struct picture *picture, double *divisor)
{
	if (picture->shown == SHOW_POWER) {
		*divisor = picture->power_known ? 1e6 : 1;
		return picture->power_known ? "W" : "";
	}
	if (picture->shown == SHOW_REGIME) {
		*divisor = 1;
		return "";
	}
	*divisor = picture->high >= 10e9 ? 1e9 : picture->high >= 1e6 ? 1e6 : 1e3;
	return picture->high >= 10e9 ? "s" : picture->high >= 1e6 ? "ms" : "us";
}

const char *regime_name(unsigned regime)
{
	static const char *const names[CELL_REGIMES] = {"unknown", "launch-bound", "execution-bound", "mixed"};

	return names[regime < CELL_REGIMES ? regime : 0];
}

size_t picture_index(const struct picture *picture, size_t cpu, size_t gpu, size_t mem)
{
	return (cpu * picture->count[CLOCK_GPU] + gpu) * picture->count[CLOCK_MEM] + mem;
}

double picture_value(const struct picture *picture, size_t index)
{
	const struct picture_cell *cell = &picture->cell[index];

	switch (picture->shown) {
	case SHOW_BOUND: return cell->bound_ns;
	case SHOW_POWER: return cell->power_uw;
	case SHOW_REGIME: return cell->regime;
	case SHOW_BUBBLE: return cell->bubble_ns;
	case SHOW_LATENCY:
	case SHOW_COUNT: break;
	}
	return cell->latency_ns;
}

double picture_level(const struct picture *picture, double value)
{
	double low = picture->low, high = picture->high;

	if (!(high > low) || !(value > low))
		return 0;
	if (value >= high)
		return 1;
	if (low <= 0 || picture->shown == SHOW_REGIME)
		return (value - low) / (high - low);
	return log(value / low) / log(high / low);
}

bool picture_feasible(const struct picture *picture, size_t index)
{
	return picture->deadline_ns == 0 || picture->cell[index].bound_ns <= (double)picture->deadline_ns;
}

/* Parse a comma-separated list of numbers. Returns the count or -EPROTO. */
static long parse_axis(const char *text, uint64_t *hz)
{
	size_t count = 0;

	while (*text) {
		char *end;

		if (count == GRID_AXIS_MAX)
			return -EPROTO;
		hz[count++] = strtoull(text, &end, 10);
		if (end == text || (*end != ',' && *end != '\0'))
			return -EPROTO;
		text = end + (*end == ',');
	}
	return count ? (long)count : -EPROTO;
}

/* latency:bound:power:measured:source:regime:bubble,... of one row. */
static int parse_row(const char *text, struct picture_cell *cell, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		double field[7] = {0};

		for (size_t f = 0; f < 7; f++) {
			char *end;

			field[f] = strtod(text, &end);
			if (end == text || !isfinite(field[f]) || field[f] < 0)
				return -EPROTO;
			text = end;
			if (*text == ':' && f < 6)
				text++;
			else if (f < 6)
				return -EPROTO;
		}
		cell[i] = (struct picture_cell){.latency_ns = field[0],
						.bound_ns = field[1],
						.power_uw = field[2],
						.measured = (uint64_t)field[3],
						.source = (unsigned)field[4],
						.regime = field[5] < CELL_REGIMES ? (unsigned)field[5] : 0,
						.bubble_ns = field[6]};
		if (*text != (i + 1 < count ? ',' : '\0'))
			return -EPROTO;
		text += *text == ',';
	}
	return 0;
}

static int parse_head(struct picture *picture, const struct ctl *ctl)
{
	static const char *const keys[CLOCK_COUNT] = {"cpu_hz", "gpu_hz", "mem_hz"};
	const char *current = ctl_text(ctl, "current");
	int64_t number = -1;

	snprintf(picture->state, sizeof(picture->state), "%s", ctl_text(ctl, "state"));
	snprintf(picture->phase, sizeof(picture->phase), "%s", ctl_text(ctl, "phase"));
	picture->context = ctl_u64(ctl, "context");
	picture->power_known = ctl_u64(ctl, "power_known") != 0;
	picture->slowdown = strtod(ctl_text(ctl, "slowdown"), NULL);
	picture->points = 1;
	for (int c = 0; c < CLOCK_COUNT; c++) {
		long count = parse_axis(ctl_text(ctl, "%s", keys[c]), picture->hz[c]);

		if (count < 0)
			return (int)count;
		picture->count[c] = (size_t)count;
		picture->points *= (size_t)count;
	}
	if (parse_i64(current, &number) < 0 || number >= (int64_t)picture->points)
		number = -1;
	picture->current = (long)number;
	picture->cell = calloc(picture->points, sizeof(*picture->cell));
	return picture->cell ? 0 : -ENOMEM;
}

/* Parse the rows in this reply, from `row` on. */
static int parse_rows(struct picture *picture, const struct ctl *ctl, size_t *row)
{
	size_t rows = picture->count[CLOCK_CPU] * picture->count[CLOCK_GPU];
	uint64_t next = ctl_u64(ctl, "next");
	size_t until = next ? next : rows;

	if (until <= *row || until > rows)
		return -EPROTO;
	for (; *row < until; ++*row) {
		const char *text = ctl_text(ctl, "row.%zu.%zu", *row / picture->count[CLOCK_GPU],
					    *row % picture->count[CLOCK_GPU]);
		int rc = parse_row(text, &picture->cell[*row * picture->count[CLOCK_MEM]], picture->count[CLOCK_MEM]);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static void summarise(struct picture *picture)
{
	double least = INFINITY;

	picture->cheapest = -1;
	picture->low = INFINITY;
	for (size_t i = 0; i < picture->points; i++) {
		const struct picture_cell *cell = &picture->cell[i];
		double value = picture_value(picture, i);

		picture->measured += cell->measured > 0;
		picture->extrapolated += cell->measured == 0 && cell->source == SOURCE_ENVELOPE;
		picture->regimes[cell->regime]++;
		if (picture_feasible(picture, i)) {
			picture->low = value < picture->low ? value : picture->low;
			picture->high = value > picture->high ? value : picture->high;
		}
		if (picture->deadline_ns && picture_feasible(picture, i) && cell->power_uw < least) {
			least = cell->power_uw;
			picture->cheapest = (long)i;
		}
	}
	if (picture->shown == SHOW_REGIME) {
		picture->low = 0;
		picture->high = CELL_REGIMES - 1;
	} else if (picture->low > picture->high) { /* no cell can meet the deadline */
		picture->low = picture->high = (double)picture->deadline_ns;
	}
}

static int fetch(struct picture *picture, struct ctl *ctl, const char *model, const char *phase, const char *context)
{
	size_t row = 0, rows = 1;
	int rc = 0;

	snprintf(picture->model, sizeof(picture->model), "%s", model);
	while (rc == 0 && row < rows) {
		struct kv_out out = {0};

		kv_add(&out, "op", "surface");
		kv_add(&out, "model", "%s", model);
		if (phase)
			kv_add(&out, "phase", "%s", phase);
		if (context)
			kv_add(&out, "context", "%s", context);
		if (row)
			kv_add_u64(&out, "from", row);
		rc = ctl_call(ctl, &out);
		kv_free(&out);
		if (rc < 0)
			return rc;
		if (row == 0)
			rc = parse_head(picture, ctl);
		rows = picture->count[CLOCK_CPU] * picture->count[CLOCK_GPU];
		if (rc == 0)
			rc = parse_rows(picture, ctl, &row);
	}
	if (rc < 0)
		ctl_error(ctl, "cannot parse flamed's reply (%s); are flamectl and flamed of the same version?",
			  strerror(-rc));
	return rc;
}

/* Phases in which a model was measured, comma-separated; "" for none. */
static const char *measured_phases(struct ctl *ctl, const char *model)
{
	size_t i;

	return ctl_find_model(ctl, model, &i) > 0 ? ctl_text(ctl, "model.%zu.phases", i) : "";
}

int picture_fetch(struct picture *picture, struct ctl *ctl, const char *model, const char *phase, const char *context)
{
	int rc = fetch(picture, ctl, model, phase, context);
	char only[sizeof(picture->phase)];

	if (rc == 0 && !phase && strcmp(picture->state, "none") == 0) {
		snprintf(only, sizeof(only), "%s", measured_phases(ctl, model));
		if (*only && !strchr(only, ',') && strcmp(only, picture->phase) != 0) {
			picture_free(picture);
			rc = fetch(picture, ctl, model, only, context);
		}
	}
	if (rc == 0)
		summarise(picture);
	return rc;
}

void picture_explain_none(const struct picture *picture, struct ctl *ctl)
{
	const char *phases = measured_phases(ctl, picture->model);

	printf("%s: phase %s was not measured yet.", picture->model, picture->phase);
	if (*phases)
		printf(" Measured: --phase %s.", phases);
	printf(" Requests are measured as they run. To profile the model: flamectl profile %s -- COMMAND...\n",
	       picture->model);
}

int picture_write(const struct ctl *ctl, const char *path, void (*draw)(const struct picture *, FILE *),
		  const struct picture *picture)
{
	CLEANUP_MEM char *text = NULL;
	size_t len = 0;
	FILE *out;
	int rc;

	if (strcmp(picture->state, "none") == 0) {
		ctl_error(ctl, "%s was not written: phase %s of %s was not measured yet",
			  strcmp(path, "-") ? path : "the picture", picture->phase, picture->model);
		return 1;
	}
	if (strcmp(path, "-") == 0) {
		draw(picture, stdout);
		return 0;
	}
	out = open_memstream(&text, &len);
	if (!out)
		return 1;
	draw(picture, out);
	rc = fclose(out) == 0 ? file_replace(path, text, len, 0644) : -errno;
	if (rc < 0) {
		ctl_error(ctl, "cannot write %s: %s", path, strerror(-rc));
		return 1;
	}
	if (!ctl->json)
		printf("written: %s\n", path);
	return 0;
}

void picture_free(struct picture *picture)
{
	free(picture->cell);
	picture->cell = NULL;
}

void colour_at(double level, uint8_t rgb[3])
{
	/* nine stops of viridis (matplotlib, CC0): perceptually uniform, and legible in grey and
	 * for colour-blind people */
	static const uint8_t stops[9][3] = {{68, 1, 84},    {71, 45, 123},  {59, 82, 139},
					    {44, 114, 142}, {33, 145, 140}, {40, 174, 128},
					    {94, 201, 98},  {173, 220, 48}, {253, 231, 37}};
	double at = (level < 0 ? 0 : level > 1 ? 1 : level) * 8;
	int i = at >= 8 ? 7 : (int)at;
	double part = at - i;

	for (int c = 0; c < 3; c++)
		rgb[c] = (uint8_t)lrint(stops[i][c] + part * (stops[i + 1][c] - stops[i][c]));
}
