/* SPDX-License-Identifier: MIT */
/* Measurements of other boards of the same kind, which an administrator imports (op=import). */
#ifndef DAEMON_IMPORTS_H
#define DAEMON_IMPORTS_H

#include <stddef.h>

struct entry;
struct library;
struct model;

/* A new model of those for this entry's model; empty if there are none. NULL: out of memory. */
struct model *imports_read(const struct library *library, const struct entry *entry);

/* The entry's model starts from those. It takes `from` over, which may be empty or NULL. */
void imports_give(struct entry *entry, struct model *from);

/* In a helper process, as it takes up to a tenth of a second: add a samples CSV, cut up in place, to earlier imports
 * for every model of that name in a power mode, and store them. `out`: zeroed memory of imports_bytes() that is shared
 * with it. */
size_t imports_bytes(const struct library *library);
void imports_add(const struct library *library, const char *name, const char *mode, char *text, void *out);
/* In this process: give them to the models in memory. Returns the number of points imported so far, or -errno;
 * `message` is empty, or says which line and why, as long as `in` is there. */
int imports_take(struct library *library, const char *name, const char *mode, const void *in, const char **message);

#endif
