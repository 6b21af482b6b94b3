/* SPDX-License-Identifier: MIT */
/* Access to sysfs beyond reading text: opening without following links, and searching. Shared by
 * the probes and the keeper. */
#ifndef PROBES_SYSROOT_H
#define PROBES_SYSROOT_H

#include "board.h"

#define SYSROOT_MATCHES_MAX 128 /* for one pattern; further matches are ignored */

/* Open a link-free absolute path below the sysroot. Symbolic links, ".." and "." anywhere in `path`
 * are refused (-ELOOP, -EINVAL), so that nothing leads out of the sysroot. Returns a close-on-exec
 * descriptor or a negative errno. */
int sysroot_open(const struct sysroot *root, const char *path, int flags);

/* Identity of the directory that contains `path`; it changes when the kernel removes and recreates
 * the directory. 0 or a negative errno. */
int sysroot_dir_id(const struct sysroot *root, const char *path, uint64_t *id);

struct sysroot_matches {
	size_t count;
	char path[SYSROOT_MATCHES_MAX][SYSFS_PATH_MAX]; /* link-free, without duplicates */
};

/* Resolved paths that match a shell pattern (fnmatch(3) for each component), numbers in numeric
 * order. Returns a new struct, which the caller frees, or NULL when out of memory. */
struct sysroot_matches *sysroot_glob(const struct sysroot *root, const char *pattern);

/* Find the same file after its device was renumbered: the last component of `path` that is a
 * numbered card, hwmon or devfreq device is searched under other numbers of the same device.
 * Returns 0, or -ENOENT if there is none, or more than one. */
int sysroot_renumbered(const struct sysroot *root, const char *path, char out[SYSFS_PATH_MAX]);

/* Does a path exist? Follows links below the sysroot. Returns 0 or a negative errno (-EACCES: not
 * accessible to this user). */
int sysroot_check(const struct sysroot *root, const char *path);
bool sysroot_exists(const struct sysroot *root, const char *path);

/* Store DIR/NAME in a path buffer. Returns 0 or -ENAMETOOLONG. */
int sysroot_join(char buf[SYSFS_PATH_MAX], const char *dir, const char *name);

/* Small file DIR/NAME. As sysroot_read and sysroot_read_u64. */
ssize_t sysroot_read_at(const struct sysroot *root, const char *dir, const char *name, char *buf, size_t size);
int sysroot_read_u64_at(const struct sysroot *root, const char *dir, const char *name, uint64_t *out);

/* Last component of a path. */
const char *path_base(const char *path);

#endif
