/* SPDX-License-Identifier: MIT */
/* The life of a request: begin, the reply once the clocks are applied, end or expiry.
 * request_begin() is the request path. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "daemon.h"
#include "learn.h"
#include "view.h"

#define EXPIRY_DEADLINES 8                /* a request expires after this many deadlines, */
#define EXPIRY_CAP       10               /* but after at most this many times request_expiry */
#define AHEAD_DEADLINES  10               /* most virtual time that one end may report, in deadlines, */
#define AHEAD_NS_MIN     (10 * NS_PER_S)  /* but no less than this */
#define EXPLAIN_NS       (10 * NS_PER_MS) /* after shorter pauses requests are explained once a second, for people */

#define WITHDRAW_PUT_BACK 2 /* of op=end: the request gives its place in the schedule back */

uint64_t daemon_now_ns(const struct daemon *d)
{
	return clock_now_ns() + d->ahead_ns;
}

uint64_t connection_now_ns(const struct connection *c)
{
	return clock_now_ns() + c->ahead_ns;
}

/* A replay reports time that did not pass. It advances the time of its own connection, and the
 * daemon's time only as far as every user is ahead. */
static void advance(struct daemon *d, const struct request *request, uint64_t total_ns)
{
	struct connection *c = request->session->connection;
	uint64_t most_ns =
		AHEAD_DEADLINES * request->asked_ns > AHEAD_NS_MIN ? AHEAD_DEADLINES * request->asked_ns : AHEAD_NS_MIN;
	uint64_t end_ns = request->begin_ns + (total_ns < most_ns ? total_ns : most_ns), now_ns = connection_now_ns(c),
		 common_ns;

	if (end_ns <= now_ns)
		return;
	c->ahead_ns += end_ns - now_ns;
	if (c->ahead_ns > c->user->ahead_ns)
		c->user->ahead_ns = c->ahead_ns;
	common_ns = users_ahead_ns(d->ahead_ns);
	if (common_ns > d->ahead_ns)
		d->ahead_ns = common_ns;
}

struct request *request_find(struct daemon *d, const struct connection *c, uint64_t id)
{
	struct request *request = id ? &d->request[(id - 1) % REQUESTS_MAX] : NULL;

	if (!request || request->id != id || (c && request->session->connection != c))
		return NULL;
	return request;
}

static void request_drop(struct daemon *d, struct request *request)
{
	if (request->waiting)
		request->session->connection->held = false;
	request->session->active--;
	request->session->connection->user->requests--;
	request->id = 0;
	d->requests--;
	while (d->request_top > 0 && !d->request[d->request_top - 1].id)
		d->request_top--;
}

void requests_drop(struct daemon *d, struct session *session)
{
	for (size_t i = 0; i < d->request_top && session->active; i++)
		if (d->request[i].id && d->request[i].session == session)
			request_drop(d, &d->request[i]);
}

static struct request *request_new(struct daemon *d, struct connection *c, struct session *session)
{
	if (session->active >= REQUESTS_PER_SESSION_MAX) {
		reply_error(c, EDQUOT, "session: already has %d requests in flight", REQUESTS_PER_SESSION_MAX);
		return NULL;
	}
	if (c->user->requests >= REQUESTS_PER_UID_MAX) {
		reply_error(c, EDQUOT, "request: this user already has %d requests in flight", REQUESTS_PER_UID_MAX);
		return NULL;
	}
	for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
		struct request *request = &d->request[i];

		if (request->id)
			continue;
		if (i >= d->request_top)
			d->request_top = i + 1;
		memset(request, 0, sizeof(*request));
		request->id = d->request_generation[i]++ * REQUESTS_MAX + i + 1;
		request->session = session;
		session->active++;
		c->user->requests++;
		d->requests++;
		return request;
	}
	reply_error(c, ENOSPC, "request: all %d slots are in use", REQUESTS_MAX);
	return NULL;
}

static void decide(struct daemon *d, struct request *newest, uint64_t now_ns, struct decision *decision)
{
	size_t count;
	const struct governor_request *view = view_of(d, newest, now_ns, &count);

	governor_decide(&d->governor, &d->clocks.view, view, count, now_ns, decision);
}

/* Requests that run at the same time share the GPU, and the clocks may move while they run. */
static void mark_contended(struct daemon *d, struct request *newest)
{
	if (d->requests < 2)
		return;
	for (size_t i = 0; i < d->request_top; i++) {
		struct request *other = &d->request[i];

		if (!other->id || other == newest || view_is_overdue(d, other))
			continue;
		other->contended = newest->contended = true;
	}
}

