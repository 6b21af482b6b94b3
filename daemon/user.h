/* SPDX-License-Identifier: MIT */
/* The resources that one user holds over all its connections: every share of a bounded resource is counted here. Users
 * are identified by SO_PEERCRED, and do not trust one another (docs/trust.md). */
#ifndef DAEMON_USER_H
#define DAEMON_USER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct connection;
struct loop_watch;

/* Processor time used by a user's questions, by its layers and fits, or by its requests. The user owes a multiple of
 * it. While the debt exceeds a burst, further questions wait (a second at most each), further layers and fits are left
 * out (a minute at most), and its requests do not precede those of others. */
enum debt { DEBT_ASKS, DEBT_WORK, DEBT_REQUESTS, DEBT_COUNT };

/* Log lines that a user can cause. */
enum user_log {
	USER_LOG_EXPIRED,    /* requests without an end */
	USER_LOG_UNREAD,     /* replies that are not read */
	USER_LOG_INCOMPLETE, /* messages that are not whole */
	USER_LOG_PROFILED,
	USER_LOG_PROFILE_ENDED,
	USER_LOG_REFUTED, /* models */
	USER_LOG_COUNT
};

#define USER_ADMIN 0 /* root, or the user that flamed runs as; models of other users start from its models */

struct user {
	uid_t uid;
	unsigned connections, sessions, requests, profiles, models, tallies; /* held now */
	size_t buffered;                                                     /* bytes that its connections hold */
	size_t layers;                                                       /* layers in memory, of its models */
	uint64_t owed_until_ns[DEBT_COUNT];                                  /* when each debt is paid off */
	struct user_log_limit {
		uint64_t from_ns; /* rate limit of log lines: when the newest is paid off */
		unsigned dropped; /* lines suppressed since */
	} log[USER_LOG_COUNT];
	struct connection *asking, *asking_last; /* its connections with a waiting question, in order (server.c) */
	struct loop_watch *may_ask;              /* timer: the first of them; held while the user has connections */
	uint64_t usual_ns; /* processor time of a usual begin or end: a shorter one at once, longer ones slowly */
	uint64_t ahead_ns; /* of its connections' virtual times minus real time, the largest */
	struct user *next;
};

/* Get the user of this uid, created if it is new; NULL when out of memory. It exists as long as it
 * holds anything or has debt. */
struct user *user_get(uid_t uid);

/* Is there room for one more connection of a user: in its own share, or in what all may take beyond theirs? */
bool user_may_connect(const struct user *user);
void user_connected(struct user *user);
void user_disconnected(struct user *user);

void user_charge(struct user *user, enum debt debt, uint64_t took_ns);
/* For a begin or an end. Beside others' sessions, time beyond that of a usual one (it carries layers, or computes a
 * surface) counts as work. */
void user_charge_request(struct user *user, uint64_t took_ns, bool beside_others);
/* Remaining debt beyond the burst; 0: none. */
uint64_t user_owes_ns(const struct user *user, enum debt debt);

/* The same for an account given by the time at which it is paid off. */
void user_debt_add(uint64_t *until_ns, enum debt debt, uint64_t took_ns);
uint64_t user_debt_ns(uint64_t until_ns);

/* The least `ahead_ns` of all users with sessions; `none` if there is no such user. */
uint64_t users_ahead_ns(uint64_t none);

/* Owner of the models that a uid uses: USER_ADMIN, or the uid. */
uid_t user_owner(uid_t uid);

/* May a line of this kind about this user be logged now? At most LOG_LINES_BURST at once, then one every LOG_LINE_NS,
 * so that no kind hides another; the number of suppressed lines is logged first. */
bool user_may_log(struct user *user, enum user_log kind);

#endif
