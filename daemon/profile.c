/* SPDX-License-Identifier: MIT */
/* Profiles: a client measures the points that flamed chooses. Deadline requests take precedence; a measurement that
 * they disturbed is repeated. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "daemon.h"
#include "view.h"

#define REPEAT_NS        (300 * NS_PER_MS) /* target duration of the measurement of one point */
#define REPEAT_MIN       5
#define REPEAT_MAX       50
#define REPEAT_FIRST     10                /* while the latency is unknown */
#define POWER_SKIP_NS    (100 * NS_PER_MS) /* the sensor may still average over the previous point */
#define POWER_EVERY_NS   (23 * NS_PER_MS)  /* not a multiple of common inference times or sensor windows */
#define SILENCE_EXPIRIES 8                 /* request_expiry: the client or the keeper may be silent for this many, */
#define SILENCE_TIMES    8                 /* or for this many times the expected duration of the point */
/* for one user while another waits; the next profile is then reserved for the other user */
#define TURN_NS      (60 * NS_PER_S)
#define TURN_KEPT_NS (5 * NS_PER_S)
#define POWER_BUSY   0.8 /* least busy fraction of the time for which the mean power is that of inferences */

struct profile {
	struct profile *next;
	struct daemon *daemon;
	struct connection *connection;
	uint64_t id;
	struct entry *entry;
	enum phase phase;
	uint32_t context; /* of the current point */
	bool context_fixed;
	uint32_t step, budget, repeat;
	struct op_point planned;
	size_t point;
	double gain;
	uint64_t epoch, serial, latency_ns;
	bool waiting; /* for the clocks, */
	bool fitting; /* or for a fit: the connection is held */
	bool paused, disturbed;
	struct loop_watch *settle, *power, *silence;
	uint64_t opened_ns;
	uint64_t asked_ns; /* when the point was sent to the client */
	double power_sum_uw;
	uint32_t powers, power_reads;
};

/* Profiles of all connections. Counting them through the server's list would cost more than this
 * counter. */
static unsigned profile_count;
static uint64_t profile_generation;
static struct profile *profiles;

/* The user that was refused last, and until when the next profile is reserved for it. */
static struct {
	uid_t uid;
	uint64_t until_ns;
} turn;

unsigned profiles_count(const struct daemon *d)
{
	(void)d;
	return profile_count;
}

static struct profile *find(const struct connection *c, uint64_t id)
{
	struct profile *p = profiles;

	while (p && (p->id != id || p->connection != c))
		p = p->next;
	return p;
}

/* The clocks stay at its last point for a while, unless another session moves them. */
static void drop(struct profile *p)
{
	struct profile **at = &profiles;
	struct daemon *d = p->daemon;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	profile_count--;
	loop_watch_free(p->settle);
	loop_watch_free(p->power);
	loop_watch_free(p->silence);
	if (p->waiting || p->fitting)
		p->connection->held = false;
	library_put(p->entry);
	free(p);
	loop_timer_in(d->idle, d->config.release_after_ns);
}

bool profile_close(struct daemon *d, struct connection *c, uint64_t id)
{
	struct profile *p = find(c, id);

	(void)d;
	if (p)
		drop(p);
	return p != NULL;
}

void profiles_close(struct daemon *d, struct connection *c)
{
	(void)d;
	for (struct profile *p = profiles, *next; p; p = next) {
		next = p->next;
		if (p->connection == c)
			drop(p);
	}
}

static const struct surface *surface_of(const struct profile *p)
{
	return view_model_surface(p->daemon, p->connection->user, p->entry->model, p->phase, p->context);
}

static uint32_t repeats(struct profile *p)
{
	const struct surface *surface = surface_of(p);
	double latency_ns = (double)surface->latency_ns[p->point];
	double repeat = latency_ns > 0 ? (double)REPEAT_NS / latency_ns : REPEAT_FIRST;

	return repeat < REPEAT_MIN ? REPEAT_MIN : repeat > REPEAT_MAX ? REPEAT_MAX : (uint32_t)repeat;
}

