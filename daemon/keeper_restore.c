/* SPDX-License-Identifier: MIT */
/* Giving knobs back: from memory when flamed goes, from the journal when the
 * keeper went too. Both walk the same entries by the same rules. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "../probes/sysroot.h"
#include "journal.h"
#include "keeper.h"
#include "knob.h"

#define RESTORE_WAIT_NS (4 * NS_PER_MS) /* between tries of a knob that refuses */

/* Where one entry stands in a restore. */
enum fate { FATE_OPEN, FATE_RESTORED, FATE_LEFT, FATE_GONE };

struct restoring {
	const struct sysroot *root;
	const struct journal_entry *const *entry;
	size_t count;
	const struct knob_kind *kind[KNOBS_MAX];
	size_t device[KNOBS_MAX]; /* the first entry of the same device */
	enum fate fate[KNOBS_MAX];
	int error[KNOBS_MAX];
	struct restore_result *out;
};

static void say(struct restoring *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct restoring *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->out->text, sizeof(r->out->text), format, args);
	va_end(args);
	log_warning("%s", r->out->text);
}

/* What a knob that does not hold its original means. */
static enum fate judge(struct restoring *r, size_t i, const char *now)
{
	const struct journal_entry *e = r->entry[i];
	const struct knob_kind *kind = r->kind[i];

	if (e->ours[OURS_HELD][0] == '\0')
		return FATE_RESTORED; /* saved, never written: whatever it holds is not of us */
	if (knob_is_ours(kind, e, now) || knob_held_down(r->root, kind, e, now))
		return FATE_OPEN;
	if (kind->role == ROLE_MASK || kind->role == ROLE_SPEED)
		return FATE_RESTORED; /* its level or governor is back, and with it the driver's own text */
	say(r, "%s holds '%s', flamed wrote '%s': somebody else changed it, left as it is", e->path, now, e->ours[OURS_HELD]);
	return FATE_LEFT;
}

