/* SPDX-License-Identifier: MIT */
/* libflamed: ask flamed to meet the deadlines of an inference program at the
 * lowest power. C99 and C++; libflamed(3) is the long form of this header.
 *
 * Nothing here prints, raises SIGPIPE, installs a handler or keeps a global.
 * No call blocks except those that take a timeout_ns, and flamed_profile().
 * A handle may be used by several threads at once. After fork() the child's
 * copy connects anew by itself; the parent's is not disturbed. With no daemon
 * every call returns -ENOTCONN at once and the program runs as it would
 * without flamed; a connection lost is tried again after 100 ms, then after
 * twice as long each time, 5 s at most.
 *
 * Every function that returns an int gives 0 or more, or a negative errno.
 * Arguments that are the negative result of another call are accepted and
 * answered by the same number, so a program need check nothing:
 *
 *	struct flamed *flamed;
 *	int session;
 *
 *	flamed_open(&flamed, NULL);
 *	session = flamed_session(flamed, "resnet50", 33000000, FLAMED_TIMEOUT);
 *	for (;;) {
 *		int64_t request = flamed_begin(flamed, session, 0);
 *		infer();
 *		flamed_end(flamed, request, 0);
 *	}
 */
#ifndef FLAMED_H
#define FLAMED_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FLAMED_API __attribute__((visibility("default")))
#else
#define FLAMED_API
#endif

#define FLAMED_SOCKET_DEFAULT "/run/flamed/flamed.sock"
#define FLAMED_TIMEOUT        1000000000ULL /* ns; a timeout nobody has to think about */

struct flamed; /* one connection with its sessions */

enum flamed_state {
	FLAMED_NONE,     /* nothing is known of the model yet */
	FLAMED_LEARNING, /* full clocks and wide margins until enough is known */
	FLAMED_READY
};

/* What flamed decided for a request. A clock of 0 Hz is not controlled. */
struct flamed_decision {
	int applied;   /* 1: waited for, the clocks are in force; 0: they may still be moving */
	int feasible;  /* 0: the deadline cannot be met: flamed goes as fast as it may or, if only the move takes too long, where the next are in time */
	uint64_t cpu_hz, gpu_hz, mem_hz;
	uint64_t predicted_ns; /* expected length of the inference */
	uint64_t bound_ns;     /* upper bound that the decision was made by */
	uint64_t settle_ns;    /* until the clocks are in force */
};

/* One step of a model in launch order. */
struct flamed_layer {
	uint64_t cpu_ns; /* host time since the previous launch */
	uint64_t gpu_ns; /* execution */
	int sync;        /* 1: the host waits for its end */
};

/* Where flamed wants the next measurement; the clocks are in force already. */
struct flamed_point {
	uint64_t cpu_hz, gpu_hz, mem_hz;
	uint32_t context;       /* tokens to measure with; 0 for a fixed-shape model */
	uint32_t repeat;        /* inferences to run here */
	uint32_t step, budget;  /* points measured so far, and at most */
	uint32_t gain_permille; /* what it is expected to take off the mean bound */
};

/* What was measured at a point. */
struct flamed_measurement {
	uint64_t latency_ns;    /* mean of n inferences */
	uint32_t n;
	uint64_t sd_ns, max_ns; /* 0: unknown */
	const struct flamed_layer *layers; /* of one inference; NULL: unknown */
	size_t layer_count;
};

/* Library version, "0.1.0". */
FLAMED_API const char *flamed_version(void);

/* A new handle in *out, to be closed by flamed_close(). `socket_path` NULL:
 * $FLAMED_SOCKET, else FLAMED_SOCKET_DEFAULT. Connects if the daemon is there
 * and returns 0 even if it is not. -EINVAL, -ENAMETOOLONG or -ENOMEM leave
 * *out NULL, which every other call accepts and answers by -ENOTCONN. */
FLAMED_API int flamed_open(struct flamed **out, const char *socket_path);

/* Ends every session and request. NULL is allowed. */
FLAMED_API void flamed_close(struct flamed *flamed);

/* 1 while connected, else 0. */
FLAMED_API int flamed_connected(struct flamed *flamed);

