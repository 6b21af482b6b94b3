/* SPDX-License-Identifier: MIT */
/* libflamed: sessions and requests. */
#include "handle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../common/clock.h"
#include "../common/units.h"

static int send_open(struct flamed *flamed, int index)
{
	struct client_session *session = &flamed->session[index];
	const char *tag = secure_getenv("FLAMED_TAG");
	int rc;

	handle_message(flamed, "open");
	kv_add(&flamed->message, "model", "%s", session->model);
	if (session->deadline_ns)
		kv_add_u64(&flamed->message, "deadline_ns", session->deadline_ns);
	if (session->rate_mhz)
		kv_add_u64(&flamed->message, "rate_mhz", session->rate_mhz);
	if (session->rate_mhz && session->first_ns)
		kv_add_u64(&flamed->message, "first_ns", session->first_ns);
	if (tag && model_name_valid(tag))
		kv_add(&flamed->message, "tag", "%s", tag);
	rc = handle_send(flamed, (struct expected){.kind = EXPECT_OPEN, .session = index, .epoch = session->epoch});
	if (rc == 0)
		session->open = SESSION_OPENING;
	return rc;
}

static void send_close(struct flamed *flamed, uint64_t id)
{
	handle_message(flamed, "close");
	kv_add_u64(&flamed->message, "session", id);
	handle_send(flamed, (struct expected){.kind = EXPECT_CLOSE});
}

/* Always with ack=1: otherwise only errors have a reply, which would be taken for the reply to another message. */
static int send_end(struct flamed *flamed, struct client_request *request, const struct flamed_layer *layers,
		    size_t count)
{
	request->state = REQUEST_FREE;
	handle_message(flamed, "end");
	kv_add_u64(&flamed->message, "request", request->id);
	kv_add_u64(&flamed->message, "total_ns", request->total_ns);
	kv_add(&flamed->message, "ack", "1");
	if (request->withdrawn)
		kv_add(&flamed->message, "withdraw", request->put_back ? "2" : "1");
	handle_add_layers(flamed, layers, count);
	return handle_send(flamed, (struct expected){.kind = EXPECT_END,
						     .session = request->session,
						     .epoch = flamed->session[request->session].epoch,
						     .withdrawn = request->withdrawn});
}

void handle_add_layers(struct flamed *flamed, const struct flamed_layer *layers, size_t count)
{
	struct kv_out *message = &flamed->message;
	char key[24] = "layers", text[LINE_BYTES_MAX - 64];
	size_t len = 0, line = 0, mark = message->len;

	if (count && *flamed->layer_source)
		kv_add(message, "layer_source", "%s", flamed->layer_source);
	for (size_t i = 0; i < count; i++) {
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%llu:%llu%s", len ? "," : "",
					(unsigned long long)layers[i].cpu_ns, (unsigned long long)layers[i].gpu_ns,
					layers[i].sync ? ":s" : "");
		if (len + 64 < sizeof(text) && i + 1 < count)
			continue;
		kv_add(message, key, "%s", text);
		snprintf(key, sizeof(key), "layers.%zu", ++line);
		len = 0;
	}
	if (message->len >= MESSAGE_BYTES_MAX - 1)
		message->len = mark;
}

void request_drop(struct client_request *request)
{
	free(request->layers);
	request->layers = NULL;
	request->layer_count = 0;
	request->state = REQUEST_FREE;
}

static struct client_session *reply_session(struct flamed *flamed, const struct expected *expected)
{
	struct client_session *session = &flamed->session[expected->session];

	return session->used && session->epoch == expected->epoch ? session : NULL;
}

static enum flamed_state surface_state(const char *name)
{
	if (name && strcmp(name, "ready") == 0)
		return FLAMED_READY;
	return name && strcmp(name, "none") != 0 ? FLAMED_LEARNING : FLAMED_NONE;
}

void session_opened(struct flamed *flamed, const struct expected *expected, int error)
{
	struct client_session *session = reply_session(flamed, expected);
	uint64_t id = wire_u64(&flamed->wire, "session", 0);

	if (!session) { /* closed before it was opened */
		if (error == 0)
			send_close(flamed, id);
		return;
	}
	session->open = error ? SESSION_REFUSED : SESSION_OPEN;
	session->error = error;
	session->retry_ns = error ? handle_retry_ns(session->retry_ns) : 0;
	session->retry_at_ns = clock_now_ns() + session->retry_ns;
	session->id = id;
	session->served_deadline_ns = wire_u64(&flamed->wire, "deadline_ns", 0);
	session->served_rate_mhz = wire_u64(&flamed->wire, "rate_mhz", 0);
	session->state = surface_state(kv_get(&flamed->wire.reply, "surface"));
}

