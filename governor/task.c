/* SPDX-License-Identifier: MIT */
#include "task.h"

#include <math.h>
#include "memory.h"
#include "moves.h"

#define BOUND_Z 2.054 /* standard normal quantile of the surface's bound (0.98) */

double task_base_factor(const struct governor_task *t, const struct surface *surface)
{
	return (1 + t->governor->options.margin) * fmax(surface->slowdown_bound, 0);
}

double task_past_factor(const struct governor_task *t, uint32_t session)
{
	return t->past ? memory_factor(t->governor, session) : 1;
}

static void add_demand(struct governor_task *t, const struct governor_request *request)
{
	double factor = task_base_factor(t, request->surface) * task_past_factor(t, request->session);
	double slack_ns = (double)request->deadline_ns - (double)t->now_ns - (double)request->flight_ns;
	struct demand demand = {request->surface->bound_ns, (float)(factor * (1 - request->done)), (float)slack_ns};
	size_t at = t->count++;

	for (; at > 0 && t->demand[at - 1].slack_ns > demand.slack_ns; at--) {
		t->demand[at] = t->demand[at - 1];
		t->session[at] = t->session[at - 1];
	}
	t->demand[at] = demand;
	t->session[at] = request->session;
}

void task_demands(struct governor_task *t, const struct governor_request *requests, size_t count, bool past)
{
	t->count = 0;
	t->past = past;
	for (size_t i = 0; i < count && i < REQUESTS_MAX; i++)
		add_demand(t, &requests[i]);
}

void task_price(struct governor_task *t, float horizon_ns)
{
	bool energy = t->governor->options.objective == OBJECTIVE_ENERGY;

	t->price = (struct price){t->surface->power_uw, t->surface->idle_power_uw, t->surface->latency_ns,
				  (float)t->surface->slowdown, energy ? fmaxf(horizon_ns, 1) : 0};
}

bool task_fits(const struct governor_task *t, size_t point, double move_ns)
{
	return scan_late(t->demand, t->count, point) + (float)move_ns <= 0;
}

/* The logarithm of the latency is taken as normal, with the bound at its quantile. */
double task_risk(const struct governor_task *t, size_t point, double move_ns)
{
	double predicted_ns = t->surface->latency_ns[point] * t->surface->slowdown, bound_ns = t->surface->bound_ns[point] * t->demand[0].scale;
	double slack_ns = t->demand[0].slack_ns - move_ns;

	if (!(predicted_ns > 0) || !(slack_ns > 0))
		return 1;
	if (bound_ns <= predicted_ns)
		return slack_ns < predicted_ns;
	return 0.5 * erfc(BOUND_Z * log(slack_ns / predicted_ns) / log(bound_ns / predicted_ns) / sqrt(2));
}

double task_gain(const struct governor_task *t, size_t from, size_t to)
{
	double old = scan_price(&t->price, from);

	return old > 0 ? 1 - scan_price(&t->price, to) / old : 0;
}

double task_gain_needed(const struct governor_task *t, size_t to)
{
	double slack_ns = (double)(t->newest.deadline_ns - t->newest.begin_ns);

	return fmax(t->governor->options.gain_min, t->governor->moves.ns[to] / (PAYBACK_REQUESTS * fmax(slack_ns, 1)));
}

double task_gap_ns(const struct governor_task *t, size_t point)
{
	const struct governor_session *s = &t->governor->session[t->newest.session];

	return fmin((double)s->period_ns, (double)s->apart_ns) - t->surface->latency_ns[point] * t->surface->slowdown;
}

void task_describe(const struct governor_task *t, struct decision *out)
{
	const struct surface *s = t->surface;
	uint64_t starts_ns = t->now_ns + t->newest.flight_ns;
	double left = 1 - t->newest.done;

	out->factor = task_base_factor(t, t->surface) * task_past_factor(t, t->newest.session);
	out->held = t->past && t->governor->session[t->newest.session].boost > 1;
	out->predicted_ns = (uint64_t)(s->latency_ns[out->point] * s->slowdown * left);
	out->bound_ns = (uint64_t)(s->bound_ns[out->point] * out->factor * left);
	out->settle_ns = moves_settle_ns(&t->board, out->point);
	out->slack_ns = t->newest.deadline_ns > starts_ns ? t->newest.deadline_ns - starts_ns : 0;
	out->power_uw = s->power_uw[out->point];
	out->power_known = s->power_known;
	out->measured = s->measured[out->point];
	out->source = (enum bound_source)s->source[out->point];
	out->regime = (enum regime)s->regime[out->point];
}
