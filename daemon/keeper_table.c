/* SPDX-License-Identifier: MIT */
/* The table of devices: found, saved, moved, given back. */
#include "keeper_table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "../probes/sysroot.h"

#define RETRY_FIRST_NS (10 * NS_PER_MS) /* doubled with every try ... */
#define RETRY_LAST_NS  (2 * NS_PER_S)   /* ... up to this */
#define RETRY_PATIENT  4                /* tries of an error that passes before the device is given back */

void table_say(struct keeper_table *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(t->text, sizeof(t->text), format, args);
	va_end(args);
}

/* Files of each method, at any role. amdgpu's mask is the device's name. */
static const char *const method_files[METHOD_COUNT][ROLE_COUNT] = {
	[METHOD_CPUFREQ_LIMITS] = {[ROLE_MAX] = "scaling_max_freq", [ROLE_MIN] = "scaling_min_freq"},
	[METHOD_CPUFREQ_SETSPEED] = {[ROLE_GOVERNOR] = "scaling_governor", [ROLE_SPEED] = "scaling_setspeed"},
	[METHOD_DEVFREQ_LIMITS] = {[ROLE_MAX] = "max_freq", [ROLE_MIN] = "min_freq"},
	[METHOD_DEVFREQ_USERSPACE] = {[ROLE_GOVERNOR] = "governor", [ROLE_SPEED] = "userspace/set_freq"},
	[METHOD_I915] = {[ROLE_MAX] = "gt_max_freq_mhz", [ROLE_MIN] = "gt_min_freq_mhz"},
	[METHOD_XE] = {[ROLE_MAX] = "max_freq", [ROLE_MIN] = "min_freq"},
	[METHOD_AMDGPU] = {[ROLE_LEVEL] = "power_dpm_force_performance_level", [ROLE_MASK] = ""},
	[METHOD_BPMP_EMC] = {[ROLE_RATE] = "rate", [ROLE_LOCK] = "mrq_rate_locked"},
};

static const char *file_of(const struct clock_device *d, int role)
{
	const char *file = method_files[d->method][role];

	if (file && file[0] == '\0')
		return d->name;
	if (file && d->method == METHOD_I915 && strstr(d->dir, "/gt/gt"))
		return role == ROLE_MAX ? "rps_max_freq_mhz" : "rps_min_freq_mhz";
	return file;
}

static int group_dir_id(const struct keeper_table *t, const struct group *g, uint64_t *id)
{
	int rc = -ENOENT;

	for (int role = 0; role < ROLE_COUNT && rc < 0; role++)
		if (g->knob[role].used)
			rc = sysroot_dir_id(t->root, g->knob[role].entry.path, id);
	return rc;
}

/* The knobs of a device; false when one has no place in the closed table. */
static bool group_init(struct keeper_table *t, struct group *g, const struct clock_device *d, enum clock_id id)
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
		k->kind = knob_kind_of(k->entry.path);
		if (!k->kind) {
			log_warning("%s: no knob that may be written; %s is left alone", k->entry.path, d->name);
			return false;
		}
		k->used = true;
	}
	group_dir_id(t, g, &g->dir_id);
	return true;
}

/* The max as it stands while nothing cools: a later reading may be the
 * kernel's ceiling and must not be taken for the original. */
static void note_usual(const struct keeper_table *t, struct group *g, bool cooling)
{
	struct knob *max = &g->knob[ROLE_MAX];

	if (max->used && !max->written && !cooling && knob_read(t->root, max->entry.path, max->usual) < 0)
		max->usual[0] = '\0';
}

static struct group *find_group(struct keeper_table *t, const struct clock_device *d, enum clock_id id)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->group[i].clock == id && !strcmp(t->group[i].device.dir, d->dir) && t->group[i].device.method == d->method)
			return &t->group[i];
	return NULL;
}

/* A device is there again. What still holds ours is ours; the rest are the
 * kernel's defaults, and the new originals. */