static void reply_to_begin(struct daemon *d, struct request *request)
{
	const struct decision *decision = &request->session->decision;
	struct op_point point = clocks_point(&d->clocks);
	struct kv_out *out = reply_begin(request->session->connection);

	/* The point in force if it is known and stays, else the point decided. */
	if (!d->clocks.held || d->clocks.last.serial < d->clocks.serial || d->clocks.wanted != d->clocks.target ||
	    request->session->shadow)
		point = grid_point(&d->clocks.grid, decision->point);
	kv_add_u64(out, "request", request->id);
	kv_add_u64(out, "feasible", decision->feasible);
	kv_add_u64(out, "cpu_hz", point.hz[CLOCK_CPU]);
	kv_add_u64(out, "gpu_hz", point.hz[CLOCK_GPU]);
	kv_add_u64(out, "mem_hz", point.hz[CLOCK_MEM]);
	kv_add_u64(out, "predicted_ns", decision->predicted_ns);
	kv_add_u64(out, "bound_ns", decision->bound_ns);
	kv_add_u64(out, "settle_ns", decision->settle_ns);
	if (request->scheduled)
		kv_add_u64(out, "deadline_ns", request->asked_ns);
	if (request->session->shadow)
		kv_add_u64(out, "shadow", 1);
	reply_end(request->session->connection);
}

static void arm_expiry(struct daemon *d)
{
	uint64_t earliest_ns = UINT64_MAX, now_ns = clock_now_ns();

	for (size_t i = 0; i < d->request_top && d->requests; i++)
		if (d->request[i].id && d->request[i].expires_ns < earliest_ns)
			earliest_ns = d->request[i].expires_ns;
	d->expires_ns = earliest_ns;
	if (earliest_ns == UINT64_MAX)
		loop_timer_stop(d->expiry);
	else
		loop_timer_in(d->expiry, earliest_ns > now_ns ? earliest_ns - now_ns : 0);
}

/* Set the deadline from the stream's schedule; the clocks are chosen for its pace. */
static void follow_schedule(struct request *request, uint64_t now_ns)
{
	struct schedule *schedule = &request->session->schedule;

	request->scheduled = true;
	request->number = schedule_take(schedule, request->phase, now_ns);
	uint64_t due_ns = schedule_due_ns(schedule, request->number);
	request->asked_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	request->session->number = request->number;
	request->session->ahead_ns =
		(int64_t)(due_ns - (request->number ? schedule_period_ns(schedule) : schedule->first_ns) - now_ns);
	request->deadline_ns = now_ns + schedule_pace_ns(schedule, request->number, now_ns);
}

static uint64_t expiry_ns(const struct daemon *d, uint64_t deadline_ns)
{
	uint64_t least_ns = d->config.request_expiry_ns, after_ns = EXPIRY_DEADLINES * deadline_ns;

	if (after_ns > EXPIRY_CAP * least_ns)
		after_ns = EXPIRY_CAP * least_ns;
	return after_ns > least_ns ? after_ns : least_ns;
}

static size_t current_point(const struct daemon *d)
{
	return d->clocks.view.current_known ? d->clocks.view.current : SIZE_MAX;
}

/* No client waits for clocks that come down: they are written after the replies. */
static void lower(struct daemon *d)
{
	size_t from = current_point(d);
	uint64_t epoch = d->clocks.epoch;

	if (!clocks_lower(&d->clocks))
		return;
	for (size_t i = 0; i < d->request_top; i++) {
		struct request *request = &d->request[i];
		if (!request->id || request->epoch != epoch)
			continue;
		request->epoch = d->clocks.epoch;
		if (!request->moving)
			request->from = from;
		request->moving = true;
	}
}

/* A `begin` message, with the session's values for the keys that it leaves out. */
struct begin_message {
	struct session *session;
	enum phase phase;
	uint32_t context;
	uint64_t deadline_ns;
	uint64_t wait, stream; /* 0 or 1 */
	bool scheduled;        /* the deadline is that of the session's schedule */
};

