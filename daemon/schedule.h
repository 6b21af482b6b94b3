/* SPDX-License-Identifier: MIT */
/* The schedule of a stream (tokens, frames): request k is due at start + first + k periods, so
 * requests that end early bank slack for later ones. Pure: time is a parameter. */
#ifndef DAEMON_SCHEDULE_H
#define DAEMON_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/point.h"

#define STREAM_FIRSTS 128 /* newest times to first token (or frame) that are kept for quantiles */

/* Statistics of a stream, over all its starts. */
struct stream_stats {
	uint64_t ended, late;                  /* requests that ended, and how many of them after they were due */
	uint64_t first_took_ns[STREAM_FIRSTS]; /* ring: from a start to the end of its first request (TTFT) */
	uint64_t firsts;
	/* sum and number of the intervals between ends, without first requests */
	uint64_t steady_ns, steady;
};

struct schedule {
	uint64_t rate_mhz; /* request rate in millihertz; 0: not a stream, each request has its own deadline */
	uint64_t first_ns; /* from the start until the first request is due */
	bool started;
	uint64_t start_ns, due_ns; /* virtual time; when request 0 is due */
	uint64_t next;             /* number, from 0, of the next request to begin */
	bool prompt;               /* all requests since the start were parts of its prompt */
	uint64_t last_end_ns;
	bool first_ended;     /* a part of the prompt, or the first request, ended since the start */
	uint64_t first_count; /* stats.firsts with it */
	struct stream_stats stats;
};

/* The end of a request of a stream. */
struct stream_event {
	bool first, late;
	bool again;       /* a further part of the first request: the time replaces that of the part before it */
	uint64_t took_ns; /* since the start for a first request, else since the end of the previous one; 0: unknown */
};

/* The period in ns. Requires a rate. */
uint64_t schedule_period_ns(const struct schedule *schedule);

/* Start, or restart, the stream now; `prompt`: with a prompt, of which schedule_take() may tell further parts. */
void schedule_start(struct schedule *schedule, uint64_t now_ns, bool prompt);

/* Number of the request that begins now: 0 after schedule_start(), or for the first request ever,
 * which starts the stream. A prompt may be several requests, which all have the number 0. A stream that starts with a
 * token, its prompt unseen, has no request 0: the token is number 1, due a period later. */
uint64_t schedule_take(struct schedule *schedule, enum phase phase, uint64_t now_ns);

/* Whether a request that began at `begin_ns` is one of the current stream; false: the stream was restarted since. What
 * follows takes the number of one that is. */
bool schedule_has(const struct schedule *schedule, uint64_t begin_ns);

/* Request `k` was not run: the next one takes its place, unless another has begun since. */
void schedule_put_back(struct schedule *schedule, uint64_t k);

/* When request `k` of the current stream is due, virtual time. */
uint64_t schedule_due_ns(const struct schedule *schedule, uint64_t k);

/* Target length for request `k` that begins now. While its slack is under a period, the slack;
 * otherwise a period plus an equal share of the banked slack for each of the next SCHEDULE_SPREAD
 * requests. Spending all slack on one request and running the others fast would cost more power
 * than one constant speed, as power is convex in speed. 0: the request is already late. */
uint64_t schedule_pace_ns(const struct schedule *schedule, uint64_t k, uint64_t now_ns);

/* Request `k` ended: update schedule->stats. The returned event can be counted elsewhere too; `*first_count` is then
 * kept by the caller for each stream, 0 at first. */
struct stream_event schedule_ended(struct schedule *schedule, uint64_t k, uint64_t end_ns);
void stream_count(struct stream_stats *stats, struct stream_event event, uint64_t *first_count);

/* Rate achieved after the first request of each start, in millihertz; 0: unknown. */
uint64_t stream_reached_mhz(const struct stream_stats *stats);

/* Quantile `q` in [0, 1] of the newest times to the end of the first request, in ns; 0: there are
 * none. */
uint64_t stream_first_ns(const struct stream_stats *stats, double q);

#endif
