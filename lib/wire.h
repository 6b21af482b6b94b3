/* SPDX-License-Identifier: MIT */
/* One connection to flamed: sends messages, receives framed replies. Only wire_wait() and wire_call() block. Raises
 * no SIGPIPE. Not thread-safe. */
#ifndef LIB_WIRE_H
#define LIB_WIRE_H

#include <sys/types.h>
#include "../common/kv.h"

struct wire {
	int fd; /* -1: not connected */
	/* and inode of our socket: a program that closes every descriptor may have given the number */
	dev_t device;
	ino_t inode;            /* to a file of its own, which is then neither written to nor closed */
	char *in;               /* MESSAGE_BYTES_MAX and a little, from wire_connect() */
	size_t in_len, in_used; /* used: bytes of the message in `reply` */
	struct kv_out out;      /* from `sent` on not written to the socket yet */
	size_t sent;
	struct kv reply; /* last message received; points into `in` */
};

void wire_init(struct wire *wire);

/* Connect to a socket path. Returns 0, -ENOENT, -ECONNREFUSED (no process listens),
 * -EACCES, -EAGAIN (its backlog is full), -ENAMETOOLONG, -ENOMEM. */
int wire_connect(struct wire *wire, const char *path);

/* Whether the descriptor is still our socket. */
bool wire_ours(const struct wire *wire);

/* End the connection without closing it, which wakes a thread that polls it. */
void wire_shutdown(const struct wire *wire);

/* Close, discard queued messages, keep the buffers. */
void wire_close(struct wire *wire);
void wire_free(struct wire *wire);

/* Queue a message and send as much as the socket accepts. Returns 0, -ENOBUFS (too much
 * queued already), -EBADF (no longer our socket), or -errno of a dead connection. */
int wire_send(struct wire *wire, const struct kv_out *message);
int wire_flush(struct wire *wire);

/* Next reply into wire->reply: 1, or 0 when none is in, -ECONNRESET when the
 * connection ended, -EPROTO when the peer sends something that is no reply. */
int wire_receive(struct wire *wire);

/* Block until something can be received, or until `until_ns` (clock_now_ns()).
 * Returns 1, 0 at the end of time, -EINTR. */
int wire_wait(struct wire *wire, uint64_t until_ns);
int wire_poll(int fd, bool write_too, uint64_t until_ns); /* the same on its descriptor */

/* Send and block for the reply, `timeout_ns` at most. Returns the reply's
 * errno as 0 or negative with wire->reply valid, or -ETIMEDOUT, or as above. */
int wire_call(struct wire *wire, const struct kv_out *message, uint64_t timeout_ns);

/* Errno of wire->reply: 0, negative, or -EPROTO when it has none. */
int wire_errno(const struct wire *wire);

/* Number of a key in the reply; `missing` when absent or no number. */
uint64_t wire_u64(const struct wire *wire, const char *key, uint64_t missing);

#endif