static void group_returned(struct keeper_table *t, struct group *g)
{
	char now[KNOB_VALUE_MAX] = "";

	g->lost = true; /* until every knob of it is there */
	for (int role = 0; role < ROLE_COUNT; role++) {
		struct knob *k = &g->knob[role];
		if (!k->used || !k->saved)
			continue;
		if (knob_read(t->root, k->entry.path, now) < 0 && k->kind->role != ROLE_SPEED)
			return;
		if (knob_is_ours(k->kind, &k->entry, now))
			continue;
		snprintf(k->entry.original, sizeof(k->entry.original), "%s", now);
		memset(k->entry.ours, 0, sizeof(k->entry.ours));
		k->written = k->loose = false;
	}
	if (t->journal.fd >= 0 && journal_rewrite(&t->journal) < 0)
		log_warning("%s: not renewed after %s came back", t->journal.path, g->device.name);
	g->lost = false;
	g->state = KNOB_OK;
	table_say(t, "%s is back", g->device.name);
	log_notice("%s", t->text);
}

/* The device was lost and is there, or was removed and made anew since the
 * last look. */
static bool group_replaced(const struct keeper_table *t, struct group *g)
{
	uint64_t id = g->dir_id;
	int rc = group_dir_id(t, g, &id);
	bool replaced = rc == 0 && (g->lost || id != g->dir_id);

	g->dir_id = id;
	return replaced;
}

static void scan_domain(struct keeper_table *t, const struct clock_domain *domain, enum clock_id id, bool cooling)
{
	for (size_t i = 0; i < domain->devices; i++) {
		const struct clock_device *d = &domain->device[i];
		struct group *g = find_group(t, d, id);
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
		note_usual(t, g, cooling);
	}
}

static void scan_rails(struct keeper_table *t, const struct board *board)
{
	t->rails = board->rails;
	memcpy(t->rail, board->rail, sizeof(t->rail));
}

void table_scan(struct keeper_table *t)
{
	CLEANUP_MEM struct board *board = malloc(sizeof(*board));

	if (!board)
		return;
	board_detect(board, t->root, t->boards_dir);
	bool cooling = board_cooling(t->root);
	for (int id = 0; id < CLOCK_COUNT; id++)
		scan_domain(t, &board->clock[id], (enum clock_id)id, cooling);
	scan_rails(t, board);
}

/* Original of a knob that another device shares and has saved already. */
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

static int read_original(const struct keeper_table *t, struct knob *k)
{
	const struct knob *shared = find_saved(t, k->entry.path);
	char now[KNOB_VALUE_MAX];

	if (shared) {
		memcpy(k->entry.original, shared->entry.original, sizeof(k->entry.original));
		return 0;
	}
	int rc = knob_read(t->root, k->entry.path, now);
	if (rc == -ENOENT && k->kind->role == ROLE_SPEED) { /* appears with its governor */
		k->entry.original[0] = '\0';
		return 0;
	}
	if (rc < 0)
		return rc;
	if (k->kind->role == ROLE_MAX && board_cooling(t->root)) {
		if (!k->usual[0]) {
			if (log_first("keeper: cooling"))
				log_warning("%s shows the limit of a cooling device since before flamed looked: left until that ends",
					    k->entry.path);
			return -EAGAIN;
		}
		if (knob_number(now) < knob_number(k->usual))
			memcpy(now, k->usual, sizeof(now));
	} else if (k->kind->role == ROLE_MAX) {
		memcpy(k->usual, now, sizeof(now));
	}
	memcpy(k->entry.original, now, sizeof(now));
	return 0;
}

/* Put the originals of every device about to be moved into the journal, with
 * one fsync. 0 or -errno: then nothing may be written. */
static int save_originals(struct keeper_table *t, const bool *move)
{
	const struct journal_entry *entry[KNOBS_MAX];
	struct knob *fresh[KNOBS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < t->count; i++) {
		struct group *g = &t->group[i];
		for (int role = 0; move[i] && role < ROLE_COUNT; role++) {
			struct knob *k = &g->knob[role];
			if (!k->used || k->saved || g->error < 0)
				continue;
			g->error = n == KNOBS_MAX ? -ENOSPC : read_original(t, k);
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

int group_give_back(struct keeper_table *t, struct group *g)
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
		k->loose = k->written && result.error < 0;
		k->written = k->loose;
		if (!k->written)
			memset(k->entry.ours, 0, sizeof(k->entry.ours));
	}
	return result.error;
}

/* Somebody else took the clock: our part of it is given back, theirs is left. */
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
			t->group[i].retry_ns = 0;
		}
}

