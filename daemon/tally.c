/* SPDX-License-Identifier: MIT */
/* Statistics of everything that runs under one tag, for a parent process (flamectl run). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../common/quantile.h"
#include "daemon.h"

#define TALLY_TOTALS  4096 /* newest latencies, for quantiles */
#define TALLY_POINTS  64
#define TALLY_SHOWN   8
#define TALLY_RECORDS 256 /* kept until they are read; some 24 KB of a message */

struct tally_record {
	uint64_t end_ns, total_ns, asked_ns, power_uw; /* end_ns in its connection's time */
	struct op_point point;
};

struct tally {
	struct tally *next; /* of the same connection */
	struct user *user;
	char tag[MODEL_NAME_MAX + 1], model[MODEL_NAME_MAX + 1];
	uint64_t sessions, requests, missed, deadline_ns, sum_ns, max_ns;
	uint64_t infeasible, fastest_ns; /* could not be promised their deadline; the fastest possible of the newest */
	double power_uw_sum;
	uint64_t power_count;
	uint64_t rate_mhz, first_ns; /* of the newest session with a stream; 0: none */
	struct stream_stats stream;
	uint64_t total_ns[TALLY_TOTALS];
	size_t points;
	struct {
		struct op_point point;
		uint64_t requests;
	} point[TALLY_POINTS];
	struct tally_record *record; /* [TALLY_RECORDS], a ring; NULL: not requested */
	uint64_t recorded, sent;     /* requests */
	bool shadow;                 /* its sessions run in shadow, */
	struct shadow_ledger ledger; /* and this is their account */
	struct tally *previous_all, *next_all;
};

static struct tally *all;

static struct tally *find(const char *tag, const struct user *user)
{
	struct tally *tally = all;

	while (tally && (strcmp(tally->tag, tag) || tally->user != user))
		tally = tally->next_all;
	return tally;
}

/* Only sessions of the same user count, or of the administrator, who starts programs of others. */
static struct tally *of_session(const struct session *session)
{
	struct tally *tally = session->tag[0] ? find(session->tag, session->connection->user) : NULL;

	for (struct tally *other = all; session->tag[0] && !tally && other; other = other->next_all)
		if (user_owner(other->user->uid) == USER_ADMIN && !strcmp(other->tag, session->tag))
			tally = other;
	return tally;
}

void tally_opened(const struct session *session)
{
	struct tally *tally = of_session(session);

	if (!tally)
		return;
	tally->sessions++;
	strcpy(tally->model, session->entry->name);
}

static void count_point(struct tally *tally, struct op_point point)
{
	for (size_t i = 0; i < tally->points; i++) {
		if (!op_point_equal(tally->point[i].point, point))
			continue;
		tally->point[i].requests++;
		return;
	}
	if (tally->points < TALLY_POINTS) {
		tally->point[tally->points].point = point;
		tally->point[tally->points++].requests = 1;
	}
}

bool tally_shadows(const struct session *session)
{
	const struct tally *tally = of_session(session);

	return tally && tally->shadow;
}

struct shadow_ledger *tally_ledger(const struct session *session)
{
	struct tally *tally = of_session(session);

	return tally ? &tally->ledger : NULL;
}

void tally_ended(struct daemon *d, const struct request *request, uint64_t total_ns, bool missed)
{
	const struct session *session = request->session;
	struct tally *tally = of_session(session);
	struct op_point point;

	if (!tally)
		return;
	tally->total_ns[tally->requests++ % TALLY_TOTALS] = total_ns;
	tally->missed += missed;
	tally->sum_ns += total_ns;
	tally->max_ns = total_ns > tally->max_ns ? total_ns : tally->max_ns;
	tally->deadline_ns = session->deadline_ns;
	tally->infeasible += !request->feasible;
	if (!request->feasible)
		tally->fastest_ns = request_fastest_ns(d, request);
	if (session->power_uw > 0) {
		tally->power_uw_sum += session->power_uw;
		tally->power_count++;
	}
	bool known = !session->shadow || shadow_point(d, request, false, &point);
	if (!session->shadow)
		point = clocks_point(&d->clocks);
	if (known)
		count_point(tally, point);
	if (tally->record)
		tally->record[tally->recorded++ % TALLY_RECORDS] = (struct tally_record){
			.end_ns = connection_now_ns(session->connection),
			.total_ns = total_ns,
			.asked_ns = request->asked_ns,
			.power_uw = (uint64_t)session->power_uw,
			.point = known ? point : (struct op_point){{0}},
		};
}

