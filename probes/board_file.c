/* SPDX-License-Identifier: MIT */
/* Board files: facts that cannot be detected, in the format of etc/boards.d/jetson-orin-nano.ini. A
 * file is parsed completely before it is applied. */
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "../common/units.h"
#include "probe.h"

#define SETTLE_NS_MAX       NS_PER_S
#define POWER_WINDOW_NS_MAX (60 * NS_PER_S)
#define PRIOR_FIELDS        (CLOCK_COUNT + 3)
#define PRIOR_POWER_UW_MAX  10000000000ULL

struct parse {
	struct board_file *out;
	char *message;
	size_t size;
	bool failed;
};

static int fail(struct parse *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct parse *p, const char *format, ...)
{
	va_list args;

	if (!p->failed) {
		va_start(args, format);
		vsnprintf(p->message, p->size, format, args);
		va_end(args);
	}
	p->failed = true;
	return 0;
}

static int set_text(struct parse *p, const char *key, char *to, size_t size, const char *value)
{
	if (snprintf(to, size, "%s", value) >= (int)size)
		return fail(p, "%s is longer than %zu characters", key, size - 1);
	return 1;
}

static int clock_path(struct parse *p, struct board_file_clock *c, const char *value)
{
	if (c->paths == BOARD_FILE_DEVICES_MAX)
		return fail(p, "more than %d paths", BOARD_FILE_DEVICES_MAX);
	if ((strncmp(value, "/sys/", 5) != 0 && strncmp(value, "/nvml/", 6) != 0) || strstr(value, "/../"))
		return fail(p, "path must begin with /sys/ (or /nvml/) and not contain ..: %.64s", value);
	return set_text(p, "path", c->path[c->paths++], SYSFS_PATH_MAX, value);
}

static char *trim(char *word)
{
	word += strspn(word, " \t");
	for (size_t n = strlen(word); n && isspace((unsigned char)word[n - 1]); n--)
		word[n - 1] = '\0';
	return word;
}

/* "306 MHz, 408 MHz" */
static int clock_table(struct parse *p, struct board_file_clock *c, const char *value)
{
	char list[SYSFS_TEXT_MAX], *save;

	if (!set_text(p, "frequencies", list, sizeof(list), value))
		return 0;
	for (char *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		word = trim(word);
		if (c->count == GRID_AXIS_MAX)
			return fail(p, "more than %d frequencies", GRID_AXIS_MAX);
		if (parse_frequency_hz(word, &c->hz[c->count]) < 0 || c->hz[c->count] == 0)
			return fail(p, "not a frequency: '%.32s' (accepted: 1 Hz and up, as in 1020 MHz)", word);
		if (c->count && c->hz[c->count] <= c->hz[c->count - 1])
			return fail(p, "frequencies must ascend: '%.32s'", word);
		c->count++;
	}
	return 1;
}

static int clock_key(struct parse *p, struct board_file_clock *c, const char *key, const char *value)
{
	if (!strcmp(key, "path"))
		return clock_path(p, c, value);
	if (!strcmp(key, "frequencies"))
		return clock_table(p, c, value);
	if (!strcmp(key, "method")) {
		if (method_parse(value, &c->method) == 0 && c->method != METHOD_NONE)
			return 1;
		return fail(p,
			    "not a method: '%.32s' (accepted: cpufreq-limits, cpufreq-setspeed, devfreq-limits, "
			    "devfreq-userspace, i915, xe, amdgpu, bpmp-emc, nvml)",
			    value);
	}
	bool up = !strcmp(key, "settle_up"), down = !strcmp(key, "settle_down");
	if (up || down || !strcmp(key, "settle")) {
		uint64_t ns;
		if (parse_duration_ns(value, &ns) < 0 || ns == 0 || ns > SETTLE_NS_MAX)
			return fail(p, "not a transition latency: '%.32s' (accepted: 1 ns to 1 s)", value);
		if (up || (!down && !c->settle_up_ns))
			c->settle_up_ns = ns;
		if (down || (!up && !c->settle_down_ns))
			c->settle_down_ns = ns;
		return 1;
	}
	if (!strcmp(key, "control")) {
		c->ignore = !strcmp(value, "no");
		if (c->ignore || !strcmp(value, "yes"))
			return 1;
		return fail(p, "control must be yes or no, not '%.32s'", value);
	}
	return fail(
		p, "unknown key '%.32s' (accepted: path, method, frequencies, settle, settle_up, settle_down, control)",
		key);
}

