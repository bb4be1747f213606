/* How long lists of friends were: known for a while, and never another author's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workers/fanout_sizes.h"

#define FAR INT64_C(747252672249856)

static void a_size_is_known_for_half_a_minute(void **state)
{
	struct fanout_sizes *sizes = fanout_sizes_new();
	size_t size = 7;

	(void)state;
	assert_false(fanout_sizes_get(sizes, FAR, 0, &size));
	fanout_sizes_put(sizes, FAR, 1000, 20);
	assert_true(fanout_sizes_get(sizes, FAR, 30999, &size));
	assert_int_equal(20, size);
	assert_false(fanout_sizes_get(sizes, FAR, 31000, &size));
	fanout_sizes_put(sizes, FAR, 31000, 0);
	assert_true(fanout_sizes_get(sizes, FAR, 31000, &size));
	assert_int_equal(0, size);
	assert_false(fanout_sizes_get(sizes, FAR + 1, 31000, &size));
	fanout_sizes_free(sizes);
}

static void many_authors_keep_apart(void **state)
{
	enum { MANY = 200000 };
	struct fanout_sizes *sizes = fanout_sizes_new();
	size_t size, known = 0;

	(void)state;
	for (int64_t i = 0; i < MANY; i++)
		fanout_sizes_put(sizes, FAR + i * 64, 0, (size_t)i);
	for (int64_t i = 0; i < MANY; i++)
		if (fanout_sizes_get(sizes, FAR + i * 64, 0, &size)) {
			assert_int_equal(i, size);
			known++;
		}
	assert_in_range(known, 25000, 32768); /* nearly every place is taken: the hash spreads them */
	fanout_sizes_free(sizes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_size_is_known_for_half_a_minute),
		cmocka_unit_test(many_authors_keep_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