/* The deadline is optional if the session has one, or a schedule. */
static bool read_deadline(struct connection *c, const struct kv *kv, struct begin_message *out)
{
	out->scheduled = out->session->schedule.rate_mhz && !kv_get(kv, "deadline_ns");
	out->deadline_ns = out->session->deadline_ns;
	if (out->scheduled || out->deadline_ns)
		return want_u64(c, kv, "deadline_ns", DEADLINE_NS_MIN, DEADLINE_NS_MAX, &out->deadline_ns);
	return need_u64(c, kv, "deadline_ns", DEADLINE_NS_MIN, DEADLINE_NS_MAX, &out->deadline_ns);
}

/* Returns false after an error reply. */
static bool read_begin(struct daemon *d, struct connection *c, const struct kv *kv, struct begin_message *out)
{
	uint64_t id;

	*out = (struct begin_message){0};
	if (!need_u64(c, kv, "session", 1, UINT64_MAX, &id))
		return false;
	out->session = session_find(d, c, id);
	if (!out->session) {
		reply_error(c, ENOENT, "session: no session %" PRIu64 " on this connection", id);
		return false;
	}
	out->phase = out->session->phase;
	out->context = out->session->context;
	if (!want_u64(c, kv, "stream", 0, 1, &out->stream))
		return false;
	if (out->stream && !out->session->schedule.rate_mhz) {
		reply_error(c, EINVAL, "stream: the session was opened without rate_mhz");
		return false;
	}
	return read_deadline(c, kv, out) && want_phase(c, kv, &out->phase, &out->context) &&
	       want_u64(c, kv, "wait", 0, 1, &out->wait);
}

/* Set the request's times, and update the session and its pacing. */
static void start(struct daemon *d, struct request *request, const struct begin_message *message, uint64_t now_ns)
{
	struct session *session = request->session;

	request->phase = message->phase;
	request->context = message->context;
	request->begin_ns = now_ns;
	request->asked_ns = message->deadline_ns;
	request->deadline_ns = now_ns + message->deadline_ns;
	if (message->stream)
		schedule_start(&session->schedule, now_ns, message->phase == PHASE_PREFILL);
	if (message->scheduled)
		follow_schedule(request, now_ns);
	request->unlearned = session->entry->unread || strcmp(session->entry->mode, d->library.mode) != 0;
	request->waiting = message->wait;
	request->arrived_ns = clock_now_ns();
	request->expires_ns = request->arrived_ns + expiry_ns(d, message->deadline_ns);
	mark_contended(d, request);
	profiles_disturb();
	pacing_began(&session->pacing, request->begin_ns, session->deadline_ns, request->context,
		     session->phase == request->phase, d->requests == 1);
	session->deadline_ns = message->scheduled ? schedule_period_ns(&session->schedule) : message->deadline_ns;
	session->phase = request->phase;
	session->context = request->context;
}

/* The runner-up of a decision. To find it takes longer than to decide, so requests in quick succession with the same
 * point and reason share it. */
static void explain(struct daemon *d, struct session *session, const struct decision *before)
{
	struct decision *decision = &session->decision;
	uint64_t now_ns = clock_now_ns();

	if (now_ns - session->arrived_ns >= EXPLAIN_NS || now_ns - session->explained_ns >= NS_PER_S) {
		governor_explain(&d->governor, decision);
		session->explained_ns = now_ns;
	} else if (decision->point == before->point && decision->reason == before->reason) {
		decision->runner_up = before->runner_up;
	}
	session->arrived_ns = now_ns;
}

/* Decide on the operating point and send the writes that the request needs first. */
static void choose_point(struct daemon *d, struct request *request)
{
	struct session *session = request->session;
	bool wait = request->waiting;

	if (!session->shadow)
		clocks_stop_pretending(&d->clocks);
	decide(d, request, daemon_now_ns(d), &session->decision);
	session->decided_request = request->id;
	session->point = grid_point(&d->clocks.grid, session->decision.point);
	d->last_decided = session;
	request->bound_ns = session->decision.bound_ns;
	request->feasible = session->decision.feasible;
	request->explores = session->decision.reason == REASON_EXPLORE || session->decision.reason == REASON_BUY;
	request->from = current_point(d);
	request->serial = wait && !session->shadow ? clocks_raise(&d->clocks, session->decision.point) :
						     session_apply(d, session, session->decision.point);
	request->epoch = d->clocks.epoch;
	request->waiting = wait && request->serial;
	if (!request->waiting)
		request->flight.seen_ns = daemon_now_ns(d);
}

