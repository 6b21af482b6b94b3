/* SPDX-License-Identifier: MIT */
/* The table of models, and the process that saves it. */
#include "library.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "imports.h"
#include "model_files.h"
#include "sandbox.h"
#include "user.h"

#define RETRY_NS         (5 * NS_PER_S)   /* after a failed write */
#define START_NS         (50 * NS_PER_MS) /* for reading models before the first client is served */
#define LAYERS_OVERLAP   8                /* most layers of one inference that may run at the same time */
#define READ_BYTES_QUICK 65536            /* files of at most this size are read in about a millisecond */

/* Free the entry's measurements, and those of other boards: they are read again from its files at its next use. */
static void evict(struct entry *entry)
{
	model_forget(entry->model);
	model_inherit(entry->model, NULL);
	entry->unread = true;
}

/* The least recently used entry of this owner (NULL: any) that is unused and saved. If there is none and one is unused
 * and not saved, errno is EAGAIN, unless saving failed. */
static struct entry *oldest(struct library *library, const uid_t *owner)
{
	struct entry *oldest = NULL;
	bool unsaved = false;

	for (size_t i = 0; i < library->count; i++) {
		struct entry *entry = &library->entry[i];

		if (entry->users || (owner && entry->owner != *owner))
			continue;
		if (entry->dirty || entry->saving)
			unsaved = true;
		else if (!oldest || entry->used_ns < oldest->used_ns)
			oldest = entry;
	}
	if (!oldest && unsaved && clock_now_ns() >= library->retry_ns)
		errno = EAGAIN;
	return oldest;
}

/* A free slot for one more model. An owner at its quota loses its least recently used model from
 * memory. Returns NULL with errno set. */
static struct entry *slot(struct library *library, uid_t owner)
{
	unsigned held = 0, used = 0;
	struct entry *entry;

	for (size_t i = 0; i < library->count; i++) {
		held += library->entry[i].owner == owner;
		used += library->entry[i].owner == owner && library->entry[i].users;
	}
	errno = used >= MODELS_PER_UID_MAX ? EDQUOT : ENOSPC;
	if (used >= MODELS_PER_UID_MAX)
		return NULL;
	if (held < MODELS_PER_UID_MAX && library->count < MODELS_MAX)
		return &library->entry[library->count++];
	entry = oldest(library, held >= MODELS_PER_UID_MAX ? &owner : NULL);
	if (entry)
		model_free(entry->model);
	return entry;
}

/* A new entry, whose files are not read yet. Returns NULL with errno set. */
static struct entry *add(struct library *library, const char *name, const char *mode, uid_t owner)
{
	struct entry fresh = {.library = library,
			      .number = library->entered + 1,
			      .owner = owner,
			      .model = model_new(library->grid, &library->options),
			      .unread = true};
	struct entry *entry = fresh.model ? slot(library, owner) : NULL;

	if (!fresh.model)
		errno = ENOMEM;
	strcpy(fresh.name, name);
	strcpy(fresh.mode, mode);
	if (!entry) {
		model_free(fresh.model);
		return NULL;
	}
	*entry = fresh;
	library->entered++;
	if (library->governor)
		governor_model_reset(library->governor, (uint32_t)(entry - library->entry));
	return entry;
}

/* Samples and layers: the owner's, else the administrator's. Returns 0 or -ENOMEM. */
static int read_measured(struct library *library, struct entry *entry)
{
	int rc = files_load(library->dir, entry, entry->owner);

	if (rc == 0 && entry->owner != USER_ADMIN)
		rc = files_load(library->dir, entry, USER_ADMIN);
	return rc < 0 ? rc : 0;
}

/* The rest; `from` are the measurements of other boards, which are taken over. Returns 0 or -ENOMEM. */
static int read_others(struct library *library, struct entry *entry, struct model *from, int rc)
{
	if (rc >= 0)
		rc = files_load_savings(library->dir, entry);
	if (rc < 0) {
		model_forget(entry->model);
		model_free(from);
		return -ENOMEM;
	}
	imports_give(entry, from);
	files_load_company(library->dir, entry);
	entry->unread = false;
	return 0;
}

