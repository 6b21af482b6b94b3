/* SPDX-License-Identifier: MIT */
/* flamectl tradeoff: for each deadline, the least power, and the least energy of an inference, that
 * meets it. */
#include "picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/units.h"
#include "json.h"
#include "table.h"

#define ROWS_MAX  14 /* deadlines in the table */
#define BAR_CELLS 20

/* Points in order of their upper bound, each cheaper than all before it. From its own bound up to
 * the next point's, a point is the best choice. */
struct frontier {
	size_t count, cell[GRID_POINTS_MAX];
};

static double energy_uj(const struct picture_cell *cell)
{
	return cell->power_uw * cell->latency_ns / 1e9;
}

static double cost_of(const struct picture *picture, size_t cell, bool energy)
{
	return energy ? energy_uj(&picture->cell[cell]) : picture->cell[cell].power_uw;
}

static const struct picture *sorted; /* for qsort(3) */

static int by_bound(const void *a, const void *b)
{
	double x = sorted->cell[*(const size_t *)a].bound_ns, y = sorted->cell[*(const size_t *)b].bound_ns;

	return (x > y) - (x < y);
}

static void find_frontier(const struct picture *picture, bool energy, struct frontier *frontier)
{
	static size_t order[GRID_POINTS_MAX];
	double least = INFINITY;

	for (size_t i = 0; i < picture->points; i++)
		order[i] = i;
	sorted = picture;
	qsort(order, picture->points, sizeof(*order), by_bound);
	frontier->count = 0;
	for (size_t i = 0; i < picture->points; i++) {
		if (cost_of(picture, order[i], energy) >= least)
			continue;
		least = cost_of(picture, order[i], energy);
		frontier->cell[frontier->count++] = order[i];
	}
}

/* The best point for a deadline that at least one point meets. */
static size_t best_at(const struct picture *picture, const struct frontier *frontier, double deadline_ns)
{
	size_t best = frontier->cell[0];

	for (size_t i = 1; i < frontier->count && picture->cell[frontier->cell[i]].bound_ns <= deadline_ns; i++)
		best = frontier->cell[i];
	return best;
}

/* The next of 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10 times a power of ten that is above `ns`. */
static double next_deadline_ns(double ns)
{
	static const double steps[] = {1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12};
	double power = pow(10, floor(log10(ns)));
	size_t i = 0;

	while (steps[i] * power <= ns * (1 + 1e-9))
		i++;
	return steps[i] * power;
}

/* Choose deadlines for the table: the shortest possible one, then round values until power stops
 * falling. Returns their number. */
static size_t choose_deadlines(const struct picture *picture, const struct frontier *power,
			       double deadline_ns[ROWS_MAX])
{
	double last = picture->cell[power->cell[power->count - 1]].bound_ns;
	size_t count = 1;

	deadline_ns[0] = fmax(picture->cell[power->cell[0]].bound_ns, 1);
	while (count < ROWS_MAX && deadline_ns[count - 1] < last) {
		deadline_ns[count] = next_deadline_ns(deadline_ns[count - 1]);
		count++;
	}
	return count;
}

static void point_text(const struct picture *picture, size_t cell, char *out, size_t size)
{
	size_t mem = cell % picture->count[CLOCK_MEM], row = cell / picture->count[CLOCK_MEM];

	snprintf(out, size, "%.0f/%.0f/%.0f", (double)picture->hz[CLOCK_CPU][row / picture->count[CLOCK_GPU]] / 1e6,
		 (double)picture->hz[CLOCK_GPU][row % picture->count[CLOCK_GPU]] / 1e6,
		 (double)picture->hz[CLOCK_MEM][mem] / 1e6);
}

static void bar_text(const struct ctl *ctl, double share, char *out, size_t size)
{
	size_t len = 0;

	*out = '\0';
	for (int i = 0; i < (int)(share * BAR_CELLS + 0.5) && len < size; i++)
		len += (size_t)snprintf(out + len, size - len, "%s", ctl->utf8 ? "\u2588" : "#");
}

