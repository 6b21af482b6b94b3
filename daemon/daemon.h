/* SPDX-License-Identifier: MIT */
/* The state of flamed, and the functions that its files share. The path of a request: server.c ->
 * dispatch.c -> request.c (begin) -> governor_decide() -> clocks.c -> keeper. */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "clocks.h"
#include "config.h"
#include "fitting.h"
#include "library.h"
#include "metrics.h"
#include "power.h"
#include "request.h"
#include "server.h"
#include "session.h"
#include "shadow.h"

struct options {
	const char *config, *sysroot, *runtime_dir, *state_dir;
	bool config_named, state_dir_named;
};

/* An op=import; one at a time. */
struct importing {
	struct helper helper;
	struct connection *asker; /* held; NULL: none, or it has gone */
	char model[MODEL_NAME_MAX + 1], mode[MODE_KEY_MAX];
	const struct kv *message; /* until the helper process has started */
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
	int passed_fd; /* listening socket passed by the service manager; -1: none */
	struct server *server;
	struct power_sampler power;
	uint64_t started_ns; /* real time */
	uint64_t ahead_ns;   /* virtual time minus real time */
	unsigned sessions, requests;
	unsigned shadows;                /* of the sessions, those in shadow */
	size_t session_top, request_top; /* all slots in use are below */
	struct session session[SESSIONS_MAX];
	struct request request[REQUESTS_MAX];
	uint32_t session_generation[SESSIONS_MAX];
	uint64_t request_generation[REQUESTS_MAX];
	struct session *last_decided;
	/* the last closed session that had a decision; keeps its entry in use. entry NULL: none */
	struct session closed;
	struct fitting fitting;
	struct importing importing;
	uint32_t work_session; /* `work` prepares the next requests of this session; 0: of none */
	struct loop_watch *hello, *expiry, *idle, *save, *read, *work, *watchdog, *reload, *terminate[2];
	bool save_set, save_awaited; /* `save` is running; a connection waits for it */
	uint64_t expires_ns;         /* when `expiry` is due */
	uint64_t requests_ended;
	struct keeper_reply found;  /* the keeper's first reply: devices and limits that only the keeper can read */
	uint32_t boards;            /* device changes, as counted by the keeper */
	struct loop_watch *rescan;  /* timer of board_rescan(), */
	bool rescan_set;            /* which is running */
	struct clock_reader reader; /* of the clocks, for sessions in shadow */
	struct mode_reader mode_reader;
	struct loop_watch *shadow_poll; /* timer: read the clocks for requests in shadow, */
	bool shadow_polling;            /* which is running, */
	uint64_t shadow_polled_ns;      /* and when they were last read so */
	bool was_used;                  /* when the clocks are released next, the devices are to be looked for */
	bool failed;                    /* startup failed */
};

/* Virtual time of the clocks and of the governor's history: real time plus the least excess time
 * reported by any user that has a session. It never goes back. */
uint64_t daemon_now_ns(const struct daemon *d);

/* Virtual time of one connection: real time plus the excess time that it reported itself. Used for
 * its own requests only. */
uint64_t connection_now_ns(const struct connection *c);

/* board.c: detect devices again, once no session and no profile is open. */
void board_rescan_later(struct daemon *d);
void board_rescan(void *daemon);
/* In shadow mode there is no keeper: remove the clocks that only the keeper could read. */
void board_hide_unread(const struct daemon *d, struct board *board);
/* The options of decisions from the configuration. */
struct governor_options board_governor_options(const struct config *config);
/* Load the models of the board's grid and start with an empty governor. Returns 0 or -ENOMEM. */
int board_load_models(struct daemon *d);

/* dispatch.c: a message of a connection, and its end (struct server_handlers); a reply of the keeper, and its end. */
bool dispatch_message(void *daemon, struct connection *c, const struct kv *kv);
bool dispatch_beside_others(void *daemon, const struct connection *c);
void dispatch_closed(void *daemon, struct connection *c);
void dispatch_keeper_reply(struct daemon *d, const struct keeper_reply *reply);
void dispatch_keeper_lost(struct daemon *d);

/* work.c: do one piece of the background work (timer); schedule the work for a session's next
 * requests. It runs in pieces, beginning a millisecond after the end of a request. A request that
 * follows at once uses the existing surface, and the work is done while that request runs. */
