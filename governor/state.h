/* SPDX-License-Identifier: MIT */
/* State shared by the files of the governor; no other room includes it. */
#ifndef GOVERNOR_STATE_H
#define GOVERNOR_STATE_H

#include <math.h>
#include "governor.h"

/* ---- moves.c ---- */

/* The range of an axis between floor and ceiling. The ceiling wins; the lowest entry is always allowed. */
void moves_limits(const struct governor_board *board, int clock, size_t *low, size_t *high);
bool moves_within(const size_t axis[CLOCK_COUNT], const size_t low[CLOCK_COUNT], const size_t high[CLOCK_COUNT]);
/* How long a request waits for a move, in ns: for the clocks that come up, one after the other. While clocks come down
 * it runs at the faster ones. */
double moves_up_ns(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT]);

/* The time of the clocks that come down. No request waits for it, but no clock can come up before it is over. */
double moves_down_ns(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT]);

/* ---- company.c ---- */

/* The end of a request, from now, as a linear function of the latencies at a point of the models in company. */
struct linear_form {
	float w[COMPANY_MAX]; /* per entry of governor_task.surface */
	float fixed_ns;
};

struct governor_task;
/* Simulate when each of the requests of the task ends, side by side, from their latencies at point `at`. */
void company_simulate(struct governor_task *t, size_t at);
/* An expected request beside the newest one. */
bool company_expected(const struct governor_task *t, size_t party);
/* How many times longer a party takes beside the requests in flight that began before it. */
double company_beside(const struct governor_task *t, size_t party);
/* How long a request has run. */
double company_ran_ns(const struct governor_flight *flight);
/* Bring the progress of requests in flight up to date. */
void company_advance(struct governor *governor, const struct governor_request *requests, size_t count, size_t at,
		     uint64_t now_ns);
double company_theta(const struct governor *governor, uint32_t model, uint32_t other, bool before, double *var);

/* ---- session.c ---- */

/* A request of the session begins. */
void session_began(struct governor *governor, const struct governor_request *request);
/* The deadline that its next request may have, if this one has `deadline_ns`: the shortest of late, if that is of
 * another kind, else the same. Both relative. */
double session_next_deadline_ns(const struct governor_session *session, double deadline_ns);
/* The variance of the log of its totals in company about the expected ones. */
double session_company_var(const struct governor_session *session);

/* ---- cost.c ---- */

struct party {
	const struct governor_request *request;
	const struct surface *surface;
	size_t surface_index;            /* its entry in governor_task.surface */
	double left;                     /* share of its work still to be done, */
	double ran_ns;                   /* after it has run for this long */
	double starts_ns;                /* from now; 0: runs */
	double slack_ns;                 /* from now */
	double settling_ns;              /* of slack_ns, until the move under way is over; cost_at() leaves it out */
	double miss_price_uw;            /* in power over one request */
	double scale;                    /* margin and slow-down */
	double doubt_var;                /* of the log of its end: unknown interference of the others */
	struct linear_form end_joined;   /* its end where all expected requests begin as early as they may, */
	struct linear_form end_unjoined; /* and where none begins */
	/* The next request of its session (this one if it is expected) has no time to wait for all clocks to come up:
	 * at most `next_ns`, at the fastest point. */
	bool next;
	double beside_ns; /* the same if the newest is still running then */
	bool later;       /* expected, beside a newest that runs, */
	double chance;    /* with this chance to begin before the newest has to end */
	double next_ns;
	double deadline_ns;      /* relative */
	double next_deadline_ns; /* of the next request of its session */
};

#define SIEVE_STEPS 16
#define SIEVE_SD    4 /* range of the steps, in deviations of all but the fit */

/* A test, without a logarithm, that finds most points where one request's chance to be late is over
 * `governor_task.risk_max`: log x <= (x - 1) / sqrt(x) bounds the squared lead that it needs there, over the product
 * of end and deadline. */
struct sieve {
	const struct party *party; /* mostly the likeliest to be late at the current point */
	double past_ns, room_ns;   /* time run, which adds to an end; slack, with that */
	float per_sd;              /* steps per unit of the fit's deviation */
	double least[SIEVE_STEPS + 1];
};

/* The cost of a point, per request. */
struct cost {
	double power_uw;  /* with OBJECTIVE_ENERGY the mean over a period */
	double misses_uw; /* expected price of misses */
	double worst;     /* largest chance of a miss among them */
	double newest;    /* chance of a miss of the newest */
};

