/* SPDX-License-Identifier: MIT */
/* What the files of the governor share; nothing outside it includes this. */
#ifndef GOVERNOR_STATE_H
#define GOVERNOR_STATE_H

#include <math.h>
#include "governor.h"

/* ---- moves.c ---- */

/* Entries of an axis inside floor and ceiling; the ceiling wins, and the lowest
 * entry stands when it is below all. */
void moves_limits(const struct governor_board *board, int clock, size_t *low, size_t *high);
bool moves_within(const size_t axis[CLOCK_COUNT], const size_t low[CLOCK_COUNT], const size_t high[CLOCK_COUNT]);
/* What moving from one point to another takes of a request's time, in ns: the clocks that come up,
 * one after the other. A clock that comes down leaves a request at the faster one until it is in
 * effect. */
double moves_up_ns(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT]);

/* The same of those that come down: nobody waits for it, but no clock comes up before it is over. */
double moves_down_ns(const struct governor_board *board, const size_t from[CLOCK_COUNT], const size_t to[CLOCK_COUNT]);

/* ---- company.c ---- */

/* The end of a request after now, as a linear form in the latencies of the models in company at a point. */
struct form {
	float w[COMPANY_MAX]; /* per entry of governor_task.of */
	float fixed_ns;
};

struct governor_task;
/* Lay out when each of the task's requests ends, one running beside the other, from what they take at point `at`. */
void company_lay_out(struct governor_task *t, size_t at);
/* One that is decided for elsewhere, and has not begun. */
bool company_expected(const struct governor_task *t, size_t party);
/* How many times longer it takes beside those in flight, which had begun before it. */
double company_beside(const struct governor_task *t, size_t party);
/* How long a request has run. */
double company_ran_ns(const struct governor_flight *flight);
/* Bring what is known of requests in flight up to now. */
void company_advance(struct governor *governor, const struct governor_request *requests, size_t count, size_t at,
		     uint64_t now_ns);
double company_theta(const struct governor *governor, uint32_t model, uint32_t other, bool before, double *var);

/* ---- session.c ---- */

/* A request of the session begins, clocks at point `current`. */
void session_began(struct governor *governor, const struct governor_request *request, size_t current);
/* How far its totals in company exceed what was expected of them, as a variance of their log. */
double session_company_var(const struct governor_session *session);

/* ---- cost.c ---- */

struct party {
	const struct governor_request *request;
	const struct surface *surface;
	size_t of;         /* its entry in governor_task.of */
	double left;       /* share still to be done, */
	double ran_ns;     /* after it has run for this long */
	double starts_ns;  /* from now; 0: runs */
	double slack_ns;   /* from now */
	double flight_ns;  /* of it, until a move that is under way is over: what is at home does not have to wait so */
	double price;      /* of its miss */
	double scale;      /* margin and slow-down */
	double doubt_var;  /* of the log of its end, for what is not known of the others' shares */
	struct form form;  /* of its end, where all that are expected begin as early as they may, */
	struct form quiet; /* and where none does */
	/* What its session begins next, this one where it is expected, has no time to wait for all clocks to
	 * come up: `next_ns` of it at most, at the fastest point. */
	bool next;
	double beside_ns; /* the same where it finds the newest still running */
	bool later;       /* expected, and not what is decided for, */
	double chance;    /* to begin before that has to end */
	double next_ns;
	double deadline_ns; /* relative */
};

#define SIEVE_STEPS 16
#define SIEVE_SD    4 /* times all other deviation, up to which that of the fit is told apart */

/* What tells at one look of most points where a request's chance to be late is over `governor_task.most`: with log x <=
 * (x - 1) / sqrt(x), the square of what its end has to be early by, over the product of end and deadline. */
struct sieve {
	const struct party *party; /* the likeliest to be late where the clocks are */
	double past_ns, room_ns;   /* what has run adds to an end; its slack with that */
	float per_sd;              /* steps of the fit's deviation */
	double least[SIEVE_STEPS + 1];
};

/* What a point costs once there, per request. */
struct cost {
	double price;  /* power, or energy over the time of a request */
	double late;   /* expected price of misses */
	double worst;  /* largest chance of a miss among them */
	double newest; /* that of the newest */
};

