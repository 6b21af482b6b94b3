/* SPDX-License-Identifier: MIT */
/* The decision: surfaces + requests + board state -> operating point, by one cost (HACKING.md, "The governor").
 * Pure: time is a parameter, nothing is read or written, no memory is allocated after governor_init(). `now_ns` is
 * virtual time, which advances with the requests, so that a replay at any speed decides the same. */
#ifndef GOVERNOR_GOVERNOR_H
#define GOVERNOR_GOVERNOR_H

#include "../estimator/model.h"

enum objective { OBJECTIVE_POWER, OBJECTIVE_ENERGY };

struct governor_options {
	enum objective objective;
	double margin; /* added to every predicted latency, as a share of it: default 0, [0, 1] */
	/* of its latency, by which a request has to meet its deadline outside learning: default QUANTILE_DEFAULT,
	 * (0.5, 0.9999] */
	double quantile;
	double miss_target; /* long-run share of requests that may be late: default 0.002, [0, 0.5] */
	/* late requests that a new model may cost while it is learned: default 2; 0: never risk one to learn */
	double learning_misses;
	double power_max_uw; /* cap on the predicted power of the board; 0: none */
	/* the memory clock comes down at most this often, short bursts excepted: default 2 s */
	uint64_t mem_dwell_ns;
};

/* Current state and limits of the board. */
struct governor_board {
	const struct grid *grid;
	size_t current; /* grid point in force, or on its way */
	bool current_known;
	uint64_t up_ns[CLOCK_COUNT];      /* transition latency of each clock, write and settling, upper estimate */
	uint64_t down_ns[CLOCK_COUNT];    /* of one that comes down, which no request waits for */
	uint64_t ceiling_hz[CLOCK_COUNT]; /* set by others (thermal, power mode); UINT64_MAX: none */
	uint64_t floor_hz[CLOCK_COUNT];   /* configured; 0: none */
	uint64_t ceiling_config_hz[CLOCK_COUNT]; /* configured; UINT64_MAX: none */
};

/* Progress of a request in flight: the caller keeps it beside the request, zeroed at its begin. */
struct governor_flight {
	uint64_t order;   /* of its begin among all */
	uint64_t seen_ns; /* time of the values below; the caller sets it to the start of the request; 0: not started */
	double own_ns;    /* time spent on its own work */
	double done;      /* estimated share of its work that is done, [0, 1) */
	uint32_t partners;             /* entries of the next two */
	uint32_t partner[COMPANY_MAX]; /* model x 2, + 1 if it began before this request */
	double lost_ns[COMPANY_MAX];   /* time lost to it, */
	double doubt_ns[COMPANY_MAX];  /* and the derivative of that in log theta */
};

/* A request in flight, or an expected one (begin_ns in the future). A request of a stream has the deadline of the
 * stream's schedule, banked slack included. */
struct governor_request {
	const struct surface *surface;
	struct governor_flight *flight; /* NULL: a whole inference is still to be done */
	uint32_t session;               /* dense id < SESSIONS_MAX, indexes the governor's state of sessions */
	uint32_t model;                 /* dense id < MODELS_MAX: interference is learned per pair of models */
	uint32_t priority;    /* 1 to 10: the lowest is late first if not all deadlines can be met; 0 counts as 5 */
	uint64_t begin_ns;    /* when begin was received, or is expected at the earliest, */
	uint64_t begin_by_ns; /* and at the latest; 0: just then */
	uint64_t deadline_ns; /* absolute */
	/* from its end to the next begin of its session; GAP_UNKNOWN: none is expected soon */
	uint64_t gap_ns;
	uint64_t settling_ns; /* until the move under way is over, before which it cannot start */
	bool unlearned;       /* nothing is learned from it at the point decided */
};
#define GAP_UNKNOWN UINT64_MAX

/* The term of the cost that decided for the point chosen. */
enum reason {
	REASON_CHEAPEST, /* least power of the points in time */
	REASON_UNKNOWN,  /* nothing was measured of a model: the highest point allowed */
	REASON_EXPLORE,  /* the value of learning: the chance that the point is in time, times its saving */
	REASON_WAY,      /* on the way to a cheaper point that cannot be reached in time at once */
	REASON_STAY,     /* moving costs more than it would save */
	REASON_BUY,      /* this request is late so that the following ones are in time */
	REASON_FASTEST,  /* nothing meets the deadline */
	REASON_CAP       /* power_max: nothing under it meets the deadline */
};

enum refusal {
	REFUSED_NOT,
	REFUSED_LATE,   /* too likely to be late, once there */
	REFUSED_MOVE,   /* in time, but not with the time to move there */
	REFUSED_SHARED, /* in time itself, but another request is not */
	REFUSED_CEILING,
	REFUSED_FLOOR,
	REFUSED_CAP,   /* over power_max */
	REFUSED_DWELL, /* memory moved too recently */
	REFUSED_PRICE  /* in time; its risk, or the move, costs more than it saves */
};

struct decision {
	size_t point; /* grid index chosen */
	bool feasible;
	bool learning; /* a surface was not ready */
	enum reason reason;
	uint64_t predicted_ns, bound_ns, settle_ns; /* of the newest request at `point`, beside the others in flight */
	uint64_t slack_ns;
	double late;          /* probability that the newest request is late */
	double miss_price_uw; /* price of a miss of it, in power over one request */
	double miss_debt;     /* misses of its session beyond miss_target; negative: its miss budget */
	double power_uw;      /* or relative cost */
	bool power_known;
	uint32_t others;   /* other requests, in flight or expected, that the decision considered */
	uint32_t measured; /* requests of its model measured at `point` */
	enum bound_source source;
	enum regime regime;
	struct runner_up {
		size_t point; /* SIZE_MAX: none */
		enum refusal refused;
		uint64_t bound_ns, settle_ns;
		double power_uw, late;
		uint64_t deadline_ns; /* relative deadline at which it would have been chosen; 0: none */
	} runner_up;                  /* by governor_explain(): the cheaper point that was nearest to being chosen */
};

