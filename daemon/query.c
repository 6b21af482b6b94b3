/* SPDX-License-Identifier: MIT */
/* Operations that report or explain flamed's state: hello, status, models, surface, explain, release, savings. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/quantile.h"
#include "../common/units.h"
#include "daemon.h"
#include "installation.h"
#include "view.h"

#define STATUS_RECENT     32                      /* newest latencies of a session shown in status */
#define MODELS_PAGE_BYTES (MESSAGE_BYTES_MAX / 2) /* of models in one reply: at least all of a user's own */
#define MODELS_PAGE_ROWS  (4 * SAMPLES_MAX)       /* and of their samples looked through */
#define STATUS_ROOM       2048                    /* bytes of a message reserved for the part after the sessions */

static const char *const method_words[METHOD_COUNT] = {
	[METHOD_NONE] = "none",
	[METHOD_CPUFREQ_LIMITS] = "cpufreq limits",
	[METHOD_CPUFREQ_SETSPEED] = "cpufreq userspace",
	[METHOD_DEVFREQ_LIMITS] = "devfreq limits",
	[METHOD_DEVFREQ_USERSPACE] = "devfreq userspace",
	[METHOD_I915] = "i915",
	[METHOD_XE] = "xe",
	[METHOD_AMDGPU] = "amdgpu",
	[METHOD_BPMP_EMC] = "bpmp emc",
	[METHOD_NVML] = "nvml",
};

/* Add PREFIX.NAME=value; the prefix may contain an index. */
static void add_u64(struct kv_out *out, const char *prefix, const char *name, uint64_t value)
{
	char key[96];

	snprintf(key, sizeof(key), "%s.%s", prefix, name);
	kv_add_u64(out, key, value);
}

static void add_text(struct kv_out *out, const char *prefix, const char *name, const char *value)
{
	char key[96];

	snprintf(key, sizeof(key), "%s.%s", prefix, name);
	kv_add(out, key, "%s", value);
}

static void add_point(struct kv_out *out, const char *prefix, struct op_point point)
{
	char name[16];

	for (int i = 0; i < CLOCK_COUNT; i++) {
		snprintf(name, sizeof(name), "%s_hz", clock_name((enum clock_id)i));
		if (prefix[0])
			add_u64(out, prefix, name, point.hz[i]);
		else
			kv_add_u64(out, name, point.hz[i]);
	}
}

void query_hello(struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct kv_out *out = reply_begin(c);

	(void)kv;
	kv_add(out, "version", "%s", FLAMED_VERSION);
	kv_add_u64(out, "protocol", 1);
	kv_add(out, "board", "%s", d->board.name);
	kv_add_u64(out, "power_sensor", d->power.meter != NULL);
	reply_end(c);
}

static void device_list(const struct clock_domain *domain, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < domain->devices && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s", i ? "," : "", domain->device[i].name);
}

static void add_clock(struct kv_out *out, const struct daemon *d, enum clock_id id)
{
	static const char *const states[] = {"ok", "foreign", "refused", "lost", "degraded"};
	const struct clocks *clocks = &d->clocks;
	const struct clock_domain *domain = &d->board.clock[id];
	const struct grid *grid = &clocks->grid;
	char prefix[16], devices[512];

	snprintf(prefix, sizeof(prefix), "clock.%s", clock_name(id));
	device_list(domain, devices, sizeof(devices));
	add_u64(out, prefix, "controllable", clocks->managed[id]);
	add_text(out, prefix, "method", domain->devices ? method_words[domain->device[domain->lead].method] : "none");
	add_text(out, prefix, "devices", devices);
	add_u64(out, prefix, "cur_hz", board_current_hz(&d->board, &d->root, id));
	add_u64(out, prefix, "min_hz", grid->hz[id][0]);
	add_u64(out, prefix, "max_hz", grid->hz[id][grid->count[id] - 1]);
	add_u64(out, prefix, "steps", grid->count[id]);
	add_u64(out, prefix, "ceiling_hz", clocks->view.ceiling_hz[id] == UINT64_MAX ? 0 : clocks->view.ceiling_hz[id]);
	add_text(out, prefix, "owner", clocks_owner(clocks, id));
	add_text(out, prefix, "why_not",
		 clocks->managed[id] ? "" :
		 domain->devices     ? "left alone by flamed.conf" :
				       domain->why_not);
	add_text(out, prefix, "state",
		 clocks->last.state[id] < sizeof(states) / sizeof(*states) ? states[clocks->last.state[id]] :
									     "degraded");
	add_u64(out, prefix, "settle_ns", clocks->view.up_ns[id]);
	if (clocks->held && clocks->managed[id])
		add_u64(out, prefix, "target_hz", clocks->target_point.hz[id]);
}

