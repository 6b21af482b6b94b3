/* SPDX-License-Identifier: MIT */
/* The surface as SVG: one panel for each memory clock, CPU clock upwards, GPU clock to the right,
 * with a colour bar; measured cells and the current point are marked. */
#include "picture.h"

#include <math.h>
#include <string.h>

#define MARGIN         28.0
#define HEAD           92.0 /* title and subtitle */
#define PANEL_TITLE    26.0
#define AXIS_LEFT      62.0
#define AXIS_BOTTOM    48.0
#define PANEL_GAP      26.0
#define BAR_WIDTH      16.0
#define BAR_SPACE      110.0
#define FOOT           44.0
#define PANELS_PER_ROW 4
#define TICKS          6

struct layout {
	double cell_w, cell_h, plot_w, plot_h, panel_w, panel_h, width, height;
	size_t across, down;
};

static double clamp(double value, double low, double high)
{
	return value < low ? low : value > high ? high : value;
}

static void lay_out(const struct picture *picture, struct layout *out)
{
	size_t panels = picture->count[CLOCK_MEM];

	out->across = panels < PANELS_PER_ROW ? panels : PANELS_PER_ROW;
	out->down = (panels + PANELS_PER_ROW - 1) / PANELS_PER_ROW;
	out->cell_w = clamp((panels == 1 ? 560.0 : 400.0) / (double)picture->count[CLOCK_GPU], 10, 52);
	out->cell_h = clamp(460.0 / (double)picture->count[CLOCK_CPU], 8, 28);
	out->plot_w = out->cell_w * (double)picture->count[CLOCK_GPU];
	out->plot_h = out->cell_h * (double)picture->count[CLOCK_CPU];
	out->panel_w = AXIS_LEFT + out->plot_w + PANEL_GAP;
	out->panel_h = PANEL_TITLE + out->plot_h + AXIS_BOTTOM;
	out->width = 2 * MARGIN + (double)out->across * out->panel_w + BAR_SPACE;
	out->width = out->width < 700 ? 700 : out->width;
	out->height = HEAD + (double)out->down * out->panel_h + FOOT;
}

/* Model names are [A-Za-z0-9._:-] and all other text is constant, so that nothing needs escaping. */
static void head(const struct picture *picture, const struct layout *layout, FILE *out)
{
	fprintf(out,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
		"role=\"img\""
		" font-family=\"Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n",
		layout->width, layout->height, layout->width, layout->height);
	fprintf(out, "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" "
		     "patternTransform=\"rotate(45)\">"
		     "<line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" stroke=\"#222\" stroke-opacity=\"0.22\" "
		     "stroke-width=\"1.2\"/></pattern></defs>\n"
		     "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n");
	fprintf(out,
		"<text x=\"%.0f\" y=\"44\" font-size=\"22\" font-weight=\"600\" fill=\"#1a1a1a\">%s<tspan dx=\"10\" "
		"font-weight=\"400\" fill=\"#555\">%s</tspan></text>\n",
		MARGIN, picture->model, shown_title(picture));
	fprintf(out, "<text x=\"%.0f\" y=\"68\" font-size=\"13\" fill=\"#666\">", MARGIN);
	if (strcmp(picture->phase, "run") != 0)
		fprintf(out, "%s with %llu tokens, ", picture->phase, (unsigned long long)picture->context);
	fprintf(out, "surface %s, %zu of %zu operating points measured", picture->state, picture->measured,
		picture->points);
	if (picture->slowdown > 0)
		fprintf(out, ", slowdown ×%.2f", picture->slowdown);
	fprintf(out, "</text>\n");
}

static void cell_tooltip(const struct picture *picture, const size_t axis[CLOCK_COUNT], const struct picture_cell *cell,
			 FILE *out)
{
	fprintf(out, "<title>cpu %.1f, gpu %.1f, memory %.1f MHz: %.3g ms expected, %.3g ms at most",
		(double)picture->hz[CLOCK_CPU][axis[0]] / 1e6, (double)picture->hz[CLOCK_GPU][axis[1]] / 1e6,
		(double)picture->hz[CLOCK_MEM][axis[2]] / 1e6, cell->latency_ns / 1e6, cell->bound_ns / 1e6);
	if (picture->power_known)
		fprintf(out, ", %.2f W", cell->power_uw / 1e6);
	if (cell->regime)
		fprintf(out, ", %s", regime_name(cell->regime));
	if (cell->source == SOURCE_ENVELOPE && !cell->measured)
		fprintf(out, ", extrapolated");
	if (cell->measured)
		fprintf(out, ", %llu inferences measured", (unsigned long long)cell->measured);
	fprintf(out, "</title>");
}

/* ITU-R BT.601 luma. */
static bool is_light(const uint8_t rgb[3])
{
	return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 120;
}

