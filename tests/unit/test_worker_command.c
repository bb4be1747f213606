/* Commands through the worker, against a database: applied once, with the same outcome, event and result at every replay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/queue/topics.h"
#include "tests/unit/worker_help.h"

extern const struct worker_ops command_worker;

/* UUIDs of version 7 that differ in their last digits; their time is 2026-01-01T00:00:00.123Z. */
#define ID(last) "019b76da-a87b-7000-8000-0000000000" last

#define PARTICIPANT(last, id, name) \
	"{\"v\":1,\"command\":\"" ID(last) "\",\"type\":\"participant.create\",\"id\":" id ",\"data\":{\"name\":\"" name "\"}}"
#define FRIEND(last, id, from, to) \
	"{\"v\":1,\"command\":\"" ID(last) "\",\"type\":\"friend.create\",\"id\":" id ",\"data\":{\"from\":" from ",\"to\":" to "}}"
#define PRODUCT(last, id, name, price) \
	"{\"v\":1,\"command\":\"" ID(last) "\",\"type\":\"product.create\",\"id\":" id ",\"data\":{\"name\":\"" name "\",\"price\":" price "}}"
#define DELETION(last, id) "{\"v\":1,\"command\":\"" ID(last) "\",\"type\":\"product.delete\",\"id\":" id ",\"data\":{}}"

static void assert_result(const struct desk *desk, size_t n, const char *command, bool is_done, const char *body)
{
	const struct record *record = desk_output(desk, TOPIC_RESULTS, n);
	struct result result;
	struct err err = ERR_INIT;

	assert_int_equal(0, result_decode(&result, record->value, &err));
	assert_string_equal(command, result.command);
	assert_int_equal(is_done, result.is_done);
	assert_int_equal(strlen(body), result.body.len);
	assert_memory_equal(body, result.body.data, result.body.len);
	result_release(&result);
}

static void assert_event(const struct desk *desk, size_t n, const char *key, const char *value, const char *type, const char *id)
{
	const struct record *record = desk_output(desk, TOPIC_PRODUCT_EVENTS, n);

	assert_int_equal(-1, record->partition);
	assert_true(slice_is(record->key, key));
	assert_true(slice_is(record->value, value));
	assert_true(slice_is(record_header_get(record, "ce_specversion"), "1.0"));
	assert_true(slice_is(record_header_get(record, "ce_id"), id));
	assert_true(slice_is(record_header_get(record, "ce_source"), "/feedmill/products"));
	assert_true(slice_is(record_header_get(record, "ce_type"), type));
	assert_true(slice_is(record_header_get(record, "ce_time"), "2026-01-01T00:00:00.123Z"));
	assert_true(slice_is(record_header_get(record, "ce_subject"), key));
	assert_true(slice_is(record_header_get(record, "content-type"), "application/json"));
	assert_int_equal(8, record->header_count);
}

static void add_a_bit_of_everything(struct desk *desk)
{
	desk_add(desk, PARTICIPANT("01", "1", "Ann"), "3");
	desk_add(desk, PARTICIPANT("02", "2", "B\\u00f6b"), "3");
	desk_add(desk, FRIEND("03", "10", "2", "1"), "3");
	desk_add(desk, PRODUCT("04", "20", "Tea \\\"x\\\"", "1.50"), "3");
	desk_add(desk, PRODUCT("05", "21", "Cup", "7"), NULL);
	desk_add(desk, DELETION("06", "20"), "3");
}