static int read_files(struct library *library, struct entry *entry)
{
	int rc = read_measured(library, entry);

	return read_others(library, entry, rc < 0 ? NULL : imports_read(library, entry), rc);
}

static struct entry *find(struct library *library, const char *name, const char *mode, uid_t owner)
{
	for (size_t i = 0; i < library->count; i++)
		if (library->entry[i].owner == owner && strcmp(library->entry[i].name, name) == 0 &&
		    strcmp(library->entry[i].mode, mode) == 0)
			return &library->entry[i];
	return NULL;
}

/* Enter the administrator's models of the current power mode, most recently used first. Other users' are entered
 * when they are opened. */
static void enter_all(struct library *library)
{
	CLEANUP_MEM struct model_file *file = NULL;
	size_t count;

	files_take_over(library->dir, library->mode);
	count = files_list(library->dir, USER_ADMIN, library->mode, &file);
	for (size_t i = 0; i < count && i < MODELS_PER_UID_MAX; i++)
		if (!find(library, file[i].name, library->mode, USER_ADMIN)) {
			struct entry *entry = add(library, file[i].name, library->mode, USER_ADMIN);

			if (entry)
				entry->used_ns = count - i;
		}
}

static size_t next_unread(const struct library *library)
{
	size_t next = library->count, held = 0;

	for (size_t i = 0; i < library->count; i++) {
		const struct entry *entry = &library->entry[i];

		if (entry->owner != USER_ADMIN)
			continue;
		held += model_measured_bytes(entry->model);
		if (entry->unread && strcmp(entry->mode, library->mode) == 0 &&
		    (next == library->count || entry->used_ns > library->entry[next].used_ns))
			next = i;
	}
	return held < MEASURED_PER_UID_MAX / 2 ? next : library->count;
}

bool library_reads_long(const struct entry *entry)
{
	if (!entry->unread || entry->no_room)
		return false;
	off_t bytes = files_bytes(entry->library->dir, entry, entry->owner);
	if (!bytes && entry->owner != USER_ADMIN)
		bytes = files_bytes(entry->library->dir, entry, USER_ADMIN);
	return bytes + files_inherited_bytes(entry->library->dir, entry) > READ_BYTES_QUICK;
}

/* Result of a helper process, which library_take() reads: an image of the model and one of the measurements of other
 * boards. */
struct read_apart {
	bool done;
	unsigned imports; /* of the entry when it was read */
	_Alignas(max_align_t) char image[];
};

/* Distance of the two images. */
static size_t image_stride(const struct entry *entry)
{
	size_t align = _Alignof(max_align_t);

	return (model_image_bytes(entry->library->grid, &entry->library->options) + align - 1) / align * align;
}

size_t library_read_bytes(const struct entry *entry)
{
	return sizeof(struct read_apart) + 2 * image_stride(entry);
}

void library_read_apart(struct entry *entry, void *out)
{
	struct read_apart *apart = out;

	if (read_measured(entry->library, entry) < 0)
		return;
	struct model *others = imports_read(entry->library, entry);
	if (!others)
		return;
	model_image_put(entry->model, apart->image);
	model_image_put(others, apart->image + image_stride(entry));
	apart->imports = entry->imports;
	imports_give(entry, others);
	apart->done = true;
}

bool library_take(struct entry *entry, const void *in)
{
	const struct read_apart *apart = in;

	if (!entry->unread)
		return false;
	struct model *others = apart->done ? model_new(entry->library->grid, &entry->library->options) : NULL;
	if (others && model_image_take(others, apart->image + image_stride(entry)) == 0 &&
	    model_image_take(entry->model, apart->image) == 0) {
		bool newest = apart->imports == entry->imports; /* no import came after the file was read */

		if (!newest) {
			model_free(others);
			others = imports_read(entry->library, entry);
		}
		return read_others(entry->library, entry, others, 0) == 0 && newest;
	}
	model_free(others);
	(void)!read_files(entry->library, entry);
	return false;
}

