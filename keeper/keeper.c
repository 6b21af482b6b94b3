/* SPDX-License-Identifier: MIT */
/* The keeper's loop: one socket, one table of knobs, one exit path. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "../probes/sysroot.h"
#include "owner.h"
#include "table.h"
#include "uevent.h"

#define LOST_SCAN_NS     (500 * NS_PER_MS) /* interval of scans for a lost device while a target is in force */
#define UEVENT_SCAN_NS   (50 * NS_PER_MS)  /* delay after a uevent: drivers need some time to become ready */
#define CHECK_NS         NS_PER_S          /* interval of checks of the target in force */
#define JOURNAL_RETRY_NS NS_PER_S          /* retry interval of a failed journal write */
#define RELEASE_RETRY_NS NS_PER_S
#define LEFTOVER_NS      NS_PER_S /* retry interval of a failed restore */
#define GOODBYE_TRIES    5        /* attempts to restore after flamed has ended, RESTORE_PATIENCE_NS each */
#define MESSAGES_AT_ONCE 4096     /* read before a target is applied; no client queues more */

struct keeper {
	int fd, uevent_fd; /* uevent_fd: negative errno if there is none */
	int peer_fd;       /* pidfd of flamed; negative errno if there is none */
	struct keeper_table table;
	bool have_target;
	struct op_point target;
	uint64_t serial;
	uint64_t scan_ns, again_ns;   /* next scan for devices; next retry of the journal or a release; 0: none */
	uint64_t check_ns;            /* next check of the target; 0: no target */
	struct keeper_reply reported; /* last report sent, so that only changes are reported */
	uint32_t boards;              /* number of device changes */
	bool news;                    /* a uevent reported a device change */
	uint64_t leftover_ns;         /* next attempt to restore remaining knobs; 0: none */
	bool replay_owed;             /* a journal left behind could not be read */
};

/* The effect of a batch of messages: the newest target, and earlier operations that still matter. */
struct batch_effect {
	bool closed, rescan, release, apply, sensors;
	uint64_t serial;
	struct op_point point;
};

static volatile sig_atomic_t terminated;

static void on_term(int sig)
{
	(void)sig;
	terminated = 1;
}

