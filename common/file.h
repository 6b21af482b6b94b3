/* SPDX-License-Identifier: MIT */
/* Reading and replacing whole small files, and cleanup attributes. */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static inline void cleanup_fd(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_file(FILE **file)
{
	if (*file)
		fclose(*file);
}

static inline void cleanup_mem(void *mem)
{
	free(*(void **)mem);
}

#define CLEANUP_FD   __attribute__((cleanup(cleanup_fd)))
#define CLEANUP_FILE __attribute__((cleanup(cleanup_file)))
#define CLEANUP_MEM  __attribute__((cleanup(cleanup_mem)))

/* Read up to `size` bytes, or to the end. Returns the length or a negative errno. */
ssize_t fd_read(int fd, char *buf, size_t size);

/* Read a whole file into a new NUL-terminated buffer, which the caller frees; `len` may be NULL.
 * Returns 0, -EFBIG if it is larger than `max` bytes, or another negative errno. */
int file_read(const char *path, size_t max, char **out, size_t *len);

/* Read a whole small file into `buf`, NUL-terminated, without trailing white space. Returns its
 * length, -EFBIG, or another negative errno. */
ssize_t file_read_text(int dir_fd, const char *path, char *buf, size_t size);

/* Replace `path` atomically: write a temporary file in the same directory, fsync it, rename it, and
 * fsync the directory. Returns 0 or a negative errno; on error the old file is unchanged. */
int file_replace(const char *path, const void *data, size_t len, mode_t mode);

/* Strip the slashes at the end of a path, in place, so that it can precede an absolute one: "/" becomes "". Returns
 * `path`. */
char *path_prefix(char *path);

/* mkdir -p. Returns 0 or a negative errno. */
int dir_make(const char *path, mode_t mode);

#endif
