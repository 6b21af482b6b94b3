/* SPDX-License-Identifier: MIT */
/* flamectl top: a live view of sessions, clocks and decisions. */
#include "ctl.h"

#include <errno.h>
#include <ncurses.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include "../common/clock.h"
#include "../common/point.h"
#include "../common/units.h"

#define DELAY_MS     1000
#define DELAY_MS_MIN 100
#define DELAY_MS_MAX 3600000
#define ROWS_MAX     256
#define RECENT_MAX   64
#define SPARK_TOP    1.25 /* of a deadline: position of the tallest bar */
#define TEXT_MAX     512
#define TYPED_MAX    33 /* a user name of Linux, and its end */
#define CLOCK_ROWS   3
#define EXPLAIN_ROWS 3
#define LIST_ROW     (2 + CLOCK_ROWS + 1)
#define ESCAPE       27

enum colour { COLOUR_GOOD = 1, COLOUR_WARN, COLOUR_BAD, COLOUR_BAR, COLOUR_KEY };
enum column { COLUMN_MODEL, COLUMN_DEADLINE, COLUMN_MEAN, COLUMN_P99, COLUMN_LATE, COLUMN_POWER, COLUMN_COUNT };
enum prompt { PROMPT_NONE, PROMPT_DELAY, PROMPT_USER };

/* From the left; `end`: where a right-aligned column ends, after that of the model. */
static const struct {
	const char *title, *word;
	int end;
} columns[COLUMN_COUNT] = {{"MODEL", "model", 0}, {"DEADLINE", "deadline", 9}, {"MEAN", "mean", 19},
			   {"P99", "p99", 29},    {"LATE", "late", 37},        {"POWER", "power", 46}};

struct row {
	uint64_t id, deadline_ns, rate_mhz, mean_ns, p99_ns, requests, missed, power_uw;
	char model[MODEL_NAME_MAX + 1], phase[12], surface[16];
	uint64_t recent_ns[RECENT_MAX]; /* oldest first */
	size_t recent;
};

struct top {
	struct ctl *ctl;
	struct row row[ROWS_MAX];
	size_t rows, selected, first; /* first: row at the top of the screen */
	uint64_t left_out;            /* sessions that neither flamed's reply nor `row` has room for */
	uint64_t selected_id;         /* the selection follows its session */
	enum column sort;
	bool reversed, help;
	int delay_ms;
	uint64_t due_ns; /* time of the next refresh */
	enum prompt prompt;
	char typed[TYPED_MAX], user[TYPED_MAX]; /* answer to the prompt so far; whose sessions are listed, "": all */
	uint64_t uid;                           /* of that user */
	char explain[TEXT_MAX], lost[TEXT_MAX], message[TEXT_MAX];
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