static void add_state(struct kv_out *out, const struct daemon *d)
{
	const char *fault = clocks_fault(&d->clocks), *state = d->sessions || profiles_count(d) ? "busy" : "idle";

	if (d->clocks.released)
		state = "released";
	if (d->clocks.shadow)
		state = "shadow";
	if (fault[0])
		state = "degraded";
	kv_add(out, "state", "%s", state);
	kv_add(out, "state_reason", "%s", fault);
}

static void add_sensors(struct kv_out *out, struct daemon *d)
{
	const char *zone = "";
	int32_t millidegree_c;
	uint64_t uw;

	if (d->power.meter && d->requests == 0 &&
	    power_meter_read(d->power.meter, clock_now_ns(), profiles_count(d) > 0, &uw) == 0)
		d->power.uw = uw;
	kv_add(out, "power.sensor", "%s", d->power.meter ? power_meter_label(d->power.meter) : "");
	kv_add_u64(out, "power.uw", d->power.meter && power_meter_label(d->power.meter)[0] ? d->power.uw : 0);
	kv_add(out, "power.passed_over", "%s", d->power.meter ? power_meter_passed_over(d->power.meter) : "");
	kv_add(out, "power.why_not", "%s",
	       d->power.meter ? power_meter_label(d->power.meter)[0] ? "" : power_meter_passed_over(d->power.meter) :
	       d->config.power_sensor ? d->board.power_why_not :
					"switched off by flamed.conf");
	if (board_temperature(&d->board, &d->root, &millidegree_c, &zone) == 0) {
		kv_add(out, "temperature.millidegree_c", "%d", millidegree_c);
		kv_add(out, "temperature.zone", "%s", zone);
	}
}

static void add_keeper(struct kv_out *out, const struct daemon *d)
{
	static const char *const words[] = {"absent", "running", "running", "restarting"};
	const struct keeper_reply *last = &d->clocks.last;

	kv_add_u64(out, "keeper.pid", (uint64_t)keeper_link_pid(d->clocks.keeper));
	kv_add(out, "keeper.state", "%s", words[keeper_link_state(d->clocks.keeper)]);
	kv_add_u64(out, "keeper.journal_knobs", last->saved);
	kv_add_u64(out, "keeper.journal_errno", (uint64_t) - (int64_t)last->journal_error);
	kv_add(out, "keeper.text", "%s", last->text);
}

static uint64_t session_p99_ns(const struct session *session)
{
	uint64_t sorted[SESSION_TOTALS];
	size_t count = session->requests < SESSION_TOTALS ? (size_t)session->requests : SESSION_TOTALS;

	memcpy(sorted, session->total_ns, count * sizeof(*sorted));
	sort_u64(sorted, count);
	return quantile_u64(sorted, count, 0.99);
}

void stream_report(struct kv_out *out, const char *prefix, uint64_t rate_mhz, uint64_t first_ns,
		   const struct stream_stats *stats)
{
	add_u64(out, prefix, "rate_mhz", rate_mhz);
	add_u64(out, prefix, "first_ns", first_ns);
	add_u64(out, prefix, "reached_mhz", stream_reached_mhz(stats));
	add_u64(out, prefix, "scheduled", stats->ended);
	add_u64(out, prefix, "late", stats->late);
	add_u64(out, prefix, "starts", stats->firsts);
	add_u64(out, prefix, "first_median_ns", stream_first_ns(stats, 0.5));
	add_u64(out, prefix, "first_p99_ns", stream_first_ns(stats, 0.99));
}

