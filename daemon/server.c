/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/log.h"

#define READ_BYTES      16384
#define KEPT_BYTES      1024 /* of each of its two buffers stay with a connection, needed or not */
#define ACCEPTS_AT_ONCE 4
/* accept at most one connection in this time, after a burst: accepting costs as much as several
 * requests */
#define ACCEPT_STEP_NS (500 * NS_PER_US)
#define ACCEPT_BURST   256
#define TURN_NS        (20 * NS_PER_US)  /* time slice of one connection while others wait */
#define REST_NS        (100 * NS_PER_MS) /* pause after running out of descriptors */

struct server {
	struct loop *loop;
	int fd;
	/* always readable; watched while a connection has messages left, so that its next turn
	 * comes among the others' */
	int again_fd;
	int ends_fd; /* epoll: every connection's end, also of one that is not read from */
	struct loop_watch *watch, *rest, *again, *ends;
	struct connection *turn; /* the user whose question waited longest, while it is served */
	struct server_handlers handlers;
	struct connection *first;
	unsigned count;
	bool repeats;         /* connections are left of server_repeat() */
	uid_t repeat_after;   /* the user whose turn it was when server_repeat() was called */
	uint64_t charged_ns;  /* flamed's processor time up to which messages are accounted for */
	uint64_t accepted_ns; /* advances by ACCEPT_STEP_NS with each connection; kept close to the current time */
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
	user_disconnected(c->user);
	c->user->buffered -= c->buffered;
	if (c->user->connections == 0) {
		loop_watch_free(c->user->may_ask);
		c->user->may_ask = NULL;
	}
	close(c->fd);
	free(c->in);
	kv_free(&c->out);
	free(c);
}

/* ---- questions that wait ---- */

static void ask_later(struct connection *c)
{
	struct user *user = c->user;

	c->held = c->asking = true;
	c->ask_next = NULL;
	c->ask_previous = user->asking_last;
	*(user->asking_last ? &user->asking_last->ask_next : &user->asking) = c;
	user->asking_last = c;
}

static void ask_no_more(struct connection *c)
{
	struct user *user = c->user;

	if (!c->asking)
		return;
	c->asking = false;
	*(c->ask_previous ? &c->ask_previous->ask_next : &user->asking) = c->ask_next;
	*(c->ask_next ? &c->ask_next->ask_previous : &user->asking_last) = c->ask_previous;
}

/* Close: release what it owns at once, and its memory when no handler is running. */
static void connection_close(struct connection *c)
{
	if (!c->dead) {
		c->dead = true;
		loop_watch_free(c->watch);
		loop_watch_free(c->pause);
		c->watch = c->pause = NULL;
		ask_no_more(c);
		(void)!epoll_ctl(c->server->ends_fd, EPOLL_CTL_DEL, c->fd,
				 NULL); /* a helper process may hold it a little longer */
		c->busy++;
		c->server->handlers.closed(c->server->handlers.arg, c);
		c->busy--;
	}
	connection_free(c);
}

/* Send as much as possible. Returns false if the connection is closed. */
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
		if (user_may_log(c->user, USER_LOG_UNREAD))
			log_warning("pid %d (uid %u) does not read its replies; connection closed", (int)c->pid,
				    c->uid);
		return false;
	}
	return true;
}

void connection_flush(struct connection *c)
{
	(void)!flush(c); /* an error shows again at the end of the connection's turn */
}