struct governor_task {
	struct governor *governor;
	struct governor_board board;
	uint64_t now_ns, until_ns;                  /* when the newest has to end */
	size_t low[CLOCK_COUNT], high[CLOCK_COUNT]; /* axes allowed by ceilings and floors */
	size_t soft[CLOCK_COUNT];                   /* low, raised by the memory clock's dwell */
	struct party party[COMPANY_MAX];
	size_t parties, newest, urgent;
	const struct surface *of[COMPANY_MAX]; /* distinct surfaces */
	size_t ofs;
	bool in_flight;   /* one of them waits for a move that is under way */
	size_t running;   /* parties in flight, what is decided for among them */
	double joined;    /* chance that one of those expected begins before the newest has to end */
	double top_uw;    /* power at the highest point allowed: the unit of prices */
	double period_ns; /* over which energy is counted */
	double horizon;   /* requests over which savings count */
	double yield;     /* share of trials of which anything is learned */
	double most;      /* chance of a miss that may be taken now */
	bool feasible;    /* there is a point that keeps every deadline once there */
	double gap_ns;    /* after the newest, in which nothing runs and clocks move at no cost */
	struct sieve sieve;
	size_t home; /* cheapest that fits once there; SIZE_MAX: none */
	struct cost at_home;
	size_t from[CLOCK_COUNT];
};

/* Chance that a request is late at a point whose end is `end_ns` from now. */
double cost_late(const struct governor_task *t, const struct party *party, size_t point, double end_ns,
		 double slack_ns);
/* When it ends at a point, from now: where it may be joined by requests that are expected, the more likely end. */
double cost_end(const struct governor_task *t, const struct party *party, size_t point);
/* The same where none joins that may stay away. */
double cost_soonest(const struct governor_task *t, const struct party *party, size_t point);
/* The chance that the point's own upper quantile fits its slack. */
double cost_fits(const struct governor_task *t, size_t point);
struct cost cost_at(const struct governor_task *t, size_t point, double move_ns);
/* The same for the requests that are in flight now, which have to wait for what is under way first. */
struct cost cost_now(const struct governor_task *t, size_t point, double move_ns);
/* Once all that is known of the parties is there: by the one that is likeliest to be late at a point. */
void cost_find_sieve(struct governor_task *t, size_t at);
/* A request's chance of a miss is over `most`. Tells most such points. */
bool cost_surely_late(const struct governor_task *t, size_t point);
/* What cost_at() is no less than, within some percent, told without a logarithm. Ends where the risk is as much as
 * `risk`, or the whole as `sum`. */
struct cost cost_floor(const struct governor_task *t, size_t point, double move_ns, double risk, double sum);
/* The same for the most urgent party alone: no higher, at a fraction of the work where many are in flight. */
double cost_fits_most(const struct governor_task *t, size_t point);
float cost_price(const struct governor_task *t, size_t point);
/* Latency of the most urgent request alone, beyond which it is late. */
float cost_own_most(const struct governor_task *t);
/* The chance that a fit's error exceeds LATE_LOW + k x LATE_STEP of its deviations. */
void cost_heavy_table(float over[LATE_BINS]);
/* The cheapest point within axes low..high, and not within looked..high unless that is NULL, that keeps every deadline
 * once there. SIZE_MAX: none. */
size_t cost_home(const struct governor_task *t, const size_t low[CLOCK_COUNT], const size_t *looked, size_t start,
		 struct cost *out);
/* The point where the most urgent request ends first. */
size_t cost_fastest(const struct governor_task *t);
bool cost_allowed(const struct governor_task *t, size_t point, const size_t low[CLOCK_COUNT]);

/* ---- choice.c ---- */

#define LIKELY 0.5 /* chance from which on a request counts as late: more likely than not */

struct choice {
	size_t point;
	double sum; /* the cost J, less that of being at home for good */
	struct cost now;
	double learned;
};

/* What it costs to take a point that is allowed. */
struct choice choice_weigh(const struct governor_task *t, size_t point);
/* The least costly. Outside learning no deadline is put at risk; where none can be kept, the least harm. */
struct choice choice_least(const struct governor_task *t, bool feasible);
/* A request that moved while it ran tells nothing of a point: clocks that were taken somewhere to learn stand until
 * one of each session has run there from beginning to end, as long as none of several is at more risk there, `worst`,
 * than it may be. */
bool choice_being_learned(const struct governor_task *t, double worst);

/* ---- explain.c ---- */

double explain_bound_ns(const struct governor_task *t, size_t point);

#endif