/* Sample the power repeatedly: a single reading would always show the same part of an inference. */
static void on_power(void *arg)
{
	struct profile *p = arg;
	uint64_t uw;

	if (!p->daemon->power.meter)
		return; /* the sensor disappeared */
	/* The first reading only starts the sensor's next window. */
	if (power_meter_read(p->daemon->power.meter, clock_now_ns(), true, &uw) == 0 && p->power_reads++ > 0) {
		p->power_sum_uw += (double)uw;
		p->powers++;
	}
	loop_timer_in(p->power, POWER_EVERY_NS);
}

/* Mean power while the point was measured; a single reading if the measurement was too short, or
 * mostly idle. */
static uint64_t measured_power(struct profile *p, uint64_t latency_ns, uint64_t n)
{
	double busy_ns = (double)latency_ns * (double)(n + 1);
	uint64_t uw = 0;

	loop_timer_stop(p->power);
	if (!p->daemon->power.meter)
		return 0;
	if (p->powers > 0 && busy_ns >= POWER_BUSY * (double)(clock_now_ns() - p->asked_ns))
		return (uint64_t)(p->power_sum_uw / p->powers);
	(void)!power_meter_read(p->daemon->power.meter, clock_now_ns(), true, &uw);
	return uw;
}

static uint64_t silence_ns(struct profile *p)
{
	const struct surface *surface = surface_of(p);
	uint64_t least_ns = SILENCE_EXPIRIES * p->daemon->config.request_expiry_ns;
	uint64_t most_ns = (uint64_t)(SILENCE_TIMES * (double)surface->bound_ns[p->point]) * (p->repeat + 1);

	return most_ns > least_ns ? most_ns : least_ns;
}

/* The client is silent, or the keeper hangs: end the profile, so that the next one can use the
 * clocks. */
static void on_silence(void *arg)
{
	struct profile *p = arg;
	struct connection *owed = p->waiting ? p->connection : NULL;

	if (user_may_log(p->connection->user, USER_LOG_PROFILE_ENDED))
		log_warning("model %s: profile %" PRIu64 " of pid %d ended: %s", p->entry->name, p->id,
			    (int)p->connection->pid, owed ? "the clocks do not answer" : "its client is silent");
	drop(p);
	if (owed) {
		reply_error(owed, ETIMEDOUT, "profile: ended because the clocks do not answer");
		connection_resume(owed);
	}
}

static void reply_point(struct profile *p)
{
	loop_timer_in(p->silence, silence_ns(p));
	struct op_point point = clocks_point(&p->daemon->clocks);
	struct kv_out *out = reply_begin(p->connection);

	kv_add_u64(out, "profile", p->id);
	kv_add_u64(out, "cpu_hz", point.hz[CLOCK_CPU]);
	kv_add_u64(out, "gpu_hz", point.hz[CLOCK_GPU]);
	kv_add_u64(out, "mem_hz", point.hz[CLOCK_MEM]);
	kv_add(out, "phase", "%s", phase_name(p->phase));
	kv_add_u64(out, "context", p->context);
	kv_add_u64(out, "repeat", p->repeat);
	kv_add_u64(out, "step", p->step);
	kv_add_u64(out, "budget", p->budget);
	kv_add_u64(out, "gain_permille", (uint64_t)(p->gain * 1000));
	reply_end(p->connection);
	p->asked_ns = clock_now_ns();
	p->power_sum_uw = 0;
	p->powers = p->power_reads = 0;
	if (p->daemon->power.meter)
		loop_timer_in(p->power, POWER_SKIP_NS);
}

static void reply_pause(struct profile *p)
{
	struct kv_out *out;

	loop_timer_in(p->silence, silence_ns(p));
	p->paused = true;
	p->disturbed = true;
	loop_timer_stop(p->power);
	out = reply_begin(p->connection);
	kv_add_u64(out, "profile", p->id);
	kv_add_u64(out, "pause", 1);
	reply_end(p->connection);
}