/* How much time request r loses to request s while both run, as odds: r proceeds at the speed 1 / (1 + sum of theta).
 * 0: independent engines; 1: a fair share of one engine; large: s is served first. One entry for each pair of models
 * and order of begin. */
struct interference {
	uint32_t model, other; /* theta of `model` beside `other` */
	bool before;           /* `other` had begun before it */
	float log_theta, var;  /* its mean and variance */
	uint32_t n;            /* requests observed; 0: free entry */
};

struct governor_session {
	double miss_debt;   /* misses beyond miss_target, a virtual queue that sets their price; < 0: miss budget */
	uint32_t begun;     /* requests in all; 0: a new session */
	uint32_t steady;    /* requests since the newest kind of deadline: the horizon over which savings count */
	uint64_t bands;     /* kinds of deadline (half octaves) that it had, a bit each */
	uint64_t tight_ns;  /* the shortest of its recent deadlines, */
	uint32_t tight_age; /* and requests since */
	uint32_t found;     /* 1 + the best point that this round of requests has found to explore; 0: none */
	double found_sum;   /* its cost */
	bool forgiven;      /* its newest request is not charged if late: it would be at any point */
	bool missed;        /* its last request */
	/* expected total of its request in flight, as of the newest decision; 0: it runs alone */
	uint64_t expected_ns;
	float company_var; /* variance of the log of totals about that; 0: not known */
};

struct governor {
	struct governor_options options;
	double quantile_sd;          /* deviations that `quantile` lies above the mean of a normal distribution */
	float heavy_over[LATE_BINS]; /* chance that a fit's error is over LATE_LOW + k x LATE_STEP deviations */
	struct governor_session session[SESSIONS_MAX];
	struct interference pair[MODELS_MAX][COMPANY_PAIRS_MAX]; /* by model, so that no other user takes its room */
	/* requests that ran alone: theta can be learned only once a model's time alone is known */
	uint16_t alone[MODELS_MAX];
	uint64_t begun;             /* requests in all */
	uint64_t mem_moved_ns;      /* time of `mem_tokens` */
	double mem_tokens;          /* moves down that the memory clock may make now */
	size_t mem_axis;            /* at the last decision */
	struct governor_task *task; /* working state of the newest decision */
};

void governor_options_default(struct governor_options *options);
/* Allocates the working state of a decision. Returns 0 or -ENOMEM. */
int governor_init(struct governor *governor, const struct governor_options *options);
void governor_free(struct governor *governor);
/* Change the options of decisions from now on; learned state stays. */
void governor_configure(struct governor *governor, const struct governor_options *options);

/* Decide for `count` requests (1 to REQUESTS_MAX), in flight or expected, of which the last begins now. All surfaces
 * are on board->grid. <= 2 us at 1,276 points and 8 requests once models are known. */
void governor_decide(struct governor *governor, const struct governor_board *board,
		     const struct governor_request *requests, size_t count, uint64_t now_ns, struct decision *out);

/* Fill in the runner-up of the decision just made; the surfaces must not have changed since. A function of its own,
 * as the request does not wait for it. */
void governor_explain(const struct governor *governor, struct decision *decision);

/* The run of a request that ended. */
struct governor_run {
	uint64_t ran_ns;   /* without the wait for clocks */
	size_t at;         /* the point where the clocks stood in the end */
	bool stood;        /* they stayed there once they had arrived */
	uint64_t moved_ns; /* of ran_ns, until they arrived */
	size_t from;       /* the point until then; SIZE_MAX: not known */
};

/* The own work of a request that ended, for model_observe(). */
struct governor_own {
	uint64_t own_ns; /* its latency at the point, without the time lost to others; 0: not known */
	double var;      /* variance of its log, as that time, and when the clocks arrived, are uncertain */
};

/* requests[ended] has just ended; the other `count` - 1 are still in flight. Learns interference. Call before
 * governor_ended(). */
struct governor_own governor_own(struct governor *governor, const struct governor_request *requests, size_t count,
				 size_t ended, const struct governor_run *run, uint64_t now_ns);

/* A request of `session` ended; total and deadline count from its begin. */
void governor_ended(struct governor *governor, uint32_t session, uint64_t total_ns, uint64_t deadline_ns);

void governor_session_reset(struct governor *governor, uint32_t session);
/* The dense id of a model is about to be used for another one. */
void governor_model_reset(struct governor *governor, uint32_t model);
/* Restore stored interference. Returns false for values that cannot have been learned. */
bool governor_model_pair(struct governor *governor, const struct interference *pair);

/* In a gap, after governor_ended(): the point to wait at. `requests`: the expected ones, of which the last is of the
 * session whose request has just ended. Returns false if the clocks should stay. */
bool governor_gap(struct governor *governor, const struct governor_board *board,
		  const struct governor_request *requests, size_t count, uint64_t now_ns, size_t *point);

/* A session was opened while no other holds the clocks: the point for its first request. */
size_t governor_prepare(struct governor *governor, const struct governor_board *board,
			const struct governor_request *request, uint64_t now_ns);

/* A word, and a predicate whose subject is the point. */
const char *reason_word(enum reason reason);
const char *reason_text(enum reason reason);
/* A word, and a sentence in which "it" is the point. */
const char *refusal_word(enum refusal refusal);
const char *refusal_text(enum refusal refusal);

#endif
