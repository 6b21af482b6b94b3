/* SPDX-License-Identifier: MIT */
/* Sessions and requests: open, begin, end, close, and what happens when a
 * client forgets to. `request_begin` is the request path. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "daemon.h"

#define SMOOTHING        0.2  /* of period and power of a session */
#define EXPIRY_DEADLINES 8    /* a request may take so many deadlines before it expires */
#define SETTLE_SHARE     20   /* a run that began while clocks moved is learned from when settling was under 1/20 of it */
#define REPLAY_SHARE     8    /* a total that is over the time that passed by more than 1/8 is a replay's */
#define PUT_OFF_NS       NS_PER_MS /* a request that comes so soon after another's end was waiting for it */
#define LOOK_AHEAD       3    /* requests for which surfaces are made ahead */
#define WORK_AFTER_NS    NS_PER_MS /* of a request's end: one that follows at once has been answered by then */
#define POWER_FROM       0.1  /* of a request, after which it draws what it draws */
#define GOLDEN_RATIO     0.618034 /* its multiples are spread evenly between whole numbers, however many */
#define SENSOR_NS        (20 * NS_PER_MS) /* a sensor's reading is the mean of so long before it */
#define READINGS_NEW     4    /* requests at a point before which it is hardly known, */
#define READINGS_MOST    4    /* and readings in one of them */
#define READINGS_APART_NS (5 * NS_PER_MS) /* at least: one costs up to a millisecond */
#define DONE_MAX         0.95 /* a request that is late is not taken for finished */

uint64_t daemon_now_ns(const struct daemon *d)
{
	return clock_now_ns() + d->ahead_ns;
}

struct session *session_find(struct daemon *d, const struct connection *c, uint64_t id)
{
	struct session *session = id ? &d->session[(id - 1) % SESSIONS_MAX] : NULL;

	if (!session || session->id != id || (c && session->connection != c))
		return NULL;
	return session;
}

static struct request *request_find(struct daemon *d, const struct connection *c, uint64_t id)
{
	struct request *request = id ? &d->request[(id - 1) % REQUESTS_MAX] : NULL;

	if (!request || request->id != id || (c && request->session->connection != c))
		return NULL;
	return request;
}

static uint32_t session_slot(const struct daemon *d, const struct session *session)
{
	return (uint32_t)(session - d->session);
}

static void request_drop(struct daemon *d, struct request *request)
{
	if (request->waiting)
		request->session->connection->held = false;
	request->session->active--;
	request->id = 0;
	d->requests--;
}

static void session_drop(struct daemon *d, struct session *session)
{
	for (size_t i = 0; i < REQUESTS_MAX && session->active; i++)
		if (d->request[i].id && d->request[i].session == session)
			request_drop(d, &d->request[i]);
	if (d->last_decided == session)
		d->last_decided = NULL;
	governor_session_reset(&d->governor, session_slot(d, session));
	if (session->decided_request && model_state(session->entry->model, session->phase) != SURFACE_NONE) {
		/* It can still be explained; of a model that nothing is known of nothing stays. */
		if (d->closed.entry)
			library_put(d->closed.entry);
		d->closed = *session;
		d->closed.connection = NULL;
	} else {
		library_put(session->entry);
	}
	session->connection->sessions--;
	session->id = 0;
	d->sessions--;
}

/* Nobody left to keep clocks for: they are the kernel's again, what was learned goes to disk. */
static void release_if_unused(struct daemon *d)
{
	if (d->sessions || profiles_count(d))
		return;
	clocks_release(&d->clocks);
	loop_timer_stop(d->idle);
	loop_timer_stop(d->expiry);
	if (library_save(&d->library) == 0)
		loop_timer_stop(d->save);
	else
		loop_timer_in(d->save, d->config.save_interval_ns);
}

