/* SPDX-License-Identifier: MIT */
/* libflamed: a handle, its connection, and the matching of replies to messages. */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../common/clock.h"
#include "installation.h"

const char *flamed_version(void)
{
	return FLAMED_VERSION;
}

static void init_locks(struct flamed *flamed)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&flamed->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&flamed->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	flamed->pid = getpid();
}

/* Discard the state of a connection. Sessions are opened again by their next request. */
static void forget(struct flamed *flamed)
{
	flamed->expected_count = 0;
	for (int i = 0; i < HANDLE_SESSIONS_MAX; i++)
		flamed->session[i].open = SESSION_CLOSED;
	for (int i = 0; i < HANDLE_REQUESTS_MAX; i++)
		request_drop(&flamed->request[i]);
	if (flamed->profile.state != PROFILE_DONE)
		flamed->profile.state = PROFILE_NONE;
	flamed->profile.id = 0;
	flamed->profile.owed = false;
	flamed->retry_ns = RETRY_NS_MIN;
	flamed->retry_at_ns = clock_now_ns() + RETRY_NS_MIN;
}

static void disconnect(struct flamed *flamed)
{
	forget(flamed);
	pthread_cond_broadcast(&flamed->changed);
	if (flamed->polling) {
		wire_shutdown(&flamed->wire); /* wakes the thread, which closes */
		flamed->lost = true;
	} else {
		wire_close(&flamed->wire);
	}
}

/* The connection is the parent's: closing our copy of it leaves it whole. */
static void after_fork(struct flamed *flamed)
{
	init_locks(flamed);
	flamed->polling = flamed->lost = false;
	forget(flamed);
	wire_close(&flamed->wire);
	flamed->retry_at_ns = 0;
}

void handle_forked(struct flamed *flamed)
{
	if (wire_ours(&flamed->wire))
		close(flamed->wire.fd);
	flamed->wire.fd = -1;
}

int handle_enter(struct flamed *flamed)
{
	if (!flamed)
		return -ENOTCONN;
	if (flamed->pid != getpid())
		after_fork(flamed);
	pthread_mutex_lock(&flamed->lock);
	return 0;
}

void handle_leave(struct flamed *flamed)
{
	pthread_mutex_unlock(&flamed->lock);
}

void handle_message(struct flamed *flamed, const char *op)
{
	kv_reset(&flamed->message);
	kv_add(&flamed->message, "op", "%s", op);
}

int handle_send(struct flamed *flamed, struct expected expected)
{
	size_t last = (flamed->expected_first + flamed->expected_count) % HANDLE_EXPECTED_MAX;
	int rc;

	if (flamed->expected_count == HANDLE_EXPECTED_MAX)
		return -EAGAIN;
	kv_end(&flamed->message);
	rc = wire_send(&flamed->wire, &flamed->message);
	if (rc == -ENOBUFS || rc == -ENOMEM || rc == -EMSGSIZE)
		return -EAGAIN;
	if (rc < 0) {
		disconnect(flamed);
		return -ENOTCONN;
	}
	flamed->expected[last] = expected;
	flamed->expected_count++;
	return 0;
}

/* Whether a reply has the keys of a reply to this message. If not, replies are out of step with messages, and only a
 * new connection helps. */
static bool has_shape(const struct kv *reply, enum expected_kind kind, int error)
{
	static const char *const keys[][2] = {
		[EXPECT_OPEN] = {"session", "surface"}, [EXPECT_BEGIN] = {"request", "feasible"},
		[EXPECT_END] = {"missed", "missed"},    [EXPECT_PROFILE] = {"profile", "done"},
		[EXPECT_CLOSE] = {NULL, NULL},
	};

	if (error)
		return kv_get(reply, "message") != NULL;
	if (kind == EXPECT_PROFILE)
		return kv_get(reply, "profile") || kv_get(reply, "done") || kv_get(reply, "pause");
	if (kind != EXPECT_CLOSE)
		return kv_get(reply, keys[kind][0]) && kv_get(reply, keys[kind][1]);
	for (size_t other = 0; other < sizeof(keys) / sizeof(*keys); other++)
		for (int i = 0; i < 2; i++)
			if (keys[other][i] && kv_get(reply, keys[other][i]))
				return false;
	return true;
}

static int take_reply(struct flamed *flamed)
{
	struct expected expected = flamed->expected[flamed->expected_first];
	int error = wire_errno(&flamed->wire);

	if (flamed->expected_count == 0 || error == -EPROTO || !has_shape(&flamed->wire.reply, expected.kind, error))
		return -EPROTO;
	flamed->expected_first = (flamed->expected_first + 1) % HANDLE_EXPECTED_MAX;
	flamed->expected_count--;
	flamed->retry_ns = RETRY_NS_MIN; /* it is well */
	switch (expected.kind) {
	case EXPECT_OPEN: session_opened(flamed, &expected, error); break;
	case EXPECT_BEGIN: request_begun(flamed, expected.request, error); break;
	case EXPECT_END: request_ended(flamed, &expected, error); break;
	case EXPECT_PROFILE: profile_reply(flamed, error); break;
	case EXPECT_CLOSE: break;
	}
	return 0;
}

