/* SPDX-License-Identifier: MIT */
/* The real flamed on a board in a directory: the round trip of a begin over that of an
 * echo of the same bytes, measured in turns, with both ends on one core and
 * on two; resident memory; wake-ups without a session; time from start to ready;
 * restore after kill -9. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/file.h"
#include "../common/limits.h"
#include "bench/client.h"
#include "bench/worst.h"

#define BLOCKS     40
#define PER_BLOCK  250
#define IDLE_S     3
#define RESTORES   10
#define BESIDE     4000            /* round trips alone and beside each kind */
#define RESTORE_NS (10 * NS_PER_S) /* after this time the restore has failed */
#define POLICY_MIN "/sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq"

/* in memory, like sysfs: writing to a disk would take longer */
static char board_dir[] = "/dev/shm/flamed-bench-XXXXXX";
static pid_t flamed, echo;

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

/* A minimal echo server: blocking reads and writes. */
static pid_t start_echo(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
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

	clock_sleep_ns(NS_PER_S / 10); /* until it sleeps again after this question */
	before = proc_status(flamed, "\nvoluntary_ctxt_switches:") + proc_status(keeper, "\nvoluntary_ctxt_switches:");

	clock_sleep_ns(IDLE_S * NS_PER_S);
	printf("idle_wakeups=%.2f a second\n", (proc_status(flamed, "\nvoluntary_ctxt_switches:") +
						proc_status(keeper, "\nvoluntary_ctxt_switches:") - before) /
						       IDLE_S);
	printf("rss_mb=%.1f MB\n", (proc_status(flamed, "\nVmRSS:") + proc_status(keeper, "\nVmRSS:")) / 1024);
	printf("rss_own_mb=%.1f MB (without pages of files, which are shared)\n",
	       (proc_status(flamed, "\nRssAnon:") + proc_status(keeper, "\nRssAnon:")) / 1024);
}

static pid_t start_worst(void (*what)(void), uid_t uid)
{
	struct rlimit files = {QUESTIONERS + 64, QUESTIONERS + 64};
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid != 0)
		return pid;
	(void)!freopen("/dev/null", "w", stderr);
	sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
	(void)!setpriority(PRIO_PROCESS, 0, 19);
	setrlimit(RLIMIT_NOFILE, &files);
	if (setgid(uid) < 0 || setuid(uid) < 0)
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	what();
	_exit(0);
}

/* Real-time priority for both ends: the figures are of flamed, not of the scheduler. */
static void put_first(bool first)
{
	struct sched_param param = {.sched_priority = first};

	if (sched_setscheduler(0, first ? SCHED_FIFO : SCHED_OTHER, &param) < 0 ||
	    sched_setscheduler(flamed, first ? SCHED_FIFO : SCHED_OTHER, &param) < 0)
		fail("sched_setscheduler");
}

struct round_trips {
	double p99_us, longest_ms;
};

static struct round_trips begins(int fd, const char *session, size_t count)
{
	static uint64_t took_ns[BESIDE];
	char begin[128], end[128], request[32], reply[4096];

	snprintf(begin, sizeof(begin), REQUEST, session);
	for (size_t i = 0; i < count; i++) {
		uint64_t start_ns = clock_now_ns();

		ask(fd, begin, reply, sizeof(reply));
		took_ns[i] = clock_now_ns() - start_ns;
		value_of(reply, "request=", request,
			 sizeof(request)); /* fails if the begin was refused: it is within the user's share */
		snprintf(end, sizeof(end), "op=end\nrequest=%s\ntotal_ns=30000000\nack=1\n\n", request);
		ask(fd, end, reply, sizeof(reply));
		clock_sleep_ns(NS_PER_MS / 2);
	}
	qsort(took_ns, count, sizeof(*took_ns), by_u64);
	return (struct round_trips){(double)took_ns[count * 99 / 100] / 1e3, (double)took_ns[count - 1] / 1e6};
}