void request_begin(struct daemon *d, struct connection *c, const struct kv *kv)
{
	uint64_t now_ns = connection_now_ns(c);
	struct begin_message message;
	struct decision before;
	struct request *request;

	if (!read_begin(d, c, kv, &message))
		return;
	request = request_new(d, c, message.session);
	if (!request)
		return;
	message.session->entry->used_ns = clock_now_ns();
	start(d, request, &message, now_ns);
	before = message.session->decision;
	choose_point(d, request);
	/* Reply first; the rest can wait. */
	if (request->waiting) {
		connection_hold(c);
	} else {
		reply_to_begin(d, request);
		connection_flush(c);
		request->moving = request->serial != 0;
		lower(d);
	}
	if (d->requests == 1 || request->expires_ns < d->expires_ns) {
		d->expires_ns = request->expires_ns;
		loop_timer_in(d->expiry, request->expires_ns - request->arrived_ns);
	}
	explain(d, message.session, &before);
	if (request->session->shadow)
		shadow_begin(d, request);
	power_begin(d, request);
}

static int by_order(const void *a, const void *b)
{
	const struct request *x = *(struct request *const *)a, *y = *(struct request *const *)b;

	return (x->flight.order > y->flight.order) - (x->flight.order < y->flight.order);
}

/* Reply to the requests that waited for the clocks, in the order in which they came. */
static void reply_to_waiting(struct daemon *d, struct request *ready[], size_t count)
{
	qsort(ready, count, sizeof(*ready), by_order);
	for (size_t i = 0; i < count; i++) {
		struct request *request = ready[i];
		request->waiting = false;
		request->serial = 0; /* the clocks stand at its start */
		request->waited_ns = clock_now_ns() - request->arrived_ns;
		request->flight.seen_ns = daemon_now_ns(d);
		reply_to_begin(d, request);
		connection_resume(request->session->connection);
	}
}

void requests_applied(struct daemon *d)
{
	bool lost = keeper_link_state(d->clocks.keeper) != KEEPER_RUNNING, waits = false;
	struct request *ready[REQUESTS_MAX] = {0};
	size_t count = 0;

	for (size_t i = 0; i < d->request_top; i++) {
		struct request *request = &d->request[i];

		if (!request->id || !request->waiting)
			continue;
		if (lost || d->clocks.last.serial >= request->serial)
			ready[count++] = request;
		else
			waits = true;
	}
	reply_to_waiting(d, ready, count);
	for (size_t i = 0; i < d->request_top && d->clocks.last.serial >= d->clocks.serial; i++) {
		struct request *request = &d->request[i];
		if (!request->id || !request->moving)
			continue;
		request->moving = false;
		request->moved_ns = clock_now_ns() - request->arrived_ns - request->waited_ns;
	}
	if (!waits && !lost)
		lower(d);
}

uint64_t request_fastest_ns(struct daemon *d, const struct request *request)
{
	const struct surface *surface = view_surface(d, request->session, request->phase, request->context);
	float fastest_ns = INFINITY;

	if (surface->state == SURFACE_NONE)
		return 0;
	for (size_t i = 0; i < d->clocks.grid.points; i++)
		if (surface->latency_ns[i] < fastest_ns && clocks_allow(&d->clocks, i))
			fastest_ns = surface->latency_ns[i];
	return fastest_ns < INFINITY ? (uint64_t)fastest_ns : 0;
}

/* Returns false after an error reply. */
static bool read_layers(struct daemon *d, struct connection *c, const struct request *request, const struct kv *kv,
			struct layer **layers, size_t *count)
{
	if (d->sessions > c->user->sessions && user_owes_ns(c->user, DEBT_WORK))
		return true; /* ignored: the user is in debt, and other users come first */
	return want_layers(c, kv, request->phase, request->context, (struct op_point){0}, layers, count);
}

/* If nothing runs any more, move down, or to the point for the next request. */
static void after_last(struct daemon *d, const struct session *session, uint64_t now_ns)
{
	bool last = !d->requests && !profiles_count(d);
	size_t point, count;

	if (session->shadow && (!last || d->clocks.held))
		return; /* they are not its own */
	loop_timer_in(d->idle, d->config.release_after_ns);
	if (!last)
		return;
	if (!d->clocks.held && !session->shadow)
		return;
	const struct governor_request *view = view_of_next(d, session, now_ns, &count);
	if (view && governor_gap(&d->governor, &d->clocks.view, view, count, now_ns, &point))
		session_apply(d, session, point);
}

