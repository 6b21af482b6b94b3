/* SPDX-License-Identifier: MIT */
#include "fitting.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "daemon.h"
#include "sandbox.h"

#define REAP_NS (10 * NS_PER_MS) /* between attempts to reap a helper process that has ended */

/* The helper process. It reports that it is done on the end of a pipe. */
static void help(const struct fitting *f, int end)
{
	(void)!dup2(end, STDIN_FILENO);
	helper_begin(STDERR_FILENO + 1);
	if (f->reads) {
		library_sandbox(f->entry->library);
		library_read_apart(f->entry, f->page);
	} else {
		(void)!sandbox_enter(NULL, 0, HELPER_CPU_S);
		model_fit_apart(f->entry->model, f->phase, f->page);
	}
	(void)!write(STDIN_FILENO, "", 1);
	_exit(0);
}

/* Collect the exit status of a helper that has ended, and charge its CPU time. Blocks only with `wait`: on a busy
 * machine the exit of a process takes a while. */
static void reap(struct daemon *d, bool wait)
{
	struct fitting *f = &d->fitting;
	struct user *user = user_get(f->over.uid);
	struct rusage usage = {0};
	int status;

	if (!f->over.pid)
		return;
	if (wait4(f->over.pid, &status, wait ? 0 : WNOHANG, &usage) == 0) {
		loop_timer_in(f->over.reap, REAP_NS);
		return;
	}
	f->over.pid = 0;
	if (user && d->sessions > user->sessions)
		user_charge(user, f->over.reads ? DEBT_ASKS : DEBT_WORK,
			    (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
				    (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US);
}

static void on_reap(void *daemon)
{
	reap(daemon, false);
}

/* Free everything except the process. */
static void release(struct fitting *f)
{
	loop_watch_free(f->ended);
	loop_watch_free(f->overrun);
	if (f->fd >= 0)
		close(f->fd);
	if (f->page)
		munmap(f->page, f->bytes);
	library_put(f->entry);
	f->pid = 0;
}

static void let_go(struct daemon *d)
{
	struct fitting *f = &d->fitting;

	kill(f->pid, SIGKILL); /* it has nothing left to do */
	reap(d, true);         /* the one before, which ended long ago */
	f->over.pid = f->pid;
	f->over.uid = f->uid;
	f->over.reads = f->reads;
	release(f);
	reap(d, false);
}

static void on_ended(void *daemon, unsigned events)
{
	struct daemon *d = daemon;
	struct fitting *f = &d->fitting;
	struct entry *entry = f->entry;
	bool reads = f->reads;
	uid_t uid = f->uid;
	char done;

	(void)events;
	if (read(f->fd, &done, 1) != 1 && log_first("fit"))
		log_error("model %s: the process that %s was ended", f->entry->name,
			  f->reads ? "reads its files" : "fits its layers");
	if (f->reads)
		library_take(f->entry, f->page);
	else
		model_adopt(f->entry->model, f->phase, f->page);
	library_trim(&d->library);
	let_go(d);
	if (reads && entry->users)
		sessions_take(d, entry);
	if (d->work_session)
		loop_timer_in(d->work, 0);
	profiles_fitted(d);
	server_repeat(d->server, uid);
	if (reads)
		library_fit(entry); /* whoever asked may have gone */
}

static void on_overrun(void *daemon)
{
	kill(((struct daemon *)daemon)->fitting.pid, SIGKILL);
}

static bool start(struct daemon *d, struct fitting wanted)
{
	struct fitting *f = &d->fitting;
	int end[2] = {-1, -1};

	if (f->pid)
		return true;
	wanted.fd = -1;
	wanted.over = f->over;
	*f = wanted;
	f->entry->users++;
	if (!f->over.reap)
		f->over.reap = loop_timer(d->loop, on_reap, d);
	f->page = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->page == MAP_FAILED)
		f->page = NULL;
	if (f->page && f->over.reap && pipe2(end, O_CLOEXEC) == 0) {
		f->fd = end[0];
		f->ended = loop_fd(d->loop, f->fd, LOOP_READ, on_ended, d);
		f->overrun = loop_timer(d->loop, on_overrun, d);
	}
	if (f->ended && f->overrun)
		f->pid = fork();
	if (f->ended && f->overrun && f->pid == 0)
		help(f, end[1]);
	if (end[1] >= 0)
		close(end[1]);
	if (f->pid > 0) {
		loop_timer_in(f->overrun, HELPER_S * NS_PER_S);
		return true;
	}
	release(f);
	return false;
}

bool fitting_start(struct daemon *d, struct entry *entry, enum phase phase, uid_t uid)
{
	return model_work_apart(entry->model, phase) &&
	       start(d, (struct fitting){
				.bytes = model_apart_bytes(entry->model), .entry = entry, .phase = phase, .uid = uid});
}

bool fitting_read(struct daemon *d, struct entry *entry, uid_t uid)
{
	return entry && library_reads_long(entry) &&
	       start(d,
		     (struct fitting){.reads = true, .bytes = library_read_bytes(entry), .entry = entry, .uid = uid});
}

void fitting_abandon(struct daemon *d)
{
	if (d->fitting.pid)
		let_go(d);
	reap(d, true);
	loop_watch_free(d->fitting.over.reap);
	d->fitting.over.reap = NULL;
}
