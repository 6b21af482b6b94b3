/* SPDX-License-Identifier: MIT */
/* The cost of a point: power, and the price of the misses expected there. */
#include "state.h"

#define HEAVY_SCALE       0.55
#define LATE_HIGH         ((double)LATE_LOW + (LATE_BINS - 1) * (double)LATE_STEP) /* end of the tables */
#define FASTEST_TOLERANCE 1.005 /* every clock at its highest, unless another point is faster by this ratio */

/* Error of the fit at points where nothing was measured, in its own deviations: the survival function of Student's t
 * with three degrees of freedom, scaled. On the population 84 % of errors are below 0.4 to 0.6 deviations, 98 % below
 * 1.3 to 2, 99.5 % below 2.4 to 4. */
static double heavy_over(double z)
{
	double t = z / HEAVY_SCALE, u = t / sqrt(3);

	return 0.5 - (atan(u) + u / (1 + u * u)) / M_PI;
}

void cost_heavy_table(float over[LATE_BINS])
{
	for (size_t k = 0; k < LATE_BINS; k++)
		over[k] = (float)heavy_over((double)LATE_LOW + (double)k * (double)LATE_STEP);
}

/* The chance that a request takes over z deviations more than expected. Of its variance `sum`, `noise` is scatter of
 * requests and the rest error of the fit. */
static double beyond(const struct governor_task *t, const struct surface *s, double noise, double sum, double z)
{
	const float *heavy = t->governor->heavy_over;
	double at = (z - (double)LATE_LOW) * (1 / (double)LATE_STEP), share;
	size_t k;

	if (!(at > 0)) {
		double nearer = (double)LATE_LOW / z;
		return 1 - (sum - noise) / sum * (1 - (double)heavy[0]) * nearer * nearer * nearer;
	}
	if (at >= LATE_BINS - 1) {
		/* the tail of Student's t (3) falls with the cube */
		double nearer = LATE_HIGH / z;
		return (noise * (double)s->late[LATE_BINS - 1] +
			(sum - noise) * (double)heavy[LATE_BINS - 1] * nearer * nearer * nearer) /
		       sum;
	}
	k = (size_t)at;
	share = at - (double)k;
	return (noise * ((double)s->late[k] * (1 - share) + (double)s->late[k + 1] * share) +
		(sum - noise) * ((double)heavy[k] * (1 - share) + (double)heavy[k + 1] * share)) /
	       sum;
}

/* Whether expected requests may or may not begin in time to matter, so that there are two ends to consider. */
static bool two_ways(const struct governor_task *t)
{
	return t->joined > 0 && t->joined < 1;
}

/* The likelier of the two ends, and the earlier. */
static const struct linear_form *likely(const struct governor_task *t, const struct party *party)
{
	return two_ways(t) && t->joined < 0.5 && !party->later ? &party->end_unjoined : &party->end_joined;
}

static const struct linear_form *soonest(const struct governor_task *t, const struct party *party)
{
	return two_ways(t) && !party->later ? &party->end_unjoined : &party->end_joined;
}

/* Variance of the end for the unknown interference of others. */
static double doubt_of(const struct governor_task *t, const struct party *party, const struct linear_form *end)
{
	return end == &party->end_unjoined && t->running == 1 ? 0 : party->doubt_var;
}

/* Chance that a request which has run for `ran_ns` and is expected to take `end_ns` more exceeds `slack_ns`; its
 * uncertainty is relative to its whole time. lower_bound: a bound without a logarithm, by log x <= (x - 1) / sqrt(x)
 * for x >= 1, and log x <= 2 (x - 1) / (x + 1) below. */
