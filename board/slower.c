/* SPDX-License-Identifier: MIT */
#include "slower.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "../common/clock.h"

#define FIRST_HOST_NS (1 * NS_PER_MS)   /* largest cost of an unknown launch: a longer one may have compiled */
#define FIRST_EXEC_NS (100 * NS_PER_MS) /* the same for an execution: a longer one is not slowed down */
#define KNOWN_RUNS    2

struct slower slower = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The host side, thread by thread. */
static _Thread_local struct {
	uint64_t chain;     /* key of the last launch since a wait */
	uint64_t at_ns;     /* time of the host by the board's CPU clock */
	uint64_t prompt_ns; /* the same, had this machine never been late since its last wait */
	uint64_t first_ns;  /* its first launch or, before that, upload since then; 0: none */
	uint64_t launches;
	uint64_t cpu_ns;   /* of this thread, at its last return from the layer */
	uint64_t since_ns; /* end of its last wait */
} host;

uint64_t slower_thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void calibration_path(char *path, size_t size)
{
	snprintf(path, size, "%s/%s-calibration.csv", slower.dir, slower.name);
}

/* Convert an execution of `ns` on this machine to cycles of the board. At the highest
 * clocks it takes ns x exec_slow, for any share of the memory. */
static struct step_cost exec_cost(double ns)
{
	const struct board_page *page = slower.page;
	double mem = page->max_hz[CLOCK_MEM] ? page->opencl.mem_share : 0, gpu = 1 - mem;
	double all = ns * page->opencl.exec_slow / cbrt(gpu * gpu * gpu + mem * mem * mem) / NS_PER_S;

	return (struct step_cost){
		.gpu_cycles = all * gpu * (double)page->max_hz[CLOCK_GPU],
		.mem_cycles = all * mem * (double)page->max_hz[CLOCK_MEM],
	};
}

static double host_stretch(void)
{
	double hz = (double)page_hz(slower.page, CLOCK_CPU), top = (double)slower.page->max_hz[CLOCK_CPU];

	return slower.page->opencl.host_slow * (hz > 0 ? top / hz : 1);
}

/* `ns` of the host's work on this machine, at the board's CPU clock. Long work is delayed in slices,
 * so that it follows a clock that moves. */
static void host_works(double ns)
{
	for (;;) {
		double stretch = host_stretch(), step = fmin(ns * stretch, (double)LANE_SLICE_NS);

		page_busy(slower.page, CLOCK_CPU, (uint64_t)step, (uint64_t)step);
		host.at_ns += (uint64_t)step;
		host.prompt_ns += (uint64_t)step;
		ns -= step / stretch;
		if (ns * stretch < 1)
			break;
		lane_sleep_until(host.at_ns);
	}
}

/* The end of this launch on the host by the board's CPU clock. */
static void advance(uint64_t key)
{
	uint64_t spent_ns = slower_thread_ns() - host.cpu_ns, now_ns = clock_now_ns();
	struct calibration_entry *entry;
	double ns = (double)spent_ns;

	pthread_mutex_lock(&slower.lock);
	entry = calibration_find(&slower.calibration, key);
	if (entry) {
		calibration_host(&slower.calibration, entry, ns);
		ns = entry->host_ns;
	}
	if ((!entry || entry->host_runs < KNOWN_RUNS) && ns > FIRST_HOST_NS)
		ns = FIRST_HOST_NS;
	pthread_mutex_unlock(&slower.lock);
	/* Before the first launch the host may have waited for anything, which is not lateness that
	 * it could catch up with. */
	if (host.launches == 0 || now_ns > host.at_ns + spent_ns + SLOWER_CATCH_UP_NS)
		host.at_ns = now_ns - spent_ns;
	if (host.launches++ == 0)
		host.prompt_ns = host.at_ns;
	if (host.first_ns == 0)
		host.first_ns = now_ns;
	host_works(ns);
	host.chain = key;
}

uint64_t slower_launch(const void *what, size_t size, uint64_t *launched_ns, uint64_t *prompt_ns)
{
	uint64_t key = calibration_key(host.chain, what, size);

	advance(key);
	*launched_ns = host.at_ns;
	*prompt_ns = host.prompt_ns;
	return key;
}

void slower_launched(void)
{
	lane_sleep_until(host.at_ns);
	host.cpu_ns = slower_thread_ns();
}

double slower_cost(uint64_t key, uint64_t cpu_ns)
{
	struct calibration_entry *entry;
	double ns = (double)cpu_ns;

	pthread_mutex_lock(&slower.lock);
	entry = calibration_find(&slower.calibration, key);
	if (entry && cpu_ns > 0)
		calibration_host(&slower.calibration, entry, ns);
	if (entry && entry->host_runs > 0)
		ns = entry->host_ns;
	pthread_mutex_unlock(&slower.lock);
	return ns;
}

