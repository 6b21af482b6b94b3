/* SPDX-License-Identifier: MIT */
/* The real flamed on a board in a directory: begin round trip over that of an
 * echo of the same bytes, both taken in turns, with both ends on one core and
 * on two; resident memory; wake-ups while nobody has a session; start to ready;
 * restore after kill -9. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/file.h"

#define BLOCKS      40
#define PER_BLOCK   250
#define IDLE_S      3
#define RESTORES    10
#define RESTORE_NS  (10 * NS_PER_S) /* past which it has failed */
#define REQUEST     "op=begin\nsession=%s\ndeadline_ns=50000000\n\n"
#define POLICY_MIN  "/sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq"

static char dir[] = "/tmp/flamed-bench-XXXXXX";
static pid_t flamed, echo;

static void fail(const char *what)
{
	fprintf(stderr, "bench-daemon: %s: %s\n", what, strerror(errno));
	exit(1);
}

static char *in_dir(const char *name)
{
	static char ring[4][256];
	static unsigned next;
	char *path = ring[next++ % 4];

	snprintf(path, sizeof(ring[0]), "%s/%s", dir, name);
	return path;
}

static pid_t start(char *const *argv)
{
	pid_t pid = fork();
	int fd;

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fd = open(in_dir("log"), O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	execv(argv[0], argv);
	_exit(127);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static int connect_within(const char *path, unsigned ms)
{
	int fd;

	while ((fd = connect_to(path)) < 0 && ms-- > 0)
		clock_sleep_ns(NS_PER_MS);
	if (fd < 0)
		fail(path);
	return fd;
}

/* Send, and receive up to the empty line that ends a message. */
static void ask(int fd, const char *message, char *reply, size_t size)
{
	size_t len = 0;

	if (write(fd, message, strlen(message)) < 0)
		fail("write");
	do {
		ssize_t n = read(fd, reply + len, size - len - 1);

		if (n <= 0)
			fail("read");
		len += (size_t)n;
		reply[len] = '\0';
	} while (len < 2 || strcmp(reply + len - 2, "\n\n") != 0);
}

static void value_of(const char *reply, const char *key, char *out, size_t size)
{
	const char *at = strstr(reply, key);

	if (!at) {
		fprintf(stderr, "bench-daemon: no %s in: %s\n", key, reply);
		exit(1);
	}
	at += strlen(key);
	snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
}

/* The plainest of echoes: blocking reads and writes. */
static pid_t start_echo(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	char buf[4096];
	ssize_t n;
	pid_t pid;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_dir("echo"));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0)
		fail("echo");
	pid = fork();
	if (pid != 0) {
		close(listener);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fd = accept(listener, NULL, NULL);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write(fd, buf, (size_t)n) < 0)
			break;
	_exit(0);
}

static int by_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t median(uint64_t *values, size_t count)
{
	qsort(values, count, sizeof(*values), by_u64);
	return values[count / 2];
}

/* On one core waking the other end is a switch, on two an interrupt; left to
 * the scheduler, begin and echo would be compared in different places. */
static void keep_on(pid_t pid, unsigned core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (sched_setaffinity(pid, sizeof(set), &set) < 0)
		fail("sched_setaffinity");
}

static void measure_begin(int fd, int echo_fd, unsigned server_core, const char *suffix)
{
	static uint64_t begin_ns[BLOCKS * PER_BLOCK], echo_ns[BLOCKS * PER_BLOCK];
	char session[32], request[32], begin[128], end[128], reply[4096];

	keep_on(0, 0);
	keep_on(flamed, server_core);
	keep_on(echo, server_core);
	ask(fd, "op=open\nmodel=bench\n\n", reply, sizeof(reply));
	value_of(reply, "session=", session, sizeof(session));
	snprintf(begin, sizeof(begin), REQUEST, session);
	for (size_t i = 0; i < BLOCKS * PER_BLOCK; i++) {
		uint64_t start_ns = clock_now_ns();

		ask(fd, begin, reply, sizeof(reply));
		begin_ns[i] = clock_now_ns() - start_ns;
		value_of(reply, "request=", request, sizeof(request));
		snprintf(end, sizeof(end), "op=end\nrequest=%s\ntotal_ns=30000000\nack=1\n\n", request);
		ask(fd, end, reply, sizeof(reply));
		if (i % PER_BLOCK != PER_BLOCK - 1)
			continue;
		for (size_t k = i + 1 - PER_BLOCK; k <= i; k++) {
			start_ns = clock_now_ns();
			ask(echo_fd, begin, reply, sizeof(reply));
			echo_ns[k] = clock_now_ns() - start_ns;
		}
	}
	/* The first block learns the model. */
	uint64_t of_begin = median(begin_ns + PER_BLOCK, (BLOCKS - 1) * PER_BLOCK);
	uint64_t of_echo = median(echo_ns + PER_BLOCK, (BLOCKS - 1) * PER_BLOCK);

	printf("begin_round_trip%s_us=%.2f us (median)\n", suffix, (double)of_begin / 1e3);
	printf("echo_round_trip%s_us=%.2f us (median)\n", suffix, (double)of_echo / 1e3);
	printf("begin_over_echo%s=%.2f ratio\n", suffix, (double)of_begin / (double)of_echo);
}

/* A number of /proc/PID/status. */
static double proc_status(pid_t pid, const char *key)
{
	char path[64], text[8192], *at;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (file_read_text(AT_FDCWD, path, text, sizeof(text)) < 0)
		fail(path);
	at = strstr(text, key);
	return at ? strtod(at + strlen(key), NULL) : 0;
}

