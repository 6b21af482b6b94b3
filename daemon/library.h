/* SPDX-License-Identifier: MIT */
/* The resident models. A model belongs to a user: to the administrator (root, or whoever flamed runs as), or to
 * another uid. Their files are in STATE_DIR/models (model_files.h). */
#ifndef DAEMON_LIBRARY_H
#define DAEMON_LIBRARY_H

#include <limits.h>
#include <sys/types.h>
#include "../governor/governor.h"
#include "metrics.h"
#include "shadow.h"

#define MODE_KEY_MAX 48

struct library;

struct entry {
	struct library *library; /* that it is in */
	char name[MODEL_NAME_MAX + 1];
	char mode[MODE_KEY_MAX]; /* power mode of its measurements, spelled for a file name; "": unknown */
	uid_t owner;             /* USER_ADMIN or a uid */
	struct model *model;
	unsigned users; /* sessions and profiles that use it */
	bool dirty;     /* has changes that are not saved */
	bool saving;    /* a helper process is saving it */
	bool unread;    /* not in memory: to be read from its files at the next use */
	struct model_metrics metrics;
	struct shadow_ledger savings; /* of its sessions in shadow, since ever */
	uint64_t used_ns;             /* time of last use; the least recently used entry is evicted first */
};

/* What the governor learned of the entry's model beside others, as key=value, and back. Parsing is in place; -EINVAL
 * with a message. */
struct kv_out;
void company_format(struct kv_out *out, const struct entry *entry);
int company_parse(const struct entry *entry, char *text, char *message, size_t size);

struct user;

struct library {
	char dir[PATH_MAX];
	char mode[MODE_KEY_MAX]; /* current power mode */
	const struct grid *grid;
	struct governor *governor; /* what it learned of models beside each other is kept with them; NULL: none */
	struct model_options options;
	size_t derived_bytes;     /* of fits, timelines and surfaces of all models */
	pid_t helper;             /* process that saves files; 0: none */
	uint64_t helper_until_ns; /* when it is killed */
	uint64_t retry_ns;        /* when a failed save is tried again */
	size_t count;
	struct entry entry[MODELS_MAX];
};

/* Enter the administrator's models of this power mode in STATE_DIR/models, and read as many as a twentieth of a second
 * allows, the most recently used ones first. A damaged file is renamed NAME.csv.damaged and logged when it is read. */
void library_init(struct library *library, const char *state_dir, const char *power_mode, const struct grid *grid,
		  const struct model_options *options, struct governor *governor);

/* Read the files of the administrator's most recently used model that has not been read, unless half of the
 * administrator's share of memory is used. Returns whether there was one. What is never read here is read at its first
 * use. Takes tens of milliseconds. */
bool library_read_next(struct library *library);
bool library_has_unread(const struct library *library);

/* Change the power mode. Models of the old mode are saved and kept. Returns true if the mode
 * changed. */
bool library_set_mode(struct library *library, const char *power_mode);

/* Get the model of this name and owner in the current mode, created if it is new; the caller
 * becomes a user of it. A new model of another user starts from the administrator's measurements.
 * Returns NULL with errno ENOMEM, EDQUOT (MODELS_PER_UID_MAX in use, or MEASURED_PER_UID_MAX with this one) or
 * ENOSPC (MODELS_MAX in use). */
struct entry *library_get(struct library *library, const char *name, uid_t owner, uint64_t now_ns);
/* What other boards of the kind measured (a samples CSV, cut up in place), for every model of that name in the mode
 * in force: added to what is there, and kept on disk. Returns how many points there are now, or -errno with a
 * message. */
int library_inherit(struct library *library, const char *name, char *text, char *message, size_t size);
void library_put(struct entry *entry);

/* Find the owner's model, else the administrator's, without creating or holding it; NULL when
 * unknown. */
struct entry *library_find(struct library *library, const char *name, uid_t owner);

/* Is there room for `bytes` more of samples and layers of this model? The models of one owner hold at most
 * MEASURED_PER_UID_MAX in memory; those that are not in use are evicted. */
bool library_has_room(struct library *library, const struct entry *entry, size_t bytes);

/* Keep to DERIVED_BYTES_MAX: the owner who holds most loses what was derived of the model that it used least
 * recently, one without users first. No surface that was given out before is valid any more. */
void library_trim(struct library *library);

/* A sample contradicted the model. Once the model is refuted, log that, set its files aside and
 * reset it. */
void library_reset_refuted(struct library *library, struct entry *entry, struct user *user);

/* Save every dirty model and wait for it. Returns 0 or the first negative errno; a model that could
 * not be saved stays dirty. For each owner, files of the MODEL_FILES_PER_UID_MAX most recently used
 * models are kept. */
int library_save(struct library *library);

/* Save in a helper process, as formatting and fsync(2) can take seconds. While it returns true (a
 * helper runs, or a model is dirty), call it again after LIBRARY_SAVE_NS. */
#define LIBRARY_SAVE_NS 1000000000ULL
#define LIBRARY_READ_NS 10000000ULL /* between two of library_read_next() */
bool library_save_later(struct library *library, uint64_t now_ns);

/* Before exit: wait for the helper and save what is left. */
void library_finish(struct library *library);
void library_free(struct library *library);

#endif
