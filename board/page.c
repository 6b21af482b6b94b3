/* SPDX-License-Identifier: MIT */
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "../common/file.h"

static struct page *map(const char *dir, int flags, bool fresh, int *error)
{
	char path[SYSFS_PATH_MAX];
	struct stat st;
	void *at;

	if (snprintf(path, sizeof(path), "%s/%s", dir, PAGE_NAME) >= (int)sizeof(path)) {
		*error = -ENAMETOOLONG;
		return NULL;
	}
	CLEANUP_FD int fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || (fresh && ftruncate(fd, sizeof(struct page))) || fstat(fd, &st)) {
		*error = -errno;
		return NULL;
	}
	if (st.st_size != sizeof(struct page)) {
		*error = -EPROTO;
		return NULL;
	}
	at = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	*error = at == MAP_FAILED ? -errno : 0;
	return at == MAP_FAILED ? NULL : at;
}

struct page *page_create(const char *dir, int *error)
{
	return map(dir, O_CREAT | O_TRUNC, true, error);
}

struct page *page_attach(const char *dir, int *error)
{
	struct page *page = map(dir, 0, false, error);

	if (page && (page->magic != PAGE_MAGIC || page->size != sizeof(*page))) {
		page_detach(page);
		*error = -EPROTO;
		return NULL;
	}
	return page;
}

void page_detach(struct page *page)
{
	if (page)
		munmap(page, sizeof(*page));
}

void page_energy(const struct page *page, uint64_t *energy_uj, uint64_t *now_ns)
{
	uint64_t account;

	do {
		account = atomic_load(&page->account);
		*energy_uj = atomic_load(&page->energy_uj);
		*now_ns = atomic_load(&page->now_ns);
	} while (account % 2 != 0 || atomic_load(&page->account) != account);
}
