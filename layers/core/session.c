/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../common/clock.h"
#include "../../lib/flamed.h"
#include "core.h"
#include "summary.h"

#define LAYERS_FIRST      8  /* inferences whose layers are sent, at first */
#define LAYERS_EVERY      16 /* and later one in this many */
#define OPEN_WAIT_NS      (300 * NS_PER_MS)
#define OPEN_PAUSE_NS     (5 * NS_PER_S)   /* after a wait for a session in vain: how long no other one is waited for */
#define PROFILE_WAIT_NS   (120 * NS_PER_S) /* a deadline session of another program may delay a point */
#define PAUSE_NS          (100 * NS_PER_MS)
#define REPEAT_MAX        256 /* inferences measured at one point */
#define MODELS_OF_SESSION 8   /* shapes of one program with their own session at a time */

struct layer_session {
	pthread_mutex_t lock;
	bool stopped;
	uint64_t main; /* fingerprint of the shape with the user's model name */
	uint64_t inferences;
	struct {
		uint64_t fingerprint;
		int id;        /* of libflamed; negative: refused */
		uint64_t used; /* number of its newest inference */
		/* of a stream: until then a prompt is a further part of the newest one; 0: the newest inference was no
		 * prompt */
		uint64_t prompt_until_ns;
	} model[MODELS_OF_SESSION];
	size_t models;
	int newest;               /* of a stream: libflamed's session of its newest inference; -1: there is none */
	struct flamed *profiling; /* a separate handle */
	struct flamed_point point;
	uint32_t left; /* inferences still to run at this point */
	bool warm;     /* the first inference at a point is not counted */
	bool measured; /* all inferences ran; the sample is not sent yet */
	uint32_t n;
	uint64_t total_ns[REPEAT_MAX];
	struct flamed_layer *layers;
	size_t layer_count;
};

/* One connection for all deadline sessions of the process. */
static struct flamed *shared;
static pthread_once_t shared_once = PTHREAD_ONCE_INIT;
static atomic_bool absent; /* flamed does not serve this process, and a message said so */
static atomic_bool refused_told;
static _Atomic uint64_t open_wait_from_ns; /* until then sessions are opened without waiting for the reply */

static void open_shared(void)
{
	int rc = core_connect(&shared);

	if (flamed_connected(shared))
		return;
	atomic_store(&absent, true);
	if (rc < 0)
		layer_say("no connection to flamed: %s; the program runs without deadlines", strerror(-rc));
	else
		layer_say("flamed is not running; the program runs without deadlines until it is");
}

/* A session was opened, but not confirmed, or a request cannot begin. */
static void say_unanswered(void)
{
	if (atomic_exchange(&absent, true))
		return;
	if (flamed_connected(shared))
		layer_say("flamed does not answer; the program runs without deadlines until it does");
	else
		layer_say("the connection to flamed broke; the program runs without deadlines until there is one");
}

struct layer_session *session_new(void)
{
	struct layer_session *session = calloc(1, sizeof(*session));

	if (session) {
		pthread_mutex_init(&session->lock, NULL);
		session->newest = -1;
	}
	return session;
}

/* The caller holds the session's lock. */
static void leave(struct layer_session *session)
{
	for (size_t i = 0; i < session->models; i++)
		flamed_session_close(shared, session->model[i].id);
	session->models = 0;
	core_disconnect(session->profiling);
	session->profiling = NULL;
	free(session->layers);
	session->layers = NULL;
	session->layer_count = 0;
	session->stopped = true;
}

void session_stop(struct layer_session *session)
{
	pthread_mutex_lock(&session->lock);
	leave(session);
	pthread_mutex_unlock(&session->lock);
}

void session_leave(struct layer_session *session)
{
	if (pthread_mutex_trylock(&session->lock) != 0)
		return;
	leave(session);
	pthread_mutex_unlock(&session->lock);
}