/* Add the newest latencies, oldest first. */
static void add_recent(struct kv_out *out, const char *prefix, const struct session *session)
{
	size_t count = session->requests < STATUS_RECENT ? (size_t)session->requests : STATUS_RECENT, len = 0;
	char list[STATUS_RECENT * 21];

	if (count == 0)
		return;
	for (size_t i = 0; i < count; i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%" PRIu64, i ? "," : "",
					session->total_ns[(session->requests - count + i) % SESSION_TOTALS]);
	add_text(out, prefix, "recent_ns", list);
}

static uint64_t session_mean_ns(const struct session *session)
{
	return session->requests ? session->total_sum_ns / session->requests : 0;
}

/* Of one inference; of a stream, one token. */
static uint64_t session_energy_uj(const struct session *session)
{
	return (uint64_t)(session->power_uw * 1e-9 * (double)session_mean_ns(session));
}

static void add_session(struct kv_out *out, const struct session *session, unsigned i)
{
	char prefix[32];

	snprintf(prefix, sizeof(prefix), "session.%u", i);
	add_u64(out, prefix, "id", session->id);
	add_text(out, prefix, "model", session->entry->name);
	add_u64(out, prefix, "pid", (uint64_t)session->connection->pid);
	add_u64(out, prefix, "uid", session->connection->uid);
	add_text(out, prefix, "phase", phase_name(session->phase));
	add_u64(out, prefix, "context", session->context);
	add_u64(out, prefix, "deadline_ns", session->deadline_ns);
	add_u64(out, prefix, "requests", session->requests);
	add_u64(out, prefix, "missed", session->missed);
	add_u64(out, prefix, "unended", session->unended);
	add_text(out, prefix, "surface", state_word(model_state(session->entry->model, session->phase)));
	add_u64(out, prefix, "mean_ns", session_mean_ns(session));
	add_u64(out, prefix, "p99_ns", session_p99_ns(session));
	add_recent(out, prefix, session);
	add_u64(out, prefix, "power_uw", (uint64_t)session->power_uw);
	add_u64(out, prefix, "energy_uj", session_energy_uj(session));
	add_point(out, prefix, session->point);
	if (session->schedule.rate_mhz)
		stream_report(out, prefix, session->schedule.rate_mhz, session->schedule.first_ns,
			      &session->schedule.stats);
}

void query_status(struct daemon *d, struct connection *c, const struct kv *kv)
{
	char owners[256];
	unsigned shown = 0;
	struct kv_out *out;

	(void)kv;
	sessions_follow_mode(d);
	board_other_owners(&d->root, owners, sizeof(owners));
	out = reply_begin(c);
	kv_add(out, "version", "%s", FLAMED_VERSION);
	kv_add_u64(out, "uptime_ns", clock_now_ns() - d->started_ns);
	add_state(out, d);
	kv_add(out, "board.name", "%s", d->board.name);
	kv_add(out, "board.file", "%s", d->board.board_file);
	kv_add(out, "board.power_mode", "%s", d->board.power_mode);
	kv_add(out, "board.other_owners", "%s", owners);
	for (int i = 0; i < CLOCK_COUNT; i++)
		add_clock(out, d, (enum clock_id)i);
	add_sensors(out, d);
	add_keeper(out, d);
	kv_add_u64(out, "connections", server_connections(d->server));
	kv_add_u64(out, "sessions", d->sessions);
	kv_add_u64(out, "requests", d->requests);
	kv_add_u64(out, "requests_ended", d->requests_ended);
	profiles_report(d, out);
	for (size_t i = 0; i < d->session_top && out->len - c->reply_start < MESSAGE_BYTES_MAX - STATUS_ROOM; i++)
		if (d->session[i].id)
			add_session(out, &d->session[i], shown++);
	if (shown < d->sessions)
		kv_add_u64(out, "more", d->sessions - shown);
	reply_end(c);
}

/* Assumed deviation of the other boards' samples that a model's surfaces use; 0: they use none. */
static uint64_t inherited_permille(const struct model *model)
{
	double most = 0, sd;

	for (int p = 0; p < PHASE_COUNT; p++)
		if (model_inherited(model, (enum phase)p, &sd) && sd > most)
			most = sd;
	return (uint64_t)(1000 * most);
}

