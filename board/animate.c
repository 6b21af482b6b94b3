/* SPDX-License-Identifier: MIT */
#include "animate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include "../common/clock.h"
#include "../common/file.h"

#define TICK_NS        (20 * NS_PER_MS)  /* sensors and governors under load: 50 Hz */
#define IDLE_TICK_NS   (100 * NS_PER_MS) /* nothing happens */
#define BUSY_LINGER_NS NS_PER_S
#define RETRY_NS       NS_PER_MS /* a value that cannot be shown while another program has its file open */
#define GOVERN_NS      (20 * NS_PER_MS)
#define THROTTLE_NS    (500 * NS_PER_MS)

/* A lease delays a writer: its open(2) waits until the lease is released. Files that cannot be leased cause no wait.
 * The kernel drops the lease with its last descriptor, so no writer waits for a board that has ended. */
static void take_lease(struct board_run *run, struct knob_file *knob)
{
	if (run->device[knob->device].spec->write_ns == 0 || knob->lease_fd >= 0)
		return;
	knob->lease_fd = open(knob->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (knob->lease_fd < 0)
		return;
	if (fcntl(knob->lease_fd, F_SETSIG, LEASE_SIGNAL) == 0 && fcntl(knob->lease_fd, F_SETLEASE, F_RDLCK) == 0)
		return;
	close(knob->lease_fd);
	knob->lease_fd = -1;
}

static void drop_lease(struct knob_file *knob)
{
	if (knob->lease_fd < 0)
		return;
	fcntl(knob->lease_fd, F_SETLEASE, F_UNLCK);
	close(knob->lease_fd);
	knob->lease_fd = -1;
	knob->release_ns = 0;
}

/* A whole move writes two files of each device of the clock, one after the
 * other: each has its share of the time, so that the new speed is in effect
 * one settle time after the first write began. */
static uint64_t writes_of_move(const struct board_run *run, const struct board_clock *device)
{
	uint64_t devices = 1;

	for (size_t i = 0; i < run->spec->clocks; i++)
		devices += run->spec->clock[i].id == device->spec->id && &run->spec->clock[i] != device->spec;
	return 2 * devices;
}

static void writer_waits(struct board_run *run, int fd, uint64_t now_ns)
{
	for (size_t i = 0; i < run->tree.knobs; i++) {
		struct knob_file *knob = &run->tree.knob[i];
		const struct board_clock *device = &run->device[knob->device];

		if (knob->lease_fd != fd || knob->release_ns)
			continue;
		knob->begun_ns = now_ns;
		knob->release_ns = now_ns + device->spec->write_ns / writes_of_move(run, device);
	}
}

static int watch_knob(struct board_run *run, struct knob_file *knob)
{
	knob->watch = inotify_add_watch(run->inotify_fd, knob->path, IN_CLOSE_WRITE);
	if (knob->watch < 0)
		return -errno;
	take_lease(run, knob);
	return 0;
}

static void publish(struct board_run *run, size_t index)
{
	const struct board_clock *device = &run->device[index];
	enum clock_id id = device->spec->id;

	if (device->spec == spec_lead(run->spec, id)) {
		atomic_store_explicit(&run->page->hz[id], device->cur_hz, memory_order_release);
		atomic_fetch_add_explicit(&run->page->moves[id], 1, memory_order_relaxed);
	}
	tree_show_clock(&run->tree, index, device);
}

/* Power up to now, at the clocks that were in force. */
static void account(struct board_run *run, uint64_t now_ns)
{
	struct board_page *page = run->page;
	uint64_t busy[CLOCK_COUNT], work[CLOCK_COUNT], dt = now_ns - run->power.at_ns;

	for (int id = 0; id < CLOCK_COUNT; id++) {
		busy[id] = atomic_load(&page->busy_ns[id]) - run->spent_busy[id];
		work[id] = atomic_load(&page->work_ns[id]) - run->spent_work[id];
		run->spent_busy[id] += busy[id];
		run->spent_work[id] += work[id];
	}
	if (busy[CLOCK_CPU] + busy[CLOCK_GPU] + busy[CLOCK_MEM] > 0)
		run->busy_at_ns = now_ns;
	power_account(&run->power, run->device, busy, work, now_ns);
	for (int id = 0; id < CLOCK_COUNT; id++)
		run->window_busy_ns[id] += run->power.busy[id] * (double)dt;
	atomic_fetch_add(&page->account, 1);
	atomic_store(&page->energy_uj, (uint64_t)(run->power.energy_j * 1e6));
	atomic_store(&page->power_uw, (uint64_t)(power_total_w(&run->power) * 1e6));
	atomic_store(&page->now_ns, now_ns);
	atomic_fetch_add(&page->account, 1);
}

static void show_device(struct board_run *run, size_t index)
{
	for (size_t i = 0; i < run->tree.knobs; i++)
		if (run->tree.knob[i].device == index)
			tree_show_knob(&run->tree.knob[i], &run->device[index]);
}

static void lease_all(struct board_run *run)
{
	for (size_t i = 0; i < run->tree.knobs; i++)
		take_lease(run, &run->tree.knob[i]);
}

static void knob_written(struct board_run *run, struct knob_file *knob, uint64_t now_ns)
{
	size_t index = knob->device;
	struct board_clock *device = &run->device[index];
	char text[KNOB_VALUE_MAX];
	uint64_t begun_ns = knob->begun_ns ? knob->begun_ns : now_ns;
	/* a writer that was not held up: all of it now */
	uint64_t share = knob->begun_ns ? writes_of_move(run, device) : 1;

	if (!tree_take(knob, text, sizeof(text)))
		return;
	if (!text[0]) { /* emptied by open(2): the write is to come, or the value is shown again */
		knob->stale = true;
		return;
	}
	knob->begun_ns = 0;
	account(run, now_ns);
	if (board_clock_write(device, knob->knob, text))
		atomic_fetch_add(&run->page->rejected, 1);
	if (tree_userspace(&run->tree, index, device)) {
		knob = &run->tree.knob[run->tree.knobs - 1];
		watch_knob(run, knob);
		knob_written(run, knob, now_ns); /* a write before the watch has no event */
	}
	show_device(run, index);
	board_clock_govern(device, begun_ns, share);
}

static void read_events(struct board_run *run, uint64_t now_ns)
{
	char buf[4096] __attribute__((aligned(8)));
	ssize_t len;

	while ((len = read(run->inotify_fd, buf, sizeof(buf))) > 0) {
		for (char *at = buf; at < buf + len;) {
			const struct inotify_event *event = (const void *)at;

			for (size_t i = 0; i < run->tree.knobs; i++)
				if (run->tree.knob[i].watch == event->wd && event->mask & IN_CLOSE_WRITE) {
					knob_written(run, &run->tree.knob[i], now_ns);
					break;
				}
			at += sizeof(*event) + event->len;
		}
	}
	lease_all(run);
}

/* True on SIGTERM, SIGINT. */
static bool read_signals(struct board_run *run, uint64_t now_ns)
{
	struct signalfd_siginfo info;

	while (read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != (uint32_t)LEASE_SIGNAL)
			return true;
		writer_waits(run, info.ssi_fd, now_ns);
	}
	return false;
}