static void reply_done(struct profile *p)
{
	struct connection *c = p->connection;
	enum surface_state state = model_state(p->entry->model, p->phase);

	if (user_may_log(c->user, USER_LOG_PROFILED))
		log_info("model %s: profiled with %u measurements, surface %s", p->entry->name, p->step,
			 state_word(state));
	drop(p);
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "done", 1);
	kv_add(out, "surface", "%s", state_word(state));
	reply_end(c);
}

/* The new frequency takes effect some time after the knob was written. */
static void on_settled(void *arg)
{
	struct profile *p = arg;

	p->waiting = false;
	p->epoch = p->daemon->clocks.epoch;
	reply_point(p);
	connection_resume(p->connection);
}

static void settle(struct profile *p)
{
	uint64_t settle_ns = 0;

	for (int i = 0; i < CLOCK_COUNT; i++)
		if (p->daemon->clocks.view.up_ns[i] > settle_ns)
			settle_ns = p->daemon->clocks.view.up_ns[i];
	loop_timer_in(p->settle, settle_ns);
}

/* Move to the planned point; the reply is sent when the clocks have settled. */
static void go(struct profile *p)
{
	struct daemon *d = p->daemon;

	if (d->requests) {
		reply_pause(p);
		return;
	}
	p->paused = false;
	p->disturbed = false;
	p->repeat = repeats(p);
	loop_timer_stop(d->idle);
	p->serial = clocks_apply(&d->clocks, p->point);
	if (!p->serial) {
		p->epoch = d->clocks.epoch;
		reply_point(p);
		return;
	}
	p->waiting = true;
	loop_timer_in(p->silence, SILENCE_EXPIRIES * d->config.request_expiry_ns);
	connection_hold(p->connection);
}

void profiles_applied(struct daemon *d)
{
	bool lost = keeper_link_state(d->clocks.keeper) != KEEPER_RUNNING;

	for (struct profile *p = profiles; p; p = p->next) {
		if (!p->waiting || !p->serial || (!lost && d->clocks.last.serial < p->serial))
			continue;
		p->serial = 0;
		settle(p);
	}
}

void profiles_disturb(void)
{
	for (struct profile *p = profiles; p; p = p->next)
		p->disturbed = true;
}

/* Mark the points that the configuration and the ceilings set by others allow. */
static void mark_allowed(const struct daemon *d, uint8_t *allowed)
{
	for (size_t i = 0; i < d->clocks.grid.points; i++)
		allowed[i] = clocks_allow(&d->clocks, i);
}

/* The user has had its share of time, and another user is waiting. */
static bool gave_way(const struct profile *p)
{
	uint64_t now_ns = clock_now_ns();

	return turn.until_ns > now_ns && turn.uid != p->connection->uid && now_ns - p->opened_ns > TURN_NS;
}

/* Choose the next point by the current fit, or finish when no point is worth measuring. */
static void next(struct profile *p)
{
	static uint8_t allowed[GRID_POINTS_MAX];
	struct plan plan = {.profile = p->id,
			    .allowed = allowed,
			    .context = p->context_fixed ? p->context : CONTEXT_ANY};

	if (p->step >= p->budget || gave_way(p)) {
		reply_done(p);
		return;
	}
	mark_allowed(p->daemon, allowed);
	if (fitting_plan(p->daemon, p->entry, p->phase, p->context, &plan, p->connection->uid)) {
		p->fitting = true;
		loop_timer_stop(p->silence);
		connection_hold(p->connection);
		return;
	}
	if (plan.found <= 0) {
		reply_done(p);
		return;
	}
	p->gain = plan.gain;
	p->planned = plan.point;
	p->point = grid_nearest(&p->daemon->clocks.grid, plan.point);
	p->context = plan.context;
	go(p);
}

void profiles_fitted(struct daemon *d)
{
	struct profile *following;

	(void)d;
	for (struct profile *p = profiles; p; p = following) {
		struct connection *c = p->connection;

		following = p->next;
		if (!p->fitting)
			continue;
		p->fitting = c->held = false;
		next(p);
		if (!c->held)
			connection_resume(c);
	}
}

