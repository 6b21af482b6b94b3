/* SPDX-License-Identifier: MIT */
/* The decision: surfaces + requests + board state -> operating point, by one cost (HACKING.md, "The governor").
 * Pure: time is a parameter, nothing is read or written, no memory is taken after governor_init(). `now_ns` is virtual
 * time: it passes with the requests, so that a replay at any speed decides the same. */
#ifndef GOVERNOR_GOVERNOR_H
#define GOVERNOR_GOVERNOR_H

#include "../estimator/model.h"

enum objective { OBJECTIVE_POWER, OBJECTIVE_ENERGY };

struct governor_options {
	enum objective objective;
	double margin; /* extra on every predicted latency, 0.00 default, [0, 1] */
	/* of its latency that a request is held to outside learning: 0.98 default, (0.5, 0.9999] */
	double quantile;
	double miss_target; /* long-run share of requests that may be late: 0.002 default, [0, 0.5] */
	/* late requests that a new model may cost to learn it: 2 default; 0: never risk one */
	double learning_misses;
	double power_max_uw; /* cap on the predicted power of the board; 0: none */
	/* the memory clock comes down at most this often, a short burst aside: 2 s default */
	uint64_t mem_dwell_ns;
};

/* What the board can do now. */
struct governor_board {
	const struct grid *grid;
	size_t current; /* grid point in force, or on its way */
	bool current_known;
	uint64_t up_ns[CLOCK_COUNT];      /* transition latency of each clock, write and settling, upper estimate */
	uint64_t down_ns[CLOCK_COUNT];    /* nobody waits for it */
	uint64_t ceiling_hz[CLOCK_COUNT]; /* set by others (thermal, power mode); UINT64_MAX: none */
	uint64_t floor_hz[CLOCK_COUNT];   /* configured; 0: none */
	uint64_t ceiling_config_hz[CLOCK_COUNT]; /* configured; UINT64_MAX: none */
};

/* What is known of a request while it is in flight: the caller keeps it beside the request, zeroed at its begin. */
struct governor_flight {
	uint64_t order;    /* of its begin among all */
	uint64_t seen_ns;  /* up to when the rest is known; the caller sets it to when it starts; 0: not yet */
	double own_ns;     /* of the time since, what was its own work */
	double done;       /* share of its work that is done, estimated, [0, 1) */
	uint32_t partners; /* entries of the next two */
	uint32_t partner[COMPANY_MAX]; /* model x 2 + 1 where it began before this request */
	double lost_ns[COMPANY_MAX];   /* time that went to it, */
	double doubt_ns[COMPANY_MAX];  /* and by how much more per unit of the log of its theta */
};

/* A request in flight, or one that is expected (begin_ns in the future). Those of a stream carry the deadline that the
 * stream's schedule gives them, banked slack included. */
struct governor_request {
	const struct surface *surface;
	struct governor_flight *flight; /* NULL: a whole inference is still to be done */
	uint32_t session;               /* dense id < SESSIONS_MAX, indexes the governor's state of sessions */
	uint32_t model;                 /* dense id < MODELS_MAX: interference is learned per pair of models */
	uint32_t priority;              /* 1 to 10: whose deadline gives way when not all can be met; 0 counts as 5 */
	uint64_t begin_ns;              /* when begin was received, or is expected at the earliest, */
	uint64_t begin_by_ns;           /* and at the latest; 0: just then */
	uint64_t deadline_ns;           /* absolute */
	/* time from its end to the next begin of its session; GAP_UNKNOWN: none is expected soon */
	uint64_t again_ns;
	uint64_t flight_ns; /* of its time, what a move under way takes yet before it can start */
};
#define GAP_UNKNOWN UINT64_MAX

/* The term of the cost that decided for the point chosen. */
enum reason {
	REASON_CHEAPEST, /* least power of those that are in time */
	REASON_UNKNOWN,  /* a model of which nothing was measured: as fast as it may go */
	REASON_EXPLORE,  /* what is learned there: the chance that it fits times what it would save */
	REASON_WAY,      /* on the way to a cheaper point that cannot be reached at once */
	REASON_STAY,     /* moving costs more than it would save */
	REASON_BUY,      /* late once, as that buys all that follow */
	REASON_FASTEST,  /* nothing meets the deadline */
	REASON_CAP       /* power_max: nothing under it meets the deadline */
};

enum refusal {
	REFUSED_NOT,
	REFUSED_LATE,   /* too likely to be late, once there */
	REFUSED_MOVE,   /* would fit, but for the time to move there */
	REFUSED_SHARED, /* fits alone, another request's deadline does not */
	REFUSED_CEILING,
	REFUSED_FLOOR,
	REFUSED_CAP,   /* over power_max */
	REFUSED_DWELL, /* memory moved too recently */
	REFUSED_PRICE  /* it fits; the price of its risk, or of the move, is over what it saves */
};

struct decision {
	size_t point; /* grid index chosen */
	bool feasible;
	bool learning; /* a surface was not ready */
	enum reason reason;
	uint64_t predicted_ns, bound_ns, settle_ns; /* of the newest request at `point`, others in flight included */
	uint64_t slack_ns;
	double late;     /* probability that the newest request is late */
	double price_uw; /* what a miss of it counts for, in power over one request */
	double debt;     /* misses over target of its session; negative: it has some to spare */
	double power_uw; /* or relative cost */
	bool power_known;
	uint32_t others;   /* requests in flight or expected that the decision was for as well */
	uint32_t measured; /* requests that ran at `point` before */
	enum bound_source source;
	enum regime regime;
	struct runner_up {
		size_t point; /* SIZE_MAX: none */
		enum refusal refused;
		uint64_t bound_ns, settle_ns;
		double power_uw, late;
		uint64_t deadline_ns; /* relative, at which it would have been taken; 0: no deadline would do */
	} runner_up;                  /* by governor_explain(): the cheaper point that came nearest to being taken */
};