int handle_drain(struct flamed *flamed)
{
	int rc;

	if (flamed->polling || flamed->wire.fd < 0)
		return flamed->lost || flamed->wire.fd < 0 ? -ENOTCONN : 0;
	rc = wire_flush(&flamed->wire);
	while (rc == 0 && (rc = wire_receive(&flamed->wire)) == 1) {
		rc = take_reply(flamed);
		pthread_cond_broadcast(&flamed->changed);
		if (flamed->wire.fd < 0)
			return -ENOTCONN;
	}
	if (rc == 0)
		return 0;
	disconnect(flamed);
	return -ENOTCONN;
}

uint64_t handle_retry_ns(uint64_t last_ns)
{
	if (last_ns < RETRY_NS_MIN)
		return RETRY_NS_MIN;
	return last_ns * 2 < RETRY_NS_MAX ? last_ns * 2 : RETRY_NS_MAX;
}

static int reconnect(struct flamed *flamed)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns < flamed->retry_at_ns)
		return -ENOTCONN;
	if (wire_connect(&flamed->wire, flamed->path) == 0) {
		flamed->expected_first = flamed->expected_count = 0;
		return 0;
	}
	flamed->retry_at_ns = now_ns + flamed->retry_ns;
	flamed->retry_ns = handle_retry_ns(flamed->retry_ns);
	return -ENOTCONN;
}

int handle_refresh(struct flamed *flamed)
{
	if (flamed->wire.fd < 0)
		return reconnect(flamed);
	return handle_drain(flamed);
}

int handle_wait(struct flamed *flamed, uint64_t until_ns)
{
	struct timespec until = {(time_t)(until_ns / NS_PER_S), (long)(until_ns % NS_PER_S)};
	bool write_too = flamed->wire.out.len > 0;
	int fd = flamed->wire.fd;

	if (fd < 0 || flamed->lost)
		return -ENOTCONN;
	if (clock_now_ns() >= until_ns)
		return -ETIMEDOUT;
	if (flamed->polling) {
		pthread_cond_timedwait(&flamed->changed, &flamed->lock, &until);
		return 0;
	}
	flamed->polling = true;
	pthread_mutex_unlock(&flamed->lock);
	wire_poll(fd, write_too, until_ns);
	pthread_mutex_lock(&flamed->lock);
	flamed->polling = false;
	if (flamed->lost) {
		flamed->lost = false;
		wire_close(&flamed->wire);
	}
	pthread_cond_broadcast(&flamed->changed); /* the next one polls */
	return handle_drain(flamed);
}

struct flamed_layer *handle_copy_layers(const struct flamed_layer *layers, size_t count)
{
	struct flamed_layer *copy = count > 0 && count <= LAYERS_MAX ? malloc(count * sizeof(*copy)) : NULL;

	if (copy)
		memcpy(copy, layers, count * sizeof(*copy));
	return copy;
}

static bool holds_ends(const struct flamed *flamed)
{
	for (int i = 0; i < HANDLE_REQUESTS_MAX; i++)
		if (flamed->request[i].state == REQUEST_ENDING)
			return true;
	return false;
}

void handle_settle(struct flamed *flamed, uint64_t timeout_ns)
{
	uint64_t until_ns = clock_now_ns() + timeout_ns;
	int rc = flamed->wire.fd >= 0 ? handle_drain(flamed) : -ENOTCONN;

	while (rc == 0 && holds_ends(flamed))
		rc = handle_wait(flamed, until_ns);
}

int flamed_open(struct flamed **out, const char *socket_path)
{
	const char *path = socket_path ? socket_path : secure_getenv("FLAMED_SOCKET");
	struct flamed *flamed;

	*out = NULL;
	if (!path || !*path)
		path = FLAMED_SOCKET_DEFAULT;
	if (strlen(path) >= sizeof(flamed->path))
		return -ENAMETOOLONG;
	flamed = calloc(1, sizeof(*flamed));
	if (!flamed)
		return -ENOMEM;
	strcpy(flamed->path, path);
	wire_init(&flamed->wire);
	flamed->profile.session = -1;
	flamed->retry_ns = RETRY_NS_MIN;
	init_locks(flamed);
	reconnect(flamed);
	*out = flamed;
	return 0;
}

void flamed_close(struct flamed *flamed)
{
	if (handle_enter(flamed) < 0)
		return;
	handle_settle(flamed, SETTLE_NS);
	forget(flamed);
	handle_leave(flamed);
	wire_free(&flamed->wire);
	kv_free(&flamed->message);
	pthread_cond_destroy(&flamed->changed);
	pthread_mutex_destroy(&flamed->lock);
	free(flamed);
}

int flamed_connected(struct flamed *flamed)
{
	int rc;

	if (handle_enter(flamed) < 0)
		return 0;
	rc = handle_refresh(flamed);
	handle_leave(flamed);
	return rc == 0;
}