static void open_session(int fd, char *session, size_t size)
{
	char reply[4096];

	ask(fd, "op=open\nmodel=bench\n\n", reply, sizeof(reply));
	value_of(reply, "session=", session, size);
}

/* A kind that fills its share of memory can do so only while nobody else has a session. */
static pid_t start_full(int fd, const struct worst_kind *kind, char *session, size_t size)
{
	int done[2], out = dup(STDOUT_FILENO);
	char message[128], reply[4096];
	pid_t pid;

	if (out < 0 || pipe(done) < 0)
		fail("pipe");
	snprintf(message, sizeof(message), "op=close\nsession=%s\n\n", session);
	ask(fd, message, reply, sizeof(reply));
	fflush(stdout);
	dup2(done[1], STDOUT_FILENO);
	pid = start_worst(kind->run, OTHER_UID);
	dup2(out, STDOUT_FILENO);
	close(out);
	close(done[1]);
	if (read(done[0], reply, 1) != 1)
		fail(kind->name);
	close(done[0]);
	open_session(fd, session, size);
	return pid;
}

static void measure_beside(const char *only)
{
	double ratio = 0, longest_ms = 0;
	char session[32];
	static char reply[65536];
	int fd;

	if (geteuid() != 0) {
		printf("# beside_p99_ratio is not measured: only root can play another user\n"
		       "# beside_longest_ms is not measured: only root can play another user\n");
		return;
	}
	if (chmod(bench_dir, 0711) < 0 || chmod(in_dir("run/flamed.sock"), 0666) < 0)
		fail("chmod");
	fd = connect_within(in_dir("run/flamed.sock"), 1000);
	ask(fd, "op=status\n\n", reply, sizeof(reply));
	value_of(reply, "board.power_mode=", session, sizeof(session));
	snprintf(reply, sizeof(reply), "@%d", OTHER_UID);
	worst_write_models(session, reply);
	worst_write_full(session, reply);
	open_session(fd, session, sizeof(session));
	put_first(true);
	begins(fd, session, BESIDE);
	for (size_t i = 0; i < WORST_KINDS; i++) {
		if (only && strcmp(only, worst_kinds[i].name) != 0)
			continue;
		struct round_trips alone = begins(fd, session, BESIDE), beside;
		pid_t pid = worst_kinds[i].fills ? start_full(fd, &worst_kinds[i], session, sizeof(session)) :
						   start_worst(worst_kinds[i].run, OTHER_UID);

		clock_sleep_ns(NS_PER_S);
		beside = begins(fd, session, BESIDE);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		clock_sleep_ns(NS_PER_S / 2);
		printf("beside_%s_p99_us=%.1f us (alone %.1f)\n", worst_kinds[i].name, beside.p99_us, alone.p99_us);
		printf("beside_%s_longest_ms=%.2f ms (alone %.2f)\n", worst_kinds[i].name, beside.longest_ms,
		       alone.longest_ms);
		ratio = beside.p99_us / alone.p99_us > ratio ? beside.p99_us / alone.p99_us : ratio;
		longest_ms = beside.longest_ms > longest_ms ? beside.longest_ms : longest_ms;
	}
	printf("beside_p99_ratio=%.2f ratio\n", ratio);
	printf("beside_longest_ms=%.2f ms\n", longest_ms);
	put_first(false);
	printf("beside_rss_mb=%.1f MB\n",
	       (proc_status(flamed, "\nVmRSS:") + proc_status(keeper_of(fd), "\nVmRSS:")) / 1024);
	close(fd);
}