void work_ahead(void *daemon);
void work_later(struct daemon *d, const struct session *session);
/* Save models that are not saved (timer), after save_interval, or at once. */
void models_save(void *daemon);
void models_save_later(struct daemon *d);
void models_save_now(struct daemon *d);
/* Whether the message has to wait for a helper process, which reads this model or saves others to make room for it. If
 * so, the connection is held and the message is passed again. */
bool model_awaited(struct daemon *d, struct connection *c, const char *name, uid_t owner, enum phase phase,
		   uint32_t context);
/* Read the files of the entry that a question is about. Returns false if the connection waits for a helper process that
 * does so, as above, or after an error reply: its owner's share of memory is in use. */
bool model_read(struct daemon *d, struct connection *c, struct entry *entry, enum phase phase, uint32_t context);

/* profile.c */
void profile_open(struct daemon *d, struct connection *c, const struct kv *kv);
void profile_sample(struct daemon *d, struct connection *c, const struct kv *kv);
bool profile_close(struct daemon *d, struct connection *c, uint64_t id);
void profiles_close(struct daemon *d, struct connection *c);
void profiles_applied(struct daemon *d);
/* A fit that one of them waited for has ended. */
void profiles_fitted(struct daemon *d);
/* A deadline request began: discard the measurement that is running. */
void profiles_disturb(void);
unsigned profiles_count(const struct daemon *d);
void profiles_report(struct daemon *d, struct kv_out *out);

/* tally.c */
void tally_read(struct daemon *d, struct connection *c, const struct kv *kv);
void tally_opened(const struct session *session);
void tally_ended(struct daemon *d, const struct request *request, uint64_t total_ns, bool missed);
/* Was the tag of a session begun with shadow=1? Its account, NULL: none. */
bool tally_shadows(const struct session *session);
struct shadow_ledger *tally_ledger(const struct session *session);
void tally_streamed(struct session *session, struct stream_event event);
/* Write the keys of a stream's statistics, each with `prefix`. */
void stream_report(struct kv_out *out, const char *prefix, uint64_t rate_mhz, uint64_t first_ns,
		   const struct stream_stats *stats);
void tally_close(struct connection *c);

/* query.c */
void query_hello(struct daemon *d, struct connection *c, const struct kv *kv);
void query_status(struct daemon *d, struct connection *c, const struct kv *kv);
void query_models(struct daemon *d, struct connection *c, const struct kv *kv);
void query_surface(struct daemon *d, struct connection *c, const struct kv *kv);
void query_explain(struct daemon *d, struct connection *c, const struct kv *kv);
void query_release(struct daemon *d, struct connection *c, const struct kv *kv);
void query_savings(struct daemon *d, struct connection *c, const struct kv *kv);

/* fleet.c */
void fleet_export(struct daemon *d, struct connection *c, const struct kv *kv);
void fleet_import(struct daemon *d, struct connection *c, const struct kv *kv);
/* The connection is closing: an import of its own goes on, and nobody is told. */
void fleet_closed(struct daemon *d, const struct connection *c);

/* For handlers: read a required key, a number in [min, max]. Returns false after an error reply
 * that names the key. */
bool need_u64(struct connection *c, const struct kv *kv, const char *key, uint64_t min, uint64_t max, uint64_t *out);
/* Like need_u64() for an optional key; if it is absent, `*out` is unchanged. */
bool want_u64(struct connection *c, const struct kv *kv, const char *key, uint64_t min, uint64_t max, uint64_t *out);
bool need_model(struct connection *c, const struct kv *kv, const char **out);
/* Whether the client is root, or the user that flamed runs as, who alone may use the operation `what`. If not, false
 * after an error reply. */
bool is_admin(const struct connection *c);
bool need_admin(struct connection *c, const char *what);
/* Read phase and context; PHASE_RUN has no context. */
bool want_phase(struct connection *c, const struct kv *kv, enum phase *phase, uint32_t *context);
/* Read layers=cpu_ns:gpu_ns[:s],... and layers.N into a new array, which the caller frees. Returns
 * false after an error reply. */
bool want_layers(struct connection *c, const struct kv *kv, enum phase phase, uint32_t context, struct op_point point,
		 struct layer **layers, size_t *count);

const char *state_word(enum surface_state state);
const char *source_word(enum bound_source source);
const char *regime_word(enum regime regime);

#endif
