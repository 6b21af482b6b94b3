/* SPDX-License-Identifier: MIT */
/* The keeper's table: the devices it found, the knobs of each, and what state
 * they are in. One loop saves, applies, verifies and restores them all. */
#ifndef DAEMON_KEEPER_TABLE_H
#define DAEMON_KEEPER_TABLE_H

#include <errno.h>
#include "../probes/board.h"
#include "journal.h"
#include "keeper.h"
#include "knob.h"

#define GROUPS_MAX (CPU_POLICIES_MAX * CLOCK_COUNT)
#define FOREIGN (-EUCLEAN) /* no error of a knob: somebody else wrote it */

struct knob {
	const struct knob_kind *kind;
	struct journal_entry entry;
	bool used;     /* the method of its device has this knob */
	bool saved;    /* original known and in the journal at `slot` */
	bool written;  /* ours is on it, or was tried */
	bool loose;    /* the last write failed: the original may stand */
	bool late;     /* the last write changed nothing, as far as one could see */
	size_t slot;
	char usual[KNOB_VALUE_MAX]; /* of a max: last value seen while nothing cooled */
};

/* One device and its knobs, at their roles. */
struct group {
	struct clock_device device;
	enum clock_id clock;
	bool lead;
	bool lost;          /* was not there when last looked for */
	struct knob knob[ROLE_COUNT];
	uint64_t dir_id;    /* of its folder: another one is another device */
	enum knob_state state;
	int error;
	unsigned tries;     /* in a row without success */
	uint64_t retry_ns;  /* 0: nothing to try again */
	uint64_t actual_hz, ceiling_hz;
};

struct keeper_table {
	const struct sysroot *root;
	const char *boards_dir;
	struct journal journal;
	size_t count;
	struct group group[GROUPS_MAX];
	bool foreign[CLOCK_COUNT]; /* somebody else owns this clock: hands off until forgiven */
	size_t rails;              /* root-only sensors, as found */
	struct rail rail[RAILS_MAX];
	int journal_error;
	char text[192];            /* news for people */
};

/* Look for the board; again: groups keep what they know by their directory. */
void table_scan(struct keeper_table *table);

/* Move the groups of every clock whose hz is not 0. Fills write_ns of the
 * clocks it touched. */
enum apply_which {
	APPLY_ALL,
	APPLY_DUE,  /* those whose retry time has come */
	APPLY_CHECK /* those that are well, to see whether they still are; not the EMC: reading it costs a ms */
};
void table_apply(struct keeper_table *table, const struct op_point *point, enum apply_which which, uint64_t write_ns[CLOCK_COUNT]);

/* Give everything back and remove the journal. 0 or -errno of a knob that
 * could not be given back (the journal then stays). */
int table_release(struct keeper_table *table);

/* What is read back now, for a report: actual, ceiling, error and state. */
void table_report(const struct keeper_table *table, struct keeper_reply *reply);

/* Earliest time at which a group wants to be tried again; 0: none. */
uint64_t table_retry_ns(const struct keeper_table *table);

/* True when a group is lost and a scan might find it. */
bool table_has_lost(const struct keeper_table *table);

/* Set the news. */
void table_say(struct keeper_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Ceiling that others hold on a device before anything was written; 0: none. */
uint64_t group_found_ceiling(const struct keeper_table *table, const struct group *g);

/* One device: set its knobs for a clock. In keeper_apply.c. */
int group_apply(struct keeper_table *table, struct group *g, uint64_t hz);
/* Give back a device's knobs, for safety. 0 or -errno. */
int group_give_back(struct keeper_table *table, struct group *g);

#endif
