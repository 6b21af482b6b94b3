/* SPDX-License-Identifier: MIT */
/* The event loop. The only file that includes libevent is loop.c. Callbacks
 * may free their own watch. */
#ifndef DAEMON_LOOP_H
#define DAEMON_LOOP_H

#include <stdint.h>

#define LOOP_READ  1u
#define LOOP_WRITE 2u

struct loop;
struct loop_watch;

struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* Runs until loop_stop(). Returns 0 or -EIO. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Watch a descriptor for LOOP_READ | LOOP_WRITE until loop_watch_free().
 * NULL when out of memory. The descriptor stays the caller's. */
struct loop_watch *loop_fd(struct loop *loop, int fd, unsigned events, void (*ready)(void *arg, unsigned events), void *arg);
int loop_fd_events(struct loop_watch *watch, unsigned events);

/* A timer, not running until loop_timer_in(); fires once each time, the newest
 * time only. Putting it off costs nothing but that it may wake us once more. */
struct loop_watch *loop_timer(struct loop *loop, void (*due)(void *arg), void *arg);
void loop_timer_in(struct loop_watch *watch, uint64_t ns);
void loop_timer_stop(struct loop_watch *watch);

struct loop_watch *loop_signal(struct loop *loop, int signal, void (*caught)(void *arg), void *arg);

void loop_watch_free(struct loop_watch *watch);

#endif
