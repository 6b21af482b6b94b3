/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../daemon/uevent.h"

#define MATTERS(text) uevent_matters(text, sizeof(text) - 1)

static void test_matters(void **state)
{
	(void)state;
	assert_true(MATTERS("online@/devices/system/cpu/cpu1\0ACTION=online\0SUBSYSTEM=cpu\0"));
	assert_true(MATTERS("remove@/devices/x\0SUBSYSTEM=devfreq"));
	assert_false(MATTERS("change@/devices/x\0SUBSYSTEM=devfreq\0"));
	assert_false(MATTERS("add@/devices/x\0SUBSYSTEM=cpuset\0"));
	assert_false(MATTERS("add@/devices/x\0SUBSYSTEM=block\0DEVNAME=sda\0"));
	assert_false(MATTERS("add@"));
	assert_false(MATTERS(""));
	assert_false(MATTERS("libudev\0\xfe\xed\xca\xfe"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_matters)};

	return cmocka_run_group_tests_name("uevent", tests, NULL, NULL);
}
