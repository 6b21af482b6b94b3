/* SPDX-License-Identifier: MIT */
/* The knob journal: what every knob held before its first write, on disk
 * before that write, and what was written last. Text lines:
 *
 *   flamed-journal 1
 *   boot ID                    knobs are volatile: of another boot it is stale
 *   save N PATH =ORIGINAL      fsynced, with the directory, before knob N is touched
 *   held N =VALUE              appended before each write; no fsync: it has to
 *   seen N =VALUE              survive the process, not the machine
 *
 * Values are percent-encoded. A last line without its newline was being
 * written when the keeper died, and is passed over. */
#ifndef DAEMON_JOURNAL_H
#define DAEMON_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../common/limits.h"
#include "../probes/board.h"

#define JOURNAL_BYTES_MAX 262144
#define BOOT_ID_MAX 48

enum { OURS_HELD, OURS_BEFORE, OURS_SEEN, OURS_COUNT };

struct journal_entry {
	char path[SYSFS_PATH_MAX];
	char original[KNOB_VALUE_MAX];
	char ours[OURS_COUNT][KNOB_VALUE_MAX]; /* last written, the one before, what the last read back as; "" none */
};

/* A journal that was read. */
struct journal_text {
	char boot_id[BOOT_ID_MAX];
	size_t count;
	struct journal_entry entry[KNOBS_MAX];
	size_t damaged_line; /* first line that made no sense; 0: none. It and its like are passed over */
};

/* Parse a journal's text. Never fails: what cannot be read is counted as
 * damage. Only paths of the closed table of knob kinds are taken. */
void journal_parse(const char *text, size_t len, struct journal_text *out);

/* Boot id of the machine below the sysroot, or of the real one when the
 * sysroot has none. 0 or -errno. */
int journal_boot_id(const struct sysroot *root, char buf[BOOT_ID_MAX]);

/* A journal being written. Entries are the caller's, in order of their slot. */
struct journal {
	const struct sysroot *root;
	const char *path;
	int fd; /* -1: no journal, no knob held */
	size_t count;
	size_t bytes;
	const struct journal_entry *entry[KNOBS_MAX];
};

void journal_init(struct journal *journal, const struct sysroot *root, const char *path);

/* Add entries and get them onto the disk. Slots are given in order from
 * journal->count. 0 or -errno: then nothing was added. */
int journal_save(struct journal *journal, const struct journal_entry *const *entries, size_t count);

/* A value about to be written ("held") or read back ("seen"). Also sets it in
 * the entry. 0 or -errno; the entry is then unchanged. */
int journal_held(struct journal *journal, size_t slot, struct journal_entry *entry, const char *value);
int journal_seen(struct journal *journal, size_t slot, struct journal_entry *entry, const char *value);

/* Write the whole journal anew from its entries, synced: after an original
 * changed because its knob came back. 0 or -errno; the old file then stands. */
int journal_rewrite(struct journal *journal);

/* Every knob is back: remove the file. Returns 0 or -errno. */
int journal_remove(struct journal *journal);
/* Close and leave the file for keeper_restore. */
void journal_close(struct journal *journal);

/* Open a journal that was left behind, locked. Descriptor or -errno: -ENOENT
 * none, -EBUSY a keeper still writes it. */
int journal_open_left(const char *path);

#endif
