/* SPDX-License-Identifier: MIT */
/* What is kept of a session from one request to the next: misses to spare, how new its deadlines are, and
 * how far off it was in company. */
#include "state.h"

#define CREDIT_LASTING 1.0   /* misses under target that are kept, once a model has been learned */
#define CREDIT_DECAY   0.03  /* of what is over that, per request */
#define COMPANY_VAR    0.01  /* (10 %)^2, until it is seen how far requests in company are off what is expected, */
#define COMPANY_RATE   0.05  /* a request at a time */
#define YIELD_RISE     0.01F /* per request: a session whose trials come to nothing tries again */

void governor_session_reset(struct governor *governor, uint32_t session)
{
	if (session < SESSIONS_MAX)
		governor->session[session] = (struct governor_session){0};
}

/* Deadlines half an octave apart lead to other points, which have to be learned too. */
void session_began(struct governor *governor, const struct governor_request *request, size_t current)
{
	struct governor_session *s = &governor->session[request->session];
	uint64_t relative_ns = request->deadline_ns - request->begin_ns;
	uint64_t band = 1ULL << ((unsigned)(2 * log2((double)relative_ns + 1)) % 64);
	double credit = request->surface->state == SURFACE_READY ?
				fmin(CREDIT_LASTING, governor->options.learning_misses) :
				governor->options.learning_misses;

	if (!s->begun)
		*s = (struct governor_session){.debt = -credit, .yield = 1};
	if (!(s->bands & band)) {
		s->steady = 0;
		s->debt = fmin(s->debt, -fmin(CREDIT_LASTING, governor->options.learning_misses));
	}
	s->bands |= band;
	s->begun += s->begun < UINT32_MAX;
	s->steady += s->steady < UINT32_MAX;
	s->yield += YIELD_RISE * (1 - s->yield);
	if (s->trial && request->surface->measured[s->tried])
		s->yield = 0.5F * (1 + s->yield);
	else if (s->trial && current != s->tried)
		s->yield *= 0.5F;
	s->trial = false;
	s->begin_ns = request->begin_ns;
}

/* How far the totals of requests that were not alone are off what was expected of them, as a variance of their log. */
double session_company_var(const struct governor_session *s)
{
	return s->company_var > 0 ? (double)s->company_var : COMPANY_VAR;
}

/* Misses beyond the target, a virtual queue (Neely, Stochastic Network Optimization, 2010): its
 * length sets the price of the next, and the share of misses settles at the target whatever their
 * distribution. */
void governor_ended(struct governor *governor, uint32_t session, uint64_t total_ns, uint64_t deadline_ns)
{
	const struct governor_options *o = &governor->options;
	struct governor_session *s;
	double floor = -fmin(CREDIT_LASTING, o->learning_misses);

	if (session >= SESSIONS_MAX)
		return;
	s = &governor->session[session];
	if (s->expected_ns) {
		double over = fmax(log((double)total_ns / (double)s->expected_ns), 0), was = session_company_var(s);
		s->company_var = (float)(was + COMPANY_RATE * (fmin(2 * over * over, 9 * was) - was));
	}
	s->expected_ns = 0;
	if (total_ns > deadline_ns)
		s->debt += !s->forgiven;
	else if (s->debt > floor)
		s->debt = fmax(s->debt - o->miss_target, floor);
	else
		s->debt += CREDIT_DECAY * (floor - s->debt);
}
