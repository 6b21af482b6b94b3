/* SPDX-License-Identifier: MIT */
/* Restoring knobs: from memory when flamed exits, from the journal when the keeper was killed too.
 * Both use the same entries and rules. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "../probes/sysroot.h"
#include "hold.h"
#include "journal.h"
#include "keeper.h"
#include "knob.h"

#define RESTORE_WAIT_NS (4 * NS_PER_MS) /* between attempts to write a knob */
#define LOOKS_AWAY      3               /* consecutive reads of a policy as offline before it counts as offline */
/* attempts for a limit that accepts its original but reads as ours: about 40 ms, longer than the
 * kernel needs to apply it */
#define LOOKS_TAKEN 10

/* State of an entry during a restore. */
enum fate { FATE_OPEN, FATE_RESTORED, FATE_LEFT, FATE_GONE, FATE_AWAY };

struct restoring {
	const struct sysroot *root;
	const struct journal_entry *const *entry;
	size_t count;
	const struct knob_kind *kind[KNOBS_MAX];
	size_t device[KNOBS_MAX]; /* index of the first entry of the same device */
	enum fate fate[KNOBS_MAX];
	int error[KNOBS_MAX];
	unsigned away[KNOBS_MAX], taken[KNOBS_MAX]; /* number of attempts with that result */
	bool once;                                  /* a single attempt, which may be repeated each second */
	bool plain[KNOBS_MAX]; /* reads as a number beyond any hardware: a plain file, without a kernel behind it */
	struct restore_result *out;
};

static void say(struct restoring *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct restoring *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->out->text, sizeof(r->out->text), format, args);
	va_end(args);
	if (!r->once || log_first(r->out->text))
		log_warning("%s", r->out->text);
}

static bool is_limit(const struct knob_kind *kind)
{
	return kind->role == ROLE_MAX || kind->role == ROLE_MIN;
}

static bool is_held(const struct restoring *r, size_t i, const char *now, const char *wrote)
{
	struct knob_hold hold;

	return hold_explains(r->root, r->kind[i], r->entry[i]->path, knob_number(now), knob_number(wrote), &hold) !=
	       NULL;
}

/* Classify a knob that does not have its original value. */
static enum fate judge(struct restoring *r, size_t i, const char *now)
{
	const struct journal_entry *e = r->entry[i];
	const struct knob_kind *kind = r->kind[i];

	if (e->ours[OURS_HELD][0] == '\0')
		return FATE_RESTORED; /* saved but never written: its value is not ours */
	/* without a limit it shows the hardware maximum, not the value written */
	if (knob_is_ours(kind, e, now) || is_held(r, i, now, e->ours[OURS_HELD]) ||
	    (e->unlimited && !strcmp(now, e->original)))
		return FATE_OPEN;
	if (kind->role == ROLE_MASK || kind->role == ROLE_SPEED)
		return FATE_RESTORED; /* its level or governor is restored, and with it the driver's own value */
	say(r, "%s reads '%s' but flamed wrote '%s': changed by others, left alone", e->path, now, e->ours[OURS_HELD]);
	return FATE_LEFT;
}

static bool wants_no_limit(const struct restoring *r, size_t i)
{
	return r->entry[i]->unlimited && r->entry[i]->ours[OURS_HELD][0] && !r->plain[i];
}

/* Write the original, and read it back into `now`. "No limit" is written as NO_LIMIT_KHZ. A file
 * that then shows that number is a plain file, or belongs to a driver that takes no number beyond
 * its range, and gets the original text instead. */
static int write_back(struct restoring *r, size_t i, const char *path, char now[KNOB_VALUE_MAX])
{
	r->plain[i] |= !strcmp(now, NO_LIMIT_KHZ);
	if (wants_no_limit(r, i) && knob_write(r->root, path, NO_LIMIT_KHZ) == 0) {
		int rc = knob_read(r->root, path, now);
		if (rc < 0 || strcmp(now, NO_LIMIT_KHZ) != 0)
			return rc;
		r->plain[i] = true;
	}
	int rc = knob_write(r->root, path, r->entry[i]->original);
	return rc < 0 ? rc : knob_read(r->root, path, now);
}

