/* SPDX-License-Identifier: MIT */
/* The decision: surfaces + active requests + board state -> operating point.
 * Pure: time is a parameter, nothing is read or written, no memory is taken
 * after governor_init(). */
#ifndef GOVERNOR_GOVERNOR_H
#define GOVERNOR_GOVERNOR_H

#include "../estimator/model.h"

enum objective { OBJECTIVE_POWER, OBJECTIVE_ENERGY };

struct governor_options {
	enum objective objective;
	double margin;             /* extra on every bound, 0.00 default, [0, 1] */
	uint64_t mem_dwell_ns;     /* the memory clock comes down at most this often: 2 s default */
	uint32_t hold_requests;    /* after a miss, stay up for so many requests of that session: 8 default */
	double gain_min;           /* do not move for less power than this share: 0.02 default */
};

/* What the board can do now. */
struct governor_board {
	const struct grid *grid;
	size_t current;                    /* grid point in force */
	bool current_known;
	uint64_t settle_ns[CLOCK_COUNT];   /* write + settle of each clock, upper estimate */
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
	double done;           /* share already executed, estimated, [0, 1) */
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
	REFUSED_GAIN       /* cheaper by less than gain_min than where we are */
};

struct decision {
	size_t point;       /* grid index chosen */
	bool feasible;
	bool learning;      /* a surface was not ready */
	uint64_t predicted_ns, bound_ns, settle_ns; /* of the newest request at `point` */
	uint64_t slack_ns;
	double power_uw;    /* or relative cost */
	bool power_known;
	enum bound_source source;
	enum regime regime;
	size_t runner_up;   /* the cheapest point cheaper than `point`; SIZE_MAX: none */
	enum refusal runner_up_refused;
	uint64_t runner_up_bound_ns, runner_up_settle_ns;
	double runner_up_power_uw;
};

struct governor {
	struct governor_options options;
	struct {
		uint32_t hold;      /* requests still to be held up */
		double boost;       /* factor on bounds while held, >= 1 */
		double misses;      /* decayed share of misses */
	} session[SESSIONS_MAX];
	uint64_t mem_moved_ns; /* last time the memory clock came down */
};

void governor_options_default(struct governor_options *options);
void governor_init(struct governor *governor, const struct governor_options *options);

/* Decide for `count` active requests (newest last, at least 1). <= 2 us at
 * 1,276 points and 8 requests. */
void governor_decide(struct governor *governor, const struct governor_board *board, const struct governor_request *requests,
		     size_t count, uint64_t now_ns, struct decision *out);

/* A request of `session` ended. */
void governor_ended(struct governor *governor, uint32_t session, uint64_t total_ns, uint64_t deadline_ns, uint64_t bound_ns);

void governor_session_reset(struct governor *governor, uint32_t session);

/* Between requests: worth coming down to `*point` for an expected gap? Returns
 * false when not. */
bool governor_idle(const struct governor *governor, const struct governor_board *board, const struct surface *surface,
		   uint64_t expected_gap_ns, uint64_t now_ns, size_t *point);

const char *refusal_text(enum refusal refusal);

#endif
