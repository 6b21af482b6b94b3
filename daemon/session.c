/* SPDX-License-Identifier: MIT */
/* The session table: open, close, and the end of everything that a connection owns. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../common/clock.h"
#include "daemon.h"
#include "view.h"

#define SESSION_GENERATIONS 0xfffffU  /* mask: an id fits 32 bits and is never 0 */
#define READ_NS             NS_PER_MS /* time slice for reading small files */
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
	if (session->active && !session->shadow) /* no end of theirs will */
		loop_timer_in(d->idle, d->config.release_after_ns);
	requests_drop(d, session);
	if (d->last_decided == session)
		d->last_decided = NULL;
	governor_session_reset(&d->governor, session_slot(d, session));
	if (session->decided_request && model_state(session->entry->model, session->phase) != SURFACE_NONE) {
		/* keep it for op=explain, unless its model is unknown */
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
	d->save_set = true;
	loop_timer_in(d->save, 0);
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

/* Switch a session to its model of the current power mode; while there is no place for it, keep the old
 * one. */
static void follow(struct daemon *d, struct session *session)
{
	struct entry *entry;

	if (strcmp(session->entry->mode, d->library.mode) == 0)
		return;
	entry = library_hold(&d->library, session->entry->name, session->entry->owner);
	if (!entry && errno == EAGAIN)
		models_save_now(d);
	if (!entry)
		return;
	if (entry->used_ns < session->entry->used_ns)
		entry->used_ns = session->entry->used_ns;
	library_put(session->entry);
	session->entry = entry;
	governor_session_reset(&d->governor, session_slot(d, session));
}

static void follow_all(struct daemon *d)
{
	for (size_t i = 0; i < d->session_top; i++)
		if (d->session[i].id)
			follow(d, &d->session[i]);
}

void sessions_follow_mode(struct daemon *d)
{
	if (!mode_reader_changed(&d->mode_reader, &d->root, clock_now_ns()))
		return;
	board_find_power_mode(&d->board, &d->root);
	if (!library_set_mode(&d->library, d->board.power_mode))
		return;
	follow_all(d);
	for (size_t i = 0; i < d->request_top; i++)
		d->request[i].unlearned = true;
	loop_timer_in(d->read, 0);
}

void sessions_take(struct daemon *d, struct entry *entry)
{
	if (!library_keep(entry))
		return;
	for (size_t i = 0; i < d->session_top; i++)
		if (d->session[i].id && d->session[i].entry == entry)
			governor_session_reset(&d->governor, session_slot(d, &d->session[i]));
}

static const struct session *first_of(const struct daemon *d, const struct entry *entry)
{
	for (size_t i = 0; i < d->session_top; i++)
		if (d->session[i].id && d->session[i].entry == entry)
			return &d->session[i];
	return NULL;
}

bool sessions_read(struct daemon *d)
{
	uint64_t until_ns = clock_now_ns() + READ_NS;
	struct entry *entry;

	follow_all(d);
	while (clock_now_ns() < until_ns && (entry = library_wanted(&d->library)) != NULL) {
		const struct session *session = first_of(d, entry);

		if (fitting_read(d, entry, session ? session->phase : PHASE_RUN, session ? session->context : 0,
				 entry->owner))
			return true;
		library_read(entry);
		sessions_take(d, entry);
	}
	return library_wanted(&d->library) != NULL;
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
					 .gap_ns = GAP_UNKNOWN};
	session_apply(d, session, governor_prepare(&d->governor, &d->clocks.view, &first, now_ns));
	loop_timer_in(d->idle, d->config.release_after_ns);
}

/* What a client asks for in op=open. */
struct opening {
	const char *model, *tag; /* tag: NULL if there is none */
	const struct config_model *known;
	enum phase phase;
	uint32_t context;
	uint64_t deadline_ns, rate_mhz, first_ns; /* 0: not given */
	uint64_t replay;
};

