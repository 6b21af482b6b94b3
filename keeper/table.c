/* SPDX-License-Identifier: MIT */
/* The table of devices: detected, saved, moved, restored. */
#include "table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "../probes/sysroot.h"
#include "hold.h"
#include "nvml.h"

#define RETRY_FIRST_NS (10 * NS_PER_MS)  /* doubled with every attempt, */
#define RETRY_LAST_NS  (2 * NS_PER_S)    /* up to this */
#define ASLEEP_NS_MIN  (500 * NS_PER_MS) /* without a suspend, two clocks read one after the other differ by less */
#define RETRY_PATIENT  4                 /* attempts after a temporary error before the device is released */

void table_say(struct keeper_table *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(t->text, sizeof(t->text), format, args);
	va_end(args);
}

/* Files of each method, by role. amdgpu's mask is the file of its levels. */
static const char *const method_files[METHOD_COUNT][ROLE_COUNT] = {
	[METHOD_CPUFREQ_LIMITS] = {[ROLE_MAX] = "scaling_max_freq", [ROLE_MIN] = "scaling_min_freq"},
	[METHOD_CPUFREQ_SETSPEED] = {[ROLE_GOVERNOR] = "scaling_governor", [ROLE_SPEED] = "scaling_setspeed"},
	[METHOD_DEVFREQ_LIMITS] = {[ROLE_MAX] = "max_freq", [ROLE_MIN] = "min_freq"},
	[METHOD_DEVFREQ_USERSPACE] = {[ROLE_GOVERNOR] = "governor", [ROLE_SPEED] = "userspace/set_freq"},
	[METHOD_I915] =
		{[ROLE_MAX] = "gt_max_freq_mhz", [ROLE_MIN] = "gt_min_freq_mhz", [ROLE_BOOST] = "gt_boost_freq_mhz"},
	[METHOD_XE] = {[ROLE_MAX] = "max_freq", [ROLE_MIN] = "min_freq"},
	[METHOD_AMDGPU] = {[ROLE_LEVEL] = "power_dpm_force_performance_level", [ROLE_MASK] = ""},
	[METHOD_BPMP_EMC] = {[ROLE_RATE] = "rate", [ROLE_LOCK] = "mrq_rate_locked"},
	[METHOD_NVML] = {[ROLE_NVML] = "lock"},
};

static const char *file_of(const struct clock_device *d, int role)
{
	const char *file = method_files[d->method][role];

	if (file && file[0] == '\0')
		return d->levels;
	if (file && d->method == METHOD_I915 && strstr(d->dir, "/gt/gt"))
		return role == ROLE_MAX ? "rps_max_freq_mhz" :
		       role == ROLE_MIN ? "rps_min_freq_mhz" :
					  "rps_boost_freq_mhz";
	return file;
}

static int group_dir_id(const struct keeper_table *t, const struct knob_group *g, uint64_t *id)
{
	int rc = -ENOENT;

	for (int role = 0; role < ROLE_COUNT && rc < 0; role++)
		if (g->knob[role].used)
			rc = sysroot_dir_id(t->root, g->knob[role].entry.path, id);
	return rc;
}

/* Set up the knobs of a device; false if one is not in the closed table. */
static bool group_init(struct keeper_table *t, struct knob_group *g, const struct clock_device *d, enum clock_id id)
{
	memset(g, 0, sizeof(*g));
	g->device = *d;
	g->clock = id;
	for (int role = 0; role < ROLE_COUNT; role++) {
		const char *file = file_of(d, role);
		struct knob *k = &g->knob[role];
		if (!file)
			continue;
		if (sysroot_join(k->entry.path, d->dir, file) < 0)
			return false;
		if (role == ROLE_BOOST && !sysroot_exists(t->root, k->entry.path))
			continue;
		k->kind = knob_kind_of(k->entry.path);
		if (!k->kind) {
			log_warning("%s: not in the table of writable knobs; %s is left alone", k->entry.path, d->name);
			return false;
		}
		k->used = true;
	}
	group_dir_id(t, g, &g->dir_id);
	return true;
}