static void print_table(const struct picture *picture, const struct ctl *ctl, const struct frontier *power,
			const struct frontier *energy)
{
	static const char *const titles[] = {">DEADLINE",       ">POWER",        "",  ">ENERGY", ">LATENCY",
					     "CPU/GPU/MEM MHz", ">LEAST ENERGY", NULL};
	double deadline_ns[ROWS_MAX], most = cost_of(picture, power->cell[0], false);
	size_t count = choose_deadlines(picture, power, deadline_ns);
	char text[32], bar[BAR_CELLS * 4 + 1];
	struct table table;

	table_init(&table, titles);
	for (size_t i = 0; i < count; i++) {
		size_t best = best_at(picture, power, deadline_ns[i]), least = best_at(picture, energy, deadline_ns[i]);
		const struct picture_cell *cell = &picture->cell[best];

		table_add(&table, NULL, "%s", format_duration(text, sizeof(text), (uint64_t)deadline_ns[i]));
		if (picture->power_known)
			table_add(&table, SGR_BOLD, "%s", format_power(text, sizeof(text), (uint64_t)cell->power_uw));
		else
			table_add(&table, SGR_BOLD, "%.2f", cell->power_uw / 1e6);
		bar_text(ctl, most > 0 ? cell->power_uw / most : 0, bar, sizeof(bar));
		table_add(&table, SGR_CYAN, "%s", bar);
		table_add(&table, NULL, "%s",
			  picture->power_known ? format_energy(text, sizeof(text), (uint64_t)energy_uj(cell)) : "-");
		table_add(&table, NULL, "%s", format_duration(text, sizeof(text), (uint64_t)cell->latency_ns));
		point_text(picture, best, text, sizeof(text));
		table_add(&table, NULL, "%s", text);
		table_add(&table, NULL, "%s",
			  picture->power_known ?
				  format_energy(text, sizeof(text), (uint64_t)energy_uj(&picture->cell[least])) :
				  "-");
	}
	table_print(&table, ctl, 0);
}

static void print_tradeoff(const struct picture *picture, const struct ctl *ctl, const struct frontier *power,
			   const struct frontier *energy)
{
	printf("%s%s%s", sgr(ctl, SGR_BOLD), picture->model, sgr(ctl, SGR_OFF));
	if (strcmp(picture->phase, "run") != 0)
		printf(", %s with %llu tokens", picture->phase, (unsigned long long)picture->context);
	printf(": least power whose upper bound of latency meets a deadline   %s, %zu of %zu points measured\n\n",
	       picture->state, picture->measured, picture->points);
	print_table(picture, ctl, power, energy);
	printf("\nPower while an inference runs, and energy of one inference, without the idle time between "
	       "inferences.\n");
	if (!picture->power_known)
		printf("There is no power sensor; power is relative to full clocks, by a documented cost.\n");
}

static void json_points(const struct picture *picture, const struct frontier *frontier, const char *name,
			const char *end)
{
	printf("  \"%s\": [", name);
	for (size_t i = 0; i < frontier->count; i++) {
		size_t index = frontier->cell[i], row = index / picture->count[CLOCK_MEM];
		const struct picture_cell *cell = &picture->cell[index];

		printf("%s\n    {\"deadline_ns\": %.0f, \"latency_ns\": %.0f, \"power_uw\": %.0f, \"energy_uj\": "
		       "%.0f, ",
		       i ? "," : "", ceil(cell->bound_ns), cell->latency_ns, cell->power_uw, energy_uj(cell));
		printf("\"cpu_hz\": %llu, \"gpu_hz\": %llu, \"mem_hz\": %llu}",
		       (unsigned long long)picture->hz[CLOCK_CPU][row / picture->count[CLOCK_GPU]],
		       (unsigned long long)picture->hz[CLOCK_GPU][row % picture->count[CLOCK_GPU]],
		       (unsigned long long)picture->hz[CLOCK_MEM][index % picture->count[CLOCK_MEM]]);
	}
	printf("\n  ]%s\n", end);
}

