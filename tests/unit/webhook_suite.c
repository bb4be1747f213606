/* A rig goes in; whose turn it is with a webhook, and what becomes of its deliveries, is tried on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/store/webhooks.h"
#include "tests/unit/store_suite.h"

#define ONE "00000000-0000-7000-8000-000000000001" /* two senders */
#define OTHER "00000000-0000-7000-8000-000000000002"
#define LEASE_MS 600000
#define DAY_MS INT64_C(86400000)

static void add_webhook(struct store *store, char id[UUID_TEXT])
{
	char secret[WEBHOOK_SECRET_TEXT];
	int64_t created_ms;

	assert_ok(webhooks_add(store, slice_of("https://example.com/"), SLICE_NONE, id, secret, &created_ms, &err));
}

static void add_events(struct store *store, int count)
{
	char id[32];

	for (int i = 0; i < count; i++) {
		struct webhook_event event = { slice_of(id), slice_of("product.created"), slice_of("{}") };

		snprintf(id, sizeof(id), "event-%d", i);
		assert_ok(store_begin(store, &err));
		assert_ok(webhooks_enqueue(store, &event, 1, &err));
		assert_ok(store_commit(store, &err));
	}
}

static bool claim(struct store *store, const char *holder, int64_t lease_ms, char id[UUID_TEXT])
{
	bool found = false;

	assert_ok(webhooks_claim(store, holder, lease_ms, id, &found, &err));
	return found;
}

/* Until the database's clock shows another millisecond. */
static void tick(struct store *store)
{
	char sql[160];
	int64_t first;

	snprintf(sql, sizeof(sql), "SELECT %s", store_now_ms(store));
	first = suite_count(store, sql);
	while (suite_count(store, sql) == first)
		continue;
}

static void served_longest_ago_comes_first(void **state)
{
	struct store *store = suite_store(state);
	char ids[4][UUID_TEXT], got[UUID_TEXT];
	bool seen[4] = { false };
	int order[4];

	for (int i = 0; i < 4; i++)
		add_webhook(store, ids[i]);
	add_events(store, 3);
	for (int turn = 0; turn < 12; turn++) {
		int which = 0;

		assert_true(claim(store, ONE, LEASE_MS, got));
		while (strcmp(got, ids[which]) != 0)
			which++;
		if (turn < 4) {
			assert_false(seen[which]); /* each once, in some order */
			seen[which] = true;
			order[turn] = which;
		}
		assert_int_equal(order[turn % 4], which);
		assert_ok(webhooks_let_go(store, ONE, got, &err));
		tick(store);
	}
}

static void let_go_is_free_at_once(void **state)
{
	struct store *store = suite_store(state);
	char id[UUID_TEXT], got[UUID_TEXT];

	add_webhook(store, id);
	add_events(store, 1);
	for (int i = 0; i < 20; i++) {
		assert_true(claim(store, ONE, LEASE_MS, got));
		assert_false(claim(store, OTHER, LEASE_MS, got));
		assert_ok(webhooks_let_go(store, ONE, id, &err));
		assert_true(claim(store, OTHER, LEASE_MS, got));
		assert_ok(webhooks_let_go(store, ONE, id, &err)); /* not its own any more */
		assert_false(claim(store, ONE, LEASE_MS, got));
		assert_ok(webhooks_let_go(store, OTHER, id, &err));
	}
	/* Also when the database's clock was set back meanwhile. */
	assert_ok(store_run(store, "UPDATE webhook SET lease_until = lease_until + 86400000", NULL, 0, NULL, &err));
	assert_true(claim(store, ONE, LEASE_MS, got));
}

