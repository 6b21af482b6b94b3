/* SPDX-License-Identifier: MIT */
/* Preloaded under flamed and its keeper: their clock is the driver's, and they
 * sleep until the driver lets that time come. Files, sockets and signals stay real.
 *
 *   VTIME_DIR=DIR       holds `page` (page.h); a FIFO wake.PID is made there for each process
 *   VTIME_SETTLE=S      NAME:NS[,...]: a write to a file whose path contains NAME takes so long */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "page.h"

#define WAKE_FD_MIN 900
#define POLL_MAX 64
#define NS 1000000000ULL

static struct vtime_page *page;
static struct vtime_slot *slot;
static int wake_fd = -1, own_pid;

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size);

__attribute__((constructor)) static void map_page(void)
{
	char path[PATH_MAX];

	if (!getenv("VTIME_DIR"))
		return;
	snprintf(path, sizeof(path), "%s/page", getenv("VTIME_DIR"));
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		abort();
	close(fd);
	page = at;
}

static void take_slot(void)
{
	for (int i = 0; i < VTIME_SLOTS; i++) {
		int32_t expected = 0;
		if (atomic_compare_exchange_strong(&page->slot[i].pid, &expected, own_pid)) {
			slot = &page->slot[i];
			return;
		}
	}
	abort();
}

/* Once a process: forks get their own. */
static void enrol(void)
{
	char path[PATH_MAX];
	struct stat st;

	if (own_pid != getpid()) {
		own_pid = getpid();
		wake_fd = -1;
		take_slot();
	}
	if (wake_fd >= 0 && fstat(wake_fd, &st) == 0 && S_ISFIFO(st.st_mode))
		return;
	snprintf(path, sizeof(path), "%s/wake.%d", getenv("VTIME_DIR"), own_pid);
	if (mkfifo(path, 0600) && errno != EEXIST)
		abort();
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	wake_fd = fcntl(fd, F_DUPFD_CLOEXEC, WAKE_FD_MIN);
	if (fd < 0 || wake_fd < 0)
		abort();
	close(fd);
}

static void say_seen(uint32_t round, uint64_t until_ns)
{
	atomic_store(&slot->wake_ns, until_ns);
	atomic_store(&slot->seen, round);
	atomic_fetch_add(&page->acks, 1);
	syscall(SYS_futex, &page->acks, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void run_again(void)
{
	atomic_store(&slot->wake_ns, VTIME_NEVER);
	atomic_fetch_add(&page->activity, 1);
}

/* Until something on `fds` or the driver's bell. */
static int block(struct pollfd *fds, nfds_t n, const sigset_t *mask)
{
	struct pollfd all[POLL_MAX + 1];
	char drain[64];

	memcpy(all, fds, n * sizeof(*fds));
	all[n] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
	int rc = (int)syscall(SYS_ppoll, all, n + 1, NULL, mask, mask ? _NSIG / 8 : 0);
	while (read(wake_fd, drain, sizeof(drain)) > 0)
		;
	return rc;
}

/* `look` polls without waiting; < 0: error, 0: nothing. */
static int wait_until(int (*look)(void *arg), void *arg, struct pollfd *fds, nfds_t n, const sigset_t *mask, uint64_t until_ns)
{
	enrol();
	for (;;) {
		uint32_t round = atomic_load(&page->round);
		bool due = atomic_load(&page->now_ns) >= until_ns;
		int rc = look(arg), error = errno;
		if (rc != 0 || due) {
			run_again();
			errno = error;
			return rc;
		}
		say_seen(round, until_ns);
		if (block(fds, n, mask) < 0 && errno == EINTR) {
			run_again();
			errno = EINTR;
			return -1;
		}
	}
}

static uint64_t after(uint64_t ns)
{
	return atomic_load(&page->now_ns) + ns;
}

/* ---- time ---- */

int clock_gettime(clockid_t id, struct timespec *out)
{
	bool real = !page || id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_PROCESS_CPUTIME_ID ||
		    id == CLOCK_THREAD_CPUTIME_ID;

	if (real)
		return (int)syscall(SYS_clock_gettime, id, out);
	uint64_t now_ns = atomic_load(&page->now_ns);
	*out = (struct timespec){(time_t)(now_ns / NS), (long)(now_ns % NS)};
	return 0;
}

static int look_nowhere(void *arg)
{
	(void)arg;
	return 0;
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *t, struct timespec *left)
{
	uint64_t ns = (uint64_t)t->tv_sec * NS + (uint64_t)t->tv_nsec;

	if (!page)
		return syscall(SYS_clock_nanosleep, id, flags, t, left) < 0 ? errno : 0;
	return wait_until(look_nowhere, NULL, NULL, 0, NULL, flags & TIMER_ABSTIME ? ns : after(ns)) < 0 ? errno : 0;
}

int nanosleep(const struct timespec *t, struct timespec *left)
{
	int rc = clock_nanosleep(CLOCK_MONOTONIC, 0, t, left);

	errno = rc;
	return rc ? -1 : 0;
}

int usleep(useconds_t us)
{
	struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

	return nanosleep(&t, NULL);
}

/* ---- waiting ---- */

struct epoll_look {
	int fd, max;
	struct epoll_event *events;
};

static int look_epoll(void *arg)
{
	struct epoll_look *e = arg;

	return (int)syscall(SYS_epoll_pwait, e->fd, e->events, e->max, 0, NULL, 0);
}

int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *mask)
{
	struct epoll_look look = {fd, max, events};
	struct pollfd in = {.fd = fd, .events = POLLIN};

	if (!page)
		return (int)syscall(SYS_epoll_pwait2, fd, events, max, timeout, mask, _NSIG / 8);
	return wait_until(look_epoll, &look, &in, 1, mask,
			  timeout ? after((uint64_t)timeout->tv_sec * NS + (uint64_t)timeout->tv_nsec) : VTIME_NEVER);
}

int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	struct timespec t = {timeout / 1000, (long)(timeout % 1000) * 1000000};

	return epoll_pwait2(fd, events, max, timeout < 0 ? NULL : &t, mask);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	return epoll_pwait(fd, events, max, timeout, NULL);
}

