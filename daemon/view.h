/* SPDX-License-Identifier: MIT */
/* Requests as the governor sees them: those in flight, and the expected next one of each idle session. All times are
 * converted to the common virtual time `now_ns`, as each connection has its own. */
#ifndef DAEMON_VIEW_H
#define DAEMON_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../common/limits.h"
#include "../governor/governor.h"

struct daemon;
struct request;
struct session;

/* Whether the request has exceeded its bound (or its deadline, without a bound) by the factor after which its client
 * has probably abandoned it, so that it no longer counts as running. */
bool view_is_overdue(const struct daemon *d, const struct request *request);

/* The surface for a session's own requests, computed if it is not in memory, unless its user owes time to others. */
const struct surface *view_surface(struct daemon *d, const struct session *session, enum phase phase, uint32_t context);

/* A request in flight. `make`: compute its surface as view_surface() does; otherwise only a surface in memory is
 * used. */
struct governor_request view_request(struct daemon *d, struct request *request, bool make, uint64_t now_ns);

/* The next request of a session that has none in flight; false: none is expected. */
bool view_expected(struct daemon *d, const struct session *session, bool make, uint64_t now_ns,
		   struct governor_request *out);

/* Every request in flight except `last` (may be NULL), and the expected ones of sessions other than `session`. A
 * surface is computed for one request of each model but `session`'s, and for none while other users have sessions.
 * Unless `session` is in shadow, requests in shadow are left out, as they must not move its clocks. Returns their
 * number, at most REQUESTS_MAX - 1, so that there is room for one more. */
size_t view_others(struct daemon *d, const struct request *last, const struct session *session, uint64_t now_ns,
		   struct governor_request view[REQUESTS_MAX]);

/* A model keeps few surfaces, and one that was computed for a request that joins the view may replace that of another
 * of the same model: such surfaces of the `count` requests of view_others() are replaced by the nearest in memory. */
void view_keep(struct daemon *d, struct governor_request *view, size_t count);

#endif
