/* SPDX-License-Identifier: MIT */
/* flamectl top: a live view of sessions, clocks and decisions. */
#include "ctl.h"

#include <errno.h>
#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include "../common/clock.h"
#include "../common/point.h"
#include "../common/units.h"

#define PERIOD_MS     1000
#define PERIOD_MS_MIN 100
#define PERIOD_MS_MAX 10000
#define ROWS_MAX      256
#define RECENT_MAX    64
#define SPARK_TOP     1.25 /* of a deadline: position of the tallest bar */
#define TEXT_MAX      512
#define CLOCK_ROWS    3
#define EXPLAIN_ROWS  3

enum colour { COLOUR_GOOD = 1, COLOUR_WARN, COLOUR_BAD, COLOUR_BAR, COLOUR_KEY };
enum order { ORDER_LATE, ORDER_POWER, ORDER_MODEL, ORDER_COUNT };

static const char *const order_words[ORDER_COUNT] = {"late", "power", "model"};

struct row {
	uint64_t id, deadline_ns, rate_mhz, mean_ns, p99_ns, requests, missed, power_uw, uid;
	char model[MODEL_NAME_MAX + 1], phase[12], surface[16];
	uint64_t recent_ns[RECENT_MAX]; /* oldest first */
	size_t recent;
};

struct top {
	struct ctl *ctl;
	struct row row[ROWS_MAX];
	size_t rows, selected, first; /* first: row at the top of the screen */
	uint64_t selected_id;         /* the selection follows its session */
	enum order order;
	int period_ms;
	bool paused, help;
	char explain[TEXT_MAX], lost[TEXT_MAX];
};

static void take_recent(struct row *row, const char *text)
{
	while (*text && row->recent < RECENT_MAX) {
		char *end;

		row->recent_ns[row->recent++] = strtoull(text, &end, 10);
		text = *end == ',' ? end + 1 : "";
	}
}

static void take_rows(struct top *top)
{
	const struct ctl *ctl = top->ctl;

	for (top->rows = 0; top->rows < ROWS_MAX && *ctl_text(ctl, "session.%zu.id", top->rows); top->rows++) {
		struct row *row = &top->row[top->rows];
		size_t i = top->rows;

		*row = (struct row){.id = ctl_u64(ctl, "session.%zu.id", i),
				    .deadline_ns = ctl_u64(ctl, "session.%zu.deadline_ns", i),
				    .rate_mhz = ctl_u64(ctl, "session.%zu.rate_mhz", i),
				    .mean_ns = ctl_u64(ctl, "session.%zu.mean_ns", i),
				    .p99_ns = ctl_u64(ctl, "session.%zu.p99_ns", i),
				    .requests = ctl_u64(ctl, "session.%zu.requests", i),
				    .missed = ctl_u64(ctl, "session.%zu.missed", i),
				    .power_uw = ctl_u64(ctl, "session.%zu.power_uw", i),
				    .uid = ctl_u64(ctl, "session.%zu.uid", i)};
		snprintf(row->model, sizeof(row->model), "%s", ctl_text(ctl, "session.%zu.model", i));
		snprintf(row->phase, sizeof(row->phase), "%s", ctl_text(ctl, "session.%zu.phase", i));
		snprintf(row->surface, sizeof(row->surface), "%s", ctl_text(ctl, "session.%zu.surface", i));
		take_recent(row, ctl_text(ctl, "session.%zu.recent_ns", i));
	}
}

static double late_share(const struct row *row)
{
	return row->requests ? (double)row->missed / (double)row->requests : 0;
}

static enum order sort_order; /* qsort() passes no argument to the comparison */

static int compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	double difference = 0;

	if (sort_order == ORDER_LATE)
		difference = late_share(y) - late_share(x);
	else if (sort_order == ORDER_POWER)
		difference = (double)y->power_uw - (double)x->power_uw;
	if (difference != 0)
		return difference > 0 ? 1 : -1;
	int names = strcmp(x->model, y->model);
	return names ? names : (x->id > y->id) - (x->id < y->id);
}

static void sort_rows(struct top *top)
{
	sort_order = top->order;
	qsort(top->row, top->rows, sizeof(top->row[0]), compare);
	top->selected = 0;
	for (size_t i = 0; i < top->rows; i++)
		if (top->row[i].id == top->selected_id)
			top->selected = i;
	top->selected_id = top->rows ? top->row[top->selected].id : 0;
}

/* Without messages, which would disturb the screen. Returns 0 or a negative errno. */
static int ask(struct top *top, const char *op, uint64_t session)
{
	struct kv_out out = {0};
	int rc = top->ctl->wire.fd >= 0 ? 0 : wire_connect(&top->ctl->wire, top->ctl->socket);

	kv_add(&out, "op", "%s", op);
	if (session)
		kv_add_u64(&out, "session", session);
	kv_end(&out);
	if (rc == 0)
		rc = wire_call(&top->ctl->wire, &out, CTL_TIMEOUT_NS);
	kv_free(&out);
	return rc;
}

