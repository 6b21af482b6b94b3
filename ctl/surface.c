/* SPDX-License-Identifier: MIT */
/* flamectl surface: the heat map in a terminal, the JSON, the options. */
#include "picture.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/units.h"
#include "json.h"

#define LABEL_WIDTH 8 /* of the CPU axis */
#define CELL_WIDE   6 /* " 28.1 " */
#define CELL_NARROW 2

/* viridis in the colours of a 256-colour terminal, dark to light. */
static const uint8_t ramp_256[] = {53, 54, 55, 61, 25, 31, 30, 36, 35, 71, 77, 113, 148, 184, 220};

/* Set the background colour of a level (0 to 1) and a legible foreground. */
static void set_colour(const struct ctl *ctl, double level)
{
	const char *depth = getenv("COLORTERM");
	uint8_t rgb[3];

	if (!ctl->colour)
		return;
	colour_at(level, rgb);
	printf("\033[38;5;%d;", level > 0.6 ? 16 : 231);
	if (depth && (strcmp(depth, "truecolor") == 0 || strcmp(depth, "24bit") == 0))
		printf("48;2;%d;%d;%dm", rgb[0], rgb[1], rgb[2]);
	else
		printf("48;5;%dm", ramp_256[(size_t)(level * (double)(sizeof(ramp_256) - 1) + 0.5)]);
}

static void unset_colour(const struct ctl *ctl)
{
	if (ctl->colour)
		printf("\033[0m");
}

