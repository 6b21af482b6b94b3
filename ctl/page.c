/* SPDX-License-Identifier: MIT */
#include "page.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/units.h"
#include "installation.h"
#include "picture.h"

#define WIDTH  900 /* of a picture, in its own units, */
#define HEIGHT 260
#define LEFT   64 /* and its margins */
#define RIGHT  16
#define TOP    14
#define BOTTOM 34
#define TICKS  6 /* at most, of an axis */

static double slowness(const struct page_record *record)
{
	return record->asked_ns ? (double)record->total_ns / (double)record->asked_ns : (double)record->total_ns;
}

/* Halve the records, keeping the slower of each two, so that late requests remain. */
static void thin(struct report_page *page)
{
	for (size_t i = 0; i < page->count / 2; i++) {
		const struct page_record *a = &page->record[2 * i], *b = a + 1;

		page->record[i] = slowness(a) > slowness(b) ? *a : *b;
	}
	page->count /= 2;
	page->each *= 2;
}

static void add(struct report_page *page, const struct page_record *record)
{
	if (!page->waiting || slowness(record) > slowness(&page->next))
		page->next = *record;
	page->heard++;
	if (++page->waiting < (page->each ? page->each : 1))
		return;
	page->waiting = 0;
	if (!page->each)
		page->each = 1;
	if (page->count == PAGE_RECORDS_MAX)
		thin(page);
	page->record[page->count++] = page->next;
}

void page_take(struct report_page *page, const struct ctl *ctl)
{
	struct page_record r;

	for (size_t i = 0; *ctl_text(ctl, "trace.%zu", i); i++) {
		int n = sscanf(ctl_text(ctl, "trace.%zu", i),
			       "%" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%" SCNu64,
			       &r.end_ns, &r.total_ns, &r.asked_ns, &r.power_uw, &r.point.hz[CLOCK_CPU],
			       &r.point.hz[CLOCK_GPU], &r.point.hz[CLOCK_MEM]);

		if (n == 7)
			add(page, &r);
	}
	page->skipped += ctl_u64(ctl, "trace.skipped");
}

static void put_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '<': fputs("&lt;", out); break;
		case '>': fputs("&gt;", out); break;
		case '&': fputs("&amp;", out); break;
		case '"': fputs("&quot;", out); break;
		default: fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
		}
	}
}

/* ---- curves over time ---- */

struct axes {
	double seconds, most; /* at the ends */
	uint64_t start_ns;
};

