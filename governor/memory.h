/* SPDX-License-Identifier: MIT */
/* What the governor remembers of a session between requests: misses and what
 * they ask for, and the tightest deadline it may come back with. */
#ifndef GOVERNOR_MEMORY_H
#define GOVERNOR_MEMORY_H

#include "governor.h"

/* Share of requests that may miss by noise; less than half of what is promised. */
#define MISS_TARGET 0.002

/* Requests of a session in which a model may be learned at some risk. */
#define LEARNING_REQUESTS 25
bool memory_eager(const struct governor_session *session);

/* Note the newest request, once. `fast_ns`: its bound at the fastest point. */
void memory_begin(struct governor *governor, const struct governor_request *request, uint64_t fast_ns);

/* Factor on the bounds of a session's requests, past misses included. */
double memory_factor(const struct governor *governor, uint32_t session);

/* Least relative deadline seen lately; UINT64_MAX: none. */
uint64_t memory_tight_ns(const struct governor_session *session);

/* True for a deadline about as tight as the tightest. */
bool memory_is_tight(const struct governor_session *session, uint64_t relative_ns);

/* Raise low[] where clocks could not come up in time for what another session,
 * or this one with a tighter deadline, may ask next. */
void memory_standby(const struct governor *governor, const struct governor_request *newest,
		    const uint64_t settle_ns[CLOCK_COUNT], uint64_t now_ns, size_t low[CLOCK_COUNT]);

#endif