/* Record the max while nothing cools the device: a later reading may be the kernel's ceiling and
 * must not be saved as the original. */
static void note_usual(const struct keeper_table *t, struct knob_group *g)
{
	struct knob *max = &g->knob[ROLE_MAX];
	struct knob_hold hold;

	if (!max->used || max->written || knob_read(t->root, max->entry.path, max->usual) < 0)
		return;
	hold_find(t->root, max->kind, max->entry.path, &hold);
	enum found_max found = hold_found(&hold, max->kind, knob_number(max->usual));
	max->usual_unlimited = found == FOUND_UNLIMITED;
	if (found == FOUND_LIMIT && hold_cools(t->root, max->entry.path, &hold))
		max->usual[0] = '\0';
}

/* The same device reappeared under another number: its knobs follow it. */
static bool group_moved(struct keeper_table *t, struct knob_group *g, const struct clock_device *d)
{
	char path[ROLE_COUNT][SYSFS_PATH_MAX];
	int first = 0;

	while (first < ROLE_COUNT && !g->knob[first].used)
		first++;
	if (first == ROLE_COUNT || strcmp(g->device.name, d->name) != 0 ||
	    sysroot_exists(t->root, g->knob[first].entry.path))
		return false;
	for (int role = 0; role < ROLE_COUNT; role++)
		if (g->knob[role].used && (sysroot_join(path[role], d->dir, file_of(d, role)) < 0 ||
					   knob_kind_of(path[role]) != g->knob[role].kind))
			return false;
	for (int role = 0; role < ROLE_COUNT; role++)
		if (g->knob[role].used)
			memcpy(g->knob[role].entry.path, path[role], sizeof(path[role]));
	log_notice("%s: %s is now %s", d->name, g->device.dir, d->dir);
	if (t->journal.fd >= 0 && journal_rewrite(&t->journal) < 0)
		log_warning("%s: cannot be rewritten after %s was renumbered", t->journal.path, d->name);
	return true;
}

static struct knob_group *find_group(struct keeper_table *t, const struct clock_device *d, enum clock_id id)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->group[i].clock == id && !strcmp(t->group[i].device.dir, d->dir) &&
		    t->group[i].device.method == d->method && !strcmp(t->group[i].device.levels, d->levels))
			return &t->group[i];
	for (size_t i = 0; i < t->count; i++)
		if (t->group[i].clock == id && t->group[i].device.method == d->method &&
		    group_moved(t, &t->group[i], d))
			return &t->group[i];
	return NULL;
}

/* Save the value found as the original: a number, or "no limit". */
static enum found_max take_found(const struct keeper_table *t, struct knob *k, const char *now)
{
	struct knob_hold hold;

	snprintf(k->entry.original, sizeof(k->entry.original), "%s", now);
	hold_find(t->root, k->kind, k->entry.path, &hold);
	enum found_max found = hold_found(&hold, k->kind, knob_number(now));
	k->entry.unlimited = found == FOUND_UNLIMITED;
	return found;
}

static bool held_by_kernel(const struct keeper_table *t, const struct knob *k, const char *now)
{
	struct knob_hold hold;

	return hold_explains(t->root, k->kind, k->entry.path, knob_number(now), knob_number(k->entry.ours[OURS_HELD]),
			     &hold) != NULL;
}

/* A device has returned. Knobs that still have our value keep their originals; the others have the
 * kernel's defaults, which are the new originals. */