/* Signals are delivered only during ppoll(). */
static void catch_signals(sigset_t *waiting)
{
	struct sigaction term = {.sa_handler = on_term}, ignore = {.sa_handler = SIG_IGN};
	sigset_t block;

	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, waiting);
	sigdelset(waiting, SIGTERM);
	sigaction(SIGTERM, &term, NULL);
	/* signals from a terminal or a broken pipe are left to flamed; the keeper exits when
	 * flamed's end closes */
	sigaction(SIGINT, &ignore, NULL);
	sigaction(SIGHUP, &ignore, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

static void reply_send(const struct keeper *k, struct keeper_reply *reply, const int *fds, size_t count)
{
	union {
		char bytes[CMSG_SPACE(2 * RAILS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {reply, sizeof(*reply)};
	struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};

	reply->magic = KEEPER_MAGIC;
	reply->sensor_count = (uint32_t)count;
	if (count) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(head), fds, count * sizeof(int));
	}
	/* do not wait for a flamed that does not read; poll reports when its end closes */
	if (sendmsg(k->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		log_warning("keeper: a reply was lost: %s", strerror(errno));
}

/* Report values that flamed may be unable to read: ceilings, and the memory clock's table. */
static void report_found(const struct keeper *k, struct keeper_reply *reply)
{
	for (size_t i = 0; i < k->table.count; i++) {
		const struct knob_group *g = &k->table.group[i];
		if (!g->lead)
			continue;
		reply->ceiling.hz[g->clock] = group_found_ceiling(&k->table, g);
		if (g->device.method == METHOD_BPMP_EMC) {
			reply->mem_steps = (uint32_t)g->device.count;
			memcpy(reply->mem_hz, g->device.hz, sizeof(reply->mem_hz));
		}
	}
}

static void report(struct keeper *k, enum keeper_op op, const struct write_times *times)
{
	struct keeper_reply reply = {.op = (uint32_t)op, .serial = k->serial};

	table_report(&k->table, &reply);
	reply.boards = k->boards;
	if (!k->have_target)
		report_found(k, &reply);
	if (times) {
		memcpy(reply.write_ns, times->all_ns, sizeof(reply.write_ns));
		memcpy(reply.up_ns, times->up_ns, sizeof(reply.up_ns));
		memcpy(reply.down_ns, times->down_ns, sizeof(reply.down_ns));
	}
	k->reported = reply;
	reply_send(k, &reply, NULL, 0);
}

/* Send a notice if anything differs from the last report. */
static void report_news(struct keeper *k)
{
	struct keeper_reply now = {0};

	table_report(&k->table, &now);
	if (memcmp(&now.actual, &k->reported.actual, sizeof(now.actual)) ||
	    memcmp(&now.ceiling, &k->reported.ceiling, sizeof(now.ceiling)) ||
	    memcmp(now.error, k->reported.error, sizeof(now.error)) ||
	    memcmp(now.state, k->reported.state, sizeof(now.state)))
		report(k, KEEPER_NOTICE, NULL);
}

static void hello(struct keeper *k)
{
	struct keeper_reply reply = {.op = KEEPER_HELLO, .serial = k->serial, .boards = k->boards};
	struct op_point ceiling;
	int fds[2 * RAILS_MAX];
	size_t n = 0;

	table_report(&k->table, &reply);
	ceiling = reply.ceiling;
	report_found(k, &reply);
	if (k->have_target)
		reply.ceiling = ceiling;
	for (size_t i = 0; i < k->table.rails; i++)
		for (int file = 0; k->table.rail[i].root_only && file < 2 && k->table.rail[i].path[file][0]; file++) {
			char path[SYSFS_PATH_MAX];
			int fd = sysroot_resolve(k->table.root, k->table.rail[i].path[file], path, sizeof(path));
			if (fd == 0)
				fd = sysroot_open(k->table.root, path, O_RDONLY | O_NONBLOCK);
			if (fd < 0) {
				log_warning("%s: %s", k->table.rail[i].path[file], strerror(-fd));
				continue;
			}
			reply.sensor_rail[n] = (uint8_t)(i << 1 | (unsigned)file);
			fds[n++] = fd;
		}
	reply_send(k, &reply, fds, n);
	while (n > 0)
		close(fds[--n]);
}

static void take(struct batch_effect *b, const struct keeper_request *request)
{
	switch (request->op) {
	case KEEPER_APPLY:
		b->apply = true;
		b->point = request->point;
		break;
	case KEEPER_RELEASE:
		b->release = true;
		b->apply = false;
		break;
	case KEEPER_RESCAN: b->rescan = true; break;
	case KEEPER_SENSORS: b->sensors = true; break;
	default:
		if (log_first("keeper: op"))
			log_warning("keeper: unknown operation %u", request->op);
		return;
	}
	b->serial = request->serial;
}

/* Receive all queued messages. */
static void drain(struct keeper *k, struct batch_effect *b)
{
	struct keeper_request request;

	for (unsigned i = 0; i < MESSAGES_AT_ONCE; i++) {
		ssize_t n = recv(k->fd, &request, sizeof(request), MSG_DONTWAIT | MSG_TRUNC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			b->closed = true;
			return;
		}
		if (n == sizeof(request) && request.magic == KEEPER_MAGIC)
			take(b, &request);
		else if (log_first("keeper: size"))
			log_warning("keeper: ignored a message of invalid size (%zd bytes)", n);
	}
}

static void apply(struct keeper *k, enum apply_which which, enum keeper_op op)
{
	struct write_times times = {0};
	struct replay replay;

	if (k->replay_owed && k->table.journal.fd < 0 &&
	    keeper_restore(k->table.root, k->table.journal.path, &replay) >= 0)
		k->replay_owed = table_take_leftovers(&k->table) < 0;
	if (table_resumed(&k->table)) /* found out once: every knob may have its original value again */
		which = APPLY_ALL;
	table_apply(&k->table, &k->target, which, &times);
	k->check_ns = clock_now_ns() + CHECK_NS;
	k->again_ns = k->table.journal_error < 0 ? clock_now_ns() + JOURNAL_RETRY_NS : 0;
	if (!k->news)
		k->scan_ns = table_has_lost(&k->table) ? clock_now_ns() + LOST_SCAN_NS : 0;
	if (which == APPLY_CHECK)
		report_news(k);
	else
		report(k, op, &times);
}

/* Knobs that cannot be restored now stay in the journal. */
static int release(struct keeper *k)
{
	int rc = table_release(&k->table, RESTORE_PATIENCE_NS);

	k->have_target = false;
	if (!k->news)
		k->scan_ns = 0;
	k->again_ns = k->table.journal.count && !k->table.leftovers ? clock_now_ns() + RELEASE_RETRY_NS : 0;
	k->leftover_ns = k->table.leftovers ? clock_now_ns() + LEFTOVER_NS : 0;
	return rc;
}

static void restore_leftovers(struct keeper *k)
{
	if (table_restore_leftovers(&k->table))
		log_notice("restored the knobs of a device that had been absent");
	k->leftover_ns = k->table.leftovers ? clock_now_ns() + LEFTOVER_NS : 0;
}

static void handle_batch(struct keeper *k, const struct batch_effect *b)
{
	if (b->serial)
		k->serial = b->serial;
	/* a release that was followed by a target still clears the record of foreign owners */
	if (b->release)
		release(k);
	if (b->rescan) {
		k->table.rewrite_masks = true;
		table_scan(&k->table);
	}
	if (b->apply) {
		k->have_target = true;
		k->target = b->point;
	}
	if (k->have_target && (b->apply || b->rescan))
		apply(k, APPLY_ALL, b->apply ? KEEPER_APPLIED : KEEPER_NOTICE);
	else if (b->release)
		report(k, KEEPER_RELEASED, NULL);
	else if (b->rescan)
		report(k, KEEPER_NOTICE, NULL);
	if (b->sensors) {
		table_scan_sensors(&k->table);
		hello(k);
	}
}

/* Scan for devices; apply the target in force to those that appeared or disappeared. */
static void scan(struct keeper *k)
{
	bool news = k->news;

	k->news = false;
	k->scan_ns = table_has_lost(&k->table) && k->have_target ? clock_now_ns() + LOST_SCAN_NS : 0;
	table_scan(&k->table);
	if (k->table.leftovers)
		restore_leftovers(k);
	if (news) {
		k->boards++;
		if (!k->have_target)
			report(k, KEEPER_NOTICE, NULL);
	}
	if (k->have_target && (news || !table_has_lost(&k->table)))
		apply(k, APPLY_ALL, KEEPER_NOTICE);
}

static void run_timers(struct keeper *k)
{
	uint64_t now_ns = clock_now_ns(), retry_ns = table_retry_ns(&k->table);

	if (k->again_ns && k->again_ns <= now_ns) {
		if (k->have_target) {
			apply(k, APPLY_ALL, KEEPER_NOTICE);
		} else {
			release(k);
			report(k, KEEPER_NOTICE, NULL);
		}
	} else if (k->leftover_ns && k->leftover_ns <= now_ns) {
		restore_leftovers(k);
	} else if (k->scan_ns && k->scan_ns <= now_ns) {
		scan(k);
	} else if (retry_ns && retry_ns <= now_ns && k->have_target) {
		apply(k, APPLY_DUE, KEEPER_NOTICE);
	} else if (k->check_ns && k->check_ns <= now_ns && k->have_target) {
		apply(k, APPLY_CHECK, KEEPER_NOTICE);
	}
}

static uint64_t next_timer_ns(const struct keeper *k)
{
	uint64_t timer[] = {k->again_ns, k->scan_ns, k->leftover_ns, k->have_target ? table_retry_ns(&k->table) : 0,
			    k->have_target ? k->check_ns : 0};
	uint64_t earliest = 0;

	for (size_t i = 0; i < sizeof(timer) / sizeof(timer[0]); i++)
		if (timer[i] && (earliest == 0 || timer[i] < earliest))
			earliest = timer[i];
	return earliest;
}

static void loop(struct keeper *k, const sigset_t *waiting)
{
	while (!terminated) {
		struct pollfd poll_fd[] = {{.fd = k->fd, .events = POLLIN},
					   {.fd = k->uevent_fd, .events = POLLIN},
					   {.fd = k->peer_fd, .events = POLLIN}};
		struct timespec wait;
		uint64_t now_ns = clock_now_ns(), at_ns = next_timer_ns(k), in_ns = at_ns > now_ns ? at_ns - now_ns : 0;

		wait.tv_sec = (time_t)(in_ns / NS_PER_S);
		wait.tv_nsec = (long)(in_ns % NS_PER_S);
		int n = ppoll(poll_fd, 3, at_ns ? &wait : NULL, waiting);
		if (n > 0 && poll_fd[1].revents && uevent_drain(k->uevent_fd)) {
			k->news = true;
			k->scan_ns = clock_now_ns() + UEVENT_SCAN_NS;
		}
		if (n > 0 && poll_fd[0].revents) {
			struct batch_effect batch = {0};
			drain(k, &batch);
			if (batch.closed)
				return;
			handle_batch(k, &batch);
		}
		/* its end of the socket may have been inherited by another process */
		if (n > 0 && poll_fd[2].revents) {
			log_notice("flamed exited");
			return;
		}
		run_timers(k);
	}
}

static int goodbye(struct keeper *k)
{
	int rc = 0;
	uint64_t begin_ns = clock_now_ns();
	size_t knobs = k->table.journal.count;

	for (unsigned i = 0; i < GOODBYE_TRIES; i++) {
		rc = table_release(&k->table, RESTORE_PATIENCE_NS);
		if (rc == 0)
			break;
	}
	if (rc == 0 && k->table.leftovers)
		log_notice("%zu knobs cannot be restored until their device returns; %s is kept for the next keeper",
			   k->table.leftovers, k->table.journal.path);
	else if (rc < 0)
		log_error("cannot restore every knob: %s; %s is kept for flamed --restore", strerror(-rc),
			  k->table.journal.path);
	else if (knobs)
		log_info("%zu knobs restored in %llu us", knobs,
			 (unsigned long long)((clock_now_ns() - begin_ns) / NS_PER_US));
	journal_close(&k->table.journal);
	return rc < 0 ? 1 : 0;
}

/* A pidfd of the process at the other end of the socket. */
static int watch_peer(int fd)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	if (peer.pid <= 0) /* in another PID namespace */
		return -ESRCH;
	int peer_fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	return peer_fd < 0 ? -errno : peer_fd;
}

int keeper_run(int fd, const struct sysroot *root, const char *boards_dir, const char *journal)
{
	sigset_t waiting;
	struct replay replay;
	char who[96];

	catch_signals(&waiting);
	CLEANUP_FD int owner = owner_claim(root, who, sizeof(who));
	if (owner == -EBUSY) {
		log_error("%s/sys is in use by %s: only one flamed may set clocks; exiting", root->prefix, who);
		return 1;
	}
	if (owner < 0 && owner != -ENOENT)
		log_warning("%s: %s: cannot prevent a second keeper from setting the same clocks",
			    root->prefix[0] ? root->prefix : OWNER_DIR, strerror(-owner));
	int rc = keeper_restore(root, journal, &replay);
	if (replay.in_use) {
		log_error("%s: in use by another keeper", journal);
		return 1;
	}
	if (rc < 0)
		log_error("%s: cannot restore every knob in it: %s; will be tried again", journal, strerror(-rc));
	struct keeper *k = calloc(1, sizeof(*k));
	if (!k)
		return 1;
	k->fd = fd;
	k->peer_fd = watch_peer(fd);
	k->uevent_fd = root->prefix[0] ? -ENOTSUP : uevent_open(); /* uevents are about the real /sys */
	k->table.root = root;
	k->table.boards_dir = boards_dir;
	journal_init(&k->table.journal, root, journal);
	table_resumed(&k->table);
	k->replay_owed = table_take_leftovers(&k->table) < 0;
	k->leftover_ns = k->table.leftovers ? clock_now_ns() + LEFTOVER_NS : 0;
	table_scan(&k->table);
	hello(k);
	loop(k, &waiting);
	if (k->uevent_fd >= 0)
		close(k->uevent_fd);
	if (k->peer_fd >= 0)
		close(k->peer_fd);
	rc = goodbye(k);
	free(k);
	return rc;
}
