/* SPDX-License-Identifier: MIT */
/* A helper process that leaves its result in memory that it shares with flamed. It is killed when it overruns. */
#ifndef DAEMON_HELPER_H
#define DAEMON_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* one piece of work; the excess is charged to the user while other users have sessions */
#define PIECE_NS (2 * NS_PER_MS)

struct daemon;
struct loop_watch;

struct helper {
	pid_t pid;  /* 0: none is running */
	void *page; /* shared with it, zeros at first; valid until helper_end() */
	uid_t uid;  /* of the client, whose budget is charged; kept when it has ended, for the next one's turn */
	bool asked; /* for, by a question: it is charged as one */
	/* private */
	struct daemon *daemon;
	size_t bytes;
	int fd; /* readable once it has ended */
	struct loop_watch *ended, *overrun;
	struct {
		pid_t pid; /* 0: none */
		uid_t uid;
		bool asked;
		struct loop_watch *reap; /* timer */
	} over;                          /* one that has ended and is not reaped yet */
};

/* Fork: the child calls `work`, which enters a sandbox (sandbox.h), and ends. `ended` is called in this process when it
 * has, and calls helper_end(). False if no process can be started. */
bool helper_start(struct daemon *d, struct helper *h, size_t bytes, uid_t uid, bool asked,
		  void (*work)(struct daemon *d), void (*ended)(void *daemon, unsigned events));

/* In `ended`: whether it came to the end of `work`. False: it was killed, or has crashed. */
bool helper_has_done(struct helper *h);

/* Free the page. In `ended`, or earlier to abandon it. */
void helper_end(struct helper *h);

/* Before exit. */
void helper_free(struct helper *h);

#endif