/* How much of the time that request r shares with request s is lost to s, as odds: r goes on at 1 /
 * (1 + sum of theta). 0: independent engines; 1: a fair share of one engine; large: s is served
 * first. One entry a pair of models and order. */
struct interference {
	uint32_t model, other; /* theta of `model` beside `other` */
	bool before;           /* `other` had begun before it */
	float log_theta, var;  /* its mean and variance */
	uint32_t n;            /* requests it rests on; 0: free entry */
};

struct governor_session {
	double debt;       /* misses beyond miss_target: a virtual queue that the price of a miss follows */
	uint32_t begun;    /* requests in all; 0: the session is not known */
	uint32_t steady;   /* requests since a deadline of a new kind: the horizon over which savings count */
	uint64_t bands;    /* kinds of deadline, half octaves, that it had */
	uint64_t begin_ns; /* of the newest request */
	size_t tried;      /* the point of its newest decision, */
	bool trial;        /* taken to learn of it */
	uint32_t found;    /* 1 + the best of the points that this round of requests has looked at; 0: none */
	double found_sum;  /* its cost */
	float yield;       /* share of such trials of which anything is learned */
	bool forgiven;     /* the newest decision: late whatever is done */
	/* total of its request in flight, expected when something last changed; 0: it runs alone */
	uint64_t expected_ns;
	float company_var; /* of the log of totals about that; 0: not known */
};

struct governor {
	struct governor_options options;
	double normal;               /* deviations that `quantile` lies above the mean of a normal distribution */
	float heavy_over[LATE_BINS]; /* chance that a fit's error is over LATE_LOW + k x LATE_STEP deviations */
	struct governor_session session[SESSIONS_MAX];
	struct interference pair[COMPANY_PAIRS_MAX];
	/* requests that had the board for themselves: only beside what is known alone can theta be
	 * told */
	uint16_t alone[MODELS_MAX];
	uint64_t begun;             /* requests in all */
	uint64_t mem_moved_ns;      /* when `mem_tokens` was last brought up to date */
	double mem_tokens;          /* times the memory clock may come down now */
	size_t mem_axis;            /* at the last decision */
	struct governor_task *task; /* the newest decision's view of things */
};

void governor_options_default(struct governor_options *options);
/* Takes memory for one decision. Returns 0 or -ENOMEM. */
int governor_init(struct governor *governor, const struct governor_options *options);
void governor_free(struct governor *governor);
/* Other options, for decisions from now on; what was learned stays. */
void governor_configure(struct governor *governor, const struct governor_options *options);

/* Decide for `count` requests, in flight or expected, the one that begins now last (1 to REQUESTS_MAX), all on
 * surfaces of board->grid. <= 2 us at 1,276 points and 8 requests once models are known. */
void governor_decide(struct governor *governor, const struct governor_board *board,
		     const struct governor_request *requests, size_t count, uint64_t now_ns, struct decision *out);

/* Fill in the runner-up of the decision just made, on surfaces that have not
 * changed since. On its own because the request does not wait for it. */
void governor_explain(const struct governor *governor, struct decision *decision);

/* What a request that ended says of its own work: for model_observe(). */
struct governor_own {
	uint64_t own_ns; /* its latency without what went to others */
	double var;      /* of the log of that, for what is not known of their share */
};

/* requests[ended] has just ended, the others are still in flight (`count` with it); clocks at point
 * `at` where `stood`, i.e. they did not move while it ran. run_ns: its time without the wait for
 * clocks, total_ns with it. Learns interference and returns what is its own. Call before
 * governor_ended(). */
struct governor_own governor_own(struct governor *governor, const struct governor_request *requests, size_t count,
				 size_t ended, size_t at, bool stood, uint64_t run_ns, uint64_t now_ns);

/* A request of `session` ended; total and deadline count from its begin. */
void governor_ended(struct governor *governor, uint32_t session, uint64_t total_ns, uint64_t deadline_ns);

void governor_session_reset(struct governor *governor, uint32_t session);
/* The dense id of a model is about to be used for another one. */
void governor_model_reset(struct governor *governor, uint32_t model);
/* Stored interference comes back: as learned before. Returns false when it cannot have been learned. */
bool governor_model_pair(struct governor *governor, const struct interference *pair);

/* Between requests, after governor_ended(): worth moving to `*point` for the gap? `requests`: those
 * expected, that of the session that has just been served last. Returns false when not. */
bool governor_idle(struct governor *governor, const struct governor_board *board,
		   const struct governor_request *requests, size_t count, uint64_t now_ns, size_t *point);

/* A session was opened while nobody holds the clocks: where its first request will want to be. */
size_t governor_prepare(struct governor *governor, const struct governor_board *board,
			const struct governor_request *request, uint64_t now_ns);

/* A word, and what completes a sentence that begins with the point. */
const char *reason_word(enum reason reason);
const char *reason_text(enum reason reason);
/* A word, and a sentence of which a point is the subject. */
const char *refusal_word(enum refusal refusal);
const char *refusal_text(enum refusal refusal);

#endif