static void check_a_bit_of_everything(struct desk *desk)
{
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM participant"));
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM friend WHERE id = 10"));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM product WHERE id = 21 AND name = 'Cup' AND price = 7"));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM product"));
	assert_int_equal(6, desk_number(desk, "SELECT COUNT(*) FROM command WHERE outcome = 'done'"));
	assert_int_equal(5, desk_sent(desk, TOPIC_RESULTS));
	assert_result(desk, 0, ID("01"), true, "{\"id\":1,\"name\":\"Ann\",\"link\":\"/participant/1\"}");
	assert_result(desk, 2, ID("03"), true, "{\"id\":10,\"from\":\"/participant/2\",\"to\":\"/participant/1\"}");
	assert_result(desk, 3, ID("04"), true, "{\"id\":20,\"name\":\"Tea \\\"x\\\"\",\"price\":1.5}");
	assert_result(desk, 4, ID("06"), true, "{\"status\":\"deleted\"}");
	assert_int_equal(3, desk_sent(desk, TOPIC_PRODUCT_EVENTS));
	assert_event(desk, 0, "20", "{\"action\":\"created\",\"id\":20,\"name\":\"Tea \\\"x\\\"\"}", "product.created", ID("04"));
	assert_event(desk, 1, "21", "{\"action\":\"created\",\"id\":21,\"name\":\"Cup\"}", "product.created", ID("05"));
	assert_event(desk, 2, "20", "{\"action\":\"deleted\",\"id\":20}", "product.deleted", ID("06"));
	assert_true(slice_is(record_header_get(desk_output(desk, TOPIC_PRODUCT_EVENTS, 0), "ce_sequence"), "1"));
	assert_true(slice_is(record_header_get(desk_output(desk, TOPIC_PRODUCT_EVENTS, 2), "ce_sequence"), "2"));
}

static void commands_are_applied_in_order_and_a_replay_says_the_same(void **state)
{
	struct desk *desk = desk_open(state, &command_worker);

	add_a_bit_of_everything(desk);
	for (int run = 0; run < 3; run++) {
		assert_int_equal(0, desk_run(desk));
		check_a_bit_of_everything(desk);
	}
	desk_close(desk);
}

static void a_friendship_is_symmetric_and_there_once(void **state)
{
	struct desk *desk = desk_open(state, &command_worker);

	desk_people(desk, 1, 2);
	desk_add(desk, FRIEND("01", "10", "1", "2"), "0");
	desk_add(desk, FRIEND("02", "11", "2", "1"), "0");
	assert_int_equal(0, desk_run(desk));
	desk_clear(desk);
	desk_add(desk, FRIEND("03", "12", "1", "2"), "0");
	assert_int_equal(0, desk_run(desk));
	assert_result(desk, 0, ID("03"), true, "{\"id\":10,\"from\":\"/participant/1\",\"to\":\"/participant/2\"}");
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM friend"));
	assert_int_equal(0, desk_run(desk)); /* its ledger row has another id than the friendship: still the same command */
	assert_int_equal(DONE, desk->items[0].outcome);
	assert_int_equal(3, desk_number(desk, "SELECT COUNT(*) FROM command"));
	desk_close(desk);
}

static void what_is_not_there_is_a_failed_outcome_without_event(void **state)
{
	struct desk *desk = desk_open(state, &command_worker);

	desk_people(desk, 1, 1);
	desk_add(desk, DELETION("01", "5"), "2");
	desk_add(desk, FRIEND("02", "10", "1", "9"), "2");
	for (int run = 0; run < 2; run++) {
		assert_int_equal(0, desk_run(desk));
		assert_int_equal(2, desk->outbox.count);
		assert_result(desk, 0, ID("01"), false, "{\"title\":\"Not Found\",\"status\":404,\"detail\":\"there is no product 5\"}");
		assert_result(desk, 1, ID("02"), false, "{\"title\":\"Not Found\",\"status\":404,\"detail\":\"there is no participant 9\"}");
		assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM command WHERE outcome = 'failed'"));
		assert_int_equal(0, desk_number(desk, "SELECT COUNT(*) FROM friend"));
	}
	desk_close(desk);
}

static void the_same_command_twice_in_a_batch_is_one(void **state)
{
	struct desk *desk = desk_open(state, &command_worker);

	desk_add(desk, PRODUCT("01", "20", "Tea", "1"), "1");
	desk_add(desk, PRODUCT("01", "20", "Tea", "1"), "1");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM product"));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM command"));
	assert_int_equal(2, desk_sent(desk, TOPIC_RESULTS));
	assert_int_equal(2, desk_sent(desk, TOPIC_PRODUCT_EVENTS));
	desk_close(desk);
}

