/* SPDX-License-Identifier: MIT */
/* Figures of everything that ran under one tag, for a parent that started it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"

#define TALLY_TOTALS 4096 /* newest latencies, for the quantiles */
#define TALLY_POINTS 64
#define TALLY_SHOWN  8

struct tally {
	struct tally *next; /* of the connection */
	char tag[MODEL_NAME_MAX + 1], model[MODEL_NAME_MAX + 1];
	uint64_t sessions, requests, missed, deadline_ns, sum_ns, max_ns;
	double power_uw_sum;
	uint64_t power_count;
	uint64_t total_ns[TALLY_TOTALS];
	size_t points;
	struct {
		struct op_point point;
		uint64_t requests;
	} point[TALLY_POINTS];
	struct tally *previous_all, *next_all;
};

static struct tally *all;

static struct tally *find(const char *tag)
{
	struct tally *tally = all;

	while (tally && strcmp(tally->tag, tag))
		tally = tally->next_all;
	return tally;
}

void tally_opened(struct daemon *d, const struct session *session)
{
	struct tally *tally = session->tag[0] ? find(session->tag) : NULL;

	(void)d;
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

void tally_ended(struct daemon *d, const struct session *session, uint64_t total_ns, bool missed)
{
	struct tally *tally = session->tag[0] ? find(session->tag) : NULL;

	if (!tally)
		return;
	tally->total_ns[tally->requests++ % TALLY_TOTALS] = total_ns;
	tally->missed += missed;
	tally->sum_ns += total_ns;
	tally->max_ns = total_ns > tally->max_ns ? total_ns : tally->max_ns;
	tally->deadline_ns = session->deadline_ns;
	if (session->power_uw > 0) {
		tally->power_uw_sum += session->power_uw;
		tally->power_count++;
	}
	count_point(tally, clocks_point(&d->clocks));
}

static int by_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void totals_sort(uint64_t *total_ns, size_t count)
{
	qsort(total_ns, count, sizeof(*total_ns), by_u64);
}

static void add_quantiles(struct kv_out *out, struct tally *tally)
{
	static uint64_t sorted[TALLY_TOTALS];
	size_t count = tally->requests < TALLY_TOTALS ? (size_t)tally->requests : TALLY_TOTALS;

	if (count == 0)
		return;
	memcpy(sorted, tally->total_ns, count * sizeof(*sorted));
	totals_sort(sorted, count);
	kv_add_u64(out, "mean_ns", tally->sum_ns / tally->requests);
	kv_add_u64(out, "median_ns", sorted[count / 2]);
	kv_add_u64(out, "p99_ns", sorted[TOTALS_P99(count)]);
	kv_add_u64(out, "max_ns", tally->max_ns);
}

/* Most used first. */
static void add_points(struct kv_out *out, struct tally *tally)
{
	bool shown[TALLY_POINTS] = { false };

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

static uint64_t open_sessions(const struct daemon *d, const char *tag)
{
	uint64_t count = 0;

	for (size_t i = 0; i < SESSIONS_MAX && d->sessions; i++)
		count += d->session[i].id && !strcmp(d->session[i].tag, tag);
	return count;
}

void tally_read(struct daemon *d, struct connection *c, const struct kv *kv)
{
	const char *tag = kv_get(kv, "tag");
	struct tally *tally;
	unsigned count = 0;

	if (!tag || !model_name_valid(tag)) {
		reply_error(c, EINVAL, tag ? "tag: spelled as a model name" : "tag: missing");
		return;
	}
	tally = find(tag);
	if (tally && !owned(c, tally)) {
		reply_error(c, EACCES, "tag: counted by another connection");
		return;
	}
	for (const struct tally *own = c->tally; own; own = own->next)
		count++;
	if (!tally && count >= TALLIES_PER_CONNECTION_MAX) {
		reply_error(c, EDQUOT, "tag: at most %d of a connection", TALLIES_PER_CONNECTION_MAX);
		return;
	}
	if (!tally && !(tally = tally_new(c, tag))) {
		reply_error(c, ENOMEM, "out of memory");
		return;
	}
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "sessions", tally->sessions);
	kv_add_u64(out, "open", open_sessions(d, tally->tag));
	kv_add_u64(out, "requests", tally->requests);
	kv_add_u64(out, "missed", tally->missed);
	kv_add(out, "model", "%s", tally->model);
	kv_add_u64(out, "deadline_ns", tally->deadline_ns);
	add_quantiles(out, tally);
	kv_add_u64(out, "power_known", d->meter != NULL);
	if (tally->power_count) {
		double uw = tally->power_uw_sum / (double)tally->power_count;

		kv_add_u64(out, "power_uw", (uint64_t)uw);
		kv_add_u64(out, "energy_uj", (uint64_t)(uw * 1e-9 * (double)tally->sum_ns / (double)tally->requests));
	}
	add_points(out, tally);
	reply_end(c);
}

void tally_close(struct connection *c)
{
	while (c->tally) {
		struct tally *tally = c->tally;

		c->tally = tally->next;
		if (tally->previous_all)
			tally->previous_all->next_all = tally->next_all;
		else
			all = tally->next_all;
		if (tally->next_all)
			tally->next_all->previous_all = tally->previous_all;
		free(tally);
	}
}
