/* SPDX-License-Identifier: MIT */
/* Background work: the estimator's preparation for coming requests, and saves. */
#include <errno.h>

#include "../common/clock.h"
#include "daemon.h"

#define AWAITED_NS    (10 * NS_PER_MS) /* between looks at the process that saves, if a connection waits for it */
#define WORK_AFTER_NS NS_PER_MS /* after the end of a request; one that follows at once has been answered by then */

/* Number of the next request that needs preparation; 0: none of the next LOOK_AHEAD. With back-to-back requests there
 * may be no time to prepare for the next one alone. */
static uint32_t work_due(const struct daemon *d, const struct session *session)
{
	/* While no other user waits for it, the next request fits few samples itself: later, and on more of them. */
	if (d->sessions == session->connection->user->sessions &&
	    model_refits_quickly(session->entry->model, session->phase))
		return 0;
	for (uint32_t n = 1; n <= LOOK_AHEAD; n++)
		if (model_work_due(session->entry->model, session->phase, pacing_context(&session->pacing, n)))
			return n;
	return 0;
}

void work_ahead(void *daemon)
{
	struct daemon *d = daemon;
	const struct session *session = session_find(d, NULL, d->work_session);
	uint32_t n = session ? work_due(d, session) : 0;
	struct user *user = session ? session->connection->user : NULL;
	bool others = user && d->sessions > user->sessions;
	uint64_t start_ns = clock_cpu_ns();

	if (n && others && user_owes_ns(user, DEBT_WORK)) {
		d->work_session = 0; /* scheduled again when a later request ends */
		return;
	}
	if (n && fitting_start(d, session->entry, session->phase, pacing_context(&session->pacing, n), user->uid))
		return; /* goes on when it has ended */
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
	if (d->work_session || !work_due(d, session))
		return;
	d->work_session = session->id;
	loop_timer_in(d->work, WORK_AFTER_NS);
}

void models_save(void *daemon)
{
	struct daemon *d = daemon;
	uint64_t saves = d->library.saves;

	d->save_set = library_save_later(&d->library, clock_now_ns());
	if (d->save_set)
		loop_timer_in(d->save, d->save_awaited ? AWAITED_NS : LIBRARY_SAVE_NS);
	if (d->library.saves == saves && (d->save_set || !d->save_awaited))
		return;
	d->save_awaited = false;
	loop_timer_in(d->read, 0); /* saved models can make room */
	server_repeat(d->server, d->fitting.helper.uid);
}

void models_save_later(struct daemon *d)
{
	if (d->save_set)
		return;
	d->save_set = true;
	loop_timer_in(d->save, d->config.save_interval_ns);
}

void models_save_now(struct daemon *d)
{
	d->save_set = d->save_awaited = true;
	loop_timer_in(d->save, 0);
}

bool model_awaited(struct daemon *d, struct connection *c, const char *name, uid_t owner, enum phase phase,
		   uint32_t context)
{
	struct entry *entry = library_enter(&d->library, name, owner);

	if (!entry && errno == EAGAIN)
		models_save_now(d);
	else if (!fitting_read(d, entry, phase, context, c->uid))
		return false;
	connection_repeat(c);
	return true;
}

bool model_read(struct daemon *d, struct connection *c, struct entry *entry, enum phase phase, uint32_t context)
{
	bool unread = entry->unread;

	if (fitting_read(d, entry, phase, context, c->uid)) {
		connection_repeat(c);
		return false;
	}
	library_read(entry);
	if (unread && entry->users)
		sessions_take(d, entry);
	if (library_fit(entry))
		return true;
	reply_error(c, EDQUOT, "model: no room for it beside those in use");
	return false;
}
