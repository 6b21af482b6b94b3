/* SPDX-License-Identifier: MIT */
/* Power readings. Descriptors stay open and are read from the start. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "../common/units.h"
#include "probe.h"

#define PW_PER_UW     1000000ULL  /* battery: uV times uA is pW */
#define LEAST_UW      100000      /* no board that runs inference draws less than 0.1 W */
#define MOST_UW       20000000000 /* and none more than 20 kW */
#define STRIKES       3           /* consecutive readings outside them before a source is dropped */
#define FAILURES      8           /* consecutive permanent errors before a source is dropped */
#define UNANSWERED    64          /* consecutive readings to be tried again before a source is dropped */
#define STEADY_READS  8           /* readings both idle and busy before a constant source is dropped, */
#define STEADY_SHARE  500         /* constant: varying by less than 1/500 */
#define WINDOW_NS_MIN NS_PER_MS
#define WINDOW_NS_MAX (2 * NS_PER_S)

/* Default averaging windows: an INA3221 as configured on Jetsons takes 20 ms, RAPL counts every
 * millisecond, firmware of graphics cards and fuel gauges average over about a second. */
static const uint64_t window_guess_ns[] = {
	[RAIL_NONE] = 0,         [RAIL_INA] = 20 * NS_PER_MS, [RAIL_HWMON_POWER] = 100 * NS_PER_MS,
	[RAIL_RAPL] = NS_PER_MS, [RAIL_BATTERY] = NS_PER_S,
};

struct power_meter {
	const struct sysroot *root;
	size_t rails;
	struct meter_rail {
		struct rail rail;
		int fd[2];
		uint64_t energy_uj, at_ns; /* RAPL: previous reading */
		bool seen;
	} rail[RAILS_MAX];
	unsigned source; /* in use */
	unsigned strikes, failures, unanswered;
	unsigned reads[2];                         /* idle, busy */
	uint64_t low_uw, high_uw;                  /* of all readings */
	uint64_t last_uw, changed_ns, repeated_ns; /* newest value, when it appeared, and when it was last repeated */
	uint64_t window_ns;                        /* derived from the readings; 0: not yet */
	char passed_over[256];
};

static int open_file(const struct sysroot *root, const char *path)
{
	char resolved[SYSFS_PATH_MAX];
	int rc = sysroot_resolve(root, path, resolved, sizeof(resolved));

	return rc < 0 ? rc : sysroot_open(root, resolved, O_RDONLY | O_NONBLOCK);
}

struct power_meter *power_meter_new(const struct board *board, const struct sysroot *root, const int fds[RAILS_MAX][2])
{
	struct power_meter *meter = calloc(1, sizeof(*meter));

	if (!meter)
		return NULL;
	meter->root = root;
	meter->rails = board->rails;
	for (size_t i = 0; i < board->rails; i++) {
		struct meter_rail *r = &meter->rail[i];
		r->rail = board->rail[i];
		for (int k = 0; k < 2; k++) {
			r->fd[k] = fds ? fds[i][k] : -1;
			if (r->fd[k] < 0 && r->rail.path[k][0])
				/* a negative errno is kept as the reason */
				r->fd[k] = open_file(root, r->rail.path[k]);
		}
	}
	return meter;
}

void power_meter_free(struct power_meter *meter)
{
	for (size_t i = 0; meter && i < meter->rails; i++)
		for (int k = 0; k < 2; k++)
			if (meter->rail[i].fd[k] >= 0)
				close(meter->rail[i].fd[k]);
	free(meter);
}

static int read_fd(int fd, bool either_way, uint64_t *out)
{
	char text[64];
	int64_t value;

	if (fd < 0)
		return fd;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	if (n < 0)
		return -errno;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	if (n == 0)
		return -EAGAIN; /* in a board directory: the file was truncated and not yet written */
	text[n] = '\0';
	/* a current may be negative: noise at idle, or reversed polarity on some fuel gauges */
	int rc = parse_i64(text, &value);
	if (rc == 0 && value < 0 && either_way)
		value = value == INT64_MIN ? 0 : -value;
	*out = rc == 0 && value > 0 ? (uint64_t)value : 0;
	return rc;
}

