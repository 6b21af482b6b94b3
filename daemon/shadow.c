/* SPDX-License-Identifier: MIT */
#include "shadow.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../common/clock.h"
#include "../common/units.h"
#include "daemon.h"
#include "learn.h"
#include "view.h"

#define POLL_FIRST_NS (2 * NS_PER_MS)  /* after a begin: governors that follow the load have risen by then, */
#define POLL_EVERY_NS (20 * NS_PER_MS) /* but not sooner than this after the last time, and from then on */
#define STEADY        1.1              /* highest over lowest reading of each clock, for a request to be learned from */
#define OFTEN         4                /* requests at a point after which its power is known */
#define POWER_ERROR   0.1  /* prior of the relative error of predicted power: that of a fit to few samples */
#define POWER_WEIGHT  2    /* readings that this counts for */
#define CONTENDED_VAR 0.25 /* of the log of the time of a request that shared the board: a factor of 1.6 */
#define POWER_SDS     2    /* standard deviations of power in an interval */

static const struct ledger_field {
	const char *name;
	size_t offset;
} fields[] = {
/* clang-format off */
#define FIELD(name, member) {name, offsetof(struct shadow_ledger, member)}
	/* clang-format on */
	FIELD("since_s", since_s),
	FIELD("until_s", until_s),
	FIELD("requests", requests),
	FIELD("judged", judged),
	FIELD("missed", missed),
	FIELD("would_miss_low", would_miss[SHADOW_LOW]),
	FIELD("would_miss", would_miss[SHADOW_MID]),
	FIELD("would_miss_high", would_miss[SHADOW_HIGH]),
	FIELD("window_s", window_s),
	FIELD("ran_s", ran_s),
	FIELD("would_run_s", would_run_s),
	FIELD("cpu_cycles", cycles[CLOCK_CPU]),
	FIELD("gpu_cycles", cycles[CLOCK_GPU]),
	FIELD("mem_cycles", cycles[CLOCK_MEM]),
	FIELD("would_cpu_cycles", would_cycles[CLOCK_CPU]),
	FIELD("would_gpu_cycles", would_cycles[CLOCK_GPU]),
	FIELD("would_mem_cycles", would_cycles[CLOCK_MEM]),
	FIELD("metered", metered),
	FIELD("energy_j", energy_j),
	FIELD("would_low_j", would_j[SHADOW_LOW]),
	FIELD("would_j", would_j[SHADOW_MID]),
	FIELD("would_high_j", would_j[SHADOW_HIGH]),
	FIELD("power_new", power_new),
	FIELD("power_new_sq", power_new_sq),
	FIELD("power_old", power_old),
	FIELD("power_old_sq", power_old_sq),
#undef FIELD
};

#define FIELD_COUNT (sizeof(fields) / sizeof(*fields))

static double *field_of(struct shadow_ledger *ledger, size_t i)
{
	return (double *)(void *)((char *)ledger + fields[i].offset);
}

static double value_of(const struct shadow_ledger *ledger, size_t i)
{
	return *(const double *)(const void *)((const char *)ledger + fields[i].offset);
}

/* ---- the clocks as they are ---- */

/* Returns false if a managed clock cannot be read. A clock that is not managed has its frequency in the grid. */
static bool read_clocks(struct daemon *d, struct op_point *out)
{
	for (int i = 0; i < CLOCK_COUNT; i++) {
		out->hz[i] = d->clocks.grid.hz[i][0];
		if (d->clocks.managed[i])
			out->hz[i] = clock_reader_hz(&d->reader, &d->board, &d->root, (enum clock_id)i);
		if (d->clocks.managed[i] && !out->hz[i])
			return false;
	}
	return true;
}

static void note(struct clock_readings *readings, bool seen, const struct op_point *point)
{
	if (!seen) {
		readings->blind = true;
		return;
	}
	for (int i = 0; i < CLOCK_COUNT; i++) {
		readings->sum_hz[i] += (double)point->hz[i];
		if (!readings->count || point->hz[i] < readings->least_hz[i])
			readings->least_hz[i] = point->hz[i];
		if (point->hz[i] > readings->most_hz[i])
			readings->most_hz[i] = point->hz[i];
	}
	readings->count++;
}

