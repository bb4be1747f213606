/* queue on Kafka: what queue.h promises, against librdkafka's mock cluster, so that no server is needed.
 * With KAFKA_BROKERS set and `--real`, the same stories run on a real cluster, but for those that break it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/queue/queue_kafka.h"
#include "tests/unit/queue_suite.h"
#include "tests/unit/side_by_side.h"

#include <librdkafka/rdkafka_mock.h> /* wants rdkafka.h before it */

static const char *real_brokers; /* NULL: the mock */

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
	rd_kafka_topic_t *topics[64];
	rd_kafka_t *rk;
	char name[KAFKA_NAME_MAX];
	char why[256];

	kafka_name((struct kafka_queue *)place->queue, results->name, name);
	assert_int_equal(0, rd_kafka_mock_topic_create(place->cluster, name, results->partitions, 1));
	rd_kafka_conf_set(conf, "bootstrap.servers", place->settings.kafka.brokers, why, sizeof(why));
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	assert_in_range(topic_count, 1, 64);
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
	if (place->cluster != NULL)
		mock_topics(place);
	else
		suite_make_topics(place);
}

static void delete_topics(struct place *place)
{
	struct kafka_queue *queue = (struct kafka_queue *)place->queue;
	rd_kafka_queue_t *answers = rd_kafka_queue_new(queue->admin);
	rd_kafka_DeleteTopic_t *gone[64];
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

static void start(struct place *place)
{
	if (real_brokers != NULL)
		place->settings.kafka.brokers = (char *)real_brokers;
	else
		mock_start(place);
}

static void empty(struct place *place)
{
	if (place->cluster == NULL && ((struct kafka_queue *)place->queue)->admin != NULL)
		delete_topics(place);
}

static void stop(struct place *place)
{
	if (place->cluster != NULL)
		rd_kafka_mock_cluster_destroy(place->cluster);
	if (place->host != NULL)
		rd_kafka_destroy(place->host);
}

struct queue_rig queue_rig = { .type = "kafka", .start = start, .make_topics = make_topics, .empty = empty, .stop = stop };

/* ---- stories: sending, groups */

/* How many records of a length are taken while the broker does not answer; all are stored when it does. */
static int fill_queue(struct place *place, size_t length)
{
	struct producer *producer = ready_producer(place);
	struct err err = ERR_INIT;
	char *value = calloc(1, length);
	struct record record = { .topic = TOPIC_POSTS, .partition = 0, .value = { value, length } };
	struct tally tally = { 0 };
	int taken = 0;

	rd_kafka_mock_broker_set_rtt(place->cluster, 1, 1000);
	while (taken < 100000 && producer_send(producer, &record, tally_up, &tally, &err) == 0)
		taken++;
	assert_int_equal(ERR_FULL, err.kind);
	rd_kafka_mock_broker_set_rtt(place->cluster, 1, 0);
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(taken, tally.outcomes[SENT_STORED]);
	producer_close(producer);
	free(value);
	return taken;
}

static void a_full_queue_says_so(void **state)
{
	assert_in_range(fill_queue(*state, 1 << 20), 10, 16); /* MiB */
}

static void a_queue_full_of_small_records_says_so(void **state)
{
	assert_in_range(fill_queue(*state, 10), 32768, 65536); /* some may have gone out before the broker became slow */
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
	return producer_send(producer, &record, tally_up, tally, err);
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

/* As just after its start: librdkafka 2.0.2 looks for the handle's own group when a group's coordinator is not ready, and a
 * handle that has none ends the process. */
static void a_coordinator_that_loads_is_asked_again(void **state)
{
	struct place *place = *state;
	const rd_kafka_resp_err_t codes[] = { RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
		RD_KAFKA_RESP_ERR_NOT_COORDINATOR };
	struct partition_lag lag[64];
	struct err err = ERR_INIT;
	size_t count;

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		rd_kafka_mock_push_request_errors(place->cluster, 9 /* OffsetFetch */, 1, codes[i]);
		if (queue_lag(place->queue, "command", TOPIC_COMMANDS, lag, 64, &count, 10000, &err) < 0)
			assert_int_equal(ERR_UNAVAILABLE, err.kind);
		assert_int_equal(0, queue_lag(place->queue, "command", TOPIC_COMMANDS, lag, 64, &count, 10000, &err));
	}
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

int main(int argc, char **argv)
{
	const struct CMUnitTest mock[] = {
		STORY(a_full_queue_says_so),
		STORY(a_queue_full_of_small_records_says_so),
		STORY(no_broker_is_said_at_once_and_its_return_is_seen),
		STORY(a_reaped_connection_refuses_nothing),
		STORY(what_is_not_acknowledged_in_time_is_not_called_stored),
		STORY(close_reports_what_is_left),
		STORY(a_fatal_error_loses_no_record),
		STORY(a_refused_producer_id_replaces_the_producer),
		STORY(after_a_fatal_error_the_first_deadline_counts),
		STORY(a_group_whose_offsets_are_not_learned_joins_again),
		STORY(a_coordinator_that_loads_is_asked_again),
		STORY(a_torn_cluster_answers_in_words),
		STORY(closing_is_bounded_while_no_broker_is_there),
	};
	const struct CMUnitTest real[] = {
		STORY(a_fatal_error_loses_no_record),
		STORY(a_second_holder_of_an_instance_fences_the_first),
	};

	log_open("test", NULL);
	if (argc < 2 || strcmp(argv[1], "--real") != 0)
		return queue_suite_run() + side_by_side("queue on a mock cluster", mock);
	real_brokers = getenv("KAFKA_BROKERS");
	if (real_brokers == NULL) {
		fprintf(stderr, "--real needs KAFKA_BROKERS\n");
		return 2;
	}
	queue_rig.is_whole = true;
	return queue_suite_run() + side_by_side("queue on a real cluster", real);
}