static double late_in(const struct governor_task *t, const struct party *party, const struct linear_form *end,
		      size_t point, double end_ns, double slack_ns, double ran_ns, bool lower_bound)
{
	const struct surface *s = party->surface;
	/* The time before anything runs is not uncertain. */
	double fixed_ns = end->fixed_ns > 0 ? (double)end->fixed_ns : 0, noise, sum, spare_ns, z;

	slack_ns -= fixed_ns;
	end_ns -= fixed_ns;
	if (!(slack_ns > 0))
		return 1;
	if (!(end_ns > 1))
		return 0;
	slack_ns += ran_ns;
	end_ns += ran_ns;
	spare_ns = slack_ns - end_ns;
	noise = (double)s->noise_sd * (double)s->noise_sd;
	sum = noise + (double)s->sd[point] * (double)s->sd[point] + (double)s->slow_sd * (double)s->slow_sd +
	      doubt_of(t, party, end);
	if (!lower_bound)
		z = log(slack_ns / end_ns) / sqrt(sum);
	else
		z = spare_ns > 0 ? spare_ns / sqrt(slack_ns * end_ns * sum) :
				   2 * spare_ns / ((slack_ns + end_ns) * sqrt(sum));
	return beyond(t, s, noise, sum, z);
}

static double late_by(const struct governor_task *t, const struct party *party, const struct linear_form *end,
		      size_t point, double end_ns, double slack_ns, double ran_ns)
{
	return late_in(t, party, end, point, end_ns, slack_ns, ran_ns, false);
}

static double late_least(const struct governor_task *t, const struct party *party, const struct linear_form *end,
			 size_t point, double end_ns, double slack_ns, double ran_ns)
{
	return late_in(t, party, end, point, end_ns, slack_ns, ran_ns, true);
}

double cost_late(const struct governor_task *t, const struct party *party, size_t point, double end_ns, double slack_ns)
{
	return late_by(t, party, likely(t, party), point, end_ns, slack_ns, party->ran_ns);
}

static double end_by(const struct governor_task *t, const struct linear_form *end, size_t point)
{
	double ns = (double)end->fixed_ns;

	for (size_t m = 0; m < t->surfaces; m++)
		ns += (double)end->w[m] * (double)t->surface[m]->latency_ns[point];
	return ns > 1 ? ns : 1;
}

double cost_end(const struct governor_task *t, const struct party *party, size_t point)
{
	return end_by(t, likely(t, party), point);
}

double cost_soonest(const struct governor_task *t, const struct party *party, size_t point)
{
	return end_by(t, soonest(t, party), point);
}

/* How long a party waits for a move that begins now. */
static double waits_ns(const struct party *party, double move_ns)
{
	return party->starts_ns > 0 ? fmax(move_ns - party->starts_ns, 0) : move_ns;
}

/* What is left of its slack then. */
static double slack_after(const struct party *party, double move_ns)
{
	return party->slack_ns - waits_ns(party, move_ns);
}

/* Whether the clocks, once a move of move_ns is over, can come up in time for the next request of a session. */
static bool in_time_to_rise(const struct governor_task *t, const struct party *party, size_t point, double end_ns,
			    double move_ns)
{
	double begins_ns = party->later ? party->starts_ns : end_ns;
	bool beside = party->later && cost_end(t, &t->party[t->newest], point) > begins_ns;
	size_t axis[CLOCK_COUNT];
	double wait_ns;

	grid_axes(t->board.grid, point, axis);
	wait_ns = moves_up_ns(&t->board, axis, t->high) + fmax(moves_down_ns(&t->board, t->from, axis) - begins_ns, 0);
	if (party->later)
		wait_ns += waits_ns(party, move_ns);
	return wait_ns <= (beside ? party->beside_ns : party->next_ns);
}

/* The chance that the next request of a session is late at this point, where the clocks cannot come up for it. */
static double late_next(const struct governor_task *t, const struct party *party, const struct linear_form *end,
			size_t point, double end_ns, double move_ns)
{
	if (in_time_to_rise(t, party, point, end_ns, move_ns))
		return 0;
	return party->later ? late_by(t, party, end, point, end_ns, slack_after(party, move_ns), 0) :
			      late_by(t, party, end, point, end_ns / party->left, party->next_deadline_ns, 0);
}

