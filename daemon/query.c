/* SPDX-License-Identifier: MIT */
/* What flamed does and why, for people and programs: hello, status, models,
 * surface, explain, release. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/units.h"
#include "daemon.h"

#define STATUS_ROOM 2048 /* bytes of a message kept free for what follows the sessions */

static const char *const method_words[METHOD_COUNT] = {
	[METHOD_NONE] = "none",		       [METHOD_CPUFREQ_LIMITS] = "cpufreq limits", [METHOD_CPUFREQ_SETSPEED] = "cpufreq userspace",
	[METHOD_DEVFREQ_LIMITS] = "devfreq limits", [METHOD_DEVFREQ_USERSPACE] = "devfreq userspace", [METHOD_I915] = "i915",
	[METHOD_XE] = "xe",		       [METHOD_AMDGPU] = "amdgpu",		   [METHOD_BPMP_EMC] = "bpmp emc",
};

/* PREFIX.NAME=value; the prefix may hold an index. */
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
	kv_add_u64(out, "power_sensor", d->meter != NULL);
	reply_end(c);
}

static const char *owner_word(const struct clocks *clocks, int i)
{
	if (clocks->last.state[i] == KNOB_FOREIGN)
		return "foreign";
	return clocks->held && clocks->managed[i] && keeper_link_state(clocks->keeper) == KEEPER_RUNNING ? "flamed" : "kernel";
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
	static const char *const states[] = { "ok", "foreign", "refused", "lost", "degraded" };
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
	add_text(out, prefix, "owner", owner_word(clocks, id));
	add_text(out, prefix, "why_not", clocks->managed[id] ? "" : domain->devices ? "left alone by flamed.conf" : domain->why_not);
	add_text(out, prefix, "state", clocks->last.state[id] < sizeof(states) / sizeof(*states) ? states[clocks->last.state[id]] : "degraded");
	add_u64(out, prefix, "settle_ns", clocks->view.settle_ns[id]);
	if (clocks->held && clocks->managed[id])
		add_u64(out, prefix, "target_hz", clocks->target_point.hz[id]);
}

static void add_state(struct kv_out *out, const struct daemon *d)
{
	const struct clocks *clocks = &d->clocks;
	enum keeper_link_state keeper = keeper_link_state(clocks->keeper);
	bool managed = clocks->managed[CLOCK_CPU] || clocks->managed[CLOCK_GPU] || clocks->managed[CLOCK_MEM];
	const char *fault = clocks_fault(clocks), *state = d->sessions || profiles_count(d) ? "busy" : "idle";

	if (clocks->released)
		state = "released";
	if (!managed)
		fault = "no clock of this board can be moved";
	else if (keeper == KEEPER_ABSENT || keeper == KEEPER_RESTARTING)
		fault = "the keeper is not there, so no clock is moved";
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

	if (d->meter && d->requests == 0 && power_meter_read(d->meter, clock_now_ns(), &uw) == 0)
		d->power_uw = uw;
	kv_add(out, "power.sensor", "%s", d->meter ? d->board.rail[0].label : "");
	kv_add_u64(out, "power.uw", d->meter ? d->power_uw : 0);
	kv_add(out, "power.why_not", "%s", d->meter ? "" : d->config.power_sensor ? d->board.power_why_not : "switched off by flamed.conf");
	if (board_temperature(&d->board, &d->root, &millidegree_c, &zone) == 0) {
		kv_add(out, "temperature.millidegree_c", "%d", millidegree_c);
		kv_add(out, "temperature.zone", "%s", zone);
	}
}

static void add_keeper(struct kv_out *out, const struct daemon *d)
{
	static const char *const words[] = { "absent", "running", "running", "restarting" };
	const struct keeper_reply *last = &d->clocks.last;

	kv_add_u64(out, "keeper.pid", (uint64_t)keeper_link_pid(d->clocks.keeper));
	kv_add(out, "keeper.state", "%s", words[keeper_link_state(d->clocks.keeper)]);
	kv_add_u64(out, "keeper.journal_knobs", last->saved);
	kv_add_u64(out, "keeper.journal_errno", (uint64_t)-(int64_t)last->journal_error);
	kv_add(out, "keeper.text", "%s", last->text);
}

static uint64_t session_p99_ns(const struct session *session)
{
	uint64_t sorted[SESSION_TOTALS];
	size_t count = session->requests < SESSION_TOTALS ? (size_t)session->requests : SESSION_TOTALS;

	if (count == 0)
		return 0;
	memcpy(sorted, session->total_ns, count * sizeof(*sorted));
	totals_sort(sorted, count);
	return sorted[TOTALS_P99(count)];
}

