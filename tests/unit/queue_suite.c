/* A queue on some back end goes in; whether it does what queue.h promises comes out. */
#include "tests/unit/queue_suite.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/rand.h"
#include "tests/unit/side_by_side.h"

/* ---- a place of its own for each story, so that none sees another's records */

int bare_place(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	struct err err = ERR_INIT;

	snprintf(place->prefix, sizeof(place->prefix), "test%llx.", (unsigned long long)rand_below(UINT64_C(1) << 48));
	place->settings.queue.type = (char *)queue_rig.type;
	place->settings.kafka.topic_prefix = place->prefix;
	place->settings.kafka.partitions = PARTITIONS;
	place->settings.kafka.message_timeout_ms = 10000;
	place->settings.kafka.session_timeout_ms = 6000;
	queue_rig.start(place);
	if (queue_open(&place->settings, &place->queue, &err) < 0)
		fail_msg("%s", err.message);
	*state = place;
	return 0;
}

int full_place(void **state)
{
	bare_place(state);
	queue_rig.make_topics(*state);
	return 0;
}

int leave_place(void **state)
{
	struct place *place = *state;

	queue_rig.empty(place);
	queue_close(place->queue);
	queue_rig.stop(place);
	free(place);
	return 0;
}

void suite_make_topics(struct place *place)
{
	struct err err = ERR_INIT;

	for (size_t i = 0; i < topic_count; i++) {
		if (queue_topic_create(place->queue, &topic_table[i], PATIENCE_MS, &err) < 0)
			fail_msg("%s", err.message);
	}
}

int64_t partitions_stopped(void)
{
	return metric_value(metric_counter("feedmill_queue_partitions_stopped_total", NULL, ""));
}

void pass_ms(int ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000L }, NULL);
}

/* ---- senders and readers */

void tally_up(void *arg, enum sent sent, const char *why)
{
	struct tally *tally = arg;

	if ((sent == SENT_STORED) == (why == NULL))
		atomic_fetch_add(&tally->outcomes[sent], 1);
}

int reported(const struct tally *tally)
{
	return tally->outcomes[SENT_STORED] + tally->outcomes[SENT_NOT] + tally->outcomes[SENT_UNKNOWN];
}

struct producer *ready_producer(struct place *place)
{
	struct producer *producer;
	struct err err = ERR_INIT;

	assert_int_equal(0, producer_open(place->queue, PRODUCER_LOW_LATENCY, &producer, &err));
	WAIT_FOR(producer_ready(producer, &err));
	return producer;
}

int send_text(struct producer *producer, const char *topic, int32_t partition, const char *key, const char *value,
	struct tally *tally, struct err *err)
{
	struct record record = { .topic = topic, .partition = partition, .key = slice_of(key), .value = slice_of(value) };

	return producer_send(producer, &record, tally != NULL ? tally_up : NULL, tally, err);
}

void send_all(struct producer *producer, const char *topic, int32_t partition, int first, int past)
{
	struct tally tally = { 0 };
	struct err err = ERR_INIT;

	for (int i = first; i < past; i++) {
		char value[16];

		snprintf(value, sizeof(value), "%d", i);
		assert_int_equal(0, send_text(producer, topic, partition, "7", value, &tally, &err));
	}
	WAIT_FOR(tally.outcomes[SENT_STORED] == past - first);
}

struct consumer *open_consumer(struct place *place, const struct consumer_options *options)
{
	struct consumer *consumer;
	struct err err = ERR_INIT;

	assert_int_equal(0, consumer_open(place->queue, options, &consumer, &err));
	return consumer;
}

struct consumer *group_consumer(struct place *place, const char *group, const char *topic)
{
	return open_consumer(place, &(struct consumer_options){ .group = group, .topic = topic });
}

/* A group's first join takes the mock three seconds: where the group is not the story, one partition is read without. */
struct consumer *reader(struct place *place, const char *topic, int32_t partition)
{
	struct consumer *consumer = open_consumer(place, &(struct consumer_options){ .topic = topic });
	struct err err = ERR_INIT;

	assert_int_equal(0, consumer_assign(consumer, topic, partition, QUEUE_BEGINNING, PATIENCE_MS, &err));
	return consumer;
}

void next_record(struct consumer *consumer, struct record *record)
{
	struct err err = ERR_INIT;
	int got = consumer_poll(consumer, PATIENCE_MS, record, &err);

	if (got != 1)
		fail_msg("no record: %d %s", got, err.message);
}

void expect(struct consumer *consumer, int32_t partition, const char *value)
{
	struct record record;

	next_record(consumer, &record);
	assert_int_equal(partition, record.partition);
	assert_int_equal(strlen(value), record.value.len);
	assert_memory_equal(value, record.value.data, record.value.len);
	record_release(&record);
}

void expect_numbers(struct consumer *consumer, int32_t partition, int first, int past)
{
	for (int i = first; i < past; i++) {
		char value[16];

		snprintf(value, sizeof(value), "%d", i);
		expect(consumer, partition, value);
	}
}