static void update_events(struct connection *c)
{
	/* Do not read from a client that does not read its replies. */
	bool full = c->backlog || c->out.len - c->sent > OUTPUT_BYTES_MAX / 2;
	unsigned events = (c->out.len > c->sent ? LOOP_WRITE : 0) | (c->closing || c->held || full ? 0 : LOOP_READ);

	if (loop_fd_events(c->watch, events) < 0)
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
	size_t start = c->out.len;
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	c->out.error = 0;
	kv_add_u64(&c->out, "errno", (uint64_t)errnum);
	kv_add(&c->out, "message", "%s", text);
	kv_end(&c->out);
	if (!c->out.error)
		return;
	c->out.len = start; /* part of a reply would be taken for the beginning of the next one */
	c->closing = true;
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

/* Handle complete messages. Returns the number of bytes used. */
static size_t handle(struct connection *c)
{
	/* a copy, as parsing modifies it and the message may have to be handled again */
	static char text[MESSAGE_BYTES_MAX];
	static struct kv kv;
	uint64_t until_ns = clock_now_ns() + TURN_NS;
	size_t used = 0;

	c->backlog = false;
	while (used < c->in_len && !c->held && !c->closing && !c->dead) {
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
			reply_error(c, EMSGSIZE, "a line holds at most %d bytes, a message %d", LINE_BYTES_MAX,
				    MESSAGE_BYTES_MAX);
			c->closing = true;
			return used;
		}
		memcpy(text, c->in + used, (size_t)n);
		int rc = kv_parse(text, (size_t)n, &kv, &line);
		if (rc == -E2BIG)
			reply_error(c, E2BIG, "more than %d keys", KV_PAIRS_MAX);
		else if (rc < 0)
			reply_error(c, EINVAL, "line %zu is not key=value with a key of a-z 0-9 _ .", line);
		else if (!c->server->handlers.message(c->server->handlers.arg, c, &kv))
			break;
		if (rc < 0) { /* a malformed message is charged like a query */
			connection_asked(c, connection_took_ns(c));
			(void)!connection_may_ask(c);
		}
		used += (size_t)n;
	}
	return used;
}

/* Shrink to the current contents, but keep KEPT_BYTES, so that the next message of an established session needs no
 * memory. */
static void shrink(char **data, size_t *size, size_t held)
{
	size_t less = held > KEPT_BYTES ? held : KEPT_BYTES;
	char *smaller = *size > less ? realloc(*data, less) : NULL;

	if (!smaller)
		return;
	*data = smaller;
	*size = less;
}

/* Free memory that is not needed now, and count the rest. False: its user holds too much. */
static bool trim(struct connection *c)
{
	if (c->in_size > c->in_len + KEPT_BYTES && !c->backlog)
		shrink(&c->in, &c->in_size, c->in_len);
	if (c->out.len == 0)
		shrink(&c->out.data, &c->out.size, 0);
	c->user->buffered += c->in_size + c->out.size - c->buffered;
	c->buffered = c->in_size + c->out.size;
	if (c->user->buffered <= BUFFERED_PER_UID_MAX || c->buffered <= 2 * KEPT_BYTES)
		return true;
	if (user_may_log(c->user, USER_LOG_INCOMPLETE))
		log_warning("uid %u: over %d bytes of incomplete messages and unread replies; a "
			    "connection of pid %d is closed",
			    c->uid, BUFFERED_PER_UID_MAX, (int)c->pid);
	return false;
}

/* Handle received messages and send replies. */
static void serve(struct connection *c)
{
	bool alive;

	c->server->charged_ns = clock_cpu_ns();
	c->busy++;
	size_t used = handle(c);
	if (used) {
		memmove(c->in, c->in + used, c->in_len - used);
		c->in_len -= used;
	}
	/* a piece of a message is no request either, beside those of others */
	if (!used && c->in_len && !c->held && !c->closing && !c->dead &&
	    c->server->handlers.beside_others(c->server->handlers.arg, c)) {
		connection_asked(c, connection_took_ns(c));
		(void)!connection_may_ask(c);
	}
	alive = !c->dead && flush(c) && !(c->gone && c->held) && trim(c);
	c->busy--;
	if (!alive)
		connection_close(c);
	else
		update_events(c);
}

