/* Posts through the workers fanout and chunk, against a database: one inbound row a friend, whatever comes twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/queue/topics.h"
#include "tests/unit/worker_help.h"

extern const struct worker_ops fanout_worker, chunk_worker;

static void assert_result_of(const struct record *record, int64_t post, int32_t gateway)
{
	struct result result;
	struct err err = ERR_INIT;
	char command[UUID_TEXT];

	assert_int_equal(gateway, record->partition);
	assert_int_equal(0, result_decode(&result, record->value, &err));
	uuid_of_post(post, command);
	assert_string_equal(command, result.command);
	assert_true(result.is_done);
	result_release(&result);
}

static void a_post_reaches_each_friend_once(void **state)
{
	struct desk *desk = desk_open(state, &fanout_worker);

	desk_befriend(desk, 1, 2, 4);
	desk_befriend(desk, 2, 3, 3);
	desk_add_post(desk, 100, 1, "7");
	desk_add_post(desk, 101, 2, NULL);
	desk_add_post(desk, 102, 9, "63"); /* nobody's friend */
	desk_add_post(desk, 103, 1, "64"); /* not a gateway */
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(4, desk_number(desk, "SELECT COUNT(*) FROM outbound WHERE chunks = 0"));
	assert_int_equal(3 + 2 + 3, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	assert_int_equal(3, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 100 AND from_id = 1 AND participant_id IN (2, 3, 4)"));
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 101 AND participant_id IN (1, 3)"));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM outbound WHERE posted_at = '2026-01-01 00:00:00.123' AND id = 100"));
	assert_int_equal(2, desk->outbox.count);
	assert_result_of(desk_output(desk, TOPIC_RESULTS, 0), 100, 7);
	assert_result_of(desk_output(desk, TOPIC_RESULTS, 1), 102, 63);
	desk_close(desk);
}

static void a_replay_writes_nothing_and_answers_again(void **state)
{
	struct desk *desk = desk_open(state, &fanout_worker);

	desk_befriend(desk, 1, 2, 4);
	desk_add_post(desk, 100, 1, "7");
	assert_int_equal(0, desk_run(desk));
	desk_befriend(desk, 1, 5, 5); /* a later friend gets nothing of it */
	desk_add_post(desk, 101, 1, NULL);
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(3, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 100"));
	assert_int_equal(4, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 101"));
	assert_int_equal(1, desk->outbox.count);
	assert_result_of(desk_output(desk, TOPIC_RESULTS, 0), 100, 7);
	desk_close(desk);
}

static void the_same_post_twice_in_a_batch_is_one(void **state)
{
	struct desk *desk = desk_open(state, &fanout_worker);

	desk_befriend(desk, 1, 2, 3);
	for (int i = 0; i < 3; i++)
		desk_add_post(desk, 100, 1, "1");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM outbound"));
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	assert_int_equal(3, desk_sent(desk, TOPIC_RESULTS));
	desk_close(desk);
}

static void what_is_not_a_post_is_rejected_and_the_rest_goes_on(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "null", "{\"v\":1}", "{\"v\":1,\"id\":\"1\",\"from\":1,\"subject\":\"\",\"story\":\"\"}" };
	struct desk *desk = desk_open(state, &fanout_worker);

	desk_befriend(desk, 1, 2, 3);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		desk_add(desk, bad[i], "1");
	desk_add_post(desk, 100, 1, NULL);
	assert_int_equal(0, desk_run(desk));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(REJECT, desk->items[i].outcome);
		assert_true(desk->items[i].why.message[0] != '\0');
	}
	assert_int_equal(DONE, desk->items[sizeof(bad) / sizeof(bad[0])].outcome);
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	assert_int_equal(0, desk->outbox.count);
	desk_close(desk);
}