void library_read(struct entry *entry)
{
	if (entry->unread && !entry->no_room)
		(void)!read_files(entry->library, entry);
}

/* Does `a` come before `b`, after an entry of read_owner? */
static bool is_sooner(const struct library *library, const struct entry *a, const struct entry *b)
{
	/* unsigned: the distance from the owner whose turn it was */
	uid_t of_a = a->owner - library->read_owner - 1, of_b = b->owner - library->read_owner - 1;

	return of_a != of_b ? of_a < of_b : a->used_ns > b->used_ns;
}

struct entry *library_wanted(struct library *library)
{
	struct entry *wanted = NULL;

	for (size_t i = 0; i < library->count; i++) {
		struct entry *entry = &library->entry[i];

		if (entry->users && entry->unread && !entry->no_room && (!wanted || is_sooner(library, entry, wanted)))
			wanted = entry;
	}
	return wanted;
}

bool library_keep(struct entry *entry)
{
	entry->library->read_owner = entry->owner;
	if (!entry->unread && !library_has_room(entry->library, entry, 0)) {
		evict(entry);
		entry->no_room = true;
	}
	return !entry->unread;
}

bool library_fit(struct entry *entry)
{
	if (entry->unread || entry->users || entry->dirty || entry->saving ||
	    library_has_room(entry->library, entry, 0))
		return true;
	evict(entry);
	return false;
}

bool library_has_unread(const struct library *library)
{
	return next_unread(library) < library->count;
}

bool library_read_next(struct library *library)
{
	size_t next = next_unread(library);

	return next < library->count && read_files(library, &library->entry[next]) == 0;
}

void library_init(struct library *library, const char *state_dir, const char *power_mode, const struct grid *grid,
		  const struct model_options *options, struct governor *governor)
{
	uint64_t until_ns = clock_now_ns() + START_NS;
	int rc;

	memset(library, 0, sizeof(*library));
	snprintf(library->dir, sizeof(library->dir), "%s/models", state_dir);
	library->grid = grid;
	library->options = *options;
	library->governor = governor;
	library->options.derived_bytes = &library->derived_bytes;
	files_mode_key(library->mode, power_mode);
	rc = dir_make(library->dir, MODEL_DIR_MODE);
	if (rc < 0)
		log_error("%s: %s; learned models will be lost when flamed exits", library->dir, strerror(-rc));
	enter_all(library);
	while (clock_now_ns() < until_ns && library_read_next(library))
		;
	if (library->count)
		log_info("%zu models in %s", library->count, library->dir);
}

bool library_set_mode(struct library *library, const char *power_mode)
{
	char key[MODE_KEY_MAX];

	files_mode_key(key, power_mode);
	if (strcmp(key, library->mode) == 0)
		return false;
	strcpy(library->mode, key);
	log_notice("power mode changed to %s; each mode has its own models", power_mode);
	enter_all(library);
	return true;
}

struct entry *library_find(struct library *library, const char *name, uid_t owner)
{
	struct entry *entry = find(library, name, library->mode, owner);

	return entry ? entry : find(library, name, library->mode, USER_ADMIN);
}

struct entry *library_enter(struct library *library, const char *name, uid_t owner)
{
	struct entry *entry = find(library, name, library->mode, owner);

	return entry ? entry : add(library, name, library->mode, owner);
}

struct entry *library_hold(struct library *library, const char *name, uid_t owner)
{
	struct entry *entry = library_enter(library, name, owner);

	if (entry)
		entry->users++;
	return entry;
}

struct entry *library_get(struct library *library, const char *name, uid_t owner, uint64_t now_ns)
{
	struct entry *entry = library_enter(library, name, owner);

	if (!entry)
		return NULL;
	if (entry->no_room) {
		errno = EDQUOT;
		return NULL;
	}
	bool unread = entry->unread;
	if (unread && read_files(library, entry) < 0) {
		errno = ENOMEM;
		return NULL;
	}
	if (!library_has_room(library, entry, 0) && (unread || !entry->users) && !entry->dirty && !entry->saving) {
		evict(entry);
		entry->no_room = entry->users > 0;
		errno = EDQUOT;
		return NULL;
	}
	entry->users++;
	entry->used_ns = now_ns;
	return entry;
}

