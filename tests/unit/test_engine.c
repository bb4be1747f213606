/* The engine's parts that need no queue: attempts (what a return value means), the outbox, dead letters, and settlements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/trace.h"
#include "workers/engine/attempt.h"
#include "workers/engine/batch.h"
#include "workers/engine/deadletter.h"
#include "workers/engine/settle.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- attempt */

#define RECORDS 100
static struct record records[RECORDS];
static struct item items[RECORDS];

static void start(struct attempt *attempt, size_t count)
{
	attempt_start(attempt, items);
	for (size_t i = 0; i < count; i++) {
		records[i] = (struct record){ .topic = "t", .partition = (int32_t)(i % 2), .offset = (int64_t)i };
		attempt_add(attempt, &records[i]);
	}
}

static enum ruling handle_fails(struct attempt *attempt, enum err_kind kind, int64_t *wait_ms)
{
	struct err err = ERR_INIT;

	attempt_prepare(attempt);
	err_set(&err, kind, "because");
	return attempt_judge(attempt, -1, &err, wait_ms);
}

static void a_success_takes_the_whole_batch(void **state)
{
	struct attempt attempt;
	struct err err = ERR_INIT;
	int64_t wait_ms = 1;

	(void)state;
	start(&attempt, 7);
	attempt_prepare(&attempt);
	assert_int_equal(RULING_TAKEN, attempt_judge(&attempt, 0, &err, &wait_ms));
	assert_int_equal(0, wait_ms);
	assert_int_equal(0, attempt_take(&attempt, 7));
	assert_int_equal(0, attempt.count);
}

static void each_kind_has_its_ruling(void **state)
{
	static const struct {
		enum err_kind kind;
		enum ruling ruling;
	} rows[] = {
		{ ERR_UNAVAILABLE, RULING_DOWN }, { ERR_FULL, RULING_DOWN }, { ERR_CONFLICT, RULING_AGAIN },
		{ ERR_UNKNOWN, RULING_AGAIN }, { ERR_INVALID, RULING_HALVED }, { ERR_FATAL, RULING_FATAL },
	};
	struct attempt attempt;
	int64_t wait_ms;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		start(&attempt, 4);
		assert_int_equal(rows[i].ruling, handle_fails(&attempt, rows[i].kind, &wait_ms));
		assert_int_equal(4, attempt.count);
	}
}

static void conflicts_without_end_are_waited_for(void **state)
{
	struct attempt attempt;
	int64_t wait_ms, longest = 0;

	(void)state;
	start(&attempt, 4);
	for (int i = 1; i < ATTEMPT_CONFLICTS; i++) {
		assert_int_equal(RULING_AGAIN, handle_fails(&attempt, ERR_CONFLICT, &wait_ms));
		assert_true(wait_ms >= 1 && wait_ms <= 200);
	}
	for (int i = 0; i < 100; i++) {
		assert_int_equal(RULING_DOWN, handle_fails(&attempt, ERR_CONFLICT, &wait_ms));
		longest = wait_ms > longest ? wait_ms : longest;
	}
	assert_true(longest > 200 && longest <= 5000);
}

/* A batch with bad records, as a worker sees it: fails whole while one of them is in it. */
static size_t work_off(struct attempt *attempt, const bool *bad, bool *rejected)
{
	size_t calls = 0;

	while (attempt->count > 0) {
		const size_t width = attempt_width(attempt);
		struct err err = ERR_INIT;
		int64_t wait_ms;
		int rc = 0;

		attempt_prepare(attempt);
		for (size_t i = 0; i < width; i++)
			if (bad[attempt->items[i].record->offset])
				rc = err_set(&err, ERR_INVALID, "bad");
		calls++;
		if (attempt_judge(attempt, rc, &err, &wait_ms) == RULING_HALVED)
			continue;
		for (size_t i = 0; i < width; i++)
			if (attempt->items[i].outcome == REJECT)
				rejected[attempt->items[i].record->offset] = true;
		attempt_take(attempt, width);
	}
	return calls;
}

static void one_bad_record_is_found_by_halving(void **state)
{
	(void)state;
	for (size_t at = 0; at < RECORDS; at++) {
		struct attempt attempt;
		bool bad[RECORDS] = { false }, rejected[RECORDS] = { false };

		bad[at] = true;
		start(&attempt, RECORDS);
		assert_true(work_off(&attempt, bad, rejected) <= 16);
		assert_memory_equal(bad, rejected, sizeof(bad));
	}
}

static void every_bad_record_is_found(void **state)
{
	struct attempt attempt;
	bool bad[RECORDS] = { false }, rejected[RECORDS] = { false };

	(void)state;
	bad[0] = bad[1] = bad[50] = bad[98] = bad[99] = true;
	start(&attempt, RECORDS);
	work_off(&attempt, bad, rejected);
	assert_memory_equal(bad, rejected, sizeof(bad));
	memset(bad, 1, sizeof(bad));
	start(&attempt, RECORDS);
	work_off(&attempt, bad, rejected);
	assert_memory_equal(bad, rejected, sizeof(bad));
}