/* Returns whether it was added: a model that is unused and unknown is left out. */
static bool add_model(struct kv_out *out, const struct entry *entry, const struct model_summary *known, unsigned i)
{
	char prefix[24], phases[64] = "";
	size_t layers = model_layer_count(entry->model), len = 0;

	if (!known->samples && !layers && !entry->users)
		return false;
	for (int p = 0; p < PHASE_COUNT; p++)
		if (known->phase[p])
			len += (size_t)snprintf(phases + len, sizeof(phases) - len, "%s%s", len ? "," : "",
						phase_name((enum phase)p));
	snprintf(prefix, sizeof(prefix), "model.%u", i);
	add_text(out, prefix, "name", entry->name);
	add_text(out, prefix, "mode", entry->mode);
	add_text(out, prefix, "state", state_word(model_best_state(entry->model)));
	add_text(out, prefix, "phases", phases);
	add_u64(out, prefix, "samples", known->samples);
	add_u64(out, prefix, "contexts", known->contexts);
	add_u64(out, prefix, "layers", layers > 0);
	add_u64(out, prefix, "uid", entry->owner);
	add_u64(out, prefix, "inherited_permille", inherited_permille(entry->model));
	add_u64(out, prefix, "rejected", model_rejected(entry->model));
	return true;
}

enum whose { WHOSE_OWN, WHOSE_ADMIN, WHOSE_OTHERS, WHOSE_COUNT };

/* The models of the client's user come first, so that a search by name finds them in the first reply. */
void query_models(struct daemon *d, struct connection *c, const struct kv *kv)
{
	uid_t own = user_owner(c->uid);
	uint64_t from = 0;
	unsigned shown = 0;
	size_t walked = 0;
	struct kv_out *out;

	if (!want_u64(c, kv, "from", 0, UINT64_MAX, &from))
		return;
	struct library_place place = library_place(&d->library, from);
	out = reply_begin(c);
	kv_add(out, "mode", "%s", d->library.mode);
	kv_add_u64(out, "uid", own);
	for (int whose = WHOSE_OWN; whose < (is_admin(c) ? WHOSE_COUNT : WHOSE_OTHERS); whose++) {
		for (size_t i = 0; i < d->library.count; i++) {
			const struct entry *entry = &d->library.entry[i];
			uint64_t at = (uint64_t)whose * MODELS_MAX + i;
			enum whose is = entry->owner == own        ? WHOSE_OWN :
					entry->owner == USER_ADMIN ? WHOSE_ADMIN :
								     WHOSE_OTHERS;

			if (at < place.at || entry->number > place.entered || is != (enum whose)whose)
				continue;
			if (out->len - c->reply_start > MODELS_PAGE_BYTES || walked > MODELS_PAGE_ROWS) {
				kv_add_u64(out, "next", library_next(place, at));
				reply_end(c);
				return;
			}
			struct model_summary known = model_summary(entry->model);
			walked += known.samples;
			shown += add_model(out, entry, &known, shown);
		}
	}
	reply_end(c);
}

static void add_axis(struct kv_out *out, const struct grid *grid, int axis)
{
	char key[16], list[GRID_AXIS_MAX * 21];
	size_t len = 0;

	for (size_t i = 0; i < grid->count[axis]; i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%" PRIu64, i ? "," : "", grid->hz[axis][i]);
	snprintf(key, sizeof(key), "%s_hz", clock_name((enum clock_id)axis));
	kv_add(out, key, "%s", list);
}

/* As "%.0f", which takes five times as long. */
static unsigned long long whole(float value)
{
	return value < 1e18F ? (unsigned long long)llrintf(value) : ULLONG_MAX;
}

static void add_row(struct kv_out *out, const struct surface *s, size_t row)
{
	const struct grid *grid = s->grid;
	char key[32], list[LINE_BYTES_MAX];
	size_t len = 0;

	snprintf(key, sizeof(key), "row.%zu.%zu", row / grid->count[CLOCK_GPU], row % grid->count[CLOCK_GPU]);
	for (size_t m = 0; m < grid->count[CLOCK_MEM] && len < sizeof(list) - 128; m++) {
		size_t i = row * grid->count[CLOCK_MEM] + m;

		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%llu:%llu:%llu:%u:%u:%u:%llu", m ? "," : "",
					whole(s->latency_ns[i]), whole(s->bound_ns[i]), whole(s->power_uw[i]),
					s->measured[i], s->source[i], s->regime[i], whole(s->bubble_ns[i]));
	}
	kv_add(out, key, "%s", list);
}

