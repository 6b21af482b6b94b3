/* SPDX-License-Identifier: MIT */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/file.h"

/* Every right of Landlock's first version (Linux 5.13), and those that a room of plain files needs. */
#define RIGHTS_ALL \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM | \
	 LANDLOCK_ACCESS_FS_REMOVE_DIR | RIGHTS_KEPT)
#define RIGHTS_KEPT \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG)

static void limit(int resource, rlim_t most)
{
	struct rlimit limit = {most, most};

	(void)!setrlimit((unsigned)resource, &limit);
}

static int only_below(const char *dir)
{
	struct landlock_ruleset_attr rights = {.handled_access_fs = RIGHTS_ALL};
	struct landlock_path_beneath_attr below = {.allowed_access = RIGHTS_KEPT};
	CLEANUP_FD int parent = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	CLEANUP_FD int rules =
		dir && parent < 0 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &rights, sizeof(rights), 0);

	if (rules < 0)
		return -errno;
	below.parent_fd = parent;
	if ((dir && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0) ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return -errno;
	return 0;
}

void helper_begin(unsigned first_fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_range(first_fd, ~0U, 0);
	(void)!setpriority(PRIO_PROCESS, 0, 0);
}

int sandbox_enter(const char *dir, size_t file_bytes, unsigned cpu_s)
{
	signal(SIGXFSZ, SIG_IGN); /* write(2) says so */
	limit(RLIMIT_CPU, cpu_s);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_NPROC, 0);
	limit(RLIMIT_FSIZE, file_bytes);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return only_below(dir);
}