	top->rows = 0;
	top->left_out = ctl_u64(ctl, "more");
	for (size_t i = 0; *ctl_text(ctl, "session.%zu.id", i); i++) {
		struct row *row = &top->row[top->rows];

		if (*top->user && ctl_u64(ctl, "session.%zu.uid", i) != top->uid)
			continue;
		if (top->rows == ROWS_MAX) {
			top->left_out++;
			continue;
		}
		top->rows++;
		*row = (struct row){.id = ctl_u64(ctl, "session.%zu.id", i),
				    .deadline_ns = ctl_u64(ctl, "session.%zu.deadline_ns", i),
				    .rate_mhz = ctl_u64(ctl, "session.%zu.rate_mhz", i),
				    .mean_ns = ctl_u64(ctl, "session.%zu.mean_ns", i),
				    .p99_ns = ctl_u64(ctl, "session.%zu.p99_ns", i),
				    .requests = ctl_u64(ctl, "session.%zu.requests", i),
				    .missed = ctl_u64(ctl, "session.%zu.missed", i),
				    .power_uw = ctl_u64(ctl, "session.%zu.power_uw", i)};
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

/* Period of a stream, deadline of others. */
static double due_in_ns(const struct row *row)
{
	return row->rate_mhz ? 1e3 * NS_PER_S / (double)row->rate_mhz : (double)row->deadline_ns;
}

static double column_value(enum column column, const struct row *row)
{
	switch (column) {
	case COLUMN_DEADLINE: return due_in_ns(row);
	case COLUMN_MEAN: return (double)row->mean_ns;
	case COLUMN_P99: return (double)row->p99_ns;
	case COLUMN_LATE: return late_share(row);
	case COLUMN_POWER: return (double)row->power_uw;
	default: return 0;
	}
}

static const struct top *sorted; /* qsort() passes no argument to the comparison */

/* The largest first; names, and rows that are equal, in the order of the alphabet. */
static int compare(const void *a, const void *b)
{
	const struct row *x = sorted->reversed ? b : a, *y = sorted->reversed ? a : b;
	double difference = column_value(sorted->sort, y) - column_value(sorted->sort, x);

	if (difference != 0)
		return difference > 0 ? 1 : -1;
	int names = strcmp(x->model, y->model);
	return names ? names : (x->id > y->id) - (x->id < y->id);
}

static void sort_rows(struct top *top)
{
	sorted = top;
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
	if (rc == 0)
		rc = ctl_exchange(top->ctl, &out);
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
		top->left_out = 0;
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
	put_right(0, COLS, state);
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

/* Column of the screen after the model's name. */
static int values_from(void)
{
	return 19 + (COLS > 80 ? (COLS - 80) / 3 : 0);
}

static void draw_row(const struct top *top, int y, size_t i)
{
	const struct row *row = &top->row[i];
	char text[32], late[16];
	int x = values_from();

	if (i == top->selected)
		attrset(A_REVERSE);
	snprintf(late, sizeof(late), "%.2f%%", 100 * late_share(row));
	mvhline(y, 0, ' ', x + 50);
	put_text(y, 0, x - 1, row->model);
	put_right(y, x + columns[COLUMN_DEADLINE].end,
		  row->rate_mhz ? format_rate(text, sizeof(text), row->rate_mhz) :
				  format_duration(text, sizeof(text), row->deadline_ns));
	put_right(y, x + columns[COLUMN_MEAN].end, format_duration(text, sizeof(text), row->mean_ns));
	put_right(y, x + columns[COLUMN_P99].end, format_duration(text, sizeof(text), row->p99_ns));
	put_right(y, x + columns[COLUMN_LATE].end, row->requests ? late : "-");
	put_right(y, x + columns[COLUMN_POWER].end, format_power(text, sizeof(text), row->power_uw));
	plain();
	draw_spark(top->ctl, y, x + 48, COLS - x - 48, row);
}

/* The column that the list is sorted by is in bold. */
static void draw_titles(const struct top *top, int y)
{
	int x = values_from();

	attrset(A_UNDERLINE);
	mvhline(y, 0, ' ', COLS);
	put_text(y, x + 48, COLS - x - 48, "LATENCY");
	for (int c = 0; c < COLUMN_COUNT; c++) {
		attrset(A_UNDERLINE | (c == (int)top->sort ? A_BOLD : 0));
		if (columns[c].end)
			put_right(y, x + columns[c].end, columns[c].title);
		else
			put_text(y, 0, x - 1, columns[c].title);
	}
	plain();
}

static int list_rows(void)
{
	return LINES - LIST_ROW - 2 - EXPLAIN_ROWS - 1;
}

static void draw_rows(struct top *top, int from, int count)
{
	char text[TEXT_MAX];
	int y;

	draw_titles(top, from);
	count -= top->left_out > 0;
	if (top->selected < top->first)
		top->first = top->selected;
	if (count > 0 && top->selected >= top->first + (size_t)count)
		top->first = top->selected - (size_t)count + 1;
	for (int i = 0; i < count && top->first + (size_t)i < top->rows; i++)
		draw_row(top, from + 1 + i, top->first + (size_t)i);
	if (top->rows == 0 && !top->lost[0])
		put_text(from + 1, 0, COLS,
			 *top->user ? "No session of this user." : "No session: the kernel governs the clocks.");
	if (top->left_out == 0 || count < 0)
		return;
	y = top->rows == 0 ? 1 : (int)(top->rows - top->first);
	snprintf(text, sizeof(text), "and %llu more%s", (unsigned long long)top->left_out,
		 *top->user ? " of all users" : "");
	put_text(from + 1 + (y < count ? y : count), 0, COLS, text);
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
	char text[TEXT_MAX];

	if (top->prompt == PROMPT_DELAY)
		snprintf(text, sizeof(text), "Change delay from %.1f to (seconds): %s", top->delay_ms / 1e3,
			 top->typed);
	else if (top->prompt == PROMPT_USER)
		snprintf(text, sizeof(text), "Which user (none: all): %s", top->typed);
	else if (*top->message)
		snprintf(text, sizeof(text), "%s", top->message);
	else
		snprintf(text, sizeof(text),
			 "q quit  space refresh  d delay: %.1f s  < > sort by: %s%s  u user: %.12s  h help",
			 top->delay_ms / 1e3, columns[top->sort].word, top->reversed ? " (R)" : "",
			 *top->user ? top->user : "all");
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
		"q         quit                     space, Enter  refresh now",
		"d or s    change the delay         h or ?        this page, and back",
		"<, >      sort by the next column to the left, right",
		"P         sort by power            R             reverse the order",
		"u         sessions of one user     up, down    select a session, as do",
		"                                   Page Up, Page Down, Home, End",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		put_text(2 + (int)i, 2, COLS - 2, lines[i]);
}

static void draw(struct top *top)
{
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
		draw_rows(top, LIST_ROW, list_rows());
		draw_wrapped(LINES - 1 - EXPLAIN_ROWS, EXPLAIN_ROWS, top->explain);
	}
	draw_keys(top);
	refresh();
}

static void move_selection(struct top *top, int by)
{
	int to = (int)top->selected + by, last = (int)top->rows - 1;

	if (top->rows == 0)
		return;
	top->selected = (size_t)(to < 0 ? 0 : to > last ? last : to);
	top->selected_id = top->row[top->selected].id;
}

static void sort_by(struct top *top, enum column column, bool reversed)
{
	if (column >= COLUMN_COUNT) /* beyond either end */
		return;
	top->sort = column;
	top->reversed = reversed;
	sort_rows(top);
}

static void take_delay(struct top *top)
{
	char *end;
	double ms = strtod(top->typed, &end) * 1e3;

	if (!*top->typed)
		return;
	if (*end || !(ms >= DELAY_MS_MIN && ms <= DELAY_MS_MAX))
		snprintf(top->message, sizeof(top->message), "Not a delay of %.1f to %.0f seconds: %s",
			 DELAY_MS_MIN / 1e3, DELAY_MS_MAX / 1e3, top->typed);
	else
		top->delay_ms = (int)ms;
}

static void take_user(struct top *top)
{
	const struct passwd *user = *top->typed ? getpwnam(top->typed) : NULL;
	uint64_t uid = user ? user->pw_uid : 0;

	if (*top->typed && !user && parse_u64(top->typed, &uid) < 0) {
		snprintf(top->message, sizeof(top->message), "No such user: %s", top->typed);
		return;
	}
	top->uid = uid;
	snprintf(top->user, sizeof(top->user), "%s", top->typed);
}

static void handle_typed(struct top *top, int key)
{
	size_t len = strlen(top->typed);

	if (key == '\n' || key == '\r' || key == KEY_ENTER) {
		if (top->prompt == PROMPT_DELAY)
			take_delay(top);
		else
			take_user(top);
		top->due_ns = 0;
	}
	if (key == '\n' || key == '\r' || key == KEY_ENTER || key == ESCAPE)
		top->prompt = PROMPT_NONE;
	else if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && len)
		top->typed[len - 1] = '\0';
	else if (key > ' ' && key < 127 && len + 1 < sizeof(top->typed))
		snprintf(top->typed + len, 2, "%c", key);
}

static void ask_user(struct top *top, enum prompt prompt)
{
	top->prompt = prompt;
	top->typed[0] = '\0';
}

/* Returns false to quit. Each key means what it does in top(1). */
static bool handle(struct top *top, int key)
{
	if (top->prompt) {
		handle_typed(top, key);
		return true;
	}
	top->message[0] = '\0';
	switch (key) {
	case 'q': return false;
	case ' ':
	case '\n':
	case KEY_ENTER: top->due_ns = 0; break;
	case 'd':
	case 's': ask_user(top, PROMPT_DELAY); break;
	case 'u': ask_user(top, PROMPT_USER); break;
	case '<': sort_by(top, top->sort - 1, top->reversed); break;
	case '>': sort_by(top, top->sort + 1, top->reversed); break;
	case 'P': sort_by(top, COLUMN_POWER, false); break;
	case 'R': sort_by(top, top->sort, !top->reversed); break;
	case KEY_UP: move_selection(top, -1); break;
	case KEY_DOWN: move_selection(top, 1); break;
	case KEY_PPAGE: move_selection(top, -list_rows()); break;
	case KEY_NPAGE: move_selection(top, list_rows()); break;
	case KEY_HOME: move_selection(top, -ROWS_MAX); break;
	case KEY_END: move_selection(top, ROWS_MAX); break;
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
	bool go_on = true;

	while (go_on) {
		uint64_t now_ns = clock_now_ns();
		int key;

		if (now_ns >= top->due_ns) {
			refresh_data(top);
			top->due_ns = clock_now_ns() + (uint64_t)top->delay_ms * (uint64_t)NS_PER_MS;
		}
		draw(top);
		now_ns = clock_now_ns();
		timeout(top->due_ns > now_ns ? (int)((top->due_ns - now_ns) / NS_PER_MS) + 1 : 0);
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
	top->delay_ms = DELAY_MS;
	top->sort = COLUMN_LATE;
	start_screen();
	watch(top);
	endwin();
	free(top);
	return 0;
}
