/* SPDX-License-Identifier: MIT */
#include "fitting.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "daemon.h"
#include "sandbox.h"

#define REAP_NS (10 * NS_PER_MS) /* between attempts to reap a helper process that has ended */

/* What a helper process that fits hands over. */
struct made {
	struct plan plan;
	_Alignas(max_align_t) char fit[];
};

static void make_plan(struct entry *entry, enum phase phase, struct plan *plan)
{
	plan->found = model_plan(entry->model, phase, plan->allowed, &plan->point, &plan->context, &plan->gain);
}

/* For a plan, the surfaces are those of the context that it is for. */
static void make(const struct fitting *f, struct made *made)
{
	made->plan = f->plan;
	if (f->plan.profile)
		make_plan(f->entry, f->phase, &made->plan);
	model_make_apart(f->entry->model, f->phase, made->plan.found ? made->plan.context : f->context, made->fit);
	made->plan.made = true;
}

/* Where it is in the page: behind the measurements, if these are read too. */
static struct made *made_of(const struct fitting *f)
{
	return (void *)((char *)f->page + (f->reads ? library_read_bytes(f->entry) : 0));
}

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
	}
	if (f->fits)
		make(f, made_of(f));
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
	uint64_t took_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
			   (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
	if (!user || d->sessions <= user->sessions)
		return;
	if (f->over.asked)
		user_charge(user, DEBT_ASKS, took_ns);
	else if (took_ns > PIECE_NS)
		user_charge(user, DEBT_WORK, took_ns - PIECE_NS);
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
	f->over.asked = f->reads || f->plan.profile;
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
			  f->reads                           ? "reads its files" :
			  model_layer_count(f->entry->model) ? "fits its layers" :
							       "fits its samples");
	const struct made *made = made_of(f);
	bool fitted = f->fits && made->plan.made;

	if (f->reads)
		library_take(f->entry, f->page);
	if (f->plan.profile)
		f->planned = fitted ? made->plan : f->plan;
	if (!f->reads || fitted)
		model_adopt(f->entry->model, f->phase, f->context, made->fit);
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
	wanted.planned = f->planned;
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

static bool has_others(const struct daemon *d, uid_t uid)
{
	const struct user *user = user_get(uid);

	return user && d->sessions > user->sessions;
}

static bool start_fit(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context,
		      const struct plan *plan, uid_t uid)
{
	return start(d, (struct fitting){.bytes = sizeof(struct made) + model_apart_bytes(entry->model),
					 .entry = entry,
					 .phase = phase,
					 .context = context,
					 .fits = true,
					 .plan = *plan,
					 .uid = uid});
}

bool fitting_start(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, uid_t uid)
{
	if (!model_work_apart(entry->model, phase) &&
	    !(has_others(d, uid) && model_work_due(entry->model, phase, context)))
		return false;
	return start_fit(d, entry, phase, context, &(struct plan){0}, uid);
}

bool fitting_plan(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, struct plan *plan,
		  uid_t uid)
{
	struct fitting *f = &d->fitting;
	bool planned = f->planned.profile == plan->profile;

	if (planned) {
		const uint8_t *allowed = plan->allowed;

		*plan = f->planned;
		plan->allowed = allowed;
		f->planned.profile = 0;
	}
	if (plan->made)
		return false;
	if (!planned &&
	    (has_others(d, uid) && model_plan_is_long(entry->model) ? start_fit(d, entry, phase, context, plan, uid) :
								      fitting_start(d, entry, phase, context, uid)))
		return true;
	make_plan(entry, phase, plan);
	return false;
}

bool fitting_read(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, uid_t uid)
{
	return entry && library_reads_long(entry) &&
	       start(d, (struct fitting){.reads = true,
					 .fits = has_others(d, uid),
					 .bytes = library_read_bytes(entry) + sizeof(struct made) +
						  model_apart_bytes(entry->model),
					 .entry = entry,
					 .phase = phase,
					 .context = context,
					 .uid = uid});
}

void fitting_abandon(struct daemon *d)
{
	if (d->fitting.pid)
		let_go(d);
	reap(d, true);
	loop_watch_free(d->fitting.over.reap);
	d->fitting.over.reap = NULL;
}