static pid_t keeper_of(int fd)
{
	static char reply[65536];
	char pid[32];

	ask(fd, "op=status\n\n", reply, sizeof(reply));
	value_of(reply, "keeper.pid=", pid, sizeof(pid));
	return (pid_t)atoi(pid);
}

static void measure_rest(int fd)
{
	pid_t keeper = keeper_of(fd);
	double before;

	clock_sleep_ns(NS_PER_S / 10); /* asleep again after our question */
	before = proc_status(flamed, "\nvoluntary_ctxt_switches:") + proc_status(keeper, "\nvoluntary_ctxt_switches:");

	clock_sleep_ns(IDLE_S * NS_PER_S);
	printf("idle_wakeups=%.2f a second\n",
	       (proc_status(flamed, "\nvoluntary_ctxt_switches:") + proc_status(keeper, "\nvoluntary_ctxt_switches:") - before) / IDLE_S);
	printf("rss_mb=%.1f MB\n", (proc_status(flamed, "\nVmRSS:") + proc_status(keeper, "\nVmRSS:")) / 1024);
	printf("rss_own_mb=%.1f MB (without pages of files, which are shared)\n",
	       (proc_status(flamed, "\nRssAnon:") + proc_status(keeper, "\nRssAnon:")) / 1024);
}

static double start_flamed(void)
{
	char *root = strdup(in_dir("board")), *run = strdup(in_dir("run")), *state = strdup(in_dir("state")), *config = strdup(in_dir("conf"));
	char *argv[] = { "build/release/flamed", "--config", config, "--sysroot", root, "--runtime-dir", run, "--state-dir", state, NULL };
	uint64_t start_ns = clock_now_ns();
	char reply[1024];
	int fd;

	unlink(in_dir("run/flamed.sock"));
	flamed = start(argv);
	fd = connect_within(in_dir("run/flamed.sock"), 5000);
	ask(fd, "op=hello\n\n", reply, sizeof(reply));
	close(fd);
	free(root);
	free(run);
	free(state);
	free(config);
	return (double)(clock_now_ns() - start_ns) / 1e6;
}

static void read_knob(char *out, size_t size)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/board" POLICY_MIN, dir);
	if (file_read_text(AT_FDCWD, path, out, size) < 0)
		fail(path);
}

/* From kill -9 of flamed until the knob of the last clock put back reads as it
 * did; the longest of some. */
static void measure_restore(const char *original)
{
	char now[64], session[32], message[128], reply[4096];
	uint64_t worst_ns = 0;

	for (int i = 0; i < RESTORES; i++) {
		int fd = connect_within(in_dir("run/flamed.sock"), 1000);
		uint64_t start_ns;

		ask(fd, "op=open\nmodel=never-seen\n\n", reply, sizeof(reply));
		value_of(reply, "session=", session, sizeof(session));
		snprintf(message, sizeof(message), "op=begin\nsession=%s\ndeadline_ns=50000000\nwait=1\n\n", session);
		ask(fd, message, reply, sizeof(reply));
		start_ns = clock_now_ns();
		kill(flamed, SIGKILL);
		do
			read_knob(now, sizeof(now));
		while ((strcmp(now, original) != 0 || access(in_dir("state/journal"), F_OK) == 0) && clock_now_ns() - start_ns < RESTORE_NS);
		if (clock_now_ns() - start_ns > worst_ns)
			worst_ns = clock_now_ns() - start_ns;
		waitpid(flamed, NULL, 0);
		close(fd);
		start_flamed();
	}
	printf("restore_ms=%.1f ms (longest of %d)\n", (double)worst_ns / 1e6, RESTORES);
}

static void clean(void)
{
	char command[128];

	if (flamed > 0 && kill(flamed, SIGTERM) == 0)
		waitpid(flamed, NULL, 0);
	if (echo > 0 && kill(echo, SIGTERM) == 0)
		waitpid(echo, NULL, 0);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command) != 0)
		fprintf(stderr, "bench-daemon: %s is left\n", dir);
}

int main(void)
{
	char *board_argv[] = { "build/release/flamed-board", NULL, "--board", "board/orin-nano.ini", "--once", NULL };
	char original[64];
	double ready_ms;
	pid_t board;
	cpu_set_t cores;
	int fd, echo_fd;

	if (!mkdtemp(dir))
		fail(dir);
	board_argv[1] = strdup(in_dir("board"));
	dir_make(in_dir("run"), 0755);
	dir_make(in_dir("state"), 0755);
	close(open(in_dir("conf"), O_CREAT | O_WRONLY, 0644));
	board = start(board_argv);
	waitpid(board, NULL, 0);
	free(board_argv[1]);
	read_knob(original, sizeof(original));
	ready_ms = start_flamed();
	echo = start_echo();
	fd = connect_within(in_dir("run/flamed.sock"), 1000);
	echo_fd = connect_within(in_dir("echo"), 1000);
	sched_getaffinity(0, sizeof(cores), &cores);
	measure_begin(fd, echo_fd, 0, "");
	if (CPU_ISSET(1, &cores))
		measure_begin(fd, echo_fd, 1, "_two_cores");
	sched_setaffinity(0, sizeof(cores), &cores);
	sched_setaffinity(flamed, sizeof(cores), &cores);
	close(echo_fd);
	close(fd);
	clock_sleep_ns(NS_PER_S); /* the clocks are handed back, what was learned is stored */
	fd = connect_within(in_dir("run/flamed.sock"), 1000);
	measure_rest(fd);
	close(fd);
	measure_restore(original);
	printf("start_to_ready_ms=%.1f ms\n", ready_ms);
	clean();
	return 0;
}