/* The user's own model, else the administrator's. The administrator may select an owner by uid. */
static struct entry *visible_model(struct daemon *d, const struct connection *c, const char *name, uint64_t uid)
{
	return library_find(&d->library, name,
			    uid != UINT64_MAX && is_admin(c) ? user_owner((uid_t)uid) : user_owner(c->uid));
}

/* The time of a long fit is charged to the client's user. A user in debt gets the surface of the
 * previous fit. NULL: the query has to wait for a helper process. */
static const struct surface *newest_surface(struct daemon *d, struct connection *c, struct entry *entry,
					    enum phase phase, uint32_t context)
{
	struct model *model = entry->model;
	bool others = d->sessions > c->user->sessions, busy = d->fitting.helper.pid > 0;
	uint64_t start_ns = clock_cpu_ns();
	const struct surface *surface;

	if (c->helped && !busy) { /* one process for each question */
		c->helped = false;
		return view_model_surface(d, c->user, model, phase, context);
	}
	if (others && user_owes_ns(c->user, DEBT_WORK) && model_surface_is_at_hand(model, phase, context))
		return model_surface_at_hand(model, phase, context);
	if (fitting_start(d, entry, phase, context, c->uid)) {
		c->helped |= !busy;
		return NULL;
	}
	surface = model_surface(model, phase, context);
	if (others)
		user_charge(c->user, DEBT_WORK, clock_cpu_ns() - start_ns);
	return surface;
}

void query_surface(struct daemon *d, struct connection *c, const struct kv *kv)
{
	const struct surface *s;
	struct entry *entry;
	const char *model;
	enum phase phase = PHASE_RUN;
	uint32_t context = 0;
	uint64_t row = 0, owner = UINT64_MAX;
	size_t rows = d->clocks.grid.count[CLOCK_CPU] * d->clocks.grid.count[CLOCK_GPU];
	struct kv_out *out;

	if (!need_model(c, kv, &model) || !want_phase(c, kv, &phase, &context) ||
	    !want_u64(c, kv, "from", 0, rows - 1, &row) || !want_u64(c, kv, "uid", 0, UINT32_MAX, &owner))
		return;
	entry = visible_model(d, c, model, owner);
	if (!entry) {
		reply_error(c, ENOENT, "model: %s is not known; flamectl models lists the known ones", model);
		return;
	}
	if (!model_read(d, c, entry, phase, context))
		return;
	s = newest_surface(d, c, entry, phase, context);
	if (!s) {
		connection_repeat(c);
		return;
	}
	out = reply_begin(c);
	kv_add(out, "state", "%s", state_word(s->shown));
	kv_add(out, "phase", "%s", phase_name(phase));
	kv_add_u64(out, "context", context);
	kv_add_u64(out, "power_known", s->power_known);
	kv_add(out, "slowdown", "%.4f", s->slowdown);
	for (int axis = 0; axis < CLOCK_COUNT; axis++)
		add_axis(out, s->grid, axis);
	kv_add(out, "current", "%ld", d->clocks.view.current_known ? (long)d->clocks.view.current : -1L);
	while (row < rows && out->len - c->reply_start < MESSAGE_BYTES_MAX - 2 * LINE_BYTES_MAX)
		add_row(out, s, (size_t)row++);
	if (row < rows)
		kv_add_u64(out, "next", row);
	reply_end(c);
}

/* "by 33.0 ms" or, in a stream, "at 15.0/s, 120 ms ahead of its schedule". */
static void explain_deadline(const struct session *session, char *buf, size_t size)
{
	int64_t ahead_ns = session->ahead_ns;
	char text[32], rate[32];

	if (!session->schedule.rate_mhz) {
		snprintf(buf, size, "by %s", format_duration(text, sizeof(text), session->deadline_ns));
		return;
	}
	snprintf(buf, size, "at %s, %s %s its schedule", format_rate(rate, sizeof(rate), session->schedule.rate_mhz),
		 format_duration(text, sizeof(text), (uint64_t)(ahead_ns < 0 ? -ahead_ns : ahead_ns)),
		 ahead_ns < 0 ? "behind" : "ahead of");
}

