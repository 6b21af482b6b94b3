/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <math.h>
#include "../common/clock.h"

#define BOOST_MIN 1.05
#define BOOST_MAX 1.5
#define BOOST_DECAY 0.7       /* of what is over 1, per request once the hold is over */
#define BOOST_GONE 1.005
#define CAUTION_STEP 0.01
#define CAUTION_MAX 0.25
#define CREDIT_NEW 5.0        /* of a session with a model that nothing is known of, */
#define CREDIT_LEARNING 1.5   /* with one that is being learned, */
#define CREDIT_START 0.3      /* and with one that is known */
#define CREDIT_BAND 1.0       /* with deadlines of a kind it did not have yet */
#define CREDIT_REFILL 0.002   /* per request */
#define CREDIT_MAX 1.0
#define MISSES_WINDOW 400.0   /* requests */
#define TIGHT_WINDOW 64       /* requests */
#define TIGHT_SAME 1.05
#define STANDBY_NS (2 * NS_PER_S)
#define STANDBY_PERIODS 4

static void forget(struct governor_session *s)
{
	*s = (struct governor_session){
		.boost = 1, .credit = CREDIT_START, .tight_ns = {UINT64_MAX, UINT64_MAX}, .point = SIZE_MAX, .wanted = SIZE_MAX, .ahead = SIZE_MAX};
}

void governor_session_reset(struct governor *governor, uint32_t session)
{
	if (session >= SESSIONS_MAX)
		return;
	forget(&governor->session[session]);
	while (governor->sessions > 0 && !governor->session[governor->sessions - 1].known)
		governor->sessions--;
}

uint64_t memory_tight_ns(const struct governor_session *s)
{
	return s->tight_ns[0] < s->tight_ns[1] ? s->tight_ns[0] : s->tight_ns[1];
}

bool memory_is_tight(const struct governor_session *s, uint64_t relative_ns)
{
	uint64_t tight_ns = memory_tight_ns(s);

	return tight_ns == UINT64_MAX || (double)relative_ns <= TIGHT_SAME * (double)tight_ns;
}

/* Deadlines half an octave apart lead to other points, which have to be learned too. */
static void learn_band(struct governor_session *s, uint64_t relative_ns)
{
	uint64_t band = 1ULL << ((unsigned)(2 * log2((double)relative_ns + 1)) % 64);

	if (s->requests && s->requests == s->eager_until)
		s->credit = fmin(s->credit, CREDIT_START);
	if (s->bands & band)
		return;
	s->bands |= band;
	s->credit = fmax(s->credit, s->requests ? CREDIT_BAND : s->credit);
	s->eager_until = s->requests + LEARNING_REQUESTS;
}

void memory_begin(struct governor *governor, const struct governor_request *request, uint64_t fast_ns)
{
	struct governor_session *s = &governor->session[request->session];
	uint64_t relative_ns = request->deadline_ns - request->begin_ns;

	s->fast_ns = fast_ns;
	if (s->known && s->begin_ns == request->begin_ns)
		return;
	if (s->known && request->begin_ns > s->begin_ns) {
		s->apart_ns = request->begin_ns - s->begin_ns;
		s->period_ns = s->period_ns ? s->period_ns - s->period_ns / 4 + s->apart_ns / 4 : s->apart_ns;
	}
	if (!s->known && request->surface->state != SURFACE_READY)
		s->credit = request->surface->state == SURFACE_NONE ? CREDIT_NEW : CREDIT_LEARNING;
	s->known = true;
	s->begin_ns = request->begin_ns;
	learn_band(s, relative_ns);
	if (s->requests++ % TIGHT_WINDOW == 0) {
		s->tight_ns[1] = s->tight_ns[0];
		s->tight_ns[0] = UINT64_MAX;
	}
	if (relative_ns < s->tight_ns[0])
		s->tight_ns[0] = relative_ns;
	if (request->session >= governor->sessions)
		governor->sessions = request->session + 1;
}

