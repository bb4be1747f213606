/* Rows of before a moment go, a few at a time; all others stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/store/posts.h"
#include "common/store/prune.h"
#include "common/store/rows.h"
#include "tests/unit/store_suite.h"

#define NOW INT64_C(1767225600000) /* 2026-01-01T00:00:00Z */

static const struct prune_kind *kind(const char *name)
{
	for (size_t i = 0; i < prune_count; i++)
		if (strcmp(prune_table[i].name, name) == 0)
			return &prune_table[i];
	fail_msg("no kind %s", name);
	return NULL;
}

static void add_command(struct store *store, int number, int64_t applied_ms)
{
	char id[64], time[ROWS_TIME];
	struct store_value values[2];

	snprintf(id, sizeof(id), "0190163d-8694-739b-aea5-%012d", number);
	values[0] = store_text(slice_of(id));
	values[1] = store_text(rows_time(applied_ms, time));
	assert_ok(store_run(store, "INSERT INTO command (id, type, entity_id, outcome, body, applied_at) VALUES (?, 'product.create', 5, 'done', '{}', ?)",
		values, 2, NULL, &err));
}

static void commands_go_by_the_time_when_they_were_applied(void **state)
{
	struct store *store = suite_store(state);
	int64_t rows = -1, deleted = -1;

	for (int i = 0; i < 8; i++)
		add_command(store, i, NOW + i); /* a millisecond apart */
	assert_ok(kind("commands")->count(store, NOW + 5, &rows, &err));
	assert_int_equal(5, rows);
	assert_ok(kind("commands")->some(store, NOW + 5, 3, &deleted, &err));
	assert_int_equal(3, deleted);
	assert_int_equal(0, suite_count(store, "SELECT COUNT(*) FROM command WHERE id < '0190163d-8694-739b-aea5-000000000003'"));
	assert_ok(kind("commands")->some(store, NOW + 5, 3, &deleted, &err));
	assert_int_equal(2, deleted);
	assert_ok(kind("commands")->some(store, NOW + 5, 3, &deleted, &err));
	assert_int_equal(0, deleted);
	assert_int_equal(3, suite_count(store, "SELECT COUNT(*) FROM command WHERE id >= '0190163d-8694-739b-aea5-000000000005'"));
}

static void chunks_go_when_they_are_done_and_their_post_is_old(void **state)
{
	struct store *store = suite_store(state);
	const int64_t old = id_first_of(NOW - 1) | 77, young = id_first_of(NOW);
	const int64_t friends[] = { 7, 8 };
	int64_t rows = -1, deleted = -1;

	for (int64_t n = 0; n < 4; n++) {
		assert_ok(plan_add(store, old, n, friends, 2, &err));
		assert_ok(plan_add(store, young, n, friends, 2, &err));
		if (n == 1)
			continue;
		assert_ok(plan_done(store, old, n, &err));
		assert_ok(plan_done(store, young, n, &err));
	}
	assert_ok(kind("chunks")->count(store, NOW, &rows, &err));
	assert_int_equal(3, rows);
	assert_ok(kind("chunks")->some(store, NOW, 2, &deleted, &err));
	assert_int_equal(2, deleted);
	assert_ok(kind("chunks")->some(store, NOW, 2, &deleted, &err));
	assert_int_equal(1, deleted);
	assert_ok(kind("chunks")->some(store, NOW, 2, &deleted, &err));
	assert_int_equal(0, deleted);
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM fanout_chunk WHERE done = 0 AND n = 1 AND post_id < (SELECT MAX(post_id) FROM fanout_chunk)"));
	assert_int_equal(5, suite_count(store, "SELECT COUNT(*) FROM fanout_chunk"));
}

static bool is_over(void *arg, const struct prune_kind *which, int64_t deleted)
{
	int64_t *asked = arg;

	assert_string_equal("commands", which->name);
	assert_true(deleted <= PRUNE_ROWS + *asked * PRUNE_ROWS);
	return ++*asked == 2;
}

static void all_of_them_go_in_steps_until_it_is_over(void **state)
{
	struct store *store = suite_store(state);
	int64_t asked = 0;

	assert_ok(store_begin(store, &err));
	for (int i = 0; i < 3 * PRUNE_ROWS; i++)
		add_command(store, i, NOW + i);
	assert_ok(store_commit(store, &err));
	assert_ok(prune_all(kind("commands"), store, NOW + 10 * PRUNE_ROWS, is_over, &asked, &err));
	assert_int_equal(PRUNE_ROWS, suite_count(store, "SELECT COUNT(*) FROM command"));
	asked = 10;
	assert_ok(prune_all(kind("commands"), store, NOW + 10 * PRUNE_ROWS, is_over, &asked, &err));
	assert_int_equal(0, suite_count(store, "SELECT COUNT(*) FROM command"));
}

/* Two at once take turns, or wait a moment for each other. */
static void two_may_prune_at_once(void **state)
{
	struct store *store = suite_store(state);
	struct store *second = suite_second();
	int64_t asked = 10, deleted = -1;

	for (int i = 0; i < 20; i++)
		add_command(store, i, NOW + i);
	assert_ok(kind("commands")->some(store, NOW + 100, 5, &deleted, &err));
	assert_int_equal(5, deleted);
	assert_ok(kind("commands")->some(second, NOW + 100, 5, &deleted, &err));
	assert_int_equal(5, deleted);
	assert_ok(prune_all(kind("commands"), second, NOW + 100, is_over, &asked, &err));
	assert_ok(kind("commands")->some(store, NOW + 100, 5, &deleted, &err));
	assert_int_equal(0, deleted);
	store_close(second);
}

int prune_suite_run(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)
	const struct CMUnitTest tests[] = {
		T(commands_go_by_the_time_when_they_were_applied),
		T(chunks_go_when_they_are_done_and_their_post_is_old),
		T(all_of_them_go_in_steps_until_it_is_over),
		T(two_may_prune_at_once),
	};
#undef T

	return cmocka_run_group_tests_name("prune", tests, NULL, NULL);
}
