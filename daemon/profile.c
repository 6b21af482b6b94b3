/* SPDX-License-Identifier: MIT */
/* Profiles: a client measures where flamed asks it to. Deadline requests go
 * first; a point they disturbed is measured again. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "daemon.h"

#define REPEAT_NS   (300 * NS_PER_MS) /* about as long is measured at one point */
#define REPEAT_MIN  5
#define REPEAT_MAX  50
#define REPEAT_FIRST 10 /* nothing is known of the latency yet */
#define POWER_SKIP_NS  (100 * NS_PER_MS) /* the sensor may still average over the point before */
#define POWER_EVERY_NS (23 * NS_PER_MS)  /* in step with no inference and no sensor */
#define POWER_BUSY     0.8 /* least share of the time that inferences fill, for a mean to speak of them */

struct profile {
	struct profile *next;
	struct daemon *daemon;
	struct connection *connection;
	uint64_t id;
	struct entry *entry;
	enum phase phase;
	uint32_t context;        /* of the point being measured */
	bool context_fixed;
	uint32_t step, budget, repeat;
	struct op_point planned;
	size_t point;
	double gain;
	uint64_t epoch, serial, latency_ns;
	bool waiting, paused, disturbed;
	struct loop_watch *settle, *power;
	uint64_t asked_ns; /* the point was told to the client */
	double power_sum_uw;
	uint32_t powers, power_reads;
};

/* How many of all connections; found again through the server's list would
 * cost more than one counter. */
static unsigned profile_count;
static uint64_t profile_generation;
static struct profile *profiles;

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

static void drop(struct profile *p)
{
	struct profile **at = &profiles;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	profile_count--;
	loop_watch_free(p->settle);
	loop_watch_free(p->power);
	if (p->waiting)
		p->connection->held = false;
	library_put(p->entry);
	free(p);
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

static uint32_t repeats(struct profile *p)
{
	const struct surface *surface = model_surface(p->entry->model, p->phase, p->context);
	double latency_ns = (double)surface->latency_ns[p->point];
	double repeat = latency_ns > 0 ? (double)REPEAT_NS / latency_ns : REPEAT_FIRST;

	return repeat < REPEAT_MIN ? REPEAT_MIN : repeat > REPEAT_MAX ? REPEAT_MAX : (uint32_t)repeat;
}

/* A single reading would be of some part of an inference, always the same one. */
static void on_power(void *arg)
{
	struct profile *p = arg;
	uint64_t uw;

	if (!p->daemon->meter)
		return; /* taken away meanwhile */
	/* The first only begins the sensor's next window. */
	if (power_meter_read(p->daemon->meter, clock_now_ns(), &uw) == 0 && p->power_reads++ > 0) {
		p->power_sum_uw += (double)uw;
		p->powers++;
	}
	loop_timer_in(p->power, POWER_EVERY_NS);
}

/* Mean while the point was measured; one reading where that was too short, or mostly something else. */
static uint64_t measured_power(struct profile *p, uint64_t latency_ns, uint64_t n)
{
	double busy_ns = (double)latency_ns * (double)(n + 1);
	uint64_t uw = 0;

	loop_timer_stop(p->power);
	if (!p->daemon->meter)
		return 0;
	if (p->powers > 0 && busy_ns >= POWER_BUSY * (double)(clock_now_ns() - p->asked_ns))
		return (uint64_t)(p->power_sum_uw / p->powers);
	(void)!power_meter_read(p->daemon->meter, clock_now_ns(), &uw);
	return uw;
}

static void reply_point(struct profile *p)
{
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
	if (p->daemon->meter)
		loop_timer_in(p->power, POWER_SKIP_NS);
}

static void reply_pause(struct profile *p)
{
	struct kv_out *out;

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

	log_info("model %s: profiled with %u measurements, surface %s", p->entry->name, p->step, state_word(state));
	drop(p);
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "done", 1);
	kv_add(out, "surface", "%s", state_word(state));
	reply_end(c);
}

/* The new speed is in effect some time after its knob was written. */
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
		if (p->daemon->clocks.view.settle_ns[i] > settle_ns)
			settle_ns = p->daemon->clocks.view.settle_ns[i];
	loop_timer_in(p->settle, settle_ns);
}

/* Move to the planned point and reply when it has settled. */
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

/* Points that others' ceilings and the configuration allow. */
static void mark_allowed(const struct daemon *d, uint8_t *allowed)
{
	const struct governor_board *view = &d->clocks.view;

	for (size_t i = 0; i < d->clocks.grid.points; i++) {
		struct op_point point = grid_point(&d->clocks.grid, i);

		allowed[i] = 1;
		for (int c = 0; c < CLOCK_COUNT; c++)
			if (d->clocks.grid.count[c] > 1 && (point.hz[c] < view->floor_hz[c] || point.hz[c] > view->ceiling_hz[c] || point.hz[c] > view->ceiling_config_hz[c]))
				allowed[i] = 0;
	}
}