void poll_past(struct consumer *consumer)
{
	struct record record = { 0 };
	struct err err = ERR_INIT;

	assert_true(consumer_poll(consumer, 10, &record, &err) >= 0);
	record_release(&record);
}

void poll_until_owned(struct consumer *consumer, size_t partitions)
{
	WAIT_FOR((poll_past(consumer), consumer_owned(consumer) == partitions));
}

/* ---- stories: sending and fetching */

static void key_value_and_headers_come_back(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = reader(*state, TOPIC_POSTS, 3);
	struct record out = { .topic = TOPIC_POSTS, .partition = 3, .key = slice_of("41"), .value = slice_of("{\"v\":1}") };
	struct tally tally = { 0 };
	struct record in;
	struct err err = ERR_INIT;

	out.timestamp_ms = clock_wall_ms() - 60000; /* an old one would be deleted */
	record_header_add(&out, HEADER_TRACE, slice_of("00-abc"));
	record_header_add(&out, "binary", (struct slice){ "\0\1", 2 });
	record_header_add(&out, "null", SLICE_NONE);
	record_header_add(&out, "empty", slice_of(""));
	assert_int_equal(0, producer_send(producer, &out, tally_up, &tally, &err));
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(1, tally.outcomes[SENT_STORED]);
	assert_int_equal(0, producer_pending(producer));
	next_record(consumer, &in);
	assert_string_equal(TOPIC_POSTS, in.topic);
	assert_int_equal(0, in.offset);
	assert_int_equal(out.timestamp_ms, in.timestamp_ms);
	assert_true(slice_is(in.key, "41"));
	assert_true(slice_is(in.value, "{\"v\":1}"));
	assert_int_equal(4, in.header_count);
	assert_true(slice_is(record_header_get(&in, HEADER_TRACE), "00-abc"));
	assert_true(slice_equal(record_header_get(&in, "binary"), (struct slice){ "\0\1", 2 }));
	assert_null(record_header_get(&in, "null").data);
	assert_non_null(record_header_get(&in, "empty").data);
	assert_int_equal(0, record_header_get(&in, "empty").len);
	record_release(&in);
	consumer_close(consumer);
	producer_close(producer);
}

static void tombstones_and_empty_values_differ(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = reader(*state, TOPIC_POSTS, 0);
	struct err err = ERR_INIT;
	struct record in;

	assert_int_equal(0, send_text(producer, TOPIC_POSTS, 0, NULL, NULL, NULL, &err));
	assert_int_equal(0, send_text(producer, TOPIC_POSTS, 0, "", "", NULL, &err));
	next_record(consumer, &in);
	assert_null(in.key.data);
	assert_null(in.value.data);
	record_release(&in);
	next_record(consumer, &in);
	assert_non_null(in.key.data);
	assert_non_null(in.value.data);
	assert_int_equal(0, in.key.len + in.value.len);
	record_release(&in);
	consumer_close(consumer);
	producer_close(producer);
}