/* An inference as it was announced: learn from it, and count it. */
static void count_end(struct daemon *d, struct request *request, uint64_t total_ns, bool missed)
{
	struct session *session = request->session;
	uint64_t governed_ns = total_ns;

	if (session->shadow)
		governed_ns = shadow_end(d, request, total_ns);
	else
		learn_request(d, request, total_ns, daemon_now_ns(d));
	clocks_decay_times(&d->clocks);
	governor_ended(&d->governor, session_slot(d, session), governed_ns, request->asked_ns);
	session->total_ns[session->requests % SESSION_TOTALS] = total_ns;
	session->total_sum_ns += total_ns;
	session->requests++;
	session->missed += missed;
	d->requests_ended++;
	tally_ended(d, request, total_ns, missed);
	metrics_ended(request, total_ns);
}

void request_end(struct daemon *d, struct connection *c, const struct kv *kv)
{
	CLEANUP_MEM struct layer *layers = NULL;
	uint64_t id, total_ns = 0, ack = 0, withdraw = 0;
	struct request *request;
	struct session *session;
	size_t layer_count = 0;
	bool missed;

	if (!need_u64(c, kv, "request", 1, UINT64_MAX, &id))
		return;
	request = request_find(d, c, id);
	if (!request) {
		reply_error(c, ENOENT, "request: no request %" PRIu64 " in flight on this connection", id);
		return;
	}
	if (!want_u64(c, kv, "total_ns", 1, DEADLINE_NS_MAX * 10, &total_ns) || !want_u64(c, kv, "ack", 0, 1, &ack) ||
	    !want_u64(c, kv, "withdraw", 0, WITHDRAW_PUT_BACK, &withdraw) ||
	    (!withdraw && !read_layers(d, c, request, kv, &layers, &layer_count)))
		return;
	session = request->session;
	sessions_follow_mode(d);
	uint64_t now_ns = connection_now_ns(c);
	if (!total_ns || (!withdraw && learn_contradicted(d, request, total_ns)))
		total_ns = now_ns - request->begin_ns;
	advance(d, request, total_ns);
	now_ns = connection_now_ns(c);
	missed = !withdraw && total_ns > request->asked_ns;
	if (!withdraw) {
		count_end(d, request, total_ns, missed);
		learn_layers(d, request, layers, layer_count, total_ns);
	}
	pacing_ended(&session->pacing, now_ns);
	bool streamed = request->scheduled && schedule_has(&session->schedule, request->begin_ns);
	if (streamed && withdraw == WITHDRAW_PUT_BACK)
		schedule_put_back(&session->schedule, request->number);
	else if (streamed)
		tally_streamed(session,
			       schedule_ended(&session->schedule, request->number, request->begin_ns + total_ns));
	request_drop(d, request);
	/* Reply before the work that may take long. */
	if (ack) {
		kv_add_u64(reply_begin(c), "missed", missed);
		reply_end(c);
		connection_flush(c);
	}
	work_later(d, session);
	after_last(d, session, daemon_now_ns(d));
}

void requests_expire(void *daemon)
{
	struct daemon *d = daemon;
	uint64_t now_ns = clock_now_ns();
	bool governed = false;

	for (size_t i = 0; i < d->request_top && d->requests; i++) {
		struct request *request = &d->request[i];
		struct connection *owed;

		if (!request->id || request->expires_ns > now_ns)
			continue;
		if (user_may_log(request->session->connection->user, USER_LOG_EXPIRED))
			log_warning("model %s: request %" PRIu64 " of pid %d expired without an end",
				    request->session->entry->name, request->id, (int)request->session->connection->pid);
		request->session->unended++;
		metrics_expired(request);
		governed |= !request->session->shadow;
		owed = request->waiting ? request->session->connection : NULL;
		request_drop(d, request);
		if (!owed)
			continue;
		/* The begin still needs a reply, ahead of requests queued behind it. */
		reply_error(owed, ETIMEDOUT, "request: expired before the clocks were in force");
		connection_resume(owed);
	}
	if (governed || d->requests == 0)
		loop_timer_in(d->idle, d->config.release_after_ns);
	arm_expiry(d);
}

void clocks_idle(void *daemon)
{
	struct daemon *d = daemon;

	for (size_t i = 0; i < d->request_top && d->requests; i++)
		if (d->request[i].id && !d->request[i].session->shadow)
			return;
	if (profiles_count(d))
		return;
	clocks_release(&d->clocks);
	if (d->requests == 0)
		power_idle(d);
}
