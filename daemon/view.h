/* SPDX-License-Identifier: MIT */
/* Requests as the governor sees them: those in flight, and the next one that is expected of an idle session.
 * All times are moved to the common virtual time `now_ns`, as each connection has its own. */
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

/* Has the request outrun its bound (or its deadline, where it has no bound) by the factor after which its client has
 * probably abandoned it? It no longer counts as running. */
bool view_is_overdue(const struct daemon *d, const struct request *request);

/* The surface for a session's own requests, made where it is not at hand, unless its user owes time to others. */
const struct surface *view_surface(struct daemon *d, const struct session *session, enum phase phase, uint32_t context);

/* A request in flight. `make`: its surface is made where it is not at hand, as view_surface() does; else only one in
 * memory is shown. */
struct governor_request view_request(struct daemon *d, struct request *request, bool make, uint64_t now_ns);

/* The next request of a session that has none in flight; false: none is expected. */
bool view_expected(struct daemon *d, const struct session *session, bool make, uint64_t now_ns,
		   struct governor_request *out);

/* Every request in flight except `last` (may be NULL), and those that are expected of sessions other than
 * `session`; beside another user no surface is made for them. Requests in shadow are left out where `session` is not
 * in shadow, as they must not move its clocks. Returns how many there are: at most REQUESTS_MAX - 1, so that there is
 * room for one more. */
size_t view_others(struct daemon *d, const struct request *last, const struct session *session, uint64_t now_ns,
		   struct governor_request view[REQUESTS_MAX]);

#endif
