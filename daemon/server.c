/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/log.h"

#define READ_BYTES     16384
#define ACCEPTS_AT_ONCE 4
#define ACCEPT_STEP_NS (500 * NS_PER_US) /* one connection in so long, past a burst: taking one costs as much as some requests */
#define ACCEPT_BURST   256
#define TURN_NS        (20 * NS_PER_US)  /* of one connection before others have theirs */
#define PAUSE_TIMES    300 /* questions of one connection may take one part in so many of the time, */
#define PAUSE_BURST_NS (20 * NS_PER_US * PAUSE_TIMES) /* past a burst */
#define PAUSE_NS_MAX   NS_PER_S
#define REST_NS        (100 * NS_PER_MS) /* after running out of descriptors */

struct server {
	struct loop *loop;
	int fd;
	int again_fd; /* always readable: watched while a connection has messages left, so that its turn comes among the others' */
	struct loop_watch *watch, *rest, *again;
	struct server_handlers handlers;
	struct connection *first;
	unsigned count;
	uint64_t accepted_ns; /* one more ACCEPT_STEP_NS for each connection taken; never far in the past */
};

static void connection_free(struct connection *c)
{
	if (c->busy)
		return;
	if (c->previous)
		c->previous->next = c->next;
	else
		c->server->first = c->next;
	if (c->next)
		c->next->previous = c->previous;
	c->server->count--;
	close(c->fd);
	free(c->in);
	kv_free(&c->out);
	free(c);
}

/* End it: what it owned goes first, its memory when nobody is inside. */
static void connection_close(struct connection *c)
{
	if (!c->dead) {
		c->dead = true;
		loop_watch_free(c->watch);
		loop_watch_free(c->pause);
		c->watch = c->pause = NULL;
		c->busy++;
		c->server->handlers.closed(c->server->handlers.arg, c);
		c->busy--;
	}
	connection_free(c);
}

/* Send what can be sent. Returns false when the connection is gone. */
static bool flush(struct connection *c)
{
	while (c->sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0)
			return false;
		c->sent += (size_t)n;
	}
	if (c->sent == c->out.len) {
		kv_reset(&c->out);
		c->sent = 0;
		return !c->closing;
	}
	if (c->out.len - c->sent > OUTPUT_BYTES_MAX) {
		log_warning("pid %d (uid %u) does not read its replies: closed", (int)c->pid, c->uid);
		return false;
	}
	return true;
}

void connection_flush(struct connection *c)
{
	(void)!flush(c); /* an error comes again when the connection's turn ends */
}

static void update_events(struct connection *c)
{
	/* A client that does not read is not read from either. */
	bool full = c->backlog || c->out.len - c->sent > OUTPUT_BYTES_MAX / 2;
	unsigned events = (c->out.len > c->sent ? LOOP_WRITE : 0) | (c->closing || c->held || full ? 0 : LOOP_READ);

	/* Neither: a held connection still tells of its end. */
	if (loop_fd_events(c->watch, events || c->backlog ? events : LOOP_READ) < 0)
		connection_close(c);
}

struct kv_out *reply_begin(struct connection *c)
{
	c->reply_start = c->out.len;
	kv_add_u64(&c->out, "errno", 0);
	return &c->out;
}

void reply_error(struct connection *c, int errnum, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	c->out.error = 0;
	kv_add_u64(&c->out, "errno", (uint64_t)errnum);
	kv_add(&c->out, "message", "%s", text);
	kv_end(&c->out);
}

void reply_end(struct connection *c)
{
	kv_end(&c->out);
	if (!c->out.error && c->out.len - c->reply_start <= MESSAGE_BYTES_MAX)
		return;
	int error = c->out.error ? -c->out.error : EMSGSIZE;
	c->out.len = c->reply_start;
	reply_error(c, error, "the reply does not fit a message");
}