static void add_session(struct kv_out *out, const struct session *session, unsigned i)
{
	uint64_t mean_ns = session->requests ? session->total_sum_ns / session->requests : 0;
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
	add_u64(out, prefix, "mean_ns", mean_ns);
	add_u64(out, prefix, "p99_ns", session_p99_ns(session));
	add_u64(out, prefix, "power_uw", (uint64_t)session->power_uw);
	add_u64(out, prefix, "energy_uj", (uint64_t)(session->power_uw * 1e-9 * (double)mean_ns));
	add_point(out, prefix, session->point);
}

void query_status(struct daemon *d, struct connection *c, const struct kv *kv)
{
	char owners[256];
	unsigned shown = 0;
	struct kv_out *out;

	(void)kv;
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
	for (size_t i = 0; i < SESSIONS_MAX && out->len - c->reply_start < MESSAGE_BYTES_MAX - STATUS_ROOM; i++)
		if (d->session[i].id)
			add_session(out, &d->session[i], shown++);
	if (shown < d->sessions)
		kv_add_u64(out, "more", d->sessions - shown);
	reply_end(c);
}

static void phase_list(const struct sample *samples, size_t count, char *buf, size_t size, unsigned *contexts)
{
	bool seen[PHASE_COUNT] = { false };
	size_t len = 0;

	*contexts = 0;
	for (size_t i = 0; i < count; i++) {
		bool known = false;

		seen[samples[i].phase] = true;
		for (size_t k = 0; k < i && !known; k++)
			known = samples[k].phase == samples[i].phase && samples[k].context == samples[i].context;
		*contexts += !known;
	}
	buf[0] = '\0';
	for (int p = 0; p < PHASE_COUNT; p++)
		if (seen[p])
			len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? "," : "", phase_name((enum phase)p));
}

/* A model that nobody uses and of which nothing is known is none. */
static unsigned add_model(struct kv_out *out, const struct entry *entry, unsigned i)
{
	struct sample *samples = NULL;
	struct layer *layers = NULL;
	long count = model_samples(entry->model, &samples), layer_count = model_layers(entry->model, &layers);
	enum surface_state best = SURFACE_NONE;
	char prefix[24], phases[64];
	unsigned contexts, shown = 0;

	if (count == 0 && layer_count == 0 && entry->users == 0)
		goto out;
	phase_list(samples, count > 0 ? (size_t)count : 0, phases, sizeof(phases), &contexts);
	for (int p = 0; p < PHASE_COUNT; p++)
		if (model_state(entry->model, (enum phase)p) > best)
			best = model_state(entry->model, (enum phase)p);
	snprintf(prefix, sizeof(prefix), "model.%u", i);
	add_text(out, prefix, "name", entry->name);
	add_text(out, prefix, "mode", entry->mode);
	add_text(out, prefix, "state", state_word(best));
	add_text(out, prefix, "phases", phases);
	add_u64(out, prefix, "samples", count > 0 ? (uint64_t)count : 0);
	add_u64(out, prefix, "contexts", contexts);
	add_u64(out, prefix, "layers", layer_count > 0);
	shown = 1;
out:
	free(samples);
	free(layers);
	return shown;
}

void query_models(struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct kv_out *out = reply_begin(c);
	unsigned shown = 0;

	(void)kv;
	for (size_t i = 0; i < d->library.count; i++)
		shown += add_model(out, &d->library.entry[i], shown);
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

static void add_row(struct kv_out *out, const struct surface *s, size_t row)
{
	const struct grid *grid = s->grid;
	char key[32], list[LINE_BYTES_MAX];
	size_t len = 0;

	snprintf(key, sizeof(key), "row.%zu.%zu", row / grid->count[CLOCK_GPU], row % grid->count[CLOCK_GPU]);
	for (size_t m = 0; m < grid->count[CLOCK_MEM] && len < sizeof(list) - 128; m++) {
		size_t i = row * grid->count[CLOCK_MEM] + m;

		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%.0f:%.0f:%.0f:%u:%u:%u:%.0f", m ? "," : "", (double)s->latency_ns[i],
					(double)s->bound_ns[i], (double)s->power_uw[i], s->measured[i], s->source[i], s->regime[i],
					(double)s->bubble_ns[i]);
	}
	kv_add(out, key, "%s", list);
}