static void release_writers(struct board_run *run, uint64_t now_ns)
{
	for (size_t i = 0; i < run->tree.knobs; i++)
		if (run->tree.knob[i].release_ns && run->tree.knob[i].release_ns <= now_ns)
			drop_lease(&run->tree.knob[i]);
}

static void settle_clocks(struct board_run *run, uint64_t now_ns)
{
	for (size_t i = 0; i < run->spec->clocks; i++) {
		if (run->device[i].due_ns == 0 || run->device[i].due_ns > now_ns)
			continue;
		account(run, now_ns);
		if (board_clock_settle(&run->device[i], now_ns))
			publish(run, i);
	}
}

/* One governor window: utilisation of each device since the last one. */
static void run_governors(struct board_run *run, uint64_t now_ns)
{
	double window_ns = (double)(now_ns - run->governed_ns);

	if (now_ns - run->governed_ns < GOVERN_NS)
		return;
	for (size_t i = 0; i < run->spec->clocks; i++) {
		struct board_clock *device = &run->device[i];
		double util = run->window_busy_ns[device->spec->id] / window_ns;

		if (device->spec->id == CLOCK_CPU && !device->spec->host)
			util = 0;
		device->util = util < 1 ? util : 1; /* of the busiest core, for cpufreq */
		board_clock_govern(device, now_ns, 1);
	}
	memset(run->window_busy_ns, 0, sizeof(run->window_busy_ns));
	run->governed_ns = now_ns;
}

