/* SPDX-License-Identifier: MIT */
/* The keeper's table: the devices found, their knobs and states. One loop each saves, applies,
 * verifies and restores them all. */
#ifndef KEEPER_TABLE_H
#define KEEPER_TABLE_H

#include <errno.h>
#include "../probes/board.h"
#include "journal.h"
#include "keeper.h"
#include "knob.h"

#define GROUPS_MAX (CPU_POLICIES_MAX * CLOCK_COUNT)
#define FOREIGN    (-EUCLEAN) /* not an errno of a knob: its value was written by others */

struct knob {
	const struct knob_kind *kind;
	struct journal_entry entry;
	bool used;    /* this method has the knob */
	bool saved;   /* the original is known and in the journal at `slot` */
	bool written; /* we wrote it, or tried to */
	bool loose;   /* the last write failed: the original may still be in force */
	bool late;    /* the last write had no visible effect in time */
	size_t slot;
	char usual[KNOB_VALUE_MAX]; /* of a max: last value seen while nothing cooled the device, */
	bool usual_unlimited;       /* and whether it had no limit */
};

/* One device and its knobs, indexed by role. */
struct knob_group {
	struct clock_device device;
	enum clock_id clock;
	bool lead;
	bool lost;     /* was missing at the last scan, */
	bool absent;   /* and when the clocks were released: others of its clock do without, until a scan finds it */
	bool checking; /* verifying a target in force, not setting a new one */
	struct knob knob[ROLE_COUNT];
	uint64_t dir_id; /* identity of its directory: a different one is a different device */
	enum knob_state state;
	int error;
	char cooler[COOLING_NAME_MAX]; /* cooling device that limited its maximum before it was first seen; "" none */
	unsigned tries;                /* consecutive failures */
	uint64_t retry_ns;             /* 0: no retry pending */
	uint64_t actual_hz, ceiling_hz;
	uint64_t last_hz;           /* frequency after the last move */
	uint64_t moved_ns, took_ns; /* NVML: when it was locked last, and the longest that took */
	unsigned beyond_lock;       /* NVML: consecutive readings of a clock beyond its lock */
};

struct keeper_table {
	const struct sysroot *root;
	const char *boards_dir;
	struct journal journal;
	size_t count;
	struct knob_group group[GROUPS_MAX];
	bool foreign[CLOCK_COUNT]; /* written by others: left alone until the next release */
	size_t rails;              /* root-only sensors that were found */
	struct rail rail[RAILS_MAX];
	/* knobs of earlier sessions or keepers still to be restored: absent or failed devices */
	size_t leftovers;
	struct journal_entry leftover[KNOBS_MAX];
	bool looked;        /* the next two are valid: */
	uint64_t suspends;  /* number of suspends of the machine, */
	int64_t asleep_ns;  /* and their total duration */
	bool rewrite_masks; /* masks may have been lost in a suspend, */
	bool resumed;       /* or any value: one that reads as its original is no other owner's */
	int journal_error;
	char text[192]; /* message for people */
};

/* Detect the board's devices; in later scans, groups keep their state, identified by directory. */
void table_scan(struct keeper_table *table);
/* Detect the power sensors only. */
void table_scan_sensors(struct keeper_table *table);

/* Move the groups of every clock whose hz is not 0. The duration of writes is added to `times`. */
enum apply_which {
	APPLY_ALL,
	APPLY_DUE,  /* groups whose retry time has come */
	APPLY_CHECK /* groups without a fault, to verify them; not the EMC, as reading it takes a millisecond */
};
struct write_times {
	/* up_ns and down_ns only where the previous frequency is known */
	uint64_t all_ns[CLOCK_COUNT], up_ns[CLOCK_COUNT], down_ns[CLOCK_COUNT];
};
void table_apply(struct keeper_table *table, const struct op_point *point, enum apply_which which,
		 struct write_times *times);

/* Restore everything. Knobs that cannot be restored, because their device is absent or fails, stay
 * in the journal; the others are forgotten. Returns 0 or the negative errno of a knob that failed. */
int table_release(struct keeper_table *table, uint64_t patience_ns);

/* Take over a journal of knobs still to be restored. 0 or a negative errno. */
int table_take_leftovers(struct keeper_table *table);

/* Try to restore the knobs left over from earlier. True if at least one was restored. */
bool table_restore_leftovers(struct keeper_table *table);

/* Whether the machine was suspended since the last call. If so, the next table_apply() rewrites the values that drivers
 * lost. */
bool table_resumed(struct keeper_table *table);

/* Fill in a report: actual, ceiling, error and state as read back now. */
void table_report(const struct keeper_table *table, struct keeper_reply *reply);

/* Earliest retry time of any group; 0: none. */
uint64_t table_retry_ns(const struct keeper_table *table);

/* True if a group is lost and a scan might find it. */
bool table_has_lost(const struct keeper_table *table);

/* Set the message of the next report. */
void table_say(struct keeper_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Ceiling that others had set on a device before anything was written; 0: none. */
uint64_t group_found_ceiling(const struct keeper_table *table, const struct knob_group *g);

/* Set the knobs of one device for a clock. In apply.c. */
int group_apply(struct keeper_table *table, struct knob_group *g, uint64_t hz);
/* Restore the knobs of one device, for safety. 0 or a negative errno. */
int group_give_back(struct keeper_table *table, struct knob_group *g);

#endif