static void take_reading(struct daemon *d, struct request *request)
{
	struct op_point point;
	bool seen = !d->clocks.held && read_clocks(d, &point);

	note(&request->clocks, seen, &point);
}

static void stop_polling(struct daemon *d)
{
	loop_timer_stop(d->shadow_poll);
	d->shadow_polling = false;
}

/* One reading serves every request that runs. */
void shadow_poll(void *daemon)
{
	struct daemon *d = daemon;
	struct op_point point;
	bool read = false, seen = false;

	stop_polling(d);
	for (size_t i = 0; i < d->request_top && d->requests; i++) {
		if (!d->request[i].id || !d->request[i].session->shadow)
			continue;
		if (!read)
			seen = !d->clocks.held && read_clocks(d, &point);
		read = true;
		note(&d->request[i].clocks, seen, &point);
	}
	if (!read)
		return; /* the next begin starts it again */
	d->shadow_polled_ns = clock_now_ns();
	d->shadow_polling = true;
	loop_timer_in(d->shadow_poll, POLL_EVERY_NS);
}

void shadow_begin(struct daemon *d, struct request *request)
{
	uint64_t since_ns = clock_now_ns() - d->shadow_polled_ns;

	memset(&request->clocks, 0, sizeof(request->clocks));
	request->point = request->session->decision.point;
	request->settle_ns = request->session->decision.settle_ns;
	if (d->shadow_polling)
		return;
	d->shadow_polling = true;
	loop_timer_in(d->shadow_poll,
		      since_ns + POLL_FIRST_NS < POLL_EVERY_NS ? POLL_EVERY_NS - since_ns : POLL_FIRST_NS);
}

static bool stood(const struct clock_readings *readings)
{
	for (int i = 0; i < CLOCK_COUNT; i++)
		if ((double)readings->most_hz[i] > STEADY * (double)readings->least_hz[i])
			return false;
	return true;
}

bool shadow_point(const struct daemon *d, const struct request *request, bool steady, struct op_point *out)
{
	const struct clock_readings *readings = &request->clocks;

	if (readings->blind || !readings->count || (steady && !stood(readings)))
		return false;
	for (int i = 0; i < CLOCK_COUNT; i++)
		out->hz[i] = (uint64_t)(readings->sum_hz[i] / readings->count);
	*out = grid_point(&d->clocks.grid, grid_nearest(&d->clocks.grid, *out));
	return true;
}

uint64_t shadow_expected_ns(struct daemon *d, const struct request *request, uint32_t *measured)
{
	const struct surface *surface = view_surface(d, request->session, request->phase, request->context);
	struct op_point clocks;
	size_t point;

	if (d->clocks.held || !read_clocks(d, &clocks))
		return 0;
	point = grid_nearest(&d->clocks.grid, clocks);
	*measured = surface->measured[point];
	return (uint64_t)surface->latency_ns[point];
}

/* ---- the account ---- */

/* A request as it ran under the kernel's governors, and the estimate under flamed. */
struct comparison {
	size_t point, would_point;
	double ns, would_ns[SHADOW_CASES];
	bool missed, would_miss[SHADOW_CASES];
	bool metered;
	double power_uw, would_power_uw, idle_uw;
};

/* The estimate at the other point is the measured time, scaled by the ratio of the two predictions, as a disturbance
 * would have slowed both. The error of that ratio is the part of the other point's bound that the scatter at this point
 * does not explain. */
static void compare_latency(const struct surface *surface, const struct request *request, uint64_t total_ns,
			    struct comparison *out)
{
	size_t a = out->point, b = out->would_point;
	double ratio = (double)surface->latency_ns[b] / (double)surface->latency_ns[a];
	double here = log((double)surface->bound_ns[a] / (double)surface->latency_ns[a]);
	double there = log((double)surface->bound_ns[b] / (double)surface->latency_ns[b]);
	double error = a != b && there > here ? sqrt(there * there - here * here) : 0;

