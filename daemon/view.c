/* SPDX-License-Identifier: MIT */
/* Requests as the governor sees them. */
#include "view.h"

#include "daemon.h"
#include "user.h"

#define OVERDUE       4  /* a request is overdue after this many bounds, */
#define OVERDUE_LEAST 10 /* but not before request_expiry / OVERDUE_LEAST */

static struct governor_request view[REQUESTS_MAX];
static struct shown {
	enum phase phase;
	uint32_t context;
} shown[REQUESTS_MAX]; /* of their surfaces when they were added */

bool view_is_overdue(const struct daemon *d, const struct request *request)
{
	uint64_t most_ns = OVERDUE * request->bound_ns, expiry_ns = d->config.request_expiry_ns;

	if (!request->bound_ns)
		most_ns = request->asked_ns < expiry_ns ? request->asked_ns : expiry_ns;
	if (most_ns < expiry_ns / OVERDUE_LEAST)
		most_ns = expiry_ns / OVERDUE_LEAST;
	return connection_now_ns(request->session->connection) - request->begin_ns > most_ns;
}

static uint32_t model_id(const struct daemon *d, const struct session *session)
{
	return (uint32_t)(session->entry - d->library.entry);
}

static uint32_t priority_of(const struct daemon *d, const struct session *session)
{
	const struct config_model *model = config_model_find(&d->config, session->entry->name);

	return model ? model->priority : 0;
}

const struct surface *view_model_surface(const struct daemon *d, const struct user *user, struct model *model,
					 enum phase phase, uint32_t context)
{
	if (d->sessions > user->sessions) {
		if (user_owes_ns(user, DEBT_WORK) || !model_surface_is_at_hand(model, phase, context))
			return model_surface_kept(model, phase, context);
	} else if (model_refits_quickly(model, phase)) {
		return model_surface(model, phase, context); /* the newest, which only this user waits for */
	}
	return model_surface_at_hand(model, phase, context);
}

const struct surface *view_surface(struct daemon *d, const struct session *session, enum phase phase, uint32_t context)
{
	return view_model_surface(d, session->connection->user, session->entry->model, phase, context);
}

/* Computing a surface takes milliseconds, and there may be hundreds of requests. */
static const struct surface *surface_of(struct daemon *d, const struct session *session, bool make, enum phase phase,
					uint32_t context)
{
	return make ? view_surface(d, session, phase, context) :
		      model_surface_kept(session->entry->model, phase, context);
}

static struct governor_request in_flight(struct daemon *d, struct request *request, bool make, uint64_t now_ns)
{
	uint64_t shift_ns = now_ns - connection_now_ns(request->session->connection);
	const struct session *session = request->session;

	return (struct governor_request){
		.surface = surface_of(d, session, make, request->phase, request->context),
		.flight = &request->flight,
		.session = session_slot(d, session),
		.model = model_id(d, session),
		.priority = priority_of(d, session),
		.begin_ns = request->begin_ns + shift_ns,
		.deadline_ns = request->deadline_ns + shift_ns,
		.gap_ns = pacing_gap_ns(&session->pacing),
		.settling_ns = request->waiting ? clocks_settling_ns(&d->clocks) : 0,
		.unlearned = !session->teaches || session->shadow,
	};
}

/* The next request of a session that has none in flight; false: none is expected. */
static bool expected(struct daemon *d, const struct session *session, bool make, uint64_t now_ns,
		     struct governor_request *out)
{
	uint64_t own_now_ns = connection_now_ns(session->connection), shift_ns = now_ns - own_now_ns;
	uint64_t by_ns = 0, begin_ns = pacing_next_ns(&session->pacing, own_now_ns, &by_ns);

	/* A session that takes turns with others does not affect their requests, only its own next one. */
	if (!begin_ns || session->active || (d->requests && pacing_takes_turns(&session->pacing)))
		return false;
	*out = (struct governor_request){
		.surface = surface_of(d, session, make, session->phase, pacing_context(&session->pacing, 1)),
		.session = session_slot(d, session),
		.model = model_id(d, session),
		.priority = priority_of(d, session),
		.begin_ns = begin_ns + shift_ns,
		.begin_by_ns = by_ns + shift_ns,
		.deadline_ns = begin_ns + shift_ns + session->deadline_ns,
		.gap_ns = pacing_gap_ns(&session->pacing),
		.unlearned = !session->teaches || session->shadow,
	};
	return true;
}

/* Whether to compute the surface of another request: only of its own user, and one of each model, as a model keeps
 * few. */
static bool makes(const struct daemon *d, const struct session *other, const struct session *session, size_t count)
{
	if (d->sessions > session->connection->user->sessions || other->entry == session->entry)
		return false;
	for (size_t i = 0; i < count; i++)
		if (view[i].model == model_id(d, other))
			return false;
	return true;
}

static void note_shown(size_t i)
{
	shown[i] = (struct shown){view[i].surface->phase, view[i].surface->context};
}

/* All but the one of id `last` (0 for none) and those of `session` that are expected. Returns their number, at most
 * REQUESTS_MAX - 1. Unless `session` is in shadow, requests in shadow are left out, as they must not move its
 * clocks. */
static size_t add_others(struct daemon *d, uint64_t last, const struct session *session, uint64_t now_ns)
{
	size_t count = 0, of_others = 0;

	for (size_t i = 0; i < d->request_top && d->requests > (last != 0); i++) {
		struct request *other = &d->request[i];
		if (!other->id || other->id == last || count == REQUESTS_MAX - 1 || view_is_overdue(d, other) ||
		    other->session->shadow > session->shadow)
			continue;
		view[count] = in_flight(d, other, makes(d, other->session, session, count), now_ns);
		note_shown(count++);
	}
	for (size_t i = 0; i < d->session_top && d->sessions > 1 && of_others < COMPANY_MAX && count < REQUESTS_MAX - 1;
	     i++) {
		const struct session *other = &d->session[i];
		if (!other->id || other == session || other->shadow > session->shadow ||
		    !expected(d, other, makes(d, other, session, count), now_ns, &view[count]))
			continue;
		note_shown(count++);
		of_others++;
	}
	return count;
}

/* A model keeps few surfaces, and one that was computed for a later request may have replaced that of an earlier one
 * of the same model, which is given the nearest in memory. */
static void keep_surfaces(struct daemon *d, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (view[i].surface->phase != shown[i].phase || view[i].surface->context != shown[i].context)
			view[i].surface = model_surface_kept(d->library.entry[view[i].model].model, shown[i].phase,
							     shown[i].context);
}

const struct governor_request *view_of(struct daemon *d, struct request *last, uint64_t now_ns, size_t *count)
{
	size_t others = add_others(d, last->id, last->session, now_ns);

	view[others] = in_flight(d, last, true, now_ns);
	keep_surfaces(d, others);
	*count = others + 1;
	return view;
}

const struct governor_request *view_of_next(struct daemon *d, const struct session *session, uint64_t now_ns,
					    size_t *count)
{
	size_t others = add_others(d, 0, session, now_ns);

	if (!expected(d, session, true, now_ns, &view[others]))
		return NULL;
	keep_surfaces(d, others);
	*count = others + 1;
	return view;
}