void tally_streamed(struct session *session, struct stream_event event)
{
	struct tally *tally = of_session(session);

	if (!tally)
		return;
	tally->rate_mhz = session->schedule.rate_mhz;
	tally->first_ns = session->schedule.first_ns;
	stream_count(&tally->stream, event, &session->tallied_first);
}

/* Those that ended since the last time. */
static void add_records(struct kv_out *out, struct tally *tally)
{
	uint64_t first = tally->sent;
	char key[32];

	if (tally->recorded - first > TALLY_RECORDS)
		first = tally->recorded - TALLY_RECORDS;
	if (first > tally->sent)
		kv_add_u64(out, "trace.skipped", first - tally->sent);
	for (uint64_t i = first; i < tally->recorded; i++) {
		const struct tally_record *r = &tally->record[i % TALLY_RECORDS];

		snprintf(key, sizeof(key), "trace.%u", (unsigned)(i - first));
		kv_add(out, key, "%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64,
		       r->end_ns, r->total_ns, r->asked_ns, r->power_uw, r->point.hz[CLOCK_CPU], r->point.hz[CLOCK_GPU],
		       r->point.hz[CLOCK_MEM]);
	}
	tally->sent = tally->recorded;
}

static void add_quantiles(struct kv_out *out, struct tally *tally)
{
	static uint64_t sorted[TALLY_TOTALS];
	size_t count = tally->requests < TALLY_TOTALS ? (size_t)tally->requests : TALLY_TOTALS;

	if (count == 0)
		return;
	memcpy(sorted, tally->total_ns, count * sizeof(*sorted));
	sort_u64(sorted, count);
	kv_add_u64(out, "mean_ns", tally->sum_ns / tally->requests);
	kv_add_u64(out, "median_ns", quantile_u64(sorted, count, 0.5));
	kv_add_u64(out, "p99_ns", quantile_u64(sorted, count, 0.99));
	kv_add_u64(out, "max_ns", tally->max_ns);
}

/* Add the points, most used first. */
static void add_points(struct kv_out *out, struct tally *tally)
{
	bool shown[TALLY_POINTS] = {false};

	for (size_t n = 0; n < TALLY_SHOWN && n < tally->points; n++) {
		size_t best = 0;
		char key[48];

		while (shown[best])
			best++;
		for (size_t i = best + 1; i < tally->points; i++)
			if (!shown[i] && tally->point[i].requests > tally->point[best].requests)
				best = i;
		shown[best] = true;
		for (int c = 0; c < CLOCK_COUNT; c++) {
			snprintf(key, sizeof(key), "clock.%zu.%s_hz", n, clock_name((enum clock_id)c));
			kv_add_u64(out, key, tally->point[best].point.hz[c]);
		}
		snprintf(key, sizeof(key), "clock.%zu.requests", n);
		kv_add_u64(out, key, tally->point[best].requests);
	}
}

static struct tally *tally_new(struct connection *c, const char *tag)
{
	struct tally *tally = calloc(1, sizeof(*tally));

	if (!tally)
		return NULL;
	strcpy(tally->tag, tag);
	tally->user = c->user;
	tally->user->tallies++;
	tally->next = c->tally;
	c->tally = tally;
	tally->next_all = all;
	if (all)
		all->previous_all = tally;
	all = tally;
	return tally;
}

