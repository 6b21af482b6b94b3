/* SPDX-License-Identifier: MIT */
/* Fits of many layers take up to a quarter of a second, reading the files of a full model tens of milliseconds. Both
 * are done by a helper process (estimator/model.h, model_fit_apart(); library.h, library_read_apart()): one at a time,
 * sandboxed, and killed when it overruns. */
#ifndef DAEMON_FITTING_H
#define DAEMON_FITTING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "../common/point.h"

struct daemon;
struct entry;
struct loop_watch;

struct fitting {
	pid_t pid; /* 0: none is running */
	int fd;    /* readable once it has ended */
	void *page;
	size_t bytes;        /* of `page`, which is shared with it */
	struct entry *entry; /* a reference to it is held */
	enum phase phase;
	bool reads; /* reads the model's files, instead of fitting its layers */
	uid_t uid;  /* of the client, whose budget is charged; kept when it has ended, for the next one's turn */
	struct loop_watch *ended, *overrun;
	struct {
		pid_t pid; /* 0: none */
		uid_t uid;
		bool reads;
		struct loop_watch *reap; /* timer */
	} over;                          /* one that has ended and is not reaped yet */
};

/* True if the next fit of this model is one for a helper process: one has been started, or another one is running. The
 * caller tries again when that one ends, by work_ahead(), profiles_fitted() or connection_repeat(). False also if none
 * can be started: the caller then makes the fit itself. */
bool fitting_start(struct daemon *d, struct entry *entry, enum phase phase, uid_t uid);

/* The same for reading the files of a model that is unread, if that takes long. False for NULL. */
bool fitting_read(struct daemon *d, struct entry *entry, uid_t uid);

/* Before the models are freed. */
void fitting_abandon(struct daemon *d);

#endif