static void refresh_data(struct top *top)
{
	int rc;

	top->explain[0] = top->lost[0] = '\0';
	rc = ask(top, "explain", top->selected_id);
	if (rc == 0)
		snprintf(top->explain, sizeof(top->explain), "%s", ctl_text(top->ctl, "text"));
	rc = ask(top, "status", 0);
	if (rc < 0) {
		wire_close(&top->ctl->wire);
		snprintf(top->lost, sizeof(top->lost), "flamed does not answer at %s: %s. Trying again.",
			 top->ctl->socket, strerror(-rc));
		top->rows = 0;
		return;
	}
	take_rows(top);
	sort_rows(top);
}

static void coloured(int colour, bool bold)
{
	attrset((attr_t)(has_colors() ? COLOR_PAIR(colour) : 0) | (bold ? A_BOLD : 0));
}

static void plain(void)
{
	attrset(A_NORMAL);
}

/* At most `width` columns; every text from flamed is ASCII, as put_text() ensures. */
static void put_text(int y, int x, int width, const char *text)
{
	if (width > 0 && y < LINES && x < COLS)
		mvaddnstr(y, x, text, width < COLS - x ? width : COLS - x);
}

static void put_right(int y, int end, const char *text)
{
	put_text(y, end - (int)strlen(text), (int)strlen(text), text);
}

static void draw_head(const struct top *top)
{
	const struct ctl *ctl = top->ctl;
	const char *state = ctl_text(ctl, "state"), *reason = ctl_text(ctl, "state_reason");
	char text[TEXT_MAX], watts[32];

	attrset(A_BOLD);
	snprintf(text, sizeof(text), "%s%s%s", ctl_text(ctl, "board.name"),
		 *ctl_text(ctl, "board.power_mode") ? ", " : "", ctl_text(ctl, "board.power_mode"));
	put_text(0, 0, COLS - 12, text);
	coloured(strcmp(state, "degraded") ? COLOUR_GOOD : COLOUR_BAD, true);
	put_right(0, COLS, top->paused ? "paused" : state);
	plain();
	if (*reason) {
		coloured(COLOUR_BAD, false);
		put_text(1, 0, COLS, reason);
		plain();
		return;
	}
	snprintf(text, sizeof(text), "%s%s%s",
		 *ctl_text(ctl, "power.sensor") ? format_power(watts, sizeof(watts), ctl_u64(ctl, "power.uw")) :
						  "no power sensor",
		 *ctl_text(ctl, "power.sensor") ? " " : "", ctl_text(ctl, "power.sensor"));
	put_text(1, 0, 30, text);
	if (*ctl_text(ctl, "temperature.zone")) {
		snprintf(text, sizeof(text), "%.1f C %s",
			 strtod(ctl_text(ctl, "temperature.millidegree_c"), NULL) / 1e3,
			 ctl_text(ctl, "temperature.zone"));
		put_text(1, 31, 24, text);
	}
	snprintf(text, sizeof(text), "keeper %s", ctl_text(ctl, "keeper.state"));
	put_right(1, COLS, text);
}

static void draw_clock(const struct ctl *ctl, int y, const char *name)
{
	uint64_t cur_hz = ctl_u64(ctl, "clock.%s.cur_hz", name), min_hz = ctl_u64(ctl, "clock.%s.min_hz", name);
	uint64_t max_hz = ctl_u64(ctl, "clock.%s.max_hz", name), ceiling_hz = ctl_u64(ctl, "clock.%s.ceiling_hz", name);
	const char *owner = ctl_text(ctl, "clock.%s.owner", name);
	int width = COLS - 47 > 10 ? COLS - 47 : 10;
	double share = max_hz > min_hz && cur_hz > min_hz ? (double)(cur_hz - min_hz) / (double)(max_hz - min_hz) : 0;
	char now[32], most[32], text[80];

	attrset(A_BOLD);
	put_text(y, 0, 4, name);
	plain();
	if (!ctl_u64(ctl, "clock.%s.controllable", name)) {
		put_text(y, 5, COLS - 5,
			 *ctl_text(ctl, "clock.%s.why_not", name) ? ctl_text(ctl, "clock.%s.why_not", name) :
								    "not controlled");
		return;
	}
	coloured(COLOUR_BAR, false);
	for (int i = 0; i < width; i++)
		mvaddstr(y, 5 + i,
			 i < (int)(share * width + 0.5) ? (ctl->utf8 ? "\u2588" : "#") : (ctl->utf8 ? "\u2591" : "."));
	plain();
	snprintf(text, sizeof(text), "%s of %s", format_frequency(now, sizeof(now), cur_hz),
		 format_frequency(most, sizeof(most), ceiling_hz && ceiling_hz < max_hz ? ceiling_hz : max_hz));
	put_text(y, 6 + width, 30, text);
	coloured(strcmp(owner, "foreign") == 0 ? COLOUR_WARN : COLOUR_GOOD, false);
	put_right(y, COLS, owner);
	plain();
}

