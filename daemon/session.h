/* SPDX-License-Identifier: MIT */
/* Sessions: a client's declaration that it will run one model, from op=open to op=close or the end
 * of its connection. */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include "../common/kv.h"
#include "../common/point.h"
#include "../governor/governor.h"
#include "library.h"
#include "pacing.h"
#include "schedule.h"

#define SESSION_TOTALS 128 /* newest latencies kept for quantiles */

struct connection;
struct daemon;

struct session {
	uint32_t id; /* 0: free slot; else generation * SESSIONS_MAX + slot + 1 */
	struct connection *connection;
	struct entry *entry;
	/* its model learns from its requests: it is the user's own, or a shared one that the user
	 * may teach */
	bool teaches;
	bool shadow; /* the kernel's governors choose the clocks for it */
	char tag[MODEL_NAME_MAX + 1];
	enum phase phase;
	uint32_t context;
	uint64_t deadline_ns; /* of the newest request, or given at open; 0: none yet */
	uint64_t requests, missed, unended;
	unsigned active; /* requests in flight */
	struct pacing pacing;
	struct schedule schedule;          /* of a stream, */
	uint64_t number;                   /* its newest request, */
	int64_t ahead_ns;                  /* and by how much that began before it was needed to meet the schedule */
	uint64_t tallied_first;            /* the tally's number of its newest start; 0: none */
	uint64_t total_ns[SESSION_TOTALS]; /* ring */
	uint64_t total_sum_ns;
	double power_uw; /* smoothed over its requests; 0: unknown */
	struct decision decision;
	uint64_t explained_ns; /* when a runner-up was last looked for */
	uint64_t arrived_ns;   /* of the newest request: real time */
	uint64_t decided_request;
	struct op_point point; /* of the newest decision */
};

/* Handlers of open and close. */
void session_open(struct daemon *d, struct connection *c, const struct kv *kv);
void session_close(struct daemon *d, struct connection *c, const struct kv *kv);

/* Move the clocks for a session, or pretend to. Returns what clocks_apply() does. */
uint64_t session_apply(struct daemon *d, const struct session *session, size_t point);

/* If the power mode changed, switch open sessions to its models. No model learns from requests in
 * flight. The models are read later, in pieces; until then they are unknown and learn nothing. */
void sessions_follow_mode(struct daemon *d);
/* Read some of them. Returns whether to call it again, after LIBRARY_READ_NS. */
bool sessions_read(struct daemon *d);
/* One of them has been read. */
void sessions_take(struct daemon *d, struct entry *entry);

/* End everything that the connection owns. */
void sessions_close(struct daemon *d, struct connection *c);

/* Find a session of connection `c` (NULL: of any) by id; NULL if there is none. */
struct session *session_find(struct daemon *d, const struct connection *c, uint64_t id);

/* Small index of the session, for the governor. */
uint32_t session_slot(const struct daemon *d, const struct session *session);

#endif