static double x_of(const struct axes *axes, double seconds)
{
	return LEFT + seconds / axes->seconds * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct axes *axes, double value)
{
	double share = value / axes->most;

	return HEIGHT - BOTTOM - (share > 1 ? 1 : share) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten, so that there are at most TICKS. */
static double tick_of(double most)
{
	double step = pow(10, floor(log10(most / TICKS)));

	return step * (most / TICKS <= step ? 1 : most / TICKS <= 2 * step ? 2 : most / TICKS <= 5 * step ? 5 : 10);
}

static void begin_plot(const struct axes *axes, const char *id, const char *unit, FILE *out)
{
	double step = tick_of(axes->most), step_s = tick_of(axes->seconds);

	fprintf(out, "<svg id=\"%s\" viewBox=\"0 0 %d %d\" role=\"img\">\n", id, WIDTH, HEIGHT);
	for (double v = 0; v <= axes->most * 1.0001; v += step)
		fprintf(out,
			"<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" class=\"end\">%g</text>\n",
			LEFT, y_of(axes, v), WIDTH - RIGHT, LEFT - 6, y_of(axes, v) + 4, v);
	for (double s = 0; s <= axes->seconds * 1.0001; s += step_s)
		fprintf(out, "<text x=\"%.1f\" y=\"%d\" class=\"mid\">%g</text>\n", x_of(axes, s), HEIGHT - BOTTOM + 16,
			s);
	fprintf(out, "<text x=\"%d\" y=\"%d\" class=\"mid\">seconds</text><text x=\"4\" y=\"12\">%s</text>\n",
		(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, unit);
}

static double seconds_of(const struct axes *axes, const struct page_record *record)
{
	return (double)(record->end_ns - axes->start_ns) * 1e-9;
}

static struct axes time_axis(const struct report_page *page)
{
	struct axes axes = {.start_ns = UINT64_MAX};
	uint64_t end_ns = 0;

	for (size_t i = 0; i < page->count; i++) {
		axes.start_ns = page->record[i].end_ns < axes.start_ns ? page->record[i].end_ns : axes.start_ns;
		end_ns = page->record[i].end_ns > end_ns ? page->record[i].end_ns : end_ns;
	}
	axes.seconds = end_ns > axes.start_ns ? (double)(end_ns - axes.start_ns) * 1e-9 : 1;
	return axes;
}

/* One path for all dots of a kind: short, and quick to draw. */
static void put_dots(const struct report_page *page, const struct axes *axes, bool late, FILE *out)
{
	fprintf(out, "<path class=\"%s\" d=\"", late ? "late" : "met");
	for (size_t i = 0; i < page->count; i++) {
		const struct page_record *r = &page->record[i];

		if ((r->total_ns > r->asked_ns) == late)
			fprintf(out, "M%.1f %.1fh0", x_of(axes, seconds_of(axes, r)),
				y_of(axes, (double)r->total_ns / 1e6));
	}
	fprintf(out, "\"/>\n");
}

/* The line of the deadline or, for a stream, of the time left until the schedule. */
static void put_deadline(const struct report_page *page, const struct axes *axes, FILE *out)
{
	fprintf(out, "<path class=\"deadline\" d=\"");
	for (size_t i = 0; i < page->count; i++)
		fprintf(out, "%s%.1f %.1f", i ? "L" : "M", x_of(axes, seconds_of(axes, &page->record[i])),
			y_of(axes, (double)page->record[i].asked_ns / 1e6));
	fprintf(out, "\"/>\n</svg>\n");
}

static void put_latency(const struct report_page *page, FILE *out)
{
	struct axes axes = time_axis(page);
	uint64_t late = 0;

	for (size_t i = 0; i < page->count; i++) {
		double ms = (double)page->record[i].total_ns / 1e6, asked_ms = (double)page->record[i].asked_ns / 1e6;

		axes.most = fmax(axes.most, fmax(ms, asked_ms < 1.5 * ms ? asked_ms : 0) * 1.1);
		late += page->record[i].total_ns > page->record[i].asked_ns;
	}
	fprintf(out,
		"<h2>Latency against the deadline</h2>\n<p>Each dot is %s; the line is the deadline. %" PRIu64
		" dots lie over it.</p>\n",
		page->each > 1 ? "the slowest of several requests" : "a request", late);
	begin_plot(&axes, "latency", "ms", out);
	put_dots(page, &axes, false, out);
	put_dots(page, &axes, true, out);
	put_deadline(page, &axes, out);
}

static void put_power(const struct report_page *page, const struct ctl *ctl, FILE *out)
{
	const char *rail = ctl_text(ctl, "power_rail");
	struct axes axes = time_axis(page);
	bool pen_down = false;

	for (size_t i = 0; i < page->count; i++)
		axes.most = fmax(axes.most, 1.15 * (double)page->record[i].power_uw / 1e6);
	fprintf(out, "<h2>Power while requests ran</h2>\n");
	if (axes.most <= 0) {
		fprintf(out, "<p id=\"power\">Not known: the board has no power sensor that flamed can read.</p>\n");
		return;
	}
	fprintf(out, "<p>Measured at ");
	put_text(out, *rail ? rail : "the board's input");
	fprintf(out, ", smoothed over the last requests.</p>\n");
	begin_plot(&axes, "power", "W", out);
	fprintf(out, "<path class=\"power\" d=\"");
	for (size_t i = 0; i < page->count; i++) {
		if (!page->record[i].power_uw)
			continue;
		fprintf(out, "%s%.1f %.1f", pen_down ? "L" : "M", x_of(&axes, seconds_of(&axes, &page->record[i])),
			y_of(&axes, (double)page->record[i].power_uw / 1e6));
		pen_down = true;
	}
	fprintf(out, "\"/>\n</svg>\n");
}

/* ---- the path on the surface ---- */

#define CELL_W 44
#define CELL_H 22

static size_t nearest(const uint64_t *axis, size_t count, uint64_t hz)
{
	size_t best = 0;

	for (size_t i = 1; i < count; i++)
		if (llabs((long long)axis[i] - (long long)hz) < llabs((long long)axis[best] - (long long)hz))
			best = i;
	return best;
}

static void axes_of(const struct picture *picture, const struct page_record *record, size_t axis[CLOCK_COUNT])
{
	for (int c = 0; c < CLOCK_COUNT; c++)
		axis[c] = nearest(picture->hz[c], picture->count[c], record->point.hz[c]);
}

/* The memory clock of most requests: its panel is drawn. */
static size_t panel(const struct report_page *page, const struct picture *picture)
{
	size_t requests[GRID_AXIS_MAX] = {0}, axis[CLOCK_COUNT], most = 0;

	for (size_t i = 0; i < page->count; i++) {
		axes_of(picture, &page->record[i], axis);
		requests[axis[CLOCK_MEM]]++;
	}
	for (size_t m = 1; m < picture->count[CLOCK_MEM]; m++)
		most = requests[m] > requests[most] ? m : most;
	return most;
}

static double cell_x(size_t gpu)
{
	return LEFT + ((double)gpu + 0.5) * CELL_W;
}

static double cell_y(const struct picture *picture, size_t cpu)
{
	return TOP + ((double)(picture->count[CLOCK_CPU] - 1 - cpu) + 0.5) * CELL_H;
}

static void put_cells(const struct picture *picture, size_t mem, FILE *out)
{
	for (size_t cpu = 0; cpu < picture->count[CLOCK_CPU]; cpu++) {
		for (size_t gpu = 0; gpu < picture->count[CLOCK_GPU]; gpu++) {
			size_t i = picture_index(picture, cpu, gpu, mem);
			uint8_t rgb[3];

			colour_at(picture_level(picture, picture_value(picture, i)), rgb);
			fprintf(out,
				"<rect x=\"%.0f\" y=\"%.0f\" width=\"%d\" height=\"%d\" fill=\"#%02x%02x%02x\">"
				"<title>cpu %.0f MHz, gpu %.0f MHz: %.2f ms</title></rect>\n",
				cell_x(gpu) - CELL_W / 2, cell_y(picture, cpu) - CELL_H / 2, CELL_W - 1, CELL_H - 1,
				rgb[0], rgb[1], rgb[2], (double)picture->hz[CLOCK_CPU][cpu] / 1e6,
				(double)picture->hz[CLOCK_GPU][gpu] / 1e6, picture->cell[i].latency_ns / 1e6);
		}
		fprintf(out, "<text x=\"%d\" y=\"%.0f\" class=\"end\">%.0f</text>\n", LEFT - 6,
			cell_y(picture, cpu) + 4, (double)picture->hz[CLOCK_CPU][cpu] / 1e6);
	}
	for (size_t gpu = 0; gpu < picture->count[CLOCK_GPU]; gpu++)
		fprintf(out, "<text x=\"%.0f\" y=\"%.0f\" class=\"mid\">%.0f</text>\n", cell_x(gpu),
			TOP + (double)picture->count[CLOCK_CPU] * CELL_H + 14,
			(double)picture->hz[CLOCK_GPU][gpu] / 1e6);
}

/* From point to point in the order of requests, and a circle at each whose area is the share of requests that ran
 * there. */
static void put_path(const struct report_page *page, const struct picture *picture, FILE *out)
{
	size_t points = picture->count[CLOCK_CPU] * picture->count[CLOCK_GPU], axis[CLOCK_COUNT], last = SIZE_MAX;
	size_t *visits = calloc(points, sizeof(*visits));

	if (!visits)
		return;
	fprintf(out, "<path class=\"path\" d=\"");
	for (size_t i = 0; i < page->count; i++) {
		axes_of(picture, &page->record[i], axis);
		size_t at = axis[CLOCK_CPU] * picture->count[CLOCK_GPU] + axis[CLOCK_GPU];

		visits[at]++;
		if (at != last)
			fprintf(out, "%s%.0f %.0f", last == SIZE_MAX ? "M" : "L", cell_x(axis[CLOCK_GPU]),
				cell_y(picture, axis[CLOCK_CPU]));
		last = at;
	}
	fprintf(out, "\"/>\n");
	for (size_t i = 0; i < points; i++)
		if (visits[i])
			fprintf(out,
				"<circle class=\"visit\" cx=\"%.0f\" cy=\"%.0f\" r=\"%.1f\"><title>%.1f "
				"%%</title></circle>\n",
				cell_x(i % picture->count[CLOCK_GPU]), cell_y(picture, i / picture->count[CLOCK_GPU]),
				2 + 9 * sqrt((double)visits[i] / (double)page->count),
				100 * (double)visits[i] / (double)page->count);
	free(visits);
}

static void put_surface(const struct report_page *page, struct ctl *ctl, const char *model, FILE *out)
{
	struct picture picture = {.shown = SHOW_LATENCY};
	size_t mem;

	fprintf(out, "<h2>The path on the surface</h2>\n");
	if (picture_fetch(&picture, ctl, model, NULL, NULL) < 0 || picture.measured == 0) {
		fprintf(out, "<p id=\"surface\">Nothing is known of the model's latency yet.</p>\n");
		picture_free(&picture);
		return;
	}
	mem = panel(page, &picture);
	fprintf(out,
		"<p>Predicted latency, dark is fast, from %.1f to %.1f ms; CPU clock upwards, GPU clock to the "
		"right, in MHz",
		picture.low / 1e6, picture.high / 1e6);
	if (picture.count[CLOCK_MEM] > 1)
		fprintf(out, "; memory at %.0f MHz, where most requests ran", (double)picture.hz[CLOCK_MEM][mem] / 1e6);
	fprintf(out, ". Circles are where requests ran, by their share; the line is the order.</p>\n");
	fprintf(out, "<svg id=\"surface\" viewBox=\"0 0 %.0f %.0f\" style=\"max-width:%.0fpx\" role=\"img\">\n",
		LEFT + (double)picture.count[CLOCK_GPU] * CELL_W + RIGHT,
		TOP + (double)picture.count[CLOCK_CPU] * CELL_H + BOTTOM,
		1.2 * (LEFT + (double)picture.count[CLOCK_GPU] * CELL_W));
	put_cells(&picture, mem, out);
	put_path(page, &picture, out);
	fprintf(out, "</svg>\n");
	picture_free(&picture);
}

/* ---- the table ---- */

static void row(FILE *out, const char *name, const char *text)
{
	fprintf(out, "<tr><th>%s</th><td>%s</td></tr>\n", name, text);
}

static void duration_row(const struct ctl *ctl, FILE *out, const char *name, const char *key)
{
	char text[32];

	row(out, name, format_duration(text, sizeof(text), ctl_u64(ctl, "%s", key)));
}

static void put_table(const struct report_page *page, const struct ctl *ctl, FILE *out)
{
	uint64_t requests = ctl_u64(ctl, "requests"), missed = ctl_u64(ctl, "missed");
	char text[128], point[64], prefix[40];

	fprintf(out, "<table id=\"figures\">\n");
	snprintf(text, sizeof(text), "%" PRIu64, requests);
	row(out, "inferences", text);
	snprintf(text, sizeof(text), "%" PRIu64 " (%.2f %%)", missed,
		 requests ? 100.0 * (double)missed / (double)requests : 0);
	row(out, "missed", text);
	duration_row(ctl, out, "median", "median_ns");
	duration_row(ctl, out, "mean", "mean_ns");
	duration_row(ctl, out, "99th percentile", "p99_ns");
	duration_row(ctl, out, "longest", "max_ns");
	if (ctl_u64(ctl, "power_uw")) {
		row(out, "energy per inference", format_energy(text, sizeof(text), ctl_u64(ctl, "energy_uj")));
		row(out, "mean power", format_power(text, sizeof(text), ctl_u64(ctl, "power_uw")));
	}
	for (size_t i = 0; *ctl_text(ctl, "clock.%zu.requests", i); i++) {
		snprintf(prefix, sizeof(prefix), "clock.%zu.", i);
		snprintf(text, sizeof(text), "%s MHz: %.1f %%", ctl_point(ctl, prefix, point, sizeof(point)),
			 100.0 * (double)ctl_u64(ctl, "clock.%zu.requests", i) / (double)requests);
		row(out, i ? "" : "cpu/gpu/mem clocks", text);
	}
	if (page->skipped) {
		snprintf(text, sizeof(text), "%" PRIu64 " requests came too fast to be drawn", page->skipped);
		row(out, "pictures", text);
	}
	fprintf(out, "</table>\n");
}

static const char style[] =
	"body{font:15px/1.45 system-ui,sans-serif;color:#222;background:#fff;max-width:960px;margin:2em auto;"
	"padding:0 1em}"
	"code{display:block;max-height:6em;overflow:auto}svg{width:100%;height:auto;font-size:11px}"
	"h1{font-size:1.5em}h2{font-size:1.1em;margin:1.6em 0 .2em}p{margin:.2em 0 .6em}"
	"table{border-collapse:collapse}th{text-align:left;font-weight:normal;color:#666;padding-right:2em}"
	".grid{stroke:#e4e4e4}.end{text-anchor:end}.mid{text-anchor:middle}text{fill:#666}"
	".met,.late{fill:none;stroke-linecap:round;stroke-width:4}.met{stroke:#31688e}.late{stroke:#d1352b}"
	".deadline{fill:none;stroke:#222;stroke-dasharray:6 4}.power{fill:none;stroke:#35845c;stroke-width:2}"
	".path{fill:none;stroke:#fff;stroke-width:1.5;stroke-opacity:.8}.visit{fill:#d1352b;stroke:#fff}";

int page_write(struct report_page *page, struct ctl *ctl, const char *model, char *const *command, FILE *out)
{
	if (page->waiting && page->count < PAGE_RECORDS_MAX)
		page->record[page->count++] = page->next;
	fprintf(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		     "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
		     "'unsafe-inline'\">\n"
		     "<title>flamectl run: ");
	put_text(out, model);
	fprintf(out, "</title>\n<style>%s</style>\n</head>\n<body>\n<h1>", style);
	put_text(out, model);
	fprintf(out, "</h1>\n<p><code>");
	for (; *command; command++) {
		put_text(out, *command);
		fputc(' ', out);
	}
	fprintf(out, "</code></p>\n");
	put_table(page, ctl, out);
	if (page->count) {
		put_latency(page, out);
		put_power(page, ctl, out);
		put_surface(page, ctl, model, out);
	} else {
		fprintf(out, "<p id=\"latency\">No inference was seen.</p>\n");
	}
	fprintf(out, "<p>flamed " FLAMED_VERSION "</p>\n</body>\n</html>\n");
	return fflush(out) == 0 && !ferror(out) ? 0 : -EIO;
}