void sessions_close(struct daemon *d, struct connection *c)
{
	for (size_t i = 0; i < SESSIONS_MAX && c->sessions; i++)
		if (d->session[i].id && d->session[i].connection == c)
			session_drop(d, &d->session[i]);
	profiles_close(d, c);
	tally_close(c);
	release_if_unused(d);
}

void session_close(struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct session *session;
	uint64_t id;

	if (kv_get(kv, "profile")) {
		if (!need_u64(c, kv, "profile", 1, UINT64_MAX, &id))
			return;
		if (!profile_close(d, c, id)) {
			reply_error(c, ENOENT, "profile: no profile %" PRIu64 " on this connection", id);
			return;
		}
	} else {
		if (!need_u64(c, kv, "session", 1, UINT64_MAX, &id))
			return;
		session = session_find(d, c, id);
		if (!session) {
			reply_error(c, ENOENT, "session: no session %" PRIu64 " on this connection", id);
			return;
		}
		session_drop(d, session);
	}
	release_if_unused(d);
	reply_begin(c);
	reply_end(c);
}

static unsigned sessions_of_uid(const struct daemon *d, uid_t uid)
{
	unsigned count = 0;

	for (size_t i = 0; i < SESSIONS_MAX; i++)
		count += d->session[i].id && d->session[i].connection->uid == uid;
	return count;
}

static struct session *session_new(struct daemon *d, struct connection *c)
{
	if (c->sessions >= SESSIONS_PER_CONNECTION_MAX || sessions_of_uid(d, c->uid) >= SESSIONS_PER_UID_MAX) {
		reply_error(c, EDQUOT, "session: at most %d of a connection and %d of a user", SESSIONS_PER_CONNECTION_MAX, SESSIONS_PER_UID_MAX);
		return NULL;
	}
	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		struct session *session = &d->session[i];

		if (session->id)
			continue;
		memset(session, 0, sizeof(*session));
		session->id = d->session_generation[i]++ * SESSIONS_MAX + i + 1;
		return session;
	}
	reply_error(c, ENOSPC, "session: all %d are in use", SESSIONS_MAX);
	return NULL;
}

/* Who says at open what it will ask for finds the clocks there when it asks. */
static void prepare(struct daemon *d, struct session *session)
{
	const struct surface *surface;
	uint64_t now_ns = daemon_now_ns(d);

	if (!session->deadline_ns || d->clocks.held || d->requests || profiles_count(d))
		return;
	surface = model_surface(session->entry->model, session->phase, session->context);
	clocks_apply(&d->clocks, governor_prepare(&d->governor, &d->clocks.view, surface, session_slot(d, session), session->deadline_ns, now_ns));
	loop_timer_in(d->idle, d->config.release_after_ns);
}

void session_open(struct daemon *d, struct connection *c, const struct kv *kv)
{
	const char *model, *tag = kv_get(kv, "tag");
	const struct config_model *known;
	struct session *session;
	enum phase phase = PHASE_RUN;
	uint32_t context = 0;
	uint64_t deadline_ns = 0;
	struct entry *entry;

	if (!need_model(c, kv, &model) || !want_phase(c, kv, &phase, &context))
		return;
	if (!want_u64(c, kv, "deadline_ns", DEADLINE_NS_MIN, DEADLINE_NS_MAX, &deadline_ns))
		return;
	if (tag && !model_name_valid(tag)) {
		reply_error(c, EINVAL, "tag: spelled as a model name");
		return;
	}
	session = session_new(d, c);
	if (!session)
		return;
	board_find_power_mode(&d->board, &d->root);
	library_set_mode(&d->library, d->board.power_mode);
	entry = library_get(&d->library, model, clock_now_ns());
	if (!entry) {
		session->id = 0;
		reply_error(c, errno, errno == ENOSPC ? "model: %d models are in use" : "out of memory", MODELS_MAX);
		return;
	}
	known = config_model_find(&d->config, model);
	session->connection = c;
	session->entry = entry;
	session->phase = phase;
	session->context = context;
	session->deadline_ns = deadline_ns ? deadline_ns : known ? known->deadline_ns : 0;
	if (tag)
		strcpy(session->tag, tag);
	c->sessions++;
	d->sessions++;
	tally_opened(d, session);
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "session", session->id);
	kv_add(out, "surface", "%s", state_word(model_state(entry->model, phase)));
	reply_end(c);
	connection_flush(c);
	prepare(d, session);
}

