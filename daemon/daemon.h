/* SPDX-License-Identifier: MIT */
/* The state of flamed, and the verbs that its files share. A request walks
 * server.c -> session.c (begin) -> governor_decide() -> clocks.c -> keeper. */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "clocks.h"
#include "config.h"
#include "library.h"
#include "server.h"

#define SESSION_TOTALS 128 /* newest latencies kept of a session, for its quantiles */

struct options {
	const char *config, *sysroot, *runtime_dir, *state_dir;
	bool config_named, state_dir_named;
};

struct session {
	uint32_t id; /* 0: free slot; else generation * SESSIONS_MAX + slot + 1 */
	struct connection *connection;
	struct entry *entry;
	char tag[MODEL_NAME_MAX + 1];
	enum phase phase;
	uint32_t context;
	uint64_t deadline_ns;   /* last asked, or said at open; 0: none yet */
	uint64_t requests, missed, unended;
	unsigned active;
	uint64_t last_begin_ns, last_end_ns, period_ns; /* service time; smoothed distance of begins */
	uint64_t gap_ns[2];     /* from an end to the next begin, the newest first */
	uint32_t growth;        /* of the context from the last request to the newest */
	uint64_t total_ns[SESSION_TOTALS]; /* ring */
	uint64_t total_sum_ns;
	double power_uw;        /* smoothed while its requests ran; 0: unknown */
	struct decision decision;
	uint64_t decided_request;
	struct op_point point;  /* of the newest decision */
};

struct request {
	uint64_t id; /* 0: free slot; else generation * REQUESTS_MAX + slot + 1 */
	struct session *session;
	enum phase phase;
	uint32_t context;
	uint64_t begin_ns, deadline_ns; /* service time; deadline absolute */
	uint64_t asked_ns;              /* deadline as asked */
	uint64_t arrived_ns, expires_ns;/* real time */
	uint64_t waited_ns;             /* for the clocks, before it could start; real time */
	uint64_t bound_ns;
	uint64_t epoch;                 /* of the clocks when it began to run */
	bool contended, waiting;
	uint64_t serial;                /* waits for this answer of the keeper */
	uint64_t power_uw;              /* mean of the readings while it ran; 0: none */
	uint32_t readings;              /* that it is the mean of */
};

struct daemon {
	const struct options *options;
	struct config config;
	struct sysroot root;
	struct board board;
	struct loop *loop;
	struct clocks clocks;
	struct library library;
	struct governor governor;
	int passed_fd;                  /* listening socket of the service manager; -1: none */
	struct server *server;
	struct power_meter *meter;
	bool energy_meter;              /* a counter: has to be read at both ends of a request */
	uint64_t power_uw;              /* newest reading */
	uint64_t power_sampled_ns;      /* service time of it */
	struct op_point power_point;    /* and the clocks it was taken at */
	double power_phase;             /* share of a request after which the next is taken, [0, 1) */
	uint64_t power_request;         /* of the request it is for, */
	uint32_t power_left;            /* readings of it that follow, */
	uint64_t power_apart_ns;        /* and the time between them */
	uint64_t started_ns;            /* real time */
	uint64_t ahead_ns;              /* service time less real time */
	unsigned sessions, requests;
	struct session session[SESSIONS_MAX];
	struct request request[REQUESTS_MAX];
	uint32_t session_generation[SESSIONS_MAX];
	uint64_t request_generation[REQUESTS_MAX];
	struct session *last_decided;
	struct session closed;          /* the last that had decided something; holds its entry. entry NULL: none */
	uint32_t work_session;          /* for whose next request `work` is done; 0: nobody's */
	struct loop_watch *hello, *expiry, *idle, *save, *power, *work, *watchdog, *reload, *terminate[2];
	uint64_t requests_ended;
	bool failed; /* to start */
};

/* Service time: real time plus what clients reported as spent beyond it. */
uint64_t daemon_now_ns(const struct daemon *d);

/* session.c: handlers of open, close, begin, end. */
void session_open(struct daemon *d, struct connection *c, const struct kv *kv);
void session_close(struct daemon *d, struct connection *c, const struct kv *kv);
void request_begin(struct daemon *d, struct connection *c, const struct kv *kv);
void request_end(struct daemon *d, struct connection *c, const struct kv *kv);

/* Everything the connection holds ends. */
void sessions_close(struct daemon *d, struct connection *c);

/* Replies that wait for the clocks; all of them when the keeper is gone. */
void requests_applied(struct daemon *d);

/* Timers: requests that were never ended; a look at the power sensor while one runs; a piece of what the estimator
 * has to make anew; clocks nobody has used for a while. */
void requests_expire(void *daemon);
void sample_in_flight(void *daemon);
void work_ahead(void *daemon);
void clocks_idle(void *daemon);

/* Session of an id that belongs to `c` (any when NULL), or NULL. */
struct session *session_find(struct daemon *d, const struct connection *c, uint64_t id);

/* profile.c */
void profile_open(struct daemon *d, struct connection *c, const struct kv *kv);
void profile_sample(struct daemon *d, struct connection *c, const struct kv *kv);
bool profile_close(struct daemon *d, struct connection *c, uint64_t id);
void profiles_close(struct daemon *d, struct connection *c);
void profiles_applied(struct daemon *d);
/* A deadline request began: what is being measured is not worth keeping. */
void profiles_disturb(void);
unsigned profiles_count(const struct daemon *d);
void profiles_report(struct daemon *d, struct kv_out *out);

/* tally.c */
void tally_read(struct daemon *d, struct connection *c, const struct kv *kv);
void tally_opened(struct daemon *d, const struct session *session);
void tally_ended(struct daemon *d, const struct session *session, uint64_t total_ns, bool missed);
void tally_close(struct connection *c);
/* Latencies in ascending order, and where their 99th percentile then stands. */
void totals_sort(uint64_t *total_ns, size_t count);
#define TOTALS_P99(count) (((count) * 99 + 99) / 100 - 1)

/* query.c */
void query_hello(struct daemon *d, struct connection *c, const struct kv *kv);
void query_status(struct daemon *d, struct connection *c, const struct kv *kv);
void query_models(struct daemon *d, struct connection *c, const struct kv *kv);
void query_surface(struct daemon *d, struct connection *c, const struct kv *kv);
void query_explain(struct daemon *d, struct connection *c, const struct kv *kv);
void query_release(struct daemon *d, struct connection *c, const struct kv *kv);

/* Shared by handlers: a key that must be there, a number in [min, max]. False
 * after the error was replied, which names the key. */
bool need_u64(struct connection *c, const struct kv *kv, const char *key, uint64_t min, uint64_t max, uint64_t *out);
/* Same where the key may be absent; `*out` is then left. */
bool want_u64(struct connection *c, const struct kv *kv, const char *key, uint64_t min, uint64_t max, uint64_t *out);
bool need_model(struct connection *c, const struct kv *kv, const char **out);
/* phase and context; a PHASE_RUN has no context. */
bool want_phase(struct connection *c, const struct kv *kv, enum phase *phase, uint32_t *context);
/* layers=cpu_ns:gpu_ns[:s],... and layers.N; 0 and a new array, or false after the error. */
bool want_layers(struct connection *c, const struct kv *kv, enum phase phase, uint32_t context, struct op_point point, struct layer **layers,
		 size_t *count);

const char *state_word(enum surface_state state);
const char *source_word(enum bound_source source);
const char *regime_word(enum regime regime);

#endif
