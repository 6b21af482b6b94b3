/* SPDX-License-Identifier: MIT */
/* What counts as work that a user owes time for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../common/clock.h"
#include "../../daemon/user.h"

#define ROUNDS 200

/* Requests at 30 a second of two users, each taking `took_ns`; what the second owes for work afterwards. */
static uint64_t owed_ns(uid_t uid, uint64_t begin_took_ns, uint64_t end_took_ns, uint64_t heavy_ns)
{
	struct user *plain = user_get(uid), *other;

	plain->sessions = 1; /* else it is free for the next one */
	other = user_get(uid + 1);
	other->sessions = 1;
	for (int i = 0; i < ROUNDS; i++) {
		user_charge_request(plain, begin_took_ns, true);
		user_charge_request(plain, end_took_ns, true);
		user_charge_request(other, begin_took_ns, true);
		user_charge_request(other, heavy_ns ? heavy_ns : end_took_ns, true);
	}
	uint64_t owes_ns = user_owes_ns(other, DEBT_WORK);
	plain->sessions = other->sessions = 0;
	return owes_ns;
}

/* On a slow processor plain requests are no work, and on any processor those that take many times as long as others'
 * are. */
static void slow_processor(void **state)
{
	(void)state;
	for (uint64_t slow = 1; slow <= 30; slow++) {
		uid_t uid = 1000 + 10 * (uid_t)slow;
		uint64_t begin_ns = slow * 30 * NS_PER_US, end_ns = slow * 20 * NS_PER_US;
		assert_true(owed_ns(uid, begin_ns, end_ns, 0) < 2 * NS_PER_S);
		assert_true(owed_ns(uid + 2, begin_ns, end_ns, 20 * end_ns + NS_PER_MS) > 30 * NS_PER_S);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slow_processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
