/* SPDX-License-Identifier: MIT */
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "../common/file.h"

static int open_page(const char *dir, int flags)
{
	char path[SYSFS_PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", dir, PAGE_NAME) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0644);
	return fd < 0 ? -errno : fd;
}

static struct board_page *map(int fd, int *error)
{
	struct stat st;
	void *at;

	*error = fstat(fd, &st) ? -errno : st.st_size != sizeof(struct board_page) ? -EPROTO : 0;
	if (*error)
		return NULL;
	at = mmap(NULL, sizeof(struct board_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	*error = at == MAP_FAILED ? -errno : 0;
	return at == MAP_FAILED ? NULL : at;
}

struct board_page *page_create(const char *dir, int *lock_fd, int *error)
{
	struct board_page *page = NULL;
	int fd = open_page(dir, O_CREAT);

	*error = fd < 0 ? fd : 0;
	if (fd < 0)
		return NULL;
	if (flock(fd, LOCK_EX | LOCK_NB))
		*error = errno == EWOULDBLOCK ? -EBUSY : -errno;
	else if (ftruncate(fd, 0) || ftruncate(fd, sizeof(struct board_page)))
		*error = -errno;
	else
		page = map(fd, error);
	if (page)
		*lock_fd = fd;
	else
		close(fd);
	return page;
}

struct board_page *page_attach(const char *dir, int *error)
{
	CLEANUP_FD int fd = open_page(dir, 0);
	struct board_page *page;

	*error = fd < 0 ? fd : 0;
	page = fd < 0 ? NULL : map(fd, error);
	if (page && (page->magic != PAGE_MAGIC || page->size != sizeof(*page))) {
		page_detach(page);
		*error = -EPROTO;
		return NULL;
	}
	return page;
}

void page_detach(struct board_page *page)
{
	if (page)
		munmap(page, sizeof(*page));
}

void page_energy(const struct board_page *page, uint64_t *energy_uj, uint64_t *now_ns)
{
	uint64_t account;

	do {
		account = atomic_load(&page->account);
		*energy_uj = atomic_load(&page->energy_uj);
		*now_ns = atomic_load(&page->now_ns);
	} while (account % 2 != 0 || atomic_load(&page->account) != account);
}
