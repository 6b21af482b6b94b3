/* SPDX-License-Identifier: MIT */
/* The seam to sysfs beyond reading a text: opening without following links,
 * and finding. Shared by the probes and the keeper. */
#ifndef PROBES_SYSROOT_H
#define PROBES_SYSROOT_H

#include "board.h"

#define SYSROOT_MATCHES_MAX 128 /* of one pattern; the rest is not looked at */

/* Open a link-free absolute path below the sysroot. A symbolic link, ".." or
 * "." anywhere in `path` is refused (-ELOOP, -EINVAL), so nothing can lead out
 * of the sysroot. Returns a descriptor (close-on-exec) or -errno. */
int sysroot_open(const struct sysroot *root, const char *path, int flags);

/* Identity of the directory `path` lies in: changes when the kernel removed
 * and made it anew. 0 or -errno. */
int sysroot_dir_id(const struct sysroot *root, const char *path, uint64_t *id);

struct sysroot_matches {
	size_t count;
	char path[SYSROOT_MATCHES_MAX][SYSFS_PATH_MAX]; /* link-free, each once */
};

/* Resolved paths that match a shell pattern (per component, fnmatch rules),
 * numbers in numeric order. Returns their count. A new struct to be freed, or
 * NULL without memory. */
struct sysroot_matches *sysroot_glob(const struct sysroot *root, const char *pattern);

/* Whether a path exists, links followed below the sysroot: 0 or -errno
 * (-EACCES: not for this user to know). */
int sysroot_check(const struct sysroot *root, const char *path);
bool sysroot_exists(const struct sysroot *root, const char *path);

/* DIR/NAME into a path buffer; 0 or -ENAMETOOLONG. */
int sysroot_join(char buf[SYSFS_PATH_MAX], const char *dir, const char *name);

/* Small file DIR/NAME. As sysroot_read and sysroot_read_u64. */
ssize_t sysroot_read_at(const struct sysroot *root, const char *dir, const char *name, char *buf, size_t size);
int sysroot_read_u64_at(const struct sysroot *root, const char *dir, const char *name, uint64_t *out);

/* Last component of a path. */
const char *path_base(const char *path);

#endif
