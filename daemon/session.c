/* SPDX-License-Identifier: MIT */
/* The session table: open, close, and the end of everything that a connection owns. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../common/clock.h"
#include "daemon.h"
#include "view.h"

#define SESSION_GENERATIONS 0xfffffU /* mask: an id fits 32 bits and is never 0 */
_Static_assert((uint64_t)SESSION_GENERATIONS *SESSIONS_MAX + SESSIONS_MAX <= UINT32_MAX, "ids of sessions");

struct session *session_find(struct daemon *d, const struct connection *c, uint64_t id)
{
	struct session *session = id ? &d->session[(id - 1) % SESSIONS_MAX] : NULL;

	if (!session || session->id != id || (c && session->connection != c))
		return NULL;
	return session;
}

uint32_t session_slot(const struct daemon *d, const struct session *session)
{
	return (uint32_t)(session - d->session);
}

static void session_drop(struct daemon *d, struct session *session)
{
	requests_drop(d, session);
	if (d->last_decided == session)
		d->last_decided = NULL;
	governor_session_reset(&d->governor, session_slot(d, session));
	if (session->decided_request && model_state(session->entry->model, session->phase) != SURFACE_NONE) {
		/* keep it for op=explain, unless nothing is known of its model */
		if (d->closed.entry)
			library_put(d->closed.entry);
		d->closed = *session;
		d->closed.connection = NULL;
	} else {
		library_put(session->entry);
	}
	session->connection->sessions--;
	d->shadows -= session->shadow;
	d->was_used = true;
	session->connection->user->sessions--;
	session->id = 0;
	d->sessions--;
	while (d->session_top > 0 && !d->session[d->session_top - 1].id)
		d->session_top--;
}

/* Once there are no sessions and profiles, release the clocks and save the models. */
static void release_if_unused(struct daemon *d)
{
	if (d->sessions > d->shadows || profiles_count(d))
		return;
	clocks_release(&d->clocks);
	if (d->sessions)
		return;
	loop_timer_stop(d->idle);
	loop_timer_stop(d->expiry);
	if (d->was_used)
		board_rescan_later(d);
	d->was_used = false;
	if (library_has_unread(&d->library))
		loop_timer_in(d->read, LIBRARY_READ_NS);
	if (library_save_later(&d->library, clock_now_ns()))
		loop_timer_in(d->save, LIBRARY_SAVE_NS);
	else
		loop_timer_stop(d->save);
}

void sessions_close(struct daemon *d, struct connection *c)
{
	for (size_t i = 0; i < d->session_top && c->sessions; i++)
		if (d->session[i].id && d->session[i].connection == c)
			session_drop(d, &d->session[i]);
	profiles_close(d, c);
	tally_close(c);
	release_if_unused(d);
}

void session_close(struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct session *session;
	uint64_t id;

	if (kv_get(kv, "profile")) {
		if (!need_u64(c, kv, "profile", 1, UINT64_MAX, &id))
			return;
		if (!profile_close(d, c, id)) {
			reply_error(c, ENOENT, "profile: no profile %" PRIu64 " on this connection", id);
			return;
		}
	} else {
		if (!need_u64(c, kv, "session", 1, UINT64_MAX, &id))
			return;
		session = session_find(d, c, id);
		if (!session) {
			reply_error(c, ENOENT, "session: no session %" PRIu64 " on this connection", id);
			return;
		}
		session_drop(d, session);
	}
	release_if_unused(d);
	reply_begin(c);
	reply_end(c);
}

static struct session *session_new(struct daemon *d, struct connection *c)
{
	if (c->sessions >= SESSIONS_PER_CONNECTION_MAX || c->user->sessions >= SESSIONS_PER_UID_MAX) {
		reply_error(c, EDQUOT, "session: at most %d for each connection and %d for each user",
			    SESSIONS_PER_CONNECTION_MAX, SESSIONS_PER_UID_MAX);
		return NULL;
	}
	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		struct session *session = &d->session[i];

		if (session->id)
			continue;
		memset(session, 0, sizeof(*session));
		session->id = (d->session_generation[i]++ & SESSION_GENERATIONS) * SESSIONS_MAX + i + 1;
		if (i >= d->session_top)
			d->session_top = i + 1;
		return session;
	}
	reply_error(c, ENOSPC, "session: all %d slots are in use", SESSIONS_MAX);
	return NULL;
}

/* Switch a session to its model of the current power mode; if there is no room for it, keep the old
 * one. */
static void follow(struct daemon *d, struct session *session)
{
	struct entry *entry = library_get(&d->library, session->entry->name, session->entry->owner, clock_now_ns());

	if (!entry)
		return;
	library_put(session->entry);
	session->entry = entry;
	governor_session_reset(&d->governor, session_slot(d, session));
}

