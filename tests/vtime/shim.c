/* SPDX-License-Identifier: MIT */
/* Preloaded under flamed and its keeper: they use the driver's clock, and sleep until the driver has advanced it.
 * Files, sockets and signals are real. $VTIME_DIR holds `page` (page.h). */
#include <dlfcn.h>
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
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "page.h"

#define PAGE_FD_MIN 900
#define NS          1000000000ULL
#define EPOCH_S     1767225600 /* virtual time 0, as the wall clock shows it */

static struct vtime_page *page;
static struct vtime_slot *slot;
static int page_fd = -1;

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size);

/* ---- turns ---- */

static struct vtime_slot *take_slot(int32_t pid)
{
	for (int i = 0; i < VTIME_SLOTS; i++) {
		int32_t free_slot = 0;
		if (atomic_compare_exchange_strong(&page->slot[i].pid, &free_slot, pid))
			return &page->slot[i];
	}
	abort();
}

/* The driver holds a lock on the page as long as it lives. */
static void end_with_driver(void)
{
	if (syscall(SYS_flock, page_fd, LOCK_SH | LOCK_NB) == 0)
		syscall(SYS_exit_group, 1);
}

static void await_turn(void)
{
	struct timespec patience = {1, 0};

	while (!atomic_load(&slot->turn))
		if (syscall(SYS_futex, &slot->turn, FUTEX_WAIT, 0, &patience, NULL, 0) < 0 && errno == ETIMEDOUT)
			end_with_driver();
}

