/* SPDX-License-Identifier: MIT */
/* Fits of many layers take up to a quarter of a second, reading the files of a full model tens of milliseconds, as do a
 * fit and surfaces of many samples. They are done by a helper process (estimator/model.h, model_make_apart();
 * library.h, library_read_apart()): one at a time, sandboxed, and killed when it overruns. */
#ifndef DAEMON_FITTING_H
#define DAEMON_FITTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "../common/point.h"

/* one piece of work; the excess is charged to the user while other users have sessions */
#define PIECE_NS (2 * NS_PER_MS)

struct daemon;
struct entry;
struct loop_watch;

/* The next point that a profile measures: model_plan(). */
struct plan {
	uint64_t profile; /* its id; 0: none is asked for */
	const uint8_t *allowed;
	uint32_t context;
	/* result */
	int found;
	struct op_point point;
	double gain;
	bool made; /* by a helper process */
};

struct fitting {
	pid_t pid; /* 0: none is running */
	int fd;    /* readable once it has ended */
	void *page;
	size_t bytes;        /* of `page`, which is shared with it */
	struct entry *entry; /* a reference to it is held */
	enum phase phase;
	uint32_t context;
	struct plan plan, planned; /* asked for; the newest that was made, until it is taken */
	bool reads, fits;          /* reads the model's files; makes a fit, and surfaces of `context` */
	uid_t uid; /* of the client, whose budget is charged; kept when it has ended, for the next one's turn */
	struct loop_watch *ended, *overrun;
	struct {
		pid_t pid; /* 0: none */
		uid_t uid;
		bool asked;              /* for, by a question: it is charged as one */
		struct loop_watch *reap; /* timer */
	} over;                          /* one that has ended and is not reaped yet */
};

/* True if the next fit of this model is one for a helper process, or if others than `uid` have sessions and its surface
 * of this context is not up to date: a process has been started, or another one is running. The caller tries again when
 * that one ends, by work_ahead(), profiles_fitted() or connection_repeat(). False also if none can be started: the
 * caller then makes the fit itself. */
bool fitting_start(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, uid_t uid);

/* Make a plan. Beside sessions of others than `uid` a helper process makes a long one: true as above, and the profile's
 * next call takes the result. */
bool fitting_plan(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, struct plan *plan,
		  uid_t uid);

/* The same for reading the files of a model that is unread, if that takes long, and beside others for the surfaces of a
 * context. False for NULL. */
bool fitting_read(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, uid_t uid);

/* Before the models are freed. */
void fitting_abandon(struct daemon *d);

#endif
