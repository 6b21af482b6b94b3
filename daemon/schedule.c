/* SPDX-License-Identifier: MIT */
#include "schedule.h"

#include <stddef.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/quantile.h"

#define SCHEDULE_SPREAD 16 /* periods over which banked slack is spent */

uint64_t schedule_period_ns(const struct schedule *schedule)
{
	return MHZ_NS / schedule->rate_mhz;
}

void schedule_start(struct schedule *schedule, uint64_t now_ns, bool prompt)
{
	schedule->started = true;
	schedule->start_ns = now_ns;
	schedule->due_ns = now_ns + schedule->first_ns;
	schedule->next = 0;
	schedule->prompt = prompt;
	schedule->first_ended = false;
}

uint64_t schedule_take(struct schedule *schedule, enum phase phase, uint64_t now_ns)
{
	if (!schedule->started)
		schedule_start(schedule, now_ns, false);
	schedule->prompt = schedule->prompt && phase == PHASE_PREFILL;
	if (schedule->prompt)
		schedule->next = 0;
	if (schedule->next == 0 && phase == PHASE_DECODE) {
		schedule->due_ns = now_ns;
		schedule->next = 1;
	}
	return schedule->next++;
}

bool schedule_has(const struct schedule *schedule, uint64_t begin_ns)
{
	return begin_ns >= schedule->start_ns;
}

/* The parts of a prompt have one place. */
void schedule_put_back(struct schedule *schedule, uint64_t k)
{
	if (schedule->next == k + 1 && !schedule->prompt)
		schedule->next = k;
}

uint64_t schedule_due_ns(const struct schedule *schedule, uint64_t k)
{
	return schedule->due_ns + (uint64_t)((unsigned __int128)k * MHZ_NS / schedule->rate_mhz);
}

uint64_t schedule_pace_ns(const struct schedule *schedule, uint64_t k, uint64_t now_ns)
{
	uint64_t due_ns = schedule_due_ns(schedule, k), period_ns = schedule_period_ns(schedule);
	uint64_t slack_ns = due_ns > now_ns ? due_ns - now_ns : 0;

	/* The first request has its own target time and is not paced (prefill). */
	return k == 0 || slack_ns <= period_ns ? slack_ns : period_ns + (slack_ns - period_ns) / SCHEDULE_SPREAD;
}

struct stream_event schedule_ended(struct schedule *schedule, uint64_t k, uint64_t end_ns)
{
	struct stream_event event = {.first = k == 0,
				     .again = k == 0 && schedule->first_ended,
				     .late = end_ns > schedule_due_ns(schedule, k)};
	uint64_t since_ns = event.first ? schedule->start_ns : schedule->last_end_ns;

	/* The end of the previous stream does not count after a restart. */
	if (since_ns >= schedule->start_ns && end_ns > since_ns)
		event.took_ns = end_ns - since_ns;
	schedule->last_end_ns = end_ns;
	schedule->first_ended |= event.first;
	stream_count(&schedule->stats, event, &schedule->first_count);
	return event;
}

void stream_count(struct stream_stats *stats, struct stream_event event, uint64_t *first_count)
{
	stats->ended++;
	stats->late += event.late;
	if (event.first) {
		if (!event.again || *first_count == 0 || *first_count > stats->firsts)
			*first_count = ++stats->firsts;
		if (stats->firsts - *first_count < STREAM_FIRSTS)
			stats->first_took_ns[(*first_count - 1) % STREAM_FIRSTS] = event.took_ns;
	} else if (event.took_ns) {
		stats->steady_ns += event.took_ns;
		stats->steady++;
	}
}

uint64_t stream_reached_mhz(const struct stream_stats *stats)
{
	return stats->steady_ns ? (uint64_t)((unsigned __int128)stats->steady * MHZ_NS / stats->steady_ns) : 0;
}

uint64_t stream_first_ns(const struct stream_stats *stats, double q)
{
	uint64_t sorted[STREAM_FIRSTS];
	size_t count = stats->firsts < STREAM_FIRSTS ? (size_t)stats->firsts : STREAM_FIRSTS;

	memcpy(sorted, stats->first_took_ns, count * sizeof(*sorted));
	sort_u64(sorted, count);
	return quantile_u64(sorted, count, q);
}