static void group_returned(struct keeper_table *t, struct knob_group *g)
{
	char now[KNOB_VALUE_MAX] = "";

	g->lost = true; /* until every knob exists */
	for (int role = 0; role < ROLE_COUNT; role++) {
		struct knob *k = &g->knob[role];
		if (!k->used || !k->saved)
			continue;
		if (knob_read(t->root, k->entry.path, now) < 0 && k->kind->role != ROLE_SPEED)
			return;
		if (knob_is_ours(k->kind, &k->entry, now) || held_by_kernel(t, k, now))
			continue;
		take_found(t, k, now);
		memset(k->entry.ours, 0, sizeof(k->entry.ours));
		k->written = k->loose = false;
	}
	if (t->journal.fd >= 0 && journal_rewrite(&t->journal) < 0)
		log_warning("%s: cannot be rewritten after %s returned", t->journal.path, g->device.name);
	g->lost = g->absent = false;
	g->state = KNOB_OK;
	table_say(t, "%s returned", g->device.name);
	log_notice("%s", t->text);
}

/* Was the device lost and has come back, or was it removed and created again, since the last scan? */
static bool group_replaced(const struct keeper_table *t, struct knob_group *g)
{
	uint64_t id = g->dir_id;
	int rc = group_dir_id(t, g, &id);
	bool replaced = rc == 0 && (g->lost || id != g->dir_id);

	g->dir_id = id;
	return replaced;
}

static void scan_domain(struct keeper_table *t, const struct clock_domain *domain, enum clock_id id)
{
	for (size_t i = 0; i < domain->devices; i++) {
		const struct clock_device *d = &domain->device[i];
		struct knob_group *g = find_group(t, d, id);
		if (!g) {
			if (t->count == GROUPS_MAX || !group_init(t, &t->group[t->count], d, id))
				continue;
			g = &t->group[t->count++];
		} else {
			if (group_replaced(t, g))
				group_returned(t, g);
			g->device = *d;
		}
		g->lead = i == domain->lead;
		note_usual(t, g);
	}
}

static void scan_rails(struct keeper_table *t, const struct board *board)
{
	t->rails = board->rails;
	memcpy(t->rail, board->rail, sizeof(t->rail));
}

void table_scan_sensors(struct keeper_table *t)
{
	CLEANUP_MEM struct board *board = malloc(sizeof(*board));

	if (!board)
		return;
	board_detect(board, t->root, t->boards_dir);
	scan_rails(t, board);
}

void table_scan(struct keeper_table *t)
{
	CLEANUP_MEM struct board *board = malloc(sizeof(*board));

	if (!board)
		return;
	board_detect(board, t->root, t->boards_dir);
	for (int id = 0; id < CLOCK_COUNT; id++)
		scan_domain(t, &board->clock[id], (enum clock_id)id);
	scan_rails(t, board);
}

/* Find a knob that another device shares and has already saved. */
static const struct knob *find_saved(const struct keeper_table *t, const char *path)
{
	for (size_t i = 0; i < t->count; i++)
		for (int role = 0; role < ROLE_COUNT; role++) {
			const struct knob *k = &t->group[i].knob[role];
			if (k->saved && !strcmp(k->entry.path, path))
				return k;
		}
	return NULL;
}

/* If the journal still has an earlier original for a knob, keep that one. */
static void adopt_debt(struct keeper_table *t, struct knob *k)
{
	for (size_t i = 0; i < t->leftovers; i++) {
		if (strcmp(t->leftover[i].path, k->entry.path) != 0)
			continue;
		k->slot = 0;
		while (t->journal.entry[k->slot] != &t->leftover[i])
			k->slot++;
		k->entry = t->leftover[i];
		t->journal.entry[k->slot] = &k->entry;
		t->leftover[i].path[0] = '\0';
		k->saved = true;
		k->written = k->entry.ours[OURS_HELD][0] != '\0';
		return;
	}
}