static void a_record_that_wants_another_try_stays_in_front(void **state)
{
	struct attempt attempt;
	int64_t wait_ms;

	(void)state;
	start(&attempt, 6);
	attempt_prepare(&attempt);
	assert_int_equal(RULING_TAKEN, attempt_judge(&attempt, 0, NULL, &wait_ms));
	attempt.items[1].outcome = RETRY;
	attempt.items[3].outcome = RETRY;
	attempt.items[4].outcome = REJECT;
	wait_ms = attempt_take(&attempt, 6);
	assert_true(wait_ms >= 1 && wait_ms <= 100);
	assert_int_equal(2, attempt.count);
	assert_int_equal(1, attempt.items[0].record->offset);
	assert_int_equal(3, attempt.items[1].record->offset);
	attempt_prepare(&attempt);
	assert_int_equal(2, attempt.items[0].tries);
}

static bool of_partition(const struct record *record, const void *arg)
{
	return record->partition == *(const int32_t *)arg;
}

static void records_of_a_lost_partition_are_dropped(void **state)
{
	struct attempt attempt;
	const int32_t lost = 1;
	int64_t wait_ms;

	(void)state;
	start(&attempt, 10);
	handle_fails(&attempt, ERR_INVALID, &wait_ms);
	attempt_drop(&attempt, of_partition, &lost);
	assert_int_equal(5, attempt.count);
	assert_int_equal(5, attempt_width(&attempt));
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(0, attempt.items[i].record->partition);
}

/* ---- batch */

static void emitted_records_are_copies_with_a_child_of_the_trace(void **state)
{
	static const char parent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	struct record in = { .topic = "in" }, out = { .topic = "out", .partition = 3 };
	struct item item = { .record = &in };
	struct outbox outbox = { NULL, 0, 0 };
	struct batch batch = { &item, 1, &outbox, NULL };
	char value[] = "value";
	char header[] = "one";
	char trace[33];
	const struct record *copy;
	struct slice child;

	(void)state;
	record_header_add(&in, HEADER_TRACE, slice_of(parent));
	out.value = slice_of(value);
	record_header_add(&out, "a", slice_of(header));
	record_header_add(&out, "null", SLICE_NONE);
	batch_emit(&batch, 0, &out);
	memset(value, 'x', sizeof(value) - 1);
	memset(header, 'x', sizeof(header) - 1);

	assert_int_equal(1, outbox.count);
	copy = outbox_at(&outbox, 0);
	assert_string_equal("out", copy->topic);
	assert_int_equal(3, copy->partition);
	assert_null(copy->key.data);
	assert_true(slice_is(copy->value, "value"));
	assert_true(slice_is(record_header_get(copy, "a"), "one"));
	assert_null(copy->headers[1].value.data);
	child = record_header_get(copy, HEADER_TRACE);
	assert_int_equal(55, child.len);
	assert_memory_equal(parent, child.data, 36);          /* version and trace id */
	assert_memory_not_equal(parent + 36, child.data + 36, 16); /* another span */
	record_trace(copy, trace);
	assert_string_equal("0af7651916cd43dd8448eb211c80319c", trace);
	assert_true(batch_still_owned(&batch));
	outbox_release(&outbox);
}

/* ---- dead letters */

static void a_dead_letter_keeps_the_record_and_says_why(void **state)
{
	struct record in = { .topic = "feed.posts", .partition = 2, .offset = 77, .timestamp_ms = 1234, .key = slice_of("7") };
	struct item item = { .record = &in, .outcome = REJECT, .tries = 3 };
	struct dead_letter letter;

	(void)state;
	in.value = slice_of("{broken");
	record_header_add(&in, "mine", slice_of("kept"));
	record_header_add(&in, HEADER_ERROR, slice_of("of an earlier death"));
	err_set(&item.why, ERR_INVALID, "not JSON");
	dead_letter_make(&letter, "fanout", &item);
	assert_string_equal("fanout.dlq", letter.record.topic);
	assert_int_equal(-1, letter.record.partition);
	assert_true(slice_is(letter.record.key, "7"));
	assert_true(slice_is(letter.record.value, "{broken"));
	assert_true(slice_is(record_header_get(&letter.record, "mine"), "kept"));
	assert_true(slice_is(record_header_get(&letter.record, HEADER_ORIGIN_TOPIC), "feed.posts"));
	assert_true(slice_is(record_header_get(&letter.record, HEADER_ORIGIN_PARTITION), "2"));
	assert_true(slice_is(record_header_get(&letter.record, HEADER_ORIGIN_OFFSET), "77"));
	assert_true(slice_is(record_header_get(&letter.record, HEADER_ORIGIN_TIMESTAMP), "1234"));
	assert_true(slice_is(record_header_get(&letter.record, HEADER_ATTEMPTS), "3"));
	assert_true(slice_is(record_header_get(&letter.record, HEADER_ERROR), "not JSON"));
	assert_true(slice_is(record_header_get(&letter.record, HEADER_WORKER), "fanout"));
	assert_int_equal(8, letter.record.header_count);
}

