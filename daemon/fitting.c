/* SPDX-License-Identifier: MIT */
#include "fitting.h"

#include <stddef.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "daemon.h"
#include "sandbox.h"

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
	model_make_apart(f->entry->model, f->phase, made->plan.found > 0 ? made->plan.context : f->context, made->fit);
	made->plan.made = made->plan.found >= 0; /* else the model's own process tries it */
}

/* Where it is in the page: behind the measurements, if these are read too. */
static struct made *made_of(const struct fitting *f)
{
	return (void *)((char *)f->helper.page + (f->reads ? library_read_bytes(f->entry) : 0));
}

/* The helper process. */
static void help(struct daemon *d)
{
	const struct fitting *f = &d->fitting;

	if (f->reads) {
		library_sandbox(f->entry->library);
		library_read_apart(f->entry, f->helper.page);
	} else {
		(void)!sandbox_enter(NULL, 0, HELPER_CPU_S);
	}
	make(f, made_of(f));
}

static void let_go(struct fitting *f)
{
	helper_end(&f->helper);
	library_put(f->entry);
}

static void on_ended(void *daemon, unsigned events)
{
	struct daemon *d = daemon;
	struct fitting *f = &d->fitting;
	struct entry *entry = f->entry;
	bool reads = f->reads;
	uid_t uid = f->helper.uid;

	(void)events;
	if (!helper_has_done(&f->helper) && log_first("fit"))
		log_error("model %s: the process that %s was ended", f->entry->name,
			  f->reads                           ? "reads its files" :
			  model_layer_count(f->entry->model) ? "fits its layers" :
							       "fits its samples");
	const struct made *made = made_of(f);
	bool fitted = made->plan.made;

	/* A fit rests on the measurements that were read with it. */
	if (f->reads)
		fitted &= library_take(f->entry, f->helper.page);
	if (f->plan.profile)
		f->planned = fitted ? made->plan : f->plan;
	if (!f->reads || fitted)
		model_adopt(f->entry->model, f->phase, f->context, made->fit);
	entry->used_ns = clock_now_ns(); /* so that what was made for it is not what makes room for it */
	library_trim(&d->library);
	let_go(f);
	if (reads && entry->users)
		sessions_take(d, entry);
	if (d->work_session)
		loop_timer_in(d->work, 0);
	profiles_fitted(d);
	if (server_repeat(d->server, uid) && reads)
		library_fit(entry); /* whoever asked may have gone */
}

static bool start(struct daemon *d, struct fitting wanted, size_t bytes, uid_t uid)
{
	struct fitting *f = &d->fitting;

	if (f->helper.pid)
		return true;
	wanted.helper = f->helper;
	wanted.planned = f->planned;
	*f = wanted;
	f->entry->users++;
	if (helper_start(d, &f->helper, sizeof(struct made) + model_apart_bytes(f->entry->model) + bytes, uid,
			 f->reads || f->plan.profile, help, on_ended))
		return true;
	library_put(f->entry);
	return false;
}

static bool start_fit(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context,
		      const struct plan *plan, uid_t uid)
{
	return start(d, (struct fitting){.entry = entry, .phase = phase, .context = context, .plan = *plan}, 0, uid);
}

bool fitting_start(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, uid_t uid)
{
	if (!model_work_apart(entry->model, phase) && !model_work_due(entry->model, phase, context))
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
	if (!planned && (model_plan_is_long(entry->model) ? start_fit(d, entry, phase, context, plan, uid) :
							    fitting_start(d, entry, phase, context, uid)))
		return true;
	make_plan(entry, phase, plan);
	return false;
}

bool fitting_read(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, uid_t uid)
{
	return entry && library_reads_long(entry) &&
	       start(d, (struct fitting){.reads = true, .entry = entry, .phase = phase, .context = context},
		     library_read_bytes(entry), uid);
}

void fitting_abandon(struct daemon *d)
{
	if (d->fitting.helper.pid)
		let_go(&d->fitting);
	d->work_session = 0;
}
