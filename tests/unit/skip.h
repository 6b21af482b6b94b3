/* SPDX-License-Identifier: MIT */
/* A skip with its reason, which cmocka's skip() does not take: tests/cmocka.sed puts it into the test's line. */
#ifndef TESTS_UNIT_SKIP_H
#define TESTS_UNIT_SKIP_H

#include <stdio.h>

#define skip_because(reason) \
	do { \
		printf("# SKIP %s\n", reason); \
		skip(); \
	} while (0)

#endif