/* Read file k of a rail, reopening it if its driver was reloaded or the file replaced. */
static int read_file(const struct power_meter *meter, struct meter_rail *r, int k, uint64_t *out)
{
	struct stat st;
	char path[SYSFS_PATH_MAX];
	bool gone = r->fd[k] >= 0 && fstat(r->fd[k], &st) == 0 && st.st_nlink == 0;
	bool either_way = r->rail.kind == RAIL_BATTERY;
	int rc = gone ? -ENODEV : read_fd(r->fd[k], either_way, out);

	if (rc != -ENODEV && rc != -ENOENT && rc != -EBADF)
		return rc;
	int fd = open_file(meter->root, r->rail.path[k]);
	if (fd == -ENOENT && sysroot_renumbered(meter->root, r->rail.path[k], path) == 0) {
		memcpy(r->rail.path[k], path, sizeof(path));
		fd = open_file(meter->root, path);
	}
	if (fd < 0)
		return rc;
	if (r->fd[k] >= 0)
		close(r->fd[k]);
	r->fd[k] = fd;
	return read_fd(fd, either_way, out);
}

static int read_product(const struct power_meter *meter, struct meter_rail *r, uint64_t *out)
{
	uint64_t a, b;
	int rc = read_file(meter, r, 0, &a);

	if (rc == 0)
		rc = read_file(meter, r, 1, &b);
	if (rc == 0 && __builtin_mul_overflow(a, b, out))
		rc = -ERANGE;
	return rc;
}

/* Mean power since the last call. The counter wraps at its range; one that falls from the lower half of it was reset,
 * as by a suspend. */
static int read_rapl(const struct power_meter *meter, struct meter_rail *r, uint64_t now_ns, uint64_t *uw)
{
	uint64_t uj;
	int rc = read_file(meter, r, 0, &uj);

	if (rc < 0)
		return rc;
	uint64_t before = r->energy_uj, since_ns = now_ns - r->at_ns;
	bool first = !r->seen;
	if (!first && since_ns == 0)
		return -EAGAIN;
	r->energy_uj = uj;
	r->at_ns = now_ns;
	r->seen = true;
	if (first || (uj < before && (r->rail.energy_range_uj < before || before < r->rail.energy_range_uj / 2)))
		return -EAGAIN;
	uint64_t delta = uj >= before ? uj - before : r->rail.energy_range_uj - before + uj;
	*uw = (uint64_t)((double)delta * (double)NS_PER_S / (double)since_ns);
	return 0;
}

/* A battery's power is the board's only while the battery discharges. */
static int read_battery(const struct power_meter *meter, struct meter_rail *r, uint64_t *uw)
{
	char dir[SYSFS_PATH_MAX], status[32];

	memcpy(dir, r->rail.path[0], sizeof(dir));
	dir[path_base(dir) - dir - 1] = '\0';
	if (sysroot_read_at(meter->root, dir, "status", status, sizeof(status)) < 0 ||
	    strcmp(status, "Discharging") != 0)
		return -ENODATA;
	if (r->rail.path[1][0] == '\0')
		return read_file(meter, r, 0, uw);
	int rc = read_product(meter, r, uw);
	*uw = rc == 0 ? *uw / PW_PER_UW : 0;
	return rc;
}

static int read_rail(const struct power_meter *meter, struct meter_rail *r, uint64_t now_ns, uint64_t *uw)
{
	switch (r->rail.kind) {
	case RAIL_INA: return read_product(meter, r, uw); /* mV times mA */
	case RAIL_HWMON_POWER: return read_file(meter, r, 0, uw);
	case RAIL_RAPL: return read_rapl(meter, r, now_ns, uw);
	case RAIL_BATTERY: return read_battery(meter, r, uw);
	case RAIL_NONE: break;
	}
	return -ENODATA;
}

/* Sum of the rails of the source in use. Every rail is read even after an error, so that all counters have the same
 * interval. A suspended device is not read, which would wake it, and draws next to nothing. */
static int read_source(struct power_meter *meter, uint64_t now_ns, uint64_t *uw)
{
	uint64_t sum = 0;
	int worst = -ENODATA, any = 0;

	for (size_t i = 0; i < meter->rails; i++) {
		const struct rail *rail = &meter->rail[i].rail;
		uint64_t one = 0;
		if (rail->source != meter->source)
			continue;
		if (rail->kind == RAIL_HWMON_POWER && board_suspended(meter->root, rail->path[0])) {
			worst = any ? worst : -EAGAIN; /* unless another one is awake */
			continue;
		}
		int rc = read_rail(meter, &meter->rail[i], now_ns, &one);
		if (rc == -ENODATA && rail->kind == RAIL_BATTERY)
			continue; /* it does not discharge; a second one may */
		worst = any++ ? worst : 0;
		if (rc < 0)
			worst = rc;
		else if (__builtin_add_overflow(sum, one, &sum))
			worst = -ERANGE;
	}
	if (worst == 0)
		*uw = sum;
	return worst;
}

static const struct meter_rail *first_rail(const struct power_meter *meter)
{
	for (size_t i = 0; i < meter->rails; i++)
		if (meter->rail[i].rail.source == meter->source)
			return &meter->rail[i];
	return NULL;
}

