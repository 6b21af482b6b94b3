/* SPDX-License-Identifier: MIT */
/* What a request that ends teaches its model: a latency and a power at the point that was in force, and layers. */
#ifndef DAEMON_LEARN_H
#define DAEMON_LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../common/point.h"

struct daemon;
struct layer;
struct request;

/* Whether the time that passed contradicts the total of a live client. Then it is counted against the model, if the
 * session teaches that, and nothing is learned from the request. So is a recording that was not announced, of a model
 * that other users have open, but its totals stand. */
bool learn_contradicted(const struct daemon *d, struct request *request, uint64_t total_ns);

/* The end of a request at clocks that flamed set. */
void learn_request(struct daemon *d, struct request *request, uint64_t total_ns, uint64_t now_ns);
/* Its layers, which are believed as far as their total: after it was allowed, and only if they fit into it. */
void learn_layers(struct daemon *d, const struct request *request, struct layer *layers, size_t count,
		  uint64_t total_ns);

/* Whether it can have taken `total_ns` at that point. Where it teaches, an implausible total is counted against its
 * model. */
bool learn_allowed(struct daemon *d, struct request *request, struct op_point point, uint64_t total_ns);
/* Learn a run of `ns` at a point, with its power (0: not measured). extra_var: as model_observe() takes it. */
void learn_run(struct daemon *d, const struct request *request, struct op_point point, uint64_t ns, double extra_var,
	       uint64_t power_uw);
/* Mark its model as changed, to be saved. */
void learn_unsaved(struct daemon *d, const struct request *request);

#endif
