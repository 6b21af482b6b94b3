/* SPDX-License-Identifier: MIT */
/* What a point costs: power, and the price of the misses to expect there. */
#include "state.h"

#define HEAVY_SCALE       0.55
#define QUANTILE_STEPS    30    /* halvings: to the last digit of a float */
#define FASTEST_TOLERANCE 1.005 /* every clock up, unless another point is this much faster */

/* Survival of Student's t with three degrees of freedom, narrowed: how far a fit is off where
 * nothing was measured, in its own deviations. On the population 84 % are below 0.4 to 0.6 of them,
 * 98 % below 1.3 to 2, 99.5 % below 2.4 to 4. */
static double heavy_over(double z)
{
	double t = z / HEAVY_SCALE, u = t / sqrt(3);

	return 0.5 - (atan(u) + u / (1 + u * u)) / M_PI;
}

double cost_heavy_quantile(double share)
{
	double low = 0, high = 1;

	while (heavy_over(high) > share)
		high *= 2;
	for (int i = 0; i < QUANTILE_STEPS; i++)
		*(heavy_over((low + high) / 2) > share ? &low : &high) = (low + high) / 2;
	return low;
}

static double scatter_over(const struct surface *s, double z)
{
	double at = (z - (double)LATE_LOW) / (double)LATE_STEP, share;
	size_t k;

	if (!(at > 0))
		return 1;
	if (at >= LATE_BINS - 1)
		return (double)s->late[LATE_BINS - 1];
	k = (size_t)at;
	share = at - (double)k;
	return (double)s->late[k] * (1 - share) + (double)s->late[k + 1] * share;
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
 * request is a share of the whole of it. */
static double late_by(const struct governor_task *t, const struct party *party, const struct form *form, size_t point,
		      double end_ns, double slack_ns, double ran_ns)
{
	const struct surface *s = party->surface;
	double noise, epi, sum, z, share;

	/* What passes before anything runs scales with nothing. */
	slack_ns -= fmax((double)form->fixed_ns, 0);
	end_ns -= fmax((double)form->fixed_ns, 0);
	if (!(slack_ns > 0))
		return 1;
	if (!(end_ns > 1))
		return 0;
	noise = (double)s->noise_sd * (double)s->noise_sd;
	epi = (double)s->sd[point] * (double)s->sd[point] + (double)s->slow_sd * (double)s->slow_sd +
	      doubt_of(t, party, form);
	sum = noise + epi;
	z = log((slack_ns + ran_ns) / (end_ns + ran_ns)) / sqrt(sum);
	share = noise / sum;
	return share * scatter_over(s, z) + (1 - share) * heavy_over(z);
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
	return fmax(ns, 1);
}

double cost_end(const struct governor_task *t, const struct party *party, size_t point)
{
	return end_by(t, likely(t, party), point);
}

double cost_soonest(const struct governor_task *t, const struct party *party, size_t point)
{
	return end_by(t, soonest(t, party), point);
}

/* What a session begins next: in time here, or clocks can come up for it. */
static double late_next(const struct governor_task *t, const struct party *party, const struct form *form, size_t point,
			double end_ns)
{
	double begins_ns = party->later ? party->starts_ns : end_ns;
	bool beside = party->later && cost_end(t, &t->party[t->newest], point) > begins_ns;
	size_t axis[CLOCK_COUNT];
	double wait_ns;

	grid_axes(t->board.grid, point, axis);
	wait_ns = moves_up_ns(&t->board, axis, t->high) + fmax(moves_down_ns(&t->board, t->from, axis) - begins_ns, 0);
	if (wait_ns <= (beside ? party->beside_ns : party->next_ns))
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
	double fits = sd > 0 ? 1 - heavy_over(over / sd) : over >= 0;

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

static struct risk risk_by(const struct governor_task *t, const struct party *party, const struct form *form,
			   size_t point, double move_ns)
{
	double end_ns = end_by(t, form, point);
	double slack_ns = party->slack_ns - (party->starts_ns > 0 ? fmax(move_ns - party->starts_ns, 0) : move_ns);
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

struct cost cost_at(const struct governor_task *t, size_t point, double move_ns)
{
	struct cost cost = {.price = (double)cost_price(t, point)};

	for (size_t p = 0; p < t->parties; p++)
		add_late(t, p, point, move_ns, &cost);
	return cost;
}

struct cost cost_least(const struct governor_task *t, size_t point)
{
	struct cost cost = {.price = (double)cost_price(t, point)};

	add_late(t, t->urgent, point, 0, &cost);
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

/* Time from now by which the most urgent request has to end for its chance of a miss to be `most` at most, whatever the
 * fit's own deviation at the point: told apart at one look from points where it is higher. */
static double end_most_ns(const struct governor_task *t)
{
	const struct party *urgent = &t->party[t->urgent];
	const struct surface *s = urgent->surface;
	double sd = sqrt((double)s->noise_sd * (double)s->noise_sd + (double)s->slow_sd * (double)s->slow_sd +
			 urgent->doubt_var);
	double fixed_ns = fmax((double)urgent->form.fixed_ns, 0), past_ns = urgent->ran_ns - fixed_ns,
	       z = (double)LATE_LOW;
	size_t k = 0;

	if (two_ways(t))
		return urgent->slack_ns;
	while (k < LATE_BINS && (double)s->late[k] > t->most)
		z = (double)LATE_LOW + (double)k++ * (double)LATE_STEP;
	z = fmax(fmin(z, t->governor->heavy), 0);
	return (urgent->slack_ns + past_ns) * exp(-z * sd) - past_ns;
}

/* Others make it end later, never earlier: what it takes alone tells most points apart at one look. */
float cost_own_most(const struct governor_task *t, double end_ns)
{
	const struct party *urgent = &t->party[t->urgent];
	const struct form *form = soonest(t, urgent);
	double w = (double)form->w[urgent->of];

	end_ns -= fmin((double)form->fixed_ns, 0);
	return w > 0 ? (float)(fmax(end_ns, 0) / w) : INFINITY;
}

size_t cost_home(const struct governor_task *t, const size_t low[CLOCK_COUNT], size_t start, struct cost *out)
{
	const struct party *urgent = &t->party[t->urgent];
	const float *own = urgent->surface->latency_ns;
	double end_ns = end_most_ns(t);
	float most = cost_own_most(t, end_ns);
	size_t best = SIZE_MAX;
	double least = INFINITY;

	for (size_t k = 0; k <= t->board.grid->points; k++) {
		size_t i = k ? k - 1 : start;
		if (i >= t->board.grid->points || own[i] > most || cost_price(t, i) >= (float)least ||
		    cost_soonest(t, urgent, i) > end_ns || !cost_allowed(t, i, low))
			continue;
		struct cost cost = cost_least(t, i);
		if (cost.worst > t->most || cost.price + cost.late >= least)
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
