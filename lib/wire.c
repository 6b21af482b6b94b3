/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/units.h"

#define IN_BYTES  (MESSAGE_BYTES_MAX + LINE_BYTES_MAX)
#define OUT_BYTES (4 * MESSAGE_BYTES_MAX) /* queued at most, when the daemon does not read */

void wire_init(struct wire *wire)
{
	memset(wire, 0, sizeof(*wire));
	wire->fd = -1;
}

int wire_connect(struct wire *wire, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	struct stat st;
	int fd;

	if (len == 0 || len >= sizeof(address.sun_path))
		return len ? -ENAMETOOLONG : -ENOENT;
	memcpy(address.sun_path, path, len + 1);
	if (!wire->in)
		wire->in = malloc(IN_BYTES);
	if (!wire->in)
		return -ENOMEM;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	if (fstat(fd, &st) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	wire->fd = fd;
	wire->device = st.st_dev;
	wire->inode = st.st_ino;
	return 0;
}

bool wire_ours(const struct wire *wire)
{
	struct stat st;

	return wire->fd >= 0 && fstat(wire->fd, &st) == 0 && st.st_dev == wire->device && st.st_ino == wire->inode;
}

void wire_shutdown(const struct wire *wire)
{
	if (wire_ours(wire))
		shutdown(wire->fd, SHUT_RDWR);
}

void wire_close(struct wire *wire)
{
	if (wire_ours(wire))
		close(wire->fd);
	wire->fd = -1;
	wire->in_len = wire->in_used = wire->sent = 0;
	kv_reset(&wire->out);
	wire->reply.count = 0;
}

void wire_free(struct wire *wire)
{
	wire_close(wire);
	free(wire->in);
	kv_free(&wire->out);
	wire_init(wire);
}

int wire_flush(struct wire *wire)
{
	if (wire->out.len > wire->sent && !wire_ours(wire))
		return -EBADF;
	while (wire->sent < wire->out.len) {
		ssize_t n = send(wire->fd, wire->out.data + wire->sent, wire->out.len - wire->sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		wire->sent += (size_t)n;
	}
	wire->sent = 0;
	kv_reset(&wire->out);
	return 0;
}

int wire_send(struct wire *wire, const struct kv_out *message)
{
	if (wire->fd < 0)
		return -ENOTCONN;
	if (message->error)
		return message->error;
	if (wire->out.len + message->len > OUT_BYTES)
		return -ENOBUFS;
	if (wire->out.len + message->len > wire->out.size) {
		size_t size = wire->out.len + message->len + 512;
		char *grown = realloc(wire->out.data, size);

		if (!grown)
			return -ENOMEM;
		wire->out.data = grown;
		wire->out.size = size;
	}
	memcpy(wire->out.data + wire->out.len, message->data, message->len);
	wire->out.len += message->len;
	return wire_flush(wire);
}

/* One recv(2), appended to the buffer. Returns 1, 0 (nothing), or -errno. */
static int receive_more(struct wire *wire)
{
	ssize_t n;

	if (!wire_ours(wire))
		return -EBADF;
	do
		n = recv(wire->fd, wire->in + wire->in_len, IN_BYTES - wire->in_len, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	wire->in_len += (size_t)n;
	return 1;
}

int wire_receive(struct wire *wire)
{
	if (wire->fd < 0)
		return -ENOTCONN;
	if (wire->in_used) {
		memmove(wire->in, wire->in + wire->in_used, wire->in_len - wire->in_used);
		wire->in_len -= wire->in_used;
		wire->in_used = 0;
		wire->reply.count = 0;
	}
	for (;;) {
		long frame = kv_frame(wire->in, wire->in_len);
		size_t line;
		int rc;

		if (frame < 0)
			return -EPROTO;
		if (frame > 0) {
			wire->in_used = (size_t)frame;
			return kv_parse(wire->in, (size_t)frame, &wire->reply, &line) < 0 ? -EPROTO : 1;
		}
		rc = receive_more(wire);
		if (rc <= 0)
			return rc;
	}
}

int wire_poll(int fd, bool write_too, uint64_t until_ns)
{
	struct pollfd pollfd = {.fd = fd, .events = (short)(POLLIN | (write_too ? POLLOUT : 0))};
	uint64_t now_ns = clock_now_ns();
	uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
	struct timespec timeout = {(time_t)(left_ns / NS_PER_S), (long)(left_ns % NS_PER_S)};
	int n = ppoll(&pollfd, 1, &timeout, NULL);

	return n < 0 ? -errno : n;
}

int wire_wait(struct wire *wire, uint64_t until_ns)
{
	return wire_poll(wire->fd, wire->out.len > 0, until_ns);
}

int wire_errno(const struct wire *wire)
{
	uint64_t value;

	if (kv_u64(&wire->reply, "errno", 0, 4095, &value) != 1)
		return -EPROTO;
	return -(int)value;
}

uint64_t wire_u64(const struct wire *wire, const char *key, uint64_t missing)
{
	kv_u64(&wire->reply, key, 0, UINT64_MAX, &missing);
	return missing;
}

int wire_call(struct wire *wire, const struct kv_out *message, uint64_t timeout_ns)
{
	uint64_t until_ns = clock_now_ns() + timeout_ns;
	int rc = wire_send(wire, message);

	while (rc == 0) {
		rc = wire_receive(wire);
		if (rc != 0)
			break;
		rc = wire_wait(wire, until_ns);
		if (rc == 0)
			return -ETIMEDOUT;
		if (rc < 0 && rc != -EINTR)
			return rc;
		rc = wire_flush(wire);
	}
	return rc == 1 ? wire_errno(wire) : rc;
}
