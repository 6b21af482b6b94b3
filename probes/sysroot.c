/* SPDX-License-Identifier: MIT */
/* Access of the probes and the keeper to /sys and /proc: below a prefix, which symbolic links
 * cannot leave. */
#include "sysroot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/file.h"
#include "../common/units.h"

#define LINKS_MAX 32 /* in one path; the kernel's limit is 40 */

const char *path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int sysroot_path(const struct sysroot *root, const char *path, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%s%s", root->prefix, path);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int sysroot_join(char buf[SYSFS_PATH_MAX], const char *dir, const char *name)
{
	size_t a = strlen(dir), b = strlen(name);

	if (a + 1 + b >= SYSFS_PATH_MAX)
		return -ENAMETOOLONG;
	memmove(buf, dir, a);
	buf[a] = '/';
	memmove(buf + a + 1, name, b + 1);
	return 0;
}

/* Read the link at `path` (link-free up to its last component). Returns 0 if it is not a link, or a
 * negative errno. */
static int link_target(const struct sysroot *root, const char *path, char target[SYSFS_PATH_MAX])
{
	char full[PATH_MAX];
	int rc = sysroot_path(root, path, full, sizeof(full));

	if (rc < 0)
		return rc;
	ssize_t n = readlink(full, target, SYSFS_PATH_MAX);
	if (n < 0)
		return errno == EINVAL ? 0 : -errno;
	if (n == 0 || n >= SYSFS_PATH_MAX)
		return -ENAMETOOLONG;
	target[n] = '\0';
	return 1;
}

/* Replace a link by its target in front of the rest of the path. */
static int splice_link(char rest[SYSFS_PATH_MAX], const char *target, const char *tail)
{
	char joined[SYSFS_PATH_MAX];
	int n = snprintf(joined, sizeof(joined), "%s/%s", target, tail);

	if (n < 0 || (size_t)n >= sizeof(joined))
		return -ENAMETOOLONG;
	memcpy(rest, joined, (size_t)n + 1);
	return 0;
}

int sysroot_resolve(const struct sysroot *root, const char *path, char *buf, size_t size)
{
	char rest[SYSFS_PATH_MAX], done[SYSFS_PATH_MAX] = "", next[SYSFS_PATH_MAX], target[SYSFS_PATH_MAX];
	unsigned links = 0;

	if (strlen(path) >= sizeof(rest))
		return -ENAMETOOLONG;
	strcpy(rest, path);
	char *p = rest;
	for (;;) {
		p += strspn(p, "/");
		if (*p == '\0')
			break;
		size_t len = strcspn(p, "/");
		char *tail = p + len;
		if (*tail)
			*tail++ = '\0';
		if (!strcmp(p, "..")) {
			char *slash = strrchr(done, '/'); /* the parent of the root is the root */
			if (slash)
				*slash = '\0';
		} else if (strcmp(p, ".") != 0) {
			int rc = sysroot_join(next, done, p);
			if (rc == 0)
				rc = link_target(root, next, target);
			if (rc < 0)
				return rc;
			if (rc == 0) {
				strcpy(done, next);
			} else {
				if (++links > LINKS_MAX)
					return -ELOOP;
				rc = splice_link(rest, target, tail);
				if (rc < 0)
					return rc;
				if (rest[0] == '/')
					done[0] = '\0'; /* absolute target: start at the sysroot */
				p = rest;
				continue;
			}
		}
		p = tail;
	}
	if (strlen(done) + 2 > size)
		return -ENAMETOOLONG;
	strcpy(buf, done[0] ? done : "/");
	return 0;
}

/* Open the directory of the last component; `*last` points to that component. */
static int open_parent(const struct sysroot *root, const char *path, const char **last)
{
	if (path[0] != '/')
		return -EINVAL;
	int dir = open(root->prefix[0] ? root->prefix : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	const char *p = path + 1;
	for (;;) {
		size_t len = strcspn(p, "/");
		char name[NAME_MAX + 1];
		bool dots = (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.');
		if (len == 0 || len > NAME_MAX || dots) {
			close(dir);
			return -EINVAL;
		}
		if (p[len] == '\0') {
			*last = p;
			return dir;
		}
		memcpy(name, p, len);
		name[len] = '\0';
		int next = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int rc = -errno;
		close(dir);
		if (next < 0)
			return rc == -ENOTDIR ? -ELOOP : rc; /* a link to a directory gives ENOTDIR */
		dir = next;
		p += len + 1;
	}
}

int sysroot_open(const struct sysroot *root, const char *path, int flags)
{
	const char *last;
	CLEANUP_FD int dir = open_parent(root, path, &last);

	if (dir < 0)
		return dir;
	int fd = openat(dir, last, flags | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

int sysroot_dir_id(const struct sysroot *root, const char *path, uint64_t *id)
{
	const char *last;
	CLEANUP_FD int dir = open_parent(root, path, &last);
	struct statx st;

	if (dir < 0)
		return dir;
	if (statx(dir, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0)
		return -errno;
	/* sysfs does not soon reuse an inode number but has no birth time; with disks it is the
	 * other way round */
	*id = st.stx_ino;
	if (st.stx_mask & STATX_BTIME)
		*id ^= (uint64_t)st.stx_btime.tv_sec << 30 ^ (uint64_t)st.stx_btime.tv_nsec << 20;
	return 0;
}

ssize_t sysroot_read(const struct sysroot *root, const char *path, char *buf, size_t size)
{
	char resolved[SYSFS_PATH_MAX];
	int rc = sysroot_resolve(root, path, resolved, sizeof(resolved));

	if (rc < 0)
		return rc;
	CLEANUP_FD int fd = sysroot_open(root, resolved, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	ssize_t n = fd_read(fd, buf, size);
	if (n < 0)
		return n;
	size_t len = (size_t)n;
	if (len >= size)
		return -EFBIG;
	while (len && strchr(" \t\r\n", buf[len - 1])) /* NUL too: device-tree strings end with one */
		len--;
	buf[len] = '\0';
	size_t lead = strspn(buf, " \t\r\n");
	memmove(buf, buf + lead, len - lead + 1);
	return (ssize_t)(len - lead);
}

int sysroot_read_u64(const struct sysroot *root, const char *path, uint64_t *out)
{
	char text[64];
	ssize_t n = sysroot_read(root, path, text, sizeof(text));

	if (n < 0)
		return (int)n;
	return parse_u64(text, out);
}

ssize_t sysroot_read_at(const struct sysroot *root, const char *dir, const char *name, char *buf, size_t size)
{
	char path[SYSFS_PATH_MAX];
	int rc = sysroot_join(path, dir, name);

	return rc < 0 ? rc : sysroot_read(root, path, buf, size);
}

int sysroot_read_u64_at(const struct sysroot *root, const char *dir, const char *name, uint64_t *out)
{
	char path[SYSFS_PATH_MAX];
	int rc = sysroot_join(path, dir, name);

	return rc < 0 ? rc : sysroot_read_u64(root, path, out);
}

int sysroot_check(const struct sysroot *root, const char *path)
{
	char resolved[SYSFS_PATH_MAX], full[PATH_MAX];
	int rc = sysroot_resolve(root, path, resolved, sizeof(resolved));

	if (rc == 0)
		rc = sysroot_path(root, resolved, full, sizeof(full));
	if (rc == 0 && access(full, F_OK) < 0)
		rc = -errno;
	return rc;
}

bool sysroot_exists(const struct sysroot *root, const char *path)
{
	return sysroot_check(root, path) == 0;
}

static void add_match(struct sysroot_matches *out, const struct sysroot *root, const char *path)
{
	char resolved[SYSFS_PATH_MAX];

	if (out->count == SYSROOT_MATCHES_MAX || !sysroot_exists(root, path) ||
	    sysroot_resolve(root, path, resolved, sizeof(resolved)) < 0)
		return;
	for (size_t i = 0; i < out->count; i++)
		if (!strcmp(out->path[i], resolved))
			return;
	strcpy(out->path[out->count++], resolved);
}

static void expand(struct sysroot_matches *out, const struct sysroot *root, const char *dir, const char *rest);

static void expand_entries(struct sysroot_matches *out, const struct sysroot *root, const char *dir,
			   const char *pattern, const char *rest)
{
	char resolved[SYSFS_PATH_MAX], full[PATH_MAX], path[SYSFS_PATH_MAX];
	struct dirent **names;

	if (sysroot_resolve(root, dir, resolved, sizeof(resolved)) < 0 ||
	    sysroot_path(root, resolved, full, sizeof(full)) < 0)
		return;
	int n = scandir(full, &names, NULL, versionsort);
	for (int i = 0; i < n; i++) {
		if (fnmatch(pattern, names[i]->d_name, FNM_PERIOD) == 0 &&
		    sysroot_join(path, dir, names[i]->d_name) == 0)
			expand(out, root, path, rest);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

/* Expand one component of the pattern; the recursion depth is that of the pattern. */
static void expand(struct sysroot_matches *out, const struct sysroot *root, const char *dir, const char *rest)
{
	char part[NAME_MAX + 1], path[SYSFS_PATH_MAX];

	rest += strspn(rest, "/");
	size_t len = strcspn(rest, "/");
	if (len == 0) {
		add_match(out, root, dir);
		return;
	}
	if (len > NAME_MAX)
		return;
	memcpy(part, rest, len);
	part[len] = '\0';
	if (strpbrk(part, "*?["))
		expand_entries(out, root, dir, part, rest + len);
	else if (sysroot_join(path, dir, part) == 0)
		expand(out, root, path, rest + len);
}

struct sysroot_matches *sysroot_glob(const struct sysroot *root, const char *pattern)
{
	struct sysroot_matches *out = malloc(sizeof(*out));

	if (!out)
		return NULL;
	out->count = 0;
	expand(out, root, "", pattern);
	return out;
}

int sysroot_renumbered(const struct sysroot *root, const char *path, char out[SYSFS_PATH_MAX])
{
	static const char *const numbered[] = {"/drm/card", "/hwmon/hwmon", "/devfreq/devfreq"};
	char pattern[SYSFS_PATH_MAX];
	const char *number = NULL;

	for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]) && !number; i++) {
		const char *at = strstr(path, numbered[i]);
		if (at && strspn(at + strlen(numbered[i]), "0123456789") > 0)
			number = at + strlen(numbered[i]);
	}
	/* in a class directory every device has its own number */
	if (!number || !strncmp(path, "/sys/class/", 11))
		return -ENOENT;
	const char *rest = number + strspn(number, "0123456789");
	if (snprintf(pattern, sizeof(pattern), "%.*s[0-9]*%s", (int)(number - path), path, rest) >=
	    (int)sizeof(pattern))
		return -ENAMETOOLONG;
	CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(root, pattern);
	if (!found || found->count != 1)
		return found ? -ENOENT : -ENOMEM;
	memcpy(out, found->path[0], SYSFS_PATH_MAX);
	return 0;
}
