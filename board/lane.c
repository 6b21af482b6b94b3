/* SPDX-License-Identifier: MIT */
#include "lane.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include "../common/clock.h"

void lane_exact_timers(void)
{
	prctl(PR_SET_TIMERSLACK, 1UL);
}

void lane_sleep_until(uint64_t at_ns)
{
	struct timespec at = {(time_t)(at_ns / NS_PER_S), (long)(at_ns % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/* Run a part of an execution, at most a slice, at the clocks in force. Returns the part that is left. */
static double execute_slice(struct lane *lane, const struct lane_item *item, double left, uint64_t *at_ns)
{
	uint64_t gpu_hz = page_hz(lane->page, CLOCK_GPU), mem_hz = page_hz(lane->page, CLOCK_MEM);
	double whole = cost_exec_ns(&item->cost, gpu_hz, mem_hz),
	       share = whole * left > (double)LANE_SLICE_NS ? (double)LANE_SLICE_NS / whole : left;
	struct step_cost part = {.gpu_cycles = item->cost.gpu_cycles * share,
				 .mem_cycles = item->cost.mem_cycles * share,
				 .exec_ns = item->cost.exec_ns * share};

	cost_post_exec(lane->page, &part, whole * share, gpu_hz, mem_hz);
	*at_ns += (uint64_t)(whole * share);
	return left - share;
}

static void execute(struct lane *lane, struct lane_item *item)
{
	double left = 1;

	item->start_ns = item->launched_ns > lane->end_ns ? item->launched_ns : lane->end_ns;
	lane_sleep_until(item->start_ns);
	item->end_ns = item->start_ns;
	while ((left = execute_slice(lane, item, left, &item->end_ns)) > 0)
		lane_sleep_until(item->end_ns);
	item->due_ns =
		(item->prompt_ns > lane->due_ns ? item->prompt_ns : lane->due_ns) + item->end_ns - item->start_ns;
	lane->ops.real(lane->ops.arg, item);
	lane_sleep_until(item->end_ns);
	lane->ops.done(lane->ops.arg, item);
}

static void *run(void *arg)
{
	struct lane *lane = arg;

	lane_exact_timers();
	pthread_mutex_lock(&lane->lock);
	for (;;) {
		struct lane_item item;

		while (lane->count == 0 && !lane->stop)
			pthread_cond_wait(&lane->more, &lane->lock);
		if (lane->count == 0)
			break;
		item = lane->item[lane->head];
		pthread_mutex_unlock(&lane->lock);
		execute(lane, &item);
		pthread_mutex_lock(&lane->lock);
		lane->end_ns = item.end_ns;
		lane->due_ns = item.due_ns;
		lane->head = (lane->head + 1) % LANE_DEPTH;
		lane->count--;
		pthread_cond_broadcast(&lane->fewer);
	}
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

int lane_start(struct lane *lane, struct board_page *page, const struct lane_ops *ops)
{
	memset(lane, 0, sizeof(*lane));
	lane->page = page;
	lane->ops = *ops;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->more, NULL);
	pthread_cond_init(&lane->fewer, NULL);
	return -pthread_create(&lane->thread, NULL, run, lane);
}

void lane_push(struct lane *lane, const struct lane_item *item)
{
	pthread_mutex_lock(&lane->lock);
	while (lane->count == LANE_DEPTH)
		pthread_cond_wait(&lane->fewer, &lane->lock);
	lane->item[(lane->head + lane->count++) % LANE_DEPTH] = *item;
	pthread_cond_signal(&lane->more);
	pthread_mutex_unlock(&lane->lock);
}

uint64_t lane_finish(struct lane *lane)
{
	uint64_t end_ns;

	pthread_mutex_lock(&lane->lock);
	while (lane->count > 0)
		pthread_cond_wait(&lane->fewer, &lane->lock);
	end_ns = lane->end_ns;
	pthread_mutex_unlock(&lane->lock);
	return end_ns;
}

void lane_stop(struct lane *lane)
{
	lane_finish(lane);
	pthread_mutex_lock(&lane->lock);
	lane->stop = true;
	pthread_cond_broadcast(&lane->more);
	pthread_mutex_unlock(&lane->lock);
	pthread_join(lane->thread, NULL);
	pthread_cond_destroy(&lane->fewer);
	pthread_cond_destroy(&lane->more);
	pthread_mutex_destroy(&lane->lock);
}
