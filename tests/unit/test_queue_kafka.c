/* queue on Kafka: what queue.h promises, against librdkafka's mock cluster, so that no server is needed.
 * With KAFKA_BROKERS set and `--real`, the same stories run on a real cluster, but for those that break it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/rand.h"
#include "common/queue/queue_kafka.h"

#include <librdkafka/rdkafka_mock.h> /* wants rdkafka.h before it */

enum { PATIENCE_MS = 20000, PARTITIONS = 4 /* as the mock makes them */ };

/* One cluster a test, so that no test sees another's records. */
struct place {
	rd_kafka_t *host;
	rd_kafka_mock_cluster_t *cluster;
	struct settings settings;
	char prefix[32];
	struct queue *queue;
};

static const char *real_brokers; /* NULL: the mock */

static void pass_ms(int ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000L }, NULL);
}

#define WAIT_FOR(condition)                                                                \
	do {                                                                               \
		int64_t until_ms_ = clock_mono_ms() + PATIENCE_MS;                         \
		while (!(condition)) {                                                     \
			if (clock_mono_ms() > until_ms_)                                   \
				fail_msg("not within %d ms: %s", PATIENCE_MS, #condition); \
			pass_ms(5);                                                        \
		}                                                                          \
	} while (0)

/* ---- the cluster */

static void mock_start(struct place *place)
{
	char why[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	rd_kafka_conf_set_log_cb(conf, NULL); /* it misses its own bootstrap.servers */
	place->host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	assert_non_null(place->host);
	place->cluster = rd_kafka_mock_cluster_new(place->host, 1);
	assert_non_null(place->cluster);
	place->settings.kafka.brokers = (char *)rd_kafka_mock_cluster_bootstraps(place->cluster);
}

/* Asking the mock for a topic makes it, with four partitions; telling it to takes a fifth of a second each. */
static void mock_topics(struct place *place)
{
	const struct topic *results = topic_find(TOPIC_RESULTS);
	const struct rd_kafka_metadata *seen;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_t *topics[32];
	rd_kafka_t *rk;
	char name[KAFKA_NAME_MAX];
	char why[256];

	kafka_name((struct kafka_queue *)place->queue, results->name, name);
	assert_int_equal(0, rd_kafka_mock_topic_create(place->cluster, name, results->partitions, 1));
	rd_kafka_conf_set(conf, "bootstrap.servers", place->settings.kafka.brokers, why, sizeof(why));
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	assert_in_range(topic_count, 1, 32);
	for (size_t i = 0; i < topic_count; i++) {
		kafka_name((struct kafka_queue *)place->queue, topic_table[i].name, name);
		topics[i] = rd_kafka_topic_new(rk, name, NULL);
	}
	assert_int_equal(0, rd_kafka_metadata(rk, 0, NULL, &seen, PATIENCE_MS));
	rd_kafka_metadata_destroy(seen);
	for (size_t i = 0; i < topic_count; i++)
		rd_kafka_topic_destroy(topics[i]);
	rd_kafka_destroy(rk);
}

static void make_topics(struct place *place)
{
	struct err err = ERR_INIT;

	if (place->cluster != NULL) {
		mock_topics(place);
		return;
	}
	for (size_t i = 0; i < topic_count; i++) {
		if (queue_topic_create(place->queue, &topic_table[i], PATIENCE_MS, &err) < 0)
			fail_msg("%s", err.message);
	}
}

static void delete_topics(struct place *place)
{
	struct kafka_queue *queue = (struct kafka_queue *)place->queue;
	rd_kafka_queue_t *answers = rd_kafka_queue_new(queue->admin);
	rd_kafka_DeleteTopic_t *gone[16];
	char name[KAFKA_NAME_MAX];

	for (size_t i = 0; i < topic_count; i++) {
		kafka_name(queue, topic_table[i].name, name);
		gone[i] = rd_kafka_DeleteTopic_new(name);
	}
	rd_kafka_DeleteTopics(queue->admin, gone, topic_count, NULL, answers);
	rd_kafka_event_destroy(rd_kafka_queue_poll(answers, PATIENCE_MS));
	rd_kafka_DeleteTopic_destroy_array(gone, topic_count);
	rd_kafka_queue_destroy(answers);
}

static int bare_place(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	struct err err = ERR_INIT;

	snprintf(place->prefix, sizeof(place->prefix), "test%llx.", (unsigned long long)rand_below(UINT64_C(1) << 48));
	place->settings.kafka.topic_prefix = place->prefix;
	place->settings.kafka.partitions = PARTITIONS;
	place->settings.kafka.message_timeout_ms = 10000;
	place->settings.kafka.session_timeout_ms = 6000;
	if (real_brokers != NULL)
		place->settings.kafka.brokers = (char *)real_brokers;
	else
		mock_start(place);
	assert_int_equal(0, queue_open(&place->settings, &place->queue, &err));
	*state = place;
	return 0;
}

static int full_place(void **state)
{
	bare_place(state);
	make_topics(*state);
	return 0;
}

static int leave_place(void **state)
{
	struct place *place = *state;

	if (place->cluster == NULL && ((struct kafka_queue *)place->queue)->admin != NULL)
		delete_topics(place);
	queue_close(place->queue);
	if (place->cluster != NULL)
		rd_kafka_mock_cluster_destroy(place->cluster);
	if (place->host != NULL)
		rd_kafka_destroy(place->host);
	free(place);
	return 0;
}

/* ---- senders and readers */

struct tally {
	_Atomic int outcomes[SENT_UNKNOWN + 1];
};

static void count(void *arg, enum sent sent, const char *why)
{
	struct tally *tally = arg;

	if ((sent == SENT_STORED) == (why == NULL))
		atomic_fetch_add(&tally->outcomes[sent], 1);
}

static int reported(const struct tally *tally)
{
	return tally->outcomes[SENT_STORED] + tally->outcomes[SENT_NOT] + tally->outcomes[SENT_UNKNOWN];
}

static struct producer *ready_producer(struct place *place)
{
	struct producer *producer;
	struct err err = ERR_INIT;

	assert_int_equal(0, producer_open(place->queue, PRODUCER_LOW_LATENCY, &producer, &err));
	WAIT_FOR(producer_ready(producer, &err));
	return producer;
}

static int send_text(struct producer *producer, const char *topic, int32_t partition, const char *key, const char *value,
	struct tally *tally, struct err *err)
{
	struct record record = { .topic = topic, .partition = partition, .key = slice_of(key), .value = slice_of(value) };

	return producer_send(producer, &record, tally != NULL ? count : NULL, tally, err);
}

static void send_all(struct producer *producer, const char *topic, int32_t partition, int first, int past)
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

static struct consumer *open_consumer(struct place *place, const struct consumer_options *options)
{
	struct consumer *consumer;
	struct err err = ERR_INIT;

	assert_int_equal(0, consumer_open(place->queue, options, &consumer, &err));
	return consumer;
}

static struct consumer *group_consumer(struct place *place, const char *group, const char *topic)
{
	return open_consumer(place, &(struct consumer_options){ .group = group, .topic = topic });
}

/* A group's first join takes the mock three seconds: where the group is not the story, one partition is read without. */
static struct consumer *reader(struct place *place, const char *topic, int32_t partition)
{
	struct consumer *consumer = open_consumer(place, &(struct consumer_options){ .topic = topic });
	struct err err = ERR_INIT;

	assert_int_equal(0, consumer_assign(consumer, topic, partition, QUEUE_BEGINNING, PATIENCE_MS, &err));
	return consumer;
}

static void next_record(struct consumer *consumer, struct record *record)
{
	struct err err = ERR_INIT;
	int got = consumer_poll(consumer, PATIENCE_MS, record, &err);

	if (got != 1)
		fail_msg("no record: %d %s", got, err.message);
}

static void expect(struct consumer *consumer, int32_t partition, const char *value)
{
	struct record record;

	next_record(consumer, &record);
	assert_int_equal(partition, record.partition);
	assert_int_equal(strlen(value), record.value.len);
	assert_memory_equal(value, record.value.data, record.value.len);
	record_release(&record);
}

static void expect_numbers(struct consumer *consumer, int32_t partition, int first, int past)
{
	for (int i = first; i < past; i++) {
		char value[16];

		snprintf(value, sizeof(value), "%d", i);
		expect(consumer, partition, value);
	}
}

/* Polls for what is not a record; one that comes is let go. */
static void poll_past(struct consumer *consumer)
{
	struct record record = { 0 };
	struct err err = ERR_INIT;

	assert_true(consumer_poll(consumer, 10, &record, &err) >= 0);
	record_release(&record);
}

static void poll_until_owned(struct consumer *consumer, size_t partitions)
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

	out.timestamp_ms = 1700000000123;
	record_header_add(&out, HEADER_TRACE, slice_of("00-abc"));
	record_header_add(&out, "binary", (struct slice){ "\0\1", 2 });
	record_header_add(&out, "null", SLICE_NONE);
	record_header_add(&out, "empty", slice_of(""));
	assert_int_equal(0, producer_send(producer, &out, count, &tally, &err));
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(1, tally.outcomes[SENT_STORED]);
	assert_int_equal(0, producer_pending(producer));
	next_record(consumer, &in);
	assert_string_equal(TOPIC_POSTS, in.topic);
	assert_int_equal(0, in.offset);
	assert_int_equal(1700000000123, in.timestamp_ms);
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
	make_topics(place);
	WAIT_FOR(producer_ready(producer, &err)); /* by itself */
	assert_int_equal(0, send_text(producer, TOPIC_POSTS, -1, NULL, "x", NULL, &err));
	producer_close(producer);
}

static void a_full_queue_says_so(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct err err = ERR_INIT;
	char *value = calloc(1, 1 << 20);
	struct record record = { .topic = TOPIC_POSTS, .partition = 0, .value = { value, 1 << 20 } };
	struct tally tally = { 0 };
	int taken = 0;

	rd_kafka_mock_broker_set_rtt(((struct place *)*state)->cluster, 1, 300);
	while (taken < 100 && producer_send(producer, &record, count, &tally, &err) == 0)
		taken++;
	assert_int_equal(ERR_FULL, err.kind);
	assert_in_range(taken, 10, 16); /* MiB */
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(taken, tally.outcomes[SENT_STORED]);
	producer_close(producer);
	free(value);
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

static int64_t committed(struct place *place, const char *group, const char *topic, int32_t partition)
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
	size_t partitions;
	bool lost;
	struct consumer *consumer;
};

static void on_revoked(void *arg, const int32_t *partitions, size_t partition_count, bool lost)
{
	struct taken *taken = arg;
	struct err err = ERR_INIT;

	if (taken->calls++ == 0) /* on a busy machine the group may be made anew once more */
		taken->partitions = partition_count;
	taken->lost = taken->lost || lost;
	for (size_t i = 0; i < partition_count; i++) /* work that was under way is done now */
		assert_int_equal(0, consumer_store(taken->consumer, TOPIC_POSTS, partitions[i], 3, &err));
}

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
	WAIT_FOR((poll_past(first), poll_past(second),
		consumer_owned(first) == 2 && consumer_owned(second) == 2));
	assert_true(taken.calls >= 1);
	assert_int_equal(PARTITIONS, taken.partitions);
	assert_false(taken.lost);
	for (int i = 0; i < PARTITIONS && real_brokers != NULL; i++) /* the mock refuses commits while a group rebalances */
		assert_int_equal(3, committed(*state, "index", TOPIC_POSTS, i));
	for (int i = 0; i < PARTITIONS; i++) /* each partition has one owner, and a stranger may not store */
		assert_true(consumer_owns(first, TOPIC_POSTS, i) != consumer_owns(second, TOPIC_POSTS, i));
	assert_int_equal(-1, consumer_store(first, TOPIC_POSTS, consumer_owns(first, TOPIC_POSTS, 0) ? PARTITIONS - 1 : 0, 3, &err));
	assert_int_equal(ERR_CONFLICT, err.kind);
	consumer_close(second);
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

static void an_offset_out_of_range_stops_that_partition_alone(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	struct kafka_queue *queue = (struct kafka_queue *)place->queue;
	int64_t stopped = metric_value(queue->stopped);
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
	WAIT_FOR((poll_past(consumer), metric_value(queue->stopped) == stopped + 1));
	assert_int_equal(0, consumer_pause(consumer, true, &err));
	assert_int_equal(0, consumer_pause(consumer, false, &err)); /* it stays stopped */
	send_all(producer, TOPIC_COMMANDS, 0, 3, 6);
	send_all(producer, TOPIC_COMMANDS, 1, 3, 6);
	expect_numbers(consumer, 1, 3, 6);
	assert_int_equal(0, consumer_poll(consumer, 300, &none, &err));
	consumer_close(consumer);
	producer_close(producer);
}

static void an_offset_out_of_range_is_not_passed_over(void **state)
{
	struct place *place = *state;
	struct kafka_queue *queue = (struct kafka_queue *)place->queue;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = reader(place, TOPIC_COMMANDS, 0);
	int64_t stopped = metric_value(queue->stopped);
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
	assert_int_equal(stopped, metric_value(queue->stopped)); /* nobody has to be called */
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

static void a_second_holder_of_an_instance_fences_the_first(void **state)
{
	const struct consumer_options options = { .group = "chunk", .topic = TOPIC_CHUNKS, .instance = "chunk-a-0" };
	struct consumer *first = open_consumer(*state, &options);
	struct consumer *second;
	struct record none;
	struct err err = ERR_INIT;
	int got = 0;

	poll_until_owned(first, PARTITIONS);
	second = open_consumer(*state, &options);
	poll_until_owned(second, PARTITIONS);
	WAIT_FOR((got = consumer_poll(first, 20, &none, &err)) < 0);
	assert_int_equal(ERR_FATAL, err.kind);
	assert_int_equal(-1, consumer_poll(first, 0, &none, &err)); /* for good */
	consumer_close(first);
	consumer_close(second);
}

/* ---- stories: trouble */

static void no_broker_is_said_at_once_and_its_return_is_seen(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = reader(place, TOPIC_POSTS, 0);
	struct err err = ERR_INIT;
	int64_t began_ms;

	rd_kafka_mock_broker_set_down(place->cluster, 1);
	began_ms = clock_mono_ms();
	WAIT_FOR(!producer_ready(producer, &err));
	assert_true(clock_mono_ms() - began_ms < 3000);
	began_ms = clock_mono_ms();
	assert_int_equal(-1, send_text(producer, TOPIC_POSTS, -1, NULL, "x", NULL, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	assert_true(clock_mono_ms() - began_ms < 100);
	WAIT_FOR((poll_past(consumer), !consumer_connected(consumer)));
	rd_kafka_mock_broker_set_up(place->cluster, 1);
	began_ms = clock_mono_ms();
	WAIT_FOR(producer_ready(producer, &err));
	assert_true(clock_mono_ms() - began_ms < 5000);
	send_all(producer, TOPIC_POSTS, 0, 0, 1);
	expect(consumer, 0, "0");
	WAIT_FOR((poll_past(consumer), consumer_connected(consumer)));
	consumer_close(consumer);
	producer_close(producer);
}

/* An idle connection that the broker closes: nothing is refused, nothing is lost. */
static void a_reaped_connection_refuses_nothing(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct tally tally = { 0 };
	struct err err = ERR_INIT;

	for (int i = 0; i < 5; i++) {
		int64_t until_ms = clock_mono_ms() + 100;

		rd_kafka_mock_push_request_errors(place->cluster, 0 /* Produce */, 1, RD_KAFKA_RESP_ERR__TRANSPORT);
		while (clock_mono_ms() < until_ms) {
			assert_int_equal(0, send_text(producer, TOPIC_POSTS, 0, NULL, "x", &tally, &err));
			pass_ms(5);
		}
	}
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(reported(&tally), tally.outcomes[SENT_STORED]);
	producer_close(producer);
}

static void what_is_not_acknowledged_in_time_is_not_called_stored(void **state)
{
	struct place *place = *state;
	struct producer *producer;
	struct tally tally = { 0 };
	struct err err = ERR_INIT;

	place->settings.kafka.message_timeout_ms = 1000;
	queue_close(place->queue);
	assert_int_equal(0, queue_open(&place->settings, &place->queue, &err));
	producer = ready_producer(place);
	send_all(producer, TOPIC_POSTS, 0, 0, 1); /* connected, with a producer id */
	rd_kafka_mock_broker_set_rtt(place->cluster, 1, 4000);
	assert_int_equal(0, send_text(producer, TOPIC_POSTS, 0, NULL, "on the wire", &tally, &err));
	WAIT_FOR(reported(&tally) == 1);
	assert_int_equal(1, tally.outcomes[SENT_UNKNOWN]);
	producer_close(producer);
}

static void close_reports_what_is_left(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct tally tally = { 0 };
	struct err err = ERR_INIT;

	rd_kafka_mock_broker_set_rtt(place->cluster, 1, 3000);
	for (int i = 0; i < 20; i++)
		assert_int_equal(0, send_text(producer, TOPIC_POSTS, i % PARTITIONS, NULL, "x", &tally, &err));
	assert_int_equal(-1, producer_flush(producer, 50));
	assert_int_equal(20, producer_pending(producer));
	producer_close(producer);
	assert_int_equal(20, reported(&tally));
	assert_int_equal(0, tally.outcomes[SENT_STORED]);
}

/* Every record that was taken is there at the end, in the order of the first sending where it stands once. */
static void check_all_there(struct place *place, int records)
{
	struct consumer *consumer = open_consumer(place, &(struct consumer_options){ .topic = TOPIC_COMMANDS });
	struct err err = ERR_INIT;
	int next = 0;

	assert_int_equal(0, consumer_assign(consumer, TOPIC_COMMANDS, 0, QUEUE_BEGINNING, PATIENCE_MS, &err));
	while (next < records) {
		struct record record;
		char text[16] = "";

		next_record(consumer, &record);
		memcpy(text, record.value.data, record.value.len < 15 ? record.value.len : 15);
		assert_true(strtol(text, NULL, 10) <= next); /* a repeat may come, a gap may not */
		next += strtol(text, NULL, 10) == next;
		assert_true(slice_is(record_header_get(&record, "h"), "v"));
		assert_true(slice_is(record.key, "k"));
		record_release(&record);
	}
	consumer_close(consumer);
}

static int send_numbered(struct producer *producer, int number, struct tally *tally, struct err *err)
{
	char value[16];
	struct record record = { .topic = TOPIC_COMMANDS, .partition = 0, .key = slice_of("k") };

	snprintf(value, sizeof(value), "%d", number);
	record.value = slice_of(value);
	record_header_add(&record, "h", slice_of("v"));
	return producer_send(producer, &record, count, tally, err);
}

static void a_fatal_error_loses_no_record(void **state)
{
	enum { RECORDS = 600 };
	struct place *place = *state;
	struct kafka_queue *queue = (struct kafka_queue *)place->queue;
	struct producer *producer = ready_producer(place);
	int64_t replaced = metric_value(queue->replaced);
	struct tally tally = { 0 };
	struct err err = ERR_INIT;

	if (place->cluster != NULL)
		rd_kafka_mock_broker_set_rtt(place->cluster, 1, 60); /* so that many are under way */
	for (int i = 0; i < RECORDS; i++) {
		if (i == 200 || i == 400) {
			WAIT_FOR(producer_ready(producer, &err));
			rd_kafka_test_fatal_error(kafka_producer_handle(producer), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test");
		}
		WAIT_FOR(send_numbered(producer, i, &tally, &err) == 0); /* refused for a moment: not stored, and known */
		assert_true(err.kind == ERR_NONE || err.kind == ERR_UNAVAILABLE);
	}
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(RECORDS, tally.outcomes[SENT_STORED]);
	assert_int_equal(RECORDS, reported(&tally));
	assert_int_equal(replaced + 2, metric_value(queue->replaced));
	producer_close(producer);
	check_all_there(place, RECORDS);
}

/* The broker's own word, before anything could be sent. */
static void a_refused_producer_id_replaces_the_producer(void **state)
{
	struct place *place = *state;
	struct producer *producer;
	struct err err = ERR_INIT;

	rd_kafka_mock_push_request_errors(place->cluster, 22 /* InitProducerId */, 1, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED);
	assert_int_equal(0, producer_open(place->queue, 0, &producer, &err));
	WAIT_FOR(metric_value(((struct kafka_queue *)place->queue)->replaced) > 0);
	WAIT_FOR(producer_ready(producer, &err));
	send_all(producer, TOPIC_POSTS, 0, 0, 10);
	producer_close(producer);
}

static void after_a_fatal_error_the_first_deadline_counts(void **state)
{
	struct place *place = *state;
	struct producer *producer;
	struct tally tally = { 0 };
	struct err err = ERR_INIT;
	int64_t began_ms;

	place->settings.kafka.message_timeout_ms = 3000;
	queue_close(place->queue);
	assert_int_equal(0, queue_open(&place->settings, &place->queue, &err));
	producer = ready_producer(place);
	send_all(producer, TOPIC_COMMANDS, 1, 0, 1);
	rd_kafka_mock_broker_set_rtt(place->cluster, 1, 10000);
	began_ms = clock_mono_ms();
	for (int i = 0; i < 10; i++)
		assert_int_equal(0, send_numbered(producer, i, &tally, &err));
	WAIT_FOR(clock_mono_ms() - began_ms > 500);
	rd_kafka_test_fatal_error(kafka_producer_handle(producer), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test");
	WAIT_FOR(reported(&tally) == 10);
	assert_in_range(clock_mono_ms() - began_ms, 2900, 3900);
	assert_int_equal(10, tally.outcomes[SENT_UNKNOWN]);
	producer_close(producer);
	assert_int_equal(10, reported(&tally)); /* once each */
}

/* Starting at the beginning because nobody said where the group is would do everything again. */
static void a_group_whose_offsets_are_not_learned_joins_again(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer;

	send_all(producer, TOPIC_COMMANDS, 0, 0, 2);
	rd_kafka_mock_push_request_errors(place->cluster, 9 /* OffsetFetch */, 1, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
	consumer = group_consumer(place, "command", TOPIC_COMMANDS);
	expect_numbers(consumer, 0, 0, 2);
	consumer_close(consumer);
	producer_close(producer);
}

static void a_torn_cluster_answers_in_words(void **state)
{
	struct place *place = *state;
	struct topic_state found;
	struct err err = ERR_INIT;

	rd_kafka_mock_broker_set_down(place->cluster, 1);
	assert_int_equal(-1, queue_topic_state(place->queue, TOPIC_POSTS, &found, 1000, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	assert_non_null(strstr(err.message, place->settings.kafka.brokers));
	rd_kafka_mock_broker_set_up(place->cluster, 1);
}

static void closing_is_bounded_while_no_broker_is_there(void **state)
{
	struct place *place = *state;
	struct consumer *consumer = group_consumer(place, "fanout", TOPIC_POSTS);
	struct producer *producer = ready_producer(place);
	int64_t began_ms;

	poll_until_owned(consumer, PARTITIONS);
	rd_kafka_mock_broker_set_down(place->cluster, 1);
	began_ms = clock_mono_ms();
	producer_close(producer);
	consumer_close(consumer);
	assert_true(clock_mono_ms() - began_ms < 20000);
}

/* ---- stories that need a real cluster */

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
	make_topics(place);
	began_ms = clock_mono_ms();
	poll_until_owned(consumer, PARTITIONS);
	assert_true(clock_mono_ms() - began_ms < 5000);
	producer = ready_producer(place);
	send_all(producer, TOPIC_POSTS, 1, 0, 1);
	expect(consumer, 1, "0");
	producer_close(producer);
	consumer_close(consumer);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, full_place, leave_place)
#define BARE(name) cmocka_unit_test_setup_teardown(name, bare_place, leave_place)

/* On any cluster. */
#define COMMON_STORIES                                                                                                  \
	STORY(key_value_and_headers_come_back), STORY(tombstones_and_empty_values_differ),                              \
		STORY(a_key_decides_the_partition_as_in_java), STORY(an_explicit_partition_is_kept),                    \
		STORY(what_can_never_be_sent_is_invalid_at_once), BARE(without_topics_a_producer_is_not_ready),         \
		STORY(more_headers_than_we_have_room_for_are_carried_on), STORY(a_group_goes_on_where_it_was),          \
		STORY(what_is_done_in_revoked_is_committed), STORY(seek_goes_back_and_drops_what_was_fetched),          \
		STORY(a_pause_skips_and_repeats_nothing), STORY(an_offset_out_of_range_is_not_passed_over),             \
		STORY(a_backlog_is_read_without_stalls), STORY(a_fatal_error_loses_no_record),                          \
		STORY(lag_tells_where_topics_begin_and_end)

int main(int argc, char **argv)
{
	const struct CMUnitTest mock[] = {
		COMMON_STORIES,
		STORY(a_full_queue_says_so),
		STORY(no_broker_is_said_at_once_and_its_return_is_seen),
		STORY(a_reaped_connection_refuses_nothing),
		STORY(what_is_not_acknowledged_in_time_is_not_called_stored),
		STORY(close_reports_what_is_left),
		STORY(a_refused_producer_id_replaces_the_producer),
		STORY(after_a_fatal_error_the_first_deadline_counts),
		STORY(a_group_whose_offsets_are_not_learned_joins_again),
		STORY(a_torn_cluster_answers_in_words),
		STORY(closing_is_bounded_while_no_broker_is_there),
	};
	const struct CMUnitTest real[] = {
		COMMON_STORIES,
		STORY(an_offset_out_of_range_stops_that_partition_alone),
		STORY(a_second_holder_of_an_instance_fences_the_first),
		BARE(topics_are_made_as_the_table_says),
		BARE(a_group_joins_when_its_topic_is_made),
	};

	log_open("test", NULL);
	if (argc < 2 || strcmp(argv[1], "--real") != 0)
		return cmocka_run_group_tests(mock, NULL, NULL);
	real_brokers = getenv("KAFKA_BROKERS");
	if (real_brokers == NULL) {
		fprintf(stderr, "--real needs KAFKA_BROKERS\n");
		return 2;
	}
	return cmocka_run_group_tests(real, NULL, NULL);
}
