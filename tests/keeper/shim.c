/* SPDX-License-Identifier: MIT */
/* Preloaded under flamed-keeper: records what it does to the files of a
 * sysroot and of its state directory, makes a directory behave as sysfs does
 * (a write that fails changes nothing), and makes chosen calls fail.
 *
 *   SHIM_ROOT=DIR SHIM_STATE=DIR   the directories that are watched
 *   SHIM_LOG=FILE                  one line a write, fsync, or read of an offline policy
 *   SHIM_CROSSED=1                 a limit that crosses its partner: EINVAL
 *   SHIM_CEILING=NAME:VALUE        a max file reads at most VALUE after a write
 *   SHIM_IGNORE=NAME               a file that accepts a value and keeps its own
 *   SHIM_LATE=NAME:US              a file takes a value US microseconds late, as limits do that a work item sets
 *   SHIM_CPUFREQ=1                 scaling_max_freq and scaling_min_freq behave as requests: a read returns
 *                                  min(request, cap), where cap is the lowest of cpuinfo_max_freq, bios_limit and
 *                                  the policy's file .cap; every file of a policy with a file .offline returns EBUSY
 *   a file .busy in a folder       a write of a file beside it: EBUSY
 *   a file .hold.NAME in a folder   a write of NAME beside it waits for as long as it exists
 *   SHIM_SLOW_US=N                 each knob write takes that long
 *   SHIM_FAIL=CALL:N:COUNT:ERRNO   calls N ... N+COUNT-1 (from 1) of open, read, write, fsync or alloc fail
 *   SHIM_COUNT=FILE                at exit: how many of each call there were
 *   SHIM_PROGRAM=NAME              allocations fail, and calls are counted, only in the program of that name
 * Allocations at exit belong to runtimes, gcov's among them: they neither fail nor count. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum call { OPEN, READ, WRITE, FSYNC, ALLOC, CALLS };
static const char *const call_names[CALLS] = {"open", "read", "write", "fsync", "alloc"};
static unsigned long counts[CALLS];
static bool written[1024]; /* descriptors since they were opened */
static bool exits;         /* main has returned */

ssize_t __read_chk(int fd, void *buf, size_t n, size_t size);
int __open_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);

/* The part of a path below SHIM_ROOT or SHIM_STATE; NULL: it is below neither. */
static const char *ours(const char *path, bool *state)
{
	const char *root = getenv("SHIM_ROOT"), *dir = getenv("SHIM_STATE");
	size_t n = root ? strlen(root) : 0, m = dir ? strlen(dir) : 0;

	*state = m && !strncmp(path, dir, m) && (path[m] == '/' || path[m] == '\0');
	if (*state)
		return path[m] ? path + m : "/";
	return n && !strncmp(path, root, n) && path[n] == '/' ? path + n : NULL;
}

static const char *fd_path(int fd, char buf[PATH_MAX])
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, buf, PATH_MAX - 1);
	buf[n < 0 ? 0 : n] = '\0';
	return buf;
}

static void record(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void record(const char *format, ...)
{
	const char *log = getenv("SHIM_LOG");
	char line[2048];
	va_list args;

	if (!log)
		return;
	va_start(args, format);
	int n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0600);
	if (fd >= 0 && n > 0)
		syscall(SYS_write, fd, line, (size_t)n);
	if (fd >= 0)
		syscall(SYS_close, fd);
}

/* True when this call is to fail; errno is then set. */
static bool fails(enum call call)
{
	const char *fail = getenv("SHIM_FAIL");
	char name[16];
	unsigned long first, count;
	int error;

	counts[call]++;
	if (!fail || sscanf(fail, "%15[a-z]:%lu:%lu:%d", name, &first, &count, &error) != 4 ||
	    strcmp(name, call_names[call]) != 0)
		return false;
	if (counts[call] < first || counts[call] >= first + count)
		return false;
	errno = error;
	return true;
}

static bool is_meant(void)
{
	const char *only = getenv("SHIM_PROGRAM");

	return !only || !strcmp(only, program_invocation_short_name);
}

/* VALUE of a "NAME:VALUE" setting for this file. */
static const char *setting(const char *key, const char *path)
{
	const char *text = getenv(key);
	size_t n = text ? strcspn(text, ":") : 0, len = strlen(path);

	return n && len >= n && !memcmp(path + len - n, text, n) ? text + n + (text[n] == ':') : NULL;
}

static struct late {
	char path[PATH_MAX], text[256 + 1]; /* of a write, and a newline */
	struct timespec due;
} late[16];

static bool is_due(const struct late *l)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > l->due.tv_sec || (now.tv_sec == l->due.tv_sec && now.tv_nsec >= l->due.tv_nsec);
}