static void a_batch_of_many_rows_is_split(void **state)
{
	struct desk *desk = desk_open(state, &fanout_worker);

	/* Of 20 authors each has 3,000 friends: 60,000 rows, two transactions. */
	desk_sql(desk, "INSERT INTO friend WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) "
		"SELECT a.i, 1000 + 60 * b.i + c.i, 1 FROM n a, n b, n c WHERE a.i <= 20 AND b.i <= 50");
	for (int64_t author = 1; author <= 20; author++)
		desk_add_post(desk, 200 + author, author, NULL);
	desk_sql(desk, "INSERT INTO outbound (id, participant_id, posted_at, subject, story) VALUES (219, 19, '2026-01-01 00:00:00.123', 's', 't')");
	assert_int_equal(0, desk_run(desk)); /* one is there: found in the second transaction, with the first committed */
	assert_int_equal(57000, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	desk_sql(desk, "DELETE FROM outbound WHERE id = 219");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(20, desk_number(desk, "SELECT COUNT(*) FROM outbound"));
	assert_int_equal(60000, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	assert_int_equal(3000, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 220 AND from_id = 20"));
	desk_close(desk);
}

/* ---- long lists */

static struct desk *open_with_chunks_of(void **state, int64_t chunk)
{
	struct desk *desk = desk_open(state, &fanout_worker);

	desk->settings.fanout_chunk = chunk;
	desk_reopen(desk);
	return desk;
}

static void use(struct desk *desk, const struct worker_ops *ops)
{
	desk_clear(desk);
	desk->ops->close(desk->state);
	desk->ops = ops;
	assert_int_equal(0, ops->open(&desk->settings, &desk->state, &desk->err));
}

static void a_long_list_is_planned_and_filled_in_chunks(void **state)
{
	struct desk *desk = open_with_chunks_of(state, 10);

	desk_befriend(desk, 1, 2, 26); /* 25: three chunks */
	desk_befriend(desk, 50, 2, 11); /* 10: just not too long */
	desk_add_post(desk, 100, 1, "5");
	desk_add_post(desk, 101, 50, "5");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(3, desk_number(desk, "SELECT chunks FROM outbound WHERE id = 100"));
	assert_int_equal(10, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	assert_int_equal(3, desk_sent(desk, TOPIC_CHUNKS));
	assert_int_equal(1, desk_sent(desk, TOPIC_RESULTS));
	assert_true(slice_is(desk_output(desk, TOPIC_CHUNKS, 2)->key, "100.2"));
	assert_true(slice_is(record_header_get(desk_output(desk, TOPIC_CHUNKS, 0), HEADER_REPLY), "5"));

	desk_befriend(desk, 1, 40, 40); /* between plan and chunk: gets nothing */
	use(desk, &chunk_worker);
	desk_add_chunk(desk, 100, 9, 2, "5"); /* whose post it is the plan says */
	desk_add_chunk(desk, 100, 1, 0, "5");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(15, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 100"));
	assert_int_equal(0, desk->outbox.count);
	desk_clear(desk);
	desk_add_chunk(desk, 100, 1, 1, "5");
	desk_add_chunk(desk, 100, 1, 1, NULL);
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(25, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 100 AND participant_id BETWEEN 2 AND 26"));
	assert_int_equal(25, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 100 AND from_id = 1"));
	assert_int_equal(1, desk->outbox.count);
	assert_result_of(desk_output(desk, TOPIC_RESULTS, 0), 100, 5);
	desk_close(desk);
}

/* Between two posts the author gets more friends than fit, or loses a plan to another worker: the size is that of before. */
static void a_size_that_is_out_of_date_changes_nothing(void **state)
{
	struct desk *desk = open_with_chunks_of(state, 10);

	desk_befriend(desk, 1, 2, 6);
	desk_add_post(desk, 100, 1, NULL);
	assert_int_equal(0, desk_run(desk));
	desk_befriend(desk, 1, 7, 26);
	desk_clear(desk);
	desk_add_post(desk, 101, 1, NULL);
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(5, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 100"));
	assert_int_equal(25, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 101"));
	assert_int_equal(0, desk_sent(desk, TOPIC_CHUNKS));
	desk_sql(desk, "INSERT INTO outbound (id, participant_id, posted_at, subject, story, chunks) VALUES (102, 1, '2026-01-01 00:00:00.123', 's', 't', 1)");
	desk_sql(desk, "INSERT INTO fanout_chunk (post_id, n, first_friend, last_friend, friends) VALUES (102, 0, 2, 2, x'02')");
	desk_clear(desk);
	desk_add_post(desk, 102, 1, NULL); /* planned by a worker that knew */
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(0, desk_number(desk, "SELECT COUNT(*) FROM inbound WHERE post_id = 102"));
	assert_int_equal(1, desk_sent(desk, TOPIC_CHUNKS));
	desk_close(desk);
}

static void a_replay_of_a_plan_sends_what_is_not_done(void **state)
{
	struct desk *desk = open_with_chunks_of(state, 10);

	desk_befriend(desk, 1, 2, 31);
	desk_add_post(desk, 100, 1, "5");
	desk_add_post(desk, 100, 1, "5"); /* twice in the batch: planned once, sent once */
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(3, desk_sent(desk, TOPIC_CHUNKS));
	use(desk, &chunk_worker);
	desk_add_chunk(desk, 100, 1, 1, NULL);
	assert_int_equal(0, desk_run(desk));

	use(desk, &fanout_worker);
	desk_befriend(desk, 1, 90, 99);
	desk_add_post(desk, 100, 1, "5");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(2, desk->outbox.count);
	assert_true(slice_is(desk_output(desk, TOPIC_CHUNKS, 0)->key, "100.0"));
	assert_true(slice_is(desk_output(desk, TOPIC_CHUNKS, 1)->key, "100.2"));
	assert_int_equal(3, desk_number(desk, "SELECT COUNT(*) FROM fanout_chunk"));

	use(desk, &chunk_worker);
	desk_add_chunk(desk, 100, 1, 0, NULL);
	desk_add_chunk(desk, 100, 1, 2, NULL);
	assert_int_equal(0, desk_run(desk));
	use(desk, &fanout_worker);
	desk_add_post(desk, 100, 1, "5");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(1, desk->outbox.count);
	assert_result_of(desk_output(desk, TOPIC_RESULTS, 0), 100, 5);
	assert_int_equal(30, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	desk_close(desk);
}

static void a_chunk_that_nobody_planned_is_rejected(void **state)
{
	struct desk *desk = desk_open(state, &chunk_worker);

	desk_add_chunk(desk, 100, 1, 0, "1");
	desk_add(desk, "{\"v\":1,\"post\":1}", "1");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(REJECT, desk->items[0].outcome);
	assert_int_equal(REJECT, desk->items[1].outcome);
	assert_int_equal(0, desk->outbox.count);
	desk_close(desk);
}

/* ---- failures */

static void a_table_that_is_not_there_is_fatal_and_a_lock_is_a_conflict(void **state)
{
	struct desk *desk = desk_open(state, &fanout_worker);

	desk_befriend(desk, 1, 2, 3);
	desk_sql(desk, "ALTER TABLE inbound RENAME TO elsewhere");
	desk_add_post(desk, 100, 1, "1");
	assert_int_equal(-1, desk_run(desk));
	assert_int_equal(ERR_FATAL, desk->err.kind);
	desk_sql(desk, "ALTER TABLE elsewhere RENAME TO inbound");
	assert_int_equal(0, desk_number(desk, "SELECT COUNT(*) FROM outbound"));

	desk->settings.mysql.lock_wait_s = 1;
	desk->settings.embedded.lock_wait_ms = 100;
	desk_reopen(desk);
	assert_int_equal(0, store_begin(desk->store, &desk->err));
	desk_sql(desk, "INSERT INTO inbound VALUES (2, 100, 9)");
	assert_int_equal(-1, desk_run(desk));
	assert_int_equal(ERR_CONFLICT, desk->err.kind);
	store_rollback(desk->store);
	assert_int_equal(0, desk_number(desk, "SELECT COUNT(*) FROM outbound"));
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	desk_close(desk);
}

static void a_connection_that_was_killed_comes_back(void **state)
{
	struct desk *desk = desk_open(state, &fanout_worker);
	char sql[64];

	if (!desk_is_on_server(desk)) {
		desk_close(desk);
		print_message("MYSQL_HOST is not set, and a file has no connections: ");
		skip();
	}
	desk_befriend(desk, 1, 2, 3);
	snprintf(sql, sizeof(sql), "KILL %lld", (long long)desk_number(desk,
		"SELECT MAX(id) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = DATABASE()"));
	desk_sql(desk, sql);
	desk_add_post(desk, 100, 1, NULL);
	for (int tries = 0; desk_run(desk) < 0; tries++) {
		assert_true(desk->err.kind == ERR_UNAVAILABLE || desk->err.kind == ERR_CONFLICT || desk->err.kind == ERR_UNKNOWN);
		assert_true(tries < 3);
	}
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM inbound"));
	desk_close(desk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_post_reaches_each_friend_once),
		cmocka_unit_test(a_replay_writes_nothing_and_answers_again),
		cmocka_unit_test(the_same_post_twice_in_a_batch_is_one),
		cmocka_unit_test(what_is_not_a_post_is_rejected_and_the_rest_goes_on),
		cmocka_unit_test(a_batch_of_many_rows_is_split),
		cmocka_unit_test(a_long_list_is_planned_and_filled_in_chunks),
		cmocka_unit_test(a_size_that_is_out_of_date_changes_nothing),
		cmocka_unit_test(a_replay_of_a_plan_sends_what_is_not_done),
		cmocka_unit_test(a_chunk_that_nobody_planned_is_rejected),
		cmocka_unit_test(a_table_that_is_not_there_is_fatal_and_a_lock_is_a_conflict),
		cmocka_unit_test(a_connection_that_was_killed_comes_back),
	};

	return desk_tests(tests);
}
