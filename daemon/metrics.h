/* SPDX-License-Identifier: MIT */
/* Counters of each model since flamed started, and the text of op=metrics in OpenMetrics format
 * (https://prometheus.io/docs/specs/om/open_metrics_spec/). */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#define METRICS_LATENCY_BUCKETS 14 /* upper bounds in metrics.c; one more bucket counts everything above */
#define METRICS_SHARE_BUCKETS   11

/* Of one library entry. Counters start at 0 with the daemon, as Prometheus expects, and disappear
 * with the model. */
struct model_metrics {
	uint64_t requests, missed, infeasible, expired;
	uint64_t covered;  /* requests that ended within their predicted upper bound */
	uint64_t explored; /* requests that ran at an exploratory operating point */
	uint64_t latency[METRICS_LATENCY_BUCKETS + 1];
	uint64_t share[METRICS_SHARE_BUCKETS + 1]; /* of latency divided by deadline */
	double latency_s, shares;                  /* sums of the histogram values */
	double energy_j;                           /* of requests with measured power */
};

struct connection;
struct daemon;
struct kv;
struct request;

/* A request ended after `total_ns`. Its session's power estimate already includes it. */
void metrics_ended(const struct request *request, uint64_t total_ns);

/* A request expired. */
void metrics_expired(const struct request *request);

/* Handler of op=metrics: replies with lines `text.N`, beginning at block `from`, and `next` if
 * there are more. A block is never split, so that a histogram is consistent. */
void metrics_read(struct daemon *d, struct connection *c, const struct kv *kv);

#endif