/* False: an error was sent. */
static bool read_opening(struct daemon *d, struct connection *c, const struct kv *kv, struct opening *o)
{
	*o = (struct opening){.tag = kv_get(kv, "tag"), .phase = PHASE_RUN};
	if (!need_model(c, kv, &o->model) || !want_phase(c, kv, &o->phase, &o->context) ||
	    !want_u64(c, kv, "deadline_ns", DEADLINE_NS_MIN, DEADLINE_NS_MAX, &o->deadline_ns) ||
	    !want_u64(c, kv, "rate_mhz", 1, RATE_MHZ_MAX, &o->rate_mhz) ||
	    !want_u64(c, kv, "first_ns", DEADLINE_NS_MIN, DEADLINE_NS_MAX, &o->first_ns) ||
	    !want_u64(c, kv, "replay", 0, 1, &o->replay))
		return false;
	o->known = config_model_find(&d->config, o->model);
	if (o->known && !o->rate_mhz && !o->deadline_ns && o->known->rate_mhz) {
		o->rate_mhz = o->known->rate_mhz;
		o->first_ns = o->first_ns ? o->first_ns : o->known->first_ns;
	}
	if (o->first_ns && !o->rate_mhz) {
		reply_error(c, EINVAL, "first_ns: requires rate_mhz, the rate of a stream");
		return false;
	}
	if (o->tag && !model_name_valid(o->tag)) {
		reply_error(c, EINVAL, "tag: must be spelled like a model name");
		return false;
	}
	return true;
}

void session_open(struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct session *session;
	struct opening o;
	struct entry *entry;
	uid_t owner;

	if (!read_opening(d, c, kv, &o))
		return;
	sessions_follow_mode(d);
	owner = o.known && o.known->shared ? USER_ADMIN : user_owner(c->uid);
	if (model_awaited(d, c, o.model, owner, o.phase, o.context))
		return;
	session = session_new(d, c);
	if (!session)
		return;
	entry = library_get(&d->library, o.model, owner, clock_now_ns());
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
	session->teaches = config_teaches(o.known, c->uid);
	session->phase = o.phase;
	session->context = o.context;
	session->pacing.context = o.context;
	session->deadline_ns = o.deadline_ns ? o.deadline_ns : o.known ? o.known->deadline_ns : 0;
	if (o.rate_mhz) {
		session->schedule = (struct schedule){.rate_mhz = o.rate_mhz, .first_ns = o.first_ns};
		if (!o.first_ns)
			session->schedule.first_ns = schedule_period_ns(&session->schedule);
		session->deadline_ns = session->schedule.first_ns;
	}
	if (o.tag)
		strcpy(session->tag, o.tag);
	if (c->sessions == 0 && c->ahead_ns < d->ahead_ns)
		c->ahead_ns = d->ahead_ns; /* the daemon's time never decreases */
	if (c->ahead_ns > c->user->ahead_ns)
		c->user->ahead_ns = c->ahead_ns;
	c->replays |= o.replay == 1;
	c->unannounced &= o.replay != 1;
	session->shadow = d->clocks.shadow || tally_shadows(session);
	d->shadows += session->shadow;
	c->sessions++;
	c->user->sessions++;
	d->sessions++;
	tally_opened(session);
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "session", session->id);
	/* clients know three words */
	enum surface_state state = model_state(entry->model, o.phase);
	kv_add(out, "surface", "%s", state_word(state == SURFACE_EXTRAPOLATED ? SURFACE_LEARNING : state));
	if (session->schedule.rate_mhz)
		kv_add_u64(out, "rate_mhz", session->schedule.rate_mhz);
	else if (session->deadline_ns)
		kv_add_u64(out, "deadline_ns", session->deadline_ns);
	reply_end(c);
	connection_flush(c);
	prepare(d, session);
	if (d->sessions > c->user->sessions)
		work_later(d, session);
}