/* Latency divided by deadline, newest at the right: a bar as tall as the deadline is four fifths
 * high. */
static void draw_spark(const struct ctl *ctl, int y, int x, int width, const struct row *row)
{
	static const char *const bars[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
					   "\u2585", "\u2586", "\u2587", "\u2588"};
	static const char ascii[] = " ._-=+*%#";
	size_t shown = row->recent < (size_t)width ? row->recent : (size_t)width;

	for (size_t i = 0; i < shown && row->deadline_ns; i++) {
		double share = (double)row->recent_ns[row->recent - shown + i] / (double)row->deadline_ns;
		int level = (int)(share / SPARK_TOP * 8 + 0.5);

		level = level > 8 ? 8 : level;
		coloured(share > 1 ? COLOUR_BAD : share > 0.9 ? COLOUR_WARN : COLOUR_GOOD, false);
		if (ctl->utf8)
			mvaddstr(y, x + width - (int)shown + (int)i, bars[level]);
		else
			mvaddch(y, x + width - (int)shown + (int)i, (chtype)ascii[level]);
	}
	plain();
}

static void draw_row(const struct top *top, int y, size_t i)
{
	const struct row *row = &top->row[i];
	char text[32], late[16];
	int model = COLS - 80 > 0 ? 18 + (COLS - 80) / 3 : 18, x = model + 1;

	if (i == top->selected)
		attrset(A_REVERSE);
	snprintf(late, sizeof(late), "%.2f%%", 100 * late_share(row));
	mvhline(y, 0, ' ', x + 50);
	put_text(y, 0, model, row->model);
	put_right(y, x + 9,
		  row->rate_mhz ? format_rate(text, sizeof(text), row->rate_mhz) :
				  format_duration(text, sizeof(text), row->deadline_ns));
	put_right(y, x + 19, format_duration(text, sizeof(text), row->mean_ns));
	put_right(y, x + 29, format_duration(text, sizeof(text), row->p99_ns));
	put_right(y, x + 37, row->requests ? late : "-");
	put_right(y, x + 46, format_power(text, sizeof(text), row->power_uw));
	plain();
	draw_spark(top->ctl, y, x + 48, COLS - x - 48, row);
}

static void draw_rows(struct top *top, int from, int count)
{
	int model = COLS - 80 > 0 ? 18 + (COLS - 80) / 3 : 18, x = model + 1;

	attrset(A_UNDERLINE);
	mvhline(from, 0, ' ', COLS);
	put_text(from, 0, model, "MODEL");
	put_right(from, x + 9, "DEADLINE");
	put_right(from, x + 19, "MEAN");
	put_right(from, x + 29, "P99");
	put_right(from, x + 37, "LATE");
	put_right(from, x + 46, "POWER");
	put_text(from, x + 48, COLS - x - 48, "LATENCY");
	plain();
	if (top->selected < top->first)
		top->first = top->selected;
	if (count > 0 && top->selected >= top->first + (size_t)count)
		top->first = top->selected - (size_t)count + 1;
	for (int i = 0; i < count && top->first + (size_t)i < top->rows; i++)
		draw_row(top, from + 1 + i, top->first + (size_t)i);
	if (top->rows == 0)
		put_text(from + 1, 0, COLS, top->lost[0] ? "" : "No session: the kernel governs the clocks.");
}

/* Wrap at spaces to the width of the screen. */
static void draw_wrapped(int y, int lines, const char *text)
{
	for (int i = 0; i < lines && *text; i++) {
		int len = (int)strlen(text), cut = len;

		if (len > COLS) {
			for (cut = COLS; cut > 0 && text[cut] != ' '; cut--)
				;
			cut = cut > 0 ? cut : COLS;
		}
		put_text(y + i, 0, cut, text);
		text += cut;
		text += *text == ' ';
	}
}

static void draw_keys(const struct top *top)
{
	char text[128];

	snprintf(text, sizeof(text), "q quit  space pause  s sort by: %s  up/down select  +/- every %.1f s  h help",
		 order_words[top->order], top->period_ms / 1e3);
	coloured(COLOUR_KEY, false);
	mvhline(LINES - 1, 0, ' ', COLS);
	put_text(LINES - 1, 0, COLS, text);
	plain();
}