static void print_json(const struct picture *picture, const struct frontier *power, const struct frontier *energy)
{
	printf("{\n  \"model\": ");
	json_string(stdout, picture->model);
	printf(",\n  \"phase\": \"%s\",\n  \"context\": %llu,\n  \"power_known\": %s,\n", picture->phase,
	       (unsigned long long)picture->context, picture->power_known ? "true" : "false");
	json_points(picture, power, "power", ",");
	json_points(picture, energy, "energy", "");
	printf("}\n");
}

/* SVG: power above, energy below, over a common logarithmic axis of deadlines. */

#define WIDTH  720.0
#define LEFT   80.0
#define RIGHT  30.0
#define TOP    84.0
#define PLOT_H 190.0
#define GAP    46.0

struct plot {
	const struct picture *picture;
	double low_ns, high_ns, most; /* ends of the axes */
	double top;
	bool energy;
};

static double plot_x(const struct plot *plot, double ns)
{
	return LEFT + log(fmax(ns / plot->low_ns, 1)) / log(plot->high_ns / plot->low_ns) * (WIDTH - LEFT - RIGHT);
}

static double plot_y(const struct plot *plot, double cost)
{
	return plot->top + PLOT_H * (1 - cost / plot->most);
}

static void draw_axes(const struct plot *plot, FILE *out)
{
	bool known = plot->picture->power_known;

	for (int i = 0; i <= 4; i++) {
		double cost = plot->most * i / 4;

		fprintf(out,
			"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>"
			"<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" text-anchor=\"end\" fill=\"#444\">%.3g</text>\n",
			LEFT, plot_y(plot, cost), WIDTH - RIGHT, plot_y(plot, cost), LEFT - 7, plot_y(plot, cost) + 4,
			cost / 1e6);
	}
	fprintf(out,
		"<text transform=\"translate(24 %.1f) rotate(-90)\" font-size=\"12\" text-anchor=\"middle\" "
		"fill=\"#222\">%s</text>\n",
		plot->top + PLOT_H / 2,
		plot->energy ? "energy (J)" :
		known        ? "power (W)" :
			       "relative power");
	for (double ns = next_deadline_ns(plot->low_ns); ns <= plot->high_ns; ns = next_deadline_ns(ns))
		fprintf(out,
			"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#444\"/>"
			"<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" text-anchor=\"middle\" "
			"fill=\"#444\">%.4g</text>\n",
			plot_x(plot, ns), plot->top + PLOT_H, plot_x(plot, ns), plot->top + PLOT_H + 5,
			plot_x(plot, ns), plot->top + PLOT_H + 18, ns / 1e6);
}

/* A step at the bound of each frontier point, and a dot labelled with its clocks. */
static void draw_frontier(const struct plot *plot, const struct frontier *frontier, FILE *out)
{
	const struct picture *picture = plot->picture;

	fprintf(out, "<path fill=\"none\" stroke=\"#009e73\" stroke-width=\"2\" d=\"");
	for (size_t i = 0; i < frontier->count; i++) {
		const struct picture_cell *cell = &picture->cell[frontier->cell[i]];

		fprintf(out, i ? "H%.1f V%.1f " : "M%.1f %.1f ", plot_x(plot, cell->bound_ns),
			plot_y(plot, cost_of(picture, frontier->cell[i], plot->energy)));
	}
	fprintf(out, "H%.1f\"/>\n", WIDTH - RIGHT);
	for (size_t i = 0; i < frontier->count; i++) {
		const struct picture_cell *cell = &picture->cell[frontier->cell[i]];
		char point[64];

		point_text(picture, frontier->cell[i], point, sizeof(point));
		fprintf(out,
			"<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"#009e73\" stroke=\"#fff\"><title>%s MHz: "
			"%.4g ms at most, "
			"%.3g %s</title></circle>\n",
			plot_x(plot, cell->bound_ns), plot_y(plot, cost_of(picture, frontier->cell[i], plot->energy)),
			point, cell->bound_ns / 1e6, cost_of(picture, frontier->cell[i], plot->energy) / 1e6,
			plot->energy         ? "J" :
			picture->power_known ? "W" :
					       "");
	}
}

