/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "../../common/clock.h"

void client_open(struct client *client, struct world *world)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[WORLD_PATH_MAX];

	client->world = world;
	client->len = 0;
	client->reply.count = 0;
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	world_path(world, "run/flamed.sock", path);
	if (strlen(path) >= sizeof(address.sun_path)) {
		fprintf(stderr, "vtime: %s: too long for a socket\n", path);
		abort();
	}
	strcpy(address.sun_path, path);
	for (int ms = 0; connect(client->fd, (struct sockaddr *)&address, sizeof(address)); ms++) {
		if (ms > 5000) {
			fprintf(stderr, "vtime: %s: %s\n", path, strerror(errno));
			abort();
		}
		usleep(1000);
	}
}

void client_close(struct client *client)
{
	close(client->fd);
	client->fd = -1;
	world_quiesce(client->world);
}

static void send_text(struct client *client, const char *format, va_list args)
{
	char text[4096];
	int len = vsnprintf(text, sizeof(text) - 2, format, args);

	strcpy(text + len, "\n\n");
	if (send(client->fd, text, (size_t)len + 2, MSG_NOSIGNAL) != len + 2)
		fprintf(stderr, "vtime: send: %s\n", strerror(errno));
}

void client_send(struct client *client, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	send_text(client, format, args);
	va_end(args);
}

int client_receive(struct client *client)
{
	long frame;

	while ((frame = kv_frame(client->buffer, client->len)) == 0) {
		if (!world_wait_fd(client->world, client->fd, 30 * NS_PER_S))
			return -1;
		ssize_t got = recv(client->fd, client->buffer + client->len, sizeof(client->buffer) - client->len, 0);
		if (got <= 0)
			return -1;
		client->len += (size_t)got;
	}
	if (frame < 0)
		return -1;
	memcpy(client->message, client->buffer, (size_t)frame);
	client->len -= (size_t)frame;
	memmove(client->buffer, client->buffer + frame, client->len);
	size_t line;
	if (kv_parse(client->message, (size_t)frame, &client->reply, &line))
		return -1;
	return (int)client_u64(client, "errno");
}

int client_call(struct client *client, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	send_text(client, format, args);
	va_end(args);
	return client_receive(client);
}

uint64_t client_u64(const struct client *client, const char *key)
{
	uint64_t value = 0;

	return kv_u64(&client->reply, key, 0, UINT64_MAX, &value) == 1 ? value : 0;
}

const char *client_text(const struct client *client, const char *key)
{
	const char *value = kv_get(&client->reply, key);

	return value ? value : "";
}
