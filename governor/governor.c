/* SPDX-License-Identifier: MIT */
/* The point of least cost: for a request that begins, for a gap, and before the first request. HACKING.md has the cost
 * and a table of the constants. */
#include "governor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../common/clock.h"
#include "../common/quantile.h"
#include "state.h"

#define MISS_PRICE          20.0   /* of a miss at miss_target, in requests at the power of the highest point */
#define MISS_PRICE_GROWTH   1.0    /* growth of its log, per miss over miss_target */
#define MISS_DEBT_MAX       16.0   /* misses over miss_target beyond which it grows no more, to fit in 64 bits */
#define MISS_PRICE_PRIORITY 0.35   /* growth of its log, per step of priority */
#define HORIZON_FIRST       30.0   /* requests over which a saving counts, when conditions have just changed; */
#define HORIZON_GROWTH      8.0    /* more for each request since, as what has lasted is likely to last; */
#define HORIZON_MAX         1000.0 /* at most */
#define FASTEST_MARGIN      1.1    /* most that a request takes at the fastest point, over the expected time */
#define MEM_BURST           4.0    /* moves down of the memory clock before mem_dwell_ns limits them */
#define GAP_MOVES           20.0   /* least ratio of a gap to the time of moving down and up in it */
#define GAP_SHARE           0.8    /* share of an expected gap that is relied on */

void governor_options_default(struct governor_options *options)
{
	*options = (struct governor_options){.objective = OBJECTIVE_POWER,
					     .quantile = QUANTILE_DEFAULT,
					     .miss_target = 0.002,
					     .learning_misses = 2,
					     .mem_dwell_ns = 2 * NS_PER_S};
}

void governor_configure(struct governor *governor, const struct governor_options *options)
{
	governor->options = *options;
	governor->quantile_sd = quantile_normal(options->quantile);
	cost_heavy_table(governor->heavy_over);
}

int governor_init(struct governor *governor, const struct governor_options *options)
{
	memset(governor, 0, sizeof(*governor));
	governor_configure(governor, options);
	governor->mem_tokens = MEM_BURST;
	governor->task = calloc(1, sizeof(*governor->task));
	return governor->task ? 0 : -ENOMEM;
}

void governor_free(struct governor *governor)
{
	free(governor->task);
	governor->task = NULL;
}

/* ---- the memory clock's dwell ---- */

static void refill_mem(struct governor *governor, uint64_t now_ns)
{
	uint64_t dwell_ns = governor->options.mem_dwell_ns;

	if (dwell_ns == 0)
		governor->mem_tokens = MEM_BURST;
	else if (now_ns > governor->mem_moved_ns)
		governor->mem_tokens =
			fmin(governor->mem_tokens + (double)(now_ns - governor->mem_moved_ns) / (double)dwell_ns,
			     MEM_BURST);
	governor->mem_moved_ns = now_ns;
}

static void note_mem(struct governor *governor, const struct grid *grid, size_t point)
{
	size_t axis[CLOCK_COUNT];

	grid_axes(grid, point, axis);
	if (axis[CLOCK_MEM] < governor->mem_axis)
		governor->mem_tokens = fmax(governor->mem_tokens - 1, 0);
	governor->mem_axis = axis[CLOCK_MEM];
}

/* ---- state of one decision ---- */

/* The longest wait of a request: all clocks have to come up, after a move down that is under way. */
static double moves_max_ns(const struct governor_board *board)
{
	double ns = 0;

	for (int c = 0; c < CLOCK_COUNT; c++)
		ns += (double)(board->up_ns[c] + board->down_ns[c]);
	return ns;
}

static size_t add_surface(struct governor_task *t, const struct surface *surface)
{
	size_t m = 0;

	while (m < t->surfaces && t->surface[m] != surface)
		m++;
	if (m == t->surfaces)
		t->surface[t->surfaces++] = surface;
	return m;
}

/* The chance that an expected request begins before a time, uniform between its earliest and latest begin. */
static double chance_before(const struct governor_request *r, uint64_t now_ns, uint64_t until_ns)
{
	uint64_t from_ns = r->begin_ns > now_ns ? r->begin_ns : now_ns;

	if (until_ns <= from_ns)
		return 0;
	return until_ns >= r->begin_by_ns ? 1 : (double)(until_ns - from_ns) / (double)(r->begin_by_ns - from_ns);
}