void session_reset(struct layer_session *session)
{
	pthread_mutex_lock(&session->lock);
	leave(session);
	session->main = session->inferences = 0;
	session->newest = -1;
	session->stopped = false;
	pthread_mutex_unlock(&session->lock);
}

/* The first shape has the name given by the user, further ones that name and their fingerprint.
 * Without a name, the fingerprint is the name. */
static void name_of(const struct layer_session *session, uint64_t fingerprint, char name[MODEL_NAME_MAX + 1])
{
	const char *given = core.config.model;

	if (given[0] && fingerprint == session->main)
		snprintf(name, MODEL_NAME_MAX + 1, "%s", given);
	else if (given[0])
		snprintf(name, MODEL_NAME_MAX + 1, "%.55s.%08x", given, (unsigned)(fingerprint >> 32));
	else
		snprintf(name, MODEL_NAME_MAX + 1, "%.40s-%016llx", core.backend->name,
			 (unsigned long long)fingerprint);
}

/* Are inferences reported as requests? */
static bool governed(void)
{
	return core.config.deadline_ns || core.config.rate_mhz;
}

/* A place for the session of another shape: if there is no free one, that of the shape used longest ago. */
static size_t make_room(struct layer_session *session)
{
	size_t oldest = 0;

	if (session->models < MODELS_OF_SESSION)
		return session->models++;
	for (size_t i = 1; i < MODELS_OF_SESSION; i++)
		if (session->model[i].used < session->model[oldest].used)
			oldest = i;
	flamed_session_close(shared, session->model[oldest].id);
	return oldest;
}

/* The session of libflamed for a shape, opened if necessary; negative: refused. */
static int model_session(struct layer_session *session, uint64_t fingerprint)
{
	char name[MODEL_NAME_MAX + 1];
	bool waits, failed;
	size_t i = 0;
	int id;

	while (i < session->models && session->model[i].fingerprint != fingerprint)
		i++;
	if (i < session->models) {
		session->model[i].used = session->inferences;
		return session->model[i].id;
	}
	i = make_room(session);
	name_of(session, fingerprint, name);
	waits = clock_now_ns() >= atomic_load(&open_wait_from_ns);
	id = flamed_session(shared, name, core.config.deadline_ns, waits ? OPEN_WAIT_NS : 0);
	failed = id < 0 ? id != -ENOTCONN : flamed_session_state(shared, id) < 0;
	if (failed && waits && flamed_connected(shared))
		atomic_store(&open_wait_from_ns, clock_now_ns() + OPEN_PAUSE_NS);
	if (failed && id < 0) {
		if (!atomic_exchange(&refused_told, true))
			layer_say("flamed refuses a session for model %s: %s", name, strerror(-id));
		id = flamed_session(shared, name, core.config.deadline_ns, 0); /* one that later requests try to open */
	} else if (failed && waits) {
		say_unanswered();
	}
	session->model[i].fingerprint = fingerprint;
	session->model[i].id = id;
	session->model[i].used = session->inferences;
	session->model[i].prompt_until_ns = 0;
	summary_model(name);
	return id;
}

void session_found(struct layer_session *session, uint64_t fingerprint)
{
	pthread_mutex_lock(&session->lock);
	if (!session->stopped) {
		char name[MODEL_NAME_MAX + 1];

		if (!session->main)
			session->main = fingerprint;
		name_of(session, fingerprint, name);
		summary_model(name);
		if (governed() && !core.config.profile) {
			pthread_once(&shared_once, open_shared);
			model_session(session, fingerprint);
		}
	}
	pthread_mutex_unlock(&session->lock);
}

/* Profiling ended, with or without an error; the program continues unmeasured. */
static void end_profile(struct layer_session *session, int rc)
{
	core_disconnect(session->profiling);
	session->profiling = NULL;
	session->stopped = true;
	if (rc < 0)
		layer_say("profiling ended: %s", strerror(-rc));
	summary_done(rc);
}

