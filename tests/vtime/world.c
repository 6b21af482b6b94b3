/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "page.h"

#define START_NS          1000000000000ULL
#define PATIENCE_MS       20000 /* of real time, for a process to end its turn */
#define START_PATIENCE_NS 30000000000ULL
#define STOP_PATIENCE_NS  30000000000ULL

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

/* In memory if possible: the daemon syncs its files, which takes time on a disk. */
static const char *below(void)
{
	const char *given = getenv("TMPDIR");

	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : given ? given : "/tmp";
}

void world_make(struct world *world)
{
	static const char *const dirs[] = {"root", "run", "state", "vtime"};
	char path[WORLD_PATH_MAX];

	*world = (struct world){0};
	snprintf(world->dir, sizeof(world->dir), "%s/vtime.XXXXXX", below());
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
	if (flock(fd, LOCK_EX))
		die(path);
	world->page_fd = fd;
	atomic_store(&world->page->now_ns, START_NS);
}

void world_remove(struct world *world)
{
	char command[WORLD_PATH_MAX + 16];

	munmap(world->page, sizeof(*world->page));
	close(world->page_fd);
	snprintf(command, sizeof(command), "rm -rf '%s'", world->dir);
	if (system(command))
		die(command);
}

uint64_t world_now_ns(const struct world *world)
{
	return atomic_load(&world->page->now_ns);
}

/* ---- turns ---- */

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

/* Its sockets close with it, which others see. */
static void bury(struct world *world, int i)
{
	atomic_store(&world->page->slot[i].pid, 0);
	atomic_store(&world->page->slot[i].ending, 0);
	atomic_store(&world->page->slot[i].turn, 0);
	world_sent(world);
}