static struct request *request_new(struct daemon *d, struct connection *c, struct session *session)
{
	if (session->active >= REQUESTS_PER_SESSION_MAX) {
		reply_error(c, EDQUOT, "session: %d requests of it have not ended", REQUESTS_PER_SESSION_MAX);
		return NULL;
	}
	for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
		struct request *request = &d->request[i];

		if (request->id)
			continue;
		memset(request, 0, sizeof(*request));
		request->id = d->request_generation[i]++ * REQUESTS_MAX + i + 1;
		request->session = session;
		session->active++;
		d->requests++;
		return request;
	}
	reply_error(c, ENOSPC, "request: all %d are in use", REQUESTS_MAX);
	return NULL;
}

static struct governor_request governor_view(struct daemon *d, const struct request *request, uint64_t now_ns)
{
	const struct surface *surface = model_surface_at_hand(request->session->entry->model, request->phase, request->context);
	double predicted_ns = (double)surface->latency_ns[d->clocks.view.current_known ? d->clocks.view.current : 0];
	double done = predicted_ns > 0 ? (double)(now_ns - request->begin_ns) / predicted_ns : 0;

	return (struct governor_request){
		.surface = surface,
		.session = session_slot(d, request->session),
		.begin_ns = request->begin_ns,
		.deadline_ns = request->deadline_ns,
		.flight_ns = request->waiting ? clocks_flight_ns(&d->clocks) : 0,
		.done = done > DONE_MAX ? DONE_MAX : done,
		.waits = request->waiting,
	};
}

/* Every active request, the newest last. */
static void decide(struct daemon *d, const struct request *newest, uint64_t now_ns, struct decision *decision)
{
	static struct governor_request view[REQUESTS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < REQUESTS_MAX && d->requests > 1; i++)
		if (d->request[i].id && &d->request[i] != newest)
			view[count++] = governor_view(d, &d->request[i], now_ns);
	view[count++] = governor_view(d, newest, now_ns);
	governor_decide(&d->governor, &d->clocks.view, view, count, now_ns, decision);
}

/* Others that run now share the GPU with it, and their clocks may move. */
static void mark_contended(struct daemon *d, struct request *newest)
{
	if (d->requests < 2)
		return;
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		d->request[i].contended |= d->request[i].id != 0;
	newest->contended = true;
}

static void reply_to_begin(struct daemon *d, struct request *request)
{
	const struct decision *decision = &request->session->decision;
	struct op_point point = clocks_point(&d->clocks);
	struct kv_out *out = reply_begin(request->session->connection);

	/* What is in force where it is known by now, what was decided where not. */
	if (!d->clocks.held || d->clocks.last.serial < d->clocks.serial)
		point = grid_point(&d->clocks.grid, decision->point);
	kv_add_u64(out, "request", request->id);
	kv_add_u64(out, "feasible", decision->feasible);
	kv_add_u64(out, "cpu_hz", point.hz[CLOCK_CPU]);
	kv_add_u64(out, "gpu_hz", point.hz[CLOCK_GPU]);
	kv_add_u64(out, "mem_hz", point.hz[CLOCK_MEM]);
	kv_add_u64(out, "predicted_ns", decision->predicted_ns);
	kv_add_u64(out, "bound_ns", decision->bound_ns);
	kv_add_u64(out, "settle_ns", decision->settle_ns);
	reply_end(request->session->connection);
}

