/* SPDX-License-Identifier: MIT */
/* Connections: framing, quotas, replies. Knows no operation. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <stdbool.h>
#include <sys/types.h>
#include "../common/kv.h"
#include "loop.h"

struct server;
struct tally;

struct connection {
	struct server *server;
	int fd;
	uid_t uid;
	pid_t pid;
	struct loop_watch *watch, *pause;
	char *in;
	size_t in_len, in_size;
	struct kv_out out;       /* replies not yet sent */
	size_t sent, reply_start;
	bool closing;            /* flush, then close */
	bool dead;               /* freed once nobody is inside */
	bool held;               /* replies wait for the clocks, or a question for its turn: nothing more is parsed */
	uint64_t asks_from_ns;   /* when what its questions took is paid back */
	bool backlog;            /* whole messages are left from its turn: nothing more is read */
	bool replays;            /* reported a total that did not pass */
	unsigned busy;           /* handlers inside */
	unsigned sessions;
	struct tally *tally;
	struct connection *previous, *next;
};

struct server_handlers {
	/* One whole message. The handler builds its reply with reply_*(), or holds the connection. False: it is
	 * to come again when the connection, which connection_may_ask() held, goes on. */
	bool (*message)(void *arg, struct connection *connection, const struct kv *kv);
	/* The connection goes: end what it owns. */
	void (*closed)(void *arg, struct connection *connection);
	void *arg;
};

/* Serve a listening socket, which the server owns from now on. NULL when out
 * of memory. */
struct server *server_new(struct loop *loop, int fd, const struct server_handlers *handlers);
void server_free(struct server *server);
unsigned server_connections(const struct server *server);

/* A listening socket at `path`: a stale one is replaced, one that is served is
 * -EADDRINUSE. Mode 0660, group `group` where it exists and may be set. */
int server_listen(const char *path, const char *group);

/* Begin a good reply: `errno=0`. Ended by reply_end(), or dropped by reply_error(). */
struct kv_out *reply_begin(struct connection *connection);
void reply_end(struct connection *connection);
void reply_error(struct connection *connection, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Send what is written so far at once: for a handler that has more to do. */
void connection_flush(struct connection *connection);

/* Questions, which no request waits for, must not slow requests: those of a connection may take a small part of the
 * time, past a burst. A request of its own is not held up by that. */
void connection_asked(struct connection *connection, uint64_t took_ns);
/* False: not yet. The connection is held until then. */
bool connection_may_ask(struct connection *connection);

/* Hold and let go: what is queued behind is parsed then. Resume from an event
 * of another source only, never inside a handler. */
void connection_hold(struct connection *connection);
void connection_resume(struct connection *connection);

#endif