/* The kernel may round a value or hold it lower, but it must no longer show our value. If a limit accepts its original
 * and still shows our value, another driver's request, which cannot be read, holds it there. */
static bool took_original(struct restoring *r, size_t i, const char *now)
{
	const struct journal_entry *e = r->entry[i];
	const struct knob_kind *kind = r->kind[i];

	if (!strcmp(now, e->original) || kind->role == ROLE_MASK)
		return true;
	if (now[0] && strcmp(now, e->ours[OURS_HELD]) != 0 && strcmp(now, NO_LIMIT_KHZ) != 0)
		return true;
	if (e->unlimited && now[0] && knob_number(now) < knob_number(NO_LIMIT_KHZ) && is_held(r, i, now, NO_LIMIT_KHZ))
		return true;
	if (is_held(r, i, now, e->original))
		return true;
	if (!is_limit(kind) || now[0] == '\0' || ++r->taken[i] < LOOKS_TAKEN)
		return false;
	log_notice("%s accepts '%s' but reads '%s': held by another part of the kernel", e->path, e->original, now);
	return true;
}

/* Restore one entry. Returns 0 with its fate set, or a negative errno to try again. */
static int restore_one(struct restoring *r, size_t i)
{
	const struct journal_entry *e = r->entry[i];
	char now[KNOB_VALUE_MAX], path[SYSFS_PATH_MAX];

	if (!r->kind[i])
		return -EINVAL;
	memcpy(path, e->path, sizeof(path));
	if (board_suspended(r->root, path)) {
		r->fate[i] = FATE_AWAY;
		return 0;
	}
	int rc = knob_read(r->root, path, now);
	if (knob_error_lost(rc) && sysroot_renumbered(r->root, e->path, path) == 0 &&
	    knob_kind_of(path) == r->kind[i]) {
		log_notice("%s is now %s", e->path, path);
		rc = knob_read(r->root, path, now);
	}
	if (rc == 0 && r->kind[i]->role == ROLE_NVML && e->ours[OURS_HELD][0])
		; /* a killed keeper may have written it: reset in any case */
	else if (rc == 0 && !strcmp(now, e->original) && !wants_no_limit(r, i))
		r->fate[i] = FATE_RESTORED;
	else if (rc == 0)
		r->fate[i] = judge(r, i, now);
	else if (rc == -EBUSY && clock_of_dir(e->path) == CLOCK_CPU && ++r->away[i] >= (r->once ? 1 : LOOKS_AWAY))
		r->fate[i] = FATE_AWAY; /* cpufreq reports this while every processor of the policy is offline */
	if (rc < 0 || r->fate[i] != FATE_OPEN)
		goto out;
	rc = write_back(r, i, path, now);
	if (rc < 0)
		goto out;
	if (!took_original(r, i, now))
		return -EIO;
	r->fate[i] = FATE_RESTORED;
out:
	if (knob_error_lost(rc) && knob_error_lost(sysroot_check(r->root, path))) {
		r->fate[i] = FATE_GONE;
		return 0;
	}
	return rc;
}

static size_t find_role(const struct restoring *r, size_t like, enum knob_role role)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->device[i] == r->device[like] && r->kind[i] && r->kind[i]->role == role)
			return i;
	return r->count;
}

/* Keep min <= max at every step: write the max first unless the new max is below the current min. 0
 * means no limit. */
static bool min_first(const struct restoring *r, size_t max, size_t min)
{
	char now[KNOB_VALUE_MAX];

	if (max == r->count || min == r->count || knob_read(r->root, r->entry[min]->path, now) < 0)
		return false;
	uint64_t want = knob_number(r->entry[max]->original), stands = knob_number(now);
	return want != 0 && want != UINT64_MAX && stands != UINT64_MAX && want < stands;
}