static int board_key(struct parse *p, const char *key, const char *value)
{
	struct board_file *f = p->out;

	if (!strcmp(key, "name"))
		return set_text(p, key, f->name, sizeof(f->name), value);
	if (!strcmp(key, "match")) {
		if (f->matches == BOARD_FILE_MATCHES_MAX)
			return fail(p, "more than %d match lines", BOARD_FILE_MATCHES_MAX);
		return set_text(p, key, f->model[f->matches++], sizeof(f->model[0]), value);
	}
	return fail(p, "unknown key '%.32s' (accepted: name, match)", key);
}

static int power_key(struct parse *p, const char *key, const char *value)
{
	struct board_file *f = p->out;

	if (!strcmp(key, "total"))
		return set_text(p, key, f->power_total, sizeof(f->power_total), value);
	if (!strcmp(key, "parts"))
		return set_text(p, key, f->power_parts, sizeof(f->power_parts), value);
	if (!strcmp(key, "window")) {
		if (parse_duration_ns(value, &f->power_window_ns) == 0 && f->power_window_ns > 0 &&
		    f->power_window_ns <= POWER_WINDOW_NS_MAX)
			return 1;
		return fail(p, "not an averaging window: '%.32s' (accepted: 1 ns to 60 s)", value);
	}
	return fail(p, "unknown key '%.32s' (accepted: total, parts, window)", key);
}

/* "1728 MHz, 1020 MHz, 3199 MHz, 6.2 ms, 15.2 W, 6.3 W"; 0 for a clock that cannot be set and for a
 * value that was not measured. */
static int prior_key(struct parse *p, const char *key, const char *value)
{
	struct board_powers *prior = &p->out->prior;
	struct board_power *point = &prior->point[prior->count];
	uint64_t number[PRIOR_FIELDS] = {0};
	char list[256], *save, *word;
	int field = 0;

	if (strcmp(key, "point") != 0)
		return fail(p, "unknown key '%.32s' (accepted: point)", key);
	if (prior->count == BOARD_POWERS_MAX)
		return fail(p, "more than %d points", BOARD_POWERS_MAX);
	if (!set_text(p, "point", list, sizeof(list), value))
		return 0;
	for (word = strtok_r(list, ",", &save); word && field < PRIOR_FIELDS;
	     word = strtok_r(NULL, ",", &save), field++) {
		int rc = field < CLOCK_COUNT  ? parse_frequency_hz(trim(word), &number[field]) :
			 field == CLOCK_COUNT ? parse_duration_ns(trim(word), &number[field]) :
						parse_power_uw(trim(word), &number[field]);
		if (rc < 0)
			break;
	}
	if (word || field < PRIOR_FIELDS || number[CLOCK_COUNT + 1] == 0 ||
	    number[CLOCK_COUNT + 1] > PRIOR_POWER_UW_MAX)
		return fail(p,
			    "not a point: '%.64s' (accepted: three clocks, latency, busy and idle power, as in 1728 "
			    "MHz, 1020 MHz, 3199 MHz, 6.2 ms, "
			    "15.2 W, 6.3 W)",
			    value);
	memcpy(point->point.hz, number, sizeof(point->point.hz));
	point->latency_ns = (double)number[CLOCK_COUNT];
	point->power_uw = (double)number[CLOCK_COUNT + 1];
	point->idle_uw = (double)number[CLOCK_COUNT + 2];
	prior->count++;
	return 1;
}

