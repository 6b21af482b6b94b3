/* SPDX-License-Identifier: MIT */
/* Writing the journal. journal.h describes its lines. */
#include "journal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"

#define JOURNAL_COMPACT_BYTES 65536 /* rewritten when larger */
#define LOCK_TRIES            200   /* attempts to lock: a keeper that is exiting needs much less than this */
#define LOCK_WAIT_NS          (10 * NS_PER_MS) /* times this interval */
#define ENCODED_MAX           (3 * KNOB_VALUE_MAX)
#define LINE_MAX_BYTES        (SYSFS_PATH_MAX + ENCODED_MAX + 32)

void journal_init(struct journal *journal, const struct sysroot *root, const char *path)
{
	memset(journal, 0, sizeof(*journal));
	journal->root = root;
	journal->path = path;
	journal->fd = -1;
}

int journal_boot_id(const struct sysroot *root, char buf[BOOT_ID_MAX])
{
	const struct sysroot host = {""};
	ssize_t n = sysroot_read(root, "/proc/sys/kernel/random/boot_id", buf, BOOT_ID_MAX);

	if (n <= 0)
		n = sysroot_read(&host, "/proc/sys/kernel/random/boot_id", buf, BOOT_ID_MAX);
	return n < 0 ? (int)n : n == 0 ? -ENODATA : 0;
}

static const char *encode(const char *value, char out[ENCODED_MAX])
{
	size_t n = 0;

	for (const char *p = value; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (c > ' ' && c < 0x7f && c != '%')
			out[n++] = *p;
		else
			n += (size_t)sprintf(out + n, "%%%02x", c);
	}
	out[n] = '\0';
	return out;
}

static int fsync_retry(int fd)
{
	int rc;

	do
		rc = fsync(fd);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int fsync_dir(const char *path)
{
	char copy[PATH_MAX];

	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return -ENAMETOOLONG;
	CLEANUP_FD int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -errno : fsync_retry(dir);
}

/* Append with a single write(2) where the file system allows it. A short write is undone, so that a
 * line is written completely or not at all. */
static int append(struct journal *j, const char *text, size_t len)
{
	ssize_t n;

	do
		n = write(j->fd, text, len);
	while (n < 0 && errno == EINTR);
	int rc = n < 0 ? -errno : (size_t)n == len ? 0 : -ENOSPC;
	if (n > 0 && rc < 0 && ftruncate(j->fd, (off_t)j->bytes) < 0)
		rc = -EIO;
	if (rc == 0)
		j->bytes += len;
	return rc;
}

struct text {
	char *data;
	size_t len, size;
};

static void add_line(struct text *t, const char *word, size_t slot, const char *value)
{
	char code[ENCODED_MAX];

	t->len += (size_t)snprintf(t->data + t->len, t->size - t->len, "%s %zu =%s\n", word, slot, encode(value, code));
}

static void add_save(struct text *t, size_t slot, const struct journal_entry *e)
{
	char code[ENCODED_MAX];

	t->len += (size_t)snprintf(t->data + t->len, t->size - t->len, "save %zu %s =%s%s\n", slot, e->path,
				   encode(e->original, code), e->unlimited ? " unlimited" : "");
}

static int add_head(const struct journal *j, struct text *t)
{
	char boot[BOOT_ID_MAX];
	int rc = journal_boot_id(j->root, boot);

	if (rc == 0)
		t->len += (size_t)snprintf(t->data + t->len, t->size - t->len, "flamed-journal 1\nboot %s\n", boot);
	return rc;
}

static int text_new(struct text *t, size_t entries)
{
	t->len = 0;
	t->size = 256 + entries * (OURS_COUNT + 1) * LINE_MAX_BYTES;
	t->data = malloc(t->size);
	return t->data ? 0 : -ENOMEM;
}

int journal_save(struct journal *j, const struct journal_entry *const *entries, size_t count)
{
	CLEANUP_MEM char *data = NULL;
	struct text t;
	bool created = j->fd < 0;
	size_t before = j->bytes;

	if (j->count + count > KNOBS_MAX)
		return -ENOSPC;
	int rc = text_new(&t, count);
	data = t.data;
	if (rc == 0 && created)
		rc = add_head(j, &t);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < count; i++)
		add_save(&t, j->count + i, entries[i]);
	if (created) {
		j->fd = open(j->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (j->fd < 0)
			return -errno;
		j->bytes = before = 0;
		if (flock(j->fd, LOCK_EX | LOCK_NB) < 0)
			rc = -errno;
	}
	if (rc == 0)
		rc = append(j, t.data, t.len);
	if (rc == 0)
		rc = fsync_retry(j->fd);
	if (rc == 0 && created)
		rc = fsync_dir(j->path);
	if (rc < 0) { /* remove lines whose values may not be on disk */
		if (created)
			journal_remove(j);
		else if (ftruncate(j->fd, (off_t)before) == 0)
			j->bytes = before;
		return rc;
	}
	for (size_t i = 0; i < count; i++)
		j->entry[j->count++] = entries[i];
	return 0;
}

int journal_rewrite(struct journal *j)
{
	CLEANUP_MEM char *data = NULL;
	struct text t;
	char temp[PATH_MAX];
	int rc = text_new(&t, j->count);

	data = t.data;
	if (rc == 0)
		rc = add_head(j, &t);
	if (rc == 0 && snprintf(temp, sizeof(temp), "%s.new", j->path) >= (int)sizeof(temp))
		rc = -ENAMETOOLONG;
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < j->count; i++) {
		const struct journal_entry *e = j->entry[i];
		add_save(&t, i, e);
		if (e->ours[OURS_BEFORE][0])
			add_line(&t, "held", i, e->ours[OURS_BEFORE]);
		if (e->ours[OURS_HELD][0])
			add_line(&t, "held", i, e->ours[OURS_HELD]);
		if (e->ours[OURS_SEEN][0])
			add_line(&t, "seen", i, e->ours[OURS_SEEN]);
	}
	struct journal fresh = *j;
	unlink(temp);
	fresh.fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fresh.fd < 0)
		return -errno;
	fresh.bytes = 0;
	if (flock(fresh.fd, LOCK_EX | LOCK_NB) < 0)
		rc = -errno;
	if (rc == 0)
		rc = append(&fresh, t.data, t.len);
	if (rc == 0)
		rc = fsync_retry(fresh.fd);
	if (rc == 0 && rename(temp, j->path) < 0)
		rc = -errno;
	if (rc < 0) {
		close(fresh.fd);
		unlink(temp);
		return rc;
	}
	if (j->fd >= 0)
		close(j->fd);
	j->fd = fresh.fd;
	j->bytes = fresh.bytes;
	return fsync_dir(j->path);
}