/* Too hot: CPU and GPU lose a table entry every half second, and get it back
 * when three kelvin cooler. Their max then reads lower, as on a real board. */
static void throttle(struct board_run *run, double seconds)
{
	double limit = run->spec->throttle_c, before = run->throttle;
	double step = seconds / ((double)THROTTLE_NS / NS_PER_S);

	if (limit <= 0)
		return;
	if (run->power.celsius > limit)
		run->throttle += step;
	else if (run->power.celsius < limit - 3 && run->throttle > 0)
		run->throttle = run->throttle > step ? run->throttle - step : 0;
	if ((int)before == (int)run->throttle)
		return;
	/* in force before the limits show it, and until they show its end */
	if (run->throttle > before)
		tree_show_cooling(&run->tree, (uint64_t)run->throttle);
	for (size_t i = 0; i < run->spec->clocks; i++) {
		struct board_clock *device = &run->device[i];
		size_t off = (size_t)run->throttle, last = device->spec->count - 1;

		if (device->spec->id == CLOCK_MEM)
			continue;
		device->ceiling_hz = off == 0 ? UINT64_MAX : device->spec->hz[off < last ? last - off : 0];
		show_device(run, i);
		board_clock_govern(device, run->power.at_ns, 1);
	}
	tree_show_cooling(&run->tree, (uint64_t)run->throttle);
}

static void tick(struct board_run *run, uint64_t now_ns)
{
	for (size_t i = 0; i < run->tree.knobs && now_ns - run->retried_ns >= RETRY_NS; i++)
		if (run->tree.knob[i].stale)
			tree_show_knob(&run->tree.knob[i], &run->device[run->tree.knob[i].device]);
	if (now_ns - run->retried_ns >= RETRY_NS)
		run->retried_ns = now_ns;
	lease_all(run);
	if (now_ns - run->shown_ns < TICK_NS)
		return;
	account(run, now_ns);
	tree_show_power(&run->tree, &run->power);
	throttle(run, (double)(now_ns - run->shown_ns) / NS_PER_S);
	run->shown_ns = now_ns;
	run_governors(run, now_ns);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return b != 0 && b < a ? b : a;
}

static uint64_t next_event_ns(const struct board_run *run, uint64_t now_ns)
{
	bool busy = now_ns - run->busy_at_ns < BUSY_LINGER_NS;
	uint64_t at = run->shown_ns + (busy ? TICK_NS : IDLE_TICK_NS);

	for (size_t i = 0; i < run->spec->clocks; i++)
		at = earlier(at, run->device[i].due_ns);
	for (size_t i = 0; i < run->tree.knobs; i++)
		at = earlier(earlier(at, run->tree.knob[i].release_ns),
			     run->tree.knob[i].stale ? run->retried_ns + RETRY_NS : 0);
	return at;
}

int run_loop(struct board_run *run)
{
	for (;;) {
		struct pollfd fds[2] = {{.fd = run->inotify_fd, .events = POLLIN},
					{.fd = run->signal_fd, .events = POLLIN}};
		uint64_t now_ns = clock_now_ns(), at_ns = next_event_ns(run, now_ns);
		uint64_t wait_ns = at_ns > now_ns ? at_ns - now_ns : 0;
		struct timespec wait = {(time_t)(wait_ns / NS_PER_S), (long)(wait_ns % NS_PER_S)};

		if (ppoll(fds, 2, &wait, NULL) < 0 && errno != EINTR)
			return -errno;
		now_ns = clock_now_ns();
		if (fds[1].revents && read_signals(run, now_ns))
			return 0;
		if (fds[0].revents)
			read_events(run, now_ns);
		release_writers(run, now_ns);
		settle_clocks(run, now_ns);
		tick(run, now_ns);
	}
}

