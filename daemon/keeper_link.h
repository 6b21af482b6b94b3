/* SPDX-License-Identifier: MIT */
/* flamed's end of the keeper: starts it or connects to it, sends targets,
 * hands answers on. Never blocks. */
#ifndef DAEMON_KEEPER_LINK_H
#define DAEMON_KEEPER_LINK_H

#include <sys/types.h>
#include "keeper.h"
#include "loop.h"

struct keeper_link;

enum keeper_link_state { KEEPER_ABSENT, KEEPER_STARTING, KEEPER_RUNNING, KEEPER_RESTARTING };

struct keeper_link_options {
	const char *socket;    /* of a keeper that runs as a service of its own; NULL: start one */
	const char *program;   /* flamed-keeper */
	const char *sysroot, *state_dir, *boards_dir;
};

struct keeper_link_events {
	/* fds: sensor descriptors of HELLO, ownership moves; else all -1 */
	void (*reply)(void *arg, const struct keeper_reply *reply, int fds[RAILS_MAX][2]);
	void (*lost)(void *arg); /* the keeper is gone; it is started again by itself */
	void *arg;
};

/* NULL when out of memory. A keeper that cannot be started is retried with
 * growing pauses, up to 30 s. */
struct keeper_link *keeper_link_new(struct loop *loop, const struct keeper_link_options *options, const struct keeper_link_events *events);

/* Closes the connection (the keeper restores every knob), waits for a keeper
 * started here to end, at most 5 s. */
void keeper_link_free(struct keeper_link *link);

/* Returns the serial that the answer will carry or exceed; 0 when there is no
 * keeper to ask. */
uint64_t keeper_link_apply(struct keeper_link *link, struct op_point point);
uint64_t keeper_link_release(struct keeper_link *link);

enum keeper_link_state keeper_link_state(const struct keeper_link *link);
pid_t keeper_link_pid(const struct keeper_link *link);

#endif
