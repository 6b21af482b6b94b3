/* SPDX-License-Identifier: MIT */
/* Load on a running flamed, seen from its clients.
 *   load pairs SOCKET CONNECTIONS SESSIONS PAIRS   begin/end over many sessions, every reply checked
 *   load flood SOCKET KIND ROUNDS CPU OTHER        round trips of one client, on CPU, beside another that floods,
 *                                                  on OTHER: what they take, and flamed's processor time in them */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../common/clock.h"

#define CONNECTIONS_MOST 2000
#define AT_ONCE          8   /* requests in flight at a time */
#define BLOCK            500 /* round trips with or without the other client */
#define ROUNDS_MOST      64
#define REST_NS          (20 * NS_PER_MS)

static const char *path;

static void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int connect_to_flamed(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(path);
	return fd;
}

static void say(int fd, const char *message)
{
	if (send(fd, message, strlen(message), MSG_NOSIGNAL) != (ssize_t)strlen(message))
		fail("send");
}

static void hear(int fd, char *reply, size_t size)
{
	size_t len = 0;

	do {
		ssize_t n = recv(fd, reply + len, size - len - 1, 0);

		if (n <= 0)
			fail("recv");
		len += (size_t)n;
		reply[len] = '\0';
	} while (len < 2 || strcmp(reply + len - 2, "\n\n") != 0);
}

static uint64_t number(const char *reply, const char *key)
{
	const char *at = strstr(reply, key);

	if (strncmp(reply, "errno=0\n", 8) != 0 || !at) {
		fprintf(stderr, "load: no %s in: %s", key, reply);
		exit(1);
	}
	return strtoull(at + strlen(key), NULL, 10);
}

static uint64_t open_session(int fd, unsigned model)
{
	char text[1024];

	snprintf(text, sizeof(text), "op=open\nmodel=load%u\n\n", model);
	say(fd, text);
	hear(fd, text, sizeof(text));
	return number(text, "session=");
}

struct client {
	int fd;
	uint64_t session, request;
	bool late;        /* this request is reported over its deadline */
	clockid_t daemon; /* its processor clock */
};

static void say_begin(struct client *c)
{
	char text[128];

	snprintf(text, sizeof(text), "op=begin\nsession=%" PRIu64 "\ndeadline_ns=30000000\n\n", c->session);
	say(c->fd, text);
}

static void say_end(struct client *c, uint64_t serial)
{
	char text[128];

	c->late = serial % 7 == 0;
	snprintf(text, sizeof(text), "op=end\nrequest=%" PRIu64 "\ntotal_ns=%d\nack=1\n\n", c->request,
		 c->late ? 30000001 : 20000000);
	say(c->fd, text);
}

/* A reply of another client would name a request that is not ours, so that its end is refused, or report a wrong
 * miss. */
static int pairs(unsigned connections, unsigned sessions, uint64_t count)
{
	static struct client client[CONNECTIONS_MOST];
	uint64_t start_ns, wrong = 0;
	char text[1024];

	for (unsigned i = 0; i < connections; i++) {
		client[i].fd = connect_to_flamed();
		if (i < sessions)
			client[i].session = open_session(client[i].fd, i % 16);
	}
	start_ns = clock_now_ns();
	for (uint64_t done = 0; done < count; done += AT_ONCE) {
		struct client *some = &client[done % (sessions - sessions % AT_ONCE)];

		for (unsigned i = 0; i < AT_ONCE; i++)
			say_begin(&some[i]);
		for (unsigned i = 0; i < AT_ONCE; i++) {
			hear(some[i].fd, text, sizeof(text));
			some[i].request = number(text, "request=");
			say_end(&some[i], done + i);
		}
		for (unsigned i = 0; i < AT_ONCE; i++) {
			hear(some[i].fd, text, sizeof(text));
			wrong += (number(text, "missed=") != 0) != some[i].late;
		}
	}
	printf("pairs=%" PRIu64 " a_second=%.0f wrong=%" PRIu64 "\n", count,
	       (double)count * 1e9 / (double)(clock_now_ns() - start_ns), wrong);
	for (unsigned i = sessions; i < connections; i++) {
		say(client[i].fd, "op=hello\n\n");
		hear(client[i].fd, text, sizeof(text));
		number(text, "protocol=");
	}
	return wrong ? 1 : 0;
}