/* Open a session for a model, name [A-Za-z0-9._:-]{1,64}; NULL: $FLAMED_MODEL.
 * `deadline_ns` is what its requests usually ask; 0: $FLAMED_DEADLINE_NS, or
 * each request says its own. Blocks until answered, `timeout_ns` at most; one
 * not answered in time, or opened without a daemon, is opened by a later
 * flamed_begin(). Returns the session's number (whether or not connected), or
 * -EINVAL (bad name, no model), -ENOSPC (64 sessions of a handle), or what the
 * daemon refused it with. */
FLAMED_API int flamed_session(struct flamed *flamed, const char *model, uint64_t deadline_ns, uint64_t timeout_ns);
FLAMED_API int flamed_session_close(struct flamed *flamed, int session);

/* What flamed knew of the model when the session was opened: enum
 * flamed_state; -EAGAIN: not answered yet. */
FLAMED_API int flamed_session_state(struct flamed *flamed, int session);

/* Phase of the requests to come: "run" (the default), "prefill" or "decode",
 * with the context in tokens. Local, sends nothing. */
FLAMED_API int flamed_phase(struct flamed *flamed, int session, const char *phase, uint32_t context);

/* An inference begins now and is due `deadline_ns` from now; 0: the session's
 * usual deadline. Returns a request (> 0) for flamed_end(); -EINVAL (no
 * deadline known), -ENOTCONN, -EAGAIN (the daemon is slow to answer, or was
 * restarted a moment ago; this inference goes on without it). */
FLAMED_API int64_t flamed_begin(struct flamed *flamed, int session, uint64_t deadline_ns);

/* The same, but blocks until the clocks are applied, `timeout_ns` at most. A
 * request not answered in time is returned all the same, with
 * decision->applied = 0. `decision` may be NULL. */
FLAMED_API int64_t flamed_begin_wait(struct flamed *flamed, int session, uint64_t deadline_ns, uint64_t timeout_ns,
				     struct flamed_decision *decision);

/* The decision for a request that has not ended, if it is in: 0 or -EAGAIN;
 * -ENOENT for one that is not known. */
FLAMED_API int flamed_decision(struct flamed *flamed, int64_t request, struct flamed_decision *decision);

/* The inference ended and took `total_ns` since flamed_begin(); 0: the time
 * that passed. Returns 0, -ENOENT (ended before, or lost with a connection) or
 * the negative request itself. */
FLAMED_API int flamed_end(struct flamed *flamed, int64_t request, uint64_t total_ns);
FLAMED_API int flamed_end_layers(struct flamed *flamed, int64_t request, uint64_t total_ns, const struct flamed_layer *layers,
				 size_t count);

/* Requests of a session that the daemon counted and, of those, as missed.
 * Either pointer may be NULL. Local, sends nothing. */
FLAMED_API int flamed_session_counts(struct flamed *flamed, int session, uint64_t *ended, uint64_t *missed);

/* Profiling, step by step, for a program that cannot be called back. One
 * profile at a time on a handle, best a handle of its own: replies to other
 * requests wait behind the clocks. `model` and `phase` as above, `budget` 0:
 * the daemon's choice. Both block until the clocks are in force, `timeout_ns`
 * at most. Return 1 with the next point, 0 when nothing more is worth
 * measuring, -EAGAIN while a deadline request is served first (sample again
 * with NULL a little later), -ETIMEDOUT, -ENOTCONN or the daemon's refusal. */
FLAMED_API int flamed_profile_open(struct flamed *flamed, const char *model, const char *phase, uint32_t context, uint32_t budget,
				   uint64_t timeout_ns, struct flamed_point *point);
FLAMED_API int flamed_profile_sample(struct flamed *flamed, const struct flamed_measurement *measurement, uint64_t timeout_ns,
				     struct flamed_point *point);
FLAMED_API int flamed_profile_close(struct flamed *flamed);

/* The whole dialogue. `infer` runs one inference at `point` and returns 0; it
 * is called point->repeat times at each point (after one call to warm up) and
 * timed. Blocks until the surface is ready or the budget is used. Returns the
 * number of points measured, what `infer` returned if that was not 0, or an
 * error as above. */
typedef int (*flamed_infer_fn)(void *arg, const struct flamed_point *point);
FLAMED_API int flamed_profile(struct flamed *flamed, const char *model, const char *phase, uint32_t context, uint32_t budget,
			      flamed_infer_fn infer, void *arg);

#ifdef __cplusplus
}
#endif

#endif
