/* SPDX-License-Identifier: MIT */
/* libflamed: profiling through its own functions, or, with $FLAMED_PROFILE set, from the inferences of a session. */
#include "handle.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/clock.h"
#include "../common/units.h"

#define PAUSE_NS      100000000ULL   /* before asking again while a deadline request is served */
#define POINT_WAIT_NS 60000000000ULL /* flamed_profile(): for the clocks of one point */
#define BUDGET_MAX    10000U

static uint32_t reply_u32(const struct flamed *flamed, const char *key)
{
	uint64_t value = wire_u64(&flamed->wire, key, 0);

	return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static void send_close(struct flamed *flamed, uint64_t id)
{
	handle_message(flamed, "close");
	kv_add_u64(&flamed->message, "profile", id);
	handle_send(flamed, (struct expected){.kind = EXPECT_CLOSE});
}

void profile_drop(struct flamed *flamed)
{
	struct client_profile *profile = &flamed->profile;

	if (handle_refresh(flamed) == 0 && profile->id)
		send_close(flamed, profile->id);
	*profile = (struct client_profile){.session = profile->session, .owed = profile->owed};
}

void profile_reply(struct flamed *flamed, int error)
{
	struct client_profile *profile = &flamed->profile;
	const struct wire *wire = &flamed->wire;
	uint64_t id = wire_u64(wire, "profile", 0);

	profile->owed = false;
	if (profile->state != PROFILE_ASKED) { /* closed meanwhile, maybe before its id was known */
		if (error == 0 && id)
			send_close(flamed, id);
		return;
	}
	profile->error = error;
	if (error) {
		profile->state = PROFILE_FAILED;
		return;
	}
	if (wire_u64(wire, "done", 0)) {
		profile->state = PROFILE_DONE;
		return;
	}
	if (id)
		profile->id = id;
	if (wire_u64(wire, "pause", 0)) {
		profile->state = PROFILE_PAUSED;
		profile->again_ns = clock_now_ns() + PAUSE_NS;
		return;
	}
	profile->state = PROFILE_POINT;
	profile->warm = false;
	profile->n = 0;
	profile->sum_ns = profile->square_ns2 = 0;
	profile->max_ns = 0;
	profile->point = (struct flamed_point){
		.cpu_hz = wire_u64(wire, "cpu_hz", 0),
		.gpu_hz = wire_u64(wire, "gpu_hz", 0),
		.mem_hz = wire_u64(wire, "mem_hz", 0),
		.context = reply_u32(flamed, "context"),
		.repeat = reply_u32(flamed, "repeat") ? reply_u32(flamed, "repeat") : 1,
		.step = reply_u32(flamed, "step"),
		.budget = reply_u32(flamed, "budget"),
		.gain_permille = reply_u32(flamed, "gain_permille"),
	};
}

/* Send the message; its reply gives the next point. */
static int send_asking(struct flamed *flamed)
{
	int rc = handle_send(flamed, (struct expected){.kind = EXPECT_PROFILE});

	if (rc == 0) {
		flamed->profile.state = PROFILE_ASKED;
		flamed->profile.owed = true;
	}
	return rc;
}

static int ask(struct flamed *flamed, const char *model, enum phase phase, uint32_t context, uint32_t budget)
{
	handle_message(flamed, "profile");
	kv_add(&flamed->message, "model", "%s", model);
	if (budget)
		kv_add_u64(&flamed->message, "budget", budget);
	if (phase != PHASE_RUN) {
		kv_add(&flamed->message, "phase", "%s", phase_name(phase));
		kv_add_u64(&flamed->message, "context", context);
	}
	return send_asking(flamed);
}

/* NULL: ask for the paused point again. */
static int send_sample(struct flamed *flamed, const struct flamed_measurement *measurement)
{
	handle_message(flamed, "sample");
	kv_add_u64(&flamed->message, "profile", flamed->profile.id);
	if (measurement) {
		kv_add_u64(&flamed->message, "latency_ns", measurement->latency_ns);
		kv_add_u64(&flamed->message, "n", measurement->n);
		kv_add_u64(&flamed->message, "sd_ns", measurement->sd_ns);
		kv_add_u64(&flamed->message, "max_ns", measurement->max_ns);
		handle_add_layers(flamed, measurement->layers, measurement->layers ? measurement->layer_count : 0);
	}
	return send_asking(flamed);
}

/* Block for the reply to the last message of the profile. */
static int answer(struct flamed *flamed, uint64_t until_ns, struct flamed_point *point)
{
	struct client_profile *profile = &flamed->profile;
	int rc = 0;

	while (rc == 0 && profile->state == PROFILE_ASKED)
		rc = handle_wait(flamed, until_ns);
	if (rc < 0)
		return rc;
	switch (profile->state) {
	case PROFILE_POINT: *point = profile->point; return 1;
	case PROFILE_DONE: return 0;
	case PROFILE_PAUSED: return -EAGAIN;
	case PROFILE_FAILED: return profile->error;
	case PROFILE_NONE:
	case PROFILE_ASKED: break;
	}
	return -ENOTCONN;
}

int flamed_profile_open(struct flamed *flamed, const char *model, const char *phase_text, uint32_t context,
			uint32_t budget, uint64_t timeout_ns, struct flamed_point *point)
{
	uint64_t until_ns = clock_now_ns() + timeout_ns;
	enum phase phase;
	int rc;

	if (!model)
		model = secure_getenv("FLAMED_MODEL");
	if (!model || !model_name_valid(model) || phase_parse(phase_text ? phase_text : "", &phase) < 0 ||
	    context > CONTEXT_TOKENS_MAX)
		return -EINVAL;
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	rc = handle_refresh(flamed);
	/* The reply to a profile that was closed sends its close; before that the daemon would refuse another one. */
	while (rc == 0 && flamed->profile.owed && flamed->profile.state != PROFILE_ASKED)
		rc = handle_wait(flamed, until_ns);
	if (rc == 0 && flamed->profile.state == PROFILE_ASKED)
		rc = -EBUSY;
	if (rc == 0)
		rc = ask(flamed, model, phase, context, budget);
	if (rc == 0)
		rc = answer(flamed, until_ns, point);
	handle_leave(flamed);
	return rc;
}

int flamed_profile_sample(struct flamed *flamed, const struct flamed_measurement *measurement, uint64_t timeout_ns,
			  struct flamed_point *point)
{
	uint64_t until_ns = clock_now_ns() + timeout_ns;
	int rc;

	if (measurement && (measurement->latency_ns == 0 || measurement->n == 0))
		return -EINVAL;
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	rc = handle_refresh(flamed);
	if (rc == 0 && (flamed->profile.state == PROFILE_POINT || flamed->profile.state == PROFILE_PAUSED))
		rc = send_sample(flamed, measurement);
	if (rc == 0)
		rc = answer(flamed, until_ns, point);
	handle_leave(flamed);
	return rc;
}

int flamed_profile_close(struct flamed *flamed)
{
	if (handle_enter(flamed) < 0)
		return -ENOTCONN;
	profile_drop(flamed);
	handle_leave(flamed);
	return 0;
}

/* Standard deviation of n values from their sums. */
static uint64_t deviation_ns(uint32_t n, double sum_ns, double square_ns2)
{
	double variance = n > 1 ? (square_ns2 - sum_ns * sum_ns / n) / (n - 1) : 0;

	return variance > 0 ? (uint64_t)sqrt(variance) : 0;
}

/* Run and time the inferences of one point. Returns 0, or the value of `infer`. */
static int measure(const struct flamed_point *point, flamed_infer_fn infer, void *arg, struct flamed_measurement *out)
{
	double sum_ns = 0, square_ns2 = 0;
	int rc = infer(arg, point); /* warm up: caches, lazily compiled kernels */

	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; rc == 0 && i < point->repeat; i++) {
		uint64_t begin_ns = clock_now_ns(), took_ns;

		rc = infer(arg, point);
		took_ns = clock_now_ns() - begin_ns;
		sum_ns += (double)took_ns;
		square_ns2 += (double)took_ns * (double)took_ns;
		out->max_ns = took_ns > out->max_ns ? took_ns : out->max_ns;
	}
	out->n = point->repeat;
	out->latency_ns = (uint64_t)(sum_ns / point->repeat) + 1;
	out->sd_ns = deviation_ns(out->n, sum_ns, square_ns2);
	return rc;
}

