/* SPDX-License-Identifier: MIT */
/* Knobs: the closed table of sysfs files that may be written, and the functions that read and write
 * one. */
#ifndef KEEPER_KNOB_H
#define KEEPER_KNOB_H

#include <stdbool.h>
#include <stdint.h>
#include "journal.h"

/* In the order in which the knobs of a device are restored. */
enum knob_role {
	ROLE_MAX,
	ROLE_MIN,
	ROLE_BOOST,    /* i915: how far it exceeds the maximum while a client waits */
	ROLE_GOVERNOR, /* before the speed, which has no effect without it */
	ROLE_SPEED,
	ROLE_LEVEL, /* amdgpu; "auto" resets the level masks */
	ROLE_MASK,
	ROLE_NVML, /* cannot be read back: reset if it was written */
	ROLE_RATE, /* EMC: before its lock */
	ROLE_LOCK,
	ROLE_COUNT
};

struct knob_kind {
	const char *name;    /* base name of the file */
	const char *pattern; /* fnmatch(3) pattern of the whole path */
	enum knob_role role;
	uint64_t unit_hz; /* unit of the number in it; 0: not a clock */
	uint64_t slack;   /* in the knob's unit: how far the kernel rounds table values */
};

/* The kind of knob at a path; NULL if it is not one of ours. */
const struct knob_kind *knob_kind_of(const char *path);

/* Read a knob, trimmed. 0 or a negative errno. */
int knob_read(const struct sysroot *root, const char *path, char value[KNOB_VALUE_MAX]);

/* One open(O_WRONLY|O_TRUNC), one write(2) of the value and a newline, close. Symbolic links are
 * not followed. 0 or a negative errno. */
int knob_write(const struct sysroot *root, const char *path, const char *value);

/* True if a value is the one written, or the kernel's rounding of it. */
bool knob_is_ours(const struct knob_kind *kind, const struct journal_entry *entry, const char *value);

/* The number in a knob; UINT64_MAX if there is none. */
uint64_t knob_number(const char *value);

/* True when two paths belong to the same device. */
bool knob_same_device(const char *a, const char *b);

/* True for a temporary error. */
bool knob_error_passes(int error);
/* True for an error that says that the knob does not exist (any more). */
bool knob_error_lost(int error);

/* Restore knobs: last saved first, the knobs of a device in the order of their roles, never with min above max. A knob
 * with a foreign value is left alone and counted. A limit that accepts its original counts as restored, even if it then
 * shows a ceiling. Failed writes are retried for `patience_ns`; knobs of an offline or suspended device are not waited
 * for. */
#define RESTORE_PATIENCE_NS 400000000ULL
struct restore_result {
	unsigned restored;    /* written, or already at their original value */
	unsigned left;        /* not ours: changed by others */
	unsigned gone;        /* do not exist any more */
	unsigned away;        /* of an offline or suspended device: to be restored later */
	int error;            /* of the last knob that could not be restored */
	bool open[KNOBS_MAX]; /* by entry: still to be restored, absent or failed */
	char text[192];       /* message about knobs left alone or failed */
};
void knobs_restore(const struct sysroot *root, const struct journal_entry *const *entries, size_t count,
		   uint64_t patience_ns, struct restore_result *out);

#endif
