/* SPDX-License-Identifier: MIT */
/* The resident models and their files: STATE_DIR/models/NAME[@MODE].csv, the
 * samples, and NAME[@MODE].layers.csv, where the power mode is known. */
#ifndef DAEMON_LIBRARY_H
#define DAEMON_LIBRARY_H

#include <limits.h>
#include "../estimator/model.h"

#define MODE_KEY_MAX 48

struct entry {
	char name[MODEL_NAME_MAX + 1];
	char mode[MODE_KEY_MAX]; /* power mode it was measured in, spelled for a file name; "" unknown */
	struct model *model;
	unsigned users;      /* sessions and profiles that hold it */
	bool dirty;          /* learned something that is not on disk */
	uint64_t used_ns;    /* when it was last given out; the oldest unused one makes room */
};

struct library {
	char dir[PATH_MAX];
	char mode[MODE_KEY_MAX]; /* in force now */
	const struct grid *grid;
	struct model_options options;
	size_t count;
	struct entry entry[MODELS_MAX];
};

/* Load every model of this power mode from STATE_DIR/models. A damaged file is
 * renamed NAME.csv.damaged and reported; nothing else is lost. */
void library_init(struct library *library, const char *state_dir, const char *power_mode, const struct grid *grid, const struct model_options *options);

/* Another power mode from now on: surfaces of the old one are saved and kept. */
void library_set_mode(struct library *library, const char *power_mode);

/* The model of that name in the mode in force, made if it is new; one user
 * more. NULL with errno: ENOMEM, ENOSPC (MODELS_MAX in use). */
struct entry *library_get(struct library *library, const char *name, uint64_t now_ns);
void library_put(struct entry *entry);

/* Same without making or holding it; NULL when unknown. */
struct entry *library_find(struct library *library, const char *name);

/* Write what is dirty. Returns 0 or the first -errno; what could not be
 * written stays dirty. */
int library_save(struct library *library);

void library_free(struct library *library);

#endif