static void add_party(struct governor_task *t, const struct governor_request *r, uint64_t now_ns)
{
	const struct governor *g = t->governor;
	const struct governor_session *s = &g->session[r->session];
	struct party *p = &t->party[t->parties];
	double priority = r->priority ? r->priority : 5;
	bool expected = r->begin_ns > now_ns;

	*p = (struct party){.request = r, .surface = r->surface, .left = 1};
	p->surface_index = add_surface(t, r->surface);
	p->left = r->flight && !expected ? 1 - r->flight->done : 1;
	p->ran_ns = r->flight && !expected ? company_ran_ns(r->flight) : 0;
	p->starts_ns = expected ? GAP_SHARE * (double)(r->begin_ns - now_ns) : 0;
	p->deadline_ns = fmax((double)(r->deadline_ns - r->begin_ns), 1);
	p->next_deadline_ns = session_next_deadline_ns(s, p->deadline_ns);
	p->slack_ns = expected ? p->starts_ns + p->deadline_ns : (double)r->deadline_ns - (double)now_ns;
	p->settling_ns = expected ? 0 : (double)r->settling_ns;
	p->scale = r->surface->slowdown * (1 + g->options.margin);
	p->chance = expected ? chance_before(r, now_ns, t->until_ns) : 1;
	p->miss_price_uw = MISS_PRICE * t->top_uw *
			   exp(MISS_PRICE_GROWTH * fmin(fmax(s->miss_debt, 0), MISS_DEBT_MAX) +
			       MISS_PRICE_PRIORITY * (priority - 5));
	t->parties++;
}

/* In a gap all expected requests begin as early as they may. */
static void find_joined(struct governor_task *t)
{
	double none = 1;

	t->running = 0;
	for (size_t p = 0; p < t->parties; p++) {
		t->running += t->party[p].starts_ns <= 0;
		if (company_expected(t, p))
			none *= t->party[t->newest].starts_ns > 0 ? 0 : 1 - t->party[p].chance;
	}
	t->joined = 1 - none;
}

/* The newest request, and those of the others that have the earliest deadlines; expected ones only if they begin before
 * the newest has to end, moves included. Requests of unknown models are left out. */
static void add_parties(struct governor_task *t, const struct governor_request *requests, size_t count, uint64_t now_ns)
{
	const struct governor_request *newest = &requests[count - 1];
	uint64_t until_ns = newest->deadline_ns + (uint64_t)moves_max_ns(&t->board);
	bool taken[REQUESTS_MAX] = {false};

	t->parties = t->surfaces = 0;
	t->until_ns = newest->deadline_ns;
	add_party(t, newest, now_ns);
	t->newest = 0;
	while (t->parties < COMPANY_MAX && t->parties < count) {
		size_t best = SIZE_MAX;
		for (size_t i = 0; i + 1 < count; i++)
			if (!taken[i] && requests[i].surface->state != SURFACE_NONE &&
			    (requests[i].begin_ns <= now_ns || requests[i].begin_ns < until_ns) &&
			    (best == SIZE_MAX || requests[i].deadline_ns < requests[best].deadline_ns))
				best = i;
		if (best == SIZE_MAX)
			break;
		taken[best] = true;
		add_party(t, &requests[best], now_ns);
	}
	find_joined(t);
	/* Beside other requests the wait for a move counts at every point. */
	for (size_t p = 0; p < t->parties && t->parties > 1; p++) {
		t->party[p].slack_ns -= t->party[p].settling_ns;
		t->party[p].settling_ns = 0;
	}
	t->settling = t->party[0].settling_ns > 0;
}

static void find_urgent(struct governor_task *t, size_t at, bool later)
{
	double most = -INFINITY;

	for (size_t p = 0; p < t->parties; p++) {
		const struct party *party = &t->party[p];
		double over_ns = cost_end(t, party, at) - party->slack_ns;
		if ((party->later && !(later && party->next)) || over_ns <= most)
			continue;
		most = over_ns;
		t->urgent = p;
	}
}