/* Late values that are due, or all of them, take effect. */
static void settle_late(bool all)
{
	for (size_t i = 0; i < sizeof(late) / sizeof(late[0]); i++) {
		if (!late[i].path[0] || (!all && !is_due(&late[i])))
			continue;
		int fd = (int)syscall(SYS_openat, AT_FDCWD, late[i].path, O_WRONLY | O_TRUNC);
		if (fd >= 0) {
			syscall(SYS_write, fd, late[i].text, strlen(late[i].text));
			syscall(SYS_close, fd);
		}
		late[i].path[0] = '\0';
	}
}

/* Delay a value. False: the file is not a late one. */
static bool put_off(const char *path, const char *text)
{
	const char *us = setting("SHIM_LATE", path);

	for (size_t i = 0; us && i < sizeof(late) / sizeof(late[0]); i++) {
		if (late[i].path[0] && strcmp(late[i].path, path) != 0)
			continue;
		snprintf(late[i].path, sizeof(late[i].path), "%s", path);
		snprintf(late[i].text, sizeof(late[i].text), "%s\n", text);
		clock_gettime(CLOCK_MONOTONIC, &late[i].due);
		late[i].due.tv_nsec += 1000L * atol(us);
		late[i].due.tv_sec += late[i].due.tv_nsec / 1000000000L;
		late[i].due.tv_nsec %= 1000000000L;
		return true;
	}
	return false;
}

__attribute__((destructor)) static void settle_all(void)
{
	settle_late(true);
}

__attribute__((destructor)) static void tell_counts(void)
{
	const char *path = getenv("SHIM_COUNT");
	FILE *f = path && is_meant() ? fopen(path, "w") : NULL;

	for (int i = 0; f && i < CALLS; i++)
		fprintf(f, "%s %lu\n", call_names[i], counts[i]);
	if (f)
		fclose(f);
}

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

/* The settings are read once: sscanf itself allocates. */
static bool alloc_fails(void)
{
	static unsigned long first, count;
	static bool known;

	if (!known) {
		const char *fail = getenv("SHIM_FAIL");
		known = true;
		if (fail && !strncmp(fail, "alloc:", 6) && is_meant()) {
			char *end;
			first = strtoul(fail + 6, &end, 10);
			count = strtoul(end + 1, NULL, 10);
		}
	}
	if (exits)
		return false;
	counts[ALLOC]++;
	return counts[ALLOC] >= first && counts[ALLOC] < first + count;
}