static struct client_request *find_request(struct flamed *flamed, int64_t serial)
{
	for (int i = 0; i < HANDLE_REQUESTS_MAX; i++)
		if (flamed->request[i].state != REQUEST_FREE && flamed->request[i].serial == serial)
			return &flamed->request[i];
	return NULL;
}

void request_begun(struct flamed *flamed, int64_t serial, int error)
{
	struct client_request *request = find_request(flamed, serial);
	bool ending;

	if (!request)
		return;
	ending = request->state == REQUEST_ENDING;
	request->error = error;
	request->id = wire_u64(&flamed->wire, "request", 0);
	request->decision = (struct flamed_decision){
		.applied = request->waited,
		.feasible = wire_u64(&flamed->wire, "feasible", 0) != 0,
		.cpu_hz = wire_u64(&flamed->wire, "cpu_hz", 0),
		.gpu_hz = wire_u64(&flamed->wire, "gpu_hz", 0),
		.mem_hz = wire_u64(&flamed->wire, "mem_hz", 0),
		.predicted_ns = wire_u64(&flamed->wire, "predicted_ns", 0),
		.bound_ns = wire_u64(&flamed->wire, "bound_ns", 0),
		.settle_ns = wire_u64(&flamed->wire, "settle_ns", 0),
	};
	if (!ending) {
		request->state = error ? REQUEST_REFUSED : REQUEST_KNOWN;
		return;
	}
	if (!error)
		send_end(flamed, request, request->layers, request->layer_count);
	request_drop(request);
}

void request_ended(struct flamed *flamed, const struct expected *expected, int error)
{
	struct client_session *session = reply_session(flamed, expected);

	if (!session || error || expected->withdrawn)
		return;
	session->ended++;
	session->missed += wire_u64(&flamed->wire, "missed", 0) != 0;
}

/* The session with this number, or NULL with the error to return. */
static struct client_session *session_of(struct flamed *flamed, int number, int *error)
{
	*error = number < 0 ? number : -ENOENT;
	if (number < 0 || number >= HANDLE_SESSIONS_MAX || !flamed->session[number].used)
		return NULL;
	return &flamed->session[number];
}

static int new_session(struct flamed *flamed, const char *model)
{
	for (int i = 0; i < HANDLE_SESSIONS_MAX; i++) {
		struct client_session *session = &flamed->session[i];

		if (session->used)
			continue;
		*session = (struct client_session){.used = true, .epoch = session->epoch + 1};
		snprintf(session->model, sizeof(session->model), "%s", model);
		return i;
	}
	return -ENOSPC;
}

/* Send op=open unless that was done, again where it was refused a while ago, and wait for the reply. */
static int await_open(struct flamed *flamed, struct client_session *session, int number, uint64_t until_ns)
{
	uint32_t epoch = session->epoch;
	int rc = handle_refresh(flamed);

	if (session->open == SESSION_REFUSED && clock_now_ns() >= session->retry_at_ns)
		session->open = SESSION_CLOSED;
	while (rc == 0 && session->used && session->epoch == epoch) {
		if (session->open == SESSION_OPEN)
			return 0;
		if (session->open == SESSION_REFUSED)
			return session->error;
		rc = session->open == SESSION_CLOSED ? send_open(flamed, number) : handle_wait(flamed, until_ns);
	}
	return rc;
}

/* A number in [min, max] from the environment (flamectl run); otherwise 0. */
static uint64_t environment_u64(const char *name, uint64_t min, uint64_t max)
{
	const char *text = secure_getenv(name);
	uint64_t value;

	if (!text || parse_u64(text, &value) < 0 || value < min || value > max)
		return 0;
	return value;
}