/* `rc` is the result of a call that returned the next point. Waits while deadlines are served
 * elsewhere. */
static void take_point(struct layer_session *session, int rc)
{
	while (rc == -EAGAIN) {
		clock_sleep_ns(PAUSE_NS);
		rc = flamed_profile_sample(session->profiling, NULL, PROFILE_WAIT_NS, &session->point);
	}
	if (rc <= 0) {
		end_profile(session, rc);
		return;
	}
	session->left = session->point.repeat ? session->point.repeat : 1;
	session->left = session->left < REPEAT_MAX ? session->left : REPEAT_MAX;
	session->warm = session->measured = false;
	session->n = 0;
	session->layer_count = 0;
	summary_point(session->point.cpu_hz, session->point.gpu_hz, session->point.mem_hz);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The median: a single inference that was delayed by other load does not belong to the operating point. */
static struct flamed_measurement sum_up(uint64_t *total_ns, uint32_t n)
{
	struct flamed_measurement measured = {.n = n};
	double sum = 0, squares = 0;

	qsort(total_ns, n, sizeof(*total_ns), by_value);
	measured.latency_ns = total_ns[n / 2];
	measured.max_ns = total_ns[n - 1];
	for (uint32_t i = 0; i < n; i++)
		sum += (double)total_ns[i];
	for (uint32_t i = 0; i < n; i++)
		squares += ((double)total_ns[i] - sum / n) * ((double)total_ns[i] - sum / n);
	measured.sd_ns = n > 1 ? (uint64_t)sqrt(squares / (n - 1)) : 0;
	return measured;
}

static void say_source(struct flamed *flamed)
{
	if (core.backend->source)
		flamed_layer_source(flamed, core.backend->source());
}

static void send_sample(struct layer_session *session)
{
	struct flamed_measurement measured = sum_up(session->total_ns, session->n);

	measured.layers = session->layer_count ? session->layers : NULL;
	measured.layer_count = session->layer_count;
	if (session->layer_count)
		say_source(session->profiling);
	take_point(session, flamed_profile_sample(session->profiling, &measured, PROFILE_WAIT_NS, &session->point));
}

static void begin_profile(struct layer_session *session, const struct inference *inference)
{
	char name[MODEL_NAME_MAX + 1];
	int rc;

	if (session->profiling && session->measured)
		send_sample(session);
	if (session->profiling || session->stopped || inference->fingerprint != session->main ||
	    inference->phase == PHASE_PREFILL)
		return; /* other shapes are not measured in the same run */
	rc = core_connect(&session->profiling);
	if (rc == 0) {
		name_of(session, inference->fingerprint, name);
		summary_model(name);
		rc = flamed_profile_open(session->profiling, name, phase_name(inference->phase), inference->context,
					 core.config.budget, PROFILE_WAIT_NS, &session->point);
	}
	take_point(session, rc);
}

/* Of the model with libflamed's session `id`; NULL: there is none. */
static uint64_t *prompt_until(struct layer_session *session, int id)
{
	for (size_t i = 0; i < session->models; i++)
		if (session->model[i].id == id)
			return &session->model[i].prompt_until_ns;
	return NULL;
}

/* A prompt starts the stream, unless it is a further part of the newest prompt: engines compute a long one in several
 * steps, which follow one another at once. After a pause of a token's time it is another prompt. A token that follows
 * an inference of another shape starts its own shape's stream, whose schedule went on meanwhile. */
static int64_t begin_stream(struct layer_session *session, int id, enum phase phase)
{
	uint64_t *until_ns = prompt_until(session, id);
	bool prompt = phase == PHASE_PREFILL, other = session->newest >= 0 && session->newest != id;
	int64_t request;

	if (prompt ? until_ns && clock_now_ns() >= *until_ns : phase == PHASE_DECODE && other)
		flamed_stream_start(shared, id);
	session->newest = id;
	request = flamed_begin(shared, id, 0);
	if (until_ns)
		*until_ns = prompt && request > 0 ? UINT64_MAX : 0;
	return request;
}

/* A request of the stream ended; a newer one may have begun. */
static void end_stream(struct layer_session *session, int id)
{
	uint64_t *until_ns = prompt_until(session, id);

	if (core.config.rate_mhz && until_ns && *until_ns)
		*until_ns = clock_now_ns() + MHZ_NS / core.config.rate_mhz;
}

struct session_request session_begin(struct layer_session *session, const struct inference *inference,
				     uint64_t spent_ns, bool *layers)
{
	struct session_request request = {-ENOTCONN, -1};

	pthread_mutex_lock(&session->lock);
	*layers = core.config.trace != NULL;
	if (!session->stopped && core.config.profile) {
		bool measured = inference->fingerprint == session->main && inference->phase != PHASE_PREFILL;

		begin_profile(session, inference);
		*layers |= !session->stopped;
		request.id = measured ? 0 : -ENOTCONN;
	} else if (!session->stopped && governed()) {
		pthread_once(&shared_once, open_shared);
		request.session = model_session(session, inference->fingerprint);
		flamed_phase(shared, request.session, phase_name(inference->phase), inference->context);
		if (core.config.rate_mhz)
			request.id = begin_stream(session, request.session, inference->phase);
		else
			request.id = flamed_begin(shared, request.session, core.config.deadline_ns - spent_ns);
		if (request.id == -ENOTCONN)
			say_unanswered();
		*layers |= request.id > 0 &&
			   (session->inferences < LAYERS_FIRST || session->inferences % LAYERS_EVERY == 0);
		session->inferences++;
	}
	pthread_mutex_unlock(&session->lock);
	return request;
}

static void keep_layers(struct layer_session *session, const struct flamed_layer *layers, size_t count)
{
	struct flamed_layer *copy = count ? reallocarray(session->layers, count, sizeof(*copy)) : NULL;

	if (!copy)
		return;
	memcpy(copy, layers, count * sizeof(*copy));
	session->layers = copy;
	session->layer_count = count;
}

static void end_sample(struct layer_session *session, uint64_t total_ns, const struct flamed_layer *layers,
		       size_t count, bool may_block)
{
	if (!session->warm) {
		session->warm = true;
		return;
	}
	session->total_ns[session->n++] = total_ns;
	keep_layers(session, layers, count);
	session->measured = --session->left == 0;
	if (session->measured && may_block)
		send_sample(session);
}

void session_end(struct layer_session *session, struct session_request request, uint64_t total_ns,
		 const struct flamed_layer *layers, size_t count, bool may_block)
{
	struct flamed_decision decision;

	pthread_mutex_lock(&session->lock);
	if (session->profiling) {
		if (request.id == 0)
			end_sample(session, total_ns, layers, count, may_block);
	} else if (request.id > 0) {
		if (flamed_decision(shared, request.id, &decision) == 0)
			summary_point(decision.cpu_hz, decision.gpu_hz, decision.mem_hz);
		if (count > 0)
			say_source(shared);
		if (count > 0)
			flamed_end_layers(shared, request.id, total_ns, layers, count);
		else
			flamed_end(shared, request.id, total_ns);
		end_stream(session, request.session);
	}
	summary_inference(total_ns, core.config.deadline_ns && total_ns > core.config.deadline_ns);
	pthread_mutex_unlock(&session->lock);
}

/* The session and, in a stream, its schedule go on. */
void session_cancel(struct layer_session *session, struct session_request request, bool again)
{
	pthread_mutex_lock(&session->lock);
	if (request.id > 0) {
		if (again)
			flamed_put_back(shared, request.id);
		else
			flamed_withdraw(shared, request.id);
		end_stream(session, request.session);
	}
	pthread_mutex_unlock(&session->lock);
}
