/* delays: lists that are read, and those that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/delays.h"

static void a_list_is_read_in_its_order(void **state)
{
	struct delays delays;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(0, delays_parse(" 5s, 1m ,10m,2h,250ms ", &delays, &err));
	assert_int_equal(5, delays.count);
	assert_string_equal("5s", delays.list[0].name);
	assert_int_equal(5000, delays.list[0].ms);
	assert_int_equal(60000, delays.list[1].ms);
	assert_int_equal(600000, delays.list[2].ms);
	assert_string_equal("2h", delays.list[3].name);
	assert_int_equal(7200000, delays.list[3].ms);
	assert_int_equal(250, delays.list[4].ms);
	assert_int_equal(0, delays_parse(DELAYS_INITIAL, &delays, &err));
	assert_int_equal(3, delays.count);
}

static void what_is_no_list_is_refused_and_changes_nothing(void **state)
{
	static const char *const wrong[] = { "", " ", "5", "s", "5 s", "0s", "-1s", "5d", "5s,", ",5s", "5s,,1m", "5s 1m", "5s, 5s", "25h",
		"99999999999999999999s", "1.5s", "5S", "1s,2s,3s,4s,5s,6s,7s,8s,9s", "000000000000005s" };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct delays delays = { .count = 77 };
		struct err err = ERR_INIT;

		if (delays_parse(wrong[i], &delays, &err) == 0)
			fail_msg("\"%s\" was taken", wrong[i]);
		assert_int_equal(ERR_INVALID, err.kind);
		assert_int_equal(77, delays.count);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_is_read_in_its_order),
		cmocka_unit_test(what_is_no_list_is_refused_and_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