static int on_key(void *user, const char *section, const char *key, const char *value)
{
	struct parse *p = user;

	if (!strcmp(section, "board"))
		return board_key(p, key, value);
	if (!strcmp(section, "power"))
		return power_key(p, key, value);
	if (!strcmp(section, "prior"))
		return prior_key(p, key, value);
	for (int id = 0; id < CLOCK_COUNT; id++)
		if (!strcmp(section, clock_name((enum clock_id)id)))
			return clock_key(p, &p->out->clock[id], key, value);
	return fail(p, "unknown section [%.32s] (accepted: board, cpu, gpu, mem, power, prior)", section);
}

int board_file_parse(const char *text, struct board_file *out, char *message, size_t size)
{
	struct parse p = {.out = out, .message = message, .size = size};

	memset(out, 0, sizeof(*out));
	for (int id = 0; id < CLOCK_COUNT; id++)
		out->clock[id].method = METHOD_COUNT;
	snprintf(message, size, "not a [section] or key = value");
	int line = ini_parse_string(text, on_key, &p);
	if (line < 0) {
		snprintf(message, size, "out of memory");
		return 1;
	}
	for (int id = 0; line == 0 && id < CLOCK_COUNT; id++)
		if (out->clock[id].paths && out->clock[id].method == METHOD_COUNT) {
			snprintf(message, size, "[%s] names a path but no method", clock_name((enum clock_id)id));
			line = 1;
		}
	return line;
}

/* Match the machine's own names, or a name given by an earlier file. */
static bool file_matches(const struct board_file *f, const struct sysroot *root, const struct board_file *before)
{
	for (size_t i = 0; i < f->matches; i++)
		if (machine_matches(root, f->model[i]) ||
		    (before && before->name[0] && !strcmp(before->name, f->model[i])))
			return true;
	return false;
}

/* Take values that `to` does not set from `from`. */
static void fill_in(struct board_file *to, const struct board_file *from)
{
	if (!to->name[0])
		memcpy(to->name, from->name, sizeof(to->name));
	for (int id = 0; id < CLOCK_COUNT; id++) {
		struct board_file_clock *c = &to->clock[id];
		uint64_t up_ns = c->settle_up_ns ? c->settle_up_ns : from->clock[id].settle_up_ns;
		uint64_t down_ns = c->settle_down_ns ? c->settle_down_ns : from->clock[id].settle_down_ns;

		if (!c->paths && !c->count && !c->ignore)
			*c = from->clock[id];
		c->settle_up_ns = up_ns;
		c->settle_down_ns = down_ns;
	}
	if (!to->power_total[0] && !to->power_parts[0]) {
		memcpy(to->power_total, from->power_total, sizeof(to->power_total));
		memcpy(to->power_parts, from->power_parts, sizeof(to->power_parts));
	}
	if (!to->power_window_ns)
		to->power_window_ns = from->power_window_ns;
	if (!to->prior.count)
		to->prior = from->prior;
}

struct board_file *board_file_find(struct board *board, const struct sysroot *root, const char *boards_dir)
{
	const struct sysroot host = {""};
	char pattern[SYSFS_PATH_MAX], absolute[PATH_MAX], message[192];

	board->board_file[0] = '\0';
	if (!boards_dir || !realpath(boards_dir, absolute) || sysroot_join(pattern, absolute, "*.ini") < 0)
		return NULL;
	CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(&host, pattern);
	struct board_file *f = malloc(sizeof(*f)), *all = NULL;
	for (size_t i = 0; f && found && i < found->count; i++) {
		CLEANUP_MEM char *text = NULL;
		int rc = file_read(found->path[i], BOARD_FILE_BYTES_MAX, &text, NULL);
		if (rc < 0) {
			log_warning("%s: %s; ignored", found->path[i], strerror(-rc));
			continue;
		}
		int line = board_file_parse(text, f, message, sizeof(message));
		if (line) {
			log_warning("%s:%d: %s; the file is ignored", found->path[i], line, message);
			continue;
		}
		if (!file_matches(f, root, all))
			continue;
		if (all) {
			fill_in(all, f);
			continue;
		}
		memcpy(board->board_file, found->path[i], sizeof(board->board_file));
		all = f;
		f = malloc(sizeof(*f));
	}
	free(f);
	return all;
}