void library_put(struct entry *entry)
{
	entry->users--;
	entry->no_room &= entry->users > 0;
}

struct library_place library_place(const struct library *library, uint64_t from)
{
	if (!from)
		return (struct library_place){.entered = library->entered};
	return (struct library_place){.entered = from / LIBRARY_SPAN, .at = from % LIBRARY_SPAN};
}

uint64_t library_next(struct library_place place, uint64_t at)
{
	return place.entered * LIBRARY_SPAN + at;
}

bool library_has_room(struct library *library, const struct entry *entry, size_t bytes)
{
	uid_t owner = entry->owner;

	for (;;) {
		struct entry *unused = NULL;
		size_t held = bytes;

		for (size_t i = 0; i < library->count; i++) {
			struct entry *other = &library->entry[i];

			if (other->owner != owner)
				continue;
			held += model_measured_bytes(other->model);
			if (other != entry && !other->users && !other->dirty && !other->saving && !other->unread &&
			    (!unused || other->used_ns < unused->used_ns))
				unused = other;
		}
		if (held <= MEASURED_PER_UID_MAX)
			return true;
		if (!unused)
			return false;
		evict(unused);
	}
}

/* The owner whose models hold most derived data. */
static uid_t holds_most(const struct library *library)
{
	size_t most = 0;
	uid_t owner = USER_ADMIN;

	for (size_t i = 0; i < library->count; i++) {
		size_t held = 0;

		for (size_t k = i; k < library->count; k++)
			if (library->entry[k].owner == library->entry[i].owner)
				held += model_derived_bytes(library->entry[k].model);
		if (held <= most)
			continue;
		most = held;
		owner = library->entry[i].owner;
	}
	return owner;
}

void library_trim(struct library *library)
{
	while (library->derived_bytes > DERIVED_BYTES_MAX) {
		uid_t owner = holds_most(library);
		struct entry *last = NULL;

		for (size_t i = 0; i < library->count; i++) {
			struct entry *entry = &library->entry[i];

			if (entry->owner != owner || !model_derived_bytes(entry->model))
				continue;
			if (!last || (last->users && !entry->users) ||
			    (!last->users == !entry->users && entry->used_ns < last->used_ns))
				last = entry;
		}
		if (!last)
			return;
		model_shed(last->model);
	}
}

/* Neither the host's time nor the execution of all layers exceeds the total, unless layers overlap. */
static bool layers_fit(const struct layer *layers, size_t count, uint64_t total_ns)
{
	double cpu_ns = 0, gpu_ns = 0;

	for (size_t i = 0; i < count; i++) {
		cpu_ns += (double)layers[i].cpu_ns;
		gpu_ns += (double)layers[i].gpu_ns;
	}
	return fmax(cpu_ns, gpu_ns) <= LAYERS_OVERLAP * (double)total_ns;
}

void library_learn_layers(struct library *library, struct entry *entry, const struct layer *layers, size_t count,
			  uint64_t total_ns)
{
	if (count && layers_fit(layers, count, total_ns) && library_has_room(library, entry, count * MODEL_LAYER_BYTES))
		(void)!model_learn_layers(entry->model, layers, count);
}

void library_reset_refuted(struct library *library, struct entry *entry, struct user *user)
{
	if (!model_refuted(entry->model))
		return;
	if (user_may_log(user, USER_LOG_REFUTED))
		log_warning("model %s of uid %u: measurements contradict the learned model; it is learned again",
			    entry->name, entry->owner);
	files_set_aside(library->dir, entry, "contradicted by measurements");
	model_forget(entry->model);
}

