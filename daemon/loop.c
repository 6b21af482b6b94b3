/* SPDX-License-Identifier: MIT */
#include "loop.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../common/clock.h"

#define LOOP_LATER       1 /* priority of all other watches */
#define POLL_AGAIN_US    200
#define POLL_AGAIN_CALLS 8

struct loop {
	struct event_base *base;
};

struct loop_watch {
	struct event *event;
	unsigned events;
	bool later;
	void (*ready)(void *arg, unsigned events);
	void (*due)(void *arg);
	void *arg;
	/* Of a timer: when it is due, and when its event fires (UINT64_MAX: not armed). Most timers
	 * are postponed before they are due, so the event stays armed for the first time set, and
	 * is re-armed when it fires early. */
	uint64_t due_ns, wakes_ns;
};

static void wake_at(struct loop_watch *watch, uint64_t now_ns)
{
	/* Round up: a timer that fires early would find nothing due and spin. */
	uint64_t us = (watch->due_ns - now_ns) / 1000 + 1;
	struct timeval in = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};

	watch->wakes_ns = event_add(watch->event, &in) < 0 ? UINT64_MAX : watch->due_ns;
}

static void on_timer(struct loop_watch *watch)
{
	uint64_t now_ns = clock_now_ns();

	watch->wakes_ns = UINT64_MAX;
	if (now_ns < watch->due_ns)
		wake_at(watch, now_ns);
	else
		watch->due(watch->arg);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct loop_watch *watch = arg;

	(void)fd;
	if (watch->ready)
		watch->ready(watch->arg, (what & EV_READ ? LOOP_READ : 0) | (what & EV_WRITE ? LOOP_WRITE : 0));
	else if (what & EV_TIMEOUT)
		on_timer(watch);
	else
		watch->due(watch->arg);
}

struct loop *loop_new(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	/* Poll for ready high-priority descriptors again after this many callbacks or this time. */
	struct timeval most = {0, POLL_AGAIN_US};
	struct event_config *config = event_config_new();
	if (config && event_config_set_max_dispatch_interval(config, &most, POLL_AGAIN_CALLS, LOOP_LATER) == 0)
		loop->base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	if (loop->base && event_base_priority_init(loop->base, LOOP_LATER + 1) == 0)
		return loop;
	loop_free(loop);
	return NULL;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->base)
		event_base_free(loop->base);
	free(loop);
}

int loop_run(struct loop *loop)
{
	return event_base_dispatch(loop->base) < 0 ? -EIO : 0;
}

void loop_stop(struct loop *loop)
{
	event_base_loopbreak(loop->base);
}

static short event_mask(unsigned events)
{
	return (short)(EV_PERSIST | (events & LOOP_READ ? EV_READ : 0) | (events & LOOP_WRITE ? EV_WRITE : 0));
}

static struct loop_watch *watch_new(struct loop *loop, int fd, short mask, void (*ready)(void *, unsigned),
				    void (*due)(void *), void *arg)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->ready = ready;
	watch->due = due;
	watch->arg = arg;
	watch->event = event_new(loop->base, fd, mask, on_event, watch);
	if (!watch->event) {
		free(watch);
		return NULL;
	}
	return watch;
}

struct loop_watch *loop_fd(struct loop *loop, int fd, unsigned events, void (*ready)(void *arg, unsigned events),
			   void *arg)
{
	struct loop_watch *watch = watch_new(loop, fd, event_mask(events), ready, NULL, arg);

	if (!watch)
		return NULL;
	watch->events = events;
	watch->later = true;
	(void)event_priority_set(watch->event, LOOP_LATER);
	if (event_add(watch->event, NULL) < 0) {
		loop_watch_free(watch);
		return NULL;
	}
	return watch;
}

int loop_fd_events(struct loop_watch *watch, unsigned events)
{
	struct event_base *base = event_get_base(watch->event);
	evutil_socket_t fd = event_get_fd(watch->event);

	if (watch->events == events)
		return 0;
	event_del(watch->event);
	watch->events = events;
	if (event_assign(watch->event, base, fd, event_mask(events), on_event, watch) < 0 ||
	    event_priority_set(watch->event, watch->later ? LOOP_LATER : 0) < 0 || event_add(watch->event, NULL) < 0)
		return -ENOMEM;
	return 0;
}

void loop_fd_first(struct loop_watch *watch, bool first)
{
	/* takes effect after the callback that is running */
	(void)event_priority_set(watch->event, first ? 0 : LOOP_LATER);
	watch->later = !first;
}

struct loop_watch *loop_timer(struct loop *loop, void (*due)(void *arg), void *arg)
{
	struct loop_watch *watch = watch_new(loop, -1, 0, NULL, due, arg);

	if (watch)
		watch->wakes_ns = UINT64_MAX;
	return watch;
}

void loop_timer_in(struct loop_watch *watch, uint64_t ns)
{
	uint64_t now_ns = clock_now_ns();

	watch->due_ns = now_ns + ns;
	if (watch->due_ns < watch->wakes_ns)
		wake_at(watch, now_ns);
}

void loop_timer_stop(struct loop_watch *watch)
{
	watch->wakes_ns = UINT64_MAX;
	event_del(watch->event);
}

struct loop_watch *loop_signal(struct loop *loop, int signal, void (*caught)(void *arg), void *arg)
{
	struct loop_watch *watch = watch_new(loop, signal, EV_SIGNAL | EV_PERSIST, NULL, caught, arg);

	if (watch && event_add(watch->event, NULL) < 0) {
		loop_watch_free(watch);
		return NULL;
	}
	return watch;
}

void loop_watch_free(struct loop_watch *watch)
{
	if (!watch)
		return;
	event_free(watch->event);
	free(watch);
}