static void cell_number(const struct picture *picture, const struct layout *layout, size_t index, double x, double y,
			bool light, FILE *out)
{
	double divisor, value;

	if (layout->cell_w < 34 || layout->cell_h < 14 || picture->shown == SHOW_REGIME)
		return;
	shown_unit(picture, &divisor);
	value = picture_value(picture, index) / divisor;
	fprintf(out,
		"<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\" text-anchor=\"middle\" fill=\"%s\" "
		"pointer-events=\"none\">%.*f</text>",
		x + layout->cell_w / 2, y + layout->cell_h / 2 + 3.5, light ? "#1a1a1a" : "#ffffff",
		value < 9.995 ? 2 :
		value < 99.95 ? 1 :
				0,
		value);
}

static void cell_marks(const struct picture *picture, const struct layout *layout, size_t index, double x, double y,
		       FILE *out)
{
	if (!picture_feasible(picture, index))
		fprintf(out,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"url(#hatch)\" "
			"pointer-events=\"none\"/>",
			x, y, layout->cell_w, layout->cell_h);
	if (picture->cell[index].measured)
		fprintf(out,
			"<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"#fff\" stroke=\"#111\" stroke-width=\"1.2\" "
			"pointer-events=\"none\"/>",
			x + layout->cell_w - 5.5, y + 5.5);
}

/* Called after all cells are drawn, so that no cell covers the outline. */
static void outline(const struct layout *layout, double x, double y, double wider, const char *colour, FILE *out)
{
	double w = layout->cell_w + 2 * wider, h = layout->cell_h + 2 * wider;

	x -= wider;
	y -= wider;
	fprintf(out,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\" fill=\"none\" stroke=\"#fff\" "
		"stroke-width=\"5\"/>"
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\" fill=\"none\" stroke=\"%s\" "
		"stroke-width=\"2.5\"/>\n",
		x, y, w, h, x, y, w, h, colour);
}

static void cells(const struct picture *picture, const struct layout *layout, size_t mem, double left, double top,
		  FILE *out)
{
	double mark_x[2] = {-1, -1}, mark_y[2] = {0};

	for (size_t c = 0; c < picture->count[CLOCK_CPU]; c++) {
		double y = top + layout->plot_h - (double)(c + 1) * layout->cell_h;

		for (size_t g = 0; g < picture->count[CLOCK_GPU]; g++) {
			size_t axis[CLOCK_COUNT] = {c, g, mem}, index = picture_index(picture, c, g, mem);
			double x = left + (double)g * layout->cell_w;
			uint8_t rgb[3] = {0xf1, 0xf2, 0xf4}; /* grey: may miss the deadline */

			if (picture_feasible(picture, index))
				colour_at(picture_level(picture, picture_value(picture, index)), rgb);
			fprintf(out,
				"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.2f\" "
				"fill=\"#%02x%02x%02x\"%s shape-rendering=\"crispEdges\">",
				x, y, layout->cell_w, layout->cell_h, rgb[0], rgb[1], rgb[2],
				picture->cell[index].source == SOURCE_ENVELOPE ? " fill-opacity=\"0.55\"" : "");
			cell_tooltip(picture, axis, &picture->cell[index], out);
			fprintf(out, "</rect>");
			cell_marks(picture, layout, index, x, y, out);
			cell_number(picture, layout, index, x, y, is_light(rgb), out);
			fputc('\n', out);
			for (int m = 0; m < 2; m++) {
				if ((m ? picture->current : picture->cheapest) != (long)index)
					continue;
				mark_x[m] = x;
				mark_y[m] = y;
			}
		}
	}
	for (int m = 0; m < 2; m++)
		if (mark_x[m] >= 0)
			outline(layout, mark_x[m], mark_y[m], m ? 0 : 3, m ? "#d1005b" : "#e08a00", out);
}

/* Label every k-th tick, at least `room` apart; always the last. */
static bool labelled(size_t i, size_t count, double step, double room)
{
	size_t every = (size_t)ceil(room / step);

	return (count - 1 - i) % (every ? every : 1) == 0;
}

static void axes(const struct picture *picture, const struct layout *layout, double left, double top, bool first,
		 FILE *out)
{
	double bottom = top + layout->plot_h;

	for (size_t g = 0; g < picture->count[CLOCK_GPU]; g++)
		if (labelled(g, picture->count[CLOCK_GPU], layout->cell_w, 34))
			fprintf(out,
				"<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" text-anchor=\"middle\" "
				"fill=\"#444\">%.0f</text>",
				left + ((double)g + 0.5) * layout->cell_w, bottom + 16,
				(double)picture->hz[CLOCK_GPU][g] / 1e6);
	for (size_t c = 0; c < picture->count[CLOCK_CPU]; c++)
		if (labelled(c, picture->count[CLOCK_CPU], layout->cell_h, 13))
			fprintf(out,
				"<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" text-anchor=\"end\" "
				"fill=\"#444\">%.0f</text>",
				left - 7, bottom - ((double)c + 0.5) * layout->cell_h + 4,
				(double)picture->hz[CLOCK_CPU][c] / 1e6);
	fprintf(out,
		"<text x=\"%.1f\" y=\"%.1f\" font-size=\"12\" text-anchor=\"middle\" fill=\"#222\">GPU clock "
		"(MHz)</text>",
		left + layout->plot_w / 2, bottom + 36);
	if (first)
		fprintf(out,
			"<text transform=\"translate(%.1f %.1f) rotate(-90)\" font-size=\"12\" "
			"text-anchor=\"middle\" fill=\"#222\">CPU clock (MHz)</text>",
			left - 48, top + layout->plot_h / 2);
	fputc('\n', out);
}