static void draw_plot(const struct picture *picture, bool energy, double top, FILE *out)
{
	static struct frontier power, frontier;
	struct plot plot = {.picture = picture, .top = top, .energy = energy};

	find_frontier(picture, false, &power);
	find_frontier(picture, energy, &frontier);
	plot.low_ns = fmax(picture->cell[power.cell[0]].bound_ns, 1);
	plot.high_ns = fmax(picture->cell[power.cell[power.count - 1]].bound_ns, plot.low_ns) * 1.15;
	plot.most = fmax(cost_of(picture, frontier.cell[0], energy), 1) * 1.1;
	draw_axes(&plot, out);
	draw_frontier(&plot, &frontier, out);
}

static void tradeoff_svg(const struct picture *picture, FILE *out)
{
	double height = TOP + PLOT_H * (picture->power_known ? 2 : 1) + (picture->power_known ? GAP : 0) + 56;

	fprintf(out,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
		"role=\"img\""
		" font-family=\"Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
		WIDTH, height, WIDTH, height);
	fprintf(out,
		"<text x=\"28\" y=\"36\" font-size=\"20\" font-weight=\"600\" fill=\"#1a1a1a\">%s</text>"
		"<text x=\"28\" y=\"58\" font-size=\"13\" fill=\"#666\">",
		picture->model);
	if (strcmp(picture->phase, "run") != 0)
		fprintf(out, "%s with %llu tokens, ", picture->phase, (unsigned long long)picture->context);
	fprintf(out, "least power and energy that meet each deadline, %zu of %zu operating points measured</text>\n",
		picture->measured, picture->points);
	draw_plot(picture, false, TOP, out);
	if (picture->power_known)
		draw_plot(picture, true, TOP + PLOT_H + GAP, out);
	fprintf(out,
		"<text x=\"%.1f\" y=\"%.1f\" font-size=\"12\" text-anchor=\"middle\" fill=\"#222\">deadline "
		"(ms)</text>\n</svg>\n",
		(LEFT + WIDTH - RIGHT) / 2, height - 14);
}

int cmd_tradeoff(struct ctl *ctl, int argc, char **argv)
{
	const char *phase = NULL, *context = NULL, *svg = NULL;
	const struct ctl_option options[] = {{"--phase", &phase, NULL},
					     {"--context", &context, NULL},
					     {"--svg", &svg, NULL}};
	static struct frontier power, energy;
	struct picture picture = {0};
	int count, rest, rc;

	if (ctl_options(ctl, options, 3, argc, argv, &count, &rest))
		return 2;
	if (count != 2)
		return ctl_usage(ctl, "MODEL is missing; flamectl models lists those that flamed knows");
	if (ctl_want_model(ctl, argv[1]))
		return 2;
	rc = picture_fetch(&picture, ctl, argv[1], phase, context);
	if (rc == 0 && strcmp(picture.state, "none") == 0 && !ctl->json && !svg) {
		picture_explain_none(&picture, ctl);
	} else if (rc == 0) {
		find_frontier(&picture, false, &power);
		find_frontier(&picture, true, &energy);
		if (svg)
			rc = picture_write(ctl, svg, tradeoff_svg, &picture);
		if (rc == 0 && ctl->json)
			print_json(&picture, &power, &energy);
		else if (rc == 0 && !svg)
			print_tradeoff(&picture, ctl, &power, &energy);
	}
	picture_free(&picture);
	return rc ? 1 : 0;
}
