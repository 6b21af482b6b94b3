/* SPDX-License-Identifier: MIT */
/* The table of operations. Path of a request: `begin` -> request_begin() -> governor_decide() ->
 * clocks_apply() -> the keeper's apply(); `end` -> request_end() -> model_observe(). */
#include <errno.h>
#include <string.h>

#include "../common/clock.h"
#include "daemon.h"

static const struct op {
	const char *name;
	void (*handle)(struct daemon *d, struct connection *c, const struct kv *kv);
	bool asks; /* a query: no inference waits for its reply, so requests of other clients come first */
} ops[] = {
	{"begin", request_begin, false},  {"end", request_end, false},      {"open", session_open, true},
	{"close", session_close, false},  {"profile", profile_open, true},  {"sample", profile_sample, true},
	{"hello", query_hello, true},     {"status", query_status, true},   {"models", query_models, true},
	{"surface", query_surface, true}, {"explain", query_explain, true}, {"release", query_release, true},
	{"tally", tally_read, true},      {"metrics", metrics_read, true},  {"savings", query_savings, true},
	{"export", fleet_export, true},   {"import", fleet_import, true},
};

static const struct op *find_op(const char *name)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
		if (strcmp(name, ops[i].name) == 0)
			return &ops[i];
	}
	return NULL;
}

bool dispatch_beside_others(void *daemon, const struct connection *c)
{
	const struct daemon *d = daemon;

	return d->sessions > c->user->sessions;
}

bool dispatch_message(void *daemon, struct connection *c, const struct kv *kv)
{
	struct daemon *d = daemon;
	bool named = kv->count > 0 && strcmp(kv->pair[0].key, "op") == 0;
	const struct op *op = named ? find_op(kv->pair[0].value) : NULL;
	bool after_others = (!op || op->asks) && d->sessions > c->sessions, had_turn = c->had_turn;

	c->had_turn = false;
	if (after_others && !had_turn && !connection_may_ask(c))
		return false;
	if (op)
		op->handle(d, c, kv);
	else if (named)
		reply_error(c, EINVAL, "op: unknown operation %.64s", kv->pair[0].value);
	else
		reply_error(c, EINVAL, "op: must be the first key of a message");
	library_trim(&d->library);
	uint64_t took_ns = connection_took_ns(c);
	if (after_others)
		connection_asked(c, took_ns);
	if (op && !op->asks)
		user_charge_request(c->user, took_ns, dispatch_beside_others(d, c));
	connection_first(c, c->sessions > 0 && !user_owes_ns(c->user, DEBT_ASKS) && !user_owes_ns(c->user, DEBT_WORK) &&
				    !user_owes_ns(c->user, DEBT_REQUESTS));
	return !c->repeat;
}

void dispatch_closed(void *daemon, struct connection *c)
{
	sessions_close(daemon, c);
	fleet_closed(daemon, c);
}

void dispatch_keeper_reply(struct daemon *d, const struct keeper_reply *reply)
{
	clocks_take(&d->clocks, reply);
	requests_applied(d);
	profiles_applied(d);
	library_trim(&d->library);
}

void dispatch_keeper_lost(struct daemon *d)
{
	clocks_lose(&d->clocks);
	requests_applied(d);
	profiles_applied(d);
}