static double fits_by(const struct governor_task *t, const struct party *party, const struct linear_form *end,
		      size_t point)
{
	const struct surface *s = party->surface;
	double end_ns = end_by(t, end, point), fixed_ns = fmax((double)end->fixed_ns, 0);
	/* A request at this point would measure its latency, but not the interference of others. */
	double sd = (double)s->sd[point], noise_log = (double)s->noise_log, quantile_sd = t->governor->quantile_sd;
	double upper = sqrt(noise_log * noise_log + quantile_sd * quantile_sd * doubt_of(t, party, end));
	double over =
		log(fmax(party->slack_ns - fixed_ns, 1) / fmax(end_ns - fixed_ns, 1)) - upper - (double)s->slow_sd;
	double fits = sd > 0 ? 1 - beyond(t, s, 0, 1, over / sd) : over >= 0;

	return party->next ? fmin(fits, 1 - late_next(t, party, end, point, end_ns, 0)) : fits;
}

static double fits_of(const struct governor_task *t, const struct party *party, size_t point)
{
	double fits;

	if (party->later)
		return party->next ? 1 - party->chance * late_next(t, party, &party->end_joined, point,
								   end_by(t, &party->end_joined, point), 0) :
				     1;
	fits = fits_by(t, party, &party->end_joined, point);
	return two_ways(t) ? t->joined * fits + (1 - t->joined) * fits_by(t, party, &party->end_unjoined, point) : fits;
}

double cost_fits(const struct governor_task *t, size_t point)
{
	double least = 1;

	for (size_t p = 0; p < t->parties; p++)
		least = fmin(least, fits_of(t, &t->party[p], point));
	return least;
}

double cost_fits_urgent(const struct governor_task *t, size_t point)
{
	return fits_of(t, &t->party[t->urgent], point);
}

/* Chance that a request is late, and the expected overrun as a share of its deadline. */
struct risk {
	double late, over;
};

static struct risk risk_by(const struct governor_task *t, const struct party *party, const struct linear_form *end,
			   size_t point, double move_ns)
{
	double end_ns = end_by(t, end, point);
	double slack_ns = slack_after(party, move_ns);
	struct risk risk = {.late = late_by(t, party, end, point, end_ns, slack_ns, party->ran_ns),
			    .over = fmax(end_ns - slack_ns, 0) / party->deadline_ns};

	if (party->next)
		risk.late = fmax(risk.late, late_next(t, party, end, point, end_ns, move_ns));
	return risk;
}

static struct risk risk_of(const struct governor_task *t, const struct party *party, size_t point, double move_ns)
{
	struct risk risk = {0}, unjoined;

	if (party->later) {
		if (party->next)
			risk.late = party->chance * late_next(t, party, &party->end_joined, point,
							      end_by(t, &party->end_joined, point), move_ns);
		return risk;
	}
	risk = risk_by(t, party, &party->end_joined, point, move_ns);
	if (!two_ways(t))
		return risk;
	unjoined = risk_by(t, party, &party->end_unjoined, point, move_ns);
	return (struct risk){t->joined * risk.late + (1 - t->joined) * unjoined.late,
			     t->joined * risk.over + (1 - t->joined) * unjoined.over};
}

static void add_late(const struct governor_task *t, size_t p, size_t point, double move_ns, struct cost *cost)
{
	const struct party *party = &t->party[p];
	struct risk risk = risk_of(t, party, point, move_ns);

	cost->misses_uw += party->miss_price_uw * (risk.late + risk.over);
	cost->worst = fmax(cost->worst, risk.late);
	if (p == t->newest)
		cost->newest = risk.late;
}

static struct cost cost_of(const struct governor_task *t, size_t point, double move_ns, bool now)
{
	struct cost cost = {.power_uw = (double)cost_power_uw(t, point)};

	for (size_t p = 0; p < t->parties; p++)
		add_late(t, p, point, move_ns + (now ? t->party[p].settling_ns : 0), &cost);
	return cost;
}

struct cost cost_at(const struct governor_task *t, size_t point, double move_ns)
{
	return cost_of(t, point, move_ns, false);
}

struct cost cost_now(const struct governor_task *t, size_t point, double move_ns)
{
	return cost_of(t, point, move_ns, true);
}

