/* SPDX-License-Identifier: MIT */
/* The event loop. Only loop.c includes libevent. A callback may free its own watch. */
#ifndef DAEMON_LOOP_H
#define DAEMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#define LOOP_READ  1u
#define LOOP_WRITE 2u

struct loop;
struct loop_watch;

struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* Run until loop_stop(). Returns 0 or -EIO. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Watch a descriptor for LOOP_READ | LOOP_WRITE until loop_watch_free(). NULL when out of memory.
 * The caller keeps ownership of the descriptor. */
struct loop_watch *loop_fd(struct loop *loop, int fd, unsigned events, void (*ready)(void *arg, unsigned events),
			   void *arg);
int loop_fd_events(struct loop_watch *watch, unsigned events);

/* Serve this watch before all others that are ready at the same time, or among them (the default). */
void loop_fd_first(struct loop_watch *watch, bool first);

/* A one-shot timer, armed by loop_timer_in(), which replaces an earlier time. Postponing costs at
 * most one extra wake-up. */
struct loop_watch *loop_timer(struct loop *loop, void (*due)(void *arg), void *arg);
void loop_timer_in(struct loop_watch *watch, uint64_t ns);
void loop_timer_stop(struct loop_watch *watch);

struct loop_watch *loop_signal(struct loop *loop, int signal, void (*caught)(void *arg), void *arg);

void loop_watch_free(struct loop_watch *watch);

#endif