void profile_open(struct daemon *d, struct connection *c, const struct kv *kv)
{
	const struct config_model *known;
	const char *model;
	struct profile *p;
	enum phase phase = PHASE_RUN;
	uint32_t context = 0;
	uint64_t budget, now_ns = clock_now_ns();
	unsigned own = 0;
	uid_t owner;

	if (!need_model(c, kv, &model) || !want_phase(c, kv, &phase, &context))
		return;
	if (d->clocks.shadow) {
		reply_error(c, ENOTSUP, "profile: flamed is in shadow mode and moves no clock (mode in flamed.conf)");
		return;
	}
	known = config_model_find(&d->config, model);
	if (!config_teaches(known, c->uid)) {
		reply_error(c, EPERM, "model: %s is shared; flamed.conf does not let uid %u teach it", model, c->uid);
		return;
	}
	budget = known && known->budget ? known->budget : d->config.profile_budget;
	if (!want_u64(c, kv, "budget", 1, 4096, &budget))
		return;
	for (p = profiles; p; p = p->next)
		own += p->connection == c;
	if (own >= PROFILES_PER_CONNECTION_MAX) {
		reply_error(c, EDQUOT, "profile: at most %d for each connection", PROFILES_PER_CONNECTION_MAX);
		return;
	}
	if (profile_count || (turn.until_ns > now_ns && turn.uid != c->uid)) {
		/* Two profiles would move each other's clocks. */
		if (profile_count && profiles->connection->uid != c->uid) {
			turn.uid = c->uid;
			turn.until_ns = now_ns + TURN_KEPT_NS;
		}
		reply_error(c, EBUSY,
			    profile_count ? "profile: another one is running" : "profile: it is another user's turn");
		return;
	}
	owner = known && known->shared ? USER_ADMIN : user_owner(c->uid);
	if (model_awaited(d, c, model, owner, phase, context))
		return;
	if (turn.uid == c->uid)
		turn.until_ns = 0;
	p = calloc(1, sizeof(*p));
	if (p) {
		p->settle = loop_timer(d->loop, on_settled, p);
		p->power = loop_timer(d->loop, on_power, p);
		p->silence = loop_timer(d->loop, on_silence, p);
	}
	if (p && p->settle && p->power && p->silence)
		p->entry = library_get(&d->library, model, owner, clock_now_ns());
	if (!p || !p->settle || !p->power || !p->silence || !p->entry) {
		if (p) {
			loop_watch_free(p->settle);
			loop_watch_free(p->power);
			loop_watch_free(p->silence);
		}
		free(p);
		reply_error(c, ENOMEM, "profile: out of memory, or %d models in use", MODELS_MAX);
		return;
	}
	p->daemon = d;
	p->connection = c;
	p->opened_ns = now_ns;
	p->id = ++profile_generation;
	p->phase = phase;
	p->context = context;
	p->context_fixed = kv_get(kv, "context") != NULL;
	p->budget = (uint32_t)budget;
	p->next = profiles;
	profiles = p;
	profile_count++;
	next(p);
}

/* The power mode changed: from now on it is the other mode's model that is measured. False where
 * there is no room for it. */
static bool follow_mode(struct daemon *d, struct profile *p)
{
	struct entry *entry = library_get(&d->library, p->entry->name, p->entry->owner, clock_now_ns());

	if (!entry)
		return false;
	library_put(p->entry);
	p->entry = entry;
	p->step = 0;
	return true;
}

