/* A rig goes in; results that have expired are deleted on it, step by step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store_suite.h"
#include "workers/celery/result_clean.h"

#define ROWS 2600
#define TABLE "celery_taskmeta"
#define BEFORE "2026-01-01 00:00:00"

static void once(struct store *store, const char *sql)
{
	assert_ok(store_query_once(store, sql, strlen(sql), NULL, NULL, &err));
}

/* A third is old, a third young, a third not done; ids with gaps, and old ones to the end. */
static void fill(struct store *store)
{
	static const char *const done[] = { "'2025-12-31 23:59:59'", "'2026-01-01 00:00:00'", "NULL" };
	char sql[256];

	once(store, "CREATE TABLE celery_taskmeta (id INTEGER NOT NULL PRIMARY KEY, task_id VARCHAR(155) UNIQUE, date_done DATETIME)");
	assert_ok(store_begin(store, &err));
	for (int i = 0; i < ROWS; i++) {
		snprintf(sql, sizeof(sql), "INSERT INTO celery_taskmeta (id, task_id, date_done) VALUES (%d, 't%d', %s)", 7 + 3 * i, i, done[i % 3]);
		once(store, sql);
	}
	assert_ok(store_commit(store, &err));
}

static void what_has_expired_goes_in_small_steps(void **state)
{
	struct store *store = suite_store(state);
	const int64_t old = (ROWS + 2) / 3;
	int64_t id = 0, before = 0;
	int steps = 0;

	fill(store);
	for (bool more = true; more; steps++) {
		before = id;
		assert_true(steps < 10);
		assert_ok(result_clean_step(store, TABLE, slice_of(BEFORE), &id, &more, &err));
		assert_true(more == (id > before));
		if (steps == 0) /* no more than it may look at */
			assert_int_equal(ROWS - (RESULT_CLEAN_ROWS + 2) / 3, suite_count(store, "SELECT COUNT(*) FROM celery_taskmeta"));
	}
	assert_int_equal((ROWS + RESULT_CLEAN_ROWS - 1) / RESULT_CLEAN_ROWS + 1, steps);
	assert_int_equal(ROWS - old, suite_count(store, "SELECT COUNT(*) FROM celery_taskmeta"));
	assert_int_equal(0, suite_count(store, "SELECT COUNT(*) FROM celery_taskmeta WHERE date_done < '" BEFORE "'"));
	once(store, "DROP TABLE celery_taskmeta");
}

/* The steps before a row that somebody has locked are done, and its own is done later. */
static void a_step_that_fails_can_be_done_again(void **state)
{
	struct store *store = suite_store(state);
	struct store *other = suite_second();
	int64_t id = 0, there;
	bool more = false;

	fill(store);
	assert_ok(result_clean_step(store, TABLE, slice_of(BEFORE), &id, &more, &err));
	assert_ok(store_begin(other, &err));
	assert_ok(store_run(other, "UPDATE celery_taskmeta SET date_done = '2025-01-01 00:00:00' WHERE id = 4507", NULL, 0, NULL, &err));
	there = id;
	assert_fails(ERR_CONFLICT, result_clean_step(store, TABLE, slice_of(BEFORE), &id, &more, &err));
	assert_int_equal(there, id);
	assert_ok(store_commit(other, &err));
	while (more)
		assert_ok(result_clean_step(store, TABLE, slice_of(BEFORE), &id, &more, &err));
	assert_int_equal(0, suite_count(store, "SELECT COUNT(*) FROM celery_taskmeta WHERE date_done < '" BEFORE "'"));
	once(store, "DROP TABLE celery_taskmeta");
	store_close(other);
}

int result_clean_suite_run(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)
	const struct CMUnitTest tests[] = {
		T(what_has_expired_goes_in_small_steps),
		T(a_step_that_fails_can_be_done_again),
	};
#undef T

	return cmocka_run_group_tests_name("results that have expired", tests, NULL, NULL);
}
