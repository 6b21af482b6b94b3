/* SPDX-License-Identifier: MIT */
#include "metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "../common/clock.h"
#include "daemon.h"
#include "installation.h"

#define PAGE_BYTES 16384 /* of text in one reply, which takes the loop a few tenths of a millisecond */

static const double latency_bound_s[METRICS_LATENCY_BUCKETS] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.05,
								0.1,   0.2,   0.5,   1,    2,    5,     10};
static const double share_bound[METRICS_SHARE_BUCKETS] = {0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.5, 2};

static size_t bucket(const double *bound, size_t count, double value)
{
	size_t i = 0;

	while (i < count && value > bound[i])
		i++;
	return i;
}

/* For a request of a stream this is the period: its slack includes banked slack, and may be 0. */
static uint64_t metrics_deadline_ns(const struct request *request)
{
	const struct schedule *schedule = &request->session->schedule;

	if (!request->scheduled)
		return request->asked_ns;
	return request->number ? schedule_period_ns(schedule) : schedule->first_ns;
}

void metrics_ended(const struct request *request, uint64_t total_ns)
{
	struct model_metrics *m = &request->session->entry->metrics;
	double latency_s = (double)total_ns / NS_PER_S, share = (double)total_ns / (double)metrics_deadline_ns(request);

	m->requests++;
	m->missed += total_ns > request->asked_ns;
	m->infeasible += !request->feasible;
	m->covered += total_ns <= request->bound_ns;
	m->explored += request->explores;
	m->latency[bucket(latency_bound_s, METRICS_LATENCY_BUCKETS, latency_s)]++;
	m->share[bucket(share_bound, METRICS_SHARE_BUCKETS, share)]++;
	m->latency_s += latency_s;
	m->shares += share;
	m->energy_j += request->session->power_uw * 1e-6 * latency_s;
}

void metrics_expired(const struct request *request)
{
	request->session->entry->metrics.expired++;
}

struct metrics_page {
	struct daemon *d;
	struct kv_out *out;
	unsigned lines;
};

