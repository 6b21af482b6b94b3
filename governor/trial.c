/* SPDX-License-Identifier: MIT */
#include "trial.h"

#include <math.h>
#include "memory.h"
#include "moves.h"
#include "task.h"

#define RISK_LEARNING 0.7  /* of missing, at most, while a model is new; RISK_SMALL later */
#define RISK_BOLD 0.9      /* with most of the misses left: nothing else tells what a clock never moved does */
#define BOLD_CREDIT 4
#define RISK_FLOOR 0.02    /* beside what the bound says */
#define RISK_MOVE 0.2      /* that the time to move adds: a miss should be owed to what is to be learned, */
#define WORTH_GAIN 0.05    /* of power, that is worth any risk allowed; or, where no gap will do to move, one request for all that follow, */
#define BUY_CREDIT 0.25    /* with a miss to spare, or so much of one the more is saved */
#define KNOWN 4            /* requests at a point after which its bound stands */
#define SEEN 2             /* requests at the present point before another is tried */
#define EAGER 40           /* requests after learning in which every one looks for a trial */
#define LOST 0.5           /* this likely to be missed, a deadline is taken for lost, */
#define HOPE 0.85          /* and what may be in time at this share of its predicted latency is worth trying; */
#define HOPE_STEP 0.005    /* the more of them are lost one after the other, the less there is to lose */
#define HOPE_LEAST 0.7

static const struct governor_session *session_of(const struct governor_task *t)
{
	return &t->governor->session[t->newest.session];
}

static bool may_try(const struct governor_task *t)
{
	const struct governor_session *s = session_of(t);

	return t->count == 1 && t->board.current_known && (s->requests <= s->eager_until + EAGER || s->requests % TRIAL_EVERY == 0);
}

/* Will the time between requests do to move at least one of the clocks? */
static bool gap_will_do(const struct governor_task *t, size_t to)
{
	double gap_ns = task_gap_ns(t, t->board.current);
	size_t from[CLOCK_COUNT], axis[CLOCK_COUNT];

	grid_axes(t->board.grid, t->board.current, from);
	grid_axes(t->board.grid, to, axis);
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (axis[c] != from[c] && (double)t->board.settle_ns[c] <= gap_ns)
			return true;
	return false;
}

/* What may be risked for so much less power. */
static double risk_worth(double saved, double most)
{
	return fmin(most, saved > WORTH_GAIN ? 1 : RISK_SMALL + (RISK_LEARNING - RISK_SMALL) * saved / WORTH_GAIN);
}

/* A request that had to come back from there would be late by the move alone. */
static bool late_back(const struct governor_task *t, size_t from)
{
	size_t axis[CLOCK_COUNT], to[CLOCK_COUNT], current = t->board.current;

	grid_axes(t->board.grid, from, axis);
	grid_axes(t->board.grid, current, to);
	return task_risk(t, current, moves_cost(&t->board, axis, to, t->newest.waits)) > RISK_LEARNING;
}

/* So cheap a point has to be to be tried instead of `best`. */
static float price_below(const struct governor_task *t, size_t best)
{
	return scan_price(&t->price, best) * (float)(1 - 2 * task_gain_needed(t, best));
}

/* Allowed, and not out of the question: a risk over RISK_BOLD, told without its logarithms. */
static bool worth_a_look(const struct governor_task *t, size_t i)
{
	const struct demand *d = &t->demand[0];
	float predicted_ns = t->surface->latency_ns[i] * (float)t->surface->slowdown;

	return predicted_ns * predicted_ns <= d->slack_ns * t->surface->bound_ns[i] * d->scale && isfinite(t->governor->moves.ns[i]);
}

/* Gain over the misses it may cost, of a cheaper point hardly ever run whose bound is a little over the slack; 0: not worth
 * it. `free_ns`: of the move, what nobody waits for. Where the move is what makes it late, and no gap will do for that, this
 * one request may buy all that follow. */
