/* SPDX-License-Identifier: MIT */
/* A stream's connection to flamed: deadline requests, or profiling. Nothing here calls a driver;
 * every function takes the session's own lock. */
#ifndef LAYERS_CORE_SESSION_H
#define LAYERS_CORE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../../common/point.h"

struct layer_session;
struct flamed_layer;

/* What is known about an inference at its begin. */
struct inference {
	uint64_t fingerprint;
	enum phase phase;
	uint32_t context; /* tokens; 0 for a fixed-shape network */
};

/* A request to flamed, if there is one. */
struct session_request {
	int64_t id; /* of libflamed; 0: an inference that is profiled; negative: no request */
	int session;
};

/* NULL when out of memory. Sessions are reused, never freed. */
struct layer_session *session_new(void);
/* Leave flamed permanently; the object remains. */
void session_stop(struct layer_session *session);
/* The same at the program's exit, unless a thread is using the session at that moment. */
void session_leave(struct layer_session *session);
/* Leave flamed and reset the session, for another stream. */
void session_reset(struct layer_session *session);

/* A cycle was found; its model is identified by this fingerprint. */
void session_found(struct layer_session *session, uint64_t fingerprint);

/* An inference begins, `spent_ns` after its input was written. May block, but only when profiling.
 * Returns the argument of the functions below; *layers tells whether to record net layers. */
struct session_request session_begin(struct layer_session *session, const struct inference *inference,
				     uint64_t spent_ns, bool *layers);

/* The inference took `total_ns` since its begin. Does not block unless `may_block`; work that would
 * block is then done at the next begin. */
void session_end(struct layer_session *session, struct session_request request, uint64_t total_ns,
		 const struct flamed_layer *layers, size_t count, bool may_block);

/* The inference was not the announced one, or failed: withdraw the request. `again`: it was not run, and is tried
 * again. */
void session_cancel(struct layer_session *session, struct session_request request, bool again);

#endif