void slower_worked(double ns, uint64_t begin_ns)
{
	uint64_t now_ns;

	host.at_ns = begin_ns;
	host_works(ns);
	lane_sleep_until(host.at_ns);
	now_ns = clock_now_ns();
	pthread_mutex_lock(&slower.lock);
	slower.late_ns[slower.launches++ % SLOWER_LATES] = now_ns > host.at_ns ? now_ns - host.at_ns : 0;
	waits_add(&slower.waits, &(struct wait){.launches = 1,
						.at_ns = now_ns,
						.since_ns = begin_ns,
						.first_ns = begin_ns,
						.end_ns = host.at_ns,
						.due_ns = host.at_ns});
	pthread_mutex_unlock(&slower.lock);
}

void slower_uploads(void)
{
	if (host.first_ns == 0)
		host.first_ns = clock_now_ns();
}

void slower_waited(void)
{
	uint64_t now_ns = clock_now_ns();

	pthread_mutex_lock(&slower.lock);
	if (host.since_ns && host.launches > 0 && slower.last_end_ns > host.since_ns && slower.last_end_ns <= now_ns)
		waits_add(&slower.waits, &(struct wait){.launches = host.launches,
							.at_ns = now_ns,
							.since_ns = host.since_ns,
							.first_ns = host.first_ns,
							.end_ns = slower.last_end_ns,
							.due_ns = slower.last_due_ns});
	pthread_mutex_unlock(&slower.lock);
	host.at_ns = host.since_ns = now_ns;
	host.launches = host.first_ns = 0;
	host.chain = 0;
	host.cpu_ns = slower_thread_ns();
}

void slower_executed(uint64_t key, double ns, uint64_t start_ns, struct lane_item *item)
{
	struct calibration_entry *entry;

	pthread_mutex_lock(&slower.lock);
	entry = calibration_find(&slower.calibration, key);
	if (entry && ns > 0) {
		bool known = entry->exec_runs > 0;

		calibration_exec(&slower.calibration, entry, ns);
		ns = known || ns < FIRST_EXEC_NS ? entry->exec_ns : 0;
	}
	pthread_mutex_unlock(&slower.lock);
	item->cost = exec_cost(ns);
	/* Unless compiling, a transfer or another queue delayed it. */
	if (start_ns && start_ns > item->launched_ns + SLOWER_CATCH_UP_NS)
		item->launched_ns = start_ns - SLOWER_CATCH_UP_NS;
}

void slower_done(const struct lane_item *item)
{
	uint64_t now_ns = clock_now_ns();

	pthread_mutex_lock(&slower.lock);
	slower.late_ns[slower.launches++ % SLOWER_LATES] = now_ns > item->end_ns ? now_ns - item->end_ns : 0;
	slower.last_end_ns = item->end_ns;
	slower.last_due_ns = item->due_ns;
	pthread_mutex_unlock(&slower.lock);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void slower_report(void)
{
	char path[SYSFS_PATH_MAX + 32];
	size_t count;

	if (!slower.on || slower.launches == 0)
		return;
	pthread_mutex_lock(&slower.lock);
	count = slower.launches < SLOWER_LATES ? slower.launches : SLOWER_LATES;
	qsort(slower.late_ns, count, sizeof(slower.late_ns[0]), by_value);
	fprintf(stderr,
		"flamed-board-%s: %" PRIu64
		" launches; ends reported late by %.0f us (median), %.0f us (p99); waits %.2f %% too long\n",
		slower.name, slower.launches, (double)slower.late_ns[count / 2] / 1e3,
		(double)slower.late_ns[count * 99 / 100] / 1e3, waits_late_percent(&slower.waits));
	waits_write(&slower.waits, secure_getenv("FLAMED_BOARD_WAITS"));
	calibration_path(path, sizeof(path));
	if (slower.calibration.changed && calibration_save(&slower.calibration, path))
		fprintf(stderr, "flamed-board-%s: %s: not saved\n", slower.name, path);
	pthread_mutex_unlock(&slower.lock);
}

/* The lane's thread stays behind in the parent. */
static void forked(void)
{
	slower.on = false;
}

static int start(const struct lane_ops *ops)
{
	const char *dir = secure_getenv("FLAMED_BOARD");
	char path[SYSFS_PATH_MAX + 32];
	int rc;

	if (!dir || strlen(dir) >= sizeof(slower.dir))
		return -ENOENT;
	memcpy(slower.dir, dir, strlen(dir) + 1);
	slower.page = page_attach(dir, &rc);
	if (!slower.page)
		return rc;
	calibration_path(path, sizeof(path));
	rc = calibration_load(&slower.calibration, path);
	if (rc && rc != -ENOENT)
		fprintf(stderr, "flamed-board-%s: %s: %s; calibrating again\n", slower.name, path, strerror(-rc));
	rc = lane_start(&slower.lane, slower.page, ops);
	if (rc == 0)
		pthread_atfork(NULL, NULL, forked);
	return rc;
}

void slower_start(const char *name, const struct lane_ops *ops)
{
	int rc;

	slower.name = name;
	rc = start(ops);
	slower.on = rc == 0;
	if (rc)
		fprintf(stderr, "flamed-board-%s: $FLAMED_BOARD=%s: %s; nothing is slowed down\n", name,
			secure_getenv("FLAMED_BOARD") ? secure_getenv("FLAMED_BOARD") : "", strerror(-rc));
}
