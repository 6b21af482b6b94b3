/* SPDX-License-Identifier: MIT */
/* An inference of a stream, with its launches, until it is reported to flamed. The stream's lock guards it while the
 * stream has it. */
#ifndef LAYERS_CORE_TASK_H
#define LAYERS_CORE_TASK_H

#include "core.h"
#include "session.h"
#include "tokens.h"

/* One launch of an inference. */
struct launch_record {
	struct launch_token token;
	uint64_t kernel, gap_ns, call_ns;
	bool sync;
};

/* An inference, in progress or finished. */
struct task {
	struct session_request request;
	uint64_t begin_ns, total_ns; /* total 0: derived from the times of its launches */
	uint64_t number;             /* of its last command, once finished */
	enum tokens_kind kind;       /* its assumed kind when it began */
	bool begun, recording, partial, spoiled, cancel;
	struct launch_record *records; /* [count] */
	size_t count;
};

/* Add launches, of which the first began `gap_ns` after the last call and whose call took `call_ns`. The task then owns
 * their tokens. Returns their number, or 0: none is wanted, or there is no room for all. */
size_t task_keep(struct task *task, const struct launch_token *tokens, const uint64_t *kernels, size_t count,
		 uint64_t gap_ns, uint64_t call_ns);

/* Release its launches and their memory without reporting it. */
void task_release(struct task *task);

/* End its request, or cancel it, and write its launches to the trace. No lock is held. Returns the memory of its
 * records, for another inference; NULL: it had none. */
struct launch_record *task_report(struct task *task, struct layer_session *session, bool may_block);

/* Number of its launches whose token has this `object`. */
uint32_t task_holds(const struct task *task, const void *object);

#endif
