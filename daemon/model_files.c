/* SPDX-License-Identifier: MIT */
/* Names, formats and upkeep of the model files. */
#include "model_files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/file.h"
#include "../common/kv.h"
#include "../common/log.h"
#include "user.h"

#define SAMPLES     ".csv"
#define LAYERS      ".layers" /* before SAMPLES */
#define SAVINGS     ".savings"
#define INHERITED   ".inherited" /* samples of other boards */
#define COMPANY     ".company"   /* learned interference of other models */
#define MODE_CUT    47           /* characters of a power mode in the file names of version 0.1 */
#define DAMAGED_MAX 4            /* damaged files kept for each name; the last one is replaced */
#define FILE_MODE   0640

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

void files_mode_key(char key[MODE_KEY_MAX], const char *mode)
{
	size_t n = 0;

	for (; *mode && n + 1 < MODE_KEY_MAX; mode++)
		key[n++] = isalnum((unsigned char)*mode) || *mode == '.' || *mode == '-' ? *mode : '_';
	key[n] = '\0';
	if (ends_with(key, LAYERS)) /* it would be confused with the separator of a layers file */
		key[n - strlen(LAYERS)] = '_';
}

/* The administrator's samples have the short name NAME[@MODE].csv, which people write and copy;
 * every other file has all separators. */