/* Write one back. 0 with its fate set, or -errno to try again. */
static int restore_one(struct restoring *r, size_t i)
{
	const struct journal_entry *e = r->entry[i];
	const struct knob_kind *kind = r->kind[i];
	char now[KNOB_VALUE_MAX];

	if (!kind)
		return -EINVAL;
	int rc = knob_read(r->root, e->path, now);
	if (rc == 0 && !strcmp(now, e->original))
		r->fate[i] = FATE_RESTORED;
	else if (rc == 0)
		r->fate[i] = judge(r, i, now);
	if (rc < 0 || r->fate[i] != FATE_OPEN)
		goto out;
	rc = knob_write(r->root, e->path, e->original);
	if (rc == 0)
		rc = knob_read(r->root, e->path, now);
	if (rc < 0)
		goto out;
	/* the kernel may round it or hold it lower; what it may not do is keep ours */
	bool kept = strcmp(now, e->original) != 0 && (now[0] == '\0' || !strcmp(now, e->ours[OURS_HELD]));
	if (kept && !knob_held_down(r->root, kind, e, now) && kind->role != ROLE_MASK)
		return -EIO;
	r->fate[i] = FATE_RESTORED;
out:
	if (knob_error_lost(rc) && knob_error_lost(sysroot_check(r->root, e->path))) {
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

/* min <= max has to hold at every step: the max goes first when the new one is
 * not below the min that stands; 0 is no limit. */
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

/* True when somebody else's memory rate is not below the one that was found. */
static bool rate_is_high(const struct restoring *r, size_t rate)
{
	char now[KNOB_VALUE_MAX];

	if (knob_read(r->root, r->entry[rate]->path, now) < 0)
		return false;
	return knob_number(now) != UINT64_MAX && knob_number(now) >= knob_number(r->entry[rate]->original);
}

/* A high memory rate that somebody else chose keeps the lock it needs; a low
 * one is left too, but never locked by us. */
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
	for (int role = ROLE_GOVERNOR; role < ROLE_RATE; role++)
		for (size_t i = 0; i < r->count; i++)
			if (r->device[i] == r->device[like] && r->kind[i] && r->kind[i]->role == (enum knob_role)role)
				try_one(r, i);
	restore_emc(r, like);
}

/* One pass, last saved first. Returns how many are still open. */
static size_t pass(struct restoring *r)
{
	bool tried[KNOBS_MAX] = {false}; /* by device */
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

void knobs_restore(const struct sysroot *root, const struct journal_entry *const *entries, size_t count,
		   uint64_t patience_ns, struct restore_result *out)
{
	struct restoring r = {.root = root, .entry = entries, .count = count, .out = out};
	uint64_t give_up_ns = clock_now_ns() + patience_ns;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < count; i++) {
		r.kind[i] = knob_kind_of(entries[i]->path);
		for (r.device[i] = 0; r.device[i] < i; r.device[i]++)
			if (knob_same_device(entries[r.device[i]]->path, entries[i]->path))
				break;
	}
	while (pass(&r) > 0 && clock_now_ns() < give_up_ns)
		clock_sleep_ns(RESTORE_WAIT_NS);
	for (size_t i = 0; i < count; i++) {
		out->restored += r.fate[i] == FATE_RESTORED;
		out->left += r.fate[i] == FATE_LEFT;
		out->gone += r.fate[i] == FATE_GONE;
		if (r.fate[i] == FATE_OPEN) {
			out->error = r.error[i] ? r.error[i] : -EIO;
			say(&r, "%s could not be set back to '%s': %s", entries[i]->path, entries[i]->original,
			    strerror(-out->error));
		}
	}
}

/* A journal that cannot be trusted whole goes out of the way, not away. */
static void set_aside(const char *path)
{
	char aside[SYSFS_PATH_MAX];

	if (snprintf(aside, sizeof(aside), "%s.damaged", path) < (int)sizeof(aside) && rename(path, aside) == 0)
		log_warning("%s: damaged; kept as %s", path, aside);
	else
		unlink(path);
}

/* A rewrite that the keeper did not live to put in place. */
static void remove_unfinished(const char *path)
{
	char temp[SYSFS_PATH_MAX];

	if (snprintf(temp, sizeof(temp), "%s.new", path) < (int)sizeof(temp))
		unlink(temp);
}

static int replay(const struct sysroot *root, const char *path, const struct journal_text *text, unsigned *left)
{
	const struct journal_entry *entry[KNOBS_MAX];
	struct restore_result result;

	for (size_t i = 0; i < text->count; i++)
		entry[i] = &text->entry[i];
	knobs_restore(root, entry, text->count, RESTORE_PATIENCE_NS, &result);
	if (left)
		*left = result.left;
	if (result.error < 0)
		return result.error; /* the journal stays for the next try */
	log_notice("%s: %u knobs are as they were, %u left to somebody else, %u gone", path, result.restored, result.left,
		   result.gone);
	return (int)result.restored;
}

/* What a whole journal comes to: knobs restored, or -errno and it stays. */
static int take_journal(const struct sysroot *root, const char *journal, const struct journal_text *text, unsigned *left)
{
	char boot[BOOT_ID_MAX];
	int rc = journal_boot_id(root, boot);

	if (rc < 0)
		return rc;
	if (text->damaged_line)
		log_warning("%s:%zu: no line of a journal", journal, text->damaged_line);
	if (text->boot_id[0] && strcmp(text->boot_id, boot) != 0)
		log_notice("%s: of another boot: its knobs are gone with it; dropped", journal);
	else if (text->boot_id[0])
		rc = replay(root, journal, text, left);
	if (rc < 0)
		return rc;
	if (text->damaged_line)
		set_aside(journal);
	else if (unlink(journal) < 0)
		return -errno;
	return rc;
}

int keeper_restore(const struct sysroot *root, const char *journal, unsigned *left)
{
	CLEANUP_MEM char *bytes = NULL;
	size_t len;

	if (left)
		*left = 0;
	CLEANUP_FD int lock = journal_open_left(journal);
	if (lock < 0)
		return lock == -ENOENT ? 0 : lock;
	remove_unfinished(journal);
	int rc = file_read(journal, JOURNAL_BYTES_MAX, &bytes, &len);
	if (rc == -EFBIG) {
		set_aside(journal);
		return 0;
	}
	if (rc < 0)
		return rc;
	struct journal_text *text = malloc(sizeof(*text));
	if (!text)
		return -ENOMEM;
	journal_parse(bytes, len, text);
	rc = take_journal(root, journal, text, left);
	free(text);
	return rc;
}