static void line(struct metrics_page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line(struct metrics_page *page, const char *format, ...)
{
	char key[24], text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(key, sizeof(key), "text.%u", page->lines++);
	kv_add(page->out, key, "%s", text);
}

enum metric_type { METRIC_GAUGE, METRIC_COUNTER, METRIC_HISTOGRAM, METRIC_INFO };

static const char *const type_words[] = {"gauge", "counter", "histogram", "info"};

/* A metric family, with samples for the whole daemon, for each clock, or for each model. */
struct family {
	const char *name; /* without the flamed_ prefix and the suffix added by its type */
	enum metric_type type;
	const char *unit; /* unit suffix of the name, as OpenMetrics requires; "" none */
	const char *help;
	void (*board)(struct metrics_page *page, const struct family *family);
	void (*clock)(struct metrics_page *page, const struct family *family, enum clock_id id);
	void (*model)(struct metrics_page *page, const struct family *family, const struct entry *entry);
	size_t offset; /* of the counter in struct model_metrics */
};

/* Escape a label value. Model names contain nothing to escape; names of boards and thermal zones
 * may. */
static const char *escaped(const char *text, char buf[128])
{
	size_t len = 0;

	for (; *text && len < 125; text++) {
		if (*text == '"' || *text == '\\')
			buf[len++] = '\\';
		buf[len++] = *text;
	}
	buf[len] = '\0';
	return buf;
}

static void build(struct metrics_page *page, const struct family *f)
{
	char board[128];

	line(page, "flamed_%s_info{version=\"%s\",board=\"%s\"} 1", f->name, FLAMED_VERSION,
	     escaped(page->d->board.name, board));
}

static void up(struct metrics_page *page, const struct family *f)
{
	line(page, "flamed_%s 1", f->name);
}

static void uptime(struct metrics_page *page, const struct family *f)
{
	line(page, "flamed_%s %.3f", f->name, (double)(clock_now_ns() - page->d->started_ns) / NS_PER_S);
}

static void keeper_up(struct metrics_page *page, const struct family *f)
{
	line(page, "flamed_%s %d", f->name, keeper_link_state(page->d->clocks.keeper) == KEEPER_RUNNING);
}

static void degraded(struct metrics_page *page, const struct family *f)
{
	line(page, "flamed_%s %d", f->name, clocks_fault(&page->d->clocks)[0] != '\0');
}

static void connections(struct metrics_page *page, const struct family *f)
{
	line(page, "flamed_%s %u", f->name, server_connections(page->d->server));
}

static void sessions(struct metrics_page *page, const struct family *f)
{
	line(page, "flamed_%s %u", f->name, page->d->sessions);
}

static void in_flight(struct metrics_page *page, const struct family *f)
{
	line(page, "flamed_%s %u", f->name, page->d->requests);
}

static void board_power(struct metrics_page *page, const struct family *f)
{
	char rail[128];

	if (page->d->power.meter && page->d->power.uw)
		line(page, "flamed_%s{rail=\"%s\"} %.3f", f->name,
		     escaped(power_meter_label(page->d->power.meter), rail), (double)page->d->power.uw * 1e-6);
}

static void temperature(struct metrics_page *page, const struct family *f)
{
	const char *zone = "";
	int32_t millidegree_c;
	char label[128];

	if (board_temperature(&page->d->board, &page->d->root, &millidegree_c, &zone) == 0)
		line(page, "flamed_%s{zone=\"%s\"} %.1f", f->name, escaped(zone, label), millidegree_c / 1000.0);
}

static void clock_now(struct metrics_page *page, const struct family *f, enum clock_id id)
{
	line(page, "flamed_%s{clock=\"%s\"} %" PRIu64, f->name, clock_name(id),
	     board_current_hz(&page->d->board, &page->d->root, id));
}

static void clock_ceiling(struct metrics_page *page, const struct family *f, enum clock_id id)
{
	if (page->d->clocks.view.ceiling_hz[id] != UINT64_MAX)
		line(page, "flamed_%s{clock=\"%s\"} %" PRIu64, f->name, clock_name(id),
		     page->d->clocks.view.ceiling_hz[id]);
}

static void clock_moves(struct metrics_page *page, const struct family *f, enum clock_id id)
{
	line(page, "flamed_%s_total{clock=\"%s\"} %u", f->name, clock_name(id),
	     page->d->clocks.times[0][id].moves + page->d->clocks.times[1][id].moves);
}

static void clock_transition(struct metrics_page *page, const struct family *f, enum clock_id id)
{
	line(page, "flamed_%s{clock=\"%s\"} %.6f", f->name, clock_name(id),
	     (double)page->d->clocks.view.up_ns[id] / NS_PER_S);
}

static void clock_owner(struct metrics_page *page, const struct family *f, enum clock_id id)
{
	static const char *const owners[] = {"flamed", "kernel", "foreign"};
	const char *owner = clocks_owner(&page->d->clocks, id);

	for (size_t i = 0; i < sizeof(owners) / sizeof(*owners); i++)
		line(page, "flamed_%s{clock=\"%s\",owner=\"%s\"} %d", f->name, clock_name(id), owners[i],
		     strcmp(owner, owners[i]) == 0);
}

#define LABELS_MAX (MODEL_NAME_MAX + MODE_KEY_MAX + 64)

/* Labels that identify an entry of the library: its name, its owner and, where known, its power
 * mode. */
static const char *labels_of(const struct entry *entry, char labels[LABELS_MAX])
{
	snprintf(labels, LABELS_MAX, "model=\"%s\",uid=\"%u\"%s%s%s", entry->name, entry->owner,
		 entry->mode[0] ? ",mode=\"" : "", entry->mode, entry->mode[0] ? "\"" : "");
	return labels;
}

static void model_counter(struct metrics_page *page, const struct family *f, const struct entry *entry)
{
	char labels[LABELS_MAX];
	uint64_t value;

	memcpy(&value, (const char *)&entry->metrics + f->offset, sizeof(value));
	line(page, "flamed_%s_total{%s} %" PRIu64, f->name, labels_of(entry, labels), value);
}

static void model_energy(struct metrics_page *page, const struct family *f, const struct entry *entry)
{
	char labels[LABELS_MAX];

	if (page->d->power.meter)
		line(page, "flamed_%s_total{%s} %.6f", f->name, labels_of(entry, labels), entry->metrics.energy_j);
}

static void model_late(struct metrics_page *page, const struct family *f, const struct entry *entry)
{
	const struct model_metrics *m = &entry->metrics;
	char labels[LABELS_MAX];

	if (m->requests)
		line(page, "flamed_%s{%s} %.6f", f->name, labels_of(entry, labels),
		     (double)m->missed / (double)m->requests);
}

static void model_state_now(struct metrics_page *page, const struct family *f, const struct entry *entry)
{
	enum surface_state now = model_best_state(entry->model);
	char labels[LABELS_MAX];

	for (enum surface_state state = SURFACE_NONE; state <= SURFACE_READY; state++)
		line(page, "flamed_%s{%s,state=\"%s\"} %d", f->name, labels_of(entry, labels), state_word(state),
		     state == now);
}

static void histogram(struct metrics_page *page, const struct family *f, const struct entry *entry, const double *bound,
		      size_t count, const uint64_t *counts, double sum)
{
	char labels[LABELS_MAX];
	uint64_t below = 0;

	labels_of(entry, labels);
	for (size_t i = 0; i <= count; i++) {
		char le[16] = "+Inf";

		below += counts[i];
		if (i < count) /* OpenMetrics writes integer bounds with a decimal point */
			snprintf(le, sizeof(le), bound[i] == floor(bound[i]) ? "%.1f" : "%g", bound[i]);
		line(page, "flamed_%s_bucket{%s,le=\"%s\"} %" PRIu64, f->name, labels, le, below);
	}
	line(page, "flamed_%s_sum{%s} %.6f", f->name, labels, sum);
	line(page, "flamed_%s_count{%s} %" PRIu64, f->name, labels, below);
}

static void model_latency(struct metrics_page *page, const struct family *f, const struct entry *entry)
{
	histogram(page, f, entry, latency_bound_s, METRICS_LATENCY_BUCKETS, entry->metrics.latency,
		  entry->metrics.latency_s);
}

static void model_share(struct metrics_page *page, const struct family *f, const struct entry *entry)
{
	histogram(page, f, entry, share_bound, METRICS_SHARE_BUCKETS, entry->metrics.share, entry->metrics.shares);
}

#define COUNTER(field) \
	.type = METRIC_COUNTER, .unit = "", .model = model_counter, .offset = offsetof(struct model_metrics, field)

static const struct family families[] = {
	{"up", METRIC_GAUGE, "", "Whether flamed answers.", .board = up},
	{"build", METRIC_INFO, "", "Version of flamed and the board it found.", .board = build},
	{"uptime_seconds", METRIC_GAUGE, "seconds", "Time since flamed started.", .board = uptime},
	{"degraded", METRIC_GAUGE, "", "1 while flamed cannot move a clock that it should; flamectl status says why.",
	 .board = degraded},
	{"keeper_up", METRIC_GAUGE, "", "Whether the process that writes the clocks runs.", .board = keeper_up},
	{"connections", METRIC_GAUGE, "", "Connections to the request socket.", .board = connections},
	{"sessions", METRIC_GAUGE, "", "Sessions open.", .board = sessions},
	{"requests_in_flight", METRIC_GAUGE, "", "Requests begun and not yet ended.", .board = in_flight},
	{"board_power_watts", METRIC_GAUGE, "watts", "Newest reading of the power sensor.", .board = board_power},
	{"temperature_celsius", METRIC_GAUGE, "celsius", "Hottest thermal zone.", .board = temperature},
	{"clock_frequency_hertz", METRIC_GAUGE, "hertz", "Frequency of the clock now.", .clock = clock_now},
	{"clock_ceiling_hertz", METRIC_GAUGE, "hertz", "Limit that others set for the clock; absent without one.",
	 .clock = clock_ceiling},
	{"clock_moves", METRIC_COUNTER, "", "Times that flamed changed the clock.", .clock = clock_moves},
	{"clock_transition_seconds", METRIC_GAUGE, "seconds", "Estimated transition latency of the clock.",
	 .clock = clock_transition},
	{"clock_owner", METRIC_GAUGE, "", "1 for the current owner of the clock.", .clock = clock_owner},
	{"model_state", METRIC_GAUGE, "", "1 for the state of the model that flamectl models shows.",
	 .model = model_state_now},
	{"requests", .help = "Requests that ended.", COUNTER(requests)},
	{"requests_missed", .help = "Requests that ended after their deadline.", COUNTER(missed)},
	{"requests_infeasible", .help = "Requests whose deadline no allowed operating point could meet.",
	 COUNTER(infeasible)},
	{"requests_expired", .help = "Requests that expired without an end.", COUNTER(expired)},
	{"requests_covered", .help = "Requests that ended within the upper bound predicted for them.",
	 COUNTER(covered)},
	{"requests_explored", .help = "Requests that ran at an operating point chosen for exploration.",
	 COUNTER(explored)},
	{"late_ratio", METRIC_GAUGE, "ratio", "Share of the model's requests that missed, since flamed started.",
	 .model = model_late},
	{"energy_joules", METRIC_COUNTER, "joules", "Energy of the board while requests of the model ran.",
	 .model = model_energy},
	{"request_latency_seconds", METRIC_HISTOGRAM, "seconds", "Latency of requests.", .model = model_latency},
	{"request_deadline_ratio", METRIC_HISTOGRAM, "ratio",
	 "Latency of requests over their deadline (in a stream, the period); up to 1 is in time.",
	 .model = model_share},
};

#define FAMILY_COUNT (sizeof(families) / sizeof(*families))

static void header(struct metrics_page *page, const struct family *f)
{
	line(page, "# TYPE flamed_%s %s", f->name, type_words[f->type]);
	if (f->unit[0])
		line(page, "# UNIT flamed_%s %s", f->name, f->unit);
	line(page, "# HELP flamed_%s %s", f->name, f->help);
}

/* The number of blocks of a family: one for board or clock samples, or one for each model. */
static size_t blocks(const struct daemon *d, const struct family *f)
{
	return f->model ? d->library.count : 1;
}

static void write_block(struct metrics_page *page, const struct family *f, size_t i, uint64_t entered)
{
	const struct entry *entry = &page->d->library.entry[i];

	if (i == 0)
		header(page, f);
	if (f->board)
		f->board(page, f);
	for (int id = 0; f->clock && id < CLOCK_COUNT; id++)
		if (page->d->board.clock[id].devices > 0)
			f->clock(page, f, (enum clock_id)id);
	if (f->model && entry->number <= entered && (entry->metrics.requests || entry->users))
		f->model(page, f, entry);
}

void metrics_read(struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct metrics_page page = {.d = d};
	uint64_t from = 0;

	if (!want_u64(c, kv, "from", 0, UINT64_MAX, &from))
		return;
	struct library_place place = library_place(&d->library, from);
	page.out = reply_begin(c);
	_Static_assert(FAMILY_COUNT * (MODELS_MAX + 1) < LIBRARY_SPAN, "places of blocks");
	/* The place of a block does not depend on the number of models: one may be opened between two pages. */
	for (size_t f = 0; f < FAMILY_COUNT; f++) {
		for (size_t i = 0; i < blocks(d, &families[f]); i++) {
			uint64_t at = f * (MODELS_MAX + 1) + i;

			if (at < place.at)
				continue;
			if (page.out->len - c->reply_start > PAGE_BYTES) {
				kv_add_u64(page.out, "next", library_next(place, at));
				reply_end(c);
				return;
			}
			write_block(&page, &families[f], i, place.entered);
		}
	}
	reply_end(c);
}