/* What an attempt came to: states, and when to try again. */
static void group_result(struct keeper_table *t, struct group *g, int rc)
{
	g->retry_ns = 0;
	g->error = rc;
	if (rc == 0) {
		if (g->tries)
			log_notice("%s: set again after %u tries", g->device.name, g->tries);
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
	table_say(t, "%s in %s: %s", g->device.name, g->device.dir, strerror(-rc));
	if (g->tries == 1)
		log_warning("%s; tried again", t->text);
	/* no low ceiling may stay behind on a device that does not obey */
	if (!g->lost && (!knob_error_passes(rc) || g->tries >= RETRY_PATIENT))
		group_give_back(t, g);
}

static bool is_due(const struct keeper_table *t, const struct group *g, const struct op_point *point, enum apply_which which,
		   uint64_t now_ns)
{
	if (point->hz[g->clock] == 0 || t->foreign[g->clock])
		return false;
	if (which == APPLY_DUE)
		return g->retry_ns && g->retry_ns <= now_ns;
	return which == APPLY_ALL || (g->retry_ns == 0 && !g->lost && g->device.method != METHOD_BPMP_EMC);
}

void table_apply(struct keeper_table *t, const struct op_point *point, enum apply_which which, uint64_t write_ns[CLOCK_COUNT])
{
	bool move[GROUPS_MAX] = {false};
	uint64_t now_ns = clock_now_ns();

	t->text[0] = '\0';
	for (size_t i = 0; i < t->count; i++) {
		struct group *g = &t->group[i];
		move[i] = is_due(t, g, point, which, now_ns);
		if (!move[i])
			continue;
		g->error = 0;
		if (group_replaced(t, g))
			group_returned(t, g);
		if (g->lost)
			g->error = -ENODEV;
	}
	t->journal_error = save_originals(t, move);
	for (size_t i = 0; i < t->count && t->journal_error == 0; i++) {
		struct group *g = &t->group[i];
		if (!move[i] || t->foreign[g->clock])
			continue;
		uint64_t begin_ns = clock_now_ns();
		group_result(t, g, g->error < 0 ? g->error : group_apply(t, g, point->hz[g->clock]));
		write_ns[g->clock] += clock_now_ns() - begin_ns;
	}
	if (t->journal_error < 0) {
		int error = t->journal_error;
		table_release(t);
		t->journal_error = error;
		table_say(t, "%s: %s: nothing is written without it", t->journal.path, strerror(-error));
		log_error("%s", t->text);
	}
}

/* Forget every original: they are back, or somebody else's. */
static void forget(struct keeper_table *t)
{
	for (size_t i = 0; i < t->count; i++) {
		struct group *g = &t->group[i];
		for (int role = 0; role < ROLE_COUNT; role++) {
			struct knob *k = &g->knob[role];
			k->saved = k->written = k->loose = false;
			k->entry.original[0] = '\0';
			memset(k->entry.ours, 0, sizeof(k->entry.ours));
		}
		g->state = g->lost ? KNOB_LOST : KNOB_OK;
		g->error = 0;
		g->tries = 0;
		g->retry_ns = 0;
		g->actual_hz = g->ceiling_hz = 0;
	}
	memset(t->foreign, 0, sizeof(t->foreign));
}

int table_release(struct keeper_table *t)
{
	const struct journal_entry *entry[KNOBS_MAX];
	struct restore_result result;
	size_t n = 0;

	t->text[0] = '\0';
	t->journal_error = 0;
	for (size_t slot = 0; slot < t->journal.count; slot++) /* in the order of their saving */
		entry[n++] = t->journal.entry[slot];
	knobs_restore(t->root, entry, n, RESTORE_PATIENCE_NS, &result);
	memcpy(t->text, result.text, sizeof(t->text));
	if (result.error < 0)
		return result.error;
	journal_remove(&t->journal);
	forget(t);
	return 0;
}

static void report_group(const struct keeper_table *t, const struct group *g, struct keeper_reply *reply)
{
	enum clock_id id = g->clock;

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
