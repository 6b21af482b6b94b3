/* SPDX-License-Identifier: MIT */
#include "keeper_link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"

#define RETRY_NS_MIN    (100 * NS_PER_MS)
#define RETRY_NS_MAX    (30 * NS_PER_S)
#define GOODBYE_NS      (5 * NS_PER_S)
#define CHILD_FD        3 /* descriptor on which flamed-keeper expects its socket */
#define REPLIES_AT_ONCE 64

struct keeper_link {
	struct loop *loop;
	struct keeper_link_options options;
	struct keeper_link_events events;
	int fd;
	pid_t pid;   /* of the keeper started here, or of the peer */
	pid_t ended; /* a child that has closed its socket and is not reaped; 0: none */
	bool child;
	enum keeper_link_state state;
	struct loop_watch *watch, *retry;
	uint64_t retry_ns, serial;
	struct keeper_request newest; /* not sent yet, while `full` */
	bool full;
	bool rescan; /* KEEPER_RESCAN is to be sent after `newest` */
};

/* In the child: keep only its socket and the three standard descriptors. */
static void run_child(const struct keeper_link *link, int fd)
{
	char *argv[] = {"flamed-keeper",
			"--fd",
			"3",
			"--sysroot",
			(char *)link->options.sysroot,
			"--state-dir",
			(char *)link->options.state_dir,
			"--boards-dir",
			(char *)link->options.boards_dir,
			NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (fd == CHILD_FD)
		fcntl(fd, F_SETFD, 0);
	else if (dup2(fd, CHILD_FD) < 0)
		_exit(127);
	close_range(CHILD_FD + 1, ~0U, 0);
	execv(link->options.program, argv);
	_exit(127);
}

static int start_child(struct keeper_link *link)
{
	int pair[2];

	if (access(link->options.program, X_OK) < 0)
		return -errno; /* do not fork a child that could not execute it */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	link->pid = fork();
	if (link->pid == 0)
		run_child(link, pair[1]);
	close(pair[1]);
	if (link->pid < 0) {
		int rc = -errno;

		close(pair[0]);
		return rc;
	}
	link->child = true;
	return pair[0];
}

static int connect_service(struct keeper_link *link)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);
	int fd;

	if (strlen(link->options.socket) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, link->options.socket);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
		link->pid = peer.pid;
	link->child = false;
	return fd;
}

static void retry_later(struct keeper_link *link)
{
	link->retry_ns = link->retry_ns ? link->retry_ns * 2 : RETRY_NS_MIN;
	if (link->retry_ns > RETRY_NS_MAX)
		link->retry_ns = RETRY_NS_MAX;
	loop_timer_in(link->retry, link->retry_ns);
}

/* False while the child has not exited. */
static bool reaped(pid_t pid)
{
	int status;

	return waitpid(pid, &status, WNOHANG) != 0;
}

static void lose(struct keeper_link *link)
{
	loop_watch_free(link->watch);
	link->watch = NULL;
	close(link->fd);
	link->fd = -1;
	link->full = link->rescan = false;
	if (link->child && !reaped(link->pid))
		link->ended = link->pid;
	link->pid = 0;
	link->state = KEEPER_RESTARTING;
	log_error("the keeper exited unexpectedly; the next one restores the knobs that it left");
	link->events.lost(link->events.arg);
	retry_later(link);
}

/* Assign each descriptor of a HELLO reply to its rail and file. */
static void take_sensors(struct msghdr *msg, const struct keeper_reply *reply, int fds[RAILS_MAX][2])
{
	for (struct cmsghdr *head = CMSG_FIRSTHDR(msg); head; head = CMSG_NXTHDR(msg, head)) {
		size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
			size_t rail =
				i < reply->sensor_count && i < 2 * RAILS_MAX ? reply->sensor_rail[i] >> 1 : RAILS_MAX;
			if (rail < RAILS_MAX && fds[rail][reply->sensor_rail[i] & 1] < 0)
				fds[rail][reply->sensor_rail[i] & 1] = fd;
			else
				close(fd);
		}
	}
}