static void a_command_id_with_other_content_is_refused(void **state)
{
	struct desk *desk = desk_open(state, &command_worker);

	desk_add(desk, PRODUCT("01", "20", "Tea", "1"), "1");
	desk_add(desk, PRODUCT("01", "21", "Cup", "1"), "1");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(DONE, desk->items[0].outcome);
	assert_int_equal(REJECT, desk->items[1].outcome);
	desk_clear(desk);
	desk_add(desk, DELETION("01", "20"), "1");
	desk_add(desk, PRODUCT("02", "22", "Pot", "1"), "1");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(REJECT, desk->items[0].outcome);
	assert_int_equal(DONE, desk->items[1].outcome);
	assert_int_equal(1, desk_sent(desk, TOPIC_RESULTS));
	assert_int_equal(2, desk_number(desk, "SELECT COUNT(*) FROM product WHERE id IN (20, 22)"));
	desk_close(desk);
}

/* An id of ours that another command has: a conflict first, as a race would be, then looked at and refused. */
static void an_entity_that_is_there_does_not_hold_up_the_others(void **state)
{
	struct desk *desk = desk_open(state, &command_worker);

	desk_people(desk, 1, 1);
	desk_add(desk, PARTICIPANT("01", "1", "thief"), "1");
	desk_add(desk, PARTICIPANT("02", "2", "honest"), "1");
	desk_add(desk, PARTICIPANT("03", "2", "copy"), "1");
	desk_add(desk, PRODUCT("04", "20", "Tea", "1"), "1");
	desk_add(desk, PRODUCT("05", "20", "Cup", "1"), "1");
	assert_int_equal(-1, desk_run(desk));
	assert_int_equal(ERR_CONFLICT, desk->err.kind);
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM participant"));
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(REJECT, desk->items[0].outcome);
	assert_int_equal(DONE, desk->items[1].outcome);
	assert_int_equal(REJECT, desk->items[2].outcome);
	assert_int_equal(DONE, desk->items[3].outcome);
	assert_int_equal(REJECT, desk->items[4].outcome);
	assert_int_equal(5, desk_sent(desk, TOPIC_RESULTS)); /* who asked hears that it failed */
	assert_result(desk, 0, ID("01"), false, "{\"title\":\"Conflict\",\"status\":409,\"detail\":\"the id belongs to another command\"}");
	assert_int_equal(3, desk_number(desk, "SELECT COUNT(*) FROM command WHERE outcome = 'rejected'"));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM participant WHERE name = 'honest'"));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM product WHERE name = 'Tea'"));
	desk_close(desk);
}

static void what_is_not_a_command_is_rejected_and_the_rest_goes_on(void **state)
{
	static const char *const bad[] = {
		"",
		"{}",
		"{\"v\":1,\"command\":\"" ID("01") "\",\"type\":\"product.explode\",\"id\":1,\"data\":{}}",
		"{\"v\":1,\"command\":\"nope\",\"type\":\"product.delete\",\"id\":1,\"data\":{}}",
		PRODUCT("02", "0", "Tea", "1"),
		PRODUCT("03", "1", "Tea", "1.005"),
		FRIEND("04", "1", "2", "2"),
	};
	const size_t count = sizeof(bad) / sizeof(bad[0]);
	struct desk *desk = desk_open(state, &command_worker);

	for (size_t i = 0; i < count; i++)
		desk_add(desk, bad[i], "1");
	desk_add(desk, PRODUCT("05", "1", "Tea", "1"), "1");
	assert_int_equal(0, desk_run(desk));
	for (size_t i = 0; i < count; i++)
		assert_int_equal(REJECT, desk->items[i].outcome);
	assert_int_equal(DONE, desk->items[count].outcome);
	assert_int_equal(5, desk_sent(desk, TOPIC_RESULTS)); /* of those whose id can be read */
	assert_int_equal(5, desk_number(desk, "SELECT COUNT(*) FROM command"));
	assert_int_equal(4, desk_number(desk, "SELECT COUNT(*) FROM command WHERE outcome = 'rejected'"));
	assert_int_equal(0, desk_run(desk)); /* a replay says the same */
	assert_int_equal(5, desk_sent(desk, TOPIC_RESULTS));
	assert_int_equal(5, desk_number(desk, "SELECT COUNT(*) FROM command"));
	desk_close(desk);
}