int flamed_profile(struct flamed *flamed, const char *model, const char *phase, uint32_t context, uint32_t budget,
		   flamed_infer_fn infer, void *arg)
{
	struct flamed_measurement measurement;
	struct flamed_point point;
	int measured = 0, rc;

	rc = flamed_profile_open(flamed, model, phase, context, budget, POINT_WAIT_NS, &point);
	while (rc == 1 || rc == -EAGAIN) {
		if (rc == -EAGAIN) {
			clock_sleep_ns(PAUSE_NS);
			rc = flamed_profile_sample(flamed, NULL, POINT_WAIT_NS, &point);
			continue;
		}
		rc = measure(&point, infer, arg, &measurement);
		if (rc)
			break;
		measured++;
		rc = flamed_profile_sample(flamed, &measurement, POINT_WAIT_NS, &point);
	}
	flamed_profile_close(flamed);
	return rc ? rc : measured;
}

int64_t profile_begin(struct flamed *flamed, int number)
{
	const struct client_session *session = &flamed->session[number];
	struct client_profile *profile = &flamed->profile;
	const char *text = secure_getenv("FLAMED_BUDGET");
	struct client_request *request;
	uint64_t budget = 0;
	int rc = handle_refresh(flamed);

	if (rc < 0)
		return rc;
	if (!text || parse_u64(text, &budget) < 0 || budget > BUDGET_MAX)
		budget = 0;
	if (profile->state == PROFILE_NONE && !profile->owed)
		rc = ask(flamed, session->model, session->phase, session->context, (uint32_t)budget);
	else if (profile->state == PROFILE_PAUSED && clock_now_ns() >= profile->again_ns)
		rc = send_sample(flamed, NULL);
	if (rc < 0)
		return rc;
	request = handle_new_request(flamed, number);
	if (!request)
		return -EAGAIN;
	request->state = REQUEST_LOCAL;
	/* An inference that began before the clocks were in force does not count. */
	request->waited = profile->state == PROFILE_POINT;
	return request->serial;
}

void profile_end(struct flamed *flamed, const struct client_request *request, uint64_t total_ns,
		 const struct flamed_layer *layers, size_t count)
{
	struct client_profile *profile = &flamed->profile;
	struct flamed_measurement measurement;

	if (!request->waited || profile->state != PROFILE_POINT)
		return;
	if (!profile->warm) {
		profile->warm = true;
		return;
	}
	profile->n++;
	profile->sum_ns += (double)total_ns;
	profile->square_ns2 += (double)total_ns * (double)total_ns;
	profile->max_ns = total_ns > profile->max_ns ? total_ns : profile->max_ns;
	if (profile->n < profile->point.repeat)
		return;
	measurement = (struct flamed_measurement){
		.latency_ns = (uint64_t)(profile->sum_ns / profile->n) + 1,
		.n = profile->n,
		.sd_ns = deviation_ns(profile->n, profile->sum_ns, profile->square_ns2),
		.max_ns = profile->max_ns,
		.layers = layers,
		.layer_count = count,
	};
	send_sample(flamed, &measurement);
}
