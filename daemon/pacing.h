/* SPDX-License-Identifier: MIT */
/* Prediction of a session's next request: its arrival time and its context. All times are virtual
 * time (daemon_now_ns()). */
#ifndef DAEMON_PACING_H
#define DAEMON_PACING_H

#include <stdbool.h>
#include <stdint.h>

#define LOOK_AHEAD 3 /* requests for which surfaces are computed in advance */

struct pacing {
	uint64_t last_begin_ns, last_end_ns; /* 0: none yet */
	uint64_t period_ns;                  /* smoothed inter-arrival time */
	float alone;                         /* share of its begins that found nothing in flight, decaying */
	uint64_t early_ns;                   /* by how much a begin may come before its time, decaying */
	uint64_t gap_ns[2];                  /* from an end to the next begin, the newest first */
	uint32_t context;                    /* of the newest request */
	uint32_t growth;                     /* difference between the contexts of the last two requests */
};

/* A request begins at `begin_ns`. `deadline_ns`: relative deadline of the request before it;
 * `same_phase`: it has the phase of that one; `alone`: nothing else is in flight. */
void pacing_began(struct pacing *pacing, uint64_t begin_ns, uint64_t deadline_ns, uint32_t context, bool same_phase,
		  bool alone);
void pacing_ended(struct pacing *pacing, uint64_t end_ns);

/* The earliest likely begin of the next request; 0: unknown, or the session is silent. `*by_ns`: the latest likely
 * begin. */
uint64_t pacing_next_ns(const struct pacing *pacing, uint64_t now_ns, uint64_t *by_ns);
/* Whether nearly all of its requests begin while no other is in flight. */
bool pacing_takes_turns(const struct pacing *pacing);
/* Shortest likely time from an end to the next begin; UINT64_MAX: unknown. */
uint64_t pacing_gap_ns(const struct pacing *pacing);

/* Context of the n-th request from now. */
uint32_t pacing_context(const struct pacing *pacing, uint32_t n);

#endif
