/* SPDX-License-Identifier: MIT */
#include "user.h"

#include <stdlib.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/limits.h"
#include "../common/log.h"

#define SHARE_TIMES     300                            /* fraction of the time for work that no request waits for, */
#define REQUEST_TIMES   8                              /* the same of requests, which still are served, after others' */
#define SHARE_BURST_NS  (20 * NS_PER_US * SHARE_TIMES) /* beyond a burst */
#define USUAL_OF        16                             /* the weight of a longer begin or end is one of these */
#define CHEAP_TIMES     4                              /* usual ones, those of the user with the least: the most that */
#define CHEAP_NS        (100 * NS_PER_US)              /* one takes without work; not less, on a fast processor, */
#define CHEAP_MAX_NS    NS_PER_MS                      /* nor more */
#define LOG_LINE_NS     NS_PER_S
#define LOG_LINES_BURST 20

static struct user *users;

static bool is_over(const struct user *user, uint64_t now_ns)
{
	for (int debt = 0; debt < DEBT_COUNT; debt++)
		if (user->owed_until_ns[debt] > now_ns)
			return false;
	for (int kind = 0; kind < USER_LOG_COUNT; kind++)
		if (user->log[kind].from_ns > now_ns)
			return false;
	return !user->connections && !user->sessions && !user->models;
}

struct user *user_get(uid_t uid)
{
	uint64_t now_ns = clock_now_ns();
	struct user *user;

	for (struct user **at = &users; *at;) {
		user = *at;
		if (user->uid == uid)
			return user;
		if (!is_over(user, now_ns)) {
			at = &user->next;
			continue;
		}
		*at = user->next;
		free(user);
	}
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	user->uid = uid;
	user->next = users;
	return users = user;
}

void user_debt_add(uint64_t *until_ns, enum debt debt, uint64_t took_ns)
{
	static const uint64_t most_ns[] = {
		[DEBT_ASKS] = NS_PER_S, [DEBT_WORK] = 60 * NS_PER_S, [DEBT_REQUESTS] = NS_PER_S};
	uint64_t now_ns = clock_now_ns(), owed_ns = *until_ns > now_ns ? *until_ns - now_ns : 0;

	owed_ns += took_ns * (debt == DEBT_REQUESTS ? REQUEST_TIMES : SHARE_TIMES);
	*until_ns = now_ns + (owed_ns < most_ns[debt] ? owed_ns : most_ns[debt]);
}

uint64_t user_debt_ns(uint64_t until_ns)
{
	uint64_t now_ns = clock_now_ns();

	return until_ns > now_ns + SHARE_BURST_NS ? until_ns - now_ns : 0;
}

/* Connections in the shares of other users than the administrator, and beyond any share. */
static unsigned shared, beyond;

/* The account of a user's connection number `held`, counted from 0; NULL: the administrator's share. */
static unsigned *account(const struct user *user, unsigned held)
{
	if (held >= CONNECTIONS_SHARE)
		return &beyond;
	return user_owner(user->uid) == USER_ADMIN ? NULL : &shared;
}

bool user_may_connect(const struct user *user)
{
	const unsigned *used = account(user, user->connections);
	unsigned most = used == &beyond ? CONNECTIONS_BEYOND_MAX : USERS_FULL * CONNECTIONS_SHARE;

	return user->connections < CONNECTIONS_PER_UID_MAX && (!used || *used < most);
}

void user_connected(struct user *user)
{
	unsigned *used = account(user, user->connections++);

	if (used)
		++*used;
}

void user_disconnected(struct user *user)
{
	unsigned *used = account(user, --user->connections);

	if (used)
		--*used;
}

void user_charge(struct user *user, enum debt debt, uint64_t took_ns)
{
	user_debt_add(&user->owed_until_ns[debt], debt, took_ns);
}

/* Clocks that flamed itself lowers make a plain begin ten times as long, which must not count as work. */
static uint64_t cheap_ns(void)
{
	uint64_t least_ns = CHEAP_MAX_NS / CHEAP_TIMES;

	for (const struct user *user = users; user; user = user->next)
		if (user->sessions && user->usual_ns && user->usual_ns < least_ns)
			least_ns = user->usual_ns;
	return CHEAP_TIMES * least_ns > CHEAP_NS ? CHEAP_TIMES * least_ns : CHEAP_NS;
}

void user_charge_request(struct user *user, uint64_t took_ns, bool beside_others)
{
	uint64_t most_ns = took_ns > CHEAP_NS ? cheap_ns() : CHEAP_NS;

	user_charge(user, DEBT_REQUESTS, took_ns);
	if (beside_others && took_ns > most_ns)
		user_charge(user, DEBT_WORK, took_ns - most_ns);
	if (!user->usual_ns || took_ns < user->usual_ns)
		user->usual_ns = took_ns;
	else if (user->usual_ns < most_ns)
		user->usual_ns += ((took_ns < most_ns ? took_ns : most_ns) - user->usual_ns) / USUAL_OF;
}

uint64_t user_owes_ns(const struct user *user, enum debt debt)
{
	return user_debt_ns(user->owed_until_ns[debt]);
}

uint64_t users_ahead_ns(uint64_t none)
{
	uint64_t least_ns = UINT64_MAX;

	for (const struct user *user = users; user; user = user->next)
		if (user->sessions && user->ahead_ns < least_ns)
			least_ns = user->ahead_ns;
	return least_ns == UINT64_MAX ? none : least_ns;
}

uid_t user_owner(uid_t uid)
{
	return uid == geteuid() ? USER_ADMIN : uid;
}

bool user_may_log(struct user *user, enum user_log kind)
{
	struct user_log_limit *limit = &user->log[kind];
	uint64_t now_ns = clock_now_ns(), from_ns = limit->from_ns > now_ns ? limit->from_ns : now_ns;

	if (from_ns > now_ns + LOG_LINES_BURST * LOG_LINE_NS) {
		limit->dropped++;
		return false;
	}
	if (limit->dropped)
		log_notice("uid %u: %u lines like the next one suppressed", user->uid, limit->dropped);
	limit->dropped = 0;
	limit->from_ns = from_ns + LOG_LINE_NS;
	return true;
}
