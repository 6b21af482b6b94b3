/* SPDX-License-Identifier: MIT */
/* What one user holds over all its connections: every share of a bounded resource is counted here.
 * Users are told apart by SO_PEERCRED, and do not trust one another (docs/trust.md). */
#ifndef DAEMON_USER_H
#define DAEMON_USER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct connection;
struct loop_watch;

#define USER_ADMIN 0 /* root, or the user that flamed runs as, whose models everybody else's start from */

struct user {
	uid_t uid;
	unsigned connections, sessions, requests, profiles, models, tallies; /* held now */
	size_t buffered;                                                     /* bytes that its connections hold */
	size_t layers;                                                       /* layers in memory, of its models */
	uint64_t owed_until_ns[3];               /* indexed by enum debt: when the debt is paid off */
	uint64_t log_from_ns;                    /* rate limit of log lines: when the newest is paid off */
	unsigned log_dropped;                    /* lines suppressed since */
	struct connection *asking, *asking_last; /* its connections whose question waits, in turn (server.c) */
	struct loop_watch *may_ask;              /* timer: the first of them; held while the user has connections */
	uint64_t ahead_ns;                       /* of its connections' virtual times minus real time, the largest */
	struct user *next;
};

/* Get the user of this uid, created if it is new; NULL when out of memory. It exists as long as it
 * holds anything or has debt. */
struct user *user_get(uid_t uid);

/* Processor time that a user's questions took, its layers and fits, or its requests: it owes a multiple of
 * it, and while it owes more than a burst, the next questions wait (a second at most each), the
 * next layers and fits are left out (a minute at most), and its requests do not come before others. */
enum debt { DEBT_ASKS, DEBT_WORK, DEBT_REQUESTS };
void user_charge(struct user *user, enum debt debt, uint64_t took_ns);
/* Remaining debt beyond the burst; 0: none. */
uint64_t user_owes_ns(const struct user *user, enum debt debt);

/* The same for an account given by the time at which it is paid off. */
void user_debt_add(uint64_t *until_ns, enum debt debt, uint64_t took_ns);
uint64_t user_debt_ns(uint64_t until_ns);

/* The least `ahead_ns` of all users with sessions; `none` if there is no such user. */
uint64_t users_ahead_ns(uint64_t none);

/* Owner of the models that a uid uses: USER_ADMIN, or the uid. */
uid_t user_owner(uid_t uid);

/* May a line about this user be logged now? At most LOG_LINES_BURST at once, then one every
 * LOG_LINE_NS; the number of suppressed lines is logged first. */
bool user_may_log(struct user *user);

#endif