/* Misses that noise makes at points well known ask for more room as far as they
 * are over their target: whatever the distribution, the share settles about there
 * (as in adaptive conformal inference, Gibbs and Candes 2021). */
static double caution(const struct governor_session *s)
{
	return fmin(fmax((s->misses - MISS_TARGET) * MISSES_WINDOW * CAUTION_STEP, 0), CAUTION_MAX);
}

double memory_factor(const struct governor *governor, uint32_t session)
{
	const struct governor_session *s = &governor->session[session];

	return s->boost * (1 + caution(s));
}

bool memory_eager(const struct governor_session *s)
{
	return s->requests <= s->eager_until;
}

/* Which clocks a session needs kept where it last was: those it has not the
 * time to bring up, quickest first. */
static void keep_home(const struct governor_session *s, const uint64_t settle_ns[CLOCK_COUNT], size_t low[CLOCK_COUNT])
{
	uint64_t tight_ns = memory_tight_ns(s), left_ns = tight_ns > s->fast_ns ? tight_ns - s->fast_ns : 0;
	bool seen[CLOCK_COUNT] = {false};

	for (int n = 0; n < CLOCK_COUNT; n++) {
		int quickest = -1;
		for (int c = 0; c < CLOCK_COUNT; c++)
			if (!seen[c] && (quickest < 0 || settle_ns[c] < settle_ns[quickest]))
				quickest = c;
		seen[quickest] = true;
		if (settle_ns[quickest] <= left_ns)
			left_ns -= settle_ns[quickest];
		else if (low[quickest] < s->home[quickest])
			low[quickest] = s->home[quickest];
	}
}

void memory_standby(const struct governor *governor, const struct governor_request *newest,
		    const uint64_t settle_ns[CLOCK_COUNT], uint64_t now_ns, size_t low[CLOCK_COUNT])
{
	uint64_t relative_ns = newest->deadline_ns - newest->begin_ns;

	for (uint32_t i = 0; i < governor->sessions; i++) {
		const struct governor_session *s = &governor->session[i];
		uint64_t stands_ns = STANDBY_PERIODS * s->period_ns;

		if (!s->known || s->begin_ns + (stands_ns > STANDBY_NS ? stands_ns : STANDBY_NS) < now_ns)
			continue;
		if (i != newest->session || !memory_is_tight(s, relative_ns))
			keep_home(s, settle_ns, low);
	}
}

static void missed(struct governor_session *s, const struct governor_options *options, double over)
{
	s->lost += !s->feasible && s->lost < UINT32_MAX;
	s->credit -= (s->trial && s->feasible) || s->back;
	if (s->trial || !s->feasible)
		return; /* the price of a trial; or nothing could have met it */
	if (s->seen || !memory_eager(s))
		s->credit = fmax(s->credit - 1, -1);
	s->hold = options->hold_requests;
	s->boost = fmax(s->boost, fmin(fmax(over, BOOST_MIN), BOOST_MAX));
	/* At a point never run before it is the fit that was wrong, and the
	 * measurement just made corrects it. */
	s->misses += s->seen ? 1 / MISSES_WINDOW : 0;
}

static void met(struct governor_session *s)
{
	s->lost = 0;
	s->misses -= s->misses / MISSES_WINDOW;
	if (s->credit < CREDIT_MAX)
		s->credit += CREDIT_REFILL;
	if (s->hold > 0) {
		s->hold--;
		return;
	}
	s->boost = 1 + (s->boost - 1) * BOOST_DECAY;
	if (s->boost < BOOST_GONE)
		s->boost = 1;
}

void governor_ended(struct governor *governor, uint32_t session, uint64_t total_ns, uint64_t deadline_ns, uint64_t bound_ns)
{
	if (session >= SESSIONS_MAX)
		return;
	struct governor_session *s = &governor->session[session];
	governor->last_session = session;
	s->late = total_ns > deadline_ns;
	if (s->late)
		missed(s, &governor->options, bound_ns ? (double)total_ns / (double)bound_ns : BOOST_MAX);
	else
		met(s);
}
