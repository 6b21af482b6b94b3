/* SPDX-License-Identifier: MIT */
/* The decision: surfaces + active requests + board state -> operating point.
 * Pure: time is a parameter, nothing is read or written, no memory is taken
 * after governor_init(). `now_ns` is service time: it passes with the requests,
 * so that a replay at any speed decides the same. */
#ifndef GOVERNOR_GOVERNOR_H
#define GOVERNOR_GOVERNOR_H

#include "../estimator/model.h"
#include "scan.h"

enum objective { OBJECTIVE_POWER, OBJECTIVE_ENERGY };

struct governor_options {
	enum objective objective;
	double margin;             /* extra on every bound, 0.00 default, [0, 1] */
	uint64_t mem_dwell_ns;     /* the memory clock comes down at most this often, a short burst aside: 2 s default */
	uint32_t hold_requests;    /* after a miss, stay up for so many requests of that session: 8 default */
	double gain_min;           /* do not move for less power than this share: 0.01 default */
};

/* What the board can do now. */
struct governor_board {
	const struct grid *grid;
	size_t current;                    /* grid point in force */
	bool current_known;
	uint64_t settle_ns[CLOCK_COUNT];   /* write + settle of each clock, upper estimate */
	uint64_t write_ns[CLOCK_COUNT];    /* of it, what the write alone blocks: all that a move down costs one who waits */
	uint64_t ceiling_hz[CLOCK_COUNT];  /* set by others (thermal, power mode); UINT64_MAX: none */
	uint64_t floor_hz[CLOCK_COUNT];    /* configured; 0: none */
	uint64_t ceiling_config_hz[CLOCK_COUNT]; /* configured; UINT64_MAX: none */
};

/* An active request; several share the GPU. */
struct governor_request {
	const struct surface *surface;
	uint32_t session;      /* dense id < SESSIONS_MAX, indexes the governor's memory of misses */
	uint64_t begin_ns;     /* when begin was received */
	uint64_t deadline_ns;  /* absolute */
	uint64_t flight_ns;    /* of its time, what a move under way takes yet before it can start */
	double done;           /* share already executed, estimated, [0, 1) */
	bool waits;            /* does not start before the clocks are applied: a move down costs it time too */
};

enum refusal {
	REFUSED_NOT,
	REFUSED_BOUND,     /* bound + settle over the slack */
	REFUSED_SETTLE,    /* would fit without the cost of moving there */
	REFUSED_SHARED,    /* fits alone, another request's deadline does not */
	REFUSED_CEILING,
	REFUSED_FLOOR,
	REFUSED_HOLD,      /* a recent miss holds the clocks up */
	REFUSED_DWELL,     /* memory moved too recently */
	REFUSED_GAIN,      /* cheaper by less than gain_min, or than the move costs */
	REFUSED_STANDBY    /* the clocks could not come up in time for a tighter deadline seen lately */
};

struct decision {
	size_t point;       /* grid index chosen */
	bool feasible;
	bool learning;      /* a surface was not ready */
	bool trial;         /* bound, or bound and settle, over the slack: taken once, to learn or to get there */
	bool step;          /* dearer than need be, once: the runner-up, cheaper still, can be reached from there */
	bool late_once;     /* not feasible for the time to move alone: where those that follow it are in time */
	bool stays;         /* not feasible, but hardly ever late as it is, and moving takes longer than that is worth */
	uint64_t predicted_ns, bound_ns, settle_ns; /* of the newest request at `point` */
	uint64_t slack_ns;
	double factor;      /* on the surface's bound of the newest request: margin, slow-down, hold and past misses */
	bool held;          /* a recent miss is in `factor` */
	double power_uw;    /* or relative cost */
	bool power_known;
	uint32_t measured;  /* requests that ran at `point` before */
	enum bound_source source;
	enum regime regime;
	size_t runner_up;   /* by governor_explain(): cheaper than `point`: the cheapest that only a rule of thrift or caution refused
			     * (gain, dwell, hold, standby), else the next cheaper one; SIZE_MAX: none */
	enum refusal runner_up_refused;
	uint64_t runner_up_bound_ns, runner_up_settle_ns;
	double runner_up_power_uw;
};

/* What moving to each point costs, INFINITY where it is not allowed: kept while what it follows from stays. */
struct moves {
	struct moves_key {
		size_t count[CLOCK_COUNT], current, low[CLOCK_COUNT], high[CLOCK_COUNT]; /* of the grid; in force; allowed */
		uint64_t settle_ns[CLOCK_COUNT], write_ns[CLOCK_COUNT];
		uint64_t known, waits;
	} key;
	float ns[GRID_POINTS_MAX];
};