/* Devices named by the file replace those that were detected. */
static void apply_paths(const struct board_file_clock *c, struct clock_domain *domain, const struct sysroot *root)
{
	struct clock_domain named = {0};

	for (size_t i = 0; i < c->paths; i++) {
		CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(root, c->path[i]);
		if (found && found->count == 0) { /* it does not exist, or only root may read it */
			snprintf(found->path[0], SYSFS_PATH_MAX, "%s", c->path[i]);
			found->count = 1;
		}
		for (size_t k = 0; found && k < found->count && named.devices < CPU_POLICIES_MAX; k++) {
			struct clock_device *d = &named.device[named.devices];
			d->count = c->count;
			memcpy(d->hz, c->hz, c->count * sizeof(c->hz[0]));
			domain_add(&named, root, c->method, found->path[k]);
		}
	}
	if (named.devices || domain->devices == 0)
		*domain = named;
	else
		snprintf(domain->why_not, sizeof(domain->why_not), "%s", named.why_not);
}

void board_file_apply(const struct board_file *file, struct board *board, const struct sysroot *root)
{
	board->prior = file->prior;
	if (file->name[0])
		snprintf(board->name, sizeof(board->name), "%s", file->name);
	for (int id = 0; id < CLOCK_COUNT; id++) {
		const struct board_file_clock *c = &file->clock[id];
		struct clock_domain *domain = &board->clock[id];
		if (c->ignore) {
			memset(domain, 0, sizeof(*domain));
			snprintf(domain->why_not, sizeof(domain->why_not), "%.150s says control = no",
				 board->board_file);
			continue;
		}
		if (c->paths)
			apply_paths(c, domain, root);
		if ((c->settle_up_ns || c->settle_down_ns) && domain->devices) {
			/* if one is not given, it is assumed to equal the other */
			domain->settle_up_ns = c->settle_up_ns ? c->settle_up_ns : c->settle_down_ns;
			domain->settle_down_ns = c->settle_down_ns ? c->settle_down_ns : c->settle_up_ns;
			domain->settle_ns = domain->settle_up_ns > domain->settle_down_ns ? domain->settle_up_ns :
											    domain->settle_down_ns;
			domain->settle_documented = true;
		}
	}
}

/* Is `label` one of the comma-separated names? */
static bool listed(const char *names, const char *label)
{
	size_t len = strlen(label);

	for (const char *p = names; *p; p += strcspn(p, ",")) {
		p += strspn(p, ", ");
		if (!strncmp(p, label, len) && (p[len] == '\0' || p[len] == ',' || p[len] == ' '))
			return true;
	}
	return false;
}

/* Make the rails selected by `pick` the first source, and remove them from their old one. */
static bool make_first(struct board *board, bool (*pick)(const char *names, const char *label), const char *names,
		       bool total)
{
	struct rail sorted[RAILS_MAX];
	size_t n = 0, first;

	for (size_t i = 0; i < board->rails; i++)
		if (pick(names, board->rail[i].label))
			sorted[n++] = board->rail[i];
	first = n;
	for (size_t i = 0; i < board->rails && first; i++)
		if (!pick(names, board->rail[i].label) && (total || board->rail[i].total)) {
			sorted[n] = board->rail[i];
			sorted[n++].source++;
		}
	if (!first)
		return false;
	for (size_t i = 0; i < first; i++) {
		sorted[i].source = 0;
		sorted[i].total = total;
	}
	memcpy(board->rail, sorted, n * sizeof(sorted[0]));
	board->rails = n;
	return true;
}

static bool is_label(const char *name, const char *label)
{
	return !strcmp(name, label);
}

/* If the file lists the parts that make up the board, other rails are not counted. */
void board_file_rails(const struct board_file *file, struct board *board)
{
	bool known = file->power_total[0] && make_first(board, is_label, file->power_total, true);

	if (!known && file->power_parts[0])
		make_first(board, listed, file->power_parts, false);
	for (size_t i = 0; i < board->rails && file->power_window_ns; i++)
		if (board->rail[i].source == 0)
			board->rail[i].window_ns = file->power_window_ns;
}