static void arm_expiry(struct daemon *d)
{
	uint64_t earliest_ns = UINT64_MAX, now_ns = clock_now_ns();

	for (size_t i = 0; i < REQUESTS_MAX && d->requests; i++)
		if (d->request[i].id && d->request[i].expires_ns < earliest_ns)
			earliest_ns = d->request[i].expires_ns;
	if (earliest_ns == UINT64_MAX)
		loop_timer_stop(d->expiry);
	else
		loop_timer_in(d->expiry, earliest_ns > now_ns ? earliest_ns - now_ns : 0);
}

static void session_began(struct session *session, const struct request *request)
{
	if (session->last_begin_ns) {
		uint64_t apart_ns = request->begin_ns - session->last_begin_ns;
		double mean_ns = (double)session->period_ns;

		/* One that was late has put this one off. */
		if (apart_ns > session->deadline_ns && request->begin_ns - session->last_end_ns < PUT_OFF_NS)
			apart_ns = session->deadline_ns;
		mean_ns += (mean_ns > 0 ? SMOOTHING : 1) * ((double)apart_ns - mean_ns);
		session->period_ns = (uint64_t)mean_ns;
		session->gap_ns[1] = session->gap_ns[0];
		session->gap_ns[0] = request->begin_ns > session->last_end_ns ? request->begin_ns - session->last_end_ns : 0;
	}
	session->growth = session->phase == request->phase && request->context > session->context ? request->context - session->context : 0;
	session->last_begin_ns = request->begin_ns;
	session->deadline_ns = request->asked_ns;
	session->phase = request->phase;
	session->context = request->context;
}

/* A sensor read costs up to a millisecond, so not more often than the configuration says. */
static bool sample_is_due(const struct daemon *d, uint64_t now_ns)
{
	return now_ns - d->power_sampled_ns >= d->config.power_sample_ns || !op_point_equal(clocks_point(&d->clocks), d->power_point);
}

/* One reading while the clocks of the request stand. */
static uint64_t sample_power(struct daemon *d)
{
	uint64_t uw;

	if (!d->meter || power_meter_read(d->meter, clock_now_ns(), &uw) < 0)
		return 0;
	d->power_uw = uw;
	d->power_sampled_ns = daemon_now_ns(d);
	d->power_point = clocks_point(&d->clocks);
	return uw;
}

/* A power that a sensor shows for a moment is that of some part of an inference: it is read at another
 * moment each time, spread evenly, so that the mean is of the whole; at a point hardly known several times
 * in one, and, where that is long enough, only when the sensor's window is past a move. A counter's mean is so anyway. */
static void sample_later(struct daemon *d, const struct request *request)
{
	const struct decision *decision = &request->session->decision;
	uint64_t from_ns = (uint64_t)(POWER_FROM * (double)decision->predicted_ns), past_ns = decision->settle_ns + SENSOR_NS;

	if (!d->meter || d->energy_meter || d->requests > 1 || request->session->connection->replays)
		return;
	if (request->serial && past_ns > from_ns && past_ns < decision->predicted_ns)
		from_ns = past_ns;
	if (!decision->predicted_ns || !sample_is_due(d, request->begin_ns + from_ns))
		return;
	d->power_left = 0;
	d->power_apart_ns = decision->predicted_ns - from_ns;
	if (decision->measured < READINGS_NEW && d->power_apart_ns >= 2 * READINGS_APART_NS) {
		uint64_t readings = d->power_apart_ns / READINGS_APART_NS < READINGS_MOST ? d->power_apart_ns / READINGS_APART_NS : READINGS_MOST;
		d->power_left = (uint32_t)readings - 1;
		d->power_apart_ns /= readings;
	}
	d->power_phase = fmod(d->power_phase + GOLDEN_RATIO, 1);
	d->power_request = request->id;
	loop_timer_in(d->power, from_ns + (uint64_t)(d->power_phase * (double)d->power_apart_ns));
}

