/* SPDX-License-Identifier: MIT */
/* Which point a request takes: the least of what it costs now and from then on, and of what is learned there. */
#include "state.h"

#define EXPLORE_ALL 100 /* requests that each look at every point for something to learn; */
#define EXPLORE_EVERY \
	8 /* after them, this number of requests share the points, and the last of each round may explore */
#define SAME_SPEED 1.02F /* where no deadline can be kept, points within this ratio are as fast */
#define FAR_SD     8.0F  /* deviations that a point is over the slack by, beyond which it is not looked at */
/* where the fastest point is likely to be late, those within this ratio of the fastest may: boards
 * are irregular by a tenth, */
#define HOPE_RATIO  1.05F
#define HOPE_FAR_SD 2.0F  /* or that are over their slack by fewer deviations, */
#define HOPE_SD     0.25F /* where the deviation of their log latency is below this */

static double total(const struct cost *cost)
{
	return cost->price + cost->late;
}

/* Price of the next request's risk, if that has to go home from a point. */
static double way_home(const struct governor_task *t, size_t point)
{
	size_t axis[CLOCK_COUNT], to[CLOCK_COUNT];
	double move_ns;

	grid_axes(t->board.grid, point, axis);
	grid_axes(t->board.grid, t->home, to);
	move_ns = moves_up_ns(&t->board, axis, to) - t->gap_ns;
	return move_ns > 0 ? fmax(cost_at(t, t->home, move_ns).late - t->at_home.late, 0) : 0;
}

struct choice choice_weigh(const struct governor_task *t, size_t i)
{
	size_t axis[CLOCK_COUNT];
	struct choice c = {.point = i};
	struct cost stay;
	double move_ns, saved, home = total(&t->at_home);

	grid_axes(t->board.grid, i, axis);
	move_ns = moves_up_ns(&t->board, t->from, axis);
	c.now = cost_now(t, i, move_ns);
	move_ns = fmax(move_ns - t->party[t->newest].starts_ns, 0); /* that somebody waits for */
	c.sum = c.now.price + c.now.late + c.now.price * move_ns / fmax(t->party[t->newest].slack_ns, 1) - home;
	if (i == t->home)
		return c;
	stay = move_ns > 0 || t->in_flight ? cost_at(t, i, 0) : c.now;
	saved = home - stay.price;
	if (saved > 0) {
		double fits = cost_fits(t, i), back = way_home(t, i);
		c.learned = fits * t->yield * t->horizon * saved;
		c.sum += (1 - fits) * back - c.learned;
	} else {
		c.sum += fmin(t->horizon * fmax(total(&stay) - home, 0), way_home(t, i));
	}
	return c;
}

static double credit_of(const struct governor_task *t)
{
	double least = INFINITY;

	for (size_t p = 0; p < t->parties; p++)
		least = fmin(least, -t->governor->session[t->party[p].request->session].debt);
	return least;
}

static void better(struct choice *best, const struct choice *other)
{
	if (best->point == SIZE_MAX || other->sum < best->sum)
		*best = *other;
}

/* A session that has misses to spare may risk one to learn; beside others that wait for the same
 * clocks, no more than it has. */
static double risk_to_learn(const struct governor_task *t)
{
	double credit = credit_of(t);

	return t->parties > 1 ? fmin(0.5 * credit, 1) : credit > 0;
}

bool choice_being_learned(const struct governor_task *t, double worst)
{
	if (t->parties > 1 && worst > fmax(t->most, risk_to_learn(t)))
		return false;
	for (size_t p = 0; p < t->parties; p++)
		if (t->party[p].surface->measured[t->board.current] == 0)
			return true;
	return false;
}

