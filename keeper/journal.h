/* SPDX-License-Identifier: MIT */
/* The knob journal: the original value of every knob, on disk before its first write, and the last value
 * written. Text lines:
 *
 *   flamed-journal 1
 *   boot ID                             knobs do not survive a reboot: the journal of another boot is stale
 *   save N PATH =ORIGINAL [unlimited]   synced to disk, with the directory, before knob N is written
 *   held N =VALUE                       appended before each write; not synced: it has to survive
 *   seen N =VALUE                       the process, not the machine
 *
 * Values are percent-encoded. A last line without a newline was being written when the keeper was killed, and is
 * ignored. */
#ifndef KEEPER_JOURNAL_H
#define KEEPER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../common/limits.h"
#include "../probes/board.h"

#define JOURNAL_BYTES_MAX 262144
#define BOOT_ID_MAX       48

enum { OURS_HELD, OURS_BEFORE, OURS_SEEN, OURS_COUNT };

struct journal_entry {
	char path[SYSFS_PATH_MAX];
	char original[KNOB_VALUE_MAX];
	bool unlimited; /* the original maximum had no limit: restore "no limit", not the value that it showed */
	/* last written, the one before, and how the last one read back; "" none */
	char ours[OURS_COUNT][KNOB_VALUE_MAX];
};

/* A parsed journal. */
struct journal_text {
	char boot_id[BOOT_ID_MAX];
	size_t count;
	struct journal_entry entry[KNOBS_MAX];
	size_t damaged_line; /* first invalid line; 0: none. Invalid lines are skipped. */
};

/* Parse the text of a journal. Never fails: invalid lines are counted as damage, and so are paths
 * outside the closed table of knob kinds. */
void journal_parse(const char *text, size_t len, struct journal_text *out);

/* Boot id of the machine under the sysroot, or of the real one if the sysroot has none. 0 or a
 * negative errno. */
int journal_boot_id(const struct sysroot *root, char buf[BOOT_ID_MAX]);

/* A journal open for writing. The entries belong to the caller and are in slot order. */
struct journal {
	const struct sysroot *root;
	const char *path;
	int fd; /* -1: no journal, no saved knob */
	size_t count;
	size_t bytes;
	const struct journal_entry *entry[KNOBS_MAX];
};

void journal_init(struct journal *journal, const struct sysroot *root, const char *path);

/* Append entries and sync them to disk. Slots continue from journal->count. Returns 0, or a
 * negative errno when nothing was added. */
int journal_save(struct journal *journal, const struct journal_entry *const *entries, size_t count);

/* Record a value that is about to be written ("held") or was read back ("seen"), also in the entry.
 * Returns 0, or a negative errno with the entry unchanged. */
int journal_held(struct journal *journal, size_t slot, struct journal_entry *entry, const char *value);
int journal_seen(struct journal *journal, size_t slot, struct journal_entry *entry, const char *value);

/* Rewrite the whole journal from its entries and sync it, for originals that changed because their
 * device returned. Returns 0, or a negative errno with the old file intact. */
int journal_rewrite(struct journal *journal);

/* Remove the file, once every knob is restored. Returns 0 or a negative errno. */
int journal_remove(struct journal *journal);
/* Close the journal, but leave the file for keeper_restore(). */
void journal_close(struct journal *journal);

/* Open and lock a journal that was left behind. Returns a descriptor, or a negative errno: -ENOENT
 * if there is none, -EBUSY while a keeper writes it. */
int journal_open_left(const char *path);

#endif
