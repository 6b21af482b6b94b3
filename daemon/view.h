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
struct user;

/* Whether the request has exceeded its bound (or its deadline, without a bound) by the factor after which its client
 * has probably abandoned it, so that it no longer counts as running. */
bool view_is_overdue(const struct daemon *d, const struct request *request);

/* The surface for a user's own requests: the newest if nobody else waits for it, else none that takes long to make. */
const struct surface *view_model_surface(const struct daemon *d, const struct user *user, struct model *model,
					 enum phase phase, uint32_t context);
const struct surface *view_surface(struct daemon *d, const struct session *session, enum phase phase, uint32_t context);

/* Every request in flight, `last` as the last one, and before it the expected ones of other sessions. A surface is
 * computed for one request of each other model, and for none of them while other users have sessions. Valid until the
 * next call of either function. */
const struct governor_request *view_of(struct daemon *d, struct request *last, uint64_t now_ns, size_t *count);

/* The same with the next request of a session that has none in flight as the last one; NULL: none is expected. */
const struct governor_request *view_of_next(struct daemon *d, const struct session *session, uint64_t now_ns,
					    size_t *count);

#endif