static void give_turn(struct world *world, int i)
{
	struct vtime_slot *slot = &world->page->slot[i];
	pid_t pid = atomic_load(&slot->pid);

	atomic_store(&slot->wake_ns, VTIME_NEVER);
	atomic_store(&slot->turn, 1);
	syscall(SYS_futex, &slot->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
	for (int waits = 0; atomic_load(&slot->turn); waits++) {
		struct timespec patience = {0, 20000000};
		if (waits > PATIENCE_MS / 20)
			die("a process neither waits nor ends");
		if (syscall(SYS_futex, &slot->turn, FUTEX_WAIT, 1, &patience, NULL, 0) < 0 && errno == ETIMEDOUT &&
		    !alive(pid)) {
			bury(world, i);
			return;
		}
	}
	if (!atomic_load(&slot->ending))
		return;
	for (int waits = 0; alive(pid); waits++) {
		if (waits > PATIENCE_MS * 10)
			die("a process has called exit and does not end");
		usleep(100);
	}
	bury(world, i);
}

void world_sent(struct world *world)
{
	atomic_fetch_add(&world->page->sent, 1);
}

/* Run every process that is due, or may have input from another one, in the order of slots, until none is left. */
void world_quiesce(struct world *world)
{
	struct vtime_page *page = world->page;
	bool ran;

	do {
		ran = false;
		for (int i = 0; i < VTIME_SLOTS; i++) {
			bool due = atomic_load(&page->slot[i].wake_ns) <= atomic_load(&page->now_ns);
			if (!atomic_load(&page->slot[i].pid) || (!due && world->seen[i] == atomic_load(&page->sent)))
				continue;
			give_turn(world, i);
			world->seen[i] = atomic_load(&page->sent);
			ran = true;
		}
	} while (ran);
}

/* ---- time passes ---- */

uint64_t world_next_ns(const struct world *world)
{
	uint64_t next = VTIME_NEVER;

	for (int i = 0; i < VTIME_SLOTS; i++)
		if (atomic_load(&world->page->slot[i].pid) && atomic_load(&world->page->slot[i].wake_ns) < next)
			next = atomic_load(&world->page->slot[i].wake_ns);
	return next;
}

/* Advance to the next wake-up time, or `until_ns`. Returns false at `until_ns`. */
static bool step(struct world *world, uint64_t until_ns)
{
	uint64_t next = world_next_ns(world), now = atomic_load(&world->page->now_ns);

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

	world_quiesce(world);
	while (step(world, until_ns))
		;
}

static bool readable(int fd)
{
	struct pollfd in = {.fd = fd, .events = POLLIN};

	return poll(&in, 1, 0) > 0;
}

bool world_wait_fd(struct world *world, int fd, uint64_t ns)
{
	uint64_t until_ns = world_now_ns(world) + ns;

	world_quiesce(world);
	while (!readable(fd))
		if (!step(world, until_ns))
			return readable(fd);
	return true;
}

/* ---- the daemon ---- */

static void run_child(const struct world *world, const char *program)
{
	char root[WORLD_PATH_MAX], run[WORLD_PATH_MAX], state[WORLD_PATH_MAX], conf[WORLD_PATH_MAX],
		log[WORLD_PATH_MAX], page[WORLD_PATH_MAX];

	int fd = open(world_path(world, "flamed.log", log), O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		die(log);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv("VTIME_DIR", world_path(world, "vtime", page), 1);
	setenv("LD_PRELOAD", getenv("VTIME_SHIM"), 1);
	execl(program, program, "--sysroot", world_path(world, "root", root), "--runtime-dir",
	      world_path(world, "run", run), "--state-dir", world_path(world, "state", state), "--config",
	      world_path(world, "flamed.conf", conf), (char *)NULL);
	die(program);
}

/* NAME:UP_NS[/DOWN_NS][,...] */
static void read_settle(struct world *world, const char *text)
{
	char name[48];
	unsigned long long up_ns, down_ns;
	int used;

	for (int i = 0; i < VTIME_SETTLES; i++) {
		struct vtime_settle *rule = &world->page->settle[i];
		memset(rule->name, 0, sizeof(rule->name));
		if (sscanf(text, "%47[^:]:%llu%n", name, &up_ns, &used) != 2)
			continue;
		text += used;
		down_ns = up_ns;
		if (sscanf(text, "/%llu%n", &down_ns, &used) == 1)
			text += used;
		text += *text == ',';
		strcpy(rule->name, name);
		rule->up_ns = up_ns;
		rule->down_ns = down_ns;
	}
	if (*text)
		die(text);
}

uint64_t world_value(const struct world *world, const char *name)
{
	for (int i = 0; i < VTIME_SETTLES; i++)
		if (strcmp(world->page->settle[i].name, name) == 0)
			return atomic_load(&world->page->settle[i].value);
	return 0;
}

static void await_first(const struct world *world)
{
	for (int waits = 0; !atomic_load(&world->page->slot[0].pid); waits++) {
		if (waits > PATIENCE_MS * 10 || waitpid(world->flamed, NULL, WNOHANG) > 0)
			die("flamed did not start; $VTIME_SHIM?");
		usleep(100);
	}
}

/* Only one of the driver and its processes runs at a time, and a turn is passed fastest on one processor. */
static void share_processor(struct world *world)
{
	int now_on = sched_getcpu();
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((unsigned)now_on, &one);
	if (now_on < 0 || sched_getaffinity(0, sizeof(world->processors), &world->processors) < 0 ||
	    sched_setaffinity(0, sizeof(one), &one) < 0)
		die("processor");
}

void world_start(struct world *world, const char *program, const char *settle)
{
	uint64_t until_ns = world_now_ns(world) + START_PATIENCE_NS;
	char socket[WORLD_PATH_MAX];

	prctl(PR_SET_CHILD_SUBREAPER, 1); /* a keeper outlives its flamed by a moment */
	memset(world->page->slot, 0, sizeof(world->page->slot));
	read_settle(world, settle);
	share_processor(world);
	world->flamed = fork();
	if (world->flamed < 0)
		die("fork");
	if (world->flamed == 0)
		run_child(world, program);
	await_first(world);
	world_path(world, "run/flamed.sock", socket);
	world_quiesce(world);
	while (access(socket, F_OK))
		if (!atomic_load(&world->page->slot[0].pid) || !step(world, until_ns))
			die("flamed did not come up");
}

static bool anybody(const struct world *world)
{
	for (int i = 0; i < VTIME_SLOTS; i++)
		if (atomic_load(&world->page->slot[i].pid))
			return true;
	return false;
}

int world_stop(struct world *world, int signal)
{
	uint64_t until_ns = world_now_ns(world) + STOP_PATIENCE_NS;
	int status = 0;

	kill(world->flamed, signal);
	world_sent(world);
	world_quiesce(world);
	while (anybody(world))
		if (!step(world, until_ns))
			die("flamed or its keeper does not end");
	if (waitpid(world->flamed, &status, 0) != world->flamed)
		die("waitpid");
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	world->flamed = 0;
	if (sched_setaffinity(0, sizeof(world->processors), &world->processors) < 0)
		die("processors");
	return status;
}