void sample_in_flight(void *daemon)
{
	struct daemon *d = daemon;
	struct request *request = request_find(d, NULL, d->power_request);
	uint64_t uw = request && d->requests == 1 ? sample_power(d) : 0;

	if (!uw)
		return;
	request->power_uw = (request->power_uw * request->readings + uw) / (request->readings + 1);
	request->readings++;
	if (d->power_left) {
		d->power_left--;
		loop_timer_in(d->power, d->power_apart_ns);
	}
}

/* Of a request that ends now. What a replay reports did not pass, so that its only moment is this one. */
static uint64_t power_of(struct daemon *d, const struct request *request)
{
	if (request->contended)
		return 0;
	if (!request->session->connection->replays && !d->energy_meter)
		return request->power_uw;
	return sample_is_due(d, daemon_now_ns(d)) ? sample_power(d) : 0;
}

void request_begin(struct daemon *d, struct connection *c, const struct kv *kv)
{
	uint64_t id, deadline_ns = 0, wait = 0, now_ns = daemon_now_ns(d);
	struct session *session;
	struct request *request;
	enum phase phase;
	uint32_t context;

	if (!need_u64(c, kv, "session", 1, UINT64_MAX, &id))
		return;
	session = session_find(d, c, id);
	if (!session) {
		reply_error(c, ENOENT, "session: no session %" PRIu64 " on this connection", id);
		return;
	}
	phase = session->phase;
	context = session->context;
	deadline_ns = session->deadline_ns;
	if (deadline_ns && !kv_get(kv, "deadline_ns") ? false : !need_u64(c, kv, "deadline_ns", DEADLINE_NS_MIN, DEADLINE_NS_MAX, &deadline_ns))
		return;
	if (!want_phase(c, kv, &phase, &context) || !want_u64(c, kv, "wait", 0, 1, &wait))
		return;
	request = request_new(d, c, session);
	if (!request)
		return;
	request->phase = phase;
	request->context = context;
	request->begin_ns = now_ns;
	request->asked_ns = deadline_ns;
	request->deadline_ns = now_ns + deadline_ns;
	request->waiting = wait;
	request->arrived_ns = clock_now_ns();
	request->expires_ns = request->arrived_ns + (d->config.request_expiry_ns > EXPIRY_DEADLINES * deadline_ns ? d->config.request_expiry_ns
														  : EXPIRY_DEADLINES * deadline_ns);
	mark_contended(d, request);
	profiles_disturb();
	session_began(session, request);
	decide(d, request, now_ns, &session->decision);
	session->decided_request = request->id;
	session->point = grid_point(&d->clocks.grid, session->decision.point);
	d->last_decided = session;
	request->bound_ns = session->decision.bound_ns;
	request->serial = clocks_apply(&d->clocks, session->decision.point);
	request->epoch = d->clocks.epoch;
	request->waiting = wait && request->serial;
	/* The answer first; what nobody waits for after it. */
	if (request->waiting) {
		connection_hold(c);
	} else {
		reply_to_begin(d, request);
		connection_flush(c);
	}
	if (d->requests == 1)
		loop_timer_in(d->expiry, request->expires_ns - request->arrived_ns);
	governor_explain(&d->governor, &session->decision);
	if (d->energy_meter && d->meter)
		(void)!power_meter_read(d->meter, clock_now_ns(), &d->power_uw);
	else
		sample_later(d, request);
}

void requests_applied(struct daemon *d)
{
	bool lost = keeper_link_state(d->clocks.keeper) != KEEPER_RUNNING;

	for (size_t i = 0; i < REQUESTS_MAX; i++) {
		struct request *request = &d->request[i];

		if (!request->id || !request->waiting || (!lost && d->clocks.last.serial < request->serial))
			continue;
		request->waiting = false;
		request->serial = 0; /* it starts on clocks that stand */
		request->waited_ns = clock_now_ns() - request->arrived_ns;
		reply_to_begin(d, request);
		connection_resume(request->session->connection);
	}
}