static void end_turn(void)
{
	atomic_store(&slot->turn, 0);
	syscall(SYS_futex, &slot->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

__attribute__((constructor)) static void map_page(void)
{
	char path[PATH_MAX];

	if (!getenv("VTIME_DIR"))
		return;
	snprintf(path, sizeof(path), "%s/page", getenv("VTIME_DIR"));
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	page_fd = fcntl(fd, F_DUPFD_CLOEXEC, PAGE_FD_MIN);
	if (at == MAP_FAILED || page_fd < 0)
		abort();
	close(fd);
	page = at;
	for (int i = 0; i < VTIME_SLOTS && !slot; i++)
		if (atomic_load(&page->slot[i].pid) == getpid()) /* this was forked, and has its turn */
			slot = &page->slot[i];
	if (!slot)
		slot = take_slot(getpid());
	await_turn();
}

__attribute__((destructor)) static void leave(void)
{
	if (!page)
		return;
	atomic_store(&slot->ending, 1);
	end_turn();
}

void _exit(int status)
{
	leave();
	syscall(SYS_exit_group, status);
	__builtin_unreachable();
}

/* The child is registered before its parent's turn ends. */
pid_t fork(void)
{
	pid_t (*real_fork)(void) = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");

	if (!page)
		return real_fork();
	struct vtime_slot *of_child = take_slot(-1);
	pid_t pid = real_fork();
	if (pid < 0) {
		atomic_store(&of_child->pid, 0);
	} else if (pid > 0) {
		atomic_store(&of_child->wake_ns, 0);
		atomic_store(&of_child->pid, pid);
	} else {
		slot = of_child;
		await_turn();
	}
	return pid;
}

/* `look` polls without waiting; < 0: error, 0: nothing. */
static int wait_until(int (*look)(void *arg), void *arg, uint64_t until_ns)
{
	for (;;) {
		bool due = atomic_load(&page->now_ns) >= until_ns;
		int rc = look(arg);
		if (rc != 0 || due)
			return rc;
		atomic_store(&slot->wake_ns, until_ns);
		end_turn();
		await_turn();
	}
}

/* Another process can see this, and has to look again. */
static void tell_others(void)
{
	atomic_fetch_add(&page->sent, 1);
}

/* ---- time ---- */

int clock_gettime(clockid_t id, struct timespec *out)
{
	bool wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;

	if (!page)
		return (int)syscall(SYS_clock_gettime, id, out);
	uint64_t now_ns = atomic_load(&page->now_ns);
	if (id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID)
		now_ns = 0; /* computing takes no time here */
	*out = (struct timespec){(time_t)(now_ns / NS) + (wall ? EPOCH_S : 0), (long)(now_ns % NS)};
	return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	*out = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}

static uint64_t after(const struct timespec *t)
{
	return t ? atomic_load(&page->now_ns) + (uint64_t)t->tv_sec * NS + (uint64_t)t->tv_nsec : VTIME_NEVER;
}

static int look_nowhere(void *arg)
{
	(void)arg;
	return 0;
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *t, struct timespec *left)
{
	if (!page)
		return syscall(SYS_clock_nanosleep, id, flags, t, left) < 0 ? errno : 0;
	wait_until(look_nowhere, NULL,
		   flags & TIMER_ABSTIME ? (uint64_t)t->tv_sec * NS + (uint64_t)t->tv_nsec : after(t));
	return 0;
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
	const sigset_t *mask;
};

static int look_epoll(void *arg)
{
	struct epoll_look *e = arg;

	return (int)syscall(SYS_epoll_pwait, e->fd, e->events, e->max, 0, e->mask, _NSIG / 8);
}

int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *mask)
{
	struct epoll_look look = {fd, max, events, mask};

	if (!page)
		return (int)syscall(SYS_epoll_pwait2, fd, events, max, timeout, mask, _NSIG / 8);
	return wait_until(look_epoll, &look, after(timeout));
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
	const sigset_t *mask;
};

/* A signal that only `mask` unblocks ends it with EINTR. */
static int look_poll(void *arg)
{
	struct poll_look *p = arg;
	struct timespec zero = {0, 0};

	return (int)syscall(SYS_ppoll, p->fds, p->n, &zero, p->mask, p->mask ? _NSIG / 8 : 0);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	struct poll_look look = {fds, n, mask};

	if (!page)
		return (int)syscall(SYS_ppoll, fds, n, timeout, mask, mask ? _NSIG / 8 : 0);
	return wait_until(look_poll, &look, after(timeout));
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

struct wait_look {
	pid_t pid;
	int *status, options;
};

static int look_wait(void *arg)
{
	struct wait_look *w = arg;

	return (int)syscall(SYS_wait4, w->pid, w->status, w->options | WNOHANG, NULL);
}

/* A child needs turns of its own to end. */
pid_t waitpid(pid_t pid, int *status, int options)
{
	struct wait_look look = {pid, status, options};

	if (!page || (options & WNOHANG))
		return (pid_t)syscall(SYS_wait4, pid, status, options, NULL);
	return wait_until(look_wait, &look, VTIME_NEVER);
}

/* ---- actions that other processes can see ---- */

static bool is_socket(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode));
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
	if (page)
		tell_others();
	return syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (page)
		tell_others();
	return syscall(SYS_sendmsg, fd, msg, flags);
}

ssize_t writev(int fd, const struct iovec *part, int count)
{
	if (page && is_socket(fd))
		tell_others();
	return syscall(SYS_writev, fd, part, count);
}

int shutdown(int fd, int how)
{
	if (page)
		tell_others();
	return (int)syscall(SYS_shutdown, fd, how);
}

int close(int fd)
{
	if (page && is_socket(fd))
		tell_others();
	return (int)syscall(SYS_close, fd);
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

static void settle(const char *path, const void *data, size_t len)
{
	char text[32] = "";

	memcpy(text, data, len);
	for (int i = 0; i < VTIME_SETTLES; i++) {
		struct vtime_settle *rule = &page->settle[i];
		uint64_t value = strtoull(text, NULL, 10);
		if (!rule->name[0] || !strstr(path, rule->name))
			continue;
		uint64_t ns = value > atomic_load(&rule->value) ? rule->up_ns : rule->down_ns;
		struct timespec t = {(time_t)(ns / NS), (long)(ns % NS)};
		if (ns)
			nanosleep(&t, NULL);
		atomic_store(&rule->value, value);
		return;
	}
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

	if (page && rc > 0 && len < 32 && path_of(fd, path)) {
		clamp(fd, path, data, len);
		settle(path, data, len);
	} else if (page && is_socket(fd)) {
		tell_others();
	}
	errno = error;
	return rc;
}