struct poll_look {
	struct pollfd *fds;
	nfds_t n;
};

static int look_poll(void *arg)
{
	struct poll_look *p = arg;
	struct timespec zero = {0, 0};

	return (int)syscall(SYS_ppoll, p->fds, p->n, &zero, NULL, 0);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	struct poll_look look = {fds, n};

	if (!page || n > POLL_MAX)
		return (int)syscall(SYS_ppoll, fds, n, timeout, mask, mask ? _NSIG / 8 : 0);
	return wait_until(look_poll, &look, fds, n, mask,
			  timeout ? after((uint64_t)timeout->tv_sec * NS + (uint64_t)timeout->tv_nsec) : VTIME_NEVER);
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec t = {timeout / 1000, (long)(timeout % 1000) * 1000000};

	return ppoll(fds, n, timeout < 0 ? NULL : &t, NULL);
}

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	(void)size;
	return poll(fds, n, timeout);
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size)
{
	(void)size;
	return ppoll(fds, n, timeout, mask);
}

/* ---- writes that take time, and that others cap ---- */

static bool path_of(int fd, char path[PATH_MAX])
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, path, PATH_MAX - 1);
	path[len < 0 ? 0 : len] = '\0';
	return len > 0 && path[0] == '/';
}

static uint64_t settle_of(const char *path)
{
	const char *rule = getenv("VTIME_SETTLE");
	char name[64];
	unsigned long long ns;
	int used;

	while (rule && sscanf(rule, "%63[^:]:%llu%n", name, &ns, &used) == 2) {
		if (strstr(path, name))
			return ns;
		rule += used + (rule[used] == ',');
	}
	return 0;
}

static void clamp(int fd, const char *path, const void *data, size_t len)
{
	char text[32];

	for (int i = 0; i < VTIME_CLAMPS; i++) {
		uint64_t most = atomic_load(&page->clamp[i].most);
		if (!most || !strstr(path, page->clamp[i].name) || len >= sizeof(text))
			continue;
		memcpy(text, data, len);
		text[len] = '\0';
		if (strtoull(text, NULL, 10) <= most)
			continue;
		int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)most);
		if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
			abort();
	}
}

ssize_t write(int fd, const void *data, size_t len)
{
	ssize_t rc = syscall(SYS_write, fd, data, len);
	int error = errno;
	char path[PATH_MAX];

	if (page && rc > 0 && len < 32 && fd != wake_fd && path_of(fd, path)) {
		uint64_t settle_ns = settle_of(path);
		struct timespec t = {(time_t)(settle_ns / NS), (long)(settle_ns % NS)};
		clamp(fd, path, data, len);
		if (settle_ns)
			nanosleep(&t, NULL);
	}
	errno = error;
	return rc;
}