/* The power of each step of a clock's table, for all of its devices together. */
static void fill_costs(struct board_page *page, const struct spec *spec, const struct spec_clock *lead)
{
	enum clock_id id = lead->id;

	page->steps[id] = lead->count;
	for (size_t step = 0; step < lead->count; step++) {
		page->table_hz[id][step] = lead->hz[step];
		page->busy_w[id][step] = lead->busy_w * power_phi(lead, lead->hz[step]);
		for (size_t i = 0; i < spec->clocks; i++) {
			const struct spec_clock *clock = &spec->clock[i];

			if (clock->id == id)
				page->idle_w[id][step] +=
					clock->idle_w * power_phi(clock, spec_floor(clock, lead->hz[step]));
		}
	}
}

static void fill_page(struct board_run *run)
{
	struct board_page *page = run->page;

	for (int id = 0; id < CLOCK_COUNT; id++) {
		const struct spec_clock *lead = spec_lead(run->spec, (enum clock_id)id);

		if (!lead)
			continue;
		page->min_hz[id] = lead->hz[0];
		page->max_hz[id] = lead->hz[lead->count - 1];
		page->settle_ns[id] = lead->settle_ns[0] > lead->settle_ns[1] ? lead->settle_ns[0] : lead->settle_ns[1];
		fill_costs(page, run->spec, lead);
	}
	page->base_w = run->spec->base_w;
	page->opencl = run->spec->opencl;
	memcpy(page->workload, run->spec->workload, sizeof(page->workload));
	page->size = sizeof(*page);
	page->magic = PAGE_MAGIC;
}

static int open_events(struct board_run *run)
{
	sigset_t set;
	int rc = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, LEASE_SIGNAL);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	run->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	run->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (run->signal_fd < 0 || run->inotify_fd < 0)
		return -errno;
	for (size_t i = 0; i < run->tree.knobs && rc == 0; i++)
		rc = watch_knob(run, &run->tree.knob[i]);
	return rc;
}

/* Take a directory: its page marks it as a board's and excludes other boards. */
static int claim(struct board_run *run, const char *dir, char *message)
{
	int rc = tree_check(dir, message);

	if (rc)
		return rc;
	rc = dir_make(dir, 0755);
	if (rc == 0)
		run->page = page_create(dir, &run->lock_fd, &rc);
	if (rc)
		snprintf(message, SPEC_MESSAGE_MAX, "%.160s/%s: %s", dir, PAGE_NAME,
			 rc == -EBUSY ? "a board runs there" : strerror(-rc));
	return rc;
}

int run_init(struct board_run *run, const struct spec *spec, const char *dir, char *message)
{
	uint64_t now_ns = clock_now_ns(), seed = now_ns;
	int rc;

	memset(run, 0, sizeof(*run));
	run->spec = spec;
	run->inotify_fd = run->signal_fd = run->lock_fd = -1;
	for (size_t i = 0; i < spec->clocks; i++)
		board_clock_init(&run->device[i], &spec->clock[i]);
	rc = claim(run, dir, message);
	if (rc == 0)
		rc = tree_build(&run->tree, spec, dir, run->device, message);
	if (rc)
		return rc;
	fill_page(run);
	if (getrandom(&seed, sizeof(seed), 0) < 0)
		seed = now_ns;
	power_init(&run->power, spec, now_ns, seed);
	run->governed_ns = run->shown_ns = now_ns;
	rc = open_events(run);
	if (rc)
		snprintf(message, SPEC_MESSAGE_MAX, "watching the files: %s", strerror(-rc));
	for (size_t i = 0; i < spec->clocks; i++)
		publish(run, i);
	tree_show_power(&run->tree, &run->power);
	return rc;
}

void run_close(struct board_run *run)
{
	tree_close(&run->tree);
	page_detach(run->page);
	cleanup_fd(&run->inotify_fd);
	cleanup_fd(&run->signal_fd);
	cleanup_fd(&run->lock_fd);
}
