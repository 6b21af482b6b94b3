/* SPDX-License-Identifier: MIT */
/* Background work: the estimator's preparation for coming requests. */
#include "../common/clock.h"
#include "daemon.h"

/* one piece of work; the excess is charged to the user while other users have sessions */
#define PIECE_NS      (2 * NS_PER_MS)
#define WORK_AFTER_NS NS_PER_MS /* after the end of a request; one that follows at once has been answered by then */

/* Number of the next request that needs preparation; 0: none of the next LOOK_AHEAD. With
 * back-to-back requests there may be no time to prepare for the very next one only. */
static uint32_t work_due(const struct session *session)
{
	for (uint32_t n = 1; n <= LOOK_AHEAD; n++)
		if (model_work_due(session->entry->model, session->phase, pacing_context(&session->pacing, n)))
			return n;
	return 0;
}

void work_ahead(void *daemon)
{
	struct daemon *d = daemon;
	const struct session *session = session_find(d, NULL, d->work_session);
	uint32_t n = session ? work_due(session) : 0;
	struct user *user = session ? session->connection->user : NULL;
	bool others = user && d->sessions > user->sessions;
	uint64_t start_ns = clock_cpu_ns();

	if (n && others && user_owes_ns(user, DEBT_WORK)) {
		d->work_session = 0; /* scheduled again when a later request ends */
		return;
	}
	if (n && model_work(session->entry->model, session->phase, pacing_context(&session->pacing, n))) {
		uint64_t took_ns = clock_cpu_ns() - start_ns;

		library_trim(&d->library);
		if (others && took_ns > PIECE_NS)
			user_charge(user, DEBT_WORK, took_ns - PIECE_NS);
		loop_timer_in(d->work, 0);
	} else {
		d->work_session = 0;
	}
}

void work_later(struct daemon *d, const struct session *session)
{
	if (d->work_session || !work_due(session))
		return;
	d->work_session = session->id;
	loop_timer_in(d->work, WORK_AFTER_NS);
}