	out->ns = (double)total_ns;
	out->missed = total_ns > request->asked_ns;
	for (int k = 0; k < SHADOW_CASES; k++) {
		out->would_ns[k] =
			out->ns * ratio * exp((k - SHADOW_MID) * error) + (a != b ? (double)request->settle_ns : 0);
		out->would_miss[k] = out->would_ns[k] > (double)request->asked_ns;
	}
}

/* Other work on the board is in both: the difference of the two predictions is added to the measured value. */
static void compare_power(const struct surface *surface, double measured_uw, struct comparison *out)
{
	double here_uw = (double)surface->power_uw[out->point], there_uw = (double)surface->power_uw[out->would_point];

	out->metered = surface->power_known;
	out->power_uw = measured_uw > 0 ? measured_uw : here_uw;
	out->would_power_uw = out->power_uw + there_uw - here_uw;
	if (out->would_power_uw <= 0)
		out->would_power_uw = there_uw;
	out->idle_uw = (double)surface->idle_power_uw[0];
}

/* The error of predicted power, from earlier readings: at points never measured, and at well-known ones. */
static void judge_power(struct shadow_ledger *ledger, const struct surface *surface, size_t point, double measured_uw)
{
	double off;

	if (!surface->power_known || measured_uw <= 0 || surface->power_uw[point] <= 0)
		return;
	off = log(measured_uw / (double)surface->power_uw[point]);
	if (surface->measured[point] == 0) {
		ledger->power_new++;
		ledger->power_new_sq += off * off;
	} else if (surface->measured[point] >= OFTEN) {
		ledger->power_old++;
		ledger->power_old_sq += off * off;
	}
}

static double power_error(const struct shadow_ledger *ledger, const struct surface *surface, const struct comparison *c)
{
	bool known = surface->measured[c->would_point] >= OFTEN;
	double sum_sq = known ? ledger->power_old_sq : ledger->power_new_sq,
	       count = known ? ledger->power_old : ledger->power_new;

	if (c->point == c->would_point)
		return 0;
	return POWER_SDS * sqrt((POWER_WEIGHT * POWER_ERROR * POWER_ERROR + sum_sq) / (POWER_WEIGHT + count));
}

/* Both runs are counted over the time of the longer one: the shorter one idles for the rest, at the lowest clocks. */
static void count_energy(struct shadow_ledger *ledger, const struct comparison *c, double error)
{
	double would_ns = c->would_ns[SHADOW_MID], window_ns = c->ns > would_ns ? c->ns : would_ns;
	double run_j = c->would_power_uw * would_ns * 1e-15, idle_j = c->idle_uw * (window_ns - would_ns) * 1e-15;

	if (c->metered && ledger->metered <= 0)
		ledger->energy_j = ledger->window_s = ledger->would_j[SHADOW_LOW] = ledger->would_j[SHADOW_MID] =
			ledger->would_j[SHADOW_HIGH] = 0;
	if (!c->metered && ledger->metered > 0)
		return;
	ledger->metered += c->metered;
	ledger->window_s += window_ns * 1e-9;
	ledger->energy_j += (c->power_uw * c->ns + c->idle_uw * (window_ns - c->ns)) * 1e-15;
	for (int k = 0; k < SHADOW_CASES; k++) {
		double slower = log(c->would_ns[k] / would_ns);

		ledger->would_j[k] += run_j * exp((k - SHADOW_MID) * hypot(error, slower)) + idle_j;
	}
}

