/* SPDX-License-Identifier: MIT */
/* The files of the models in `dir` (STATE_DIR/models): NAME[@MODE].csv holds the administrator's samples,
 * NAME@[MODE]@UID.csv those of another user, and NAME@[MODE][@UID] with .layers.csv the layers, with .savings the
 * account of shadow mode, with .company the learned interference of other models, with .inherited the measurements of
 * other boards of the same kind. MODE is the power mode, if known; names contain no @. A damaged file is renamed
 * FILE.damaged and logged, never deleted. */
#ifndef DAEMON_MODEL_FILES_H
#define DAEMON_MODEL_FILES_H

#include <time.h>
#include "library.h"

#define MODEL_FILE_BYTES_MAX (8 * 1024 * 1024)
#define MODEL_DIR_MODE       0750

/* A model on disk. */
struct model_file {
	char name[MODEL_NAME_MAX + 1], mode[MODE_KEY_MAX];
	struct timespec used;
};

/* Spell a power mode for use in a file name. */
void files_mode_key(char key[MODE_KEY_MAX], const char *mode);

/* Learn a samples CSV, cut up in place, into the entry's model; `path` is named in warnings. Returns 0, or a negative
 * errno with a message; the model is then empty, except after -ENOMEM. */
int files_learn_samples(struct entry *entry, char *text, char *path, char *message, size_t size);

/* Load the samples and the layers of `owner` into the entry's model. Returns 1 when a file existed, 0 when none, or
 * -ENOMEM: the files are left alone, to be read again later. */
int files_load(const char *dir, struct entry *entry, uid_t owner);
/* The same for measurements of other boards, and for the account of shadow mode, which is continued. */
int files_load_inherited(const char *dir, struct entry *entry);
int files_load_savings(const char *dir, struct entry *entry);
/* The interference that the governor learned for the entry, which is in the library. */
int files_load_company(const char *dir, struct entry *entry);

/* Save samples, layers and shadow mode's account. Returns 0 or a negative errno, logged once. */
int files_save(const char *dir, const struct entry *entry);
/* Save the measurements of other boards. */
int files_save_inherited(const char *dir, const struct entry *entry, const struct sample *samples, size_t count);

/* Size in bytes of the samples and layers of `owner`, and of the measurements of other boards; 0: there are none. */
off_t files_bytes(const char *dir, const struct entry *entry, uid_t owner);
off_t files_inherited_bytes(const char *dir, const struct entry *entry);

/* Whether the entry has no samples file yet. */
bool files_missing(const char *dir, const struct entry *entry);
/* Rename the entry's samples and layers as damaged. */
void files_set_aside(const char *dir, const struct entry *entry, const char *message);
/* Delete every file of the entry except the measurements of other boards. */
void files_remove(const char *dir, const struct entry *entry);

/* List an owner's models on disk, most recently used first, of one power mode or any (NULL). The caller frees `*out`.
 * Returns their number. */
size_t files_list(const char *dir, uid_t owner, const char *mode, struct model_file **out);

/* Rename files of version 0.1: of layers, and of this power mode if its name is a long one. */
void files_take_over(const char *dir, const char *key);

#endif