/* As a Java producer would: murmur2 of the key. */
static void a_key_decides_the_partition_as_in_java(void **state)
{
	static const struct {
		const char *key;
		int32_t partition;
	} known[] = { { "21", 0 }, { "foobar", 2 }, { "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 1 }, { "abc", 3 } };
	struct producer *producer = ready_producer(*state);

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct consumer *consumer = open_consumer(*state, &(struct consumer_options){ .group = NULL });
		struct err err = ERR_INIT;

		assert_int_equal(0, consumer_assign(consumer, TOPIC_POSTS, known[i].partition, QUEUE_END, PATIENCE_MS, &err));
		assert_int_equal(0, send_text(producer, TOPIC_POSTS, -1, known[i].key, known[i].key, NULL, &err));
		expect(consumer, known[i].partition, known[i].key);
		consumer_close(consumer);
	}
	producer_close(producer);
}

static void an_explicit_partition_is_kept(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = open_consumer(*state, &(struct consumer_options){ .topic = TOPIC_RESULTS });
	struct err err = ERR_INIT;

	assert_int_equal(0, send_text(producer, TOPIC_RESULTS, 63, NULL, "early", NULL, &err));
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(0, consumer_assign(consumer, TOPIC_RESULTS, 63, QUEUE_END, PATIENCE_MS, &err));
	assert_int_equal(1, consumer_owned(consumer));
	assert_int_equal(0, send_text(producer, TOPIC_RESULTS, 62, NULL, "other", NULL, &err));
	assert_int_equal(0, send_text(producer, TOPIC_RESULTS, 63, NULL, "late", NULL, &err));
	expect(consumer, 63, "late");
	assert_int_equal(0, consumer_assign(consumer, TOPIC_RESULTS, 63, QUEUE_BEGINNING, PATIENCE_MS, &err));
	expect(consumer, 63, "early");
	WAIT_FOR(consumer_connected(consumer));
	consumer_close(consumer);
	producer_close(producer);
}

static void what_can_never_be_sent_is_invalid_at_once(void **state)
{
	struct producer *producer = ready_producer(*state);
	char *large = malloc(3 << 20);
	struct record record = { .topic = TOPIC_POSTS, .partition = -1, .value = { large, 3 << 20 } };
	struct err err = ERR_INIT;

	memset(large, 'x', 3 << 20);
	assert_int_equal(-1, producer_send(producer, &record, NULL, NULL, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	record.value.len = 1700 * 1024; /* this is taken */
	assert_int_equal(0, producer_send(producer, &record, NULL, NULL, &err));
	assert_int_equal(-1, send_text(producer, "feed.nowhere", -1, NULL, "x", NULL, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	assert_int_equal(-1, send_text(producer, TOPIC_RESULTS, 64, NULL, "x", NULL, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	producer_close(producer);
	free(large);
}

static void without_topics_a_producer_is_not_ready(void **state)
{
	struct place *place = *state;
	struct producer *producer;
	struct err err = ERR_INIT;

	assert_int_equal(0, producer_open(place->queue, 0, &producer, &err));
	WAIT_FOR(send_text(producer, TOPIC_POSTS, -1, NULL, "x", NULL, &err) < 0 && strstr(err.message, "feedctl topics") != NULL);
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	assert_false(producer_ready(producer, &err));
	assert_non_null(strstr(err.message, TOPIC_POSTS));
	queue_rig.make_topics(place);
	WAIT_FOR(producer_ready(producer, &err)); /* by itself */
	assert_int_equal(0, send_text(producer, TOPIC_POSTS, -1, NULL, "x", NULL, &err));
	producer_close(producer);
}

static void more_headers_than_we_have_room_for_are_carried_on(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = reader(*state, TOPIC_POSTS, 0);
	struct consumer *dead = reader(*state, "fanout.dlq", 0);
	char names[RECORD_HEADERS][16];
	struct record out = { .topic = TOPIC_POSTS, .partition = 0, .value = slice_of("x") };
	struct record in, letter = { .topic = "fanout.dlq", .partition = 0 };
	struct err err = ERR_INIT;

	for (int i = 0; i < RECORD_HEADERS; i++) {
		snprintf(names[i], sizeof(names[i]), "h%d", i);
		record_header_add(&out, names[i], slice_of("v"));
	}
	assert_int_equal(0, producer_send(producer, &out, NULL, NULL, &err));
	next_record(consumer, &in);
	assert_int_equal(RECORD_HEADERS_FETCHED, in.header_count);
	record_header_add(&letter, HEADER_ERROR, slice_of("why"));
	letter.handle = in.handle;
	letter.release = in.release;
	assert_int_equal(0, producer_send(producer, &letter, NULL, NULL, &err));
	record_release(&in);
	next_record(dead, &in);
	assert_true(slice_is(record_header_get(&in, HEADER_ERROR), "why"));
	assert_string_equal(names[RECORD_HEADERS_FETCHED], in.headers[1].name);
	assert_int_equal(1 + RECORD_HEADERS - RECORD_HEADERS_FETCHED, in.header_count);
	record_release(&in);
	consumer_close(dead);
	consumer_close(consumer);
	producer_close(producer);
}

/* ---- stories: groups */

int64_t committed(struct place *place, const char *group, const char *topic, int32_t partition)
{
	struct partition_lag lag[PARTITIONS];
	struct err err = ERR_INIT;
	size_t partitions = 0;

	assert_int_equal(0, queue_lag(place->queue, group, topic, lag, PARTITIONS, &partitions, PATIENCE_MS, &err));
	assert_int_equal(PARTITIONS, partitions);
	assert_int_equal(partition, lag[partition].partition);
	return lag[partition].committed;
}

static void a_group_goes_on_where_it_was(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer;
	struct err err = ERR_INIT;

	send_all(producer, TOPIC_COMMANDS, 2, 0, 10);
	consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	expect_numbers(consumer, 2, 0, 10); /* no offset yet: from the beginning */
	assert_int_equal(-1, committed(place, "command", TOPIC_COMMANDS, 2));
	assert_int_equal(0, consumer_store(consumer, TOPIC_COMMANDS, 2, 4, &err));
	WAIT_FOR((poll_past(consumer), committed(place, "command", TOPIC_COMMANDS, 2) == 4)); /* by itself */
	assert_int_equal(0, consumer_store(consumer, TOPIC_COMMANDS, 2, 6, &err));
	consumer_close(consumer);
	assert_int_equal(6, committed(place, "command", TOPIC_COMMANDS, 2));
	consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	expect_numbers(consumer, 2, 6, 10);
	consumer_close(consumer); /* nothing stored: nothing moves */
	assert_int_equal(6, committed(place, "command", TOPIC_COMMANDS, 2));
	producer_close(producer);
}

static void lag_tells_where_topics_begin_and_end(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct partition_lag lag[2];
	struct err err = ERR_INIT;
	size_t partitions = 0;

	send_all(producer, TOPIC_COMMANDS, 1, 0, 5);
	assert_int_equal(0, queue_lag(place->queue, "command", TOPIC_COMMANDS, lag, 2, &partitions, PATIENCE_MS, &err));
	assert_int_equal(2, partitions); /* as many as there is room for */
	assert_int_equal(-1, lag[1].committed);
	assert_int_equal(0, lag[1].low);
	assert_int_equal(5, lag[1].high);
	assert_int_equal(0, lag[0].high);
	producer_close(producer);
}

struct taken {
	int calls;
	bool partitions[PARTITIONS];
	bool lost;
	struct consumer *consumer;
};

static void on_revoked(void *arg, const struct topic_partition *gone, size_t count, bool lost)
{
	struct taken *taken = arg;
	struct err err = ERR_INIT;

	taken->calls++;
	taken->lost = taken->lost || lost;
	for (size_t i = 0; i < count; i++) { /* work that was under way is done now */
		taken->partitions[gone[i].partition] = true;
		assert_int_equal(0, consumer_store(taken->consumer, gone[i].topic, gone[i].partition, 3, &err));
	}
}

/* A back end may take all partitions away and give some again, or take away only those that go elsewhere. */
static void what_is_done_in_revoked_is_committed(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct taken taken = { 0 };
	struct consumer *first, *second;
	struct record none;
	struct err err = ERR_INIT;

	for (int i = 0; i < PARTITIONS; i++)
		send_all(producer, TOPIC_POSTS, i, 0, 3);
	first = open_consumer(*state,
		&(struct consumer_options){ .group = "index", .topic = TOPIC_POSTS, .revoked = on_revoked, .arg = &taken });
	taken.consumer = first;
	for (int i = 0; i < PARTITIONS * 3; i++) {
		next_record(first, &none);
		record_release(&none);
	}
	assert_int_equal(PARTITIONS, consumer_owned(first));
	assert_true(consumer_owns(first, TOPIC_POSTS, 0));
	assert_false(consumer_owns(first, TOPIC_COMMANDS, 0));
	assert_false(consumer_owns(first, TOPIC_POSTS, PARTITIONS));
	second = group_consumer(*state, "index", TOPIC_POSTS);
	WAIT_FOR((poll_past(first), poll_past(second), consumer_owned(first) == 2 && consumer_owned(second) == 2));
	assert_true(taken.calls >= 1);
	assert_false(taken.lost);
	for (int i = 0; i < PARTITIONS; i++) { /* each partition has one owner, and a stranger may not store */
		assert_true(consumer_owns(first, TOPIC_POSTS, i) != consumer_owns(second, TOPIC_POSTS, i));
		assert_true(taken.partitions[i] || consumer_owns(first, TOPIC_POSTS, i));
		if (taken.partitions[i] && queue_rig.is_whole) /* the mock refuses commits while a group rebalances */
			assert_int_equal(3, committed(*state, "index", TOPIC_POSTS, i));
		if (consumer_owns(first, TOPIC_POSTS, i))
			continue;
		assert_int_equal(-1, consumer_store(first, TOPIC_POSTS, i, 3, &err));
		assert_int_equal(ERR_CONFLICT, err.kind);
	}
	consumer_close(second);
	consumer_close(first);
	producer_close(producer);
}

/* librdkafka keeps a pause through any number of assignments: it must end with the one in which it was made. */
static void what_is_given_anew_is_not_paused(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *first = group_consumer(*state, "index", TOPIC_POSTS), *second;
	struct record record;
	struct err err = ERR_INIT;

	WAIT_FOR((poll_past(first), consumer_owned(first) == PARTITIONS));
	assert_int_equal(0, consumer_pause(first, true, &err));
	second = group_consumer(*state, "index", TOPIC_POSTS);
	WAIT_FOR((poll_past(first), poll_past(second), consumer_owned(first) == 2 && consumer_owned(second) == 2));
	consumer_close(second);
	WAIT_FOR((poll_past(first), consumer_owned(first) == PARTITIONS));
	for (int i = 0; i < PARTITIONS; i++)
		send_all(producer, TOPIC_POSTS, i, 0, 3);
	for (int i = 0; i < PARTITIONS * 3; i++) {
		next_record(first, &record);
		record_release(&record);
	}
	consumer_close(first);
	producer_close(producer);
}

static void seek_goes_back_and_drops_what_was_fetched(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = reader(*state, TOPIC_COMMANDS, 0);
	struct err err = ERR_INIT;

	send_all(producer, TOPIC_COMMANDS, 0, 0, 100);
	expect_numbers(consumer, 0, 0, 40);
	assert_int_equal(0, consumer_seek(consumer, TOPIC_COMMANDS, 0, 25, &err));
	expect_numbers(consumer, 0, 25, 100);
	assert_int_equal(-1, consumer_seek(consumer, TOPIC_COMMANDS, PARTITIONS + 1, 0, &err));
	assert_int_equal(ERR_CONFLICT, err.kind);
	consumer_close(consumer);
	producer_close(producer);
}

static void a_pause_skips_and_repeats_nothing(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = reader(*state, TOPIC_COMMANDS, 0);
	struct record none;
	struct err err = ERR_INIT;

	send_all(producer, TOPIC_COMMANDS, 0, 0, 200);
	for (int at = 0; at < 200; at += 50) {
		expect_numbers(consumer, 0, at, at + 50);
		assert_int_equal(0, consumer_pause(consumer, true, &err));
		assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
		assert_int_equal(0, consumer_pause(consumer, false, &err));
	}
	send_all(producer, TOPIC_COMMANDS, 0, 200, 201);
	expect(consumer, 0, "200");
	consumer_close(consumer);
	producer_close(producer);
}

/* One partition stands still, whatever is paused and resumed, and skips and repeats nothing; the others go on. */
static void a_held_partition_waits_alone(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = open_consumer(*state, &(struct consumer_options){ .topic = TOPIC_COMMANDS });
	struct record none;
	struct err err = ERR_INIT;

	send_all(producer, TOPIC_COMMANDS, 0, 0, 100);
	assert_int_equal(0, consumer_assign(consumer, TOPIC_COMMANDS, QUEUE_EVERY, QUEUE_BEGINNING, PATIENCE_MS, &err));
	expect_numbers(consumer, 0, 0, 30);
	assert_int_equal(0, consumer_hold(consumer, TOPIC_COMMANDS, 0, 29, &err)); /* the last one is to come again */
	send_all(producer, TOPIC_COMMANDS, 1, 0, 10);
	expect_numbers(consumer, 1, 0, 10);
	assert_int_equal(0, consumer_pause(consumer, true, &err));
	send_all(producer, TOPIC_COMMANDS, 1, 10, 20);
	assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
	assert_int_equal(0, consumer_pause(consumer, false, &err));
	expect_numbers(consumer, 1, 10, 20);
	assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
	assert_int_equal(0, consumer_pause(consumer, true, &err));
	assert_int_equal(0, consumer_release(consumer, TOPIC_COMMANDS, 0, &err)); /* the pause of all stands */
	assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
	assert_int_equal(0, consumer_pause(consumer, false, &err));
	expect_numbers(consumer, 0, 29, 60);
	assert_int_equal(0, consumer_hold(consumer, TOPIC_COMMANDS, 0, 60, &err));
	assert_int_equal(0, consumer_seek(consumer, TOPIC_COMMANDS, 0, 50, &err)); /* it is still held */
	assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
	assert_int_equal(0, consumer_release(consumer, TOPIC_COMMANDS, 0, &err));
	expect_numbers(consumer, 0, 50, 100);
	assert_int_equal(-1, consumer_hold(consumer, TOPIC_COMMANDS, PARTITIONS + 1, 0, &err));
	assert_int_equal(ERR_CONFLICT, err.kind);
	assert_int_equal(-1, consumer_release(consumer, TOPIC_POSTS, 0, &err));
	consumer_close(consumer);
	producer_close(producer);
}

/* Two topics in one group: records say which is theirs, and each has its own offsets, also where partitions have the same number. */
static void a_group_reads_several_topics(void **state)
{
	static const char *const more[] = { TOPIC_COMMANDS, NULL };
	const struct consumer_options options = { .group = "index", .topic = TOPIC_POSTS, .more = more };
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer;
	struct record record, none;
	struct err err = ERR_INIT;
	int seen[2] = { 0, 0 };

	send_all(producer, TOPIC_POSTS, 1, 0, 10);
	send_all(producer, TOPIC_COMMANDS, 1, 0, 20);
	consumer = open_consumer(place, &options);
	while (seen[0] < 10 || seen[1] < 20) {
		bool is_command;

		next_record(consumer, &record);
		is_command = strcmp(record.topic, TOPIC_COMMANDS) == 0;
		assert_true(is_command || strcmp(record.topic, TOPIC_POSTS) == 0);
		assert_int_equal(1, record.partition);
		assert_int_equal(seen[is_command]++, record.offset);
		record_release(&record);
	}
	assert_int_equal(2 * PARTITIONS, consumer_owned(consumer));
	assert_true(consumer_owns(consumer, TOPIC_POSTS, 1) && consumer_owns(consumer, TOPIC_COMMANDS, 1));
	assert_int_equal(0, consumer_hold(consumer, TOPIC_COMMANDS, 1, 5, &err));
	send_all(producer, TOPIC_POSTS, 1, 10, 11);
	expect(consumer, 1, "10"); /* the other topic's partition of that number is not held */
	assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
	assert_int_equal(0, consumer_store(consumer, TOPIC_POSTS, 1, 3, &err));
	assert_int_equal(0, consumer_store(consumer, TOPIC_COMMANDS, 1, 5, &err));
	consumer_close(consumer);
	assert_int_equal(3, committed(place, "index", TOPIC_POSTS, 1));
	assert_int_equal(5, committed(place, "index", TOPIC_COMMANDS, 1));
	producer_close(producer);
}

/* What was begun is known to the next who gets the partition, until the offset has moved. */
static void work_that_was_begun_is_counted(void **state)
{
	const struct beginning begun = { TOPIC_COMMANDS, 2, 4, 3 };
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer;
	struct err err = ERR_INIT;

	send_all(producer, TOPIC_COMMANDS, 2, 0, 10);
	send_all(producer, TOPIC_COMMANDS, 1, 0, 2);
	consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	poll_until_owned(consumer, PARTITIONS);
	assert_int_equal(0, consumer_begun(consumer, TOPIC_COMMANDS, 2));
	assert_int_equal(0, consumer_store(consumer, TOPIC_COMMANDS, 1, 2, &err));
	assert_int_equal(0, consumer_begin(consumer, &begun, 1, &err));
	assert_int_equal(4, committed(place, "command", TOPIC_COMMANDS, 2)); /* at once, with all that is stored */
	assert_int_equal(2, committed(place, "command", TOPIC_COMMANDS, 1));
	consumer_close(consumer);
	consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	poll_until_owned(consumer, PARTITIONS);
	assert_int_equal(3, consumer_begun(consumer, TOPIC_COMMANDS, 2));
	assert_int_equal(0, consumer_begun(consumer, TOPIC_COMMANDS, 1));
	assert_int_equal(0, consumer_store(consumer, TOPIC_COMMANDS, 2, 5, &err));
	consumer_close(consumer);
	consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	poll_until_owned(consumer, PARTITIONS);
	assert_int_equal(0, consumer_begun(consumer, TOPIC_COMMANDS, 2));
	consumer_close(consumer);
	producer_close(producer);
}

/* Each from its own place, and only those that are named. */
static void several_places_are_read_at_once(void **state)
{
	const struct queue_place places[] = { { 2, 3 }, { 0, 1 } }, others[] = { { 1, 4 } };
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = open_consumer(*state, &(struct consumer_options){ .topic = TOPIC_COMMANDS });
	int64_t next[3] = { 1, -1, 3 };
	struct record record, none;
	struct err err = ERR_INIT;

	for (int32_t p = 0; p < 3; p++)
		send_all(producer, TOPIC_COMMANDS, p, 0, 5);
	assert_int_equal(0, consumer_assign_places(consumer, TOPIC_COMMANDS, places, 2, &err));
	for (int n = 0; n < 4 + 2; n++) {
		next_record(consumer, &record);
		assert_in_range(record.partition, 0, 2);
		assert_int_equal(next[record.partition]++, record.offset);
		record_release(&record);
	}
	assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
	assert_int_equal(0, consumer_assign_places(consumer, TOPIC_COMMANDS, others, 1, &err)); /* in place of them */
	send_all(producer, TOPIC_COMMANDS, 0, 5, 6);
	expect_numbers(consumer, 1, 4, 5);
	assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
	assert_int_equal(0, consumer_assign_places(consumer, TOPIC_COMMANDS, NULL, 0, &err));
	send_all(producer, TOPIC_COMMANDS, 1, 5, 6);
	assert_int_equal(0, consumer_poll(consumer, 150, &none, &err));
	consumer_close(consumer);
	producer_close(producer);
}

static void an_offset_out_of_range_is_not_passed_over(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = reader(place, TOPIC_COMMANDS, 0);
	int64_t stopped = partitions_stopped();
	struct record none;
	struct err err = ERR_INIT;
	int got;

	send_all(producer, TOPIC_COMMANDS, 0, 0, 3);
	assert_int_equal(0, consumer_assign(consumer, TOPIC_COMMANDS, 0, 1000, PATIENCE_MS, &err));
	WAIT_FOR((got = consumer_poll(consumer, 10, &none, &err)) != 0);
	assert_int_equal(-1, got);
	assert_int_equal(ERR_CONFLICT, err.kind);
	send_all(producer, TOPIC_COMMANDS, 0, 3, 6);
	assert_int_equal(-1, consumer_poll(consumer, 300, &none, &err)); /* until it is told where to go on */
	assert_int_equal(0, consumer_assign(consumer, TOPIC_COMMANDS, 0, 4, PATIENCE_MS, &err));
	expect_numbers(consumer, 0, 4, 6);
	assert_int_equal(stopped, partitions_stopped()); /* nobody has to be called */
	consumer_close(consumer);
	producer_close(producer);
}

/* The queue between broker and reader fills up (2 MiB) and is emptied; nothing may stall for a second each time. */
static void a_backlog_is_read_without_stalls(void **state)
{
	enum { RECORDS = 45, SIZE = 100000 }; /* the mock keeps 5 MiB a partition */
	struct producer *producer = ready_producer(*state);
	char *value = calloc(1, SIZE);
	struct record out = { .topic = TOPIC_POSTS, .partition = 0, .value = { value, SIZE } };
	struct consumer *consumer;
	struct record in;
	int64_t began_ms;
	struct err err = ERR_INIT;

	for (int i = 0; i < RECORDS; i++) {
		WAIT_FOR(producer_send(producer, &out, NULL, NULL, &err) == 0);
	}
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	consumer = reader(*state, TOPIC_POSTS, 0);
	began_ms = clock_mono_ms();
	for (int i = 0; i < RECORDS; i++) {
		next_record(consumer, &in);
		assert_int_equal(SIZE, in.value.len);
		record_release(&in);
	}
	assert_true(clock_mono_ms() - began_ms < 2000);
	consumer_close(consumer);
	producer_close(producer);
	free(value);
}

/* ---- stories that librdkafka's mock cluster can not tell */

static void an_offset_out_of_range_stops_that_partition_alone(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	int64_t stopped = partitions_stopped();
	struct record none;
	struct err err = ERR_INIT;

	send_all(producer, TOPIC_COMMANDS, 0, 0, 3);
	send_all(producer, TOPIC_COMMANDS, 1, 0, 3);
	poll_until_owned(consumer, PARTITIONS);
	assert_int_equal(0, consumer_store(consumer, TOPIC_COMMANDS, 0, 1000, &err)); /* as after the loss of a disk */
	assert_int_equal(0, consumer_store(consumer, TOPIC_COMMANDS, 1, 1, &err));
	consumer_close(consumer);
	consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	expect_numbers(consumer, 1, 1, 3);
	WAIT_FOR((poll_past(consumer), partitions_stopped() == stopped + 1));
	assert_int_equal(0, consumer_pause(consumer, true, &err));
	assert_int_equal(0, consumer_pause(consumer, false, &err)); /* it stays stopped */
	send_all(producer, TOPIC_COMMANDS, 0, 3, 6);
	send_all(producer, TOPIC_COMMANDS, 1, 3, 6);
	expect_numbers(consumer, 1, 3, 6);
	assert_int_equal(0, consumer_poll(consumer, 300, &none, &err));
	consumer_close(consumer);
	producer_close(producer);
}

static void topics_are_made_as_the_table_says(void **state)
{
	struct place *place = *state;
	const struct topic *topic = topic_find(TOPIC_RESULTS);
	struct topic_state found = { 0 };
	struct err err = ERR_INIT;

	assert_int_equal(0, queue_topic_state(place->queue, TOPIC_RESULTS, &found, PATIENCE_MS, &err));
	assert_int_equal(0, found.partitions);
	assert_int_equal(0, queue_topic_create(place->queue, topic, PATIENCE_MS, &err));
	assert_int_equal(0, queue_topic_create(place->queue, topic, PATIENCE_MS, &err)); /* there already */
	assert_int_equal(0, queue_topic_state(place->queue, TOPIC_RESULTS, &found, PATIENCE_MS, &err));
	assert_int_equal(64, found.partitions);
	assert_int_equal(topic->retention_ms, found.retention_ms);
	assert_true(found.replication >= 1);
}

/* Workers may be started before `feedctl topics`. */
static void a_group_joins_when_its_topic_is_made(void **state)
{
	struct place *place = *state;
	struct consumer *consumer = group_consumer(place, "fanout", TOPIC_POSTS);
	struct producer *producer;
	struct record none;
	struct err err = ERR_INIT;
	int64_t began_ms;

	assert_int_equal(0, consumer_poll(consumer, 2000, &none, &err));
	queue_rig.make_topics(place);
	began_ms = clock_mono_ms();
	poll_until_owned(consumer, PARTITIONS);
	assert_true(clock_mono_ms() - began_ms < 5000);
	producer = ready_producer(place);
	send_all(producer, TOPIC_POSTS, 1, 0, 1);
	expect(consumer, 1, "0");
	producer_close(producer);
	consumer_close(consumer);
}

static void an_operator_sets_where_a_group_goes_on(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	const struct queue_place places[] = { { 0, 2 }, { 3, 1 } };
	struct err err = ERR_INIT;

	send_all(producer, TOPIC_COMMANDS, 0, 0, 4);
	send_all(producer, TOPIC_COMMANDS, 3, 10, 12);
	poll_until_owned(consumer, PARTITIONS);
	assert_int_equal(-1, queue_offsets_set(place->queue, "command", TOPIC_COMMANDS, places, 2, PATIENCE_MS, &err));
	assert_int_equal(ERR_CONFLICT, err.kind); /* a member would write its own over it */
	assert_non_null(strstr(err.message, "members"));
	consumer_close(consumer);
	assert_int_equal(-1, committed(place, "command", TOPIC_COMMANDS, 0));
	assert_int_equal(0, queue_offsets_set(place->queue, "command", TOPIC_COMMANDS, places, 2, PATIENCE_MS, &err));
	assert_int_equal(2, committed(place, "command", TOPIC_COMMANDS, 0));
	assert_int_equal(-1, committed(place, "command", TOPIC_COMMANDS, 1));
	assert_int_equal(1, committed(place, "command", TOPIC_COMMANDS, 3));
	assert_int_equal(-1, committed(place, "index", TOPIC_COMMANDS, 0));
	consumer = group_consumer(place, "command", TOPIC_COMMANDS); /* others may join again */
	poll_until_owned(consumer, PARTITIONS);
	consumer_close(consumer);
	assert_int_equal(0, queue_offsets_set(place->queue, "nobody.yet", TOPIC_COMMANDS, places, 1, PATIENCE_MS, &err));
	assert_int_equal(2, committed(place, "nobody.yet", TOPIC_COMMANDS, 0));
	producer_close(producer);
}

static void a_time_has_an_offset(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	const int64_t start_ms = clock_wall_ms() - 100000;
	struct queue_place places[] = { { 1, -5 }, { 2, -5 } };
	struct record record = { .topic = TOPIC_POSTS, .partition = 1, .value = slice_of("x") };
	struct err err = ERR_INIT;

	for (int i = 0; i < 4; i++) {
		record.timestamp_ms = start_ms + i * 1000;
		assert_int_equal(0, producer_send(producer, &record, NULL, NULL, &err));
	}
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(0, queue_offsets_at(place->queue, TOPIC_POSTS, start_ms + 1000, places, 2, PATIENCE_MS, &err));
	assert_int_equal(1, places[0].offset);
	assert_int_equal(0, places[1].offset); /* an empty partition has its end alone */
	assert_int_equal(0, queue_offsets_at(place->queue, TOPIC_POSTS, start_ms + 1001, places, 1, PATIENCE_MS, &err));
	assert_int_equal(2, places[0].offset);
	assert_int_equal(0, queue_offsets_at(place->queue, TOPIC_POSTS, 0, places, 1, PATIENCE_MS, &err));
	assert_int_equal(0, places[0].offset);
	assert_int_equal(0, queue_offsets_at(place->queue, TOPIC_POSTS, start_ms + 50000, places, 1, PATIENCE_MS, &err));
	assert_int_equal(4, places[0].offset);
	producer_close(producer);
}

static void what_is_trimmed_is_gone(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct partition_lag lag[PARTITIONS];
	struct consumer *consumer;
	struct err err = ERR_INIT;
	size_t partitions;

	send_all(producer, TOPIC_POSTS, 0, 0, 1200); /* more than one step of the embedded queue */
	send_all(producer, TOPIC_POSTS, 1, 0, 3);
	assert_int_equal(0, queue_trim(place->queue, TOPIC_POSTS, &(struct queue_place){ 0, 1190 }, PATIENCE_MS, &err));
	assert_int_equal(0, queue_trim(place->queue, TOPIC_POSTS, &(struct queue_place){ 0, 1190 }, PATIENCE_MS, &err)); /* again */
	assert_int_equal(0, queue_lag(place->queue, "index", TOPIC_POSTS, lag, PARTITIONS, &partitions, PATIENCE_MS, &err));
	assert_int_equal(1190, lag[0].low);
	assert_int_equal(1200, lag[0].high);
	assert_int_equal(0, lag[1].low);
	consumer = reader(place, TOPIC_POSTS, 0);
	expect_numbers(consumer, 0, 1190, 1200);
	consumer_close(consumer);
	assert_int_equal(-1, queue_trim(place->queue, TOPIC_POSTS, &(struct queue_place){ 0, 1201 }, PATIENCE_MS, &err));
	assert_int_equal(0, queue_trim(place->queue, TOPIC_POSTS, &(struct queue_place){ 0, 1200 }, PATIENCE_MS, &err)); /* all */
	send_all(producer, TOPIC_POSTS, 0, 5, 6);
	consumer = reader(place, TOPIC_POSTS, 0);
	expect_numbers(consumer, 0, 5, 6);
	consumer_close(consumer);
	producer_close(producer);
}

int queue_suite_run(void)
{
	const struct CMUnitTest stories[] = {
		STORY(key_value_and_headers_come_back),
		STORY(tombstones_and_empty_values_differ),
		STORY(a_key_decides_the_partition_as_in_java),
		STORY(an_explicit_partition_is_kept),
		STORY(what_can_never_be_sent_is_invalid_at_once),
		BARE(without_topics_a_producer_is_not_ready),
		STORY(more_headers_than_we_have_room_for_are_carried_on),
		STORY(a_group_goes_on_where_it_was),
		STORY(lag_tells_where_topics_begin_and_end),
		STORY(what_is_done_in_revoked_is_committed),
		STORY(seek_goes_back_and_drops_what_was_fetched),
		STORY(a_pause_skips_and_repeats_nothing),
		STORY(what_is_given_anew_is_not_paused),
		STORY(a_held_partition_waits_alone),
		STORY(a_group_reads_several_topics),
		STORY(work_that_was_begun_is_counted),
		STORY(an_offset_out_of_range_is_not_passed_over),
		STORY(several_places_are_read_at_once),
		STORY(a_backlog_is_read_without_stalls),
	};
	const struct CMUnitTest whole[] = {
		STORY(an_offset_out_of_range_stops_that_partition_alone),
		BARE(topics_are_made_as_the_table_says),
		BARE(a_group_joins_when_its_topic_is_made),
		STORY(an_operator_sets_where_a_group_goes_on),
		STORY(a_time_has_an_offset),
		STORY(what_is_trimmed_is_gone),
	};
	int failed = side_by_side("queue", stories);

	if (queue_rig.is_whole)
		failed += side_by_side("whole queue", whole);
	return failed;
}