void *malloc(size_t size)
{
	if (alloc_fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	if (alloc_fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	if (alloc_fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_realloc(old, size);
}

static void note_exit(void)
{
	exits = true;
}

/* Registered by the program's first open of a watched file, so that it runs before every destructor. */
static void watch_exit(void)
{
	static bool watched;

	if (!watched)
		watched = atexit(note_exit) == 0;
}

static int do_open(int dir, const char *path, int flags, mode_t mode)
{
	char base[PATH_MAX], full[PATH_MAX * 2];
	bool state;

	if (flags & O_PATH)
		return (int)syscall(SYS_openat, dir, path, flags, mode);
	if (path[0] == '/' || dir == AT_FDCWD)
		snprintf(full, sizeof(full), "%s", path);
	else
		snprintf(full, sizeof(full), "%s/%s", fd_path(dir, base), path);
	const char *name = ours(full, &state);
	if (name)
		watch_exit();
	if (name && !(flags & O_DIRECTORY) && fails(OPEN))
		return -1;
	if (name && !state)
		flags &= ~O_TRUNC;
	int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
	if (fd >= 0 && fd < 1024)
		written[fd] = false;
	return fd;
}

#define MODE_OF(flags, last, mode) \
	do { \
		va_list args; \
		va_start(args, last); \
		mode = (flags)&O_CREAT ? va_arg(args, mode_t) : 0; \
		va_end(args); \
	} while (0)

int open(const char *path, int flags, ...)
{
	mode_t mode;

	MODE_OF(flags, flags, mode);
	return do_open(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	mode_t mode;

	MODE_OF(flags, flags, mode);
	return do_open(dir, path, flags, mode);
}

int __open_2(const char *path, int flags)
{
	return do_open(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dir, const char *path, int flags)
{
	return do_open(dir, path, flags, 0);
}

static unsigned long long number_in(const char *path)
{
	char text[64] = "";
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);

	if (fd < 0)
		return 0;
	syscall(SYS_read, fd, text, sizeof(text) - 1);
	syscall(SYS_close, fd);
	return strtoull(text, NULL, 10);
}

/* The number in FILE of the folder of `path`; ~0 without one. */
static unsigned long long beside(const char *path, const char *file)
{
	char other[PATH_MAX + 64];
	struct stat st;

	snprintf(other, sizeof(other), "%.*s/%s", (int)(strrchr(path, '/') - path), path, file);
	return syscall(SYS_newfstatat, AT_FDCWD, other, &st, 0) == 0 ? number_in(other) : ~0ULL;
}

/* 1: `text` is what a cpufreq limit shows; -1 with errno; 0: no such file. */
static int cpufreq_shows(const char *path, char text[64])
{
	const char *const caps[] = {"cpuinfo_max_freq", "bios_limit", ".cap"};

	if (!getenv("SHIM_CPUFREQ") || !strstr(path, "/cpufreq/policy"))
		return 0;
	if (beside(path, ".offline") != ~0ULL) {
		errno = EBUSY;
		return -1;
	}
	if (!strstr(path, "/scaling_max_freq") && !strstr(path, "/scaling_min_freq"))
		return 0;
	unsigned long long shown = number_in(path);
	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++)
		shown = beside(path, caps[i]) < shown ? beside(path, caps[i]) : shown;
	snprintf(text, 64, "%llu\n", shown);
	return 1;
}

ssize_t read(int fd, void *buf, size_t n)
{
	char path[PATH_MAX], text[64];
	bool state;

	const char *name = ours(fd_path(fd, path), &state);
	if (name && fails(READ))
		return -1;
	settle_late(false);
	int shows = cpufreq_shows(path, text);
	if (shows < 0) {
		record("%s read EBUSY\n", name ? name : path);
		errno = EBUSY;
		return -1;
	}
	if (shows > 0) {
		size_t len = strlen(text), at = (size_t)lseek(fd, 0, SEEK_CUR);
		len = at < len ? len - at : 0;
		len = len < n ? len : n;
		memcpy(buf, text + at, len);
		lseek(fd, (off_t)len, SEEK_CUR);
		return (ssize_t)len;
	}
	return syscall(SYS_read, fd, buf, n);
}

ssize_t __read_chk(int fd, void *buf, size_t n, size_t size)
{
	return read(fd, buf, n < size ? n : size);
}

int fsync(int fd)
{
	char path[PATH_MAX];
	bool state;
	const char *name = ours(fd_path(fd, path), &state);

	if (name && fails(FSYNC))
		return -1;
	if (name)
		record("fsync %s\n", !strcmp(name, "/") ? "directory" : name + 1);
	return (int)syscall(SYS_fsync, fd);
}

/* min above max, or max below min. */
static bool crosses(const char *path, unsigned long long value)
{
	char other[PATH_MAX];
	const char *base = strrchr(path, '/') + 1, *word = strstr(base, "min_freq");
	bool is_min = word != NULL;

	if (!word)
		word = strstr(base, "max_freq");
	if (!word || !getenv("SHIM_CROSSED"))
		return false;
	snprintf(other, sizeof(other), "%s", path);
	memcpy(other + (word - path), is_min ? "max" : "min", 3);
	unsigned long long partner = number_in(other);
	return is_min ? partner && value > partner : value && value < partner;
}

static void wait_held(const char *path, const char *name)
{
	char hold[NAME_MAX];

	snprintf(hold, sizeof(hold), ".hold.%s", strrchr(path, '/') + 1);
	if (beside(path, hold) == ~0ULL)
		return;
	record("%s waits\n", name);
	while (beside(path, hold) != ~0ULL)
		usleep(1000);
}

static ssize_t write_knob(int fd, const char *path, const char *name, const char *buf, size_t n)
{
	char text[256];
	size_t len = n < sizeof(text) - 1 ? n : sizeof(text) - 1;
	const char *ceiling = setting("SHIM_CEILING", path), *slow = getenv("SHIM_SLOW_US");

	memcpy(text, buf, len);
	text[len] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (fd < 1024 && written[fd])
		record("%s is written twice\n", name);
	if (fd < 1024)
		written[fd] = true;
	if (slow)
		usleep((useconds_t)atoi(slow));
	wait_held(path, name);
	char shown[64];
	if (cpufreq_shows(path, shown) < 0) {
		record("%s %s EBUSY\n", name, text);
		return -1;
	}
	if (beside(path, ".busy") != ~0ULL) {
		record("%s %s EBUSY\n", name, text);
		errno = EBUSY;
		return -1;
	}
	if (crosses(path, strtoull(text, NULL, 10))) {
		record("%s %s EINVAL\n", name, text);
		errno = EINVAL;
		return -1;
	}
	record("%s %s\n", name, text);
	if (setting("SHIM_IGNORE", path) || put_off(path, text))
		return (ssize_t)n;
	if (ceiling && strtoull(text, NULL, 10) > strtoull(ceiling, NULL, 10)) {
		buf = ceiling;
		len = strlen(ceiling);
	} else {
		len = n;
	}
	if (ftruncate(fd, 0) < 0 || syscall(SYS_pwrite64, fd, buf, len, 0L) < 0)
		return -1;
	return (ssize_t)n;
}

ssize_t write(int fd, const void *buf, size_t n)
{
	char path[PATH_MAX];
	bool state;
	const char *name = ours(fd_path(fd, path), &state);

	if (name && fails(WRITE))
		return -1;
	if (name && !state)
		return write_knob(fd, path, name, buf, n);
	return syscall(SYS_write, fd, buf, n);
}