static void explain_text(const struct session *session, const struct grid *grid, char *buf, size_t size)
{
	const struct decision *x = &session->decision;
	char deadline[96], bound[32], cpu[32], gpu[32], mem[32];

	explain_deadline(session, deadline, sizeof(deadline));
	snprintf(buf, size, "%s %s: cpu %s, gpu %s, mem %s %s; bound %s (%s)%s", session->entry->name, deadline,
		 format_frequency(cpu, sizeof(cpu), session->point.hz[CLOCK_CPU]),
		 format_frequency(gpu, sizeof(gpu), session->point.hz[CLOCK_GPU]),
		 format_frequency(mem, sizeof(mem), session->point.hz[CLOCK_MEM]), reason_text(x->reason),
		 format_duration(bound, sizeof(bound), x->bound_ns), source_word(x->source),
		 x->learning ? "; still learning" : "");
	if (x->runner_up.point < grid->points && strlen(buf) + 1 < size)
		snprintf(buf + strlen(buf), size - strlen(buf), "; a cheaper point was refused because %s",
			 refusal_text(x->runner_up.refused));
}

static void add_runner_up(struct kv_out *out, const struct decision *x, const struct grid *grid)
{
	if (x->runner_up.point >= grid->points)
		return;
	add_point(out, "runner_up", grid_point(grid, x->runner_up.point));
	add_u64(out, "runner_up", "power_uw", (uint64_t)x->runner_up.power_uw);
	add_u64(out, "runner_up", "bound_ns", x->runner_up.bound_ns);
	add_u64(out, "runner_up", "settle_ns", x->runner_up.settle_ns);
	if (x->runner_up.deadline_ns && x->power_known)
		add_u64(out, "runner_up", "deadline_ns", x->runner_up.deadline_ns);
	add_text(out, "runner_up", "refused", refusal_word(x->runner_up.refused));
	add_text(out, "runner_up", "text", refusal_text(x->runner_up.refused));
}

void query_explain(struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct session *session = d->last_decided;
	const struct surface *surface;
	const struct decision *x;
	char text[512];
	uint64_t id = 0;
	struct kv_out *out;

	if (!want_u64(c, kv, "session", 1, UINT64_MAX, &id))
		return;
	if (id)
		session = session_find(d, NULL, id);
	if (!session && d->closed.entry && (!id || id == d->closed.id))
		session = &d->closed;
	if (!session || !session->decided_request) {
		reply_error(c, ENOENT,
			    id ? "session: no decision for session %" PRIu64 :
				 "no decision yet: no session has begun a request",
			    id);
		return;
	}
	x = &session->decision;
	surface = newest_surface(d, c, session->entry, session->phase, session->context);
	if (!surface) {
		connection_repeat(c);
		return;
	}
	out = reply_begin(c);
	kv_add_u64(out, "session", session->id);
	kv_add_u64(out, "closed", session == &d->closed);
	kv_add(out, "model", "%s", session->entry->name);
	kv_add(out, "phase", "%s", phase_name(session->phase));
	kv_add_u64(out, "context", session->context);
	kv_add_u64(out, "request", session->decided_request);
	kv_add_u64(out, "feasible", x->feasible);
	kv_add_u64(out, "learning", x->learning);
	kv_add(out, "reason", "%s", reason_word(x->reason));
	kv_add_u64(out, "trial", x->reason == REASON_EXPLORE);
	kv_add_u64(out, "step", x->reason == REASON_WAY);
	kv_add_u64(out, "late_once", x->reason == REASON_BUY);
	kv_add_u64(out, "stays", x->reason == REASON_STAY);
	kv_add(out, "late", "%.5f", x->late);
	kv_add(out, "debt", "%.3f", x->miss_debt);
	kv_add_u64(out, "miss_price_uw", (uint64_t)x->miss_price_uw);
	kv_add_u64(out, "others", x->others);
	kv_add_u64(out, "deadline_ns", session->deadline_ns);
	kv_add_u64(out, "slack_ns", x->slack_ns);
	if (session->schedule.rate_mhz) {
		kv_add_u64(out, "rate_mhz", session->schedule.rate_mhz);
		kv_add_u64(out, "number", session->number);
		kv_add(out, "ahead_ns", "%" PRId64, session->ahead_ns);
		stream_report(out, "stream", session->schedule.rate_mhz, session->schedule.first_ns,
			      &session->schedule.stats);
		add_u64(out, "stream", "energy_uj", session_energy_uj(session));
	}
	add_point(out, "", session->point);
	kv_add_u64(out, "predicted_ns", x->predicted_ns);
	kv_add_u64(out, "bound_ns", x->bound_ns);
	kv_add_u64(out, "settle_ns", x->settle_ns);
	kv_add_u64(out, "margin_ns", x->bound_ns > x->predicted_ns ? x->bound_ns - x->predicted_ns : 0);
	kv_add_u64(out, "power_uw", (uint64_t)x->power_uw);
	kv_add_u64(out, "power_known", x->power_known);
	kv_add(out, "power_rail", "%s", d->power.meter ? power_meter_label(d->power.meter) : "");
	kv_add(out, "source", "%s", source_word(x->source));
	kv_add(out, "regime", "%s", regime_word(x->regime));
	kv_add_u64(out, "bubble_ns", (uint64_t)surface->bubble_ns[x->point]);
	kv_add(out, "slowdown", "%.4f", surface->slowdown);
	add_runner_up(out, x, &d->clocks.grid);
	explain_text(session, &d->clocks.grid, text, sizeof(text));
	kv_add(out, "text", "%s", text);
	reply_end(c);
}