/* What was rejected is applied when its record comes again and can be: its row in the ledger gives way. */
static void a_rejected_command_is_applied_after_a_fix(void **state)
{
	struct desk *desk = desk_open(state, &command_worker);

	desk_add(desk, "{\"v\":9,\"command\":\"" ID("01") "\"}", "1"); /* of a program that is not here yet */
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(REJECT, desk->items[0].outcome);
	assert_int_equal(1, desk_sent(desk, TOPIC_RESULTS));
	desk_clear(desk);
	desk_add(desk, PRODUCT("01", "20", "Tea", "1"), "1");
	desk_add(desk, "{\"command\":\"" ID("01") "\"}", "1"); /* beside a good one of that id it says nothing */
	for (int run = 0; run < 2; run++) {
		assert_int_equal(0, desk_run(desk));
		assert_int_equal(DONE, desk->items[0].outcome);
		assert_int_equal(REJECT, desk->items[1].outcome);
		assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM command"));
		assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM command WHERE outcome = 'done' AND type = 'product.create'"));
		assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM product"));
		assert_result(desk, 0, ID("01"), true, "{\"id\":20,\"name\":\"Tea\",\"price\":1}");
	}
	desk_close(desk);
}

/* The database does not take it: alone, it fails with that as its outcome; in company the batch is halved first. */
static void what_the_database_refuses_is_the_outcome_of_that_command(void **state)
{
	struct desk *desk = desk_open(state, &command_worker);

	desk_sql(desk, desk_is_on_server(desk) ? "ALTER TABLE product ADD CONSTRAINT cheap CHECK (price < 10)"
					       : "CREATE TRIGGER cheap BEFORE INSERT ON product WHEN NEW.price + 0 >= 10 BEGIN SELECT RAISE(ABORT, 'cheap'); END");
	desk_add(desk, PRODUCT("01", "20", "Tea", "1"), "1");
	desk_add(desk, PRODUCT("02", "21", "Car", "9000"), "1");
	assert_int_equal(-1, desk_run(desk));
	assert_int_equal(ERR_INVALID, desk->err.kind);
	desk_clear(desk);
	desk_add(desk, PRODUCT("02", "21", "Car", "9000"), "1");
	for (int run = 0; run < 2; run++) {
		assert_int_equal(0, desk_run(desk));
		assert_int_equal(REJECT, desk->items[0].outcome);
		assert_non_null(strstr(desk->items[0].why.message, "cheap"));
		assert_int_equal(1, desk_sent(desk, TOPIC_RESULTS));
		assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM command WHERE outcome = 'rejected' AND body LIKE '%cheap%'"));
	}
	desk_sql(desk, desk_is_on_server(desk) ? "ALTER TABLE product DROP CONSTRAINT cheap" : "DROP TRIGGER cheap");
	assert_int_equal(0, desk_run(desk));
	assert_int_equal(DONE, desk->items[0].outcome);
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM command WHERE outcome = 'done'"));
	assert_int_equal(1, desk_number(desk, "SELECT COUNT(*) FROM product"));
	desk_close(desk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_are_applied_in_order_and_a_replay_says_the_same),
		cmocka_unit_test(a_friendship_is_symmetric_and_there_once),
		cmocka_unit_test(what_is_not_there_is_a_failed_outcome_without_event),
		cmocka_unit_test(the_same_command_twice_in_a_batch_is_one),
		cmocka_unit_test(a_command_id_with_other_content_is_refused),
		cmocka_unit_test(an_entity_that_is_there_does_not_hold_up_the_others),
		cmocka_unit_test(what_is_not_a_command_is_rejected_and_the_rest_goes_on),
		cmocka_unit_test(a_rejected_command_is_applied_after_a_fix),
		cmocka_unit_test(what_the_database_refuses_is_the_outcome_of_that_command),
	};

	return desk_tests(tests);
}
