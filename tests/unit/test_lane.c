/* SPDX-License-Identifier: MIT */
/* The board's execution queue on a page of its own: times by the clocks, also when one moves meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../board/lane.h"
#include "../../common/clock.h"

#define GHZ              1000000000ULL
#define LATEST_CHANGE_NS 30000000ULL /* after the launch of an execution of 40 ms */

struct seen {
	struct lane_item item;
};

static void none(void *arg, struct lane_item *item)
{
	(void)arg;
	(void)item;
}

static void keep(void *arg, struct lane_item *item)
{
	((struct seen *)arg)->item = *item;
}

/* One execution of 40 ms at 1 GHz; after `change_ns` the GPU runs at `hz`. Returns its computed duration; 0: this
 * machine was so late that the clock changed near the end of the execution, or after it. */
static uint64_t run_once(uint64_t change_ns, uint64_t hz, struct board_page *page)
{
	struct seen seen;
	const struct lane_ops ops = {.real = none, .done = keep, .arg = &seen};
	struct lane_item item = {.cost = {.gpu_cycles = 40e6}, .launched_ns = clock_now_ns()};
	struct lane lane;
	uint64_t changed_ns = change_ns;

	item.prompt_ns = item.launched_ns;
	atomic_store(&page->hz[CLOCK_GPU], GHZ);
	assert_int_equal(lane_start(&lane, page, &ops), 0);
	lane_push(&lane, &item);
	if (change_ns) {
		lane_sleep_until(item.launched_ns + change_ns);
		atomic_store(&page->hz[CLOCK_GPU], hz);
		changed_ns = clock_now_ns() - item.launched_ns;
	}
	lane_finish(&lane);
	lane_stop(&lane);
	assert_true(clock_now_ns() >= seen.item.end_ns);
	assert_int_equal(seen.item.due_ns, seen.item.end_ns);
	return changed_ns > LATEST_CHANGE_NS ? 0 : seen.item.end_ns - seen.item.start_ns;
}

/* The same with a clock that changed in time. */
static uint64_t run(uint64_t change_ns, uint64_t hz, struct board_page *page)
{
	uint64_t took_ns = 0;

	while (took_ns == 0)
		took_ns = run_once(change_ns, hz, page);
	return took_ns;
}

static void times(void **state)
{
	struct board_page page = {.max_hz = {0, 4 * GHZ, 0}};
	uint64_t steady = run(0, 0, &page), faster, slower;

	(void)state;
	assert_in_range(steady, 39999000, 40001000);
	assert_in_range(atomic_load(&page.work_ns[CLOCK_GPU]), 39990000, 40001000);
	faster = run(8000000, 4 * GHZ, &page); /* 8 and a quarter of 32; up to 33.25 by LATEST_CHANGE_NS */
	assert_in_range(faster, 10000000, 39000000);
	slower = run(8000000, GHZ / 2, &page);
	assert_in_range(slower, 41000000, 80001000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(times)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
