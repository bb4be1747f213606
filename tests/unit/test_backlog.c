/* What a group has still to do, from what each partition says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/queue/backlog.h"

static struct partition_backlog partition(int64_t committed, int64_t low, int64_t high, int64_t oldest_ms)
{
	return (struct partition_backlog){ { 0, committed, low, high }, committed > low ? committed : low, oldest_ms };
}

static void partitions_add_up(void **state)
{
	const struct partition_backlog partitions[] = { partition(5, 0, 9, 3000), partition(-1, 2, 4, 2000), partition(7, 0, 7, 0) };
	const struct backlog sum = backlog_sum(partitions, 3);

	(void)state;
	assert_int_equal(14, sum.position);
	assert_int_equal(20, sum.end);
	assert_int_equal(6, sum.lag);
	assert_int_equal(0, sum.lost); /* one that never began has lost nothing */
	assert_int_equal(2000, sum.oldest_ms);
	assert_false(sum.is_astray);
	assert_true(sum.is_begun);
	assert_false(backlog_sum(&partitions[1], 1).is_begun);
}

static void what_was_deleted_before_it_was_done_is_lost(void **state)
{
	const struct partition_backlog partitions[] = { partition(3, 5, 9, 1000), partition(12, 0, 9, 0) };
	const struct backlog sum = backlog_sum(partitions, 2);

	(void)state;
	assert_int_equal(2, sum.lost);
	assert_int_equal(4, sum.lag);
	assert_true(sum.is_astray); /* the second is behind the end */
}

static void retention_is_used_by_the_oldest(void **state)
{
	struct backlog backlog = { .oldest_ms = 1000 };

	(void)state;
	assert_true(backlog_used(&backlog, 1000, 1500) == 0.5);
	assert_true(backlog_used(&backlog, 1000, 3000) == 2.0);
	assert_true(backlog_used(&backlog, 1000, 500) == 0); /* from the future */
	assert_true(backlog_used(&backlog, -1, 3000) == 0);  /* kept for ever */
	backlog.oldest_ms = 0;
	assert_true(backlog_used(&backlog, 1000, 3000) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(partitions_add_up),
		cmocka_unit_test(what_was_deleted_before_it_was_done_is_lost),
		cmocka_unit_test(retention_is_used_by_the_oldest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