static int open_session(struct flamed *flamed, const char *model, struct client_session wanted, uint64_t timeout_ns)
{
	const char *profile = secure_getenv("FLAMED_PROFILE");
	struct client_session *session;
	int number, rc;

	if (!model)
		model = secure_getenv("FLAMED_MODEL");
	if (!model || !model_name_valid(model))
		return -EINVAL;
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	number = new_session(flamed, model);
	if (number >= 0) {
		session = &flamed->session[number];
		session->deadline_ns = wanted.deadline_ns;
		session->rate_mhz = wanted.rate_mhz;
		session->first_ns = wanted.first_ns;
		rc = await_open(flamed, session, number, clock_now_ns() + timeout_ns);
		if (session->open == SESSION_REFUSED) {
			session->used = false;
			number = rc;
		} else if (profile && *profile && strcmp(profile, "0") != 0 && flamed->profile.session < 0) {
			flamed->profile.session = number;
		}
	}
	handle_leave(flamed);
	return number;
}

/* Fill in missing values from the environment; 0 if it does not set them either. */
static void stream_defaults(struct client_session *wanted)
{
	if (wanted->rate_mhz == 0)
		wanted->rate_mhz = environment_u64("FLAMED_RATE_MHZ", 1, RATE_MHZ_MAX);
	if (wanted->rate_mhz && wanted->first_ns == 0)
		wanted->first_ns = environment_u64("FLAMED_FIRST_NS", DEADLINE_NS_MIN, DEADLINE_NS_MAX);
}

/* 0: none, or the default. */
static bool deadline_valid(uint64_t deadline_ns)
{
	return deadline_ns == 0 || (deadline_ns >= DEADLINE_NS_MIN && deadline_ns <= DEADLINE_NS_MAX);
}

int flamed_session(struct flamed *flamed, const char *model, uint64_t deadline_ns, uint64_t timeout_ns)
{
	struct client_session wanted = {.deadline_ns = deadline_ns};

	if (!deadline_valid(deadline_ns))
		return -EINVAL;
	if (deadline_ns == 0)
		stream_defaults(&wanted);
	if (deadline_ns == 0 && wanted.rate_mhz == 0)
		wanted.deadline_ns = environment_u64("FLAMED_DEADLINE_NS", DEADLINE_NS_MIN, DEADLINE_NS_MAX);
	return open_session(flamed, model, wanted, timeout_ns);
}

int flamed_stream(struct flamed *flamed, const char *model, uint64_t rate_mhz, uint64_t first_ns, uint64_t timeout_ns)
{
	struct client_session wanted = {.rate_mhz = rate_mhz, .first_ns = first_ns};

	if (rate_mhz > RATE_MHZ_MAX || !deadline_valid(first_ns))
		return -EINVAL;
	stream_defaults(&wanted);
	if (wanted.rate_mhz == 0)
		return -EINVAL;
	return open_session(flamed, model, wanted, timeout_ns);
}

/* By its own rate, or by that of the model in flamed.conf. */
static bool is_stream(const struct client_session *session)
{
	return session->rate_mhz || session->served_rate_mhz;
}

int flamed_stream_start(struct flamed *flamed, int number)
{
	struct client_session *session;
	int rc;

	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	session = session_of(flamed, number, &rc);
	if (session) {
		rc = is_stream(session) ? 0 : -EINVAL;
		session->restart = rc == 0;
	}
	handle_leave(flamed);
	return rc;
}

int flamed_session_close(struct flamed *flamed, int number)
{
	struct client_session *session;
	int rc;

	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	session = session_of(flamed, number, &rc);
	if (session) {
		rc = 0;
		handle_refresh(flamed);
		handle_settle(flamed, SETTLE_NS);
		if (session->open == SESSION_OPEN)
			send_close(flamed, session->id);
		for (int i = 0; i < HANDLE_REQUESTS_MAX; i++)
			if (flamed->request[i].session == number)
				request_drop(&flamed->request[i]);
		if (flamed->profile.session == number) {
			profile_drop(flamed);
			flamed->profile.session = -1;
		}
		session->used = false;
	}
	handle_leave(flamed);
	return rc;
}

int flamed_session_state(struct flamed *flamed, int number)
{
	struct client_session *session;
	int rc;

	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	session = session_of(flamed, number, &rc);
	if (session) {
		rc = handle_refresh(flamed);
		if (rc == 0)
			rc = session->open == SESSION_OPEN ? (int)session->state : -EAGAIN;
	}
	handle_leave(flamed);
	return rc;
}