static void count(struct shadow_ledger *ledger, const struct grid *grid, const struct comparison *c, double error)
{
	struct op_point point = grid_point(grid, c->point), would_point = grid_point(grid, c->would_point);

	ledger->judged++;
	ledger->missed += c->missed;
	ledger->ran_s += c->ns * 1e-9;
	ledger->would_run_s += c->would_ns[SHADOW_MID] * 1e-9;
	for (int k = 0; k < SHADOW_CASES; k++)
		ledger->would_miss[k] += c->would_miss[k];
	for (int i = 0; i < CLOCK_COUNT; i++) {
		ledger->cycles[i] += (double)point.hz[i] * c->ns * 1e-9;
		ledger->would_cycles[i] += (double)would_point.hz[i] * c->would_ns[SHADOW_MID] * 1e-9;
	}
	count_energy(ledger, c, error);
}

static void count_request(struct shadow_ledger *ledger)
{
	double now_s = (double)time(NULL);

	if (ledger->requests++ == 0)
		ledger->since_s = now_s;
	ledger->until_s = now_s;
}

uint64_t shadow_end(struct daemon *d, struct request *request, uint64_t total_ns)
{
	struct session *session = request->session;
	bool teaches = session->teaches && !session->entry->unread;
	struct shadow_ledger *ledger[] = {teaches ? &session->entry->savings : NULL, tally_ledger(session)};
	const struct surface *surface = view_surface(d, session, request->phase, request->context);
	struct comparison c = {.would_point = request->point, .would_ns = {[SHADOW_MID] = (double)total_ns}};
	uint64_t power_uw = power_end(d, request);
	struct op_point point;
	bool known;

	take_reading(d, request);
	if (d->requests == 1)
		stop_polling(d);
	known = shadow_point(d, request, false, &point) && !request->unlearned &&
		learn_allowed(d, request, point, total_ns);
	if (known && surface->state != SURFACE_NONE) {
		c.point = grid_nearest(&d->clocks.grid, point);
		compare_latency(surface, request, total_ns, &c);
		compare_power(surface, (double)power_uw, &c);
	}
	for (size_t i = 0; i < sizeof(ledger) / sizeof(*ledger); i++) {
		if (!ledger[i])
			continue;
		count_request(ledger[i]);
		if (!known || surface->state == SURFACE_NONE)
			continue;
		judge_power(ledger[i], surface, c.point, (double)power_uw);
		count(ledger[i], &d->clocks.grid, &c, power_error(ledger[i], surface, &c));
	}
	if (known && teaches && shadow_point(d, request, true, &point) &&
	    !(request->contended && surface->state != SURFACE_NONE))
		learn_run(d, request, point, total_ns, request->contended ? CONTENDED_VAR : 0, power_uw);
	if (!session->entry->unread)
		learn_unsaved(d, request);
	return (uint64_t)c.would_ns[SHADOW_MID];
}

/* ---- in words ---- */

void ledger_report(struct kv_out *out, const char *prefix, const struct shadow_ledger *ledger)
{
	char key[96];

	for (size_t i = 0; i < FIELD_COUNT; i++) {
		snprintf(key, sizeof(key), "%s.%s", prefix, fields[i].name);
		kv_add(out, key, "%.9g", value_of(ledger, i));
	}
}

void ledger_format(struct kv_out *out, const struct shadow_ledger *ledger)
{
	for (size_t i = 0; i < FIELD_COUNT; i++)
		kv_add(out, fields[i].name, "%.17g", value_of(ledger, i));
	kv_end(out);
}

int ledger_parse(struct shadow_ledger *ledger, char *text, char *message, size_t size)
{
	static struct kv kv;
	size_t line;
	int rc = kv_parse(text, strlen(text), &kv, &line);

	memset(ledger, 0, sizeof(*ledger));
	if (rc < 0) {
		snprintf(message, size, "line %zu is not key=value", line);
		return -EINVAL;
	}
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		const char *value = kv_get(&kv, fields[i].name);
		double number = 0;

		if (value && (parse_double(value, &number) < 0 || number < 0)) {
			snprintf(message, size, "%s: not a number from 0: %.32s", fields[i].name, value);
			memset(ledger, 0, sizeof(*ledger));
			return -EINVAL;
		}
		*field_of(ledger, i) = number;
	}
	return 0;
}