static void task_begin(struct governor *governor, const struct governor_board *board,
		       const struct governor_request *requests, size_t count, uint64_t now_ns)
{
	struct governor_task *t = governor->task;
	const struct governor_request *newest = &requests[count - 1];
	const struct governor_session *s = &governor->session[newest->session];

	t->governor = governor;
	t->board = *board;
	t->now_ns = now_ns;
	for (int c = 0; c < CLOCK_COUNT; c++)
		moves_limits(board, c, &t->low[c], &t->high[c]);
	if (!board->current_known)
		t->board.current = grid_index(board->grid, t->high);
	grid_axes(board->grid, t->board.current, t->from);
	memcpy(t->soft, t->low, sizeof(t->soft));
	if (board->current_known && governor->mem_tokens < 1 && t->soft[CLOCK_MEM] < t->from[CLOCK_MEM])
		t->soft[CLOCK_MEM] = t->from[CLOCK_MEM] < t->high[CLOCK_MEM] ? t->from[CLOCK_MEM] : t->high[CLOCK_MEM];
	t->top_uw = (double)newest->surface->power_uw[grid_index(board->grid, t->high)];
	t->risk_max = 1 - governor->options.quantile;
	t->learns = !newest->unlearned;
	t->target = SIZE_MAX;
	add_parties(t, requests, count, now_ns);
	/* Conditions change with each session that joins or leaves: the more there are, the sooner. */
	t->horizon = fmin(HORIZON_FIRST / (double)t->parties + HORIZON_GROWTH * s->steady, HORIZON_MAX);
	t->period_ns = (double)(newest->deadline_ns - newest->begin_ns);
	if (newest->gap_ns != GAP_UNKNOWN)
		t->period_ns = fmax(t->period_ns,
				    (double)newest->gap_ns + (double)newest->surface->latency_ns[t->board.current]);
}

/* ---- decisions ---- */

static void describe(const struct governor_task *t, struct decision *out)
{
	const struct party *p = &t->party[t->newest];
	const struct surface *s = p->surface;
	size_t axis[CLOCK_COUNT];

	grid_axes(t->board.grid, out->point, axis);
	if (s->state != SURFACE_NONE) {
		out->predicted_ns = (uint64_t)cost_end(t, p, out->point);
		out->bound_ns = (uint64_t)explain_bound_ns(t, out->point);
	}
	out->settle_ns = (uint64_t)moves_up_ns(&t->board, t->from, axis);
	out->slack_ns = (uint64_t)fmax(p->slack_ns - p->settling_ns, 0);
	out->miss_price_uw = p->miss_price_uw;
	out->miss_debt = t->governor->session[p->request->session].miss_debt;
	out->power_uw = (double)s->power_uw[out->point];
	out->power_known = s->power_known;
	out->others = (uint32_t)t->parties - 1;
	out->measured = s->measured[out->point];
	out->source = (enum bound_source)s->source[out->point];
	out->regime = (enum regime)s->regime[out->point];
}

/* When the requests in flight are expected to end after this decision. */
static void expect_ends(const struct governor_task *t, const struct decision *out)
{
	for (size_t p = 0; p < t->parties; p++) {
		const struct party *party = &t->party[p];
		double end_ns = cost_soonest(t, party, out->point) + (double)out->settle_ns;
		if (party->starts_ns > 0)
			continue;
		t->governor->session[party->request->session].expected_ns =
			(t->running > 1 || t->joined >= 1) && party->surface->state != SURFACE_NONE ?
				(uint64_t)fmax(end_ns, 1) + t->now_ns - party->request->begin_ns :
				0;
	}
}

static enum reason reason_of(const struct governor_task *t, const struct choice *c, bool feasible)
{
	/* No axis is beyond its limits at the highest point: only the power cap may be. */
	if (c->point == t->target && !feasible)
		return cost_allowed(t, grid_index(t->board.grid, t->high), t->low) ? REASON_FASTEST : REASON_CAP;
	if (c->point == t->target)
		return c->now.worst > t->risk_max ? REASON_BUY : REASON_CHEAPEST;
	if (c->learned > 0 && c->now.power_uw < t->at_target.power_uw)
		return REASON_EXPLORE;
	return c->point == t->board.current ? REASON_STAY : REASON_WAY;
}

/* The sessions whose next request has no time to wait for clocks, so that it has to be in time at the point that this
 * decision chooses. */