static bool owned(const struct connection *c, const struct tally *tally)
{
	const struct tally *own = c->tally;

	while (own && own != tally)
		own = own->next;
	return own != NULL;
}

static uint64_t open_sessions(const struct daemon *d, const struct tally *tally)
{
	uint64_t count = 0;

	for (size_t i = 0; i < d->session_top && d->sessions; i++)
		count += d->session[i].id && of_session(&d->session[i]) == tally;
	return count;
}

void tally_read(struct daemon *d, struct connection *c, const struct kv *kv)
{
	const char *tag = kv_get(kv, "tag");
	uint64_t shadow = 0, trace = 0;
	struct tally *tally;
	unsigned count = 0;

	if (!tag || !model_name_valid(tag)) {
		reply_error(c, EINVAL, tag ? "tag: must be spelled like a model name" : "tag: missing");
		return;
	}
	if (!want_u64(c, kv, "shadow", 0, 1, &shadow) || !want_u64(c, kv, "trace", 0, 1, &trace))
		return;
	tally = find(tag, c->user);
	if (tally && !owned(c, tally)) {
		reply_error(c, EACCES, "tag: in use by another connection");
		return;
	}
	for (const struct tally *own = c->tally; own; own = own->next)
		count++;
	if (!tally && count >= TALLIES_PER_CONNECTION_MAX) {
		reply_error(c, EDQUOT, "tag: at most %d for each connection", TALLIES_PER_CONNECTION_MAX);
		return;
	}
	if (!tally && c->user->tallies >= TALLIES_PER_UID_MAX) {
		reply_error(c, EDQUOT, "tag: at most %d of a user", TALLIES_PER_UID_MAX);
		return;
	}
	if (!tally && !(tally = tally_new(c, tag))) {
		reply_error(c, ENOMEM, "out of memory");
		return;
	}
	if (trace && !tally->record && !(tally->record = calloc(TALLY_RECORDS, sizeof(*tally->record)))) {
		reply_error(c, ENOMEM, "out of memory");
		return;
	}
	tally->shadow |= shadow;
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "sessions", tally->sessions);
	kv_add_u64(out, "open", open_sessions(d, tally));
	kv_add_u64(out, "requests", tally->requests);
	kv_add_u64(out, "missed", tally->missed);
	kv_add(out, "model", "%s", tally->model);
	kv_add_u64(out, "deadline_ns", tally->deadline_ns);
	kv_add_u64(out, "infeasible", tally->infeasible);
	kv_add_u64(out, "fastest_ns", tally->fastest_ns);
	add_quantiles(out, tally);
	kv_add_u64(out, "power_known", d->power.meter != NULL);
	kv_add(out, "power_rail", "%s", d->power.meter ? power_meter_label(d->power.meter) : "");
	if (tally->power_count) {
		double uw = tally->power_uw_sum / (double)tally->power_count;

		kv_add_u64(out, "power_uw", (uint64_t)uw);
		kv_add_u64(out, "energy_uj", (uint64_t)(uw * 1e-9 * (double)tally->sum_ns / (double)tally->requests));
	}
	if (tally->rate_mhz)
		stream_report(out, "stream", tally->rate_mhz, tally->first_ns, &tally->stream);
	add_points(out, tally);
	if (trace)
		add_records(out, tally);
	if (tally->ledger.requests > 0)
		ledger_report(out, "shadow", &tally->ledger);
	reply_end(c);
}

void tally_close(struct connection *c)
{
	while (c->tally) {
		struct tally *tally = c->tally;

		c->tally = tally->next;
		tally->user->tallies--;
		if (tally->previous_all)
			tally->previous_all->next_all = tally->next_all;
		else
			all = tally->next_all;
		if (tally->next_all)
			tally->next_all->previous_all = tally->previous_all;
		free(tally->record);
		free(tally);
	}
}
