/* SPDX-License-Identifier: MIT */
/* Connections: framing, quotas, replies. Independent of the operations. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <stdbool.h>
#include <sys/types.h>
#include "../common/kv.h"
#include "loop.h"
#include "user.h"

struct server;
struct tally;

struct connection {
	struct server *server;
	int fd;
	uid_t uid;
	pid_t pid;
	struct user *user;                /* of that uid */
	struct loop_watch *watch, *pause; /* pause: until its own questions are paid for */
	char *in;
	size_t in_len, in_size, buffered; /* buffered: bytes counted for its user */
	struct kv_out out;                /* replies not sent yet */
	size_t sent, reply_start;
	bool closing; /* close after sending pending replies */
	bool dead;    /* freed when no handler is running */
	/* a reply waits for the clocks, or a query for its turn: no further message is parsed */
	bool held;
	bool repeat;   /* held, and the message is passed again by server_repeat(), */
	bool again;    /* which is doing so */
	bool had_turn; /* that message, which is not held up by its user's debts once more */
	bool helped;   /* a helper process was started for its question: the next answer is what that made */
	bool backlog;  /* complete messages are left from its last turn: nothing more is read */
	bool first;    /* served before others */
	bool gone;     /* the client has closed its end and reads no reply any more */
	bool asking;   /* in its user's queue of questions */
	struct connection *ask_previous, *ask_next;
	uint64_t asks_until_ns; /* when the time used by its queries is paid off */
	bool replays;           /* said so, or its first totals are longer than the elapsed time */
	bool unannounced;       /* of these, the latter */
	unsigned live_totals;   /* in a row that agreed with the elapsed time */
	uint64_t ahead_ns;      /* its virtual time minus real time: excess time that it reported */
	unsigned busy;          /* nesting depth of running handlers */
	unsigned sessions;
	struct tally *tally;
	struct connection *previous, *next;
};

struct server_handlers {
	/* Handle one complete message. The handler builds its reply with reply_*(), or holds the
	 * connection. Returning false (after connection_may_ask() or connection_repeat() held the
	 * connection) means: pass the message again when the connection is resumed. */
	bool (*message)(void *arg, struct connection *connection, const struct kv *kv);
	/* Whether another user has sessions, whose requests precede the questions of this one. */
	bool (*beside_others)(void *arg, const struct connection *connection);
	/* The connection is closing: end everything that it owns. */
	void (*closed)(void *arg, struct connection *connection);
	void *arg;
};

/* Serve a listening socket and take ownership of it. NULL when out of memory. */
struct server *server_new(struct loop *loop, int fd, const struct server_handlers *handlers);
void server_free(struct server *server);
unsigned server_connections(const struct server *server);

/* Create a listening socket at `path`. A stale socket is replaced; one that is being served gives
 * -EADDRINUSE. The mode is 0660, with group `group` if it exists and can be set. */
int server_listen(const char *path, const char *group);

/* Begin a successful reply with `errno=0`. reply_end() completes it, reply_error() replaces it. */
struct kv_out *reply_begin(struct connection *connection);
void reply_end(struct connection *connection);
void reply_error(struct connection *connection, int errnum, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Send the reply written so far, for a handler that has more work to do. */
void connection_flush(struct connection *connection);

/* In a handler: flamed's processor time for this message so far. It is read once, so that the next message counts from
 * there. */
uint64_t connection_took_ns(struct connection *connection);

/* Questions, which no request waits for, must not slow requests: those of a connection may take a
 * small part of the time, past a burst, and where other users have sessions those of a user over
 * all its connections, which then wait in one queue. */
void connection_asked(struct connection *connection, uint64_t took_ns);
/* Returns false if it has to wait: the connection is held until its turn. */
bool connection_may_ask(struct connection *connection);

/* Serve before connections without sessions and those of users in debt. */
void connection_first(struct connection *connection, bool first);

/* Hold or resume parsing of further messages. Call connection_resume() only from an event of
 * another source, never inside a handler. */
void connection_hold(struct connection *connection);
void connection_resume(struct connection *connection);

/* For a handler that cannot reply yet: hold the connection, and pass the message again after server_repeat(). Users
 * take turns in order of uid, from the one after `uid`; of each user the oldest connection is first. Many connections
 * take several turns among the others'; false: some are left. */
void connection_repeat(struct connection *connection);
bool server_repeat(struct server *server, uid_t uid);

#endif