static double floor_by(const struct governor_task *t, const struct party *party, const struct linear_form *end,
		       size_t point, double end_ns, double move_ns)
{
	double slack_ns = slack_after(party, move_ns);
	double late = party->later ? 0 : late_least(t, party, end, point, end_ns, slack_ns, party->ran_ns);

	if (!party->next || late >= t->risk_max || in_time_to_rise(t, party, point, end_ns, move_ns))
		return late;
	return party->later ?
		       party->chance * late_least(t, party, end, point, end_ns, slack_ns, 0) :
		       fmax(late, late_least(t, party, end, point, end_ns / party->left, party->next_deadline_ns, 0));
}

struct cost cost_floor(const struct governor_task *t, size_t point, double move_ns, double risk, double sum)
{
	struct cost cost = {.power_uw = (double)cost_power_uw(t, point)};

	/* The most urgent first: it mostly decides. */
	for (size_t k = t->urgent, left = t->parties; left && cost.worst < risk && cost.power_uw + cost.misses_uw < sum;
	     left--, k = k + 1 < t->parties ? k + 1 : 0) {
		const struct party *party = &t->party[k];
		const struct linear_form *end = soonest(t, party);
		double end_ns, slack_ns, late;
		if (party->later && !party->next)
			continue;
		end_ns = end_by(t, end, point);
		slack_ns = slack_after(party, move_ns);
		late = floor_by(t, party, end, point, end_ns, move_ns);
		if (two_ways(t) && !party->later)
			late = t->joined * floor_by(t, party, &party->end_joined, point,
						    end_by(t, &party->end_joined, point), move_ns) +
			       (1 - t->joined) * late;
		cost.worst = late > cost.worst ? late : cost.worst;
		if (!party->later && end_ns > slack_ns)
			late += (end_ns - slack_ns) / party->deadline_ns;
		cost.misses_uw += party->miss_price_uw * late;
	}
	return cost;
}

/* The power of a point: of the requests that run there, that which draws most. Without a sensor power is a relative
 * cost, to which no cap in watts applies. */
static bool over_power_max(const struct governor_task *t, size_t point)
{
	double most_uw = t->governor->options.power_max_uw;

	for (size_t p = 0; most_uw > 0 && p < t->parties; p++) {
		const struct surface *s = t->party[p].surface;
		if ((p == t->newest || t->party[p].starts_ns <= 0) && s->power_known &&
		    (double)s->power_uw[point] > most_uw)
			return true;
	}
	return false;
}

bool cost_allowed(const struct governor_task *t, size_t point, const size_t low[CLOCK_COUNT])
{
	size_t axis[CLOCK_COUNT];

	grid_axes(t->board.grid, point, axis);
	return moves_within(axis, low, t->high) && !over_power_max(t, point);
}

/* The first bin from `k` on where the chance of a miss is at most `risk`; `own`: share of noise in the variance. */
static size_t early_bin(const float heavy[LATE_BINS], const struct surface *s, double own, double risk, size_t k)
{
	while (k < LATE_BINS && own * (double)s->late[k] + (1 - own) * (double)heavy[k] > risk)
		k++;
	return k;
}

/* The deviations by which a request has to be early for the same. */
static double early_sd(const float heavy[LATE_BINS], const struct surface *s, double own, double risk, size_t k)
{
	double was, late;

	k = early_bin(heavy, s, own, risk, k);
	if (k == LATE_BINS) {
		double left = risk - own * (double)s->late[LATE_BINS - 1];
		return left > 0 ? LATE_HIGH * cbrt((1 - own) * (double)heavy[LATE_BINS - 1] / left) : INFINITY;
	}
	if (k == 0)
		return 0;
	was = own * (double)s->late[k - 1] + (1 - own) * (double)heavy[k - 1];
	late = own * (double)s->late[k] + (1 - own) * (double)heavy[k];
	return fmax((double)LATE_LOW + (double)LATE_STEP * ((double)k - (risk - late) / (was - late)), 0);
}

