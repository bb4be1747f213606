/* The engine's parts that need no queue: attempts (what a return value means), the outbox, dead letters, and settlements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/trace.h"
#include "workers/engine/attempt.h"
#include "workers/engine/batch.h"
#include "workers/engine/holds.h"
#include "workers/engine/letter.h"
#include "workers/engine/settle.h"
#include "workers/engine/vitals.h"

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
	attempt_take(&attempt, 7);
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

static unsigned conflicts_until(struct attempt *attempt, enum ruling wanted)
{
	enum ruling ruling = RULING_AGAIN;
	unsigned count = 0;

	while (ruling == RULING_AGAIN && count++ < 100) {
		int64_t wait_ms = 0;

		ruling = handle_fails(attempt, ERR_CONFLICT, &wait_ms);
		assert_in_range(wait_ms, 1, 200);
	}
	assert_int_equal(wanted, ruling);
	return count;
}

/* The one that can't win is found, and does not hold up the others. */
static void conflicts_without_end_are_narrowed_down(void **state)
{
	struct attempt attempt;

	(void)state;
	start(&attempt, 4);
	assert_int_equal(ATTEMPT_CONFLICTS, conflicts_until(&attempt, RULING_HALVED));
	assert_int_equal(2, attempt_width(&attempt));
	assert_int_equal(ATTEMPT_CONFLICTS_MORE, conflicts_until(&attempt, RULING_HALVED));
	assert_int_equal(1, attempt_width(&attempt));
	assert_int_equal(ATTEMPT_CONFLICTS_MORE, conflicts_until(&attempt, RULING_LOST));
	assert_int_equal(RETRY, attempt.items[0].outcome);
	assert_string_equal("because", attempt.items[0].why.message);
	assert_int_equal(4, attempt.count);
	attempt_take(&attempt, 1);
	assert_int_equal(3, attempt_width(&attempt)); /* the others together again, and as patient as before */
	assert_int_equal(ATTEMPT_CONFLICTS, conflicts_until(&attempt, RULING_HALVED));
}

static void a_dependency_that_is_down_is_never_the_records_fault(void **state)
{
	struct attempt attempt;
	int64_t wait_ms, longest = 0;

	(void)state;
	start(&attempt, 4);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(RULING_DOWN, handle_fails(&attempt, i % 2 == 0 ? ERR_UNAVAILABLE : ERR_FULL, &wait_ms));
		longest = wait_ms > longest ? wait_ms : longest;
	}
	assert_true(longest > 200 && longest <= 5000);
	assert_int_equal(4, attempt_width(&attempt));
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
	struct letter letter;

	(void)state;
	in.value = slice_of("{broken");
	record_header_add(&in, "mine", slice_of("kept"));
	record_header_add(&in, HEADER_ERROR, slice_of("of an earlier death"));
	err_set(&item.why, ERR_INVALID, "not JSON");
	letter_dead(&letter, "fanout", &item);
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

static void use_delays(const char *text)
{
	const struct settings settings = { .retry_delays = (char *)text };
	struct err err = ERR_INIT;

	assert_int_equal(0, topics_open(&settings, &err));
}

static struct record as_fetched(const struct letter *letter, int64_t offset)
{
	struct record record = letter->record;

	record.partition = 1;
	record.offset = offset;
	record.timestamp_ms = 999;
	return record;
}

/* From the worker's topic through its retry topics to the dead letters: where it was first stays known, tries add up. */
static void a_retry_remembers_where_it_came_from(void **state)
{
	struct record in = { .topic = "feed.posts", .partition = 2, .offset = 77, .timestamp_ms = 1234, .value = slice_of("{}") };
	struct item item = { .record = &in, .outcome = RETRY, .tries = 2 };
	struct letter first, second, dead;
	struct record again;

	(void)state;
	use_delays("3s, 1h");
	assert_int_equal(0, letter_stage("index", "feed.posts"));
	assert_int_equal(0, letter_stage("index", "fanout.retry.3s"));
	assert_int_equal(2, letter_stage("index", "index.retry.1h"));
	record_header_add(&in, HEADER_ORIGIN_OFFSET, slice_of("5")); /* of somebody else: it counts on our own topics alone */
	record_header_add(&in, HEADER_TRACE, slice_of("trace"));
	err_set(&item.why, ERR_UNAVAILABLE, "busy");
	letter_retry(&first, "index", &item, 0, 5000);
	assert_string_equal("index.retry.3s", first.record.topic);
	assert_true(slice_is(record_header_get(&first.record, HEADER_ORIGIN_OFFSET), "77"));
	again = as_fetched(&first, 3);
	assert_int_equal(1, letter_stage("index", again.topic));
	assert_int_equal(5000, letter_due_ms(&again));
	assert_int_equal(2, letter_tries(&again));
	item = (struct item){ .record = &again, .outcome = RETRY, .tries = letter_tries(&again) + 1, .why = item.why };
	letter_retry(&second, "index", &item, 1, 9000);
	assert_string_equal("index.retry.1h", second.record.topic);
	again = as_fetched(&second, 4);
	assert_int_equal(9000, letter_due_ms(&again));
	item.record = &again;
	letter_dead(&dead, "index", &item);
	assert_string_equal("index.dlq", dead.record.topic);
	assert_true(slice_is(record_header_get(&dead.record, HEADER_ORIGIN_TOPIC), "feed.posts"));
	assert_true(slice_is(record_header_get(&dead.record, HEADER_ORIGIN_PARTITION), "2"));
	assert_true(slice_is(record_header_get(&dead.record, HEADER_ORIGIN_OFFSET), "77"));
	assert_true(slice_is(record_header_get(&dead.record, HEADER_ORIGIN_TIMESTAMP), "1234"));
	assert_true(slice_is(record_header_get(&dead.record, HEADER_ATTEMPTS), "3"));
	assert_true(slice_is(record_header_get(&dead.record, HEADER_TRACE), "trace"));
	assert_null(record_header_get(&dead.record, HEADER_DUE).data);
	assert_int_equal(8, dead.record.header_count);
}