static void prune(struct library *library, uid_t owner)
{
	CLEANUP_MEM struct model_file *file = NULL;
	size_t count = files_list(library->dir, owner, NULL, &file);

	for (size_t i = MODEL_FILES_PER_UID_MAX; i < count; i++) {
		struct entry entry = {.owner = owner};
		const struct entry *held = find(library, file[i].name, file[i].mode, owner);

		if (held && held->users)
			continue;
		strcpy(entry.name, file[i].name);
		strcpy(entry.mode, file[i].mode);
		files_remove(library->dir, &entry);
	}
}

int library_save(struct library *library)
{
	int first = 0;

	for (size_t i = 0; i < library->count; i++) {
		struct entry *entry = &library->entry[i];
		bool fresh = entry->dirty && files_missing(library->dir, entry);
		int rc = entry->dirty ? files_save(library->dir, entry) : 0;

		if (rc == 0)
			entry->dirty = false;
		else if (first == 0)
			first = rc;
		if (rc == 0 && fresh)
			prune(library, entry->owner);
	}
	return first;
}

void library_sandbox(const struct library *library)
{
	char above[PATH_MAX];

	snprintf(above, sizeof(above), "%.*s", (int)(strrchr(library->dir, '/') - library->dir), library->dir);
	(void)!sandbox_enter(access(library->dir, F_OK) == 0 ? library->dir : above, MODEL_FILE_BYTES_MAX,
			     HELPER_CPU_S);
}

static void help(struct library *library)
{
	helper_begin(STDERR_FILENO + 1);
	library_sandbox(library);
	_exit(library_save(library) == 0 ? 0 : 1);
}

/* The helper ended: mark its models as saved, or as dirty again. */
static void take_back(struct library *library, bool written)
{
	library->helper = 0;
	library->saves++;
	if (written)
		log_forget(library->dir);
	else
		(void)log_first(library->dir); /* the helper logged the reason; do not log it again */
	for (size_t i = 0; i < library->count; i++) {
		struct entry *entry = &library->entry[i];

		entry->dirty |= entry->saving && !written;
		entry->saving = false;
		entry->no_room = false;
	}
}

/* Reap the helper, or kill it when it overruns. Returns true until it is reaped. */
static bool helper_works(struct library *library, uint64_t now_ns)
{
	int status = 0;

	if (!library->helper)
		return false;
	if (waitpid(library->helper, &status, WNOHANG) == 0) {
		if (now_ns < library->helper_until_ns)
			return true;
		log_error("%s: saving took more than %d s; will be tried again", library->dir, HELPER_S);
		kill(library->helper, SIGKILL);
		/* not waited for: a process that hangs in the disk ends when that call does */
		library->helper_until_ns = now_ns + HELPER_S * NS_PER_S;
		return true;
	}
	if (WIFSIGNALED(status) && log_first(library->dir))
		log_error("%s: the process that saves was ended by signal %d; will be tried again", library->dir,
			  WTERMSIG(status));
	take_back(library, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	library->retry_ns = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : now_ns + RETRY_NS;
	return false;
}

bool library_save_later(struct library *library, uint64_t now_ns)
{
	bool any = false;
	pid_t pid;

	if (helper_works(library, now_ns))
		return true;
	for (size_t i = 0; i < library->count && !any; i++)
		any = library->entry[i].dirty;
	if (!any || now_ns < library->retry_ns)
		return any;
	pid = fork();
	if (pid == 0)
		help(library);
	if (pid < 0) { /* no helper process: save here */
		bool failed = library_save(library) < 0;
		library->saves++;
		library->retry_ns = failed ? now_ns + RETRY_NS : 0;
		return failed;
	}
	library->helper = pid;
	library->helper_until_ns = now_ns + HELPER_S * NS_PER_S;
	for (size_t i = 0; i < library->count; i++) {
		library->entry[i].saving = library->entry[i].dirty;
		library->entry[i].dirty = false;
	}
	return true;
}

void library_finish(struct library *library)
{
	int status = 1;

	if (library->helper && waitpid(library->helper, &status, 0) > 0)
		take_back(library, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	library_save(library);
}

void library_free(struct library *library)
{
	for (size_t i = 0; i < library->count; i++)
		model_free(library->entry[i].model);
	library->count = 0;
}
