/* SPDX-License-Identifier: MIT */
/* One thread's dialogue with flamed: deadline requests, or profiling. */
#include "layer.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../client/flamed.h"
#include "../../common/clock.h"

#define LAYERS_FIRST   8  /* inferences whose layers are sent at once ... */
#define LAYERS_EVERY   16 /* ... and later one in so many */
#define OPEN_WAIT_NS   (300 * NS_PER_MS)
#define PROFILE_WAIT_NS (120 * NS_PER_S) /* a deadline session elsewhere may hold a point up */
#define PAUSE_NS       (100 * NS_PER_MS)
#define REPEAT_MAX     256 /* inferences measured at a point */
#define MODELS_OF_SESSION 8 /* shapes of one program with a session of their own */

struct session {
	pthread_mutex_t lock;
	bool stopped;
	uint64_t main;          /* fingerprint of the shape that bears the user's name */
	uint64_t inferences;
	struct {
		uint64_t fingerprint;
		int id; /* of libflamed; < 0: refused */
	} model[MODELS_OF_SESSION];
	size_t models, current;
	struct flamed *profiling; /* a handle of its own */
	struct flamed_point point;
	uint32_t left;          /* inferences still to run here */
	bool warm;              /* the first one at a point is not counted */
	bool measured;          /* all of them are; the sample is not sent yet */
	uint32_t n;
	uint64_t total_ns[REPEAT_MAX];
	struct flamed_layer *layers;
	size_t layer_count;
};

/* One connection for all deadline sessions of the process. */
static struct flamed *shared;
static pthread_once_t shared_once = PTHREAD_ONCE_INIT;

static void open_shared(void)
{
	int rc = flamed_open(&shared, NULL);

	if (rc < 0)
		layer_say("no connection to flamed: %s; the program runs without deadlines", strerror(-rc));
	else if (!flamed_connected(shared))
		layer_say("flamed is not running; the program runs without deadlines until it is");
}

struct session *session_new(void)
{
	struct session *session = calloc(1, sizeof(*session));

	if (session)
		pthread_mutex_init(&session->lock, NULL);
	return session;
}

/* Under the session's lock. */
static void leave(struct session *session)
{
	for (size_t i = 0; i < session->models; i++)
		flamed_session_close(shared, session->model[i].id);
	session->models = 0;
	flamed_close(session->profiling);
	session->profiling = NULL;
	free(session->layers);
	session->layers = NULL;
	session->layer_count = 0;
	session->stopped = true;
}

void session_stop(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	leave(session);
	pthread_mutex_unlock(&session->lock);
}

void session_leave(struct session *session)
{
	if (pthread_mutex_trylock(&session->lock) != 0)
		return;
	leave(session);
	pthread_mutex_unlock(&session->lock);
}

void session_reset(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	leave(session);
	session->main = session->inferences = 0;
	session->stopped = false;
	pthread_mutex_unlock(&session->lock);
}

/* The first shape bears the name the user gave, others that name and their
 * fingerprint; without a name the fingerprint is the name. */
static void name_of(const struct session *session, uint64_t fingerprint, char name[MODEL_NAME_MAX + 1])
{
	const char *given = layer.config.model;

	if (given[0] && fingerprint == session->main)
		snprintf(name, MODEL_NAME_MAX + 1, "%s", given);
	else if (given[0])
		snprintf(name, MODEL_NAME_MAX + 1, "%.55s.%08x", given, (unsigned)(fingerprint >> 32));
	else
		snprintf(name, MODEL_NAME_MAX + 1, "opencl-%016llx", (unsigned long long)fingerprint);
}

/* Index of the session for a shape, opened if need be; -1: none to be had. */
static int model_index(struct session *session, uint64_t fingerprint)
{
	char name[MODEL_NAME_MAX + 1];
	size_t i = 0;
	int id;

	while (i < session->models && session->model[i].fingerprint != fingerprint)
		i++;
	if (i < session->models)
		return (int)i;
	if (i == MODELS_OF_SESSION)
		return -1;
	name_of(session, fingerprint, name);
	id = flamed_session(shared, name, layer.config.deadline_ns, OPEN_WAIT_NS);
	if (id < 0 && id != -ENOTCONN)
		layer_say("flamed refuses a session for model %s: %s", name, strerror(-id));
	session->model[i].fingerprint = fingerprint;
	session->model[i].id = id;
	session->models++;
	summary_model(name);
	return (int)i;
}