static void draw_help(void)
{
	static const char *const lines[] = {
		"DEADLINE  of each request of the session; the rate of a stream",
		"LATE      fraction of requests that ended after they were due",
		"POWER     mean power while the session's requests ran",
		"LATENCY   newest request at the right; late ones are red",
		"",
		"Below the list: why flamed chose the clocks of the selected session.",
		"",
		"q quit   space pause   s next order   up, down, j, k select",
		"+ faster   - slower   h back",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		put_text(2 + (int)i, 2, COLS - 2, lines[i]);
}

static void draw(struct top *top)
{
	int list = 3 + CLOCK_ROWS, room = LINES - list - 2 - EXPLAIN_ROWS - 1;

	erase();
	if (top->help) {
		draw_help();
	} else {
		if (top->lost[0]) {
			coloured(COLOUR_BAD, true);
			draw_wrapped(0, 2, top->lost);
			plain();
		} else {
			draw_head(top);
			for (int c = 0; c < CLOCK_COUNT; c++)
				draw_clock(top->ctl, 2 + c, clock_name((enum clock_id)c));
		}
		draw_rows(top, list, room);
		draw_wrapped(LINES - 1 - EXPLAIN_ROWS, EXPLAIN_ROWS, top->explain);
	}
	draw_keys(top);
	refresh();
}

static void move_selection(struct top *top, int by)
{
	if (top->rows == 0)
		return;
	if (by < 0 && top->selected > 0)
		top->selected--;
	else if (by > 0 && top->selected + 1 < top->rows)
		top->selected++;
	top->selected_id = top->row[top->selected].id;
}

/* Returns false to quit. */
static bool handle(struct top *top, int key)
{
	switch (key) {
	case 'q':
	case 27: /* Escape */ return false;
	case ' ': top->paused = !top->paused; break;
	case 's':
		top->order = (enum order)((top->order + 1) % ORDER_COUNT);
		sort_rows(top);
		break;
	case KEY_UP:
	case 'k': move_selection(top, -1); break;
	case KEY_DOWN:
	case 'j': move_selection(top, 1); break;
	case '+': top->period_ms = top->period_ms / 2 > PERIOD_MS_MIN ? top->period_ms / 2 : PERIOD_MS_MIN; break;
	case '-': top->period_ms = top->period_ms * 2 < PERIOD_MS_MAX ? top->period_ms * 2 : PERIOD_MS_MAX; break;
	case 'h':
	case '?': top->help = !top->help; break;
	default: /* other keys, and KEY_RESIZE: redraw */ break;
	}
	return true;
}

static void start_screen(void)
{
	initscr();
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	set_escdelay(25);
	curs_set(0);
	if (!has_colors())
		return;
	start_color();
	use_default_colors();
	init_pair(COLOUR_GOOD, COLOR_GREEN, -1);
	init_pair(COLOUR_WARN, COLOR_YELLOW, -1);
	init_pair(COLOUR_BAD, COLOR_RED, -1);
	init_pair(COLOUR_BAR, COLOR_CYAN, -1);
	init_pair(COLOUR_KEY, COLOR_BLACK, COLOR_CYAN);
}

static void watch(struct top *top)
{
	uint64_t due_ns = 0;
	bool go_on = true;

	while (go_on) {
		uint64_t now_ns = clock_now_ns();
		int key;

		if (now_ns >= due_ns && !top->paused) {
			refresh_data(top);
			due_ns = clock_now_ns() + (uint64_t)top->period_ms * (uint64_t)NS_PER_MS;
		}
		draw(top);
		now_ns = clock_now_ns();
		timeout(top->paused ? -1 : due_ns > now_ns ? (int)((due_ns - now_ns) / NS_PER_MS) + 1 : 0);
		key = getch();
		if (key != ERR)
			go_on = handle(top, key);
	}
}

int cmd_top(struct ctl *ctl, int argc, char **argv)
{
	struct top *top;
	int count, rest;

	if (ctl_options(ctl, NULL, 0, argc, argv, &count, &rest))
		return 2;
	if (count > 1 || rest < argc)
		return ctl_usage(ctl, "unexpected argument: %s", argv[count > 1 ? 1 : rest]);
	if (ctl->json)
		return ctl_usage(ctl, "top has no JSON output; use status --json");
	if (!ctl->terminal || !getenv("TERM")) {
		ctl_error(ctl, "stdout is not a terminal; use status --watch");
		return 1;
	}
	/* an error at the start is printed on the terminal, before the screen is set up */
	if (ctl_ask(ctl, "status") < 0)
		return 1;
	top = calloc(1, sizeof(*top));
	if (!top) {
		ctl_error(ctl, "out of memory");
		return 1;
	}
	top->ctl = ctl;
	top->period_ms = PERIOD_MS;
	start_screen();
	watch(top);
	endwin();
	free(top);
	return 0;
}