static int read_original(const struct keeper_table *t, struct knob_group *g, struct knob *k)
{
	const struct knob *shared = find_saved(t, k->entry.path);
	char now[KNOB_VALUE_MAX];

	if (shared) {
		memcpy(k->entry.original, shared->entry.original, sizeof(k->entry.original));
		k->entry.unlimited = shared->entry.unlimited;
		return 0;
	}
	if (k->kind->role == ROLE_NVML) { /* no lock can be read */
		snprintf(k->entry.original, sizeof(k->entry.original), NVML_DEFAULT);
		return 0;
	}
	int rc = knob_read(t->root, k->entry.path, now);
	if (rc == -ENOENT && k->kind->role == ROLE_SPEED) { /* created with its governor */
		k->entry.original[0] = '\0';
		return 0;
	}
	if (rc < 0)
		return rc;
	struct knob_hold hold;
	if (k->kind->role != ROLE_MAX || take_found(t, k, now) != FOUND_LIMIT) {
		memcpy(k->entry.original, now, sizeof(now));
	} else if (!hold_cools(t->root, k->entry.path, &hold)) {
		memcpy(k->usual, now, sizeof(now));
		k->usual_unlimited = false;
	} else if (!k->usual[0]) {
		memcpy(g->cooler, hold.cooler, sizeof(g->cooler));
		return -EAGAIN; /* the original is not visible now */
	} else if (knob_number(now) < knob_number(k->usual)) {
		memcpy(k->entry.original, k->usual, sizeof(k->usual));
		k->entry.unlimited = k->usual_unlimited;
	}
	g->cooler[0] = '\0';
	return 0;
}

/* Save the originals of every device that is about to be moved to the journal, with a single
 * fsync(2). Returns 0, or a negative errno when nothing may be written. */
static int save_originals(struct keeper_table *t, const bool *move)
{
	const struct journal_entry *entry[KNOBS_MAX];
	struct knob *fresh[KNOBS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < t->count; i++) {
		struct knob_group *g = &t->group[i];
		for (int role = 0; move[i] && role < ROLE_COUNT; role++) {
			struct knob *k = &g->knob[role];
			if (k->used && !k->saved)
				adopt_debt(t, k);
			if (!k->used || k->saved || g->error < 0)
				continue;
			g->error = n == KNOBS_MAX ? -ENOSPC : read_original(t, g, k);
			if (g->error == 0) {
				fresh[n] = k;
				entry[n++] = &k->entry;
			}
		}
	}
	if (n == 0)
		return 0;
	size_t slot = t->journal.count;
	int rc = journal_save(&t->journal, entry, n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		fresh[i]->saved = true;
		fresh[i]->slot = slot + i;
	}
	return rc;
}

int group_give_back(struct keeper_table *t, struct knob_group *g)
{
	const struct journal_entry *entry[ROLE_COUNT];
	struct restore_result result;
	size_t n = 0;

	for (int role = 0; role < ROLE_COUNT; role++)
		if (g->knob[role].saved && g->knob[role].written)
			entry[n++] = &g->knob[role].entry;
	knobs_restore(t->root, entry, n, 0, &result);
	for (int role = 0; role < ROLE_COUNT; role++) {
		struct knob *k = &g->knob[role];
		k->loose = k->written && (result.error < 0 || result.away);
		k->written = k->loose;
		if (!k->written)
			memset(k->entry.ours, 0, sizeof(k->entry.ours));
	}
	return result.error;
}

/* Another program took over the clock: restore our knobs, leave the foreign values. */
static void back_off(struct keeper_table *t, enum clock_id id)
{
	t->foreign[id] = true;
	log_warning("%s clock: %s", clock_name(id), t->text);
	for (size_t i = 0; i < t->count; i++)
		if (t->group[i].clock == id) {
			char text[sizeof(t->text)];
			memcpy(text, t->text, sizeof(text));
			group_give_back(t, &t->group[i]);
			memcpy(t->text, text, sizeof(text));
			t->group[i].state = KNOB_FOREIGN;
			t->group[i].actual_hz = 0;
			t->group[i].retry_ns = 0;
		}
}

