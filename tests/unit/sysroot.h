/* SPDX-License-Identifier: MIT */
/* A root directory for one test, with the files that the probes read. */
#ifndef TESTS_UNIT_SYSROOT_H
#define TESTS_UNIT_SYSROOT_H

#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/file.h"
#include "../../common/log.h"
#include "../../probes/probe.h"

static char top[64];
static struct sysroot root = {top};

static inline int make_root(void **state)
{
	(void)state;
	strcpy(top, "/tmp/flamed-probes-XXXXXX");
	log_set_level(LOG_LEVEL_ERROR);
	return mkdtemp(top) ? 0 : -1;
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline int remove_root(void **state)
{
	(void)state;
	return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A file below the root, its folders made. */
static inline void put(const char *path, const char *text)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s%s", top, path);
	*strrchr(full, '/') = '\0';
	assert_int_equal(dir_make(full, 0755), 0);
	snprintf(full, sizeof(full), "%s%s", top, path);
	FILE *f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static inline void put_link(const char *path, const char *target)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s%s", top, path);
	*strrchr(full, '/') = '\0';
	assert_int_equal(dir_make(full, 0755), 0);
	snprintf(full, sizeof(full), "%s%s", top, path);
	assert_int_equal(symlink(target, full), 0);
}

#define IN_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

#endif