/* ---- settle: a queue of four partitions that remembers, and acknowledges when told */

struct fake {
	sent_fn *done[64];
	void *done_arg[64];
	size_t sent;
	int64_t stored[4], sought[4];
	enum err_kind send_error, seek_error;
};

static int fake_send(void *arg, const struct record *record, sent_fn *done, void *done_arg, struct err *err)
{
	struct fake *fake = arg;

	(void)record;
	if (fake->send_error != ERR_NONE)
		return err_set(err, fake->send_error, "can't send");
	fake->done[fake->sent] = done;
	fake->done_arg[fake->sent++] = done_arg;
	return 0;
}

static void fake_store(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	assert_string_equal("in", topic);
	((struct fake *)arg)->stored[partition] = offset;
}

static int fake_seek(void *arg, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct fake *fake = arg;

	assert_string_equal("in", topic);
	if (fake->seek_error != ERR_NONE)
		return err_set(err, fake->seek_error, "can't seek");
	fake->sought[partition] = offset;
	return 0;
}

static const struct settle_ops fake_ops = { .send = fake_send, .store = fake_store, .seek = fake_seek };

static void acknowledge(struct fake *fake, size_t i, enum sent sent)
{
	fake->done[i](fake->done_arg[i], sent, sent == SENT_STORED ? NULL : "broker said no");
}

static struct settlement *settlement_of(struct settler *settler, int32_t partition, int64_t from, int64_t to, size_t outputs)
{
	struct settlement *settlement = settle_open(settler);
	const struct record output = { .topic = "out" };
	struct err err = ERR_INIT;

	for (int64_t offset = from; offset < to; offset++)
		settle_cover(settlement, "in", partition, offset);
	for (size_t i = 0; i < outputs; i++)
		assert_int_equal(0, settle_send(settlement, &output, &err));
	settle_seal(settlement);
	return settlement;
}

static void offsets_are_stored_in_order_of_the_batches(void **state)
{
	struct fake fake = { .sent = 0 };
	struct settler *settler = settler_new(&fake_ops, &fake);
	struct err err = ERR_INIT;

	(void)state;
	settlement_of(settler, 0, 0, 10, 2);
	settlement_of(settler, 1, 5, 9, 0);
	settlement_of(settler, 0, 10, 20, 1);
	acknowledge(&fake, 2, SENT_STORED);
	acknowledge(&fake, 0, SENT_STORED);
	assert_int_equal(0, settle_collect(settler, &err));
	assert_int_equal(3, settle_depth(settler));
	assert_int_equal(0, fake.stored[0] + fake.stored[1]);
	assert_false(settle_wait(settler, 1));
	acknowledge(&fake, 1, SENT_STORED);
	assert_true(settle_wait(settler, 1000));
	assert_int_equal(0, settle_collect(settler, &err));
	assert_int_equal(0, settle_depth(settler));
	assert_int_equal(20, fake.stored[0]);
	assert_int_equal(9, fake.stored[1]);
	settler_free(settler);
}

static void an_open_batch_is_not_stored(void **state)
{
	struct fake fake = { .sent = 0 };
	struct settler *settler = settler_new(&fake_ops, &fake);
	struct settlement *settlement = settle_open(settler);
	struct err err = ERR_INIT;

	(void)state;
	settle_cover(settlement, "in", 0, 3);
	assert_int_equal(0, settle_collect(settler, &err));
	assert_int_equal(0, fake.stored[0]);
	settle_seal(settlement);
	assert_int_equal(0, settle_collect(settler, &err));
	assert_int_equal(4, fake.stored[0]);
	settler_free(settler);
}

static void an_output_that_is_not_stored_takes_all_later_batches_back(void **state)
{
	struct fake fake = { .sent = 0 };
	struct settler *settler = settler_new(&fake_ops, &fake);
	struct err err = ERR_INIT;

	(void)state;
	settlement_of(settler, 0, 0, 10, 1);
	settlement_of(settler, 0, 10, 20, 1);
	settlement_of(settler, 1, 40, 50, 1);
	acknowledge(&fake, 0, SENT_STORED);
	acknowledge(&fake, 1, SENT_UNKNOWN);
	assert_int_equal(-1, settle_collect(settler, &err));
	assert_string_equal("broker said no", err.message);
	assert_int_equal(10, fake.stored[0]);

	fake.seek_error = ERR_UNAVAILABLE;
	assert_int_equal(-1, settle_rewind(settler, &err));
	assert_int_equal(2, settle_depth(settler));
	fake.seek_error = ERR_NONE;
	assert_int_equal(0, settle_rewind(settler, &err));
	assert_int_equal(10, fake.sought[0]);
	assert_int_equal(40, fake.sought[1]);
	assert_int_equal(0, settle_depth(settler));
	acknowledge(&fake, 2, SENT_STORED); /* late, for a batch that was given up */
	assert_int_equal(0, settle_collect(settler, &err));
	assert_int_equal(0, fake.stored[1]);
	settler_free(settler);
}

