/* SPDX-License-Identifier: MIT */
/* State of a session between requests: its miss debt, the age of its kinds of deadline, and how far its latencies in
 * company were off. */
#include "state.h"

#define MISS_BUDGET_LASTING 1.0  /* misses under target that never decay, once a model is known */
#define MISS_BUDGET_DECAY   0.03 /* decay of the rest, per request */
#define COMPANY_VAR         0.01 /* (10 %)^2, prior of the error of expected totals in company, */
#define COMPANY_RATE        0.05 /* and the weight of each new one */

void governor_session_reset(struct governor *governor, uint32_t session)
{
	if (session < SESSIONS_MAX)
		governor->session[session] = (struct governor_session){0};
}

/* Deadlines half an octave apart lead to other points, which are yet to be learned: they are of another kind. */
static unsigned kind_of(double deadline_ns)
{
	return (unsigned)(2 * log2(deadline_ns + 1));
}

double session_next_deadline_ns(const struct governor_session *s, double deadline_ns)
{
	double tight_ns = (double)s->tight_ns;

	return tight_ns > 0 && kind_of(tight_ns) < kind_of(deadline_ns) ? tight_ns : deadline_ns;
}

void session_began(struct governor *governor, const struct governor_request *request)
{
	struct governor_session *s = &governor->session[request->session];
	uint64_t relative_ns = request->deadline_ns - request->begin_ns;
	uint64_t band = 1ULL << kind_of((double)relative_ns) % 64;
	double budget = request->surface->state == SURFACE_READY ?
				fmin(MISS_BUDGET_LASTING, governor->options.learning_misses) :
				governor->options.learning_misses;

	if (!s->begun)
		*s = (struct governor_session){.miss_debt = -budget};
	if (!(s->bands & band)) {
		s->steady = 0;
		s->miss_debt = fmin(s->miss_debt, -fmin(MISS_BUDGET_LASTING, governor->options.learning_misses));
	}
	s->bands |= band;
	/* The chance that the next one is the shortest of late: one in the requests since, and a chance of over
	 * 1 - quantile counts. */
	if (!s->tight_ns || relative_ns <= s->tight_ns || ++s->tight_age * (1 - governor->options.quantile) > 1) {
		s->tight_ns = relative_ns;
		s->tight_age = 0;
	}
	s->begun += s->begun < UINT32_MAX;
	s->steady += s->steady < UINT32_MAX;
}

double session_company_var(const struct governor_session *s)
{
	return s->company_var > 0 ? (double)s->company_var : COMPANY_VAR;
}

/* The miss debt is a virtual queue (Neely, Stochastic Network Optimization, 2010): its length sets the price of the
 * next miss, so that the share of misses settles at miss_target whatever their distribution. */
void governor_ended(struct governor *governor, uint32_t session, uint64_t total_ns, uint64_t deadline_ns)
{
	const struct governor_options *o = &governor->options;
	struct governor_session *s;
	double floor = -fmin(MISS_BUDGET_LASTING, o->learning_misses);

	if (session >= SESSIONS_MAX)
		return;
	s = &governor->session[session];
	if (s->expected_ns) {
		double over = fmax(log((double)total_ns / (double)s->expected_ns), 0), was = session_company_var(s);
		s->company_var = (float)(was + COMPANY_RATE * (fmin(2 * over * over, 9 * was) - was));
	}
	s->expected_ns = 0;
	s->missed = total_ns > deadline_ns;
	if (s->missed)
		s->miss_debt += !s->forgiven;
	else if (s->miss_debt > floor)
		s->miss_debt = fmax(s->miss_debt - o->miss_target, floor);
	else
		s->miss_debt += MISS_BUDGET_DECAY * (floor - s->miss_debt);
}
