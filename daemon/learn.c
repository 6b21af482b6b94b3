/* SPDX-License-Identifier: MIT */
#include "learn.h"

#include "../common/clock.h"
#include "daemon.h"
#include "view.h"

#define SMOOTHING    0.2 /* weight of a new reading in a session's power */
#define REPLAY_SHARE 8   /* a total that is over the time that passed by more than 1/8 is none of now */
#define LIVE_TOTALS  8   /* in a row that are within 1/8 of that time: the client is no replay */

/* Did the clocks stay at the known point once they had arrived? */
static bool clocks_stood(const struct daemon *d, const struct request *request)
{
	return clocks_in_force(&d->clocks, &d->root) && request->epoch == d->clocks.epoch && !request->moving;
}

/* How long the request ran. A real total includes the wait for the clocks, a replayed one does not. */
static uint64_t run_ns(const struct request *request, uint64_t total_ns)
{
	return !request->session->connection->replays && request->waited_ns < total_ns ? total_ns - request->waited_ns :
											 total_ns;
}

/* Its own work, without the time lost to requests that ran meanwhile. */
static struct governor_own own_of(struct daemon *d, struct request *request, uint64_t total_ns, bool stood,
				  uint64_t now_ns)
{
	struct governor_run run = {.ran_ns = run_ns(request, total_ns),
				   .at = grid_nearest(&d->clocks.grid, clocks_point(&d->clocks)),
				   .stood = stood,
				   .moved_ns = request->moved_ns,
				   .from = request->from};
	size_t count;
	const struct governor_request *view = view_of(d, request, now_ns, &count);

	return governor_own(&d->governor, view, count, count - 1, &run, now_ns);
}

void learn_unsaved(struct daemon *d, const struct request *request)
{
	request->session->entry->dirty = true;
	models_save_later(d);
}

/* A recording that was not announced teaches no model that other users have open. */
static bool has_others(const struct daemon *d, const struct session *session)
{
	for (size_t i = 0; i < d->session_top; i++)
		if (d->session[i].id && d->session[i].entry == session->entry &&
		    d->session[i].connection->uid != session->connection->uid)
			return true;
	return false;
}

/* A client whose totals are over the time that passed before it has shown to be live replays a recording. This marks
 * the connection, since on a machine that stalled for long enough a later total may look real. */
bool learn_contradicted(const struct daemon *d, struct request *request, uint64_t total_ns)
{
	struct session *session = request->session;
	struct connection *c = session->connection;
	uint64_t passed_ns = clock_now_ns() - request->arrived_ns;
	bool over = passed_ns < total_ns - total_ns / REPLAY_SHARE,
	     under = total_ns < passed_ns - passed_ns / REPLAY_SHARE;

	if (!c->replays && c->live_totals < LIVE_TOTALS) {
		c->replays = c->unannounced = over;
		c->live_totals = over || under ? 0 : c->live_totals + 1;
	}
	if (!over || (c->replays && !(c->unannounced && session->teaches && has_others(d, session))))
		return false;
	if (session->teaches && !request->unlearned)
		model_reject(session->entry->model);
	request->unlearned = true;
	return !c->replays;
}

bool learn_allowed(struct daemon *d, struct request *request, struct op_point point, uint64_t total_ns)
{
	struct entry *entry = request->session->entry;

	if (!request->session->teaches)
		return model_plausible(entry->model, request->phase, request->context, point, total_ns);
	request->allowed = model_allows(entry->model, request->phase, request->context, point, total_ns);
	if (!request->allowed)
		library_reset_refuted(&d->library, entry, request->session->connection->user);
	return request->allowed;
}

void learn_run(struct daemon *d, const struct request *request, struct op_point point, uint64_t ns, double extra_var,
	       uint64_t power_uw)
{
	struct session *session = request->session;

	if (power_uw)
		session->power_uw = session->power_uw > 0 ?
					    (1 - SMOOTHING) * session->power_uw + SMOOTHING * (double)power_uw :
					    (double)power_uw;
	if (!model_has_sample(session->entry->model, request->phase, request->context, point) &&
	    !library_has_room(&d->library, session->entry, MODEL_SAMPLE_BYTES))
		return;
	model_observe(session->entry->model, request->phase, request->context, point, ns, extra_var, power_uw,
		      request->readings ? request->readings : 1);
	learn_unsaved(d, request);
}

void learn_request(struct daemon *d, struct request *request, uint64_t total_ns, uint64_t now_ns)
{
	struct op_point point = clocks_point(&d->clocks);
	bool stood = request->session->teaches && !request->unlearned && clocks_stood(d, request);
	struct governor_own own = own_of(d, request, total_ns, stood, now_ns);

	/* learn_allowed() counts an implausible total at any point. */
	if (request->session->teaches && !request->unlearned && total_ns < LATENCY_NS_MIN)
		learn_allowed(d, request, point, run_ns(request, total_ns));
	if (!own.own_ns || total_ns < LATENCY_NS_MIN)
		return;
	uint64_t power_uw = power_end(d, request);
	if (learn_allowed(d, request, point, own.own_ns))
		learn_run(d, request, point, own.own_ns, own.var, power_uw);
}

/* The point at which it runs, as far as known. */
static bool run_point(const struct daemon *d, const struct request *request, struct op_point *out)
{
	if (request->session->shadow)
		return shadow_point(d, request, true, out);
	*out = clocks_point(&d->clocks);
	return request->epoch == d->clocks.epoch;
}

void learn_layers(struct daemon *d, const struct request *request, struct layer *layers, size_t count,
		  uint64_t total_ns)
{
	struct op_point point;

	if (!count || !request->allowed || request->unlearned || request->contended || !run_point(d, request, &point))
		return;
	for (size_t i = 0; i < count; i++)
		layers[i].point = point;
	library_learn_layers(&d->library, request->session->entry, layers, count, total_ns);
}