void sessions_follow_mode(struct daemon *d)
{
	if (!mode_reader_changed(&d->mode_reader, &d->root, clock_now_ns()))
		return;
	board_find_power_mode(&d->board, &d->root);
	if (!library_set_mode(&d->library, d->board.power_mode))
		return;
	for (size_t i = 0; i < d->session_top; i++)
		if (d->session[i].id)
			follow(d, &d->session[i]);
	for (size_t i = 0; i < d->request_top; i++)
		d->request[i].mode_changed = true;
}

uint64_t session_apply(struct daemon *d, const struct session *session, size_t point)
{
	if (!session->shadow)
		return clocks_apply(&d->clocks, point);
	clocks_pretend(&d->clocks, point);
	return 0;
}

/* If a session sets a deadline at open, prepare the clocks for its first request. */
static void prepare(struct daemon *d, struct session *session)
{
	const struct surface *surface;
	uint64_t now_ns = daemon_now_ns(d);

	if (!session->deadline_ns || d->clocks.held || d->requests || profiles_count(d))
		return;
	if (!session->shadow)
		clocks_stop_pretending(&d->clocks);
	surface = view_surface(d, session, session->phase, session->context);
	struct governor_request first = {.surface = surface,
					 .session = session_slot(d, session),
					 .model = (uint32_t)(session->entry - d->library.entry),
					 .begin_ns = now_ns,
					 .deadline_ns = now_ns + session->deadline_ns,
					 .again_ns = GAP_UNKNOWN};
	session_apply(d, session, governor_prepare(&d->governor, &d->clocks.view, &first, now_ns));
	loop_timer_in(d->idle, d->config.release_after_ns);
}

void session_open(struct daemon *d, struct connection *c, const struct kv *kv)
{
	const char *model, *tag = kv_get(kv, "tag");
	const struct config_model *known;
	struct session *session;
	enum phase phase = PHASE_RUN;
	uint32_t context = 0;
	uint64_t deadline_ns = 0, rate_mhz = 0, first_ns = 0;
	struct entry *entry;

	if (!need_model(c, kv, &model) || !want_phase(c, kv, &phase, &context))
		return;
	if (!want_u64(c, kv, "deadline_ns", DEADLINE_NS_MIN, DEADLINE_NS_MAX, &deadline_ns))
		return;
	known = config_model_find(&d->config, model);
	if (!want_u64(c, kv, "rate_mhz", 1, RATE_MHZ_MAX, &rate_mhz) ||
	    !want_u64(c, kv, "first_ns", DEADLINE_NS_MIN, DEADLINE_NS_MAX, &first_ns))
		return;
	if (known && !rate_mhz && !deadline_ns && known->rate_mhz) {
		rate_mhz = known->rate_mhz;
		first_ns = first_ns ? first_ns : known->first_ns;
	}
	if (first_ns && !rate_mhz) {
		reply_error(c, EINVAL, "first_ns: requires rate_mhz, the rate of a stream");
		return;
	}
	if (tag && !model_name_valid(tag)) {
		reply_error(c, EINVAL, "tag: must be spelled like a model name");
		return;
	}
	sessions_follow_mode(d);
	session = session_new(d, c);
	if (!session)
		return;
	entry = library_get(&d->library, model, known && known->shared ? USER_ADMIN : user_owner(c->uid),
			    clock_now_ns());
	if (!entry) {
		session->id = 0;
		if (errno == ENOMEM)
			reply_error(c, ENOMEM, "out of memory");
		else
			reply_error(c, errno, "model: %d models are in use",
				    errno == EDQUOT ? MODELS_PER_UID_MAX : MODELS_MAX);
		return;
	}
	session->connection = c;
	session->entry = entry;
	session->teaches = config_teaches(known, c->uid);
	session->phase = phase;
	session->context = context;
	session->pacing.context = context;
	session->deadline_ns = deadline_ns ? deadline_ns : known ? known->deadline_ns : 0;
	if (rate_mhz) {
		session->schedule = (struct schedule){.rate_mhz = rate_mhz, .first_ns = first_ns};
		if (!first_ns)
			session->schedule.first_ns = schedule_period_ns(&session->schedule);
		session->deadline_ns = session->schedule.first_ns;
	}
	if (tag)
		strcpy(session->tag, tag);
	if (c->sessions == 0 && c->ahead_ns < d->ahead_ns)
		c->ahead_ns = d->ahead_ns; /* the daemon's time never goes back */
	if (c->ahead_ns > c->user->ahead_ns)
		c->user->ahead_ns = c->ahead_ns;
	session->shadow = d->clocks.shadow || tally_shadows(session);
	d->shadows += session->shadow;
	c->sessions++;
	c->user->sessions++;
	d->sessions++;
	tally_opened(session);
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "session", session->id);
	kv_add(out, "surface", "%s", state_word(model_state(entry->model, phase)));
	reply_end(c);
	connection_flush(c);
	prepare(d, session);
}