/* Record the result of an attempt: state, and time of the next attempt. */
static void group_result(struct keeper_table *t, struct knob_group *g, int rc)
{
	g->retry_ns = 0;
	g->error = rc;
	g->cooler[0] = rc == -EAGAIN ? g->cooler[0] : '\0';
	if (rc == 0) {
		if (g->tries)
			log_notice("%s: set after %u attempts", g->device.name, g->tries);
		g->tries = 0;
		return;
	}
	if (rc == FOREIGN) {
		g->error = 0;
		back_off(t, g->clock);
		return;
	}
	g->actual_hz = 0;
	g->lost = knob_error_lost(rc);
	g->state = g->lost ? KNOB_LOST : KNOB_DEGRADED;
	uint64_t wait = RETRY_FIRST_NS << (g->tries < 10 ? g->tries : 10);
	g->retry_ns = clock_now_ns() + (wait < RETRY_LAST_NS ? wait : RETRY_LAST_NS);
	g->tries++;
	if (rc == -EAGAIN && g->cooler[0])
		table_say(t, "%s was already limited by %s when flamed started: left alone until that ends",
			  g->device.name, g->cooler);
	else
		table_say(t, "%s in %s: %s", g->device.name, g->device.dir, strerror(-rc));
	if (g->tries == 1)
		log_warning("%s; will be tried again", t->text);
	/* do not leave a low ceiling on a device that does not obey */
	if (!g->lost && (!knob_error_passes(rc) || g->tries >= RETRY_PATIENT))
		group_give_back(t, g);
}

static bool is_due(const struct keeper_table *t, const struct knob_group *g, const struct op_point *point,
		   enum apply_which which, uint64_t now_ns)
{
	if (point->hz[g->clock] == 0 || t->foreign[g->clock] || g->absent)
		return false;
	if (which == APPLY_DUE)
		return g->retry_ns && g->retry_ns <= now_ns;
	return which == APPLY_ALL || (g->retry_ns == 0 && !g->lost && g->device.method != METHOD_BPMP_EMC);
}

void table_apply(struct keeper_table *t, const struct op_point *point, enum apply_which which,
		 struct write_times *times)
{
	bool move[GROUPS_MAX] = {false};
	uint64_t now_ns = clock_now_ns();

	t->text[0] = '\0';
	for (size_t i = 0; i < t->count; i++) {
		struct knob_group *g = &t->group[i];
		move[i] = is_due(t, g, point, which, now_ns) && !board_suspended(t->root, g->device.dir);
		if (!move[i]) {
			/* one that sleeps, or is no longer to be set, stays as it is: look again later */
			if (which != APPLY_CHECK && g->retry_ns && g->retry_ns <= now_ns)
				g->retry_ns = now_ns + RETRY_LAST_NS;
			continue;
		}
		g->error = 0;
		g->checking = which == APPLY_CHECK;
		if (group_replaced(t, g))
			group_returned(t, g);
		if (g->lost && g->device.method != METHOD_NVML) /* it has no file: ask NVML again */
			g->error = -ENODEV;
	}
	t->journal_error = save_originals(t, move);
	bool rewritten = t->rewrite_masks;
	for (size_t i = 0; i < t->count && t->journal_error == 0; i++) {
		struct knob_group *g = &t->group[i];
		if (!move[i] || t->foreign[g->clock])
			continue;
		uint64_t begin_ns = clock_now_ns();
		uint64_t before_hz = g->last_hz;
		group_result(t, g, g->error < 0 ? g->error : group_apply(t, g, point->hz[g->clock]));
		uint64_t took_ns = clock_now_ns() - begin_ns;
		times->all_ns[g->clock] += took_ns;
		if (g->actual_hz && before_hz && g->actual_hz != before_hz)
			(g->actual_hz > before_hz ? times->up_ns : times->down_ns)[g->clock] += took_ns;
		g->last_hz = g->actual_hz;
	}
	t->rewrite_masks &= !rewritten;
	t->resumed = false;
	if (t->journal_error < 0) {
		int error = t->journal_error;
		table_release(t, RESTORE_PATIENCE_NS);
		t->journal_error = error;
		table_say(t, "%s: %s: no knob is written without the journal", t->journal.path, strerror(-error));
		log_error("%s", t->text);
	}
}