void query_release(struct daemon *d, struct connection *c, const struct kv *kv)
{
	(void)kv;
	if (!need_admin(c, "release"))
		return;
	clocks_release(&d->clocks);
	d->clocks.released = true;
	reply_begin(c);
	reply_end(c);
}

/* The kernel's governor of the clock, for example "schedutil". */
static void add_kernel_governor(struct kv_out *out, const struct daemon *d, enum clock_id id)
{
	const struct clock_domain *domain = &d->board.clock[id];
	char path[SYSFS_PATH_MAX + 32], text[64], key[32];

	if (!d->clocks.managed[id])
		return;
	snprintf(path, sizeof(path), "%s/%s", domain->device[domain->lead].dir,
		 id == CLOCK_CPU ? "scaling_governor" : "governor");
	snprintf(key, sizeof(key), "governor.%s", clock_name(id));
	kv_add(out, key, "%s", sysroot_read(&d->root, path, text, sizeof(text)) > 0 ? text : "");
}

void query_savings(struct daemon *d, struct connection *c, const struct kv *kv)
{
	uint64_t from = 0;
	struct kv_out *out;
	unsigned shown = 0;
	char prefix[32];

	if (!want_u64(c, kv, "from", 0, UINT64_MAX, &from))
		return;
	struct library_place place = library_place(&d->library, from);
	out = reply_begin(c);
	kv_add(out, "mode", "%s", d->clocks.shadow ? "shadow" : "govern");
	kv_add(out, "confidence", "%.4f", 2 * d->config.quantile - 1);
	for (int i = 0; i < CLOCK_COUNT; i++)
		add_kernel_governor(out, d, (enum clock_id)i);
	for (size_t i = place.at; i < d->library.count; i++) {
		const struct entry *entry = &d->library.entry[i];

		if (entry->savings.requests <= 0 || entry->number > place.entered ||
		    !(is_admin(c) || entry->owner == USER_ADMIN || entry->owner == c->uid))
			continue;
		if (out->len - c->reply_start > MESSAGE_BYTES_MAX - 2 * LINE_BYTES_MAX) {
			kv_add_u64(out, "next", library_next(place, i));
			break;
		}
		snprintf(prefix, sizeof(prefix), "model.%u", shown++);
		add_text(out, prefix, "name", entry->name);
		add_text(out, prefix, "mode", entry->mode);
		add_u64(out, prefix, "uid", entry->owner);
		ledger_report(out, prefix, &entry->savings);
	}
	reply_end(c);
}
