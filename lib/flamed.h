/* SPDX-License-Identifier: MIT */
/* libflamed: have flamed meet the deadlines of an inference program at the lowest power. C99 and C++. libflamed(3)
 * is the manual.
 *
 * The library prints nothing, raises no SIGPIPE, installs no signal handler and has no global state.
 * No call blocks except those that take a timeout_ns, and flamed_profile(). Closing a session or a handle waits up to
 * 100 ms if a request ended before the daemon had replied to its begin.
 * A handle may be used by several threads at once. After fork() the child's copy reconnects by itself; the parent's is
 * not disturbed. Without a daemon every call returns -ENOTCONN at once, and the program runs as without flamed. A lost
 * connection is retried after 100 ms, and after twice as long each time, up to 5 s; so is a session that the daemon
 * refuses to open again.
 *
 * Functions that return an integer return 0 or more, or a negative errno. Passing the negative result of an earlier
 * call returns it unchanged, so that callers may skip checks:
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
#define FLAMED_TIMEOUT        1000000000ULL /* ns; a reasonable default */

struct flamed; /* one connection with its sessions */

enum flamed_state {
	FLAMED_NONE,     /* nothing is known of the model yet */
	FLAMED_LEARNING, /* full clocks and wide margins until enough is known */
	FLAMED_READY     /* the bounds are tight, and most operating points are measured or near one that is */
};

/* flamed's decision for a request. A clock of 0 Hz is not controlled. */
struct flamed_decision {
	int applied;  /* 1: waited for, the clocks are in force; 0: they may still be moving */
	int feasible; /* 0: no operating point is expected to meet the deadline */
	uint64_t cpu_hz, gpu_hz, mem_hz;
	uint64_t predicted_ns; /* expected length of the inference */
	uint64_t bound_ns;     /* upper bound that the decision was made by */
	uint64_t settle_ns;    /* transition latency: until the clocks are in force */
};

/* One step of a model in launch order. */
struct flamed_layer {
	uint64_t cpu_ns; /* host time since the previous launch */
	uint64_t gpu_ns; /* execution */
	int sync;        /* 1: the host waits for its end */
};

/* The operating point to measure next; its clocks are in force already. */
struct flamed_point {
	uint64_t cpu_hz, gpu_hz, mem_hz;
	uint32_t context;       /* tokens to measure with; 0 for a fixed-shape model */
	uint32_t repeat;        /* inferences to run here */
	uint32_t step, budget;  /* points measured so far, and at most */
	uint32_t gain_permille; /* expected reduction of the mean upper bound */
};