static bool is_last(const struct power_meter *meter)
{
	return meter->rails == 0 || meter->source >= meter->rail[meter->rails - 1].rail.source;
}

static void pass_over(struct power_meter *meter, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void pass_over(struct power_meter *meter, const char *format, ...)
{
	size_t at = strlen(meter->passed_over);
	va_list args;
	char why[128];

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	log_notice("power: %s %s; %s", power_meter_label(meter), why,
		   is_last(meter) ? "there is no other sensor" : "the next sensor is used");
	snprintf(meter->passed_over + at, sizeof(meter->passed_over) - at, "%s%s %s", at ? "; " : "",
		 power_meter_label(meter), why);
	meter->source++;
	meter->strikes = meter->failures = meter->unanswered = meter->reads[0] = meter->reads[1] = 0;
	meter->last_uw = meter->changed_ns = meter->window_ns = 0;
}

/* If the same value is read several times before it changes, the window is the time between two
 * changes. */
static void learn_window(struct power_meter *meter, uint64_t now_ns, uint64_t uw)
{
	if (uw == meter->last_uw) {
		meter->repeated_ns = now_ns;
		return;
	}
	uint64_t span_ns = now_ns - meter->changed_ns;
	bool whole = meter->changed_ns && meter->repeated_ns > meter->changed_ns;
	if (whole && span_ns >= WINDOW_NS_MIN && span_ns <= WINDOW_NS_MAX &&
	    (!meter->window_ns || span_ns < meter->window_ns))
		meter->window_ns = span_ns;
	meter->last_uw = uw;
	meter->changed_ns = now_ns;
}

static bool is_plausible(uint64_t uw)
{
	return uw >= LEAST_UW && uw <= MOST_UW;
}

/* Returns true if the source in use was dropped. */
static bool judge(struct power_meter *meter, int rc, uint64_t uw, bool busy)
{
	if (rc == -EAGAIN && ++meter->unanswered >= UNANSWERED && !is_last(meter)) {
		pass_over(meter, "has not answered %d times in a row", UNANSWERED);
		return true;
	}
	if (rc == -EAGAIN || (rc == -ENODATA && first_rail(meter)->rail.kind == RAIL_BATTERY))
		return false;
	if (rc < 0) {
		if (++meter->failures < FAILURES || is_last(meter))
			return false;
		pass_over(meter, "cannot be read: %s", strerror(-rc));
		return true;
	}
	meter->failures = meter->unanswered = 0;
	if (!is_plausible(uw)) {
		if (++meter->strikes < STRIKES)
			return false;
		pass_over(meter, "reads %.3f W, %s than any board draws", (double)uw * 1e-6,
			  uw < LEAST_UW ? "less" : "more");
		return true;
	}
	meter->strikes = 0;
	bool first = meter->reads[0] + meter->reads[1] == 0;
	meter->low_uw = first || uw < meter->low_uw ? uw : meter->low_uw;
	meter->high_uw = first || uw > meter->high_uw ? uw : meter->high_uw;
	meter->reads[busy]++;
	if (meter->reads[0] < STEADY_READS || meter->reads[1] < STEADY_READS || is_last(meter) ||
	    meter->high_uw - meter->low_uw > meter->high_uw / STEADY_SHARE)
		return false;
	pass_over(meter, "reads %.3f W with and without load", (double)uw * 1e-6);
	return true;
}

/* A value too small or too large for a board counts as no reading, whether the source is dropped for it or not. */
int power_meter_read(struct power_meter *meter, uint64_t now_ns, bool busy, uint64_t *uw)
{
	uint64_t value = 0;

	while (first_rail(meter)) {
		int rc = read_source(meter, now_ns, &value);
		if (judge(meter, rc, value, busy))
			continue;
		if (rc == 0 && !is_plausible(value))
			return -EAGAIN;
		if (rc == 0) {
			learn_window(meter, now_ns, value);
			*uw = value;
		}
		return rc;
	}
	return -ENODATA;
}

const char *power_meter_label(const struct power_meter *meter)
{
	const struct meter_rail *rail = first_rail(meter);

	return rail ? rail->rail.label : "";
}

const char *power_meter_passed_over(const struct power_meter *meter)
{
	return meter->passed_over;
}

bool power_meter_counts(const struct power_meter *meter)
{
	const struct meter_rail *rail = first_rail(meter);

	return rail && rail->rail.kind == RAIL_RAPL;
}

uint64_t power_meter_window_ns(const struct power_meter *meter)
{
	const struct meter_rail *rail = first_rail(meter);

	if (!rail)
		return 0;
	return rail->rail.window_ns ? rail->rail.window_ns :
	       meter->window_ns     ? meter->window_ns :
				      window_guess_ns[rail->rail.kind];
}
