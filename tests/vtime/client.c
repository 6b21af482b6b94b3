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
	if (connect(client->fd, (struct sockaddr *)&address, sizeof(address))) {
		fprintf(stderr, "vtime: %s: %s\n", path, strerror(errno));
		abort();
	}
	world_sent(world);
}

void client_close(struct client *client)
{
	close(client->fd);
	client->fd = -1;
	world_sent(client->world);
	world_quiesce(client->world);
}

__attribute__((format(printf, 2, 0))) static void send_text(struct client *client, const char *format, va_list args)
{
	char text[4096];
	int len = vsnprintf(text, sizeof(text) - 2, format, args);

	strcpy(text + len, "\n\n");
	if (send(client->fd, text, (size_t)len + 2, MSG_NOSIGNAL) != len + 2)
		fprintf(stderr, "vtime: send: %s\n", strerror(errno));
	world_sent(client->world);
}

void client_send(struct client *client, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	send_text(client, format, args);
	va_end(args);
}

static int take(struct client *client, long frame)
{
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

static bool read_more(struct client *client, int flags)
{
	ssize_t got = recv(client->fd, client->buffer + client->len, sizeof(client->buffer) - client->len, flags);

	client->len += got > 0 ? (size_t)got : 0;
	return got > 0;
}

int client_receive(struct client *client)
{
	long frame;

	while ((frame = kv_frame(client->buffer, client->len)) == 0)
		if (!world_wait_fd(client->world, client->fd, 30 * NS_PER_S) || !read_more(client, 0))
			return -1;
	return take(client, frame);
}

bool client_try(struct client *client, int *rc)
{
	long frame = kv_frame(client->buffer, client->len);

	if (frame == 0 && read_more(client, MSG_DONTWAIT))
		frame = kv_frame(client->buffer, client->len);
	if (frame == 0)
		return false;
	*rc = take(client, frame);
	return true;
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