/* Discard every original: the knobs are restored, or changed by others. */
static void forget(struct keeper_table *t)
{
	for (size_t i = 0; i < t->count; i++) {
		struct knob_group *g = &t->group[i];
		for (int role = 0; role < ROLE_COUNT; role++) {
			struct knob *k = &g->knob[role];
			k->saved = k->written = k->loose = false;
			k->entry.original[0] = '\0';
			memset(k->entry.ours, 0, sizeof(k->entry.ours));
		}
		g->absent = g->lost && g->device.method != METHOD_NVML; /* it has no file: it is asked again */
		g->state = g->lost ? KNOB_LOST : KNOB_OK;
		g->error = 0;
		g->tries = 0;
		g->retry_ns = 0;
		g->actual_hz = g->ceiling_hz = g->last_hz = 0;
	}
	memset(t->foreign, 0, sizeof(t->foreign));
}

/* Reduce the journal to knobs still to be restored. */
static int keep_leftovers(struct keeper_table *t, struct journal_entry *leftover, size_t count)
{
	const struct journal_entry *before[KNOBS_MAX];
	size_t had = t->journal.count;
	int rc = 0;

	if (count == 0) {
		t->leftovers = 0;
		return journal_remove(&t->journal);
	}
	memcpy(before, t->journal.entry, sizeof(before));
	for (size_t i = 0; i < count; i++)
		t->journal.entry[i] = &leftover[i];
	t->journal.count = count;
	rc = journal_rewrite(&t->journal);
	if (rc < 0) { /* keep the old file, which contains more */
		memcpy(t->journal.entry, before, sizeof(before));
		t->journal.count = had;
		return rc;
	}
	memcpy(t->leftover, leftover, count * sizeof(*leftover));
	for (size_t i = 0; i < count; i++)
		t->journal.entry[i] = &t->leftover[i];
	t->leftovers = count;
	return 0;
}

int table_release(struct keeper_table *t, uint64_t patience_ns)
{
	const struct journal_entry *entry[KNOBS_MAX];
	CLEANUP_MEM struct journal_entry *leftover = NULL;
	struct restore_result result;
	size_t n = 0, leftovers = 0;

	t->text[0] = '\0';
	t->journal_error = 0;
	for (size_t slot = 0; slot < t->journal.count; slot++) /* in the order in which they were saved */
		entry[n++] = t->journal.entry[slot];
	if (n == 0) {
		forget(t);
		return 0;
	}
	knobs_restore(t->root, entry, n, patience_ns, &result);
	memcpy(t->text, result.text, sizeof(t->text));
	leftover = result.away || result.error < 0 ? malloc(n * sizeof(*leftover)) : NULL;
	if (!leftover && (result.away || result.error < 0))
		return -ENOMEM;
	for (size_t i = 0; i < n && leftover; i++)
		if (result.open[i])
			leftover[leftovers++] = *entry[i];
	int rc = keep_leftovers(t, leftover, leftovers);
	if (rc == 0 || leftovers == 0)
		forget(t);
	return result.error < 0 ? result.error : leftovers ? rc : 0;
}

int table_take_leftovers(struct keeper_table *t)
{
	CLEANUP_MEM char *bytes = NULL;
	CLEANUP_MEM struct journal_text *text = malloc(sizeof(*text));
	size_t len;
	int rc = text ? file_read(t->journal.path, JOURNAL_BYTES_MAX, &bytes, &len) : -ENOMEM;

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc; /* cppcheck-suppress memleak */
	journal_parse(bytes, len, text);
	return text->count ? keep_leftovers(t, text->entry, text->count) : 0;
}

