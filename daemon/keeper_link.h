/* SPDX-License-Identifier: MIT */
/* flamed's end of the connection to the keeper: starts or connects to it, sends target points,
 * delivers replies. Never blocks. */
#ifndef DAEMON_KEEPER_LINK_H
#define DAEMON_KEEPER_LINK_H

#include <sys/types.h>
#include "../keeper/keeper.h"
#include "loop.h"

struct keeper_link;

enum keeper_link_state { KEEPER_ABSENT, KEEPER_STARTING, KEEPER_RUNNING, KEEPER_RESTARTING };

struct keeper_link_options {
	const char *socket;  /* of a keeper that runs as its own service; NULL: start one */
	const char *program; /* flamed-keeper */
	const char *sysroot, *state_dir, *boards_dir;
};

struct keeper_link_events {
	/* fds: the sensor descriptors of a HELLO reply, now owned by the callee; all -1 otherwise */
	void (*reply)(void *arg, const struct keeper_reply *reply, int fds[RAILS_MAX][2]);
	void (*lost)(void *arg); /* the connection ended; it is re-established automatically */
	void *arg;
};

/* Returns NULL when out of memory. A keeper that cannot be started is tried again at growing
 * intervals, up to 30 s. */
struct keeper_link *keeper_link_new(struct loop *loop, const struct keeper_link_options *options,
				    const struct keeper_link_events *events);

/* Close the connection, upon which the keeper restores every knob, and wait at most 5 s for a
 * keeper started here to exit. */
void keeper_link_free(struct keeper_link *link);

/* Each returns the serial that the reply will carry or exceed; 0 when no keeper is connected. */
uint64_t keeper_link_apply(struct keeper_link *link, struct op_point point);
uint64_t keeper_link_release(struct keeper_link *link);
/* Make the keeper detect devices again, after any message that is not sent yet; it answers with a notice. */
void keeper_link_rescan(struct keeper_link *link);
/* Make the keeper find the power sensors again; it answers with a HELLO. 0 if that cannot be sent at once. */
uint64_t keeper_link_sensors(struct keeper_link *link);

enum keeper_link_state keeper_link_state(const struct keeper_link *link);
pid_t keeper_link_pid(const struct keeper_link *link);

#endif
