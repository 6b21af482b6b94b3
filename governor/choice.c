/* SPDX-License-Identifier: MIT */
/* The choice of a point for a request: the least cost now and later, less the value of what is learned there. */
#include "state.h"

#define EXPLORE_ALL   100  /* first requests, each of which searches every point for something to learn */
#define EXPLORE_EVERY 8    /* later requests that share one search of all points; the last of them may explore */
#define FAR_SD        8.0F /* a point whose latency is over the slack by more deviations is not considered */
/* Where the fastest point is likely to be late, other points are considered: latencies within this ratio of the
 * fastest, as boards are irregular by a tenth, */
#define FALLBACK_RATIO  1.05F
#define FALLBACK_FAR_SD 2.0F  /* or over the slack by fewer deviations, */
#define FALLBACK_SD     0.25F /* in both cases with a deviation of log latency below this */

static double total(const struct cost *cost)
{
	return cost->power_uw + cost->misses_uw;
}

/* Price of the next request's risk, if the clocks have to go from a point to the target for it. */
static double return_price_uw(const struct governor_task *t, size_t point)
{
	size_t axis[CLOCK_COUNT], to[CLOCK_COUNT];
	double move_ns;

	grid_axes(t->board.grid, point, axis);
	grid_axes(t->board.grid, t->target, to);
	move_ns = moves_up_ns(&t->board, axis, to) - t->gap_ns;
	return move_ns > 0 ? fmax(cost_at(t, t->target, move_ns).misses_uw - t->at_target.misses_uw, 0) : 0;
}

struct choice choice_weigh(const struct governor_task *t, size_t i)
{
	size_t axis[CLOCK_COUNT];
	struct choice c = {.point = i};
	struct cost stay;
	double move_ns, saved, target_sum = total(&t->at_target);

	grid_axes(t->board.grid, i, axis);
	move_ns = moves_up_ns(&t->board, t->from, axis);
	c.now = i == t->target && move_ns <= 0 && !t->settling ? t->at_target : cost_now(t, i, move_ns);
	move_ns = fmax(move_ns - t->party[t->newest].starts_ns, 0); /* beyond the wait for its begin */
	c.sum = c.now.power_uw + c.now.misses_uw + c.now.power_uw * move_ns / fmax(t->party[t->newest].slack_ns, 1) -
		target_sum;
	if (i == t->target)
		return c;
	stay = move_ns > 0 || t->settling ? cost_at(t, i, 0) : c.now;
	saved = target_sum - stay.power_uw;
	if (saved > 0) {
		double fits = cost_fits(t, i), back = return_price_uw(t, i);
		c.learned = t->learns ? fits * t->horizon * saved : 0;
		c.sum += (1 - fits) * back - c.learned;
	} else {
		c.sum += fmin(t->horizon * fmax(total(&stay) - target_sum, 0), return_price_uw(t, i));
	}
	return c;
}

static double miss_budget(const struct governor_task *t)
{
	double least = INFINITY;

	for (size_t p = 0; p < t->parties; p++)
		least = fmin(least, -t->governor->session[t->party[p].request->session].miss_debt);
	return least;
}

static void better(struct choice *best, const struct choice *other)
{
	if (best->point == SIZE_MAX || other->sum < best->sum)
		*best = *other;
}

/* The chance of a miss that may be risked to learn: any with a miss budget, or where no point is in time; beside
 * requests that wait for the same clocks, half of the least budget. With learning_misses = 0 none. */
static double risk_to_learn(const struct governor_task *t)
{
	double budget = miss_budget(t);

	if (t->parties > 1)
		return fmin(0.5 * budget, 1);
	return budget > 0 || (!t->feasible && t->governor->options.learning_misses > 0);
}

bool choice_being_learned(const struct governor_task *t, double worst)
{
	if (t->parties > 1 && worst > fmax(t->risk_max, risk_to_learn(t)))
		return false;
	/* Nothing is learned for a deadline that the point surely misses. */
	if (worst > 1 - t->risk_max)
		return false;
	for (size_t p = 0; p < t->parties; p++)
		if (!t->party[p].request->unlearned && t->party[p].surface->measured[t->board.current] == 0)
			return true;
	return false;
}

/* Whether a point's risk is over `risk` or its cost over that of `best`, by bounds that cost less than
 * choice_weigh(). */
