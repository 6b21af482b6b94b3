/* SPDX-License-Identifier: MIT */
/* The resident models. A model belongs to the administrator (root, or the user that flamed runs as) or to another uid.
 * The files of models are in STATE_DIR/models (model_files.h). */
#ifndef DAEMON_LIBRARY_H
#define DAEMON_LIBRARY_H

#include <limits.h>
#include <sys/types.h>
#include "../governor/governor.h"
#include "metrics.h"
#include "shadow.h"

#define MODE_KEY_MAX (POWER_MODE_MAX + 1)

struct library;

struct entry {
	struct library *library; /* that it is in */
	uint64_t number;         /* of entries ever, in order of time */
	char name[MODEL_NAME_MAX + 1];
	char mode[MODE_KEY_MAX]; /* power mode of its measurements, spelled for a file name; "": unknown */
	uid_t owner;             /* USER_ADMIN or a uid */
	struct model *model;
	unsigned users; /* sessions and profiles that use it */
	bool dirty;     /* has changes that are not saved */
	bool saving;    /* a helper process is saving it */
	/* not in memory: to be read from its files at the next use. If it is in use, nothing is known or learned of it
	 * meanwhile */
	bool unread;
	bool no_room;     /* unread and in use, but there is no room for it beside the others of its owner */
	unsigned imports; /* imports for it; a helper process may have read its files before the last */
	struct model_metrics metrics;
	struct shadow_ledger savings; /* totals of its sessions in shadow */
	uint64_t used_ns;             /* time of last use; the least recently used entry is evicted first */
};

/* The interference that the governor learned between the entry's model and others, as key=value, and back. Parsing is
 * in place; -EINVAL with a message. */
struct kv_out;
void company_format(struct kv_out *out, const struct entry *entry);
int company_parse(const struct entry *entry, char *text, char *message, size_t size);

struct user;

struct library {
	char dir[PATH_MAX];
	char mode[MODE_KEY_MAX]; /* current power mode */
	const struct grid *grid;
	struct governor *governor; /* learned interference is stored with the models; NULL: none */
	struct model_options options;
	size_t derived_bytes;     /* of fits, timelines and surfaces of all models */
	pid_t helper;             /* process that saves files; 0: none */
	uint64_t helper_until_ns; /* when it is killed */
	uint64_t retry_ns;        /* when a failed save is tried again */
	uint64_t saves;           /* that have ended, failed ones too */
	uid_t read_owner;         /* of the newest entry that library_keep() was called for */
	uint64_t entered;         /* entries ever */
	size_t count;
	struct entry entry[MODELS_MAX];
};

/* Add an entry for each of the administrator's models of this power mode in STATE_DIR/models. The most recently used
 * ones are read, for 50 ms at most. A damaged file is renamed NAME.csv.damaged and logged when it is read. */
void library_init(struct library *library, const char *state_dir, const char *power_mode, const struct grid *grid,
		  const struct model_options *options, struct governor *governor);

/* Read the files of the administrator's most recently used model that has not been read, unless half of the
 * administrator's share of memory is used. Returns whether there was one. Other models are read at their first use.
 * Takes tens of milliseconds. */
bool library_read_next(struct library *library);
bool library_has_unread(const struct library *library);

/* Whether the entry is unread and its files take long to read. Another process, a fork(2) of this one, may do so. */
bool library_reads_long(const struct entry *entry);
/* Size of the result, in zeroed memory that both processes share. */
size_t library_read_bytes(const struct entry *entry);
/* In the other process: read the files and leave the result in `out`. */
void library_read_apart(struct entry *entry, void *out);
/* In this process: take the result over. If the other process was killed, the files are read here. Returns whether a
 * fit that was made of the same files there holds: none was imported meanwhile. */
bool library_take(struct entry *entry, const void *in);
/* Read the entry's files here, if it is unread. */
void library_read(struct entry *entry);

/* The next entry that is in use and unread, as library_hold() left it; NULL: none. Owners take turns, and of each the
 * most recently used entry is first. */
struct entry *library_wanted(struct library *library);
/* Such an entry has been read: keep it, or set `no_room` until models are saved, as those can be evicted. Returns
 * whether it is kept. */
bool library_keep(struct entry *entry);
/* A question has had an entry read: keep it, unless it is not in use and there is no room for it beside those that are.
 * Returns whether it is kept. */
bool library_fit(struct entry *entry);

/* For a helper process: only files of the models' directory can be opened from now on. */
void library_sandbox(const struct library *library);

/* Change the power mode. Models of the old mode are saved and kept. Returns true if the mode
 * changed. */
bool library_set_mode(struct library *library, const char *power_mode);

/* Get the model of this name and owner in the current mode, created if it is new; the caller
 * becomes a user of it. A new model of another user starts from the administrator's measurements.
 * Returns NULL with errno ENOMEM, EDQUOT (MODELS_PER_UID_MAX in use, or MEASURED_PER_UID_MAX with this one) or
 * ENOSPC (MODELS_MAX in use), or EAGAIN: there is a place for it once models are saved. */
struct entry *library_get(struct library *library, const char *name, uid_t owner, uint64_t now_ns);
/* The same without reading its files: NULL if there is no place for it (EDQUOT, ENOSPC, ENOMEM, EAGAIN). The caller of
 * library_enter() does not become a user of it. */
struct entry *library_enter(struct library *library, const char *name, uid_t owner);
struct entry *library_hold(struct library *library, const char *name, uid_t owner);
void library_put(struct entry *entry);

/* Find the owner's model, else the administrator's, without creating, reading or holding it; NULL when
 * unknown. */
struct entry *library_find(struct library *library, const char *name, uid_t owner);

/* Where a reply in several pages goes on. Entries that came after the first page are in none of the later ones: one
 * that was evicted and opened again would be there twice. */
struct library_place {
	uint64_t entered; /* when the first page was written */
	uint64_t at;      /* the caller's count; less than LIBRARY_SPAN */
};
#define LIBRARY_SPAN (1 << 20)
/* `from` is 0 at the first page, afterwards what library_next() returned. */
struct library_place library_place(const struct library *library, uint64_t from);
uint64_t library_next(struct library_place place, uint64_t at);

/* Is there room for `bytes` more of samples and layers of this model? The models of one owner hold at most
 * MEASURED_PER_UID_MAX in memory; those that are not in use are evicted. */
bool library_has_room(struct library *library, const struct entry *entry, size_t bytes);

/* Enforce DERIVED_BYTES_MAX: the owner with most of it loses the fits and surfaces of its least recently used model,
 * models without users first. Surfaces that were returned before are no longer valid. */
void library_trim(struct library *library);

/* Learn the layers of an inference whose `total_ns` the model allows, unless they contradict it or find no room. */
void library_learn_layers(struct library *library, struct entry *entry, const struct layer *layers, size_t count,
			  uint64_t total_ns);

/* A sample contradicted the model. Once the model is refuted, this is logged, its files are renamed and it is reset. */
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

/* Before exit: wait for the helper, then save models that are still dirty. */
void library_finish(struct library *library);
void library_free(struct library *library);

#endif