/* Whether a point's risk or its cost is beyond what is looked for, as far as can be told before it is weighed. */
static bool hopeless(const struct governor_task *t, size_t i, double risk, const struct choice *best)
{
	double home = total(&t->at_home), saved = home - (double)cost_price(t, i);
	double learned = saved > 0 ? t->yield * t->horizon * saved : 0, sum = INFINITY;
	size_t axis[CLOCK_COUNT];
	struct cost least;

	if (best->point != SIZE_MAX)
		sum = best->sum + home + learned;
	if (home - saved >= sum || (risk <= t->most && cost_surely_late(t, i)))
		return true;
	grid_axes(t->board.grid, i, axis);
	least = cost_floor(t, i, moves_up_ns(&t->board, t->from, axis), risk, sum);
	if (least.worst >= risk || total(&least) >= sum)
		return true;
	return best->point != SIZE_MAX && total(&least) - cost_fits_most(t, i) * learned >= best->sum + home;
}

/* The least J of `best` and of the points where the chance of a miss is at most `risk`, one of each `every`. */
static void look(const struct governor_task *t, double risk, size_t first, size_t every, struct choice *best)
{
	const float *own = t->party[t->urgent].surface->latency_ns, *sd = t->party[t->urgent].surface->sd;
	bool likely = (t->in_flight ? cost_now(t, t->home, 0) : t->at_home).worst <= LIKELY,
	     reached = best->point == t->home;
	float most = cost_own_most(t), far = likely ? FAR_SD : HOPE_FAR_SD;

	for (size_t i = first; i < t->board.grid->points; i += every) {
		struct choice c;
		/* Dearer points are ways to a home that is in time only, of cheaper ones most are late beyond doubt;
		 * where the home is late itself, a dearer one may be in time. */
		if ((likely && reached && (double)cost_price(t, i) >= t->at_home.price) || !cost_allowed(t, i, t->soft))
			continue;
		if (own[i] > most * (1 + far * sd[i]) && (likely || own[i] > HOPE_RATIO * own[t->home]))
			continue;
		if ((!likely && sd[i] > HOPE_SD) || hopeless(t, i, risk, best))
			continue;
		c = choice_weigh(t, i);
		if (c.now.worst <= risk)
			better(best, &c);
	}
}

/* A share of the points each, and the last request of a round goes where the best of them was. */
static void look_in_turns(const struct governor_task *t, double risk, struct choice *best)
{
	struct governor_session *s = &t->governor->session[t->party[t->newest].request->session];
	size_t turn = s->begun % EXPLORE_EVERY;
	struct choice found = *best, c;

	look(t, risk, turn, EXPLORE_EVERY, &found);
	if (found.point != best->point && (!s->found || found.sum < s->found_sum)) {
		s->found = (uint32_t)found.point + 1;
		s->found_sum = found.sum;
	}
	if (turn)
		return;
	if (s->found) {
		c = choice_weigh(t, s->found - 1);
		if (c.now.worst <= risk)
			better(best, &c);
	}
	s->found = 0;
}

/* The least J of the points where the chance of a miss is at most `risk`; SIZE_MAX: none. */
static struct choice least_of(const struct governor_task *t, double risk)
{
	const float *own = t->party[t->urgent].surface->latency_ns;
	struct choice best = {.point = SIZE_MAX}, c;

	if (t->board.current_known && cost_allowed(t, t->board.current, t->low)) {
		c = choice_weigh(t, t->board.current);
		if (c.now.worst <= risk && (t->feasible || t->parties > 1 ||
					    own[c.point] <= SAME_SPEED * own[t->home] || c.now.worst < LIKELY))
			better(&best, &c);
		if (best.point == t->board.current && choice_being_learned(t, c.now.worst))
			return best;
	}
	c = choice_weigh(t, t->home);
	if (c.now.worst <= risk)
		better(&best, &c);
	if (t->governor->session[t->party[t->newest].request->session].steady <= EXPLORE_ALL ||
	    (best.point != t->home && t->feasible))
		look(t, risk, 0, 1, &best);
	else
		look_in_turns(t, risk, &best);
	return best;
}

struct choice choice_least(const struct governor_task *t, bool feasible)
{
	struct choice c;
	double risk = feasible ? t->most : t->at_home.worst > LIKELY ? 2 : t->at_home.worst;

	c = least_of(t, fmax(risk, risk_to_learn(t)));
	if (c.point == SIZE_MAX)
		c = least_of(t, 2);
	return c.point == SIZE_MAX ? choice_weigh(t, t->home) : c;
}