static void try_one(struct restoring *r, size_t i)
{
	if (i < r->count && r->fate[i] == FATE_OPEN)
		r->error[i] = restore_one(r, i);
}

/* True if a foreign memory rate is at least the original one. */
static bool rate_is_high(const struct restoring *r, size_t rate)
{
	char now[KNOB_VALUE_MAX];

	if (knob_read(r->root, r->entry[rate]->path, now) < 0)
		return false;
	return knob_number(now) != UINT64_MAX && knob_number(now) >= knob_number(r->entry[rate]->original);
}

/* A high foreign memory rate keeps the lock that it needs. A low one is left alone too, but not locked. */
static void restore_emc(struct restoring *r, size_t like)
{
	size_t rate = find_role(r, like, ROLE_RATE), lock = find_role(r, like, ROLE_LOCK);

	try_one(r, rate);
	if (rate < r->count && lock < r->count && r->fate[rate] == FATE_LEFT && rate_is_high(r, rate))
		r->fate[lock] = FATE_LEFT;
	try_one(r, lock);
}

static void restore_device(struct restoring *r, size_t like)
{
	size_t max = find_role(r, like, ROLE_MAX), min = find_role(r, like, ROLE_MIN);
	bool swapped = min_first(r, max, min);

	try_one(r, swapped ? min : max);
	try_one(r, swapped ? max : min);
	for (int role = ROLE_BOOST; role < ROLE_RATE; role++)
		for (size_t i = 0; i < r->count; i++)
			if (r->device[i] == r->device[like] && r->kind[i] && r->kind[i]->role == (enum knob_role)role)
				try_one(r, i);
	restore_emc(r, like);
}

/* One pass, last saved first. Returns the number of entries still open. */
static size_t pass(struct restoring *r)
{
	bool tried[KNOBS_MAX] = {false}; /* indexed by device */
	size_t open = 0;

	for (size_t i = r->count; i-- > 0;) {
		if (tried[r->device[i]] || r->fate[i] != FATE_OPEN)
			continue;
		restore_device(r, i);
		tried[r->device[i]] = true;
	}
	for (size_t i = 0; i < r->count; i++)
		open += r->fate[i] == FATE_OPEN;
	return open;
}

/* True while a limit that accepted its original reads as ours: LOOKS_TAKEN decides about it, however long the attempts
 * take. */
static bool looks_on(const struct restoring *r)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->fate[i] == FATE_OPEN && r->taken[i])
			return true;
	return false;
}

void knobs_restore(const struct sysroot *root, const struct journal_entry *const *entries, size_t count,
		   uint64_t patience_ns, struct restore_result *out)
{
	struct restoring r = {.root = root, .entry = entries, .count = count, .once = patience_ns == 0, .out = out};
	uint64_t give_up_ns = clock_now_ns() + patience_ns;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < count; i++) {
		r.kind[i] = knob_kind_of(entries[i]->path);
		for (r.device[i] = 0; r.device[i] < i; r.device[i]++)
			if (knob_same_device(entries[r.device[i]]->path, entries[i]->path))
				break;
	}
	for (unsigned passes = 1; pass(&r) > 0; passes++) {
		bool looks = patience_ns && passes < LOOKS_TAKEN && looks_on(&r);
		if (clock_now_ns() >= give_up_ns && !looks)
			break;
		clock_sleep_ns(RESTORE_WAIT_NS);
	}
	for (size_t i = 0; i < count; i++) {
		out->restored += r.fate[i] == FATE_RESTORED;
		out->left += r.fate[i] == FATE_LEFT;
		out->gone += r.fate[i] == FATE_GONE;
		out->away += r.fate[i] == FATE_AWAY;
		out->open[i] = r.fate[i] == FATE_OPEN || r.fate[i] == FATE_AWAY;
		if (r.fate[i] == FATE_AWAY && log_first(entries[i]->path))
			log_notice("%s: device is offline or suspended; will be restored when it returns",
				   entries[i]->path);
		if (r.fate[i] == FATE_OPEN) {
			out->error = r.error[i] ? r.error[i] : -EIO;
			say(&r, "%s cannot be restored to '%s': %s", entries[i]->path, entries[i]->original,
			    strerror(-out->error));
		}
	}
}