/* Resident memory of both processes while USERS_FULL users each hold the most that one user may. */
static void measure_full(void)
{
	static char reply[65536];
	pid_t pid[USERS_FULL];
	int done[2], fd;
	char byte;

	if (geteuid() != 0) {
		printf("# full_rss_mb is not measured: only root can play other users\n");
		return;
	}
	if (pipe(done) < 0 || chmod(bench_dir, 0711) < 0 || chmod(in_dir("run/flamed.sock"), 0666) < 0)
		fail("pipe");
	/* one after the other, as a user who is not alone may delay others only briefly */
	for (unsigned i = 0; i < USERS_FULL; i++)
		waitpid(start_worst(worst_fill_models, OTHER_UID - 1 - i), NULL, 0);
	for (unsigned i = 0; i < USERS_FULL; i++) {
		fflush(stdout);
		int out = dup(STDOUT_FILENO);
		dup2(done[1], STDOUT_FILENO);
		pid[i] = start_worst(worst_hold_everything, OTHER_UID - 1 - i);
		dup2(out, STDOUT_FILENO);
		close(out);
	}
	for (unsigned i = 0; i < USERS_FULL; i++)
		(void)!read(done[0], &byte, 1);
	fd = connect_within(in_dir("run/flamed.sock"), 1000);
	ask(fd, "op=status\n\n", reply, sizeof(reply));
	value_of(reply, "sessions=", reply, 16);
	printf("full_rss_mb=%.1f MB (%s sessions)\n",
	       (proc_status(flamed, "\nVmRSS:") + proc_status(keeper_of(fd), "\nVmRSS:")) / 1024, reply);
	for (unsigned i = 0; i < USERS_FULL; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	close(fd);
	close(done[0]);
	close(done[1]);
}

static double start_flamed(void)
{
	char *run = strdup(in_dir("run")), *state = strdup(in_dir("state")), *config = strdup(in_dir("conf"));
	char *argv[] = {"build/release/flamed", "--config", config,        "--sysroot", board_dir,
			"--runtime-dir",        run,        "--state-dir", state,       NULL};
	uint64_t start_ns = clock_now_ns();
	char reply[1024];
	int fd;

	unlink(in_dir("run/flamed.sock"));
	flamed = start(argv);
	fd = connect_within(in_dir("run/flamed.sock"), 5000);
	ask(fd, "op=hello\n\n", reply, sizeof(reply));
	close(fd);
	free(run);
	free(state);
	free(config);
	return (double)(clock_now_ns() - start_ns) / 1e6;
}

static void read_knob(char *out, size_t size)
{
	char path[256];

	snprintf(path, sizeof(path), "%s" POLICY_MIN, board_dir);
	if (file_read_text(AT_FDCWD, path, out, size) < 0)
		fail(path);
}

/* From kill -9 of flamed until the knob that is restored last has its original value, and until the
 * journal is removed, which waits for the disk; the longest of RESTORES. */
static void measure_restore(const char *original)
{
	char now[64], session[32], message[128], reply[4096];
	uint64_t knob_ns = 0, journal_ns = 0;

	for (int i = 0; i < RESTORES; i++) {
		int fd = connect_within(in_dir("run/flamed.sock"), 1000);
		uint64_t start_ns, took_ns;

		ask(fd, "op=open\nmodel=never-seen\n\n", reply, sizeof(reply));
		value_of(reply, "session=", session, sizeof(session));
		snprintf(message, sizeof(message), "op=begin\nsession=%s\ndeadline_ns=50000000\nwait=1\n\n", session);
		ask(fd, message, reply, sizeof(reply));
		read_knob(now, sizeof(now));
		if (strcmp(now, original) == 0)
			fail("the knob was not written");
		start_ns = clock_now_ns();
		kill(flamed, SIGKILL);
		do {
			read_knob(now, sizeof(now));
			took_ns = clock_now_ns() - start_ns;
		} while (strcmp(now, original) != 0 && took_ns < RESTORE_NS);
		knob_ns = took_ns > knob_ns ? took_ns : knob_ns;
		while (access(in_dir("state/journal"), F_OK) == 0 && took_ns < RESTORE_NS)
			took_ns = clock_now_ns() - start_ns;
		journal_ns = took_ns > journal_ns ? took_ns : journal_ns;
		waitpid(flamed, NULL, 0);
		close(fd);
		start_flamed();
	}
	printf("restore_ms=%.1f ms (longest of %d)\n", (double)knob_ns / 1e6, RESTORES);
	printf("journal_removed_ms=%.1f ms (longest of %d)\n", (double)journal_ns / 1e6, RESTORES);
}

/* With more models of the administrator on disk than it may have in memory. */
static void measure_start_full(void)
{
	char mode[64];
	static char reply[65536];
	int fd = connect_within(in_dir("run/flamed.sock"), 1000);

	ask(fd, "op=status\n\n", reply, sizeof(reply));
	value_of(reply, "board.power_mode=", mode, sizeof(mode));
	close(fd);
	kill(flamed, SIGTERM);
	waitpid(flamed, NULL, 0);
	dir_make(in_dir("state/models"), 0755);
	worst_write_models(mode, "");
	printf("start_full_ms=%.1f ms (80 models of 4,000 samples)\n", start_flamed());
}

static void clean(void)
{
	char command[128];

	if (flamed > 0 && kill(flamed, SIGTERM) == 0)
		waitpid(flamed, NULL, 0);
	if (echo > 0 && kill(echo, SIGTERM) == 0)
		waitpid(echo, NULL, 0);
	snprintf(command, sizeof(command), "rm -rf %s %s", bench_dir, board_dir);
	if (system(command) != 0)
		fprintf(stderr, "bench-daemon: %s or %s is left\n", bench_dir, board_dir);
}

/* Models are saved every second, so that saves fall into every measurement. */
static void write_config(void)
{
	FILE *file = fopen(in_dir("conf"), "w");

	if (!file)
		fail("conf");
	fputs("[flamed]\nsave_interval = 1 s\n", file);
	fclose(file);
}

/* usage: bench-daemon [full | restore | start | models | layers | fits | questions | profiles | requests |
 * contexts | saves]   that alone */
int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	char *board_argv[] = {"build/release/flamed-board", board_dir, "--board",
			      "board/orin-nano.ini",        "--once",  NULL};
	char original[64];
	double ready_ms;
	pid_t board;
	cpu_set_t cores;
	int fd, echo_fd;

	if (!mkdtemp(bench_dir) || !mkdtemp(board_dir))
		fail(bench_dir);
	dir_make(in_dir("run"), 0755);
	dir_make(in_dir("state"), 0755);
	write_config();
	board = start(board_argv);
	waitpid(board, NULL, 0);
	read_knob(original, sizeof(original));
	ready_ms = start_flamed();
	echo = start_echo();
	fd = connect_within(in_dir("run/flamed.sock"), 1000);
	echo_fd = connect_within(in_dir("echo"), 1000);
	sched_getaffinity(0, sizeof(cores), &cores);
	if (!only)
		measure_begin(fd, echo_fd, 0, "");
	if (!only && CPU_ISSET(1, &cores))
		measure_begin(fd, echo_fd, 1, "_two_cores");
	sched_setaffinity(0, sizeof(cores), &cores);
	sched_setaffinity(flamed, sizeof(cores), &cores);
	close(echo_fd);
	close(fd);
	clock_sleep_ns(NS_PER_S); /* until the clocks are restored and the models are saved */
	fd = connect_within(in_dir("run/flamed.sock"), 1000);
	if (!only)
		measure_rest(fd);
	close(fd);
	if (!only || strcmp(only, "full") == 0)
		measure_full();
	if (!only || (strcmp(only, "restore") != 0 && strcmp(only, "full") != 0 && strcmp(only, "start") != 0))
		measure_beside(only);
	if (!only || strcmp(only, "restore") == 0)
		measure_restore(original);
	printf("start_to_ready_ms=%.1f ms\n", ready_ms);
	if (!only || strcmp(only, "start") == 0)
		measure_start_full();
	clean();
	return 0;
}