static int entry_path(const char *dir, const struct entry *entry, uid_t owner, const char *suffix, char path[PATH_MAX])
{
	bool plain = owner == USER_ADMIN && strcmp(suffix, SAMPLES) == 0;
	char uid[16] = "";
	int n;

	if (owner != USER_ADMIN)
		snprintf(uid, sizeof(uid), "@%u", owner);
	n = snprintf(path, PATH_MAX, "%s/%s%s%s%s%s", dir, entry->name, plain && !entry->mode[0] ? "" : "@",
		     entry->mode, uid, suffix);
	return n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

bool files_missing(const char *dir, const struct entry *entry)
{
	char path[PATH_MAX];

	return entry_path(dir, entry, entry->owner, SAMPLES, path) == 0 && access(path, F_OK) < 0;
}

static off_t file_bytes(const char *dir, const struct entry *entry, uid_t owner, const char *suffix)
{
	char path[PATH_MAX];
	struct stat st;

	return entry_path(dir, entry, owner, suffix, path) == 0 && stat(path, &st) == 0 ? st.st_size : 0;
}

off_t files_bytes(const char *dir, const struct entry *entry, uid_t owner)
{
	return file_bytes(dir, entry, owner, SAMPLES) + file_bytes(dir, entry, owner, LAYERS SAMPLES);
}

off_t files_inherited_bytes(const char *dir, const struct entry *entry)
{
	return file_bytes(dir, entry, USER_ADMIN, INHERITED);
}

static void on_warning(void *arg, const char *text)
{
	log_warning("%s: %s", (const char *)arg, text);
}

/* Rename a damaged file; it is never deleted, so that an administrator can repair it. */
static void set_aside(const char *path, const char *message)
{
	char aside[PATH_MAX + 32];

	for (int i = 0; i < DAMAGED_MAX; i++) {
		snprintf(aside, sizeof(aside), i ? "%s.damaged-%d" : "%s.damaged", path, i);
		if (access(aside, F_OK) == 0 && i + 1 < DAMAGED_MAX)
			continue;
		if (rename(path, aside) < 0)
			log_error("%s: %s; renaming it failed too: %s", path, message, strerror(errno));
		else
			log_error("%s: %s; renamed to %s, and the model is learned again", path, message, aside);
		return;
	}
}

int files_learn_samples(struct entry *entry, char *text, char *path, char *message, size_t size)
{
	struct model *model = entry->model;
	CLEANUP_MEM struct sample *samples = NULL;
	struct op_point a, b;
	size_t count;
	int rc = samples_parse(text, false, &samples, &count, message, size, on_warning, path);

	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = model_learn_sample(model, &samples[i]);
	if (rc == 0 && !model_consistent(model, &a, &b)) {
		snprintf(message, size,
			 "the latency at cpu_hz %" PRIu64 ", gpu_hz %" PRIu64 ", mem_hz %" PRIu64
			 " contradicts that at %" PRIu64 ", %" PRIu64 ", %" PRIu64,
			 a.hz[CLOCK_CPU], a.hz[CLOCK_GPU], a.hz[CLOCK_MEM], b.hz[CLOCK_CPU], b.hz[CLOCK_GPU],
			 b.hz[CLOCK_MEM]);
		rc = -EINVAL;
	}
	if (rc < 0 && rc != -ENOMEM)
		model_forget(model);
	return rc;
}

static int learn_layers(struct entry *entry, char *text, char *path, char *message, size_t size)
{
	CLEANUP_MEM struct layer *layers = NULL;
	size_t count;
	int rc = layers_parse(text, &layers, &count, message, size, on_warning, path);

	return rc < 0 ? rc : model_learn_layers(entry->model, layers, count);
}

/* Continue the account of shadow mode. */
static int take_savings(struct entry *entry, char *text, char *path, char *message, size_t size)
{
	(void)path;
	return ledger_parse(&entry->savings, text, message, size);
}

static int take_company(struct entry *entry, char *text, char *path, char *message, size_t size)
{
	(void)path;
	return company_parse(entry, text, message, size);
}

/* Of memory or descriptors that are missing now. */
static bool error_passes(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

/* Returns 1 when the file existed, 0 when not. After -ENOMEM the file is left alone and read again
 * later. */
static int load_file(const char *dir, struct entry *entry, uid_t owner, const char *suffix,
		     int (*learn)(struct entry *, char *, char *, char *, size_t))
{
	char path[PATH_MAX], message[256] = "";
	CLEANUP_MEM char *text = NULL;
	int rc = entry_path(dir, entry, owner, suffix, path);

	if (rc == 0)
		rc = file_read(path, MODEL_FILE_BYTES_MAX, &text, NULL);
	if (rc == -ENOENT || error_passes(rc))
		return rc == -ENOENT ? 0 : -ENOMEM;
	if (rc < 0) { /* the next save would replace it */
		set_aside(path, strerror(-rc));
		return 1;
	}
	if (owner == entry->owner)
		/* the modification time is the time of last use, by which files are kept */
		(void)!utimensat(AT_FDCWD, path, NULL, 0);
	rc = learn(entry, text, path, message, sizeof(message));
	if (rc < 0 && rc != -ENOMEM)
		set_aside(path, message[0] ? message : strerror(-rc));
	return rc == -ENOMEM ? rc : 1;
}

int files_load(const char *dir, struct entry *entry, uid_t owner)
{
	int samples = load_file(dir, entry, owner, SAMPLES, files_learn_samples);
	int layers = samples < 0 ? samples : load_file(dir, entry, owner, LAYERS SAMPLES, learn_layers);

	return layers < 0 ? layers : samples || layers;
}

int files_load_inherited(const char *dir, struct entry *entry)
{
	return load_file(dir, entry, USER_ADMIN, INHERITED, files_learn_samples);
}

int files_load_savings(const char *dir, struct entry *entry)
{
	return load_file(dir, entry, entry->owner, SAVINGS, take_savings);
}

int files_load_company(const char *dir, struct entry *entry)
{
	return load_file(dir, entry, entry->owner, COMPANY, take_company);
}

/* The parts of a model file's name. */
struct file_name {
	char name[MODEL_NAME_MAX + 1], mode[MODE_KEY_MAX];
	uid_t owner;
	const char *suffix;
};

static bool file_parse(const char *file, struct file_name *out)
{
	char stem[NAME_MAX + 1], *mode, *uid, *end;
	size_t len = strlen(file);

	memset(out, 0, sizeof(*out));
	out->suffix = ends_with(file, SAVINGS) ? SAVINGS : SAMPLES;
	if (len > NAME_MAX || !ends_with(file, out->suffix))
		return false;
	strcpy(stem, file);
	stem[len - strlen(out->suffix)] = '\0';
	mode = strchr(stem, '@');
	if (mode && strcmp(out->suffix, SAMPLES) == 0 && ends_with(mode + 1, LAYERS)) {
		out->suffix = LAYERS SAMPLES;
		stem[strlen(stem) - strlen(LAYERS)] = '\0';
	}
	if (mode)
		*mode++ = '\0';
	uid = mode ? strchr(mode, '@') : NULL;
	if (uid) {
		*uid++ = '\0';
		out->owner = (uid_t)strtoul(uid, &end, 10);
		if (*uid < '0' || *uid > '9' || *end || out->owner == USER_ADMIN)
			return false;
	}
	if (!model_name_valid(stem) || (mode && strlen(mode) >= MODE_KEY_MAX))
		return false;
	strcpy(out->name, stem);
	strcpy(out->mode, mode ? mode : "");
	return true;
}

/* Version 0.1 named the layers of an unknown power mode NAME.layers.csv, which is also the samples
 * file of a model called NAME.layers. */
static void take_over(const char *dir, const char *file)
{
	char from[PATH_MAX], to[PATH_MAX], head[256] = "";
	struct file_name name;
	FILE *stream;
	int n;

	if (!file_parse(file, &name) || strcmp(name.suffix, SAMPLES) != 0 || !ends_with(name.name, LAYERS) ||
	    name.mode[0] || name.owner != USER_ADMIN)
		return;
	n = (int)(strlen(name.name) - strlen(LAYERS));
	if (snprintf(from, sizeof(from), "%s/%s", dir, file) >= (int)sizeof(from) ||
	    snprintf(to, sizeof(to), "%s/%.*s@" LAYERS SAMPLES, dir, n, name.name) >= (int)sizeof(to))
		return;
	stream = fopen(from, "re");
	if (!stream)
		return;
	if (fgets(head, sizeof(head), stream) && strstr(head, ",layer,") && access(to, F_OK) < 0 &&
	    rename(from, to) == 0)
		log_notice("%s: layers file of version 0.1, renamed to %s", from, to);
	fclose(stream);
}

/* Is this the end of a model file's name, behind its mode? */
static bool is_tail(const char *tail)
{
	static const char *const suffix[] = {SAMPLES, SAVINGS, COMPANY, INHERITED};

	if (*tail == '@')
		tail += 1 + strspn(tail + 1, "0123456789");
	if (strcmp(tail, LAYERS SAMPLES) == 0)
		return true;
	for (size_t i = 0; i < sizeof(suffix) / sizeof(*suffix); i++)
		if (strcmp(tail, suffix[i]) == 0)
			return true;
	return false;
}

/* Version 0.1 cut the mode short, so that several modes could share a file. The first of them takes it over. */
static void take_over_mode(const char *dir, const char *file, const char *key)
{
	const char *mode = strchr(file, '@');
	char from[PATH_MAX], to[PATH_MAX];

	if (!mode || strncmp(mode + 1, key, MODE_CUT) != 0 || !is_tail(mode + 1 + MODE_CUT) ||
	    snprintf(from, sizeof(from), "%s/%s", dir, file) >= (int)sizeof(from) ||
	    snprintf(to, sizeof(to), "%s/%.*s@%s%s", dir, (int)(mode - file), file, key, mode + 1 + MODE_CUT) >=
		    (int)sizeof(to))
		return;
	if (access(to, F_OK) < 0 && rename(from, to) == 0)
		log_notice("%s: named by version 0.1, renamed to %s", from, to);
}

void files_take_over(const char *dir, const char *key)
{
	DIR *stream = opendir(dir);
	struct dirent *old;

	while (stream && (old = readdir(stream)) != NULL) {
		take_over(dir, old->d_name);
		if (strlen(key) > MODE_CUT)
			take_over_mode(dir, old->d_name, key);
	}
	if (stream)
		closedir(stream);
}

/* Newest first. */
static int by_age(const void *a, const void *b)
{
	const struct timespec *x = &((const struct model_file *)a)->used, *y = &((const struct model_file *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? 1 : -1;
	return x->tv_nsec < y->tv_nsec ? 1 : x->tv_nsec > y->tv_nsec ? -1 : 0;
}

/* The file by which a model is found: its samples or, without samples, the account of shadow mode. */
static bool stands_for_model(const char *dir, const struct file_name *name)
{
	struct entry entry = {.owner = name->owner};

	if (strcmp(name->suffix, SAVINGS) != 0)
		return strcmp(name->suffix, SAMPLES) == 0;
	strcpy(entry.name, name->name);
	strcpy(entry.mode, name->mode);
	return files_missing(dir, &entry);
}

size_t files_list(const char *dir, uid_t owner, const char *mode, struct model_file **out)
{
	size_t count = 0, room = 0;
	DIR *stream = opendir(dir);
	struct file_name name;
	struct dirent *file;
	struct stat st;

	*out = NULL;
	while (stream && (file = readdir(stream)) != NULL) {
		if (!file_parse(file->d_name, &name) || name.owner != owner || (mode && strcmp(name.mode, mode)) ||
		    !stands_for_model(dir, &name) || fstatat(dirfd(stream), file->d_name, &st, 0) < 0)
			continue;
		if (count == room) {
			struct model_file *grown = realloc(*out, (room = room ? 2 * room : 64) * sizeof(**out));

			if (!grown)
				break;
			*out = grown;
		}
		strcpy((*out)[count].name, name.name);
		strcpy((*out)[count].mode, name.mode);
		(*out)[count++].used = st.st_mtim;
	}
	if (stream)
		closedir(stream);
	if (count)
		qsort(*out, count, sizeof(**out), by_age);
	return count;
}

static int save(const char *dir, const struct entry *entry, const char *suffix, const char *data, size_t len)
{
	char path[PATH_MAX];
	int rc = entry_path(dir, entry, entry->owner, suffix, path);

	if (rc == 0)
		rc = file_replace(path, data, len, FILE_MODE);
	/* the directory may have been removed, or could not be created at startup */
	if (rc == -ENOENT && dir_make(dir, MODEL_DIR_MODE) == 0)
		rc = file_replace(path, data, len, FILE_MODE);
	if (rc < 0 && log_first(dir))
		log_error("%s: cannot save: %s", path, strerror(-rc));
	if (rc == 0)
		log_forget(dir);
	return rc;
}

static int save_text(const char *dir, const struct entry *entry, const char *suffix, const char *text)
{
	return text ? save(dir, entry, suffix, text, strlen(text)) : -ENOMEM;
}

static int save_savings(const char *dir, const struct entry *entry)
{
	struct kv_out out = {0};
	int rc = 0;

	if (entry->savings.requests <= 0)
		return 0;
	ledger_format(&out, &entry->savings);
	rc = out.error ? out.error : save(dir, entry, SAVINGS, out.data, out.len);
	kv_free(&out);
	return rc;
}

static int save_company(const char *dir, const struct entry *entry)
{
	struct kv_out out = {0};
	int rc = 0;

	company_format(&out, entry);
	if (out.error || out.len)
		rc = out.error ? out.error : save(dir, entry, COMPANY, out.data, out.len);
	kv_free(&out);
	return rc;
}

int files_save_inherited(const char *dir, const struct entry *entry, const struct sample *samples, size_t count)
{
	CLEANUP_MEM char *text = samples_format(samples, count);

	return save_text(dir, entry, INHERITED, text);
}

static int save_samples(const char *dir, const struct entry *entry)
{
	CLEANUP_MEM struct sample *samples = NULL;
	CLEANUP_MEM struct layer *layers = NULL;
	CLEANUP_MEM char *text = NULL;
	long count = model_samples(entry->model, &samples);
	int rc;

	if (count <= 0)
		return (int)count;
	text = samples_format(samples, (size_t)count);
	rc = save_text(dir, entry, SAMPLES, text);
	count = model_layers(entry->model, &layers);
	if (rc < 0 || count <= 0)
		return rc < 0 ? rc : (int)count;
	free(text);
	text = layers_format(layers, (size_t)count);
	return save_text(dir, entry, LAYERS SAMPLES, text);
}

/* Files that took longest to learn are read first. */
int files_save(const char *dir, const struct entry *entry)
{
	int rc = save_samples(dir, entry);

	if (rc == 0)
		rc = save_savings(dir, entry);
	return rc == 0 ? save_company(dir, entry) : rc;
}

void files_set_aside(const char *dir, const struct entry *entry, const char *message)
{
	static const char *const suffixes[] = {SAMPLES, LAYERS SAMPLES};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++)
		if (entry_path(dir, entry, entry->owner, suffixes[i], path) == 0 && access(path, F_OK) == 0)
			set_aside(path, message);
}

void files_remove(const char *dir, const struct entry *entry)
{
	static const char *const suffixes[] = {SAMPLES, LAYERS SAMPLES, SAVINGS, COMPANY};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++)
		if (entry_path(dir, entry, entry->owner, suffixes[i], path) == 0)
			unlink(path);
}