struct governor_task {
	struct governor *governor;
	struct governor_board board;
	uint64_t now_ns, until_ns;                  /* when the newest has to end */
	size_t low[CLOCK_COUNT], high[CLOCK_COUNT]; /* axes allowed by ceilings and floors */
	size_t soft[CLOCK_COUNT];                   /* low, raised by the memory clock's dwell */
	struct party party[COMPANY_MAX];
	size_t parties, newest, urgent;
	const struct surface *surface[COMPANY_MAX]; /* distinct surfaces */
	size_t surfaces;
	bool settling;    /* the newest waits for the move under way */
	size_t running;   /* parties in flight, the newest included */
	double joined;    /* chance that an expected request begins before the newest has to end */
	double top_uw;    /* power at the highest point allowed: the unit of MISS_PRICE */
	double period_ns; /* over which energy is counted */
	double horizon;   /* requests over which savings count */
	bool learns;      /* the newest's total is learned from */
	double risk_max;  /* largest chance of a miss that may be taken now */
	bool feasible;    /* some point keeps every deadline once there */
	double gap_ns;    /* after the newest, while nothing runs and clocks move at no cost */
	struct sieve sieve,
		sieve_later; /* later: of the next request of one that cannot wait for clocks, or party NULL */
	size_t target;       /* cheapest point in time once there, or else the fastest; SIZE_MAX: not known yet */
	struct cost at_target;
	size_t from[CLOCK_COUNT];
};

static inline float cost_power_uw(const struct governor_task *t, size_t point)
{
	if (t->governor->options.objective == OBJECTIVE_ENERGY) {
		const struct surface *s = t->party[t->newest].surface;
		double run = fmin((double)s->latency_ns[point] * s->slowdown / t->period_ns, 1);
		return (float)(run * (double)s->power_uw[point] + (1 - run) * (double)s->idle_power_uw[point]);
	}
	return t->party[t->newest].surface->power_uw[point];
}

/* Chance that a request is late at a point whose end is `end_ns` from now. */
double cost_late(const struct governor_task *t, const struct party *party, size_t point, double end_ns,
		 double slack_ns);
/* When a party ends at a point, from now; the likelier end, if expected requests may join it. */
double cost_end(const struct governor_task *t, const struct party *party, size_t point);
/* The earlier end. */
double cost_soonest(const struct governor_task *t, const struct party *party, size_t point);
/* The chance that a measured point would keep every slack at `quantile`: the least of all parties. */
double cost_fits(const struct governor_task *t, size_t point);
/* The same of the most urgent party alone: an upper bound, at a fraction of the work where many are in flight. */
double cost_fits_urgent(const struct governor_task *t, size_t point);
/* The cost of a point, with a wait of move_ns for the move there. */
struct cost cost_at(const struct governor_task *t, size_t point, double move_ns);
/* The same, for requests in flight that wait for the move under way first. */
struct cost cost_now(const struct governor_task *t, size_t point, double move_ns);
/* Set up the sieves, the first for the party that is likeliest to be late at point `at`. Call when all else of parties
 * is set. */
void cost_find_sieve(struct governor_task *t, size_t at);
/* Whether a request's chance of a miss is over `risk_max`, by the sieves, which find most such points. */
bool cost_surely_late(const struct governor_task *t, size_t point);
/* A lower bound of cost_at(), within some percent, without a logarithm. Stops early once the chance of a miss is at
 * least `risk`, or the whole cost at least `sum`. */
struct cost cost_floor(const struct governor_task *t, size_t point, double move_ns, double risk, double sum);
/* The latency alone beyond which the most urgent request is late. */
float cost_own_max_ns(const struct governor_task *t);
/* The chance that a fit's error exceeds LATE_LOW + k x LATE_STEP of its deviations. */
void cost_heavy_table(float over[LATE_BINS]);

#define BLOCK 16 /* points that are skipped together where none is of use */

/* The first point, from the one at `i` on that begins a block, of a block where some point takes the most urgent
 * request `own_max_ns` alone at most and, unless the objective is energy, less power than `below_uw`. */
size_t cost_next_block(const struct governor_task *t, size_t i, float own_max_ns, double below_uw);

static inline size_t cost_skip(const struct governor_task *t, size_t i, float own_max_ns, double below_uw)
{
	return i % BLOCK ? i : cost_next_block(t, i, own_max_ns, below_uw);
}

/* The cheapest point within axes low..high that keeps every deadline once there, without those in low_done..high unless
 * that is NULL. SIZE_MAX: none. */
size_t cost_cheapest(const struct governor_task *t, const size_t low[CLOCK_COUNT], const size_t *low_done, size_t start,
		     struct cost *out);
/* The point where the most urgent request ends first. */
size_t cost_fastest(const struct governor_task *t);
bool cost_allowed(const struct governor_task *t, size_t point, const size_t low[CLOCK_COUNT]);

/* ---- choice.c ---- */

#define LIKELY 0.5 /* chance from which a request counts as late: more likely than not */

struct choice {
	size_t point;
	double sum; /* the cost J, less that of staying at the target */
	struct cost now;
	double learned; /* value of what would be learned there */
};

/* The cost J of an allowed point. */
struct choice choice_weigh(const struct governor_task *t, size_t point);
/* The point of least cost. Outside learning no deadline is put at risk; if none can be kept, the limit is the risk at
 * the target. */
struct choice choice_least(const struct governor_task *t, bool feasible);
/* Whether the clocks stay to measure the current point. Only a request during which they stood measures it, so they
 * stay until each model has run there once, unless the risk of one of several requests, `worst`, is too high. */
bool choice_being_learned(const struct governor_task *t, double worst);

/* ---- explain.c ---- */

double explain_bound_ns(const struct governor_task *t, size_t point);

#endif