static double score(const struct governor_task *t, size_t best, size_t i, double free_ns, double most)
{
	const struct governor_session *s = session_of(t);
	double saved, p, p_there;
	bool bought, back;

	if (!worth_a_look(t, i))
		return 0;
	saved = task_gain(t, best, i);
	p_there = task_risk(t, i, 0);
	p = t->governor->moves.ns[i] > free_ns ? task_risk(t, i, t->governor->moves.ns[i] - free_ns) : p_there;
	if (p - p_there > RISK_MOVE && (free_ns > 0 || gap_will_do(t, i)))
		return 0;
	back = p_there > RISK_SMALL && late_back(t, i);
	most = risk_worth(saved, back ? fmin(most, RISK_LEARNING) : most);
	bought = p > most;
	if (!bought && t->surface->measured[i] >= KNOWN)
		return 0;
	if (bought && (p_there > most || p - p_there <= RISK_MOVE || saved < WORTH_GAIN || !s->period_ns))
		return 0;
	if (bought + back && s->credit < (bought ? fmax(1 - 2 * saved, BUY_CREDIT) : 0) + back)
		return 0;
	return saved * (1 - p_there) / (p + p_there * back + RISK_FLOOR);
}

/* Nothing but a request there can tell what such a point is. SIZE_MAX: none. */
static size_t cheaper(const struct governor_task *t, size_t best, double free_ns)
{
	const struct governor_session *s = session_of(t);
	size_t current = t->board.current, found = SIZE_MAX;
	float below = price_below(t, best);
	bool eager = memory_eager(s);
	double most = fmin(!eager ? RISK_SMALL : s->credit >= BOLD_CREDIT ? RISK_BOLD : RISK_LEARNING, s->credit), best_score = 0;

	if (s->boost > 1 || s->credit <= 0)
		return SIZE_MAX;
	/* On the move the only such point is where it is now: to stay. */
	if (best != current || t->surface->measured[best] < (eager ? 1 : SEEN))
		return scan_price(&t->price, current) < below && score(t, best, current, 0, fmin(RISK_SMALL, s->credit)) > 0 ? current : SIZE_MAX;
	for (size_t i = 0; i < t->board.grid->points; i++) {
		double this_score = scan_price(&t->price, i) < below ? score(t, best, i, free_ns, most) : 0;
		if (this_score > best_score) {
			best_score = this_score;
			found = i;
		}
	}
	return found;
}

/* Nothing is known to fit, once there, either; what was never run may, if it is not far from it.
 * Real surfaces have inversions: the fastest point is not always the top. */
static size_t hopeful(const struct governor_task *t, size_t best)
{
	size_t found = SIZE_MAX;
	float least = INFINITY, hope = (float)fmax(HOPE - HOPE_STEP * session_of(t)->lost, HOPE_LEAST);

	if (t->home != SIZE_MAX || task_risk(t, best, t->governor->moves.ns[best]) < LOST)
		return SIZE_MAX;
	for (size_t i = 0; i < t->board.grid->points; i++) {
		float predicted = t->surface->latency_ns[i] * (float)t->surface->slowdown;
		float slack_ns = t->demand[0].slack_ns - t->governor->moves.ns[i];
		if (t->surface->measured[i] || predicted >= least || predicted * hope > slack_ns)
			continue;
		least = predicted;
		found = i;
	}
	return found;
}

/* A request that moved there while it ran tells nothing of the point: the trial goes on until one has
 * run there from beginning to end. Where a gap was used to get there it has not begun. */
static bool goes_on(const struct governor_task *t)
{
	const struct governor_session *s = session_of(t);
	size_t current = t->board.current;

	if (t->count > 1 || !t->board.current_known || !isfinite(t->governor->moves.ns[current]))
		return false;
	if (s->ahead == current)
		return task_risk(t, current, 0) <= RISK_BOLD;
	return s->trial && !s->late && s->point == current && t->surface->measured[current] == s->seen && task_risk(t, current, 0) <= RISK_LEARNING;
}

size_t trial_now(const struct governor_task *t, size_t best, bool feasible)
{
	if (goes_on(t))
		return t->board.current;
	if (!may_try(t))
		return SIZE_MAX;
	return feasible ? cheaper(t, best, 0) : hopeful(t, best);
}

size_t trial_ahead(const struct governor_task *t, double free_ns)
{
	return may_try(t) ? cheaper(t, t->board.current, free_ns) : SIZE_MAX;
}