/* Did the clocks that we think in force stand still while it ran? */
static bool clocks_stood(const struct daemon *d, const struct request *request, uint64_t total_ns)
{
	const struct clocks *clocks = &d->clocks;
	bool managed = clocks->managed[CLOCK_CPU] || clocks->managed[CLOCK_GPU] || clocks->managed[CLOCK_MEM];

	if (!managed)
		return true;
	if (!clocks->held || request->epoch != clocks->epoch || clocks->last.serial < clocks->serial)
		return false;
	return request->serial == 0 || request->session->decision.settle_ns * SETTLE_SHARE <= total_ns;
}

/* A client that once reports a total that did not pass replays what was recorded: on a machine held up
 * for just as long another of its totals may look real. */
static void find_replay(const struct request *request, uint64_t total_ns)
{
	if (clock_now_ns() - request->arrived_ns < total_ns - total_ns / REPLAY_SHARE)
		request->session->connection->replays = true;
}

/* How long it ran: the wait for the clocks is in a total that really passed, and not in a replay's. */
static uint64_t run_ns(const struct request *request, uint64_t total_ns)
{
	return !request->session->connection->replays && request->waited_ns < total_ns ? total_ns - request->waited_ns : total_ns;
}

static void learn(struct daemon *d, const struct request *request, uint64_t total_ns)
{
	struct entry *entry = request->session->entry;
	struct session *session = request->session;
	uint64_t power_uw;

	if (!clocks_stood(d, request, total_ns))
		return;
	/* The governor adds up what shares the GPU: it must not show as a slow-down, too. */
	if (request->contended && model_state(entry->model, request->phase) != SURFACE_NONE)
		return;
	power_uw = power_of(d, request);
	if (power_uw)
		session->power_uw = session->power_uw > 0 ? (1 - SMOOTHING) * session->power_uw + SMOOTHING * (double)power_uw : (double)power_uw;
	model_observe(entry->model, request->phase, request->context, clocks_point(&d->clocks), run_ns(request, total_ns), power_uw,
		      request->readings ? request->readings : 1, request->contended);
	if (!entry->dirty)
		loop_timer_in(d->save, d->config.save_interval_ns);
	entry->dirty = true;
}

static bool learn_layers(struct daemon *d, struct connection *c, const struct request *request, const struct kv *kv)
{
	struct layer *layers = NULL;
	size_t count;

	if (!want_layers(c, kv, request->phase, request->context, clocks_point(&d->clocks), &layers, &count))
		return false;
	if (count && !request->contended && request->epoch == d->clocks.epoch)
		model_learn_layers(request->session->entry->model, layers, count);
	free(layers);
	return true;
}

/* Of the n-th request of a session from now, as far as can be told. */
static uint32_t context_ahead(const struct session *session, uint32_t n)
{
	uint64_t context = session->context + (uint64_t)n * session->growth;

	return context < CONTEXT_TOKENS_MAX ? (uint32_t)context : CONTEXT_TOKENS_MAX;
}

/* The next request for which something has to be made; 0: none of those looked at. Back to back there may be no time left
 * for what only the very next one needs. */
static uint32_t work_due(const struct session *session)
{
	for (uint32_t n = 1; n <= LOOK_AHEAD; n++)
		if (model_work_due(session->entry->model, session->phase, context_ahead(session, n)))
			return n;
	return 0;
}

void work_ahead(void *daemon)
{
	struct daemon *d = daemon;
	const struct session *session = session_find(d, NULL, d->work_session);
	uint32_t n = session ? work_due(session) : 0;

	if (n && model_work(session->entry->model, session->phase, context_ahead(session, n)))
		loop_timer_in(d->work, 0);
	else
		d->work_session = 0;
}

/* What has to be made anew for the next request is made piece by piece, and not while that waits for it: where it follows
 * at once it finds the surface as it was, and the work is done while it runs. */
