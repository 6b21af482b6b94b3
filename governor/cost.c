/* SPDX-License-Identifier: MIT */
/* What a point costs: power, and the price of the misses to expect there. */
#include "state.h"

#define HEAVY_SCALE       0.55
#define LATE_HIGH         ((double)LATE_LOW + (LATE_BINS - 1) * (double)LATE_STEP) /* where the tables end */
#define FASTEST_TOLERANCE 1.005 /* every clock up, unless another point is this much faster */

/* Survival of Student's t with three degrees of freedom, narrowed: how far a fit is off where
 * nothing was measured, in its own deviations. On the population 84 % are below 0.4 to 0.6 of them,
 * 98 % below 1.3 to 2, 99.5 % below 2.4 to 4. */
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

/* The chance that a request takes z deviations more than expected, of a variance `sum` of which `noise` is its own and
 * the rest doubt about the fit. */
static double beyond(const struct governor_task *t, const struct surface *s, double noise, double sum, double z)
{
	const float *heavy = t->governor->heavy_over;
	double at = (z - (double)LATE_LOW) * (1 / (double)LATE_STEP), share;
	size_t k;

	if (!(at > 0))
		return 1;
	if (at >= LATE_BINS - 1) {
		/* the tail of that distribution falls with the cube */
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

/* Whether those that are expected may stay away, so that two ends have to be told apart. */
static bool two_ways(const struct governor_task *t)
{
	return t->joined > 0 && t->joined < 1;
}

/* The end that is the more likely of the two, and the one that comes first. */
static const struct form *likely(const struct governor_task *t, const struct party *party)
{
	return two_ways(t) && t->joined < 0.5 && !party->later ? &party->quiet : &party->form;
}

static const struct form *soonest(const struct governor_task *t, const struct party *party)
{
	return two_ways(t) && !party->later ? &party->quiet : &party->form;
}

/* For what is not known of others' shares. */
static double doubt_of(const struct governor_task *t, const struct party *party, const struct form *form)
{
	return form == &party->quiet && t->running == 1 ? 0 : party->doubt_var;
}

/* Chance that what takes `end_ns` more takes longer than `slack_ns`, having run for `ran_ns`: what is not known of a
 * request is a share of the whole of it. At a glance it is the least that it can be, without a logarithm: log x <=
 * (x - 1) / sqrt(x) from 1 on, and <= 2 (x - 1) / (x + 1) below. */
static double late_in(const struct governor_task *t, const struct party *party, const struct form *form, size_t point,
		      double end_ns, double slack_ns, double ran_ns, bool glance)
{
	const struct surface *s = party->surface;
	/* What passes before anything runs scales with nothing. */
	double fixed_ns = form->fixed_ns > 0 ? (double)form->fixed_ns : 0, noise, sum, spare_ns, z;

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
	      doubt_of(t, party, form);
	if (!glance)
		z = log(slack_ns / end_ns) / sqrt(sum);
	else
		z = spare_ns > 0 ? spare_ns / sqrt(slack_ns * end_ns * sum) :
				   2 * spare_ns / ((slack_ns + end_ns) * sqrt(sum));
	return beyond(t, s, noise, sum, z);
}

static double late_by(const struct governor_task *t, const struct party *party, const struct form *form, size_t point,
		      double end_ns, double slack_ns, double ran_ns)
{
	return late_in(t, party, form, point, end_ns, slack_ns, ran_ns, false);
}

static double late_least(const struct governor_task *t, const struct party *party, const struct form *form,
			 size_t point, double end_ns, double slack_ns, double ran_ns)
{
	return late_in(t, party, form, point, end_ns, slack_ns, ran_ns, true);
}

double cost_late(const struct governor_task *t, const struct party *party, size_t point, double end_ns, double slack_ns)
{
	return late_by(t, party, likely(t, party), point, end_ns, slack_ns, party->ran_ns);
}

static double end_by(const struct governor_task *t, const struct form *form, size_t point)
{
	double ns = (double)form->fixed_ns;

	for (size_t m = 0; m < t->ofs; m++)
		ns += (double)form->w[m] * (double)t->of[m]->latency_ns[point];
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

/* Whether clocks can come up for what a session begins next. */
static bool in_time_to_rise(const struct governor_task *t, const struct party *party, size_t point, double end_ns)
{
	double begins_ns = party->later ? party->starts_ns : end_ns;
	bool beside = party->later && cost_end(t, &t->party[t->newest], point) > begins_ns;
	size_t axis[CLOCK_COUNT];
	double wait_ns;

	grid_axes(t->board.grid, point, axis);
	wait_ns = moves_up_ns(&t->board, axis, t->high) + fmax(moves_down_ns(&t->board, t->from, axis) - begins_ns, 0);
	return wait_ns <= (beside ? party->beside_ns : party->next_ns);
}

/* Where they cannot, it has to be in time here. */
static double late_next(const struct governor_task *t, const struct party *party, const struct form *form, size_t point,
			double end_ns)
{
	if (in_time_to_rise(t, party, point, end_ns))
		return 0;
	return party->later ? late_by(t, party, form, point, end_ns, party->slack_ns, 0) :
			      late_by(t, party, form, point, end_ns / party->left, party->deadline_ns, 0);
}

static double fits_by(const struct governor_task *t, const struct party *party, const struct form *form, size_t point)
{
	const struct surface *s = party->surface;
	double end_ns = end_by(t, form, point), fixed_ns = fmax((double)form->fixed_ns, 0);
	/* A request there tells of its latency. What others make of it is as doubtful as before. */
	double sd = (double)s->sd[point],
	       upper = hypot((double)s->noise_log, t->governor->normal * sqrt(doubt_of(t, party, form)));
	double over =
		log(fmax(party->slack_ns - fixed_ns, 1) / fmax(end_ns - fixed_ns, 1)) - upper - (double)s->slow_sd;
	double fits = sd > 0 ? 1 - beyond(t, s, 0, 1, over / sd) : over >= 0;

	return party->next ? fmin(fits, 1 - late_next(t, party, form, point, end_ns)) : fits;
}

static double fits_of(const struct governor_task *t, const struct party *party, size_t point)
{
	double fits;

	if (party->later)
		return party->next ? 1 - party->chance * late_next(t, party, &party->form, point,
								   end_by(t, &party->form, point)) :
				     1;
	fits = fits_by(t, party, &party->form, point);
	return two_ways(t) ? t->joined * fits + (1 - t->joined) * fits_by(t, party, &party->quiet, point) : fits;
}

double cost_fits(const struct governor_task *t, size_t point)
{
	double least = 1;

	for (size_t p = 0; p < t->parties; p++)
		least = fmin(least, fits_of(t, &t->party[p], point));
	return least;
}

double cost_fits_most(const struct governor_task *t, size_t point)
{
	return fits_of(t, &t->party[t->urgent], point);
}

float cost_price(const struct governor_task *t, size_t point)
{
	if (t->governor->options.objective == OBJECTIVE_ENERGY) {
		const struct surface *s = t->party[t->newest].surface;
		double run = fmin((double)s->latency_ns[point] * s->slowdown / t->period_ns, 1);
		return (float)(run * (double)s->power_uw[point] + (1 - run) * (double)s->idle_power_uw[point]);
	}
	return t->party[t->newest].surface->power_uw[point];
}

/* Chance that a request is late, and by how much of its slack it is expected to be. */
struct risk {
	double late, over;
};

/* What of a party's slack a move leaves. */
static double slack_after(const struct party *party, double move_ns)
{
	return party->slack_ns - (party->starts_ns > 0 ? fmax(move_ns - party->starts_ns, 0) : move_ns);
}

static struct risk risk_by(const struct governor_task *t, const struct party *party, const struct form *form,
			   size_t point, double move_ns)
{
	double end_ns = end_by(t, form, point);
	double slack_ns = slack_after(party, move_ns);
	struct risk risk = {.late = late_by(t, party, form, point, end_ns, slack_ns, party->ran_ns),
			    .over = fmax(end_ns - slack_ns, 0) / party->deadline_ns};

	if (party->next)
		risk.late = fmax(risk.late, late_next(t, party, form, point, end_ns));
	return risk;
}

static struct risk risk_of(const struct governor_task *t, const struct party *party, size_t point, double move_ns)
{
	struct risk risk = {0}, quiet;

	if (party->later) {
		if (party->next)
			risk.late = party->chance *
				    late_next(t, party, &party->form, point, end_by(t, &party->form, point));
		return risk;
	}
	risk = risk_by(t, party, &party->form, point, move_ns);
	if (!two_ways(t))
		return risk;
	quiet = risk_by(t, party, &party->quiet, point, move_ns);
	return (struct risk){t->joined * risk.late + (1 - t->joined) * quiet.late,
			     t->joined * risk.over + (1 - t->joined) * quiet.over};
}

static void add_late(const struct governor_task *t, size_t p, size_t point, double move_ns, struct cost *cost)
{
	const struct party *party = &t->party[p];
	struct risk risk = risk_of(t, party, point, move_ns);

	cost->late += party->price * (risk.late + risk.over);
	cost->worst = fmax(cost->worst, risk.late);
	if (p == t->newest)
		cost->newest = risk.late;
}

static struct cost cost_of(const struct governor_task *t, size_t point, double move_ns, bool now)
{
	struct cost cost = {.price = (double)cost_price(t, point)};

	for (size_t p = 0; p < t->parties; p++)
		add_late(t, p, point, move_ns + (now ? t->party[p].flight_ns : 0), &cost);
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

static double floor_by(const struct governor_task *t, const struct party *party, const struct form *form, size_t point,
		       double end_ns, double slack_ns)
{
	double late = party->later ? 0 : late_least(t, party, form, point, end_ns, slack_ns, party->ran_ns);

	if (!party->next || late >= t->most || in_time_to_rise(t, party, point, end_ns))
		return late;
	return party->later ?
		       party->chance * late_least(t, party, form, point, end_ns, party->slack_ns, 0) :
		       fmax(late, late_least(t, party, form, point, end_ns / party->left, party->deadline_ns, 0));
}

struct cost cost_floor(const struct governor_task *t, size_t point, double move_ns, double risk, double sum)
{
	struct cost cost = {.price = (double)cost_price(t, point)};

	/* The most urgent one first: it tells most. */
	for (size_t k = t->urgent, left = t->parties; left && cost.worst < risk && cost.price + cost.late < sum;
	     left--, k = k + 1 < t->parties ? k + 1 : 0) {
		const struct party *party = &t->party[k];
		const struct form *form = soonest(t, party);
		double end_ns, slack_ns, late;
		if (party->later && !party->next)
			continue;
		end_ns = end_by(t, form, point);
		slack_ns = slack_after(party, move_ns);
		late = floor_by(t, party, form, point, end_ns, slack_ns);
		if (two_ways(t) && !party->later)
			late = t->joined * floor_by(t, party, &party->form, point, end_by(t, &party->form, point),
						    slack_ns) +
			       (1 - t->joined) * late;
		cost.worst = late > cost.worst ? late : cost.worst;
		if (!party->later && end_ns > slack_ns)
			late += (end_ns - slack_ns) / party->deadline_ns;
		cost.late += party->price * late;
	}
	return cost;
}

bool cost_allowed(const struct governor_task *t, size_t point, const size_t low[CLOCK_COUNT])
{
	size_t axis[CLOCK_COUNT];

	grid_axes(t->board.grid, point, axis);
	return moves_within(axis, low, t->high) &&
	       !(t->governor->options.power_max_uw > 0 &&
		 (double)t->party[t->newest].surface->power_uw[point] > t->governor->options.power_max_uw);
}

/* The first bin from `k` on in which a chance of a miss is `most` at most, `own` of its variance its own. */
static size_t early_bin(const struct governor_task *t, const struct surface *s, double own, size_t k)
{
	const float *heavy = t->governor->heavy_over;

	while (k < LATE_BINS && own * (double)s->late[k] + (1 - own) * (double)heavy[k] > t->most)
		k++;
	return k;
}

/* The deviations by which a request has to be early for that. */
static double early_sd(const struct governor_task *t, const struct surface *s, double own, size_t k)
{
	const float *heavy = t->governor->heavy_over;
	double was, late;

	k = early_bin(t, s, own, k);
	if (k == LATE_BINS) {
		double left = t->most - own * (double)s->late[LATE_BINS - 1];
		return left > 0 ? LATE_HIGH * cbrt((1 - own) * (double)heavy[LATE_BINS - 1] / left) : INFINITY;
	}
	if (k == 0)
		return 0;
	was = own * (double)s->late[k - 1] + (1 - own) * (double)heavy[k - 1];
	late = own * (double)s->late[k] + (1 - own) * (double)heavy[k];
	return fmax((double)LATE_LOW + (double)LATE_STEP * ((double)k - (t->most - late) / (was - late)), 0);
}

/* Which party is most likely to be late at a point. */
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

void cost_find_sieve(struct governor_task *t, size_t at)
{
	const struct party *party = likeliest(t, at);
	const struct surface *s = party->surface;
	struct sieve *sieve = &t->sieve;
	double noise = (double)s->noise_sd * (double)s->noise_sd, before = 0;
	double var = noise + (double)s->slow_sd * (double)s->slow_sd + party->doubt_var;
	size_t first, heavy;

	*sieve = (struct sieve){.party = party, .past_ns = party->ran_ns - fmax((double)party->form.fixed_ns, 0)};
	sieve->room_ns = party->slack_ns + sieve->past_ns;
	sieve->per_sd = (float)(SIEVE_STEPS / (SIEVE_SD * sqrt(var)));
	if (two_ways(t))
		return;
	first = early_bin(t, s, 1, 0);
	heavy = early_bin(t, s, 0, 0);
	for (size_t k = 0; k <= SIEVE_STEPS; k++) {
		double sd = (double)k / (double)sieve->per_sd, sum = var + sd * sd;
		double early = early_sd(t, s, noise / sum, first < heavy ? first : heavy),
		       squared = early * early * sum;
		if (k)
			sieve->least[k - 1] = fmin(before, squared);
		before = squared;
	}
	sieve->least[SIEVE_STEPS] = before;
}

bool cost_surely_late(const struct governor_task *t, size_t point)
{
	const struct sieve *sieve = &t->sieve;
	double ns = cost_soonest(t, sieve->party, point) + sieve->past_ns, spare_ns = sieve->room_ns - ns;
	float step = sieve->party->surface->sd[point] * sieve->per_sd;

	return !(spare_ns > 0) || spare_ns * spare_ns < sieve->least[step < SIEVE_STEPS ? (size_t)step : SIEVE_STEPS] *
								sieve->room_ns * ns;
}

/* Others make it end later, never earlier: what it takes alone tells most points apart at one look. */
float cost_own_most(const struct governor_task *t)
{
	const struct party *urgent = &t->party[t->urgent];
	const struct form *form = soonest(t, urgent);
	double w = (double)form->w[urgent->of], end_ns = urgent->slack_ns - fmin((double)form->fixed_ns, 0);

	return w > 0 ? (float)(fmax(end_ns, 0) / w) : INFINITY;
}

size_t cost_home(const struct governor_task *t, const size_t low[CLOCK_COUNT], const size_t *looked, size_t start,
		 struct cost *out)
{
	const struct party *urgent = &t->party[t->urgent];
	const float *own = urgent->surface->latency_ns;
	float most = cost_own_most(t);
	size_t best = SIZE_MAX;
	double least = INFINITY;

	for (size_t k = 0; k <= t->board.grid->points; k++) {
		size_t i = k ? k - 1 : start;
		struct cost cost;
		if (i >= t->board.grid->points || own[i] > most || cost_price(t, i) >= (float)least ||
		    cost_surely_late(t, i) || !cost_allowed(t, i, low) || (looked && cost_allowed(t, i, looked)))
			continue;
		cost = cost_floor(t, i, 0, t->most, least);
		if (cost.worst >= t->most || cost.price + cost.late >= least)
			continue;
		cost = cost_at(t, i, 0);
		if (cost.worst > t->most || cost.price + cost.late >= least)
			continue;
		least = cost.price + cost.late;
		best = i;
		*out = cost;
	}
	return best;
}

size_t cost_fastest(const struct governor_task *t)
{
	const struct party *urgent = &t->party[t->urgent];
	const float *own = urgent->surface->latency_ns;
	size_t best = grid_index(t->board.grid, t->high);
	double least = cost_allowed(t, best, t->low) ? cost_end(t, urgent, best) / FASTEST_TOLERANCE : INFINITY;
	const struct form *form = soonest(t, urgent);
	float w = form->w[urgent->of], fixed_ns = fminf(form->fixed_ns, 0);

	for (size_t i = 0; i < t->board.grid->points; i++) {
		if ((double)(own[i] * w + fixed_ns) >= least || !cost_allowed(t, i, t->low))
			continue;
		double end_ns = cost_end(t, urgent, i);
		if (end_ns < least) {
			least = end_ns;
			best = i;
		}
	}
	return best;
}
