/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "page.h"

#define START_NS 1000000000000ULL
#define PATIENCE_MS 20000

static void die(const char *what)
{
	fprintf(stderr, "vtime: %s: %s\n", what, strerror(errno));
	abort();
}

const char *world_path(const struct world *world, const char *name, char *buf)
{
	if (snprintf(buf, WORLD_PATH_MAX, "%s/%s", world->dir, name) >= WORLD_PATH_MAX)
		die(name);
	return buf;
}

void world_make(struct world *world, bool real)
{
	static const char *const dirs[] = {"root", "run", "state", "vtime"};
	char path[WORLD_PATH_MAX];

	*world = (struct world){.real = real};
	snprintf(world->dir, sizeof(world->dir), "%s/vtime.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(world->dir))
		die(world->dir);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
		if (mkdir(world_path(world, dirs[i], path), 0755))
			die(path);
	int fd = open(world_path(world, "vtime/page", path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(struct vtime_page)))
		die(path);
	world->page = mmap(NULL, sizeof(struct vtime_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (world->page == MAP_FAILED)
		die(path);
	close(fd);
	atomic_store(&world->page->now_ns, START_NS);
	for (int i = 0; i < VTIME_SLOTS; i++)
		world->bell[i] = -1;
}

void world_remove(struct world *world)
{
	char command[WORLD_PATH_MAX + 16];

	munmap(world->page, sizeof(*world->page));
	snprintf(command, sizeof(command), "rm -rf '%s'", world->dir);
	if (system(command))
		die(command);
}

uint64_t world_now_ns(const struct world *world)
{
	struct timespec now;

	if (!world->real)
		return atomic_load(&world->page->now_ns);
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* ---- everybody looks ---- */

static bool alive(pid_t pid)
{
	char path[64], text[256], state = 'X';
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(text, sizeof(text), file) && strrchr(text, ')'))
		state = strrchr(text, ')')[2];
	fclose(file);
	return state != 'Z' && state != 'X';
}

static void ring(struct world *world, int i)
{
	char name[64], path[WORLD_PATH_MAX];
	int32_t pid = atomic_load(&world->page->slot[i].pid);

	if (world->bell_pid[i] != pid) {
		if (world->bell[i] >= 0)
			close(world->bell[i]);
		snprintf(name, sizeof(name), "vtime/wake.%d", pid);
		world->bell[i] = open(world_path(world, name, path), O_RDWR | O_NONBLOCK | O_CLOEXEC);
		world->bell_pid[i] = world->bell[i] < 0 ? 0 : pid;
	}
	if (world->bell[i] >= 0 && write(world->bell[i], "", 1) < 0 && errno != EAGAIN)
		die("bell");
}

static bool all_seen(struct world *world, uint32_t round, bool drop_dead)
{
	for (int i = 0; i < VTIME_SLOTS; i++) {
		struct vtime_slot *slot = &world->page->slot[i];
		int32_t pid = atomic_load(&slot->pid);
		if (pid == 0 || atomic_load(&slot->seen) == round)
			continue;
		if (!drop_dead || alive(pid))
			return false;
		atomic_store(&slot->wake_ns, VTIME_NEVER);
		atomic_store(&slot->pid, 0);
	}
	return true;
}

/* One round in which every process looked and found nothing at least once. */
static void one_round(struct world *world)
{
	uint32_t round = atomic_fetch_add(&world->page->round, 1) + 1;

	for (int i = 0; i < VTIME_SLOTS; i++)
		if (atomic_load(&world->page->slot[i].pid))
			ring(world, i);
	for (int tries = 0;; tries++) {
		uint32_t acks = atomic_load(&world->page->acks);
		struct timespec wait = {0, 10000000};
		if (all_seen(world, round, tries > 2))
			return;
		if (tries > PATIENCE_MS / 10)
			die("a process neither waits nor ends");
		syscall(SYS_futex, &world->page->acks, FUTEX_WAIT, acks, &wait, NULL, 0);
	}
}

/* Two rounds between which nobody ran: what one could have sent another in the
 * first would have shown in the second. */
void world_quiesce(struct world *world)
{
	uint32_t before;

	if (world->real) {
		usleep(300);
		return;
	}
	do {
		before = atomic_load(&world->page->activity);
		one_round(world);
		one_round(world);
	} while (atomic_load(&world->page->activity) != before);
}

/* ---- time passes ---- */

static uint64_t next_wake(const struct world *world)
{
	uint64_t next = VTIME_NEVER;

	for (int i = 0; i < VTIME_SLOTS; i++)
		if (atomic_load(&world->page->slot[i].pid) && atomic_load(&world->page->slot[i].wake_ns) < next)
			next = atomic_load(&world->page->slot[i].wake_ns);
	return next;
}

/* To the next moment somebody waits for, or `until_ns`. False at `until_ns`. */
static bool step(struct world *world, uint64_t until_ns)
{
	uint64_t next = next_wake(world), now = atomic_load(&world->page->now_ns);

	if (next > until_ns) {
		atomic_store(&world->page->now_ns, until_ns);
		return false;
	}
	atomic_store(&world->page->now_ns, next > now ? next : now);
	world_quiesce(world);
	return true;
}

void world_advance(struct world *world, uint64_t ns)
{
	uint64_t until_ns = world_now_ns(world) + ns;

	if (world->real)
		return; /* nobody really waits that long */
	world_quiesce(world);
	while (step(world, until_ns))
		;
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd in = {.fd = fd, .events = POLLIN};

	return poll(&in, 1, timeout_ms) > 0;
}

bool world_wait_fd(struct world *world, int fd, uint64_t ns)
{
	uint64_t until_ns = world_now_ns(world) + ns;

	if (world->real)
		return readable(fd, PATIENCE_MS);
	while (!readable(fd, 1)) {
		world_quiesce(world);
		if (!readable(fd, 0) && !step(world, until_ns))
			return readable(fd, 0);
	}
	return true;
}

/* ---- the daemon ---- */

static void run_child(const struct world *world, const char *program, const char *settle)
{
	char root[WORLD_PATH_MAX], run[WORLD_PATH_MAX], state[WORLD_PATH_MAX], conf[WORLD_PATH_MAX], log[WORLD_PATH_MAX],
		page[WORLD_PATH_MAX];

	int fd = open(world_path(world, "flamed.log", log), O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		die(log);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!world->real) {
		setenv("VTIME_DIR", world_path(world, "vtime", page), 1);
		setenv("LD_PRELOAD", getenv("VTIME_SHIM"), 1);
	}
	setenv("VTIME_SETTLE", settle, 1);
	execl(program, program, "--sysroot", world_path(world, "root", root), "--runtime-dir", world_path(world, "run", run),
	      "--state-dir", world_path(world, "state", state), "--config", world_path(world, "flamed.conf", conf), (char *)NULL);
	die(program);
}

/* A keeper that has not waited yet is not known, and time would run ahead of it. */
static bool both_wait(const struct world *world)
{
	return world->real || (atomic_load(&world->page->slot[0].pid) && atomic_load(&world->page->slot[1].pid));
}

void world_start(struct world *world, const char *program, const char *settle)
{
	char socket[WORLD_PATH_MAX];

	for (int i = 0; !world->real && i < VTIME_SLOTS; i++)
		atomic_store(&world->page->slot[i].pid, 0);
	world->flamed = fork();
	if (world->flamed < 0)
		die("fork");
	if (world->flamed == 0)
		run_child(world, program, settle);
	world_path(world, "run/flamed.sock", socket);
	for (int ms = 0; access(socket, F_OK) || !both_wait(world); ms++) {
		if (ms > PATIENCE_MS || waitpid(world->flamed, NULL, WNOHANG) > 0)
			die("flamed did not come up");
		usleep(1000);
		if (!world->real && ms % 50 == 49)
			atomic_fetch_add(&world->page->now_ns, 1000000); /* it may wait for something at its start */
	}
}

int world_stop(struct world *world, int signal)
{
	int status = 0;

	kill(world->flamed, signal);
	for (int ms = 0; waitpid(world->flamed, &status, WNOHANG) == 0; ms++) {
		if (ms > PATIENCE_MS)
			die("flamed does not end");
		usleep(1000);
		if (!world->real && ms % 20 == 19) {
			atomic_fetch_add(&world->page->now_ns, 20000000);
			for (int i = 0; i < VTIME_SLOTS; i++)
				if (atomic_load(&world->page->slot[i].pid))
					ring(world, i);
		}
	}
	world->flamed = 0;
	return status;
}