/* Write for ever, reading what comes back unless `deaf`. */
static void pour(const char *text, size_t len, bool deaf)
{
	static char sink[65536];
	int fd = connect_to_flamed();
	size_t at = 0;

	for (;;) {
		struct pollfd ready = {fd, (short)(POLLOUT | (deaf ? 0 : POLLIN)), 0};

		poll(&ready, 1, -1);
		if (ready.revents & POLLIN && recv(fd, sink, sizeof(sink), MSG_DONTWAIT) == 0)
			ready.revents |= POLLHUP;
		if (ready.revents & (POLLHUP | POLLERR)) {
			close(fd);
			fd = connect_to_flamed();
			at = 0;
			continue;
		}
		ssize_t n = ready.revents & POLLOUT ? send(fd, text + at, len - at, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
		at = n > 0 ? (at + (size_t)n) % len : at;
	}
}

/* The other client; never returns. */
static void flood(const char *kind)
{
	static char text[32768];
	size_t len = 0;
	struct client c = {.fd = -1};

	if (strcmp(kind, "begin") == 0) {
		c.fd = connect_to_flamed();
		c.session = open_session(c.fd, 99);
		for (;; len++) {
			say_begin(&c);
			hear(c.fd, text, sizeof(text));
			c.request = number(text, "request=");
			say_end(&c, len);
			hear(c.fd, text, sizeof(text));
		}
	}
	if (strcmp(kind, "half") == 0) {
		/* Send half a message and close, repeatedly. */
		for (;; close(c.fd)) {
			c.fd = connect_to_flamed();
			(void)!send(c.fd, "op=begin\nses", 12, MSG_NOSIGNAL);
		}
	}
	for (uint64_t seed = 1; strcmp(kind, "rubbish") == 0 && len < sizeof(text);
	     seed = seed * 6364136223846793005U + 1442695040888963407U)
		text[len++] = seed >> 60 == 0 ? '\n' : (char)(seed >> 33);
	while (len + 64 < sizeof(text) && strcmp(kind, "rubbish") != 0)
		len += (size_t)sprintf(text + len, "op=%s\nmodel=load0\n\n",
				       strcmp(kind, "deaf") == 0 ? "status" : kind);
	pour(text, len, strcmp(kind, "deaf") == 0);
}

static int by_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Of round trips of a begin: a block's, or a 99th percentile for each block. */
struct trips {
	uint64_t ns[BLOCK], used_ns[BLOCK]; /* used: of it, flamed's processor time */
};

static uint64_t used_ns(clockid_t process)
{
	struct timespec t;

	if (clock_gettime(process, &t) < 0)
		fail("clock_gettime");
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* CPU clock of the peer. */
static clockid_t clock_of_peer(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	clockid_t process;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		fail("SO_PEERCRED");
	errno = clock_getcpuclockid(peer.pid, &process);
	if (errno)
		fail("clock_getcpuclockid");
	return process;
}

static void round_trips(struct client *c, struct trips *trips)
{
	char text[1024];

	for (size_t i = 0; i < BLOCK; i++) {
		uint64_t before_ns = used_ns(c->daemon), start_ns = clock_now_ns();

		say_begin(c);
		hear(c->fd, text, sizeof(text));
		trips->ns[i] = clock_now_ns() - start_ns;
		trips->used_ns[i] = used_ns(c->daemon) - before_ns;
		c->request = number(text, "request=");
		say_end(c, 1);
		hear(c->fd, text, sizeof(text));
	}
}

static uint64_t quantile(uint64_t *values, size_t count, unsigned percent)
{
	qsort(values, count, sizeof(*values), by_u64);
	return values[count * percent / 100];
}

static void run_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail("sched_setaffinity");
}

/* Blocks alone and beside the other client alternate; of each the 99th percentile, over all the median. The ratio adds
 * to a round trip alone the processor time that flamed spent on the other client during one, so that other load on the
 * machine does not count. The other client has flamed's priority, so that it floods however busy the machine is, and
 * the measuring client a higher one: flamed cannot finish with the other before the client goes on. */
static int beside(const char *kind, unsigned rounds, unsigned cpu, unsigned other_cpu)
{
	static struct trips trips, alone, flooded;
	struct client c = {.fd = connect_to_flamed()};
	pid_t other;

	c.session = open_session(c.fd, 0);
	c.daemon = clock_of_peer(c.fd);
	run_on(cpu);
	round_trips(&c, &trips);
	other = fork();
	if (other == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_on(other_cpu);
		flood(kind);
	}
	sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){2});
	for (unsigned i = 0; i < rounds; i++) {
		kill(other, SIGSTOP);
		clock_sleep_ns(REST_NS);
		round_trips(&c, &trips);
		alone.ns[i] = quantile(trips.ns, BLOCK, 99);
		alone.used_ns[i] = quantile(trips.used_ns, BLOCK, 99);
		kill(other, SIGCONT);
		clock_sleep_ns(REST_NS);
		round_trips(&c, &trips);
		flooded.ns[i] = quantile(trips.ns, BLOCK, 99);
		flooded.used_ns[i] = quantile(trips.used_ns, BLOCK, 99);
	}
	if (waitpid(other, NULL, WNOHANG) != 0) {
		fprintf(stderr, "load: the flood ended by itself\n");
		return 1;
	}
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	double alone_us = (double)quantile(alone.ns, rounds, 50) / 1e3,
	       flooded_us = (double)quantile(flooded.ns, rounds, 50) / 1e3,
	       more_us = ((double)quantile(flooded.used_ns, rounds, 50) - (double)quantile(alone.used_ns, rounds, 50)) /
			 1e3;

	printf("flood=%s alone_us=%.1f flooded_us=%.1f more_us=%.1f ratio=%.2f\n", kind, alone_us, flooded_us, more_us,
	       1 + more_us / alone_us);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr,
			"usage: load pairs SOCKET CONNECTIONS SESSIONS PAIRS | load flood SOCKET KIND ROUNDS CPU "
			"OTHER\n");
		return 2;
	}
	path = argv[2];
	if (strcmp(argv[1], "pairs") == 0 && argc == 6 && atoi(argv[3]) <= CONNECTIONS_MOST)
		return pairs((unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]), strtoull(argv[5], NULL, 10));
	if (strcmp(argv[1], "flood") == 0 && argc == 7 && atoi(argv[4]) > 0 && atoi(argv[4]) <= ROUNDS_MOST)
		return beside(argv[3], (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]), (unsigned)atoi(argv[6]));
	return 2;
}
