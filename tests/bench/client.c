/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "../../common/clock.h"
#include "client.h"

char bench_dir[] = "/tmp/flamed-bench-XXXXXX";

void fail(const char *what)
{
	fprintf(stderr, "bench-daemon: %s: %s\n", what, strerror(errno));
	exit(1);
}

char *in_dir(const char *name)
{
	static char ring[4][256];
	static unsigned next;
	char *path = ring[next++ % 4];

	snprintf(path, sizeof(ring[0]), "%s/%s", bench_dir, name);
	return path;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

int connect_within(const char *path, unsigned ms)
{
	int fd;

	while ((fd = connect_to(path)) < 0 && ms-- > 0)
		clock_sleep_ns(NS_PER_MS);
	if (fd < 0)
		fail(path);
	return fd;
}

void ask(int fd, const char *message, char *reply, size_t size)
{
	size_t len = 0;

	if (write(fd, message, strlen(message)) < 0)
		fail("write");
	do {
		ssize_t n = read(fd, reply + len, size - len - 1);

		if (n <= 0)
			fail("read");
		len += (size_t)n;
		reply[len] = '\0';
	} while (len < 2 || strcmp(reply + len - 2, "\n\n") != 0);
}

void value_of(const char *reply, const char *key, char *out, size_t size)
{
	const char *at = strstr(reply, key);

	if (!at) {
		fprintf(stderr, "bench-daemon: no %s in: %s\n", key, reply);
		exit(1);
	}
	at += strlen(key);
	snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
}