/* Handle whole messages. Returns the bytes used. */
static size_t handle(struct connection *c)
{
	static char text[MESSAGE_BYTES_MAX]; /* parsing writes into it, and the message may have to come again */
	static struct kv kv;
	uint64_t until_ns = clock_now_ns() + TURN_NS;
	size_t used = 0;

	c->backlog = false;
	while (!c->held && !c->closing && !c->dead) {
		long n = kv_frame(c->in + used, c->in_len - used);
		size_t line;

		if (n == 0)
			break;
		if (used && clock_now_ns() >= until_ns) {
			c->backlog = true;
			loop_fd_events(c->server->again, LOOP_READ);
			break;
		}
		if (n < 0) {
			reply_error(c, EMSGSIZE, "a line holds at most %d bytes, a message %d", LINE_BYTES_MAX, MESSAGE_BYTES_MAX);
			c->closing = true;
			return used;
		}
		memcpy(text, c->in + used, (size_t)n);
		uint64_t start_ns = clock_now_ns();
		int rc = kv_parse(text, (size_t)n, &kv, &line);
		if (rc == -E2BIG)
			reply_error(c, E2BIG, "more than %d keys", KV_PAIRS_MAX);
		else if (rc < 0)
			reply_error(c, EINVAL, "line %zu is no key=value with a key of a-z 0-9 _ .", line);
		else if (!c->server->handlers.message(c->server->handlers.arg, c, &kv))
			break;
		if (rc < 0) { /* what is no message counts as a question, too */
			connection_asked(c, clock_now_ns() - start_ns);
			(void)!connection_may_ask(c);
		}
		used += (size_t)n;
	}
	return used;
}

/* Parse what is there, send what there is to send. */
static void work(struct connection *c)
{
	bool alive;

	c->busy++;
	size_t used = handle(c);
	memmove(c->in, c->in + used, c->in_len - used);
	c->in_len -= used;
	alive = !c->dead && flush(c);
	c->busy--;
	if (!alive)
		connection_close(c);
	else
		update_events(c);
}

static bool make_room(struct connection *c)
{
	size_t size = c->in_size ? c->in_size * 2 : READ_BYTES;
	char *grown;

	if (c->in_size - c->in_len >= READ_BYTES / 2)
		return true;
	grown = realloc(c->in, size);
	if (!grown)
		return false;
	c->in = grown;
	c->in_size = size;
	return true;
}

/* While replies are held the only news is the end. */
static bool ended(const struct connection *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void on_ready(void *arg, unsigned events)
{
	struct connection *c = arg;

	if ((events & LOOP_READ) && c->held) {
		/* Pipelined behind a held reply: left in the socket until it is sent. */
		if (ended(c))
			connection_close(c);
		else
			loop_fd_events(c->watch, 0);
		return;
	}
	if ((events & LOOP_READ) && !c->closing && !c->backlog) {
		if (!make_room(c)) {
			connection_close(c);
			return;
		}
		ssize_t n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			connection_close(c);
			return;
		}
		if (n > 0)
			c->in_len += (size_t)n;
	}
	work(c);
}

void connection_hold(struct connection *c)
{
	c->held = true;
}

void connection_resume(struct connection *c)
{
	c->held = false;
	if (!c->busy)
		work(c);
}

static void on_may_ask(void *arg)
{
	connection_resume(arg);
}

void connection_asked(struct connection *c, uint64_t took_ns)
{
	uint64_t now_ns = clock_now_ns();
	uint64_t from_ns = (c->asks_from_ns > now_ns ? c->asks_from_ns : now_ns) + took_ns * PAUSE_TIMES;

	if (!c->held) /* whose answer waits is slowed enough */
		c->asks_from_ns = from_ns < now_ns + PAUSE_NS_MAX ? from_ns : now_ns + PAUSE_NS_MAX;
}

bool connection_may_ask(struct connection *c)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns + PAUSE_BURST_NS >= c->asks_from_ns)
		return true;
	if (!c->pause)
		c->pause = loop_timer(c->server->loop, on_may_ask, c);
	if (!c->pause)
		return true;
	c->held = true;
	loop_timer_in(c->pause, c->asks_from_ns - now_ns); /* for a whole burst again: timers cost, too */
	return false;
}

/* Connections whose turn ended with messages left: another turn of each. */
static void on_again(void *arg, unsigned events)
{
	struct server *server = arg;
	bool left = false;

	(void)events;
	for (struct connection *c = server->first, *next; c; c = next) {
		next = c->next;
		if (c->backlog && !c->held)
			work(c);
	}
	for (const struct connection *c = server->first; c && !left; c = c->next)
		left = c->backlog;
	if (!left)
		loop_fd_events(server->again, 0);
}