static int note(struct journal *j, const char *word, size_t slot, const char *value)
{
	char line[ENCODED_MAX + 64];
	struct text t = {line, 0, sizeof(line)};

	if (j->fd < 0)
		return -EBADF;
	if (j->bytes > JOURNAL_COMPACT_BYTES) {
		int rc = journal_rewrite(j);
		if (rc < 0)
			return rc;
	}
	add_line(&t, word, slot, value);
	return append(j, t.data, t.len);
}

int journal_held(struct journal *j, size_t slot, struct journal_entry *e, const char *value)
{
	int rc = note(j, "held", slot, value);

	if (rc < 0)
		return rc;
	memcpy(e->ours[OURS_BEFORE], e->ours[OURS_HELD], sizeof(e->ours[0]));
	snprintf(e->ours[OURS_HELD], sizeof(e->ours[0]), "%s", value);
	e->ours[OURS_SEEN][0] = '\0';
	return 0;
}

int journal_seen(struct journal *j, size_t slot, struct journal_entry *e, const char *value)
{
	int rc = note(j, "seen", slot, value);

	if (rc == 0)
		snprintf(e->ours[OURS_SEEN], sizeof(e->ours[0]), "%s", value);
	return rc;
}

int journal_remove(struct journal *j)
{
	int rc = j->fd >= 0 && unlink(j->path) < 0 ? -errno : 0;

	journal_close(j);
	return rc;
}

void journal_close(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
	j->count = 0;
	j->bytes = 0;
}

int journal_open_left(const char *path)
{
	struct stat st;

	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0)
			return fd;
		close(fd);
		clock_sleep_ns(LOCK_WAIT_NS);
	}
	return -EBUSY;
}