static void work_later(struct daemon *d, const struct session *session)
{
	if (d->work_session || !work_due(session))
		return;
	d->work_session = session->id;
	loop_timer_in(d->work, WORK_AFTER_NS);
}

/* Nothing runs: come down, or where the next request will want to be. */
static void after_last(struct daemon *d, const struct session *session, uint64_t total_ns, uint64_t now_ns)
{
	uint64_t gap_ns = session->period_ns > total_ns ? session->period_ns - total_ns : 0;
	uint64_t seen_ns = session->gap_ns[0] > session->gap_ns[1] ? session->gap_ns[0] : session->gap_ns[1];
	size_t point;

	if (d->requests || profiles_count(d))
		return;
	/* Where each request follows the end of the last, and not a clock, the mean distance of their begins tells of no gap. */
	if (gap_ns > seen_ns)
		gap_ns = seen_ns;
	loop_timer_in(d->idle, d->config.release_after_ns);
	const struct surface *surface = model_surface_at_hand(session->entry->model, session->phase, context_ahead(session, 1));
	if (d->clocks.held && governor_idle(&d->governor, &d->clocks.view, surface, gap_ns, now_ns, &point))
		clocks_apply(&d->clocks, point);
}

void request_end(struct daemon *d, struct connection *c, const struct kv *kv)
{
	uint64_t id, total_ns = 0, ack = 0;
	struct request *request;
	struct session *session;
	bool missed;

	if (!need_u64(c, kv, "request", 1, UINT64_MAX, &id))
		return;
	request = request_find(d, c, id);
	if (!request) {
		reply_error(c, ENOENT, "request: no request %" PRIu64 " in flight on this connection", id);
		return;
	}
	if (!want_u64(c, kv, "total_ns", 1, DEADLINE_NS_MAX * 10, &total_ns) || !want_u64(c, kv, "ack", 0, 1, &ack) || !learn_layers(d, c, request, kv))
		return;
	session = request->session;
	uint64_t now_ns = daemon_now_ns(d);
	if (total_ns)
		find_replay(request, total_ns);
	else
		total_ns = now_ns - request->begin_ns;
	if (request->begin_ns + total_ns > now_ns)
		d->ahead_ns += request->begin_ns + total_ns - now_ns;
	now_ns = daemon_now_ns(d);
	missed = total_ns > request->asked_ns;
	learn(d, request, total_ns);
	clocks_forget(&d->clocks);
	governor_ended(&d->governor, session_slot(d, session), total_ns, request->asked_ns, request->bound_ns);
	session->total_ns[session->requests % SESSION_TOTALS] = total_ns;
	session->total_sum_ns += total_ns;
	session->requests++;
	session->last_end_ns = now_ns;
	session->missed += missed;
	d->requests_ended++;
	tally_ended(d, session, total_ns, missed);
	request_drop(d, request);
	/* The answer before what may take long, and nobody waits for. */
	if (ack) {
		kv_add_u64(reply_begin(c), "missed", missed);
		reply_end(c);
		connection_flush(c);
	}
	work_later(d, session);
	after_last(d, session, total_ns, now_ns);
}

void requests_expire(void *daemon)
{
	struct daemon *d = daemon;
	uint64_t now_ns = clock_now_ns();

	for (size_t i = 0; i < REQUESTS_MAX && d->requests; i++) {
		struct request *request = &d->request[i];

		if (!request->id || request->expires_ns > now_ns)
			continue;
		if (log_first(request->session->entry->name))
			log_warning("model %s: request %" PRIu64 " of pid %d was never ended; expired", request->session->entry->name, request->id,
				    (int)request->session->connection->pid);
		request->session->unended++;
		request_drop(d, request);
	}
	if (d->requests == 0)
		loop_timer_in(d->idle, d->config.release_after_ns);
	arm_expiry(d);
}

void clocks_idle(void *daemon)
{
	struct daemon *d = daemon;

	if (d->requests == 0 && !profiles_count(d))
		clocks_release(&d->clocks);
}
