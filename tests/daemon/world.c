/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../../common/clock.h"
#include "world.h"

/* ---- random numbers: xorshift64* (Vigna 2016) ---- */

uint64_t seed = 1;

static uint64_t draw(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 2685821657736338717ULL;
}

unsigned below(unsigned n)
{
	return (unsigned)((draw() >> 33) % n);
}

bool one_in(unsigned n)
{
	return below(n) == 0;
}

/* ---- the clock: each reading advances it a little ---- */

uint64_t now_ns = 1000 * NS_PER_S;

uint64_t clock_now_ns(void)
{
	return now_ns += 50 + (now_ns >> 4) % 512;
}

uint64_t clock_cpu_ns(void)
{
	return clock_now_ns();
}

void clock_sleep_ns(uint64_t ns)
{
	now_ns += ns;
}

/* ---- users: each connection is one of a few ---- */

int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	struct ucred peer = {.pid = 1, .uid = 1000 + below(UIDS), .gid = 1000};

	assert(level == SOL_SOCKET && name == SO_PEERCRED && *size == sizeof(peer));
	(void)fd;
	memcpy(value, &peer, sizeof(peer));
	return 0;
}

/* ---- the loop: ready descriptors in any order, timers by the clock ---- */

struct loop_watch {
	struct loop *loop;
	struct loop_watch *next;
	int fd; /* -1: a timer */
	unsigned events;
	uint64_t due_ns;
	void (*ready)(void *arg, unsigned events);
	void (*due)(void *arg);
	void *arg;
};

struct loop loop;

static struct loop_watch *watch(int fd, unsigned events, void (*ready)(void *, unsigned), void (*due)(void *),
				void *arg)
{
	struct loop_watch *w = calloc(1, sizeof(*w));

	*w = (struct loop_watch){&loop, loop.first, fd, events, UINT64_MAX, ready, due, arg};
	loop.first = w;
	return w;
}

struct loop_watch *loop_fd(struct loop *l, int fd, unsigned events, void (*ready)(void *arg, unsigned events),
			   void *arg)
{
	(void)l;
	return watch(fd, events, ready, NULL, arg);
}

int loop_fd_events(struct loop_watch *w, unsigned events)
{
	w->events = events;
	return 0;
}

void loop_fd_first(struct loop_watch *w, bool first)
{
	(void)w;
	(void)first;
}

struct loop_watch *loop_timer(struct loop *l, void (*due)(void *arg), void *arg)
{
	(void)l;
	return watch(-1, 0, NULL, due, arg);
}

void loop_timer_in(struct loop_watch *w, uint64_t ns)
{
	w->due_ns = clock_now_ns() + ns;
}

void loop_timer_stop(struct loop_watch *w)
{
	w->due_ns = UINT64_MAX;
}

void loop_watch_free(struct loop_watch *w)
{
	struct loop_watch **at = &loop.first;

	if (!w)
		return;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	free(w);
}

static bool there(const struct loop_watch *w)
{
	const struct loop_watch *at = loop.first;

	while (at && at != w)
		at = at->next;
	return at != NULL;
}

void turn(void)
{
	struct pollfd poll_fd[32];
	struct loop_watch *who[32];
	nfds_t count = 0;

	for (struct loop_watch *w = loop.first; w && count < 32; w = w->next) {
		if (w->fd < 0 || !w->events)
			continue;
		who[count] = w;
		poll_fd[count++] = (struct pollfd){.fd = w->fd,
						   .events = (short)((w->events & LOOP_READ ? POLLIN : 0) |
								     (w->events & LOOP_WRITE ? POLLOUT : 0))};
	}
	if (poll(poll_fd, count, 0) <= 0)
		return;
	for (nfds_t i = 0, from = below((unsigned)count); i < count; i++) {
		nfds_t k = (i + from) % count;
		unsigned events = (poll_fd[k].revents & (POLLIN | POLLHUP | POLLERR) ? LOOP_READ : 0) |
				  (poll_fd[k].revents & POLLOUT ? LOOP_WRITE : 0);

		if (there(who[k]) && (events & who[k]->events))
			who[k]->ready(who[k]->arg, events & who[k]->events);
	}
}

void pass(uint64_t ns)
{
	uint64_t until_ns = now_ns + ns;

	for (;;) {
		struct loop_watch *next = NULL;

		for (struct loop_watch *w = loop.first; w; w = w->next)
			if (w->fd < 0 && w->due_ns <= until_ns && (!next || w->due_ns < next->due_ns))
				next = w;
		if (!next)
			break;
		if (next->due_ns > now_ns)
			now_ns = next->due_ns;
		next->due_ns = UINT64_MAX;
		next->due(next->arg);
	}
	if (now_ns < until_ns)
		now_ns = until_ns;
}

/* ---- the keeper: replies when the test calls keeper_answer() ---- */

struct keeper keeper;

uint64_t keeper_link_apply(struct keeper_link *link, struct op_point point)
{
	(void)link;
	keeper.point = point;
	return keeper.alive ? ++keeper.serial : 0;
}

uint64_t keeper_link_release(struct keeper_link *link)
{
	return keeper_link_apply(link, (struct op_point){0});
}

void keeper_link_rescan(struct keeper_link *link)
{
	(void)link;
}

/* The board of the test has no sensor that only root may read. */
uint64_t keeper_link_sensors(struct keeper_link *link)
{
	(void)link;
	return 0;
}

enum keeper_link_state keeper_link_state(const struct keeper_link *link)
{
	(void)link;
	return keeper.alive ? KEEPER_RUNNING : KEEPER_RESTARTING;
}

pid_t keeper_link_pid(const struct keeper_link *link)
{
	(void)link;
	return 1;
}

void keeper_answer(struct daemon *d)
{
	struct keeper_reply reply = {.magic = KEEPER_MAGIC,
				     .op = KEEPER_APPLIED,
				     .serial = keeper.serial,
				     .actual = keeper.point};

	if (!keeper.alive || keeper.hung || keeper.answered == keeper.serial)
		return;
	keeper.answered = keeper.serial;
	for (int i = 0; i < CLOCK_COUNT; i++)
		reply.write_ns[i] = 100000 + below(1000000);
	dispatch_keeper_reply(d, &reply);
}

void keeper_die(struct daemon *d)
{
	keeper.alive = false;
	dispatch_keeper_lost(d);
}

void keeper_return(struct daemon *d)
{
	struct keeper_reply hello = {.magic = KEEPER_MAGIC, .op = KEEPER_HELLO};

	keeper.alive = true;
	keeper.serial = keeper.answered = 0;
	dispatch_keeper_reply(d, &hello);
}