void profile_sample(struct daemon *d, struct connection *c, const struct kv *kv)
{
	uint64_t id, latency_ns = 0, n = 1, sd_ns = 0, max_ns = 0;
	CLEANUP_MEM struct layer *layers = NULL;
	size_t layer_count;
	struct profile *p;

	if (!need_u64(c, kv, "profile", 1, UINT64_MAX, &id))
		return;
	p = find(c, id);
	if (!p) {
		reply_error(c, ENOENT, "profile: no profile %" PRIu64 " on this connection", id);
		return;
	}
	if (!want_u64(c, kv, "latency_ns", 1, DEADLINE_NS_MAX, &latency_ns) || !want_u64(c, kv, "n", 1, 1000000, &n) ||
	    !want_u64(c, kv, "sd_ns", 0, DEADLINE_NS_MAX, &sd_ns) ||
	    !want_u64(c, kv, "max_ns", 0, DEADLINE_NS_MAX, &max_ns))
		return;
	sessions_follow_mode(d);
	bool moved = strcmp(p->entry->mode, d->library.mode) != 0;
	if (moved && model_awaited(d, c, p->entry->name, p->entry->owner, p->phase, p->context))
		return;
	if (moved && !follow_mode(d, p)) {
		reply_error(c, ENOSPC, "model: no room for its model of the power mode that is in force now");
		return;
	}
	bool again = moved || latency_ns == 0 || p->disturbed || p->epoch != d->clocks.epoch;
	if ((d->requests || again) && gave_way(p)) {
		reply_done(p);
		return;
	}
	if (d->requests) {
		reply_pause(p);
		return;
	}
	if (again) {
		go(p); /* measure again: the clocks moved during the measurement */
		return;
	}
	if (!want_layers(c, kv, p->phase, p->context, clocks_point(&d->clocks), &layers, &layer_count))
		return;
	struct sample sample = {p->phase, p->context, clocks_point(&d->clocks),        latency_ns, (uint32_t)n,
				sd_ns,    max_ns,     measured_power(p, latency_ns, n)};
	bool in_force = clocks_in_force(&d->clocks, &d->root);
	if (!in_force || !model_allows(p->entry->model, p->phase, p->context, sample.point, latency_ns)) {
		if (in_force)
			library_reset_refuted(&d->library, p->entry, c->user);
		/* counts towards the budget, so that a client without a valid sample also finishes */
		p->step++;
		next(p);
		return;
	}
	int rc = -ENOSPC;
	if (model_has_sample(p->entry->model, sample.phase, sample.context, sample.point) ||
	    library_has_room(&d->library, p->entry, MODEL_SAMPLE_BYTES))
		rc = model_learn_sample(p->entry->model, &sample);
	if (rc < 0) {
		reply_error(c, -rc, "latency_ns: %s", strerror(-rc));
		return;
	}
	library_learn_layers(&d->library, p->entry, layers, layer_count, latency_ns);
	p->entry->dirty = true;
	models_save_later(d);
	p->latency_ns = latency_ns;
	p->step++;
	next(p);
}

/* Mean of bound / latency - 1 over the surface, in permille. */
static uint64_t bound_permille(struct profile *p)
{
	const struct surface *surface = surface_of(p);
	double sum = 0;

	for (size_t i = 0; i < surface->grid->points; i++)
		sum += surface->latency_ns[i] > 0 ? (double)surface->bound_ns[i] / (double)surface->latency_ns[i] - 1 :
						    1;
	return (uint64_t)(1000 * sum / (double)surface->grid->points);
}

static void report(struct profile *p, unsigned i, struct kv_out *out)
{
	const struct {
		const char *name;
		uint64_t value;
	} row[] = {
		{"id", p->id},
		{"step", p->step},
		{"budget", p->budget},
		{"paused", p->paused},
		{"context", p->context},
		{"bound_permille", bound_permille(p)},
		{"cpu_hz", p->planned.hz[CLOCK_CPU]},
		{"gpu_hz", p->planned.hz[CLOCK_GPU]},
		{"mem_hz", p->planned.hz[CLOCK_MEM]},
		{"latency_ns", p->latency_ns},
		{"gain_permille", (uint64_t)(p->gain * 1000)},
	};
	char key[48];

	snprintf(key, sizeof(key), "profile.%u.model", i);
	kv_add(out, key, "%s", p->entry->name);
	for (size_t k = 0; k < sizeof(row) / sizeof(*row); k++) {
		snprintf(key, sizeof(key), "profile.%u.%s", i, row[k].name);
		kv_add_u64(out, key, row[k].value);
	}
}

void profiles_report(struct daemon *d, struct kv_out *out)
{
	unsigned i = 0;

	(void)d;
	for (struct profile *p = profiles; p; p = p->next)
		report(p, i++, out);
}
