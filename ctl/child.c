/* SPDX-License-Identifier: MIT */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../common/clock.h"
#include "layers.h"
#include "installation.h"

#define WITNESS_MS 20 /* by then the kernel has long delivered the signal to the group */

static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT};

static void watched(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(*forwarded); i++)
		sigaddset(set, forwarded[i]);
}

/* A signal sent to the whole process group has reached the program too, and must not be forwarded.
 * A signal does not carry that information, so a witness process in the group reports those that it
 * receives. */
static struct {
	pid_t pid;
	int fd;
} witness = {.fd = -1};

static void listen_only(int fd, pid_t parent)
{
	sigset_t set;
	char number; /* unsigned, as plain char is on some processors: -1 must not pass through it */
	int got;

	watched(&set);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(fd, 0) < 0 || getppid() != parent || close_range(1, UINT_MAX, 0) < 0)
		_exit(1);
	do {
		got = sigwaitinfo(&set, NULL);
		number = (char)got;
	} while (got < 0 || write(0, &number, 1) == 1);
	_exit(0);
}

/* The watched signals are already blocked. Without the witness, every signal is forwarded. */
static void start_witness(void)
{
	pid_t parent = getpid();
	int ends[2];

	if (witness.pid > 0 || pipe2(ends, O_CLOEXEC) < 0)
		return;
	witness.pid = fork();
	if (witness.pid == 0)
		listen_only(ends[1], parent);
	close(ends[1]);
	witness.fd = ends[0];
}

static bool went_to_the_group(int signal_number)
{
	struct pollfd fd = {.fd = witness.fd, .events = POLLIN};
	char number = 0;

	while (number != signal_number && poll(&fd, 1, WITNESS_MS) == 1)
		if (read(witness.fd, &number, 1) != 1)
			return false;
	return number == signal_number;
}

static void set_number(const char *name, uint64_t value)
{
	char text[24];

	if (value == 0)
		return;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	setenv(name, text, 1);
}

static void set_environment(const struct ctl *ctl, const struct child_setup *setup)
{
	char path[PATH_MAX];

	/* absolute, as the program may change its directory before it connects */
	if (realpath(ctl->socket, path))
		setenv("FLAMED_SOCKET", path, 1);
	setenv("FLAMED_MODEL", setup->model, 1);
	/* a setting of an outer flamectl run must not override ours */
	unsetenv("FLAMED_DEADLINE_NS");
	unsetenv("FLAMED_RATE_MHZ");
	unsetenv("FLAMED_FIRST_NS");
	set_number("FLAMED_DEADLINE_NS", setup->deadline_ns);
	set_number("FLAMED_RATE_MHZ", setup->rate_mhz);
	set_number("FLAMED_FIRST_NS", setup->first_ns);
	if (setup->tag)
		setenv("FLAMED_TAG", setup->tag, 1);
	if (setup->profile)
		setenv("FLAMED_PROFILE", "1", 1);
	unsetenv("FLAMED_CUPTI");
	if (setup->cupti)
		setenv("FLAMED_CUPTI", "1", 1);
	set_number("FLAMED_BUDGET", setup->budget);
	if (setup->summary)
		setenv("FLAMED_SUMMARY", setup->summary, 1);
	layers_set_environment();
}

static void drop_output(void)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		dup2(fd, STDOUT_FILENO);
}

pid_t child_start(const struct ctl *ctl, char *const *argv, const struct child_setup *setup)
{
	sigset_t set, before;
	int error;
	pid_t pid;

	watched(&set);
	sigprocmask(SIG_BLOCK, &set, &before);
	fflush(NULL);
	if (!setup->own_group)
		start_witness();
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		if (setup->own_group)
			setpgid(pid, pid); /* in both processes, so that it is done before either continues */
		return pid;
	}
	if (setup->own_group)
		setpgid(0, 0);
	sigdelset(&before, SIGCHLD);
	sigprocmask(SIG_SETMASK, &before, NULL);
	set_environment(ctl, setup);
	if (setup->quiet)
		drop_output();
	if (setup->directory && chdir(setup->directory) < 0) {
		ctl_error(ctl, "%s: %s", setup->directory, strerror(errno));
		_exit(126);
	}
	execvp(argv[0], argv);
	error = errno;
	ctl_error(ctl, "%s: %s", argv[0], strerror(error));
	_exit(error == ENOENT ? 127 : 126);
}

int child_wait(pid_t pid, uint64_t timeout_ns, int *status, bool *interrupted)
{
	uint64_t until_ns = clock_now_ns() + timeout_ns;
	sigset_t set;

	watched(&set);
	for (;;) {
		uint64_t now_ns = clock_now_ns(), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
		struct timespec timeout = {(time_t)(left_ns / NS_PER_S), (long)(left_ns % NS_PER_S)};
		siginfo_t info;
		int signal_number;
		bool group;

		if (waitpid(pid, status, WNOHANG) == pid)
			return 1;
		signal_number = sigtimedwait(&set, &info, &timeout);
		if (signal_number < 0 && errno == EAGAIN)
			return 0;
		if (signal_number <= 0 || signal_number == SIGCHLD)
			continue;
		group = went_to_the_group(signal_number) || info.si_code == SI_KERNEL;
		if (!group || getpgid(pid) != getpgrp())
			kill(pid, signal_number);
		if (interrupted && signal_number != SIGCONT && signal_number != SIGUSR1 && signal_number != SIGUSR2)
			*interrupted = true;
	}
}

int child_exit(int status)
{
	const struct rlimit no_core = {0, 0};
	sigset_t set;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	setrlimit(RLIMIT_CORE, &no_core); /* the program has dumped its core already */
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, WTERMSIG(status));
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}