static bool ruled_out(const struct governor_task *t, size_t i, double risk, const struct choice *best)
{
	double target_sum = total(&t->at_target), saved = target_sum - (double)cost_power_uw(t, i);
	double learned = saved > 0 && t->learns ? t->horizon * saved : 0, sum = INFINITY;
	size_t axis[CLOCK_COUNT];
	struct cost least;

	if (best->point != SIZE_MAX)
		sum = best->sum + target_sum + learned;
	if (target_sum - saved >= sum || (risk <= t->risk_max && cost_surely_late(t, i)))
		return true;
	grid_axes(t->board.grid, i, axis);
	least = cost_floor(t, i, moves_up_ns(&t->board, t->from, axis), risk, sum);
	if (least.worst >= risk || total(&least) >= sum)
		return true;
	return best->point != SIZE_MAX && total(&least) - cost_fits_urgent(t, i) * learned >= best->sum + target_sum;
}

/* The least J of `best` and of the points where the chance of a miss is at most `risk`, one of each `every`. */
static void search(const struct governor_task *t, double risk, size_t first, size_t every, struct choice *best)
{
	const float *own = t->party[t->urgent].surface->latency_ns, *sd = t->party[t->urgent].surface->sd;
	bool likely = (t->settling ? cost_now(t, t->target, 0) : t->at_target).worst <= LIKELY,
	     reached = best->point == t->target;
	float most = cost_own_max_ns(t), far = likely ? FAR_SD : FALLBACK_FAR_SD;
	float fallback = FALLBACK_RATIO * own[t->target];
	/* A dearer point is of use only on the way to a target that is in time, and most cheaper points are surely
	 * late; where the target is late itself, a dearer point may be in time. */
	double below_uw = likely && reached ? t->at_target.power_uw : INFINITY;
	float own_max_ns = likely ? INFINITY : fmaxf(most * (1 + far * FALLBACK_SD), fallback);
	size_t points = t->board.grid->points;

	for (size_t i = first; i < points; i += every) {
		struct choice c;
		if (every == 1)
			i = cost_skip(t, i, own_max_ns, below_uw);
		if (i >= points || (double)cost_power_uw(t, i) >= below_uw)
			continue;
		if (own[i] > most * (1 + far * sd[i]) && (likely || own[i] > fallback))
			continue;
		if ((!likely && sd[i] > FALLBACK_SD) || ruled_out(t, i, risk, best) || !cost_allowed(t, i, t->soft))
			continue;
		c = choice_weigh(t, i);
		if (c.now.worst <= risk)
			better(best, &c);
	}
}

/* A share of the points each, and the last request of a round goes where the best of them was. */
static void search_in_turns(const struct governor_task *t, double risk, struct choice *best)
{
	struct governor_session *s = &t->governor->session[t->party[t->newest].request->session];
	size_t turn = s->begun % EXPLORE_EVERY;
	struct choice found = *best, c;

	search(t, risk, turn, EXPLORE_EVERY, &found);
	if (found.point != best->point && (!s->found || found.sum < s->found_sum)) {
		s->found = (uint32_t)found.point + 1;
		s->found_sum = found.sum;
	}
	if (turn)
		return;
	if (s->found) {
		c = choice_weigh(t, s->found - 1);
		if (c.now.worst <= risk && cost_allowed(t, c.point, t->soft)) /* ceilings may be lower since */
			better(best, &c);
	}
	s->found = 0;
}

/* The least J of the points where the chance of a miss is at most `risk`; SIZE_MAX: none. */
static struct choice least_of(const struct governor_task *t, double risk)
{
	struct choice best = {.point = SIZE_MAX}, at_target = choice_weigh(t, t->target), c;

	if (t->board.current_known && cost_allowed(t, t->board.current, t->low)) {
		c = t->board.current == t->target ? at_target : choice_weigh(t, t->board.current);
		if (c.now.worst <= risk &&
		    (t->feasible || t->parties > 1 || c.point == t->target || c.now.worst < LIKELY))
			better(&best, &c);
		if (best.point == t->board.current && choice_being_learned(t, c.now.worst))
			return best;
	}
	if (at_target.now.worst <= risk)
		better(&best, &at_target);
	if (t->governor->session[t->party[t->newest].request->session].steady <= EXPLORE_ALL ||
	    (best.point != t->target && t->feasible))
		search(t, risk, 0, 1, &best);
	else
		search_in_turns(t, risk, &best);
	return best;
}

struct choice choice_least(const struct governor_task *t, bool feasible)
{
	struct choice c;
	double risk = feasible ? t->risk_max : t->at_target.worst > LIKELY ? 2 : t->at_target.worst;

	c = least_of(t, fmax(risk, risk_to_learn(t)));
	if (c.point == SIZE_MAX)
		c = least_of(t, 2);
	return c.point == SIZE_MAX ? choice_weigh(t, t->target) : c;
}