/* The party that is most likely to be late at a point. */
static const struct party *likeliest(const struct governor_task *t, size_t at)
{
	const struct party *best = &t->party[t->urgent];
	double most = -1;

	for (size_t p = 0; p < t->parties && t->parties > 1; p++) {
		const struct party *party = &t->party[p];
		double late;
		if (party->later)
			continue;
		late = late_least(t, party, soonest(t, party), at, cost_soonest(t, party, at), party->slack_ns,
				  party->ran_ns);
		if (late > most || (late == most && p == t->urgent)) {
			most = late;
			best = party;
		}
	}
	return best;
}

/* `risk`: the chance of a miss that is too much. */
static void set_sieve(const struct governor_task *t, const struct party *party, double risk, struct sieve *sieve)
{
	const float *heavy_over = t->governor->heavy_over;
	const struct surface *s = party->surface;
	const struct linear_form *end = soonest(t, party);
	double noise = (double)s->noise_sd * (double)s->noise_sd, before = 0;
	double var = noise + (double)s->slow_sd * (double)s->slow_sd + doubt_of(t, party, end);
	size_t first = early_bin(heavy_over, s, 1, risk, 0), heavy = early_bin(heavy_over, s, 0, risk, 0);

	*sieve = (struct sieve){.party = party,
				.past_ns = (party->later ? 0 : party->ran_ns) - fmax((double)end->fixed_ns, 0)};
	sieve->room_ns = party->slack_ns + sieve->past_ns;
	sieve->per_sd = (float)(SIEVE_STEPS / (SIEVE_SD * sqrt(var)));
	for (size_t k = 0; k <= SIEVE_STEPS; k++) {
		double sd = (double)k / (double)sieve->per_sd, sum = var + sd * sd;
		double early = early_sd(heavy_over, s, noise / sum, risk, first < heavy ? first : heavy),
		       squared = early * early * sum;
		if (k)
			sieve->least[k - 1] = fmin(before, squared);
		before = squared;
	}
	sieve->least[SIEVE_STEPS] = before;
}

void cost_find_sieve(struct governor_task *t, size_t at)
{
	set_sieve(t, likeliest(t, at), t->risk_max, &t->sieve);
	t->sieve_later.party = NULL;
	for (size_t p = 0; p < t->parties && !t->sieve_later.party; p++)
		if (t->party[p].later && t->party[p].next)
			set_sieve(t, &t->party[p], t->risk_max / t->party[p].chance, &t->sieve_later);
}

static bool is_late_by(const struct governor_task *t, const struct sieve *sieve, size_t point)
{
	double ns = cost_soonest(t, sieve->party, point) + sieve->past_ns, spare_ns = sieve->room_ns - ns;
	float step = sieve->party->surface->sd[point] * sieve->per_sd;
	double least = sieve->least[step < SIEVE_STEPS ? (size_t)step : SIEVE_STEPS];

	return spare_ns > 0 ? spare_ns * spare_ns < least * sieve->room_ns * ns : least > 0;
}

bool cost_surely_late(const struct governor_task *t, size_t point)
{
	const struct party *later = t->sieve_later.party;

	return is_late_by(t, &t->sieve, point) ||
	       (later && is_late_by(t, &t->sieve_later, point) &&
		!in_time_to_rise(t, later, point, end_by(t, &later->end_joined, point), 0));
}

/* Other requests can only make it end later, so its latency alone rules out most points. */
float cost_own_max_ns(const struct governor_task *t)
{
	const struct party *urgent = &t->party[t->urgent];
	const struct linear_form *end = soonest(t, urgent);
	double w = (double)end->w[urgent->surface_index], end_ns = urgent->slack_ns - fmin((double)end->fixed_ns, 0);

	return w > 0 ? (float)(fmax(end_ns, 0) / w) : INFINITY;
}

/* Without a branch inside, so that the compiler takes several points at a time. */
static bool block_may(const float *own, float own_max_ns, const float *power_uw, float below_uw)
{
	int may = 0;

	for (size_t k = 0; k < BLOCK; k++)
		may |= (own[k] <= own_max_ns) & (power_uw[k] < below_uw);
	return may;
}