bool table_restore_leftovers(struct keeper_table *t)
{
	const struct journal_entry *entry[KNOBS_MAX];
	size_t slot[KNOBS_MAX], n = 0, kept = 0;
	struct restore_result result;

	for (size_t i = 0; i < t->journal.count; i++)
		for (size_t k = 0; k < t->leftovers; k++)
			if (t->journal.entry[i] == &t->leftover[k]) {
				slot[n] = i;
				entry[n++] = &t->leftover[k];
			}
	if (n == 0) {
		t->leftovers = 0;
		return false;
	}
	knobs_restore(t->root, entry, n, 0, &result);
	if (result.restored + result.left + result.gone == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!result.open[i])
			t->leftover[entry[i] - t->leftover].path[0] = '\0';
	/* renumber the slots of knobs that the running session has saved */
	for (size_t i = 0, next = 0; i < t->journal.count; i++) {
		bool restored = next < n && slot[next] == i && !result.open[next];
		next += next < n && slot[next] == i;
		if (!restored)
			t->journal.entry[kept++] = t->journal.entry[i];
	}
	t->journal.count = kept;
	for (size_t i = 0; i < t->count; i++)
		for (int role = 0; role < ROLE_COUNT; role++)
			for (size_t k = 0; k < kept; k++)
				if (t->journal.entry[k] == &t->group[i].knob[role].entry)
					t->group[i].knob[role].slot = k;
	if (kept == 0) {
		t->leftovers = 0;
		journal_remove(&t->journal);
	} else if (journal_rewrite(&t->journal) < 0) {
		log_warning("%s: cannot be rewritten; it still contains knobs that were restored", t->journal.path);
	}
	return true;
}

bool table_resumed(struct keeper_table *t)
{
	struct timespec awake, all;
	uint64_t count = 0;

	sysroot_read_u64(t->root, "/sys/power/suspend_stats/success", &count);
	clock_gettime(CLOCK_MONOTONIC, &awake);
	clock_gettime(CLOCK_BOOTTIME, &all);
	int64_t asleep_ns = (int64_t)(all.tv_sec - awake.tv_sec) * (int64_t)NS_PER_S + all.tv_nsec - awake.tv_nsec;
	bool resumed = t->looked && (count != t->suspends || asleep_ns > t->asleep_ns + (int64_t)ASLEEP_NS_MIN);

	t->looked = true;
	t->suspends = count;
	t->asleep_ns = asleep_ns;
	t->rewrite_masks |= resumed;
	t->resumed |= resumed;
	return resumed;
}

static bool has_other(const struct keeper_table *t, const struct knob_group *g)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->group[i].clock == g->clock && !t->group[i].absent)
			return true;
	return false;
}

static void report_group(const struct keeper_table *t, const struct knob_group *g, struct keeper_reply *reply)
{
	enum clock_id id = g->clock;

	if (g->absent && has_other(t, g))
		return;
	if (g->lead) {
		reply->actual.hz[id] = g->actual_hz;
		reply->ceiling.hz[id] = g->ceiling_hz;
	}
	if (g->error < 0)
		reply->error[id] = g->error;
	if ((uint32_t)g->state > reply->state[id])
		reply->state[id] = (uint32_t)g->state;
	if (t->foreign[id])
		reply->state[id] = KNOB_FOREIGN;
}

void table_report(const struct keeper_table *t, struct keeper_reply *reply)
{
	for (size_t i = 0; i < t->count; i++)
		report_group(t, &t->group[i], reply);
	reply->saved = (uint32_t)t->journal.count;
	reply->journal_error = t->journal_error;
	memcpy(reply->text, t->text, sizeof(reply->text));
}

uint64_t table_retry_ns(const struct keeper_table *t)
{
	uint64_t earliest = 0;

	for (size_t i = 0; i < t->count; i++)
		if (t->group[i].retry_ns && (earliest == 0 || t->group[i].retry_ns < earliest))
			earliest = t->group[i].retry_ns;
	return earliest;
}

bool table_has_lost(const struct keeper_table *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->group[i].lost)
			return true;
	return false;
}