void query_surface(struct daemon *d, struct connection *c, const struct kv *kv)
{
	const struct surface *s;
	const struct entry *entry;
	const char *model;
	enum phase phase = PHASE_RUN;
	uint32_t context = 0;
	uint64_t row = 0;
	size_t rows = d->clocks.grid.count[CLOCK_CPU] * d->clocks.grid.count[CLOCK_GPU];
	struct kv_out *out;

	if (!need_model(c, kv, &model) || !want_phase(c, kv, &phase, &context) || !want_u64(c, kv, "from", 0, rows - 1, &row))
		return;
	entry = library_find(&d->library, model);
	if (!entry) {
		reply_error(c, ENOENT, "model: %s is not known here; flamectl models lists those that are", model);
		return;
	}
	s = model_surface(entry->model, phase, context);
	out = reply_begin(c);
	kv_add(out, "state", "%s", state_word(s->state));
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

static void explain_text(const struct session *session, const struct grid *grid, char *buf, size_t size)
{
	const struct decision *x = &session->decision;
	char deadline[32], bound[32], cpu[32], gpu[32], mem[32];

	snprintf(buf, size, "%s by %s: cpu %s, gpu %s, mem %s %s a bound of %s (%s)%s%s%s", session->entry->name,
		 format_duration(deadline, sizeof(deadline), session->deadline_ns), format_frequency(cpu, sizeof(cpu), session->point.hz[CLOCK_CPU]),
		 format_frequency(gpu, sizeof(gpu), session->point.hz[CLOCK_GPU]), format_frequency(mem, sizeof(mem), session->point.hz[CLOCK_MEM]),
		 x->step       ? "is a step on the way to where it cannot go at once, with"
		 : x->feasible ? "is the cheapest point that fits, with"
		 : x->late_once ? "is where the next will be in time, moving there takes too long for this one, with"
		 : x->stays    ? "stays, as moving takes longer than what it is over its slack by, with"
			       : "is as fast as it may go and cannot meet it, with",
		 format_duration(bound, sizeof(bound), x->bound_ns), source_word(x->source), x->learning ? "; still learning" : "",
		 x->trial ? "; a trial, to learn or to get there" : "", x->held ? "; held up after a miss" : "");
	if (x->runner_up < grid->points && strlen(buf) + 1 < size)
		snprintf(buf + strlen(buf), size - strlen(buf), "; cheaper was refused: %s", refusal_text(x->runner_up_refused));
}

static void add_runner_up(struct kv_out *out, const struct decision *x, const struct grid *grid)
{
	static const char *const words[] = { "not", "bound", "settle", "shared", "ceiling", "floor", "hold", "dwell", "gain", "standby" };

	if (x->runner_up >= grid->points)
		return;
	add_point(out, "runner_up", grid_point(grid, x->runner_up));
	add_u64(out, "runner_up", "power_uw", (uint64_t)x->runner_up_power_uw);
	add_u64(out, "runner_up", "bound_ns", x->runner_up_bound_ns);
	add_u64(out, "runner_up", "settle_ns", x->runner_up_settle_ns);
	add_text(out, "runner_up", "refused", (size_t)x->runner_up_refused < sizeof(words) / sizeof(*words) ? words[x->runner_up_refused] : "");
	add_text(out, "runner_up", "text", refusal_text(x->runner_up_refused));
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
		reply_error(c, ENOENT, id ? "session: no decision for session %" PRIu64 : "no decision yet: no session has begun a request", id);
		return;
	}
	x = &session->decision;
	surface = model_surface(session->entry->model, session->phase, session->context);
	out = reply_begin(c);
	kv_add_u64(out, "session", session->id);
	kv_add_u64(out, "closed", session == &d->closed);
	kv_add(out, "model", "%s", session->entry->name);
	kv_add(out, "phase", "%s", phase_name(session->phase));
	kv_add_u64(out, "context", session->context);
	kv_add_u64(out, "request", session->decided_request);
	kv_add_u64(out, "feasible", x->feasible);
	kv_add_u64(out, "learning", x->learning);
	kv_add_u64(out, "trial", x->trial);
	kv_add_u64(out, "step", x->step);
	kv_add_u64(out, "late_once", x->late_once);
	kv_add_u64(out, "stays", x->stays);
	kv_add_u64(out, "deadline_ns", session->deadline_ns);
	kv_add_u64(out, "slack_ns", x->slack_ns);
	add_point(out, "", session->point);
	kv_add_u64(out, "predicted_ns", x->predicted_ns);
	kv_add_u64(out, "bound_ns", x->bound_ns);
	kv_add_u64(out, "settle_ns", x->settle_ns);
	kv_add_u64(out, "margin_ns", x->bound_ns > x->predicted_ns ? x->bound_ns - x->predicted_ns : 0);
	kv_add(out, "factor", "%.4f", x->factor);
	kv_add_u64(out, "power_uw", (uint64_t)x->power_uw);
	kv_add_u64(out, "power_known", x->power_known);
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
	if (c->uid != 0 && c->uid != geteuid()) {
		reply_error(c, EPERM, "op: release is for root and the user flamed runs as");
		return;
	}
	clocks_release(&d->clocks);
	d->clocks.released = true;
	reply_begin(c);
	reply_end(c);
}