/* Choose the next point anew from all that is known; done when none is worth it. */
static void next(struct profile *p)
{
	static uint8_t allowed[GRID_POINTS_MAX];
	struct op_point point;
	uint32_t context = p->context_fixed ? p->context : CONTEXT_ANY;

	mark_allowed(p->daemon, allowed);
	if (p->step >= p->budget || model_plan(p->entry->model, p->phase, allowed, &point, &context, &p->gain) == 0) {
		reply_done(p);
		return;
	}
	p->planned = point;
	p->point = grid_nearest(&p->daemon->clocks.grid, point);
	p->context = context;
	go(p);
}

void profile_open(struct daemon *d, struct connection *c, const struct kv *kv)
{
	const struct config_model *known;
	const char *model;
	struct profile *p;
	enum phase phase = PHASE_RUN;
	uint32_t context = 0;
	uint64_t budget;
	unsigned own = 0;

	if (!need_model(c, kv, &model) || !want_phase(c, kv, &phase, &context))
		return;
	known = config_model_find(&d->config, model);
	budget = known && known->budget ? known->budget : d->config.profile_budget;
	if (!want_u64(c, kv, "budget", 1, 4096, &budget))
		return;
	for (p = profiles; p; p = p->next)
		own += p->connection == c;
	if (own >= PROFILES_PER_CONNECTION_MAX) {
		reply_error(c, EDQUOT, "profile: at most %d of a connection", PROFILES_PER_CONNECTION_MAX);
		return;
	}
	if (profile_count) {
		/* Two would move the clocks under each other. */
		reply_error(c, EBUSY, "profile: another one is running");
		return;
	}
	p = calloc(1, sizeof(*p));
	if (p) {
		p->settle = loop_timer(d->loop, on_settled, p);
		p->power = loop_timer(d->loop, on_power, p);
	}
	if (p && p->settle && p->power)
		p->entry = library_get(&d->library, model, clock_now_ns());
	if (!p || !p->settle || !p->power || !p->entry) {
		if (p) {
			loop_watch_free(p->settle);
			loop_watch_free(p->power);
		}
		free(p);
		reply_error(c, ENOMEM, "profile: out of memory, or %d models in use", MODELS_MAX);
		return;
	}
	p->daemon = d;
	p->connection = c;
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

static bool take_layers(struct profile *p, const struct kv *kv)
{
	struct layer *layers = NULL;
	size_t count;

	if (!want_layers(p->connection, kv, p->phase, p->context, clocks_point(&p->daemon->clocks), &layers, &count))
		return false;
	if (count)
		model_learn_layers(p->entry->model, layers, count);
	free(layers);
	return true;
}

void profile_sample(struct daemon *d, struct connection *c, const struct kv *kv)
{
	uint64_t id, latency_ns = 0, n = 1, sd_ns = 0, max_ns = 0;
	struct profile *p;

	if (!need_u64(c, kv, "profile", 1, UINT64_MAX, &id))
		return;
	p = find(c, id);
	if (!p) {
		reply_error(c, ENOENT, "profile: no profile %" PRIu64 " on this connection", id);
		return;
	}
	if (!want_u64(c, kv, "latency_ns", 1, DEADLINE_NS_MAX, &latency_ns) || !want_u64(c, kv, "n", 1, 1000000, &n) ||
	    !want_u64(c, kv, "sd_ns", 0, DEADLINE_NS_MAX, &sd_ns) || !want_u64(c, kv, "max_ns", 0, DEADLINE_NS_MAX, &max_ns))
		return;
	if (d->requests) {
		reply_pause(p);
		return;
	}
	if (latency_ns == 0 || p->disturbed || p->epoch != d->clocks.epoch) {
		go(p); /* again: what ran here ran under other clocks too */
		return;
	}
	if (!take_layers(p, kv))
		return;
	struct sample sample = { p->phase, p->context, clocks_point(&d->clocks), latency_ns, (uint32_t)n, sd_ns, max_ns,
				 measured_power(p, latency_ns, n) };
	int rc = model_learn_sample(p->entry->model, &sample);
	if (rc < 0) {
		reply_error(c, -rc, "latency_ns: %s", strerror(-rc));
		return;
	}
	p->entry->dirty = true;
	loop_timer_in(d->save, d->config.save_interval_ns);
	p->latency_ns = latency_ns;
	p->step++;
	next(p);
}

/* Mean bound over latency, less one, in permille. */
static uint64_t bound_permille(struct profile *p)
{
	const struct surface *surface = model_surface(p->entry->model, p->phase, p->context);
	double sum = 0;

	for (size_t i = 0; i < surface->grid->points; i++)
		sum += surface->latency_ns[i] > 0 ? (double)surface->bound_ns[i] / (double)surface->latency_ns[i] - 1 : 1;
	return (uint64_t)(1000 * sum / (double)surface->grid->points);
}

static void report(struct profile *p, unsigned i, struct kv_out *out)
{
	const struct {
		const char *name;
		uint64_t value;
	} row[] = {
		{ "id", p->id },
		{ "step", p->step },
		{ "budget", p->budget },
		{ "paused", p->paused },
		{ "context", p->context },
		{ "bound_permille", bound_permille(p) },
		{ "cpu_hz", p->planned.hz[CLOCK_CPU] },
		{ "gpu_hz", p->planned.hz[CLOCK_GPU] },
		{ "mem_hz", p->planned.hz[CLOCK_MEM] },
		{ "latency_ns", p->latency_ns },
		{ "gain_permille", (uint64_t)(p->gain * 1000) },
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
