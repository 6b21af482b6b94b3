/* SPDX-License-Identifier: MIT */
/* Requests: one inference with a deadline, from op=begin to op=end or its expiry. */
#ifndef DAEMON_REQUEST_H
#define DAEMON_REQUEST_H

#include "../common/kv.h"
#include "../common/point.h"
#include "shadow.h"
#include "../governor/governor.h"

struct connection;
struct daemon;
struct session;

struct request {
	uint64_t id; /* 0: free slot; else generation * REQUESTS_MAX + slot + 1 */
	struct session *session;
	enum phase phase;
	uint32_t context;
	uint64_t begin_ns, deadline_ns; /* virtual time; the deadline is absolute */
	/* relative deadline, as requested or from the stream's schedule; 0: it was late when it
	 * began */
	uint64_t asked_ns;
	bool scheduled;                  /* the stream's schedule sets its deadline */
	uint64_t number;                 /* counted from the start of the stream */
	uint64_t arrived_ns, expires_ns; /* real time */
	uint64_t waited_ns;              /* for the clocks, before its reply; real time */
	uint64_t bound_ns;
	bool feasible, explores; /* of the decision */
	uint64_t epoch;          /* of the clocks when it began to run */
	bool contended, waiting;
	/* nothing is learned from it: the power mode changed while it ran, so that it belongs to neither model, its
	 * model was not read yet, or the time that passed contradicts its total */
	bool unlearned;
	bool allowed;                  /* its model, which it teaches, allows its total */
	struct governor_flight flight; /* its progress, kept by the governor */
	bool moving;                   /* clocks move while it runs */
	uint64_t moved_ns;             /* from its start until the clocks stood, */
	size_t from;                   /* which were at this point until then; SIZE_MAX: not known */
	uint64_t serial;               /* waits for this answer of the keeper */
	size_t point;                  /* in shadow: the point decided, and the transition latency to it */
	uint64_t settle_ns;
	struct clock_readings clocks; /* in shadow: the clocks while it runs */
	uint64_t power_uw;            /* mean of the readings while it ran; 0: none */
	uint32_t readings;            /* number of those readings */
};

/* Handlers of begin and end. */
void request_begin(struct daemon *d, struct connection *c, const struct kv *kv);
void request_end(struct daemon *d, struct connection *c, const struct kv *kv);

/* Find a request of connection `c` (NULL: of any) by id; NULL if there is none. */
struct request *request_find(struct daemon *d, const struct connection *c, uint64_t id);

/* The shortest latency expected at any point that limits and ceilings allow; 0: not known. */
uint64_t request_fastest_ns(struct daemon *d, const struct request *request);

/* Drop all requests of a session, without replies. */
void requests_drop(struct daemon *d, struct session *session);

/* Send the replies that waited for the clocks, or all of them if the keeper is lost. */
void requests_applied(struct daemon *d);

/* Timers: expire requests that were not ended; release clocks that are idle. */
void requests_expire(void *daemon);
void clocks_idle(void *daemon);

#endif
