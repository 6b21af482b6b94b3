/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../keeper/uevent.h"

#define MATTERS(text) uevent_matters(text, sizeof(text) - 1)

static void test_matters(void **state)
{
	(void)state;
	assert_true(MATTERS("online@/devices/system/cpu/cpu1\0ACTION=online\0SUBSYSTEM=cpu\0"));
	assert_true(MATTERS("remove@/devices/x\0SUBSYSTEM=devfreq"));
	assert_true(MATTERS("bind@/devices/x\0SUBSYSTEM=drm"));
	assert_true(MATTERS("add@/devices/x\0SUBSYSTEM=hwmon"));
	assert_true(MATTERS("unbind@/devices/x\0SUBSYSTEM=powercap"));
	assert_true(MATTERS("offline@/devices/x\0SUBSYSTEM=power_supply"));
	assert_false(MATTERS("change@/devices/x\0SUBSYSTEM=devfreq\0"));
	assert_false(MATTERS("add@/devices/x\0SUBSYSTEM=cpuset\0"));
	assert_false(MATTERS("add@/devices/x\0SUBSYSTEM=block\0DEVNAME=sda\0"));
	assert_false(MATTERS("add@"));
	assert_false(MATTERS(""));
	assert_false(MATTERS("libudev\0\xfe\xed\xca\xfe"));
}

/* All that waits is taken, and one event that matters among others is enough. */
static void test_drain(void **state)
{
	static const char cpu[] = "add@/devices/x\0SUBSYSTEM=cpu", disk[] = "add@/devices/x\0SUBSYSTEM=block";
	int pair[2];
	char rest[4];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	assert_false(uevent_drain(pair[0]));
	assert_int_equal(send(pair[1], disk, sizeof(disk), 0), sizeof(disk));
	assert_false(uevent_drain(pair[0]));
	for (int i = 0; i < 3; i++)
		assert_int_equal(send(pair[1], i == 1 ? cpu : disk, i == 1 ? sizeof(cpu) : sizeof(disk), 0),
				 i == 1 ? sizeof(cpu) : sizeof(disk));
	assert_true(uevent_drain(pair[0]));
	assert_int_equal(recv(pair[0], rest, sizeof(rest), MSG_DONTWAIT), -1);
	assert_false(uevent_drain(pair[0]));
	close(pair[0]);
	close(pair[1]);
}

static void test_open(void **state)
{
	struct sockaddr address;
	socklen_t size = sizeof(address);
	int fd = uevent_open();

	(void)state;
	if (fd < 0) /* no netlink here: the reason, never another descriptor */
		return;
	assert_int_equal(getsockname(fd, &address, &size), 0);
	assert_int_equal(address.sa_family, AF_NETLINK);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_matters), cmocka_unit_test(test_drain),
					   cmocka_unit_test(test_open)};

	return cmocka_run_group_tests_name("uevent", tests, NULL, NULL);
}
