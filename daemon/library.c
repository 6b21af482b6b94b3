/* SPDX-License-Identifier: MIT */
#include "library.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/file.h"
#include "../common/kv.h"
#include "../common/log.h"

#define MODEL_FILE_BYTES_MAX (64 * 1024 * 1024)
#define FILE_MODE 0640
#define DIR_MODE  0750

/* A power mode as a part of a file name. */
static void mode_key(char key[MODE_KEY_MAX], const char *mode)
{
	size_t n = 0;

	for (; *mode && n + 1 < MODE_KEY_MAX; mode++)
		key[n++] = isalnum((unsigned char)*mode) || *mode == '.' || *mode == '-' ? *mode : '_';
	key[n] = '\0';
}

static int entry_path(const struct library *library, const struct entry *entry, const char *suffix, char path[PATH_MAX])
{
	int n = snprintf(path, PATH_MAX, "%s/%s%s%s%s", library->dir, entry->name, entry->mode[0] ? "@" : "", entry->mode, suffix);

	return n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static void on_warning(void *arg, const char *text)
{
	log_warning("%s: %s", (const char *)arg, text);
}

/* Out of the way, never deleted: somebody may want to mend it. */
static void set_aside(const char *path, const char *message)
{
	char aside[PATH_MAX + 32];

	for (int i = 0; i < 100; i++) {
		snprintf(aside, sizeof(aside), i ? "%s.damaged-%d" : "%s.damaged", path, i);
		if (access(aside, F_OK) == 0)
			continue;
		if (rename(path, aside) < 0)
			log_error("%s: %s; and it cannot be set aside: %s", path, message, strerror(errno));
		else
			log_error("%s: %s; set aside as %s, the model learns anew", path, message, aside);
		return;
	}
	log_error("%s: %s; a hundred damaged files are there already, it is left", path, message);
}

static int learn_samples(struct model *model, char *text, char *path, char *message, size_t size)
{
	CLEANUP_MEM struct sample *samples = NULL;
	size_t count;
	int rc = samples_parse(text, false, &samples, &count, message, size, on_warning, path);

	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = model_learn_sample(model, &samples[i]);
	return rc;
}

static int learn_layers(struct model *model, char *text, char *path, char *message, size_t size)
{
	CLEANUP_MEM struct layer *layers = NULL;
	size_t count;
	int rc = layers_parse(text, &layers, &count, message, size, on_warning, path);

	return rc < 0 ? rc : model_learn_layers(model, layers, count);
}

/* -ENOMEM says nothing about the file: it stays, and is tried again. */
static int load_file(const struct library *library, const struct entry *entry, const char *suffix,
		     int (*learn)(struct model *, char *, char *, char *, size_t))
{
	char path[PATH_MAX], message[256] = "";
	CLEANUP_MEM char *text = NULL;
	int rc = entry_path(library, entry, suffix, path);

	if (rc == 0)
		rc = file_read(path, MODEL_FILE_BYTES_MAX, &text, NULL);
	if (rc == -ENOENT || rc == -ENOMEM)
		return rc == -ENOMEM ? rc : 0;
	if (rc < 0) {
		log_error("%s: %s", path, strerror(-rc));
		return 0;
	}
	rc = learn(entry->model, text, path, message, sizeof(message));
	if (rc < 0 && rc != -ENOMEM)
		set_aside(path, message[0] ? message : strerror(-rc));
	return rc == -ENOMEM ? rc : 0;
}

static struct entry *slot(struct library *library)
{
	struct entry *oldest = NULL;

	if (library->count < MODELS_MAX)
		return &library->entry[library->count++];
	for (size_t i = 0; i < library->count; i++) {
		struct entry *entry = &library->entry[i];

		if (entry->users == 0 && !entry->dirty && (!oldest || entry->used_ns < oldest->used_ns))
			oldest = entry;
	}
	if (oldest)
		model_free(oldest->model);
	return oldest;
}

static struct entry *load(struct library *library, const char *name, const char *mode)
{
	struct entry fresh = { .model = model_new(library->grid, &library->options) }, *entry = NULL;
	int rc = fresh.model ? 0 : -ENOMEM;

	strcpy(fresh.name, name);
	strcpy(fresh.mode, mode);
	if (rc == 0)
		rc = load_file(library, &fresh, ".csv", learn_samples);
	if (rc == 0)
		rc = load_file(library, &fresh, ".layers.csv", learn_layers);
	if (rc == 0)
		entry = slot(library);
	if (entry) {
		*entry = fresh;
	} else {
		model_free(fresh.model);
		errno = rc < 0 ? ENOMEM : ENOSPC;
	}
	return entry;
}

static struct entry *find(struct library *library, const char *name, const char *mode)
{
	for (size_t i = 0; i < library->count; i++)
		if (strcmp(library->entry[i].name, name) == 0 && strcmp(library->entry[i].mode, mode) == 0)
			return &library->entry[i];
	return NULL;
}

/* NAME or NAME@MODE of a samples file of the mode in force. */
static bool file_of_mode(const struct library *library, const char *file, char name[MODEL_NAME_MAX + 1])
{
	size_t len = strlen(file), stem = len > 4 ? len - 4 : 0;
	const char *at = strchr(file, '@');
	size_t name_len = at ? (size_t)(at - file) : stem;

	if (stem == 0 || strcmp(file + stem, ".csv") || (len > 11 && strcmp(file + len - 11, ".layers.csv") == 0))
		return false;
	if (name_len == 0 || name_len > MODEL_NAME_MAX || name_len > stem)
		return false;
	if (at ? stem - name_len - 1 != strlen(library->mode) || strncmp(at + 1, library->mode, stem - name_len - 1) : library->mode[0] != '\0')
		return false;
	memcpy(name, file, name_len);
	name[name_len] = '\0';
	return model_name_valid(name);
}

static void load_all(struct library *library)
{
	DIR *dir = opendir(library->dir);
	char name[MODEL_NAME_MAX + 1];
	struct dirent *file;

	if (!dir)
		return;
	while ((file = readdir(dir)) != NULL && library->count < MODELS_MAX)
		if (file_of_mode(library, file->d_name, name) && !find(library, name, library->mode))
			load(library, name, library->mode);
	closedir(dir);
}

void library_init(struct library *library, const char *state_dir, const char *power_mode, const struct grid *grid, const struct model_options *options)
{
	int rc;

	memset(library, 0, sizeof(*library));
	snprintf(library->dir, sizeof(library->dir), "%s/models", state_dir);
	library->grid = grid;
	library->options = *options;
	mode_key(library->mode, power_mode);
	rc = dir_make(library->dir, DIR_MODE);
	if (rc < 0)
		log_error("%s: %s; what is learned will be lost at the end", library->dir, strerror(-rc));
	load_all(library);
	if (library->count)
		log_info("%zu models known from %s", library->count, library->dir);
}

void library_set_mode(struct library *library, const char *power_mode)
{
	char key[MODE_KEY_MAX];

	mode_key(key, power_mode);
	if (strcmp(key, library->mode) == 0)
		return;
	strcpy(library->mode, key);
	log_notice("power mode %s from now on: what was learned in another is kept apart", power_mode);
	load_all(library);
}

struct entry *library_find(struct library *library, const char *name)
{
	return find(library, name, library->mode);
}

struct entry *library_get(struct library *library, const char *name, uint64_t now_ns)
{
	struct entry *entry = library_find(library, name);

	if (!entry)
		entry = load(library, name, library->mode);
	if (entry) {
		entry->users++;
		entry->used_ns = now_ns;
	}
	return entry;
}

void library_put(struct entry *entry)
{
	entry->users--;
}

static int save_text(const struct library *library, const struct entry *entry, const char *suffix, const char *text)
{
	char path[PATH_MAX];
	int rc = entry_path(library, entry, suffix, path);

	if (!text)
		return -ENOMEM;
	if (rc == 0)
		rc = file_replace(path, text, strlen(text), FILE_MODE);
	/* The directory may have gone since the start, or could not be made then. */
	if (rc == -ENOENT && dir_make(library->dir, DIR_MODE) == 0)
		rc = file_replace(path, text, strlen(text), FILE_MODE);
	if (rc < 0 && log_first(path))
		log_error("%s: cannot be saved: %s", path, strerror(-rc));
	if (rc == 0)
		log_forget(path);
	return rc;
}

static int save(const struct library *library, const struct entry *entry)
{
	CLEANUP_MEM struct sample *samples = NULL;
	CLEANUP_MEM struct layer *layers = NULL;
	CLEANUP_MEM char *text = NULL;
	long count = model_samples(entry->model, &samples);
	int rc;

	if (count < 0)
		return (int)count;
	if (count == 0)
		return 0;
	text = samples_format(samples, (size_t)count);
	rc = save_text(library, entry, ".csv", text);
	count = model_layers(entry->model, &layers);
	if (rc < 0 || count <= 0)
		return rc < 0 ? rc : (int)count;
	free(text);
	text = layers_format(layers, (size_t)count);
	return save_text(library, entry, ".layers.csv", text);
}

int library_save(struct library *library)
{
	int first = 0;

	for (size_t i = 0; i < library->count; i++) {
		struct entry *entry = &library->entry[i];
		int rc = entry->dirty ? save(library, entry) : 0;

		if (rc == 0)
			entry->dirty = false;
		else if (first == 0)
			first = rc;
	}
	return first;
}

void library_free(struct library *library)
{
	for (size_t i = 0; i < library->count; i++)
		model_free(library->entry[i].model);
	library->count = 0;
}