static void a_failure_counts_although_others_are_acknowledged(void **state)
{
	struct fake fake = { .sent = 0 };
	struct settler *settler = settler_new(&fake_ops, &fake);
	struct settlement *settlement = settle_open(settler);
	const struct record output = { .topic = "out" };
	struct err err = ERR_INIT;

	(void)state;
	settle_cover(settlement, "in", 0, 0);
	fake.send_error = ERR_FULL;
	assert_int_equal(-1, settle_send(settlement, &output, &err));
	fake.send_error = ERR_NONE;
	assert_int_equal(0, settle_send(settlement, &output, &err));
	settle_fail(settlement, "given up");
	settle_seal(settlement);
	acknowledge(&fake, 0, SENT_STORED);
	assert_int_equal(-1, settle_collect(settler, &err));
	assert_string_equal("given up", err.message);
	assert_int_equal(0, fake.stored[0]);
	settler_free(settler);
}

/* A record that stays where it is takes those of its partition behind it out; other partitions and other topics are as they were. */
static void what_is_uncovered_is_not_stored(void **state)
{
	struct fake fake = { .sent = 0, .stored = { -1, -1, -1, -1 } };
	struct settler *settler = settler_new(&fake_ops, &fake);
	struct settlement *settlement = settlement_of(settler, 0, 5, 10, 0);
	struct err err = ERR_INIT;

	(void)state;
	settle_cover(settlement, "in", 1, 7);
	settle_cover(settlement, "in", 2, 3);
	settle_uncover(settlement, "in", 0, 8);
	settle_uncover(settlement, "other", 1, 7);
	settle_uncover(settlement, "in", 2, 3);
	settle_uncover(settlement, "in", 3, 0);
	assert_int_equal(0, settle_collect(settler, &err));
	assert_int_equal(8, fake.stored[0]);
	assert_int_equal(8, fake.stored[1]);
	assert_int_equal(-1, fake.stored[2]);
	settler_free(settler);
}

static void a_lost_partition_is_neither_stored_nor_sought(void **state)
{
	struct fake fake = { .sent = 0, .sought = { -1, -1, -1, -1 } };
	struct settler *settler = settler_new(&fake_ops, &fake);
	const struct topic_partition lost[] = { { "other", 1 }, { "in", 0 } };
	struct settlement *both;
	struct err err = ERR_INIT;

	(void)state;
	both = settlement_of(settler, 0, 0, 10, 1);
	settle_cover(both, "in", 1, 7);
	settlement_of(settler, 0, 10, 20, 1);
	settle_forget(settler, lost, 2);
	acknowledge(&fake, 1, SENT_NOT); /* of a batch without partitions: nothing to go back to */
	acknowledge(&fake, 0, SENT_STORED);
	assert_int_equal(0, settle_collect(settler, &err));
	assert_int_equal(0, settle_depth(settler));
	assert_int_equal(0, fake.stored[0]);
	assert_int_equal(8, fake.stored[1]);
	assert_int_equal(-1, fake.sought[0]);
	settler_free(settler);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_success_takes_the_whole_batch),
		cmocka_unit_test(each_kind_has_its_ruling),
		cmocka_unit_test(conflicts_without_end_are_waited_for),
		cmocka_unit_test(one_bad_record_is_found_by_halving),
		cmocka_unit_test(every_bad_record_is_found),
		cmocka_unit_test(a_record_that_wants_another_try_stays_in_front),
		cmocka_unit_test(records_of_a_lost_partition_are_dropped),
		cmocka_unit_test(emitted_records_are_copies_with_a_child_of_the_trace),
		cmocka_unit_test(a_dead_letter_keeps_the_record_and_says_why),
		cmocka_unit_test(offsets_are_stored_in_order_of_the_batches),
		cmocka_unit_test(an_open_batch_is_not_stored),
		cmocka_unit_test(an_output_that_is_not_stored_takes_all_later_batches_back),
		cmocka_unit_test(a_failure_counts_although_others_are_acknowledged),
		cmocka_unit_test(what_is_uncovered_is_not_stored),
		cmocka_unit_test(a_lost_partition_is_neither_stored_nor_sought),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
