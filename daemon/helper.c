/* SPDX-License-Identifier: MIT */
#include "helper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/clock.h"
#include "daemon.h"
#include "sandbox.h"

#define REAP_NS (10 * NS_PER_MS) /* between attempts to reap a helper process that has ended */

/* Collect the exit status of a helper that has ended, and charge its CPU time. Blocks only with `wait`: on a busy
 * machine the exit of a process takes a while. */
static void reap(struct helper *h, bool wait)
{
	struct user *user = user_get(h->over.uid);
	struct rusage usage = {0};
	int status;

	if (!h->over.pid)
		return;
	if (wait4(h->over.pid, &status, wait ? 0 : WNOHANG, &usage) == 0) {
		loop_timer_in(h->over.reap, REAP_NS);
		return;
	}
	h->over.pid = 0;
	uint64_t took_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
			   (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
	if (!user || h->daemon->sessions <= user->sessions)
		return;
	if (h->over.asked)
		user_charge(user, DEBT_ASKS, took_ns);
	else if (took_ns > PIECE_NS)
		user_charge(user, DEBT_WORK, took_ns - PIECE_NS);
}

static void on_reap(void *helper)
{
	reap(helper, false);
}

static void on_overrun(void *helper)
{
	kill(((struct helper *)helper)->pid, SIGKILL);
}

/* Free everything except the process. */
static void release(struct helper *h)
{
	loop_watch_free(h->ended);
	loop_watch_free(h->overrun);
	if (h->fd >= 0)
		close(h->fd);
	if (h->page)
		munmap(h->page, h->bytes);
	h->page = NULL;
	h->pid = 0;
}

bool helper_start(struct daemon *d, struct helper *h, size_t bytes, uid_t uid, bool asked,
		  void (*work)(struct daemon *d), void (*ended)(void *daemon, unsigned events))
{
	int end[2] = {-1, -1};

	*h = (struct helper){.daemon = d, .bytes = bytes, .uid = uid, .asked = asked, .fd = -1, .over = h->over};
	if (!h->over.reap)
		h->over.reap = loop_timer(d->loop, on_reap, h);
	h->page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (h->page == MAP_FAILED)
		h->page = NULL;
	if (h->page && h->over.reap && pipe2(end, O_CLOEXEC) == 0) {
		h->fd = end[0];
		h->ended = loop_fd(d->loop, h->fd, LOOP_READ, ended, d);
		h->overrun = loop_timer(d->loop, on_overrun, h);
	}
	if (h->ended && h->overrun)
		h->pid = fork();
	if (h->ended && h->overrun && h->pid == 0) {
		(void)!dup2(end[1], STDIN_FILENO);
		helper_begin(STDERR_FILENO + 1);
		work(d);
		(void)!write(STDIN_FILENO, "", 1);
		_exit(0);
	}
	if (end[1] >= 0)
		close(end[1]);
	if (h->pid > 0) {
		loop_timer_in(h->overrun, HELPER_S * NS_PER_S);
		return true;
	}
	release(h);
	return false;
}

bool helper_has_done(struct helper *h)
{
	char done;

	return read(h->fd, &done, 1) == 1;
}

void helper_end(struct helper *h)
{
	kill(h->pid, SIGKILL); /* it has nothing left to do */
	reap(h, true);         /* the one before, which ended long ago */
	h->over.pid = h->pid;
	h->over.uid = h->uid;
	h->over.asked = h->asked;
	release(h);
	reap(h, false);
}

void helper_free(struct helper *h)
{
	if (h->pid)
		helper_end(h);
	if (h->over.pid)
		reap(h, true);
	loop_watch_free(h->over.reap);
	h->over.reap = NULL;
}
