/* SPDX-License-Identifier: MIT */
/* The lock of a sysroot: for the real machine, a file that only root can open; for a board
 * directory, its sys/. */
#include "owner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../probes/sysroot.h"

#define CLAIM_TRIES   250 /* a keeper restores its knobs within two seconds in any case */
#define CLAIM_WAIT_NS (10 * NS_PER_MS)

/* Find the process that holds the lock of this file, in /proc/locks. */
static void find_holder(int fd, char *who, size_t size)
{
	CLEANUP_FILE FILE *locks = fopen("/proc/locks", "re");
	const struct sysroot host = {""};
	char line[256], comm[64] = "", path[64];
	unsigned long inode;
	unsigned major_no, minor_no;
	struct stat st;
	int pid;

	snprintf(who, size, "another keeper");
	if (!locks || fstat(fd, &st) < 0)
		return;
	while (fgets(line, sizeof(line), locks)) {
		if (sscanf(line, "%*u: FLOCK %*s %*s %d %x:%x:%lu", &pid, &major_no, &minor_no, &inode) != 4 ||
		    inode != st.st_ino || makedev(major_no, minor_no) != st.st_dev || pid <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		if (sysroot_read(&host, path, comm, sizeof(comm)) <= 0)
			comm[0] = '\0';
		snprintf(who, size, "process %d%s%s", pid, comm[0] ? ", " : "", comm);
		return;
	}
}

int owner_claim(const struct sysroot *root, char *who, size_t size)
{
	char path[PATH_MAX];
	int fd;

	who[0] = '\0';
	if (root->prefix[0]) {
		if (sysroot_path(root, "/sys", path, sizeof(path)) < 0)
			return -ENAMETOOLONG;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	} else {
		int rc = dir_make(OWNER_DIR, 0700);
		if (rc < 0)
			return rc;
		fd = open(OWNER_DIR "/lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (fd < 0)
		return -errno;
	for (unsigned i = 0; i < CLAIM_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		if (errno != EWOULDBLOCK && errno != EINTR) {
			int rc = -errno;
			close(fd);
			return rc;
		}
		clock_sleep_ns(CLAIM_WAIT_NS);
	}
	find_holder(fd, who, size);
	close(fd);
	return -EBUSY;
}