int flamed_session_counts(struct flamed *flamed, int number, uint64_t *ended_out, uint64_t *missed_out)
{
	struct client_session *session;
	int rc;

	if (ended_out)
		*ended_out = 0;
	if (missed_out)
		*missed_out = 0;
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	session = session_of(flamed, number, &rc);
	if (session) {
		rc = 0;
		handle_drain(flamed);
		if (ended_out)
			*ended_out = session->ended;
		if (missed_out)
			*missed_out = session->missed;
	}
	handle_leave(flamed);
	return rc;
}

int flamed_phase(struct flamed *flamed, int number, const char *name, uint32_t context)
{
	struct client_session *session;
	enum phase phase;
	int rc;

	if (!name || phase_parse(name, &phase) < 0 || context > CONTEXT_TOKENS_MAX)
		return -EINVAL;
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	session = session_of(flamed, number, &rc);
	if (session) {
		session->phase = phase;
		session->context = context;
		rc = 0;
	}
	handle_leave(flamed);
	return rc;
}

int flamed_layer_source(struct flamed *flamed, const char *source)
{
	size_t len = source ? strspn(source, "abcdefghijklmnopqrstuvwxyz") : 0;

	if (!source || source[len] || len > LAYER_SOURCE_MAX)
		return -EINVAL;
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	memcpy(flamed->layer_source, source, len + 1);
	handle_leave(flamed);
	return 0;
}

/* A free request, else the oldest one that was replied to but never ended, which has expired at the daemon. NULL
 * when all wait for replies. */
struct client_request *handle_new_request(struct flamed *flamed, int session)
{
	struct client_request *best = NULL;

	for (int i = 0; i < HANDLE_REQUESTS_MAX; i++) {
		struct client_request *request = &flamed->request[i];

		if (request->state == REQUEST_FREE) {
			best = request;
			break;
		}
		if (request->state != REQUEST_SENT && request->state != REQUEST_ENDING &&
		    (!best || request->serial < best->serial))
			best = request;
	}
	if (best)
		*best = (struct client_request){.serial = ++flamed->serial,
						.session = session,
						.begin_ns = clock_now_ns()};
	return best;
}

/* Begins of a session that were not replied to, so that no end of theirs was sent. */
static size_t unanswered(const struct flamed *flamed, int session)
{
	size_t count = 0;

	for (int i = 0; i < HANDLE_REQUESTS_MAX; i++)
		count += flamed->request[i].session == session &&
			 (flamed->request[i].state == REQUEST_SENT || flamed->request[i].state == REQUEST_ENDING);
	return count;
}

static int64_t send_begin(struct flamed *flamed, int number, uint64_t deadline_ns, bool wait)
{
	struct client_session *session = &flamed->session[number];
	struct client_request *request = NULL;
	int rc;

	/* The daemon would refuse one more. Room is kept for the end of every request. */
	if (unanswered(flamed, number) < REQUESTS_PER_SESSION_MAX &&
	    flamed->expected_count < HANDLE_EXPECTED_MAX - 2 * HANDLE_REQUESTS_MAX)
		request = handle_new_request(flamed, number);
	if (!request)
		return -EAGAIN;
	handle_message(flamed, "begin");
	kv_add_u64(&flamed->message, "session", session->id);
	if (deadline_ns)
		kv_add_u64(&flamed->message, "deadline_ns", deadline_ns);
	if (session->restart)
		kv_add(&flamed->message, "stream", "1");
	if (session->phase != PHASE_RUN) {
		kv_add(&flamed->message, "phase", "%s", phase_name(session->phase));
		kv_add_u64(&flamed->message, "context", session->context);
	}
	if (wait)
		kv_add(&flamed->message, "wait", "1");
	rc = handle_send(flamed, (struct expected){.kind = EXPECT_BEGIN, .request = request->serial});
	if (rc < 0) {
		request->state = REQUEST_FREE;
		return rc;
	}
	session->restart = false;
	request->state = REQUEST_SENT;
	request->waited = wait;
	return request->serial;
}

static int64_t begin(struct flamed *flamed, int number, uint64_t deadline_ns, bool wait, uint64_t until_ns)
{
	struct client_session *session;
	int rc;

	session = session_of(flamed, number, &rc);
	if (!session)
		return rc;
	if (flamed->profile.session == number && flamed->profile.state != PROFILE_DONE)
		return profile_begin(flamed, number);
	if (deadline_ns == 0)
		deadline_ns = session->deadline_ns;
	if (!deadline_valid(deadline_ns))
		return -EINVAL;
	rc = await_open(flamed, session, number, until_ns);
	if (rc < 0)
		return rc == -ETIMEDOUT ? -EAGAIN : rc;
	if (deadline_ns == 0)
		deadline_ns = session->served_deadline_ns;
	if (deadline_ns == 0 && !is_stream(session))
		return -EINVAL;
	return send_begin(flamed, number, deadline_ns, wait);
}

