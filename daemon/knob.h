/* SPDX-License-Identifier: MIT */
/* Knobs: the closed table of sysfs files that may be written, and the one way
 * to read and to write one. */
#ifndef DAEMON_KNOB_H
#define DAEMON_KNOB_H

#include <stdbool.h>
#include <stdint.h>
#include "journal.h"

/* In the order in which the knobs of one device are given back. */
enum knob_role {
	ROLE_MAX,
	ROLE_MIN,
	ROLE_GOVERNOR, /* before the speed: it ends the speed's effect */
	ROLE_SPEED,
	ROLE_LEVEL,    /* amdgpu; "auto" resets the level masks */
	ROLE_MASK,
	ROLE_RATE,     /* EMC: before its lock */
	ROLE_LOCK,
	ROLE_COUNT
};

struct knob_kind {
	const char *name;    /* base name of the file */
	const char *pattern; /* fnmatch of the whole path */
	enum knob_role role;
	uint64_t unit_hz;    /* of a number in it; 0: it holds no clock */
	uint64_t slack;      /* in its own unit: as far as the kernel rounds a value of the table */
};

/* The kind of a path, or NULL when no path of ours. */
const struct knob_kind *knob_kind_of(const char *path);

/* Text of a knob, trimmed. 0 or -errno. */
int knob_read(const struct sysroot *root, const char *path, char value[KNOB_VALUE_MAX]);

/* One open(O_WRONLY|O_TRUNC), one write(2) of the value and a newline, close.
 * No link is followed. 0 or -errno. */
int knob_write(const struct sysroot *root, const char *path, const char *value);

/* True when a value read is what we wrote, or what the kernel makes of it. */
bool knob_is_ours(const struct knob_kind *kind, const struct journal_entry *entry, const char *value);

/* A limit reads lower than we wrote it: true when the kernel itself holds it
 * down (cooling, the firmware's bios_limit), so that nobody wrote it. */
bool knob_held_down(const struct sysroot *root, const struct knob_kind *kind, const struct journal_entry *entry,
		    const char *value);

/* Number in a knob; UINT64_MAX when it holds none. */
uint64_t knob_number(const char *value);

/* True when two paths belong to the same device. */
bool knob_same_device(const char *a, const char *b);

/* True for an error that passes: try again later. */
bool knob_error_passes(int error);
/* True for an error that says the knob is not there (any more). */
bool knob_error_lost(int error);

/* Give knobs back: last saved first, the knobs of a device in the order of
 * their roles, limits without crossing. A knob that somebody else wrote is
 * left and counted. Knobs that refuse are tried again for `patience_ns`. */
#define RESTORE_PATIENCE_NS 400000000ULL
struct restore_result {
	unsigned restored; /* written back, or found as they were */
	unsigned left;     /* hold a value that is not ours */
	unsigned gone;     /* are not there any more */
	int error;         /* of the last knob that could not be given back */
	char text[192];    /* about what was left or failed */
};
void knobs_restore(const struct sysroot *root, const struct journal_entry *const *entries, size_t count,
		   uint64_t patience_ns, struct restore_result *out);

#endif