static void colour_bar(const struct picture *picture, const struct layout *layout, FILE *out)
{
	double x = MARGIN + (double)layout->across * layout->panel_w + 6, top = HEAD + PANEL_TITLE, divisor;
	const char *unit = shown_unit(picture, &divisor);

	fprintf(out, "<linearGradient id=\"bar\" x1=\"0\" y1=\"1\" x2=\"0\" y2=\"0\">");
	for (int i = 0; i <= 16; i++) {
		uint8_t rgb[3];

		colour_at(i / 16.0, rgb);
		fprintf(out, "<stop offset=\"%.4f\" stop-color=\"#%02x%02x%02x\"/>", i / 16.0, rgb[0], rgb[1], rgb[2]);
	}
	fprintf(out,
		"</linearGradient>\n<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"url(#bar)\"/>\n",
		x, top, BAR_WIDTH, layout->plot_h);
	for (int i = 0; i < TICKS; i++) {
		double share = (double)i / (TICKS - 1), y = top + layout->plot_h * (1 - share);
		double value = picture->low > 0 && picture->shown != SHOW_REGIME ?
				       picture->low * pow(picture->high / picture->low, share) :
				       picture->low + (picture->high - picture->low) * share;

		if (picture->shown == SHOW_REGIME && i >= CELL_REGIMES)
			break;
		if (picture->shown == SHOW_REGIME)
			fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" fill=\"#444\">%s</text>",
				x + BAR_WIDTH + 9, top + layout->plot_h * (1 - (double)i / (CELL_REGIMES - 1)) + 4,
				regime_name((unsigned)i));
		else
			fprintf(out,
				"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#444\"/>"
				"<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" fill=\"#444\">%.3g %s</text>\n",
				x + BAR_WIDTH, y, x + BAR_WIDTH + 5, y, x + BAR_WIDTH + 9, y + 4, value / divisor,
				unit);
	}
}

static void legend(const struct picture *picture, const struct layout *layout, FILE *out)
{
	double x = MARGIN + AXIS_LEFT, y = layout->height - 20;

	fprintf(out,
		"<g font-size=\"12\" fill=\"#444\"><circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"#fff\" "
		"stroke=\"#111\" stroke-width=\"1.2\"/>"
		"<text x=\"%.1f\" y=\"%.1f\">measured</text>",
		x, y - 4, x + 10, y);
	x += 92;
	if (picture->current >= 0) {
		fprintf(out,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"16\" height=\"10\" rx=\"2\" fill=\"none\" "
			"stroke=\"#d1005b\" stroke-width=\"2.5\"/>"
			"<text x=\"%.1f\" y=\"%.1f\">now</text>",
			x, y - 9, x + 23, y);
		x += 76;
	}
	if (picture->deadline_ns) {
		fprintf(out,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"16\" height=\"10\" fill=\"url(#hatch)\" "
			"stroke=\"#888\" stroke-width=\"0.5\"/>"
			"<text x=\"%.1f\" y=\"%.1f\">bound exceeds %.4g ms</text>",
			x, y - 9, x + 23, y, (double)picture->deadline_ns / 1e6);
		x += 192;
	}
	if (picture->cheapest >= 0)
		fprintf(out,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"16\" height=\"10\" rx=\"2\" fill=\"none\" "
			"stroke=\"#e08a00\" stroke-width=\"2.5\"/>"
			"<text x=\"%.1f\" y=\"%.1f\">least power in time</text>",
			x, y - 9, x + 23, y);
	fprintf(out, "</g>\n");
}

void picture_svg(const struct picture *picture, FILE *out)
{
	struct layout layout;

	lay_out(picture, &layout);
	head(picture, &layout, out);
	for (size_t m = 0; m < picture->count[CLOCK_MEM]; m++) {
		double x = MARGIN + (double)(m % PANELS_PER_ROW) * layout.panel_w + AXIS_LEFT;
		double y = HEAD + (double)(m / PANELS_PER_ROW) * layout.panel_h + PANEL_TITLE;

		if (picture->hz[CLOCK_MEM][m])
			fprintf(out,
				"<text x=\"%.1f\" y=\"%.1f\" font-size=\"13\" font-weight=\"600\" "
				"fill=\"#333\">memory %.4g MHz</text>\n",
				x, y - 9, (double)picture->hz[CLOCK_MEM][m] / 1e6);
		cells(picture, &layout, m, x, y, out);
		axes(picture, &layout, x, y, m % PANELS_PER_ROW == 0, out);
	}
	colour_bar(picture, &layout, out);
	legend(picture, &layout, out);
	fprintf(out, "</svg>\n");
}