static void value_text(const struct picture *picture, size_t index, char *out, size_t size)
{
	static const char *const regimes[CELL_REGIMES] = {"?", "cpu", "gpu", "both"};
	double divisor, value = picture_value(picture, index);

	if (picture->shown == SHOW_REGIME) {
		snprintf(out, size, "%s", regimes[picture->cell[index].regime]);
		return;
	}
	shown_unit(picture, &divisor);
	value /= divisor;
	snprintf(out, size, "%.*f", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
}

/* The mark of a cell that is neither the current nor the cheapest point. */
static const char *cell_mark(const struct picture *picture, const struct ctl *ctl, size_t index)
{
	if (picture->cell[index].measured)
		return ctl->colour && ctl->utf8 ? "\u2022" : "*";
	if (!ctl->colour && !picture_feasible(picture, index))
		return "x";
	return picture->cell[index].source == SOURCE_ENVELOPE ? "~" : " ";
}

/* Six columns: a mark, the number, a mark. */
static void wide_cell(const struct picture *picture, const struct ctl *ctl, size_t index)
{
	bool current = picture->current == (long)index, cheapest = picture->cheapest == (long)index;
	const char *left = current ? "[" : cheapest ? "<" : " ";
	const char *right = current ? "]" : cheapest ? ">" : cell_mark(picture, ctl, index);
	char text[16];

	value_text(picture, index, text, sizeof(text));
	printf("%s%*.4s%s", left, CELL_WIDE - 2, text, right);
}

/* Two columns: the colour or a character of the ramp in place of the number, and the same mark. */
static void narrow_cell(const struct picture *picture, const struct ctl *ctl, size_t index)
{
	static const char ramp[] = " .:-=+*#%@";
	double level = picture_level(picture, picture_value(picture, index));

	if (picture->current == (long)index)
		printf("[]");
	else if (picture->cheapest == (long)index)
		printf("<>");
	else if (ctl->colour)
		printf("%c%s", picture_feasible(picture, index) ? ' ' : '.', cell_mark(picture, ctl, index));
	else
		printf("%c%s", ramp[(int)(level * 9.999)], cell_mark(picture, ctl, index));
}

/* Cells that cannot be expected to meet the deadline have no colour. */
static void print_cell(const struct picture *picture, const struct ctl *ctl, size_t index, bool wide)
{
	if (picture->current == (long)index)
		printf("%s", sgr(ctl, "1;38;5;16;48;5;231"));
	else if (picture->cheapest == (long)index)
		printf("%s", sgr(ctl, "1;38;5;16;48;5;214"));
	else if (picture_feasible(picture, index))
		set_colour(ctl, picture_level(picture, picture_value(picture, index)));
	else
		printf("%s", sgr(ctl, SGR_DIM));
	if (wide)
		wide_cell(picture, ctl, index);
	else
		narrow_cell(picture, ctl, index);
	unset_colour(ctl);
}

static int panel_width(const struct picture *picture, bool wide)
{
	return LABEL_WIDTH + 1 + (int)picture->count[CLOCK_GPU] * (wide ? CELL_WIDE : CELL_NARROW);
}

static void print_panel_title(const struct picture *picture, const struct ctl *ctl, size_t mem, bool wide)
{
	char title[40] = "";

	if (picture->hz[CLOCK_MEM][mem])
		snprintf(title, sizeof(title), "memory %.4g MHz", (double)picture->hz[CLOCK_MEM][mem] / 1e6);
	printf("%*s %s%-*s%s", LABEL_WIDTH, "", sgr(ctl, SGR_BOLD), panel_width(picture, wide) - LABEL_WIDTH - 1, title,
	       sgr(ctl, SGR_OFF));
}

static void print_gpu_axis(const struct picture *picture, const struct ctl *ctl, bool wide)
{
	size_t gpus = picture->count[CLOCK_GPU];

	printf("%s%*s ", sgr(ctl, SGR_DIM), LABEL_WIDTH, "cpu\\gpu");
	for (size_t g = 0; wide && g < gpus; g++)
		printf("%*.0f ", CELL_WIDE - 1, (double)picture->hz[CLOCK_GPU][g] / 1e6);
	if (!wide) {
		char text[40];

		snprintf(text, sizeof(text), "%.0f..%.0f", (double)picture->hz[CLOCK_GPU][0] / 1e6,
			 (double)picture->hz[CLOCK_GPU][gpus - 1] / 1e6);
		printf("%-*s", panel_width(picture, wide) - LABEL_WIDTH - 1, text);
	}
	printf("%s", sgr(ctl, SGR_OFF));
}

static void print_row(const struct picture *picture, const struct ctl *ctl, size_t cpu, size_t mem, bool wide)
{
	double mhz = (double)picture->hz[CLOCK_CPU][cpu] / 1e6;

	printf("%s%*.*f%s ", sgr(ctl, SGR_DIM), LABEL_WIDTH, fmod(mhz, 1) > 0.05 ? 1 : 0, mhz, sgr(ctl, SGR_OFF));
	for (size_t g = 0; g < picture->count[CLOCK_GPU]; g++)
		print_cell(picture, ctl, picture_index(picture, cpu, g, mem), wide);
}

/* Lines of output beside the rows of the panels: title, axes, legend, facts. */
#define LINES_AROUND 16

/* CPU rows from the top of which every `step`-th is printed, and those of the marked points. */
static bool is_printed(const struct picture *picture, size_t row, size_t step)
{
	size_t per_row = picture->count[CLOCK_GPU] * picture->count[CLOCK_MEM];
	bool current = picture->current >= 0 && (size_t)picture->current / per_row == row;
	bool cheapest = picture->cheapest >= 0 && (size_t)picture->cheapest / per_row == row;

	return current || cheapest || (picture->count[CLOCK_CPU] - 1 - row) % step == 0;
}

/* Panels of the memory clocks in [first, end) beside each other: fastest CPU on top, GPU to the right. */
static void print_band(const struct picture *picture, const struct ctl *ctl, size_t first, size_t end, bool wide,
		       size_t step)
{
	printf("\n");
	for (size_t m = first; m < end; m++, printf("%s", m < end ? "  " : "\n"))
		print_panel_title(picture, ctl, m, wide);
	for (size_t m = first; m < end; m++, printf("%s", m < end ? "  " : "\n"))
		print_gpu_axis(picture, ctl, wide);
	for (size_t row = picture->count[CLOCK_CPU]; row-- > 0;)
		for (size_t m = first; m < end && is_printed(picture, row, step);
		     m++, printf("%s", m < end ? "  " : "\n"))
			print_row(picture, ctl, row, m, wide);
}

/* The memory clock to draw if not all fit the screen: the one given, else that of the current or the cheapest point,
 * else the highest. */
static size_t chosen_mem(const struct picture *picture)
{
	long point = picture->current >= 0 ? picture->current : picture->cheapest;

	for (size_t m = 0; picture->mem_hz && m < picture->count[CLOCK_MEM]; m++)
		if (picture->hz[CLOCK_MEM][m] == picture->mem_hz)
			return m;
	return point >= 0 ? (size_t)point % picture->count[CLOCK_MEM] : picture->count[CLOCK_MEM] - 1;
}

/* One panel for each memory clock, as many beside each other as fit. On a screen of too few lines only one panel is
 * drawn, and not every CPU clock has a row. */
static void print_panels(const struct picture *picture, const struct ctl *ctl)
{
	size_t mems = picture->count[CLOCK_MEM], cpus = picture->count[CLOCK_CPU];
	size_t lines = ctl->lines > LINES_AROUND + 4 ? (size_t)(ctl->lines - LINES_AROUND) :
		       ctl->lines > 0                ? 4 :
						       SIZE_MAX;
	bool wide = panel_width(picture, true) <= ctl->columns;
	size_t fit = (size_t)(ctl->columns / (panel_width(picture, wide) + 2));
	size_t across = fit == 0 ? 1 : fit < mems ? fit : mems, bands = (mems + across - 1) / across;
	bool one = mems > 1 && (picture->mem_hz || (lines != SIZE_MAX && bands * (cpus + 3) > lines));
	size_t step = lines == SIZE_MAX || cpus <= lines ? 1 : (cpus + lines - 1) / lines;

	if (one) {
		print_band(picture, ctl, chosen_mem(picture), chosen_mem(picture) + 1, wide, step);
		printf("%*s %sother memory clocks: --mem", LABEL_WIDTH, "", sgr(ctl, SGR_DIM));
		for (size_t m = 0; m < mems; m++)
			if (m != chosen_mem(picture))
				printf(" %.4g", (double)picture->hz[CLOCK_MEM][m] / 1e6);
		printf("%s\n", sgr(ctl, SGR_OFF));
	}
	for (size_t first = 0; first < mems && !one; first += across)
		print_band(picture, ctl, first, first + across < mems ? first + across : mems, wide, step);
}

static void print_colour_bar(const struct picture *picture, const struct ctl *ctl)
{
	double divisor;
	const char *unit = shown_unit(picture, &divisor);

	if (picture->shown == SHOW_REGIME) {
		printf("%*s cpu launch-bound, gpu execution-bound   ", LABEL_WIDTH, "");
		return;
	}
	printf("%*s %.3g ", LABEL_WIDTH, "", picture->low / divisor);
	for (int i = 0; i < 24; i++) {
		set_colour(ctl, i / 23.0);
		printf("%c", ctl->colour ? ' ' : " .:-=+*#%@"[i * 10 / 24]);
		unset_colour(ctl);
	}
	printf(" %.3g %s   ", picture->high / divisor, unit);
}

static void print_legend(const struct picture *picture, const struct ctl *ctl)
{
	printf("\n");
	print_colour_bar(picture, ctl);
	printf("%s measured   [ ] now%s\n", ctl->colour && ctl->utf8 ? "\u2022" : "*",
	       picture->extrapolated ? "   ~ extrapolated" : "");
	if (picture->deadline_ns) {
		char deadline[32];

		format_duration(deadline, sizeof(deadline), picture->deadline_ns);
		printf("%*s %s bound exceeds %s   %s\n", LABEL_WIDTH, "", ctl->colour ? "uncoloured" : "x", deadline,
		       picture->cheapest >= 0 ? "< > least power in time" : "no point is in time");
	}
}

static void point_text(const struct picture *picture, size_t index, char *out, size_t size)
{
	size_t mem = index % picture->count[CLOCK_MEM],
	       gpu = index / picture->count[CLOCK_MEM] % picture->count[CLOCK_GPU];
	size_t cpu = index / picture->count[CLOCK_MEM] / picture->count[CLOCK_GPU];

	snprintf(out, size, "cpu %.0f, gpu %.0f, memory %.0f MHz", (double)picture->hz[CLOCK_CPU][cpu] / 1e6,
		 (double)picture->hz[CLOCK_GPU][gpu] / 1e6, (double)picture->hz[CLOCK_MEM][mem] / 1e6);
}

/* One line of text on one cell. */
static void print_point(const struct picture *picture, const char *label, size_t index)
{
	const struct picture_cell *cell = &picture->cell[index];
	char where[96], latency[32], bound[32], power[32], bubble[32];

	point_text(picture, index, where, sizeof(where));
	printf("%-9s%s: %s expected, %s at most", label, where,
	       format_duration(latency, sizeof(latency), (uint64_t)cell->latency_ns),
	       format_duration(bound, sizeof(bound), (uint64_t)cell->bound_ns));
	if (picture->power_known)
		printf(", %s", format_power(power, sizeof(power), (uint64_t)cell->power_uw));
	if (cell->regime)
		printf(", %s", regime_name(cell->regime));
	if (cell->bubble_ns >= 1)
		printf(", the GPU idle for %s of it",
		       format_duration(bubble, sizeof(bubble), (uint64_t)cell->bubble_ns));
	printf("\n");
}

static void print_facts(const struct picture *picture)
{
	printf("\n");
	if (picture->current >= 0)
		print_point(picture, "now", (size_t)picture->current);
	if (picture->cheapest >= 0)
		print_point(picture, "cheapest", (size_t)picture->cheapest);
	if (picture->regimes[CELL_UNKNOWN] < picture->points) {
		const char *gap = "regime   ";

		for (unsigned r = CELL_LAUNCH_BOUND; r < CELL_REGIMES; r++) {
			if (picture->regimes[r] == 0)
				continue;
			printf("%s%s %.0f %%", gap, regime_name(r),
			       100.0 * (double)picture->regimes[r] / (double)picture->points);
			gap = ", ";
		}
		printf(" of the points\n");
	}
	if (picture->slowdown > 0)
		printf("slowdown x%.2f (contention and temperature, not included above)\n", picture->slowdown);
}

void picture_print(const struct picture *picture, const struct ctl *ctl)
{
	const char *colour = strcmp(picture->state, "ready") ? SGR_YELLOW : SGR_GREEN;
	double divisor;
	const char *unit = shown_unit(picture, &divisor);

	printf("%s%s%s", sgr(ctl, SGR_BOLD), picture->model, sgr(ctl, SGR_OFF));
	if (strcmp(picture->phase, "run") != 0)
		printf(", %s with %llu tokens", picture->phase, (unsigned long long)picture->context);
	printf(": %s%s%s   %s%s%s, %zu of %zu points measured, clocks in MHz\n", shown_title(picture),
	       *unit ? " in " : "", unit, sgr(ctl, colour), picture->state, sgr(ctl, SGR_OFF), picture->measured,
	       picture->points);
	print_panels(picture, ctl);
	print_legend(picture, ctl);
	print_facts(picture);
}

static void json_axis(FILE *out, const struct picture *picture, int clock)
{
	printf("    \"%s_hz\": [", clock_name((enum clock_id)clock));
	for (size_t i = 0; i < picture->count[clock]; i++)
		fprintf(out, "%s%llu", i ? ", " : "", (unsigned long long)picture->hz[clock][i]);
	fprintf(out, "]%s\n", clock + 1 < CLOCK_COUNT ? "," : "");
}

static void json_cells(FILE *out, const struct picture *picture)
{
	static const char *const sources[] = {"envelope", "fit", "neighbour", "cell"};

	for (size_t c = 0, i = 0; c < picture->count[CLOCK_CPU]; c++)
		for (size_t g = 0; g < picture->count[CLOCK_GPU]; g++)
			for (size_t m = 0; m < picture->count[CLOCK_MEM]; m++, i++) {
				const struct picture_cell *cell = &picture->cell[i];

				fprintf(out,
					"%s\n    {\"cpu_hz\": %llu, \"gpu_hz\": %llu, \"mem_hz\": %llu, "
					"\"latency_ns\": %.0f, ",
					i ? "," : "", (unsigned long long)picture->hz[CLOCK_CPU][c],
					(unsigned long long)picture->hz[CLOCK_GPU][g],
					(unsigned long long)picture->hz[CLOCK_MEM][m], cell->latency_ns);
				fprintf(out,
					"\"bound_ns\": %.0f, \"power_uw\": %.0f, \"measured\": %llu, \"source\": "
					"\"%s\", ",
					cell->bound_ns, cell->power_uw, (unsigned long long)cell->measured,
					sources[cell->source < 4 ? cell->source : 0]);
				fprintf(out, "\"regime\": \"%s\", \"bubble_ns\": %.0f}", regime_name(cell->regime),
					cell->bubble_ns);
			}
}

static void picture_json(const struct picture *picture, FILE *out)
{
	fprintf(out, "{\n  \"model\": ");
	json_string(out, picture->model);
	fprintf(out, ",\n  \"state\": ");
	json_string(out, picture->state);
	fprintf(out, ",\n  \"phase\": ");
	json_string(out, picture->phase);
	fprintf(out,
		",\n  \"context\": %llu,\n  \"power_known\": %s,\n  \"slowdown\": %.4f,\n  \"current\": %ld,\n  "
		"\"axes\": {\n",
		(unsigned long long)picture->context, picture->power_known ? "true" : "false", picture->slowdown,
		picture->current);
	for (int c = 0; c < CLOCK_COUNT; c++)
		json_axis(out, picture, c);
	fprintf(out, "  },\n  \"cells\": [");
	json_cells(out, picture);
	fprintf(out, "\n  ]\n}\n");
}

static size_t nearest_mem(const struct picture *picture, double hz)
{
	size_t nearest = 0;

	for (size_t m = 1; m < picture->count[CLOCK_MEM]; m++)
		if (fabs((double)picture->hz[CLOCK_MEM][m] - hz) < fabs((double)picture->hz[CLOCK_MEM][nearest] - hz))
			nearest = m;
	return nearest;
}

int cmd_surface(struct ctl *ctl, int argc, char **argv)
{
	const char *phase = NULL, *context = NULL, *svg = NULL, *show = "latency", *deadline = NULL, *mem = NULL;
	double mem_mhz = 0;
	const struct ctl_option options[] = {{"--phase", &phase, NULL}, {"--context", &context, NULL},
					     {"--show", &show, NULL},   {"--deadline", &deadline, NULL},
					     {"--mem", &mem, NULL},     {"--svg", &svg, NULL}};
	struct picture picture = {0};
	int count, rest, rc;

	if (ctl_options(ctl, options, 6, argc, argv, &count, &rest))
		return 2;
	if (count != 2)
		return ctl_usage(ctl, "MODEL is missing; flamectl models lists those that flamed knows");
	if (ctl_want_model(ctl, argv[1]))
		return 2;
	if (shown_parse(show, &picture.shown) < 0)
		return ctl_usage(ctl, "--show takes latency, bound, power, regime or bubble, not \"%s\"", show);
	if (deadline && (parse_deadline_ns(deadline, &picture.deadline_ns) < 0 || picture.deadline_ns == 0))
		return ctl_usage(ctl, "--deadline takes a duration such as 33ms, not \"%s\"", deadline);
	if (mem && (parse_double(mem, &mem_mhz) < 0 || mem_mhz <= 0))
		return ctl_usage(ctl, "--mem takes a memory clock in MHz, not \"%s\"", mem);
	rc = picture_fetch(&picture, ctl, argv[1], phase, context);
	if (rc == 0 && mem)
		picture.mem_hz = picture.hz[CLOCK_MEM][nearest_mem(&picture, mem_mhz * 1e6)];
	if (rc == 0 && svg)
		rc = picture_write(ctl, svg, picture_svg, &picture);
	if (rc == 0 && ctl->json)
		picture_json(&picture, stdout);
	else if (rc == 0 && !svg && strcmp(picture.state, "none") == 0)
		picture_explain_none(&picture, ctl);
	else if (rc == 0 && !svg)
		picture_print(&picture, ctl);
	picture_free(&picture);
	return rc ? 1 : 0;
}