/* A retry that its topic does not take is no shorter post: it is a dead letter. */
static void what_is_too_large_for_a_retry_is_a_dead_letter(void **state)
{
	static char large[LETTER_CUT + 1000];
	struct record in = { .topic = "feed.posts", .value = { large, sizeof(large) } };
	struct item item = { .record = &in, .outcome = RETRY };
	struct letter letter;
	struct record cut;
	char topic[TOPIC_NAME_MAX], length[24];

	(void)state;
	use_delays("3s, 1h");
	assert_false(letter_cut(&in, "index", topic, length, &cut));
	letter_retry(&letter, "index", &item, 0, 5000);
	assert_true(letter_cut(&letter.record, "index", topic, length, &cut));
	assert_string_equal("index.dlq", cut.topic);
	assert_int_equal(LETTER_CUT, cut.value.len);
	assert_non_null(record_header_get(&cut, HEADER_CUT).data);
}

/* ---- holds */

static void a_hold_is_known_until_its_partition_has_passed(void **state)
{
	struct holds holds = { NULL, 0, 0 };
	const struct hold one = { .topic = "in", .partition = 1, .offset = 10, .is_on = true, .stage = 2, .tries = 7 };
	const struct topic_partition gone = { "in", 1 };
	struct record record = { .topic = "in", .partition = 1, .offset = 9 };

	(void)state;
	holds_put(&holds, &one);
	assert_true(holds_on(&holds, "in", 1));
	assert_false(holds_on(&holds, "in", 2));
	assert_false(holds_on(&holds, "out", 1));
	holds_find(&holds, "in", 1)->is_on = false;
	assert_null(holds_pass(&holds, &record)); /* an earlier one comes again: it is still known */
	record.offset = 10;
	assert_int_equal(7, holds_pass(&holds, &record)->tries);
	assert_int_equal(2, holds_pass(&holds, &record)->stage);
	record.offset = 11;
	assert_null(holds_pass(&holds, &record));
	assert_null(holds_find(&holds, "in", 1));
	holds_put(&holds, &one);
	holds_forget(&holds, &gone, 1);
	assert_int_equal(0, holds.count);
	holds_release(&holds);
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

/* ---- vitals */

static bool is_alive(struct vitals *vitals, struct err *why)
{
	struct health_check checks[VITALS_CHECKS];

	vitals_checks(vitals, false, "kafka", checks);
	for (size_t i = 0; i < VITALS_CHECKS; i++)
		if (checks[i].live && !checks[i].ask(checks[i].arg, why))
			return false;
	return true;
}

/* In its own code, or in the queue's: a thread that does not come back is not alive. One that waits and looks around is. */
static void a_thread_that_does_not_come_back_is_not_alive(void **state)
{
	static const struct worker_ops ops = { .dependency = "store" };
	const struct worker_entry entry = { .name = "tester", .topic = "in", .ops = &ops };
	const int64_t now = clock_mono_ms();
	struct vitals vitals;
	struct err why = ERR_INIT;

	(void)state;
	vitals_init(&vitals, &entry, 2);
	assert_true(is_alive(&vitals, &why)); /* they have not begun: the dependency is waited for */
	vitals_checked(&vitals, &vitals.pulses[0], NULL);
	vitals.pulses[0].beat_ms = now;
	vitals.pulses[0].progress_ms = now - 3600000; /* an hour without progress, but it moves */
	assert_true(is_alive(&vitals, &why));
	vitals.pulses[1].beat_ms = now - 301000;
	assert_false(is_alive(&vitals, &why));
	assert_non_null(strstr(why.message, "thread 1 has not come back"));
	vitals.pulses[1].beat_ms = now;
	vitals.pulses[1].handling_since_ms = now - 301000;
	assert_false(is_alive(&vitals, &why));
	assert_false(vitals_moved(&vitals, now)); /* nor is the service manager told that all is well */
	vitals_release(&vitals);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_success_takes_the_whole_batch),
		cmocka_unit_test(each_kind_has_its_ruling),
		cmocka_unit_test(conflicts_without_end_are_narrowed_down),
		cmocka_unit_test(a_dependency_that_is_down_is_never_the_records_fault),
		cmocka_unit_test(one_bad_record_is_found_by_halving),
		cmocka_unit_test(every_bad_record_is_found),
		cmocka_unit_test(records_of_a_lost_partition_are_dropped),
		cmocka_unit_test(emitted_records_are_copies_with_a_child_of_the_trace),
		cmocka_unit_test(a_dead_letter_keeps_the_record_and_says_why),
		cmocka_unit_test(a_retry_remembers_where_it_came_from),
		cmocka_unit_test(what_is_too_large_for_a_retry_is_a_dead_letter),
		cmocka_unit_test(a_hold_is_known_until_its_partition_has_passed),
		cmocka_unit_test(offsets_are_stored_in_order_of_the_batches),
		cmocka_unit_test(an_open_batch_is_not_stored),
		cmocka_unit_test(an_output_that_is_not_stored_takes_all_later_batches_back),
		cmocka_unit_test(a_failure_counts_although_others_are_acknowledged),
		cmocka_unit_test(what_is_uncovered_is_not_stored),
		cmocka_unit_test(a_thread_that_does_not_come_back_is_not_alive),
		cmocka_unit_test(a_lost_partition_is_neither_stored_nor_sought),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