int64_t flamed_begin(struct flamed *flamed, int session, uint64_t deadline_ns)
{
	int64_t rc;

	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	rc = begin(flamed, session, deadline_ns, false, 0);
	handle_leave(flamed);
	return rc;
}

int64_t flamed_begin_wait(struct flamed *flamed, int session, uint64_t deadline_ns, uint64_t timeout_ns,
			  struct flamed_decision *decision)
{
	uint64_t until_ns = clock_now_ns() + timeout_ns;
	struct client_request *request;
	int64_t serial;

	if (decision)
		memset(decision, 0, sizeof(*decision));
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	serial = begin(flamed, session, deadline_ns, true, until_ns);
	while (serial > 0) {
		request = find_request(flamed, serial);
		if (!request) {
			serial = -ENOTCONN; /* lost with the connection */
		} else if (request->state == REQUEST_REFUSED) {
			serial = request->error;
			request->state = REQUEST_FREE;
		} else if (request->state == REQUEST_SENT && handle_wait(flamed, until_ns) != -ETIMEDOUT) {
			continue;
		} else if (request->state == REQUEST_KNOWN && decision) {
			*decision = request->decision;
		}
		break;
	}
	handle_leave(flamed);
	return serial;
}

int flamed_decision(struct flamed *flamed, int64_t serial, struct flamed_decision *decision)
{
	struct client_request *request;
	int rc = -ENOENT;

	memset(decision, 0, sizeof(*decision));
	if (serial < 0)
		return (int)serial;
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	handle_drain(flamed);
	request = find_request(flamed, serial);
	if (request && request->state == REQUEST_KNOWN) {
		*decision = request->decision;
		rc = 0;
	} else if (request && request->state == REQUEST_REFUSED) {
		rc = request->error;
	} else if (request) {
		rc = -EAGAIN;
	}
	handle_leave(flamed);
	return rc;
}

static int end(struct flamed *flamed, struct client_request *request, const struct flamed_layer *layers, size_t count)
{
	switch (request->state) {
	case REQUEST_LOCAL:
		request->state = REQUEST_FREE;
		if (!request->withdrawn)
			profile_end(flamed, request, request->total_ns, layers, count);
		return 0;
	case REQUEST_KNOWN: return send_end(flamed, request, layers, count);
	case REQUEST_SENT:
		request->layers = handle_copy_layers(layers, count);
		request->layer_count = request->layers ? count : 0;
		request->state = REQUEST_ENDING;
		return 0;
	case REQUEST_REFUSED: request->state = REQUEST_FREE; return request->error;
	case REQUEST_FREE:
	case REQUEST_ENDING: break;
	}
	return -ENOENT;
}

static int end_request(struct flamed *flamed, int64_t serial, uint64_t total_ns, const struct flamed_layer *layers,
		       size_t count, bool withdrawn, bool put_back)
{
	uint64_t now_ns = clock_now_ns();
	struct client_request *request;
	int rc = -ENOENT;

	if (serial < 0)
		return (int)serial;
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	handle_drain(flamed);
	request = find_request(flamed, serial);
	if (request) {
		request->total_ns = total_ns ? total_ns : now_ns - request->begin_ns;
		request->withdrawn = withdrawn;
		request->put_back = put_back;
		rc = end(flamed, request, layers, count);
	}
	handle_leave(flamed);
	return rc;
}

int flamed_end_layers(struct flamed *flamed, int64_t request, uint64_t total_ns, const struct flamed_layer *layers,
		      size_t count)
{
	return end_request(flamed, request, total_ns, layers, count, false, false);
}

int flamed_withdraw(struct flamed *flamed, int64_t request)
{
	return end_request(flamed, request, 0, NULL, 0, true, false);
}

int flamed_put_back(struct flamed *flamed, int64_t request)
{
	return end_request(flamed, request, 0, NULL, 0, true, true);
}

int flamed_end(struct flamed *flamed, int64_t request, uint64_t total_ns)
{
	return flamed_end_layers(flamed, request, total_ns, NULL, 0);
}