/* The newest decision's view of things, kept for governor_explain(). */
struct governor_task {
	struct governor *governor;
	struct governor_board board;
	struct governor_request newest;
	const struct surface *surface; /* of the newest */
	uint64_t now_ns;
	size_t low[CLOCK_COUNT], high[CLOCK_COUNT]; /* axes allowed by ceilings and floors */
	size_t soft[CLOCK_COUNT];                   /* low, raised by dwell and standby */
	struct price price;
	size_t home;    /* the cheapest that would fit once there; SIZE_MAX: none */
	bool steps;     /* out of thrift to a dearer point, as home can be reached from there */
	size_t thrifty; /* would have been taken, but for a gain too small; SIZE_MAX: none */
	bool past;      /* demands hold what past misses ask for */
	size_t count;
	struct demand demand[REQUESTS_MAX]; /* by deadline */
	uint32_t session[REQUESTS_MAX];     /* parallel */
};

struct governor {
	struct governor_options options;
	struct governor_task task;
	struct governor_session {
		uint32_t hold;      /* requests still to be held up */
		double boost;       /* factor on bounds while held, >= 1 */
		double misses;      /* decayed share of misses at points run before: noise */
		double credit;      /* misses that may still be spent on trials */
		bool known;         /* has begun a request */
		bool trial, feasible; /* of the newest decision */
		bool back;          /* it is late as it comes back from a trial */
		uint32_t seen;      /* requests that had been measured at its point */
		bool late;          /* the newest request that ended */
		uint32_t requests;  /* begun */
		uint32_t lost;      /* one after the other, late as they had to be */
		size_t point, wanted; /* of the newest decision: where to, and where to if moving took no time */
		size_t ahead;       /* where the clocks went in the gap for the next request to try; SIZE_MAX: nowhere */
		uint32_t steps;     /* taken, and not yet there */
		uint32_t eager_until; /* learning at some risk until so many were */
		uint64_t bands;     /* half octaves of deadlines seen */
		uint64_t tight_ns[2];    /* least relative deadline of this window and the last; UINT64_MAX: none */
		uint64_t fast_ns;        /* bound at the fastest point, of the newest request */
		uint64_t period_ns, apart_ns; /* distance of begins: mean, and the newest */
		uint64_t begin_ns;       /* of the newest request */
		size_t home[CLOCK_COUNT];/* axes of the newest point chosen for a tight deadline */
	} session[SESSIONS_MAX];
	uint32_t sessions;      /* highest id in use, plus 1 */
	uint32_t last_session;  /* whose request ended last */
	uint64_t mem_moved_ns;  /* when `mem_tokens` was last brought up to date */
	double mem_tokens;      /* times the memory clock may come down now */
	size_t mem_axis;        /* at the last decision */
	struct moves moves, standing; /* from where the board is, within the limits of the decision; as if moving took no time */
};

void governor_options_default(struct governor_options *options);
void governor_init(struct governor *governor, const struct governor_options *options);

/* Decide for `count` active requests (newest last, 1 to REQUESTS_MAX), all on
 * surfaces of board->grid. <= 2 us at 1,276 points and 8 requests. */
void governor_decide(struct governor *governor, const struct governor_board *board, const struct governor_request *requests,
		     size_t count, uint64_t now_ns, struct decision *out);

/* Fill in the runner-up of the decision just made, on surfaces that have not
 * changed since. On its own because the request does not wait for it. */
void governor_explain(const struct governor *governor, struct decision *decision);

/* A request of `session` ended; deadline and bound count from its begin. Steps
 * up after a miss, and slowly down again. */
void governor_ended(struct governor *governor, uint32_t session, uint64_t total_ns, uint64_t deadline_ns, uint64_t bound_ns);

void governor_session_reset(struct governor *governor, uint32_t session);

/* Between requests, after governor_ended(): worth moving to `*point` for an
 * expected gap? That is where the session's next request will want to be,
 * reached while nobody waits, or, in a long gap, lower still. Returns false
 * when not. */
bool governor_idle(struct governor *governor, const struct governor_board *board, const struct surface *surface,
		   uint64_t expected_gap_ns, uint64_t now_ns, size_t *point);

/* A session was opened while nobody holds the clocks: where its first request, of this
 * relative deadline, will want to be. */
size_t governor_prepare(struct governor *governor, const struct governor_board *board, const struct surface *surface,
			uint32_t session, uint64_t relative_ns, uint64_t now_ns);

const char *refusal_text(enum refusal refusal);

#endif
