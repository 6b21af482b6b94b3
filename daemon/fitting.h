/* SPDX-License-Identifier: MIT */
/* Fits of many layers take up to a quarter of a second, reading the files of a full model tens of milliseconds, as do a
 * fit and surfaces of many samples; requests that come meanwhile, of the same model too, are decided by the surface
 * before. All this is done by a helper process (estimator/model.h, model_make_apart();
 * library.h, library_read_apart()): one at a time, sandboxed, and killed when it overruns. */
#ifndef DAEMON_FITTING_H
#define DAEMON_FITTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "../common/point.h"
#include "helper.h"

struct daemon;
struct entry;

/* The next point that a profile measures: model_plan(). */
struct plan {
	uint64_t profile; /* its id; 0: none is asked for */
	const uint8_t *allowed;
	uint32_t context;
	/* result */
	int found; /* as model_plan() returns it */
	struct op_point point;
	double gain;
	bool made; /* by a helper process */
};

struct fitting {
	struct helper helper;
	struct entry *entry; /* a reference to it is held */
	enum phase phase;
	uint32_t context;
	struct plan plan, planned; /* asked for; the newest that was made, until it is taken */
	bool reads;                /* the model's files, before it makes a fit and surfaces of `context` */
};

/* True if a fit of the model or its surface of this context has become old: a process has been started, or another one
 * is running. The caller tries again when that one ends, by work_ahead(), profiles_fitted() or connection_repeat().
 * False also if none can be started: the caller then makes the fit itself. `uid`: of the user who is charged. */
bool fitting_start(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, uid_t uid);

/* Make a plan. A helper process makes a long one: true as above, and the profile's next call takes the result. */
bool fitting_plan(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, struct plan *plan,
		  uid_t uid);

/* The same for reading the files of a model that is unread, if that takes long, and for the surfaces of a context.
 * False for NULL. */
bool fitting_read(struct daemon *d, struct entry *entry, enum phase phase, uint32_t context, uid_t uid);

/* Before the models are freed: what it makes is lost. */
void fitting_abandon(struct daemon *d);

#endif
