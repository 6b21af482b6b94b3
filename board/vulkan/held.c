/* SPDX-License-Identifier: MIT */
#include "held.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define SIGNALS 4096 /* of fences and semaphores, remembered; the oldest are done */
#define PASTS   8192 /* submissions whose times are remembered */
#define UNDONE  4096 /* submissions at a time; further ones count as done */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t newest;
	uint64_t undone[UNDONE]; /* in any order, as those of another queue may end first */
	size_t undones;
	struct {
		uint64_t handle, value, number;
	} signal[SIGNALS];
	size_t signals;
	struct {
		double from, to, start, end;
	} past[PASTS];
	size_t pasts;
} held = {.lock = PTHREAD_MUTEX_INITIALIZER};

__attribute__((constructor)) static void init(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&held.changed, &attr);
	pthread_condattr_destroy(&attr);
}

/* With the lock held. */
static bool is_done(uint64_t number)
{
	for (size_t i = 0; i < held.undones; i++)
		if (held.undone[i] == number)
			return false;
	return true;
}

uint64_t held_new(void)
{
	uint64_t number;

	pthread_mutex_lock(&held.lock);
	number = ++held.newest;
	if (held.undones < UNDONE)
		held.undone[held.undones++] = number;
	pthread_mutex_unlock(&held.lock);
	return number;
}

uint64_t held_newest(void)
{
	uint64_t number;

	pthread_mutex_lock(&held.lock);
	number = held.newest;
	pthread_mutex_unlock(&held.lock);
	return number;
}

void held_done(uint64_t number, double from, double to, double start, double end)
{
	size_t at;

	pthread_mutex_lock(&held.lock);
	for (size_t i = 0; i < held.undones; i++)
		if (held.undone[i] == number)
			held.undone[i] = held.undone[--held.undones];
	if (to > from) {
		at = held.pasts++ % PASTS;
		held.past[at].from = from;
		held.past[at].to = to;
		held.past[at].start = start;
		held.past[at].end = end;
	}
	pthread_cond_broadcast(&held.changed);
	pthread_mutex_unlock(&held.lock);
}

bool held_is_done(uint64_t number)
{
	bool done;

	pthread_mutex_lock(&held.lock);
	done = is_done(number);
	pthread_mutex_unlock(&held.lock);
	return done;
}

bool held_wait(uint64_t number, uint64_t until_ns)
{
	struct timespec until = {(time_t)(until_ns / 1000000000), (long)(until_ns % 1000000000)};
	bool done;
	int rc = 0;

	pthread_mutex_lock(&held.lock);
	while (!is_done(number) && rc == 0)
		rc = until_ns == HELD_FOREVER ? pthread_cond_wait(&held.changed, &held.lock) :
						pthread_cond_timedwait(&held.changed, &held.lock, &until);
	done = is_done(number);
	pthread_mutex_unlock(&held.lock);
	return done;
}

void held_signal(uint64_t handle, uint64_t value, uint64_t number)
{
	size_t at;

	pthread_mutex_lock(&held.lock);
	at = held.signals++ % SIGNALS;
	held.signal[at].handle = handle;
	held.signal[at].value = value;
	held.signal[at].number = number;
	pthread_mutex_unlock(&held.lock);
}

void held_forget(uint64_t handle)
{
	pthread_mutex_lock(&held.lock);
	for (size_t i = 0; i < SIGNALS && i < held.signals; i++)
		if (held.signal[i].handle == handle)
			held.signal[i].handle = 0;
	pthread_mutex_unlock(&held.lock);
}

uint64_t held_by_value(uint64_t handle, uint64_t value)
{
	uint64_t number = 0;

	pthread_mutex_lock(&held.lock);
	for (size_t i = 0; i < SIGNALS && i < held.signals; i++)
		if (held.signal[i].handle == handle && held.signal[i].value <= value && held.signal[i].number > number)
			number = held.signal[i].number;
	pthread_mutex_unlock(&held.lock);
	return number;
}

uint64_t held_by(uint64_t handle)
{
	return held_by_value(handle, UINT64_MAX);
}

uint64_t held_value(uint64_t handle, uint64_t value)
{
	pthread_mutex_lock(&held.lock);
	for (size_t i = 0; i < SIGNALS && i < held.signals; i++)
		if (held.signal[i].handle == handle && held.signal[i].value <= value && held.signal[i].value > 0 &&
		    !is_done(held.signal[i].number))
			value = held.signal[i].value - 1;
	pthread_mutex_unlock(&held.lock);
	return value;
}

bool held_time(double real, double *board)
{
	bool found = false;

	pthread_mutex_lock(&held.lock);
	for (size_t i = 0; i < PASTS && i < held.pasts && !found; i++) {
		size_t at = (held.pasts - 1 - i) % PASTS;

		found = real >= held.past[at].from && real <= held.past[at].to;
		if (found)
			*board = held.past[at].start + (real - held.past[at].from) *
							       (held.past[at].end - held.past[at].start) /
							       (held.past[at].to - held.past[at].from);
	}
	pthread_mutex_unlock(&held.lock);
	return found;
}
