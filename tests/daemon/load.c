/* SPDX-License-Identifier: MIT */
/* Load on a running flamed.
 *   load many SOCKET CONNECTIONS SESSIONS REQUESTS   begin/end pairs over all sessions, every reply checked
 *   load pace SOCKET REQUESTS                        round trips of one polite client; prints p50_us and p99_us
 *   load flood SOCKET SECONDS                        messages as fast as they go, replies read
 * Prints name=value lines. Exit 1 when a reply is lost or not the expected one. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../common/clock.h"

#define DEADLINE_NS 50000000

struct peer {
	int fd;
	char in[65536];
	size_t len;
	unsigned session;
	unsigned long long request; /* in flight; 0: none */
	unsigned ended;
};

static int dial(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

static void say(struct peer *p, const char *text)
{
	size_t len = strlen(text);

	if (send(p->fd, text, len, MSG_NOSIGNAL) != (ssize_t)len) {
		perror("send");
		exit(1);
	}
}

/* One reply, cut out of the buffer. Waits for it. */
static void hear(struct peer *p, char *reply, size_t size)
{
	for (;;) {
		char *end;
		ssize_t n;

		p->in[p->len] = '\0';
		end = strstr(p->in, "\n\n");
		if (end) {
			size_t used = (size_t)(end + 2 - p->in);

			snprintf(reply, size, "%.*s", (int)used, p->in);
			memmove(p->in, p->in + used, p->len - used);
			p->len -= used;
			return;
		}
		n = recv(p->fd, p->in + p->len, sizeof(p->in) - 1 - p->len, 0);
		if (n <= 0) {
			fprintf(stderr, "lost: %s\n", n < 0 ? strerror(errno) : "closed");
			exit(1);
		}
		p->len += (size_t)n;
	}
}

static unsigned long long number(const char *reply, const char *key)
{
	const char *at = strstr(reply, key);

	if (strncmp(reply, "errno=0\n", 8) || !at) {
		fprintf(stderr, "not the expected reply (%s): %s\n", key, reply);
		exit(1);
	}
	return strtoull(at + strlen(key), NULL, 10);
}

static void open_session(struct peer *p, unsigned i)
{
	char text[128], reply[4096];

	snprintf(text, sizeof(text), "op=open\nmodel=load%u\n\n", i % 16);
	say(p, text);
	hear(p, reply, sizeof(reply));
	p->session = (unsigned)number(reply, "\nsession=");
}

static void begin(struct peer *p)
{
	char text[128], reply[4096];

	snprintf(text, sizeof(text), "op=begin\nsession=%u\ndeadline_ns=%d\n\n", p->session, DEADLINE_NS);
	say(p, text);
	hear(p, reply, sizeof(reply));
	p->request = number(reply, "\nrequest=");
}

static void end(struct peer *p)
{
	char text[128], reply[4096];

	snprintf(text, sizeof(text), "op=end\nrequest=%llu\ntotal_ns=%u\nack=1\n\n", p->request, 9000000 + p->ended % 7);
	say(p, text);
	hear(p, reply, sizeof(reply));
	if (number(reply, "\nmissed=") != 0) {
		fprintf(stderr, "a reply of somebody else's: %s\n", reply);
		exit(1);
	}
	p->request = 0;
	p->ended++;
}

static int many(const char *path, unsigned connections, unsigned sessions, unsigned long requests)
{
	struct peer *peer = calloc(connections, sizeof(*peer));
	uint64_t begin_ns;

	if (!peer)
		return 1;
	for (unsigned i = 0; i < connections; i++)
		peer[i].fd = dial(path);
	for (unsigned i = 0; i < sessions; i++)
		open_session(&peer[i * (connections / sessions)], i);
	begin_ns = clock_now_ns();
	for (unsigned long done = 0; done < requests; done++) {
		struct peer *p = &peer[(done * 7 % sessions) * (connections / sessions)];

		begin(p);
		end(p);
	}
	printf("requests=%lu\nrequests_per_s=%.0f\n", requests, (double)requests / ((double)(clock_now_ns() - begin_ns) * 1e-9));
	return 0;
}

static int by_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int pace(const char *path, unsigned long requests)
{
	struct peer *p = calloc(1, sizeof(*p));
	uint64_t *trip_ns = calloc(requests, sizeof(*trip_ns));

	if (!p || !trip_ns)
		return 1;
	p->fd = dial(path);
	open_session(p, 99);
	for (unsigned long i = 0; i < requests; i++) {
		uint64_t at_ns = clock_now_ns();

		begin(p);
		trip_ns[i] = clock_now_ns() - at_ns;
		end(p);
		clock_sleep_ns(200000);
	}
	qsort(trip_ns, requests, sizeof(*trip_ns), by_u64);
	printf("p50_us=%.1f\np99_us=%.1f\n", (double)trip_ns[requests / 2] * 1e-3, (double)trip_ns[requests * 99 / 100] * 1e-3);
	return 0;
}

static int flood(const char *path, unsigned long seconds)
{
	static char text[4096], in[65536];
	uint64_t until_ns = clock_now_ns() + seconds * NS_PER_S;
	unsigned long sent = 0;
	int fd = dial(path);

	for (size_t i = 0; i + 11 < sizeof(text); i += 10)
		memcpy(text + i, "op=hello\n\n", 11);
	while (clock_now_ns() < until_ns) {
		struct pollfd ready = { fd, POLLIN | POLLOUT, 0 };

		poll(&ready, 1, 100);
		if (ready.revents & POLLIN && recv(fd, in, sizeof(in), MSG_DONTWAIT) == 0)
			return 1;
		if (ready.revents & POLLOUT && send(fd, text, strlen(text) / 10 * 10, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			sent++;
	}
	printf("flooded=%lu\n", sent);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "many") == 0)
		return many(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]), strtoul(argv[5], NULL, 10));
	if (argc == 4 && strcmp(argv[1], "pace") == 0)
		return pace(argv[2], strtoul(argv[3], NULL, 10));
	if (argc == 4 && strcmp(argv[1], "flood") == 0)
		return flood(argv[2], strtoul(argv[3], NULL, 10));
	fprintf(stderr, "usage: load many SOCKET CONNECTIONS SESSIONS REQUESTS | pace SOCKET REQUESTS | flood SOCKET SECONDS\n");
	return 2;
}