size_t cost_next_block(const struct governor_task *t, size_t i, float own_max_ns, double below_uw)
{
	const float *own = t->party[t->urgent].surface->latency_ns, *power_uw = t->party[t->newest].surface->power_uw;
	/* Energy is not a table. */
	float below = t->governor->options.objective == OBJECTIVE_ENERGY ? INFINITY : (float)below_uw;

	while (i + BLOCK <= t->board.grid->points && !block_may(&own[i], own_max_ns, &power_uw[i], below))
		i += BLOCK;
	return i;
}

size_t cost_cheapest(const struct governor_task *t, const size_t low[CLOCK_COUNT], const size_t *low_done, size_t start,
		     struct cost *out)
{
	const float *own = t->party[t->urgent].surface->latency_ns;
	float most = cost_own_max_ns(t);
	size_t best = SIZE_MAX, points = t->board.grid->points;
	double least = INFINITY;

	for (size_t k = 0; k <= points; k++) {
		size_t i = k ? cost_skip(t, k - 1, most, least) : start;
		struct cost cost;
		if (k)
			k = i + 1;
		if (i >= points || own[i] > most || cost_power_uw(t, i) >= (float)least || cost_surely_late(t, i) ||
		    !cost_allowed(t, i, low) || (low_done && cost_allowed(t, i, low_done)))
			continue;
		cost = cost_floor(t, i, 0, t->risk_max, least);
		if (cost.worst >= t->risk_max || cost.power_uw + cost.misses_uw >= least)
			continue;
		cost = cost_at(t, i, 0);
		if (cost.worst > t->risk_max || cost.power_uw + cost.misses_uw >= least)
			continue;
		least = cost.power_uw + cost.misses_uw;
		best = i;
		*out = cost;
	}
	return best;
}

/* end_by() of a block of points, by one model after the other. */
static void block_ends(const struct governor_task *t, const struct linear_form *end, size_t first, double ns[BLOCK])
{
	for (size_t k = 0; k < BLOCK; k++)
		ns[k] = (double)end->fixed_ns;
	for (size_t m = 0; m < t->surfaces; m++) {
		const float *alone_ns = &t->surface[m]->latency_ns[first];
		double w = (double)end->w[m];
		for (size_t k = 0; k < BLOCK; k++)
			ns[k] += w * (double)alone_ns[k];
	}
	for (size_t k = 0; k < BLOCK; k++)
		ns[k] = ns[k] > 1 ? ns[k] : 1;
}

/* The point of least power within the limits of the clocks: where no point is under power_max. */
static size_t least_power(const struct governor_task *t)
{
	size_t best = grid_index(t->board.grid, t->high), axis[CLOCK_COUNT];

	for (size_t i = 0; i < t->board.grid->points; i++) {
		grid_axes(t->board.grid, i, axis);
		if (moves_within(axis, t->low, t->high) && cost_power_uw(t, i) < cost_power_uw(t, best))
			best = i;
	}
	return best;
}

size_t cost_fastest(const struct governor_task *t)
{
	const struct party *urgent = &t->party[t->urgent];
	size_t best = grid_index(t->board.grid, t->high);
	double least = cost_allowed(t, best, t->low) ? cost_end(t, urgent, best) / FASTEST_TOLERANCE : INFINITY;
	size_t points = t->board.grid->points, block = BLOCK;
	double own_w = (double)soonest(t, urgent)->w[urgent->surface_index],
	       fixed_ns = fmin((double)soonest(t, urgent)->fixed_ns, 0);

	for (size_t i = 0; i < points; i += block) {
		double end_ns[BLOCK];
		i = cost_skip(t, i, own_w > 0 ? (float)((least - fixed_ns) / own_w) : INFINITY, INFINITY);
		if (i >= points)
			break;
		if (i + BLOCK <= points) {
			block_ends(t, likely(t, urgent), i, end_ns);
		} else {
			block = 1;
			end_ns[0] = cost_end(t, urgent, i);
		}
		for (size_t k = 0; k < block; k++) {
			if (end_ns[k] >= least || !cost_allowed(t, i + k, t->low))
				continue;
			least = end_ns[k];
			best = i + k;
		}
	}
	return least < INFINITY ? best : least_power(t);
}