static bool make_room(struct connection *c)
{
	size_t size = c->in_len + READ_BYTES;
	char *grown;

	if (c->in_size - c->in_len >= KEPT_BYTES / 2)
		return true;
	grown = realloc(c->in, size);
	if (!grown)
		return c->in_size > c->in_len; /* the old buffer still has room */
	c->in = grown;
	c->in_size = size;
	return true;
}

static void on_ready(void *arg, unsigned events)
{
	struct connection *c = arg;

	if ((events & LOOP_READ) && !c->closing && !c->backlog && !c->held) {
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
	serve(c);
}

void connection_first(struct connection *c, bool first)
{
	if (c->first == first || !c->watch)
		return;
	c->first = first;
	loop_fd_first(c->watch, first);
}

void connection_hold(struct connection *c)
{
	c->held = true;
}

void connection_resume(struct connection *c)
{
	c->held = false;
	if (!c->busy)
		serve(c);
}

void connection_repeat(struct connection *c)
{
	c->held = c->repeat = true;
}

/* The connection to which server_repeat() passes its message next; NULL: none is left. */
static struct connection *next_again(const struct server *server)
{
	uid_t uid = server->repeat_after;
	struct connection *next = NULL;

	for (struct connection *c = server->first; c; c = c->next) {
		/* unsigned: the distance from the user whose turn it was */
		if (c->again && (!next || c->uid - uid - 1 <= next->uid - uid - 1))
			next = c;
	}
	return next;
}

/* Returns whether connections are left, for a turn among the others'. */
static bool repeat_some(struct server *server)
{
	uint64_t until_ns = clock_now_ns() + TURN_NS;
	struct connection *c;

	while ((c = next_again(server)) != NULL && clock_now_ns() < until_ns) {
		c->again = false;
		c->had_turn = true;
		connection_resume(c);
	}
	server->repeats = c != NULL;
	return server->repeats;
}

bool server_repeat(struct server *server, uid_t uid)
{
	for (struct connection *c = server->first; c; c = c->next) {
		c->again |= c->repeat;
		c->repeat = false;
	}
	server->repeat_after = uid;
	if (!repeat_some(server))
		return true;
	loop_fd_events(server->again, LOOP_READ);
	return false;
}

static void on_may_ask(void *arg)
{
	connection_resume(arg);
}

/* Its user's time is paid back: the question that waited longest, and then the next one's turn. */
static void on_user_may_ask(void *arg)
{
	struct user *user = arg;
	struct connection *c = user->asking;

	if (!c)
		return;
	struct server *server = c->server;
	ask_no_more(c);
	server->turn = c;
	connection_resume(c); /* may free it */
	server->turn = NULL;
	if (user->may_ask && user->asking)
		loop_timer_in(user->may_ask, user_owes_ns(user, DEBT_ASKS));
}

uint64_t connection_took_ns(struct connection *c)
{
	uint64_t now_ns = clock_cpu_ns(), took_ns = now_ns - c->server->charged_ns;

	c->server->charged_ns = now_ns;
	return took_ns;
}

void connection_asked(struct connection *c, uint64_t took_ns)
{
	if (c->held) /* a held connection is slowed down enough */
		return;
	user_debt_add(&c->asks_until_ns, DEBT_ASKS, took_ns);
	if (c->server->handlers.beside_others(c->server->handlers.arg, c))
		user_charge(c->user, DEBT_ASKS, took_ns);
}

bool connection_may_ask(struct connection *c)
{
	bool beside_others = c->server->handlers.beside_others(c->server->handlers.arg, c);
	uint64_t owes_ns = user_debt_ns(c->asks_until_ns),
		 user_owes = beside_others ? user_owes_ns(c->user, DEBT_ASKS) : 0;

	if (user_owes || (c->user->asking && c->server->turn != c)) {
		if (!c->user->may_ask)
			c->user->may_ask = loop_timer(c->server->loop, on_user_may_ask, c->user);
		if (!c->user->may_ask)
			return true;
		if (!c->user->asking)
			/* wait for the whole burst again, as timers are not free */
			loop_timer_in(c->user->may_ask, user_owes);
		ask_later(c);
		return false;
	}
	if (owes_ns == 0)
		return true;
	if (!c->pause)
		c->pause = loop_timer(c->server->loop, on_may_ask, c);
	if (!c->pause)
		return true;
	c->held = true;
	loop_timer_in(c->pause, owes_ns);
	return false;
}

/* The client closed its end while the connection was held: everything that it owns ends now. */
static void on_ends(void *arg, unsigned events)
{
	struct server *server = arg;
	struct epoll_event end; /* one at a time: closing one may close another */
	struct connection *c;

	(void)events;
	if (epoll_wait(server->ends_fd, &end, 1, 0) != 1 || !(end.events & (EPOLLHUP | EPOLLERR)))
		return; /* a client that only sends no more waits for its replies */
	c = end.data.ptr;
	c->gone = true;
	if (c->held)
		connection_close(c);
}

/* Give another turn to each connection that has messages left. */
static void on_again(void *arg, unsigned events)
{
	struct server *server = arg;
	bool left = server->repeats && repeat_some(server);

	(void)events;
	for (struct connection *c = server->first, *next; c; c = next) {
		next = c->next;
		if (c->backlog && !c->held)
			serve(c);
	}
	for (const struct connection *c = server->first; c && !left; c = c->next)
		left = c->backlog;
	if (!left)
		loop_fd_events(server->again, 0);
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
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t len = sizeof(peer);
	struct connection *c;
	struct user *user;

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	user = user_get(peer.uid);
	if (!user) {
		refuse(fd, ENOMEM, "out of memory");
		return;
	}
	if (!user_may_connect(user)) {
		refuse(fd, EMFILE,
		       user->connections >= CONNECTIONS_SHARE ? "too many connections for this user" :
								"too many connections");
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
	c->user = user;
	c->watch = loop_fd(server->loop, fd, LOOP_READ, on_ready, c);
	struct epoll_event end = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = c};
	if (!c->watch || epoll_ctl(server->ends_fd, EPOLL_CTL_ADD, fd, &end) < 0) {
		loop_watch_free(c->watch);
		free(c);
		refuse(fd, ENOMEM, "out of memory");
		return;
	}
	c->next = server->first;
	if (c->next)
		c->next->previous = c;
	server->first = c;
	server->count++;
	user_connected(user);
}

static void on_rest(void *arg)
{
	struct server *server = arg;

	loop_fd_events(server->watch, LOOP_READ);
}

/* Stop accepting for a while; pending connections stay in the backlog. */
static void rest(struct server *server, uint64_t rest_ns)
{
	loop_fd_events(server->watch, 0);
	loop_timer_in(server->rest, rest_ns);
}

/* Limit the rate of connections, so that connecting in a loop does not take time from other clients. */
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
			/* do not spin: the error persists until something is closed */
			if (log_first("accept"))
				log_error("cannot accept connections: %s; trying again", strerror(errno));
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
	server->ends_fd = epoll_create1(EPOLL_CLOEXEC);
	if (server->ends_fd >= 0)
		server->ends = loop_fd(loop, server->ends_fd, LOOP_READ, on_ends, server);
	server->watch = loop_fd(loop, fd, LOOP_READ, on_accept, server);
	if (server->rest && server->again && server->ends && server->watch)
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
	loop_watch_free(server->ends);
	loop_watch_free(server->watch);
	if (server->again_fd >= 0)
		close(server->again_fd);
	if (server->ends_fd >= 0)
		close(server->ends_fd);
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
		return; /* the socket then stays accessible to flamed's own user and group only */
	if (chown(path, (uid_t)-1, entry->gr_gid) < 0)
		log_warning("%s: group %s: %s", path, group, strerror(errno));
}

int server_listen(const char *path, const char *group)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
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