static unsigned count_uid(const struct server *server, uid_t uid)
{
	unsigned count = 0;

	for (const struct connection *c = server->first; c; c = c->next)
		count += c->uid == uid;
	return count;
}

static void refuse(int fd, int errnum, const char *why)
{
	char text[160];
	int n = snprintf(text, sizeof(text), "errno=%d\nmessage=%s\n\n", errnum, why);

	(void)!send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

static void add(struct server *server, int fd)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);
	struct connection *c;

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	if (server->count >= CONNECTIONS_MAX || count_uid(server, peer.uid) >= CONNECTIONS_PER_UID_MAX) {
		refuse(fd, EMFILE, server->count >= CONNECTIONS_MAX ? "too many connections" : "too many connections of this user");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		refuse(fd, ENOMEM, "out of memory");
		return;
	}
	c->server = server;
	c->fd = fd;
	c->uid = peer.uid;
	c->pid = peer.pid;
	c->watch = loop_fd(server->loop, fd, LOOP_READ, on_ready, c);
	if (!c->watch) {
		free(c);
		refuse(fd, ENOMEM, "out of memory");
		return;
	}
	c->next = server->first;
	if (c->next)
		c->next->previous = c;
	server->first = c;
	server->count++;
}

static void on_rest(void *arg)
{
	struct server *server = arg;

	loop_fd_events(server->watch, LOOP_READ);
}

/* Those waiting stay in the queue for a while. */
static void rest(struct server *server, uint64_t rest_ns)
{
	loop_fd_events(server->watch, 0);
	loop_timer_in(server->rest, rest_ns);
}

/* Whoever connects and leaves over and over must not take the time of those who stay. */
static bool may_accept(struct server *server)
{
	uint64_t now_ns = clock_now_ns();

	if (server->accepted_ns + ACCEPT_BURST * ACCEPT_STEP_NS < now_ns)
		server->accepted_ns = now_ns - ACCEPT_BURST * ACCEPT_STEP_NS;
	if (server->accepted_ns + ACCEPT_STEP_NS > now_ns)
		return false;
	server->accepted_ns += ACCEPT_STEP_NS;
	return true;
}

static void on_accept(void *arg, unsigned events)
{
	struct server *server = arg;

	(void)events;
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		if (!may_accept(server)) {
			rest(server, ACCEPTS_AT_ONCE * ACCEPT_STEP_NS);
			return;
		}
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			add(server, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* Spinning on them helps nobody. */
			if (log_first("accept"))
				log_error("no connection can be taken: %s; trying again as others end", strerror(errno));
			rest(server, REST_NS);
		}
		if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

struct server *server_new(struct loop *loop, int fd, const struct server_handlers *handlers)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->loop = loop;
	server->fd = fd;
	server->handlers = *handlers;
	server->rest = loop_timer(loop, on_rest, server);
	server->again_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->again_fd >= 0)
		server->again = loop_fd(loop, server->again_fd, 0, on_again, server);
	server->watch = loop_fd(loop, fd, LOOP_READ, on_accept, server);
	if (server->rest && server->again && server->watch)
		return server;
	server_free(server);
	return NULL;
}

void server_free(struct server *server)
{
	if (!server)
		return;
	while (server->first)
		connection_close(server->first);
	loop_watch_free(server->rest);
	loop_watch_free(server->again);
	loop_watch_free(server->watch);
	if (server->again_fd >= 0)
		close(server->again_fd);
	close(server->fd);
	free(server);
}

unsigned server_connections(const struct server *server)
{
	return server->count;
}

static bool is_served(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool served = fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0;

	if (fd >= 0)
		close(fd);
	return served;
}

static void set_group(const char *path, const char *group)
{
	struct group *entry = group[0] && geteuid() == 0 ? getgrnam(group) : NULL;

	if (!entry)
		return; /* then only this user and its group may ask */
	if (chown(path, (uid_t)-1, entry->gr_gid) < 0)
		log_warning("%s: group %s: %s", path, group, strerror(errno));
}

int server_listen(const char *path, const char *group)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	if (is_served(&addr))
		return -EADDRINUSE;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mode_t old = umask(0117);
	rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, SOMAXCONN) < 0 ? -errno : 0;
	umask(old);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	set_group(path, group);
	return fd;
}