static void find_next(struct governor_task *t)
{
	size_t top = grid_index(t->board.grid, t->high);
	double up_ns = moves_max_ns(&t->board);

	for (size_t p = 0; p < t->parties; p++) {
		struct party *party = &t->party[p];
		const struct governor_request *r = party->request;
		party->later = p != t->newest && party->starts_ns > 0 && t->party[t->newest].starts_ns <= 0;
		double whole_ns = (cost_end(t, party, top) - party->starts_ns) / party->left;
		party->next_ns = party->next_deadline_ns - FASTEST_MARGIN * whole_ns;
		party->next = party->later;
		bool shorter = party->next_deadline_ns < party->deadline_ns;
		if ((p != t->newest || shorter) && !party->later && r->gap_ns != GAP_UNKNOWN) {
			party->next_ns += (double)r->gap_ns;
			party->next = shorter ? party->next_deadline_ns > whole_ns : party->next_ns > 0;
		}
		party->beside_ns = party->next_ns;
		if (party->later)
			party->beside_ns = party->deadline_ns - FASTEST_MARGIN * company_beside(t, p) * party->scale *
									(double)party->surface->latency_ns[top];
		party->beside_ns = fmin(party->beside_ns, party->next_ns);
		party->next = party->next && party->beside_ns < up_ns;
	}
}

/* The least time for which nothing runs once the newest has ended. */
static double gap_after(const struct governor_task *t)
{
	const struct party *newest = &t->party[t->newest];
	double end_ns = cost_end(t, newest, t->board.current), gap_ns;

	if (t->running != 1 || newest->starts_ns > 0 || newest->request->gap_ns == GAP_UNKNOWN)
		return 0;
	gap_ns = GAP_SHARE * (double)newest->request->gap_ns;
	for (size_t p = 0; p < t->parties; p++)
		if (company_expected(t, p))
			gap_ns = fmin(gap_ns, t->party[p].starts_ns - end_ns);
	return fmax(gap_ns, 0);
}

/* The cheapest point that keeps every deadline once there; if there is none, the fastest, and false is returned. */
static bool find_target(struct governor_task *t)
{
	size_t start = t->board.current;

	for (size_t p = 0; p < t->parties; p++)
		t->party[p].doubt_var =
			t->parties > 1 ? session_company_var(&t->governor->session[t->party[p].request->session]) : 0;
	company_simulate(t, start);
	find_next(t);
	find_urgent(t, start, false);
	t->gap_ns = gap_after(t);
	cost_find_sieve(t, start);
	t->target = cost_cheapest(t, t->soft, NULL, start, &t->at_target);
	if (t->target == SIZE_MAX && memcmp(t->soft, t->low, sizeof(t->soft)))
		t->target = cost_cheapest(t, t->low, t->soft, start, &t->at_target);
	if (t->target != SIZE_MAX)
		return true;
	find_urgent(t, start, true);
	t->target = cost_fastest(t);
	t->at_target = cost_at(t, t->target, 0);
	return false;
}

static void choose(struct governor_task *t, struct decision *out)
{
	bool feasible = t->feasible = find_target(t);
	struct choice c = choice_least(t, feasible);

	out->point = c.point;
	out->feasible = c.now.worst <= fmax(t->risk_max, LIKELY) && cost_allowed(t, c.point, t->low);
	out->reason = reason_of(t, &c, feasible);
	out->late = c.now.newest;
}

static bool unknown(const struct governor_request *requests, size_t count, uint64_t now_ns)
{
	for (size_t i = 0; i < count; i++)
		if (requests[i].surface->state == SURFACE_NONE && (i + 1 == count || requests[i].begin_ns <= now_ns))
			return true;
	return false;
}

/* The newest request is likely late at the fastest point too, as no point is in time, or as the miss before it left it
 * clocks on their way. */
static bool late_anyway(const struct governor_task *t)
{
	const struct party *p = &t->party[t->newest];
	size_t fastest = t->feasible ? cost_fastest(t) : t->target;

	return cost_late(t, p, fastest, cost_end(t, p, fastest), p->slack_ns - p->settling_ns) > LIKELY;
}

void governor_decide(struct governor *governor, const struct governor_board *board,
		     const struct governor_request *requests, size_t count, uint64_t now_ns, struct decision *out)
{
	const struct governor_request *newest = &requests[count - 1];
	struct governor_task *t = governor->task;
	struct governor_session *s = &governor->session[newest->session];

	*out = (struct decision){.runner_up.point = SIZE_MAX, .feasible = true};
	governor->begun++;
	if (newest->flight)
		newest->flight->order = governor->begun;
	refill_mem(governor, now_ns);
	if (board->current_known)
		company_advance(governor, requests, count, board->current, now_ns);
	session_began(governor, newest);
	task_begin(governor, board, requests, count, now_ns);
	for (size_t i = 0; i < count; i++)
		out->learning = out->learning || requests[i].surface->state != SURFACE_READY;
	t->feasible = true;
	if (unknown(requests, count, now_ns)) {
		out->point = grid_index(board->grid, t->high);
		out->reason = REASON_UNKNOWN;
		t->parties = 1;
		company_simulate(t, out->point);
	} else {
		choose(t, out);
	}
	describe(t, out);
	expect_ends(t, out);
	s->forgiven = out->reason == REASON_UNKNOWN || ((!t->feasible || s->missed) && late_anyway(t));
	note_mem(governor, board->grid, out->point);
}