/* A sender whose call took longer than its lease: another one has the webhook. */
static void a_lost_lease_changes_nothing(void **state)
{
	struct store *store = suite_store(state);
	struct webhook_delivery delivery = { .url = BUF_INIT, .secret = BUF_INIT, .event = BUF_INIT, .type = BUF_INIT, .body = BUF_INIT };
	char id[UUID_TEXT], got[UUID_TEXT];
	bool found = false;

	add_webhook(store, id);
	add_events(store, 2);
	assert_true(claim(store, ONE, LEASE_MS, got));
	assert_ok(webhooks_failed(store, ONE, id, "it answered 500", 0, &err));
	assert_int_equal(1, suite_count(store, "SELECT tries FROM webhook"));
	assert_true(claim(store, ONE, LEASE_MS, got));
	assert_ok(webhooks_next(store, ONE, -DAY_MS, id, &delivery, &found, &err)); /* it is over before it begins */
	assert_true(found);
	assert_int_equal(1, delivery.tries);
	assert_true(claim(store, OTHER, LEASE_MS, got));

	assert_ok(webhooks_failed(store, ONE, id, "it answered 500", 0, &err));
	assert_ok(webhooks_disable(store, ONE, id, "it answered 410", &found, &err));
	assert_false(found);
	assert_false(claim(store, ONE, LEASE_MS, got));
	assert_int_equal(0, suite_count(store, "SELECT disabled_at FROM webhook"));
	assert_int_equal(1, suite_count(store, "SELECT tries FROM webhook"));
	assert_ok(webhooks_delivered(store, ONE, id, &delivery, &err)); /* it was, so nobody repeats it */
	assert_int_equal(1, suite_count(store, "SELECT tries FROM webhook"));
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM webhook_delivery WHERE done_at = 0"));

	assert_ok(webhooks_next(store, OTHER, LEASE_MS, id, &delivery, &found, &err));
	assert_true(found);
	assert_ok(webhooks_delivered(store, OTHER, id, &delivery, &err));
	assert_int_equal(0, suite_count(store, "SELECT tries FROM webhook"));
	assert_ok(webhooks_disable(store, OTHER, id, "it answered 410", &found, &err));
	assert_true(found);
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM webhook WHERE disabled_at > 0"));
	webhook_delivery_release(&delivery);
}

/* Every third row is open, every third is young. */
static void fill(struct store *store, int rows)
{
	char sql[256];

	assert_ok(store_begin(store, &err));
	for (int i = 0; i < rows; i++) {
		snprintf(sql, sizeof(sql), "INSERT INTO webhook_delivery (webhook_id, event_id, type, body, done_at) VALUES ('%s', 'e%d', 't', '{}', %s)", ONE, i,
			i % 3 == 0 ? "0" : i % 3 == 1 ? "4102444800000" : "1700000000000");
		assert_ok(store_query_once(store, sql, strlen(sql), NULL, NULL, &err));
	}
	assert_ok(store_commit(store, &err));
}

static void what_was_delivered_long_ago_goes_in_small_steps(void **state)
{
	struct store *store = suite_store(state);
	int64_t deleted = 0, all = 0;
	char sql[256];

	fill(store, 30);
	assert_ok(webhooks_prune(store, &deleted, &err));
	assert_int_equal(10, deleted);
	assert_int_equal(20, suite_count(store, "SELECT COUNT(*) FROM webhook_delivery WHERE done_at = 0 OR done_at > 4000000000000"));
	assert_ok(webhooks_prune(store, &deleted, &err));
	assert_int_equal(0, deleted);
	assert_int_equal(20, suite_count(store, "SELECT COUNT(*) FROM webhook_delivery"));
	assert_ok(store_begin(store, &err));
	for (int i = 0; i < 2 * WEBHOOK_PRUNE_ROWS + 1; i++) {
		snprintf(sql, sizeof(sql), "INSERT INTO webhook_delivery (webhook_id, event_id, type, body, done_at) VALUES ('%s', 'o%d', 't', '{}', %d)", ONE, i,
			2 * WEBHOOK_PRUNE_ROWS + 1 - i);
		assert_ok(store_query_once(store, sql, strlen(sql), NULL, NULL, &err));
	}
	assert_ok(store_commit(store, &err));
	for (int step = 0; step < 3; step++, all += deleted) {
		assert_ok(webhooks_prune(store, &deleted, &err));
		assert_in_range(deleted, 1, WEBHOOK_PRUNE_ROWS);
	}
	assert_int_equal(2 * WEBHOOK_PRUNE_ROWS + 1, all);
	assert_int_equal(20, suite_count(store, "SELECT COUNT(*) FROM webhook_delivery"));
}

int webhook_suite_run(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)
	const struct CMUnitTest tests[] = {
		T(served_longest_ago_comes_first),
		T(let_go_is_free_at_once),
		T(a_lost_lease_changes_nothing),
		T(what_was_delivered_long_ago_goes_in_small_steps),
	};
#undef T

	return cmocka_run_group_tests_name("webhooks", tests, NULL, NULL);
}
