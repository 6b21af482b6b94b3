/* SPDX-License-Identifier: MIT */
/* Operations that are forbidden to a helper process, each tried in a process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../daemon/sandbox.h"
#include "skip.h"

#define FILE_BYTES 4096
#define CPU_S      5

static char dir[] = "/tmp/flamed-sandbox-XXXXXX";

/* In a process that entered the sandbox: 0, or the errno of the operation. */
static int inside(int (*try)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int rc = sandbox_enter(dir, FILE_BYTES, CPU_S);
		if (rc < 0 && rc != -ENOSYS && rc != -EOPNOTSUPP)
			_exit(200);
		_exit(try());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int lacks_landlock(void)
{
	int rc = sandbox_enter(dir, FILE_BYTES, CPU_S);

	return rc == -ENOSYS || rc == -EOPNOTSUPP;
}

static int read_outside(void)
{
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

static int write_outside(void)
{
	return open("/tmp/flamed-sandbox-outside", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 ? errno : 0;
}

static int run_inside(void)
{
	return execl("/bin/true", "true", (char *)NULL) < 0 ? errno : 0;
}

/* As the library saves: a file beside, then renamed. */
static int replace_inside(void)
{
	char from[64], to[64];

	snprintf(from, sizeof(from), "%s/a.new", dir);
	snprintf(to, sizeof(to), "%s/a", dir);
	int fd = open(from, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || fsync(fd) < 0 || close(fd) < 0 || rename(from, to) < 0)
		return errno;
	return unlink(to) < 0 ? errno : 0;
}

static int write_too_much(void)
{
	static char much[2 * FILE_BYTES];
	char path[64];

	snprintf(path, sizeof(path), "%s/b", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return 201;
	if (write(fd, much, sizeof(much)) != FILE_BYTES || write(fd, much, 1) >= 0)
		return 202;
	int error = errno;
	unlink(path);
	return error;
}

static int bounds(void)
{
	struct rlimit cpu, core;

	if (getrlimit(RLIMIT_CPU, &cpu) < 0 || getrlimit(RLIMIT_CORE, &core) < 0)
		return 203;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && cpu.rlim_max == CPU_S && core.rlim_max == 0 ? 0 : 204;
}

static void test_files(void **state)
{
	(void)state;
	if (inside(lacks_landlock))
		skip_because("the kernel, or qemu-user, has no Landlock");
	assert_int_equal(inside(read_outside), EACCES);
	assert_int_equal(inside(write_outside), EACCES);
	assert_int_equal(inside(run_inside), EACCES);
	assert_int_equal(inside(replace_inside), 0);
}

static void test_bounds(void **state)
{
	(void)state;
	assert_int_equal(inside(bounds), 0);
	assert_int_equal(inside(write_too_much), EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_files), cmocka_unit_test(test_bounds)};

	if (!mkdtemp(dir))
		return 1;
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return rc;
}