/* Costs of coming up to a point, by the time it takes: one per set of clocks that come up. */
struct wait_costs {
	size_t count;
	double up_ns[1 << CLOCK_COUNT];
	struct cost cost[1 << CLOCK_COUNT];
};

static struct cost wait_cost(const struct governor_task *t, size_t wanted, double up_ns, struct wait_costs *waits)
{
	size_t k = 0;

	while (k < waits->count && waits->up_ns[k] != up_ns)
		k++;
	if (k == waits->count) {
		waits->up_ns[k] = up_ns;
		waits->cost[k] = cost_at(t, wanted, t->party[t->newest].starts_ns + up_ns);
		waits->count++;
	}
	return waits->cost[k];
}

/* The point to wait at for a request that will run at `wanted`: idle power until it begins, against the time and the
 * risk of coming up for it. */
static size_t wait_at(const struct governor_task *t, size_t wanted)
{
	const struct party *p = &t->party[t->newest];
	double gap_ns = p->starts_ns, time_ns = t->period_ns, best_sum = INFINITY;
	struct cost at = cost_at(t, wanted, 0);
	struct wait_costs waits = {.count = 0};
	size_t to[CLOCK_COUNT], axis[CLOCK_COUNT], best = wanted;

	grid_axes(t->board.grid, wanted, to);
	for (size_t i = 0; i < t->board.grid->points; i++) {
		double up_ns, sum;
		if ((i != wanted && p->surface->idle_power_uw[i] >= p->surface->idle_power_uw[wanted]) ||
		    !cost_allowed(t, i, t->soft))
			continue;
		grid_axes(t->board.grid, i, axis);
		up_ns = moves_up_ns(&t->board, axis, to);
		sum = ((double)p->surface->idle_power_uw[i] * gap_ns +
		       (double)p->surface->power_uw[wanted] * 2 * up_ns) /
		      time_ns;
		if (sum >= best_sum)
			continue;
		if (up_ns > 0) {
			struct cost cost = wait_cost(t, wanted, up_ns, &waits);
			if (cost.worst > fmax(t->governor->options.miss_target, at.worst) ||
			    gap_ns < GAP_MOVES * (up_ns + moves_down_ns(&t->board, to, axis)))
				continue;
			sum += cost.misses_uw - at.misses_uw;
		}
		if (sum < best_sum) {
			best_sum = sum;
			best = i;
		}
	}
	return best;
}

bool governor_gap(struct governor *governor, const struct governor_board *board,
		  const struct governor_request *requests, size_t count, uint64_t now_ns, size_t *point)
{
	struct governor_task *t = governor->task;
	double worst;

	refill_mem(governor, now_ns);
	task_begin(governor, board, requests, count, now_ns);
	if (unknown(requests, count, now_ns) || !board->current_known)
		return false;
	t->feasible = find_target(t);
	if (!t->feasible)
		return false;
	/* Clocks at which deadlines are missed are left in a gap, at no request's cost. */
	*point = board->current;
	worst = cost_at(t, *point, 0).worst;
	if (!choice_being_learned(t, worst) && worst > t->risk_max &&
	    choice_weigh(t, t->target).now.worst <= fmax(t->risk_max, t->at_target.worst))
		*point = t->target;
	*point = wait_at(t, *point);
	if (*point == board->current)
		return false;
	note_mem(governor, board->grid, *point);
	return true;
}

size_t governor_prepare(struct governor *governor, const struct governor_board *board,
			const struct governor_request *request, uint64_t now_ns)
{
	struct governor_task *t = governor->task;

	task_begin(governor, board, request, 1, now_ns);
	if (unknown(request, 1, now_ns))
		return grid_index(board->grid, t->high);
	find_target(t);
	return t->target;
}