void session_found(struct session *session, uint64_t fingerprint)
{
	pthread_mutex_lock(&session->lock);
	if (!session->stopped) {
		if (!session->main)
			session->main = fingerprint;
		if (layer.config.deadline_ns && !layer.config.profile) {
			pthread_once(&shared_once, open_shared);
			model_index(session, fingerprint);
		}
	}
	pthread_mutex_unlock(&session->lock);
}

/* Profiling is over, well or not; the program goes on unmeasured. */
static void end_profile(struct session *session, int rc)
{
	flamed_close(session->profiling);
	session->profiling = NULL;
	session->stopped = true;
	if (rc < 0)
		layer_say("profiling ended: %s", strerror(-rc));
	summary_done(rc);
}

/* rc is an answer with the next point. Waits while deadlines are served. */
static void take_point(struct session *session, int rc)
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

/* The median: one inference that something else held up says nothing of the
 * operating point. */
static struct flamed_measurement sum_up(uint64_t *total_ns, uint32_t n)
{
	struct flamed_measurement measured = { .n = n };
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

static void send_sample(struct session *session)
{
	struct flamed_measurement measured = sum_up(session->total_ns, session->n);

	measured.layers = session->layer_count ? session->layers : NULL;
	measured.layer_count = session->layer_count;
	take_point(session, flamed_profile_sample(session->profiling, &measured, PROFILE_WAIT_NS, &session->point));
}

static void begin_profile(struct session *session, uint64_t fingerprint)
{
	char name[MODEL_NAME_MAX + 1];
	int rc;

	if (session->profiling && session->measured)
		send_sample(session);
	if (session->profiling || session->stopped || fingerprint != session->main)
		return; /* other shapes are not measured in the same run */
	rc = flamed_open(&session->profiling, NULL);
	if (rc == 0) {
		name_of(session, fingerprint, name);
		summary_model(name);
		rc = flamed_profile_open(session->profiling, name, NULL, 0, layer.config.budget, PROFILE_WAIT_NS, &session->point);
	}
	take_point(session, rc);
}

int64_t session_begin(struct session *session, uint64_t fingerprint, uint64_t spent_ns, bool *layers)
{
	int64_t request = -ENOTCONN;
	int index;

	pthread_mutex_lock(&session->lock);
	*layers = layer.config.trace != NULL;
	if (!session->stopped && layer.config.profile) {
		begin_profile(session, fingerprint);
		*layers |= !session->stopped;
		request = fingerprint == session->main ? 0 : -ENOTCONN;
	} else if (!session->stopped && layer.config.deadline_ns) {
		pthread_once(&shared_once, open_shared);
		index = model_index(session, fingerprint);
		if (index >= 0) {
			session->current = (size_t)index;
			request = flamed_begin(shared, session->model[index].id, layer.config.deadline_ns - spent_ns);
		}
		*layers |= request > 0 && (session->inferences < LAYERS_FIRST || session->inferences % LAYERS_EVERY == 0);
		session->inferences++;
	}
	pthread_mutex_unlock(&session->lock);
	return request;
}

static void keep_layers(struct session *session, const struct flamed_layer *layers, size_t count)
{
	struct flamed_layer *copy = count ? reallocarray(session->layers, count, sizeof(*copy)) : NULL;

	if (!copy)
		return;
	memcpy(copy, layers, count * sizeof(*copy));
	session->layers = copy;
	session->layer_count = count;
}

static void end_sample(struct session *session, uint64_t total_ns, const struct flamed_layer *layers, size_t count, bool may_block)
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

void session_end(struct session *session, int64_t request, uint64_t total_ns, const struct flamed_layer *layers, size_t count, bool may_block)
{
	struct flamed_decision decision;

	pthread_mutex_lock(&session->lock);
	if (session->profiling) {
		if (request == 0)
			end_sample(session, total_ns, layers, count, may_block);
	} else if (request > 0) {
		if (flamed_decision(shared, request, &decision) == 0)
			summary_point(decision.cpu_hz, decision.gpu_hz, decision.mem_hz);
		if (count > 0)
			flamed_end_layers(shared, request, total_ns, layers, count);
		else
			flamed_end(shared, request, total_ns);
	}
	summary_inference(total_ns, layer.config.deadline_ns && total_ns > layer.config.deadline_ns);
	pthread_mutex_unlock(&session->lock);
}

/* The protocol knows no way to take a request back but closing its session. */
void session_cancel(struct session *session, int64_t request)
{
	pthread_mutex_lock(&session->lock);
	if (request > 0 && session->current < session->models) {
		flamed_session_close(shared, session->model[session->current].id);
		session->model[session->current] = session->model[--session->models];
		session->current = MODELS_OF_SESSION;
	}
	pthread_mutex_unlock(&session->lock);
}