/* A damaged journal is renamed, not deleted. */
static void set_aside(const char *path)
{
	char aside[SYSFS_PATH_MAX];

	if (snprintf(aside, sizeof(aside), "%s.damaged", path) < (int)sizeof(aside) && rename(path, aside) == 0)
		log_warning("%s: damaged; renamed to %s", path, aside);
	else
		unlink(path);
}

/* Remove an unfinished rewrite of a keeper that was killed. */
static void remove_unfinished(const char *path)
{
	char temp[SYSFS_PATH_MAX];

	if (snprintf(temp, sizeof(temp), "%s.new", path) < (int)sizeof(temp))
		unlink(temp);
}

/* Rewrite the journal to contain only knobs that could not be restored. */
static int keep_open(const struct sysroot *root, const char *path, const struct journal_text *text, const bool *open)
{
	struct journal rest;

	journal_init(&rest, root, path);
	for (size_t i = 0; i < text->count; i++)
		if (open[i])
			rest.entry[rest.count++] = &text->entry[i];
	int rc = journal_rewrite(&rest);
	journal_close(&rest);
	return rc;
}

/* Replay a whole journal. Returns the number of restored knobs, or the negative errno of one that
 * failed; the file then contains only such knobs. */
static int take_journal(const struct sysroot *root, const char *path, const struct journal_text *text, unsigned *left)
{
	const struct journal_entry *entry[KNOBS_MAX];
	struct restore_result result = {0};
	char boot[BOOT_ID_MAX];
	int rc = journal_boot_id(root, boot);

	if (rc < 0)
		return rc;
	if (text->damaged_line)
		log_warning("%s:%zu: not a journal line", path, text->damaged_line);
	if (text->boot_id[0] && strcmp(text->boot_id, boot) != 0) {
		log_notice("%s: from an earlier boot, so its knobs no longer apply; discarded", path);
	} else if (text->boot_id[0]) {
		for (size_t i = 0; i < text->count; i++)
			entry[i] = &text->entry[i];
		knobs_restore(root, entry, text->count, RESTORE_PATIENCE_NS, &result);
		log_notice("%s: %u knobs restored, %u changed by others, %u gone, %u waiting for their device", path,
			   result.restored, result.left, result.gone, result.away);
	}
	*left = result.left;
	if (text->damaged_line)
		set_aside(path);
	if (result.away || result.error < 0)
		rc = keep_open(root, path, text, result.open);
	else if (!text->damaged_line && unlink(path) < 0)
		rc = -errno;
	return result.error < 0 ? result.error : rc < 0 ? rc : (int)result.restored;
}

int keeper_restore(const struct sysroot *root, const char *journal, struct replay *out)
{
	CLEANUP_MEM char *bytes = NULL;
	size_t len;

	memset(out, 0, sizeof(*out));
	CLEANUP_FD int lock = journal_open_left(journal);
	out->in_use = lock == -EBUSY;
	if (lock < 0 && lock != -ELOOP)
		return lock == -ENOENT ? 0 : lock;
	remove_unfinished(journal);
	int rc = lock < 0 ? lock : file_read(journal, JOURNAL_BYTES_MAX, &bytes, &len);
	if (rc == -EFBIG || rc == -ELOOP || rc == -EISDIR) { /* not a journal */
		set_aside(journal);
		return 0;
	}
	if (rc < 0)
		return rc;
	struct journal_text *text = malloc(sizeof(*text));
	if (!text)
		return -ENOMEM;
	journal_parse(bytes, len, text);
	rc = take_journal(root, journal, text, &out->left);
	free(text);
	return rc;
}
