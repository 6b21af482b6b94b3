/* SPDX-License-Identifier: MIT */
/* The socket's other end: one message, one reply. */
#ifndef TESTS_VTIME_CLIENT_H
#define TESTS_VTIME_CLIENT_H

#include "../../common/kv.h"
#include "world.h"

struct client {
	struct world *world;
	int fd;
	char buffer[MESSAGE_BYTES_MAX + 1], message[MESSAGE_BYTES_MAX + 1];
	size_t len;
	struct kv reply; /* into `message` */
};

void client_open(struct client *client, struct world *world);
void client_close(struct client *client);

/* Send `key=value` lines (the empty line is added). */
void client_send(struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Wait for the next reply; returns its errno, -1 if the connection ended or no reply arrived. */
int client_receive(struct client *client);
/* A reply that is there already, without any time passing; false: none. `rc` as client_receive() returns. */
bool client_try(struct client *client, int *rc);
/* Both. */
int client_call(struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Number or text in the last reply; 0 or "" when absent. */
uint64_t client_u64(const struct client *client, const char *key);
const char *client_text(const struct client *client, const char *key);

#endif