/* The measurement at a point. */
struct flamed_measurement {
	uint64_t latency_ns; /* mean of n inferences */
	uint32_t n;
	uint64_t sd_ns, max_ns;            /* 0: unknown */
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

/* Open a session for a model, name [A-Za-z0-9._:-]{1,64}; NULL: $FLAMED_MODEL. `deadline_ns` is the usual deadline of
 * its requests. 0: $FLAMED_DEADLINE_NS, else that of the model in flamed.conf, else each request gives its own; with
 * $FLAMED_RATE_MHZ set, or a rate in flamed.conf, it opens a stream (below). Blocks for the reply, `timeout_ns` at
 * most. A session that was not confirmed in time, or was opened without a daemon, is opened by a later flamed_begin().
 * Returns the session's number, connected or not, or -EINVAL (bad name, no model, a deadline not from 1 us to 1 h),
 * -ENOSPC (64 sessions of a handle), or the daemon's error. */
FLAMED_API int flamed_session(struct flamed *flamed, const char *model, uint64_t deadline_ns, uint64_t timeout_ns);

/* Open a session for a stream (tokens, frames), which has a schedule instead of a deadline for each request: request k,
 * from 0, is due `first_ns` and k periods after the stream started, so that early ones bank slack for late ones. A
 * stream starts with its first flamed_begin(). `rate_mhz` is in millihertz (15000: fifteen a second); 0:
 * $FLAMED_RATE_MHZ. `first_ns` 0: $FLAMED_FIRST_NS, else one period. Else as flamed_session(); -EINVAL also without a
 * rate. A deadline given to flamed_begin() applies to that request alone, which the schedule does not count. */
FLAMED_API int flamed_stream(struct flamed *flamed, const char *model, uint64_t rate_mhz, uint64_t first_ns,
			     uint64_t timeout_ns);

/* Restart the stream of a session with its next request, for example for a new prompt. If that request is of phase
 * "prefill", those of this phase that follow it are parts of the same prompt, due as a whole after `first_ns`. If a
 * stream starts in phase "decode", without its prompt, that request is due a period later. Sends nothing. -EINVAL:
 * not a stream. */
FLAMED_API int flamed_stream_start(struct flamed *flamed, int session);

/* Close a session, its requests and, with $FLAMED_PROFILE, its profile. */
FLAMED_API int flamed_session_close(struct flamed *flamed, int session);

/* State of the model when the session was opened: enum flamed_state; -EAGAIN: no reply yet. */
FLAMED_API int flamed_session_state(struct flamed *flamed, int session);

/* Phase of the requests to come: "run" (the default), "prefill" or "decode",
 * with the context in tokens. Sends nothing. */
FLAMED_API int flamed_phase(struct flamed *flamed, int session, const char *phase, uint32_t context);

/* An inference begins now and is due `deadline_ns` from now; 0: the session's
 * usual deadline, or its stream's schedule. Returns a request (> 0) for flamed_end(); -EINVAL (no
 * deadline known), -ENOTCONN, -EAGAIN (the daemon is slow to reply or was just restarted; this inference runs
 * without it). */
FLAMED_API int64_t flamed_begin(struct flamed *flamed, int session, uint64_t deadline_ns);

/* The same, but blocks until the clocks are applied, `timeout_ns` at most. After a timeout the request is also
 * returned, with decision->applied = 0. `decision` may be NULL. */
FLAMED_API int64_t flamed_begin_wait(struct flamed *flamed, int session, uint64_t deadline_ns, uint64_t timeout_ns,
				     struct flamed_decision *decision);

/* The decision for a request that has not ended. Returns 0, -EAGAIN (not received yet) or -ENOENT (no such request).
 */
FLAMED_API int flamed_decision(struct flamed *flamed, int64_t request, struct flamed_decision *decision);

/* The inference has ended. `total_ns` is its time since flamed_begin(); 0: measured by flamed. Returns 0, -ENOENT
 * (ended before, or lost with a connection), or `request` where that is negative. */
FLAMED_API int flamed_end(struct flamed *flamed, int64_t request, uint64_t total_ns);
FLAMED_API int flamed_end_layers(struct flamed *flamed, int64_t request, uint64_t total_ns,
				 const struct flamed_layer *layers, size_t count);

/* The inference failed, or was another than announced: end its request without learning its time or counting it. In a
 * stream it keeps its place in the schedule. Returns as flamed_end(). */
FLAMED_API int flamed_withdraw(struct flamed *flamed, int64_t request);

/* The inference was not run, and the program will try it again: as flamed_withdraw(), but in a stream the next request
 * takes its place in the schedule, unless another has begun since. */
FLAMED_API int flamed_put_back(struct flamed *flamed, int64_t request);

/* The method by which times of layers sent from now on were measured, which gives their precision: "cupti", "trace",
 * "events" or "wall" (docs/protocol.md, layer_source); "" (the default): the device's own timestamps. Sends nothing.
 * Returns 0, -EINVAL (no word of up to 15 letters) or -ENOTCONN (no handle). */
FLAMED_API int flamed_layer_source(struct flamed *flamed, const char *source);

/* Number of requests of a session that the daemon has counted, and of missed deadlines among them.
 * Either pointer may be NULL. Sends nothing. */
FLAMED_API int flamed_session_counts(struct flamed *flamed, int session, uint64_t *ended, uint64_t *missed);

/* Profiling step by step, for a program that cannot use a callback. A handle has one profile at a time. Use a handle of
 * its own, since replies to other requests wait until the clocks are set. `model` and `phase` as above; `budget` 0: the
 * daemon's choice. Both functions block until the clocks are in force, `timeout_ns` at most. They return 1 with the
 * next point, 0 when no further point is worth measuring, -EAGAIN while a request with a deadline takes precedence
 * (call flamed_profile_sample() with NULL a little later), -ETIMEDOUT, -ENOTCONN or the daemon's error. */
FLAMED_API int flamed_profile_open(struct flamed *flamed, const char *model, const char *phase, uint32_t context,
				   uint32_t budget, uint64_t timeout_ns, struct flamed_point *point);
FLAMED_API int flamed_profile_sample(struct flamed *flamed, const struct flamed_measurement *measurement,
				     uint64_t timeout_ns, struct flamed_point *point);
FLAMED_API int flamed_profile_close(struct flamed *flamed);

/* Profile with a callback. `infer` runs one inference at `point` and returns 0. At each point it is called once to
 * warm up and then timed point->repeat times. Blocks until the surface is ready or the budget is used up. Returns
 * the number of points measured, the value of `infer` where that is not 0, or an error as above. */
typedef int (*flamed_infer_fn)(void *arg, const struct flamed_point *point);
FLAMED_API int flamed_profile(struct flamed *flamed, const char *model, const char *phase, uint32_t context,
			      uint32_t budget, flamed_infer_fn infer, void *arg);

#ifdef __cplusplus
}
#endif

#endif