/* Returns 1 when a reply was handled, 0 when there is none, -1 at the end of the connection. */
static int take_reply(struct keeper_link *link)
{
	union {
		char bytes[CMSG_SPACE(2 * RAILS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct keeper_reply reply;
	struct iovec part = {&reply, sizeof(reply)};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	int fds[RAILS_MAX][2];
	ssize_t n = recvmsg(link->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	memset(fds, -1, sizeof(fds));
	if (n != sizeof(reply) || reply.magic != KEEPER_MAGIC) {
		log_error("protocol mismatch with the keeper (message of %zd bytes); is flamed-keeper of this release?",
			  n);
		return -1;
	}
	reply.text[sizeof(reply.text) - 1] = '\0';
	take_sensors(&msg, &reply, fds);
	link->state = KEEPER_RUNNING;
	link->retry_ns = 0;
	link->events.reply(link->events.arg, &reply, fds);
	return 1;
}

/* Returns 0, -EAGAIN while the socket is full, or another negative errno. */
static int send_newest(struct keeper_link *link)
{
	bool sent = send(link->fd, &link->newest, sizeof(link->newest), MSG_DONTWAIT | MSG_NOSIGNAL) ==
		    sizeof(link->newest);
	int rc = sent ? 0 : -errno;

	link->full = rc == -EAGAIN;
	if (link->watch && loop_fd_events(link->watch, LOOP_READ | (link->full ? LOOP_WRITE : 0)) < 0)
		return -ENOMEM;
	return rc;
}

static void on_ready(void *arg, unsigned events)
{
	struct keeper_link *link = arg;
	int rc = 1;

	/* take_reply() below finds out if the connection ended */
	if ((events & LOOP_WRITE) && link->full && send_newest(link) == 0 && link->rescan)
		keeper_link_rescan(link);
	for (int i = 0; i < REPLIES_AT_ONCE && rc > 0 && link->fd >= 0; i++)
		rc = take_reply(link);
	if (rc < 0 && link->fd >= 0)
		lose(link);
}

static void start(void *arg)
{
	struct keeper_link *link = arg;

	if (link->ended && !reaped(link->ended)) { /* the clocks are still its own */
		retry_later(link);
		return;
	}
	link->ended = 0;
	link->fd = link->options.socket ? connect_service(link) : start_child(link);
	if (link->fd >= 0)
		link->watch = loop_fd(link->loop, link->fd, LOOP_READ, on_ready, link);
	if (link->watch)
		loop_fd_first(link->watch, true);
	if (link->fd < 0 || !link->watch) {
		const char *what = link->options.socket ? link->options.socket : link->options.program;

		if (log_first("keeper start"))
			log_error("%s: %s; no clock is moved until the keeper answers", what,
				  strerror(link->fd < 0 ? -link->fd : ENOMEM));
		if (link->fd >= 0) {
			close(link->fd);
			link->ended = link->child ? link->pid : 0;
		}
		link->fd = -1;
		link->state = KEEPER_ABSENT;
		retry_later(link);
		return;
	}
	log_forget("keeper start");
	link->state = KEEPER_STARTING;
}

struct keeper_link *keeper_link_new(struct loop *loop, const struct keeper_link_options *options,
				    const struct keeper_link_events *events)
{
	struct keeper_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->loop = loop;
	link->options = *options;
	link->events = *events;
	link->fd = -1;
	link->retry = loop_timer(loop, start, link);
	if (!link->retry) {
		free(link);
		return NULL;
	}
	start(link);
	return link;
}

/* The keeper restores every knob and exits when our end of the socket closes. */
static void wait_child(pid_t pid)
{
	uint64_t until_ns = clock_now_ns() + GOODBYE_NS;
	int status;

	while (clock_now_ns() < until_ns) {
		pid_t rc = waitpid(pid, &status, WNOHANG);

		if (rc == pid || (rc < 0 && errno != EINTR))
			return;
		clock_sleep_ns(NS_PER_MS);
	}
	log_error("the keeper did not exit within 5 s; not waiting any longer");
}

void keeper_link_free(struct keeper_link *link)
{
	if (!link)
		return;
	loop_watch_free(link->watch);
	loop_watch_free(link->retry);
	if (link->fd >= 0)
		close(link->fd);
	if (link->child && link->pid > 0)
		wait_child(link->pid);
	free(link);
}

/* Only the newest message counts: it replaces one that is not sent yet. */
static uint64_t send_request(struct keeper_link *link, enum keeper_op op, struct op_point point)
{
	int rc;

	if (link->fd < 0)
		return 0;
	link->newest = (struct keeper_request){.magic = KEEPER_MAGIC,
					       .op = (uint32_t)op,
					       .serial = ++link->serial,
					       .point = point};
	rc = link->full ? 0 : send_newest(link);
	return rc == 0 || rc == -EAGAIN ? link->newest.serial : 0;
}

uint64_t keeper_link_apply(struct keeper_link *link, struct op_point point)
{
	return send_request(link, KEEPER_APPLY, point);
}

uint64_t keeper_link_release(struct keeper_link *link)
{
	return send_request(link, KEEPER_RELEASE, (struct op_point){0});
}

/* While the socket is full, `newest` is a target or a release that must not be lost, or may be replaced by one. */
void keeper_link_rescan(struct keeper_link *link)
{
	if (!link->full)
		send_request(link, KEEPER_RESCAN, (struct op_point){0});
	link->rescan = link->full;
}

uint64_t keeper_link_sensors(struct keeper_link *link)
{
	uint64_t serial = link->full ? 0 : send_request(link, KEEPER_SENSORS, (struct op_point){0});

	return link->full ? 0 : serial; /* a target may replace one that is not sent */
}

enum keeper_link_state keeper_link_state(const struct keeper_link *link)
{
	return link ? link->state : KEEPER_ABSENT;
}

pid_t keeper_link_pid(const struct keeper_link *link)
{
	return link ? link->pid : 0;
}
