/* Topics and groups go in, records come out in the order of each partition.
 *
 * Batches are built from single polls: librdkafka's own batches skip offsets around a rebalance. A committed offset that Kafka no longer
 * has stops the partition, because going on would skip records without a word. A consumer without a group has somebody who can be told
 * instead. */
#include "common/queue/queue_kafka_consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

enum {
	CLOSE_MS = 8000,   /* for librdkafka to let go of a handle */
	SLICE_MS = 250,    /* of waiting, after which we look at what is due */
	REPEAT_MS = 30000, /* the same error is logged once in so long */
	DRY_RECORDS = 500, /* so many in a row without a pause: the queue may have been full, and fetching asleep */
};

/* ---- records */

void kafka_message_release(void *message)
{
	rd_kafka_message_destroy(message);
}

static void fill_headers(const rd_kafka_message_t *message, struct record *out)
{
	rd_kafka_headers_t *headers;
	size_t count;

	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	count = rd_kafka_header_cnt(headers);
	for (size_t i = 0; i < count && i < RECORD_HEADERS_FETCHED; i++) {
		const char *name;
		const void *value;
		size_t len;

		if (rd_kafka_header_get_all(headers, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR)
			record_header_add(out, name, (struct slice){ value, len });
	}
}

static const char *topic_of_message(const struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	if (consumer->topic_count == 1 || message->rkt == NULL)
		return consumer->topics[0];
	return kafka_topic_of(consumer, rd_kafka_topic_name(message->rkt));
}

static void fill(const struct kafka_consumer *consumer, rd_kafka_message_t *message, struct record *out)
{
	rd_kafka_timestamp_type_t type;

	*out = (struct record){ .topic = topic_of_message(consumer, message), .partition = message->partition, .offset = message->offset };
	out->timestamp_ms = rd_kafka_message_timestamp(message, &type);
	out->key = (struct slice){ message->key, message->key_len };
	out->value = (struct slice){ message->payload, message->len };
	fill_headers(message, out);
	out->handle = message;
	out->release = kafka_message_release;
}

static void on_error(rd_kafka_t *rk, int code, const char *why, void *opaque)
{
	struct kafka_consumer *consumer = opaque;

	(void)rk;
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		kafka_link_suspect(consumer->link);
	else
		log_debug("kafka consumer", log_str("error", why));
}

/* ---- errors while fetching */

static void lose_place(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	err_set(&consumer->lost, ERR_CONFLICT, "%s/%d can't be read on from offset %lld: %s", consumer->topics[0],
		(int)message->partition, (long long)message->offset, rd_kafka_message_errstr(message));
}

/* The partition stays ours and silent; the others go on. */
static void stop_owned(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	const char *topic = topic_of_message(consumer, message);
	struct owned *owned = kafka_owned_find(consumer, topic, message->partition);
	rd_kafka_topic_partition_list_t *list = kafka_place_list(consumer, topic, message->partition, RD_KAFKA_OFFSET_INVALID);

	rd_kafka_pause_partitions(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (owned != NULL && owned->stopped)
		return;
	if (owned != NULL)
		owned->stopped = true;
	metric_add(consumer->queue->stopped, 1);
	log_error("partition stopped", log_str("topic", topic), log_int("partition", message->partition),
		log_int("offset", message->offset), log_str("error", rd_kafka_message_errstr(message)),
		log_str("remedy", "records may be lost: compare with `feedctl lag`, then set the offset with `feedctl offsets`"));
}

static void stop_partition(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	if (consumer->grouped)
		stop_owned(consumer, message);
	else
		lose_place(consumer, message);
}

/* Out of range names the offset; a question for the beginning that failed does not, and is asked again. */
static void on_reset(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	if (message->offset >= 0 || !consumer->grouped)
		stop_partition(consumer, message);
	else
		kafka_group_join_soon(consumer);
}

static void on_other(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	int64_t now_ms = clock_mono_ms();

	if (message->err == consumer->last_error && now_ms - consumer->last_error_ms < REPEAT_MS)
		return;
	consumer->last_error = message->err;
	consumer->last_error_ms = now_ms;
	log_warn("kafka consumer", log_str("topic", topic_of_message(consumer, message)), log_str("error", rd_kafka_message_errstr(message)),
		log_str("remedy", message->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ? "`feedctl topics` makes it" : NULL));
}

/* By itself librdkafka looks again after five minutes. */
static void on_no_topic(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	if (!consumer->grouped) {
		lose_place(consumer, message);
		return;
	}
	atomic_store(&consumer->link->missing, 1);
	kafka_link_suspect(consumer->link);
	on_other(consumer, message);
}

static void on_fatal(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	(void)message;
	consumer->fatal = true;
}

static const struct {
	rd_kafka_resp_err_t code;
	void (*react)(struct kafka_consumer *consumer, const rd_kafka_message_t *message);
} reactions[] = {
	{ RD_KAFKA_RESP_ERR__FATAL, on_fatal },
	{ RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, on_reset },
	{ RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, on_no_topic },
	{ RD_KAFKA_RESP_ERR__BAD_MSG, stop_partition }, /* a checksum is wrong; librdkafka would go on behind it */
};

static void react(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	metric_add(consumer->queue->consumer_errors, 1);
	for (size_t i = 0; i < sizeof(reactions) / sizeof(reactions[0]); i++) {
		if (reactions[i].code == message->err) {
			reactions[i].react(consumer, message);
			return;
		}
	}
	on_other(consumer, message);
}

static int fatal_error(const struct kafka_consumer *consumer, struct err *err)
{
	char why[256] = "";
	rd_kafka_resp_err_t code = rd_kafka_fatal_error(consumer->rk, why, sizeof(why));

	return err_set(err, ERR_FATAL, "consumer of %s: %s: %s", consumer->topics[0], rd_kafka_err2name(code), why);
}

/* ---- polling */

/* The next message or error, or NULL. When many came in a row and then none, the broker's thread has probably been asleep
 * since our queue was full: it is woken. */
static rd_kafka_message_t *next_message(struct kafka_consumer *consumer, int64_t wait_ms)
{
	rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, 0);

	if (message != NULL) {
		consumer->in_a_row++;
		return message;
	}
	if (consumer->in_a_row >= DRY_RECORDS)
		kafka_link_nudge(consumer->link);
	consumer->in_a_row = 0;
	if (wait_ms <= 0)
		return NULL;
	return rd_kafka_consumer_poll(consumer->rk, wait_ms < SLICE_MS ? (int)wait_ms : SLICE_MS);
}

/* Of a held partition: it was on its way when the hold was put on. It comes again when that is over. */
static bool is_held(const struct kafka_consumer *consumer, const struct record *record)
{
	const struct owned *owned = kafka_owned_find(consumer, record->topic, record->partition);

	return owned != NULL && owned->held;
}

int kafka_consumer_poll(struct consumer *base, int64_t timeout_ms, struct record *out, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	int64_t now_ms = clock_mono_ms();
	int64_t until_ms = now_ms + timeout_ms;

	do {
		rd_kafka_message_t *message = next_message(consumer, until_ms - now_ms);

		if (message != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
			fill(consumer, message, out);
			if (!is_held(consumer, out))
				return 1;
			record_release(out);
		} else if (message != NULL) {
			react(consumer, message);
			rd_kafka_message_destroy(message);
		}
		if (consumer->fatal)
			return fatal_error(consumer, err);
		if (consumer->lost.kind != ERR_NONE)
			return err_set(err, consumer->lost.kind, "%s", consumer->lost.message);
		if (kafka_group_join(consumer, err) < 0)
			return -1;
		now_ms = clock_mono_ms();
	} while (now_ms < until_ms);
	return 0;
}

bool kafka_consumer_connected(const struct consumer *base)
{
	const struct kafka_consumer *consumer = (const struct kafka_consumer *)base;

	return atomic_load(&consumer->joined) && atomic_load(&consumer->link->reachable);
}

/* ---- without a group */

/* Puts the partition and the offset to start from into the list. */
static int add_start(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *list, int32_t partition, int64_t offset,
	int64_t timeout_ms, struct err *err)
{
	char name[KAFKA_NAME_MAX];
	int64_t low = 0, high = 0;
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

	kafka_name(consumer->queue, consumer->topics[0], name);
	if (offset < 0)
		code = rd_kafka_query_watermark_offsets(consumer->rk, name, partition, &low, &high, (int)timeout_ms);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return err_set(err, kafka_kind(code), "asking where %s/%d begins and ends: %s", name, (int)partition, rd_kafka_err2str(code));
	if (offset < 0)
		offset = offset == QUEUE_BEGINNING ? low : high;
	rd_kafka_topic_partition_list_add(list, name, partition)->offset = offset;
	return 0;
}

static int add_all_starts(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *list, int64_t offset, int64_t timeout_ms,
	struct err *err)
{
	char name[KAFKA_NAME_MAX];
	int32_t partitions;

	kafka_name(consumer->queue, consumer->topics[0], name);
	if (kafka_partitions(consumer->queue, consumer->rk, name, timeout_ms, &partitions, err) < 0)
		return -1;
	if (partitions == 0)
		return err_set(err, ERR_INVALID, "no topic %s on Kafka", name);
	for (int32_t i = 0; i < partitions; i++) {
		if (add_start(consumer, list, i, offset, timeout_ms, err) < 0)
			return -1;
	}
	return 0;
}

static void set_topic(struct kafka_consumer *consumer, const char *topic)
{
	if (strcmp(consumer->topics[0], topic) == 0)
		return; /* records that are not released yet point at it */
	free(consumer->topics[0]);
	consumer->topics[0] = mem_strdup(topic);
}

static int assign_list(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *list, struct err *err)
{
	const rd_kafka_resp_err_t code = rd_kafka_assign(consumer->rk, list);

	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return kafka_err(err, code, "assigning");
	kafka_owned_set(consumer, list);
	err_clear(&consumer->lost);
	atomic_store(&consumer->joined, true);
	return 0;
}

int kafka_consumer_assign(struct consumer *base, const char *topic, int32_t partition, int64_t offset, int64_t timeout_ms, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	int rc;

	set_topic(consumer, topic);
	rc = partition == QUEUE_EVERY ? add_all_starts(consumer, list, offset, timeout_ms, err)
				      : add_start(consumer, list, partition, offset, timeout_ms, err);
	if (rc == 0)
		rc = assign_list(consumer, list, err);
	rd_kafka_topic_partition_list_destroy(list);
	return rc;
}

int kafka_consumer_assign_places(struct consumer *base, const char *topic, const struct queue_place *places, size_t count, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
	int rc;

	set_topic(consumer, topic);
	for (size_t i = 0; i < count; i++)
		kafka_place_add(consumer, list, topic, places[i].partition, places[i].offset);
	rc = assign_list(consumer, list, err);
	rd_kafka_topic_partition_list_destroy(list);
	return rc;
}

/* ---- life */

/* Small queues: what is fetched ahead is memory, and lost work when partitions move. A response is at most 1 MiB (or one batch
 * of a producer, if that is larger). Bytes alone do not bound it: who lags behind records that come one by one holds a whole response for
 * each of them, and every response lists all partitions of its consumer. That makes some 3 KiB a record of 60 bytes (12 partitions of each topic). */
static const struct kafka_setting consumer_settings[] = {
	{ "partition.assignment.strategy", "range,roundrobin" },
	{ "enable.auto.offset.store", "false" },
	{ "auto.commit.interval.ms", "1000" },
	{ "auto.offset.reset", "error" },
	{ "check.crcs", "true" },
	{ "isolation.level", "read_committed" },
	{ "queued.max.messages.kbytes", "2048" },
	{ "queued.min.messages", "1000" },
	{ "message.max.bytes", "1048576" },
	{ "fetch.max.bytes", "1048576" },
	{ "fetch.message.max.bytes", "262144" },
	{ "fetch.min.bytes", "1" },
	{ "fetch.wait.max.ms", "200" }, /* how long a partition that is assigned or resumed waits for the request under way */
	{ "fetch.error.backoff.ms", "100" },
};

static int conf_member(rd_kafka_conf_t *conf, const struct kafka_queue *queue, const struct consumer_options *options, struct err *err)
{
	char group[KAFKA_NAME_MAX];

	/* librdkafka wants a group's name for assignments too; without commits the group is never made. */
	kafka_name(queue, options->group != NULL ? options->group : "none", group);
	if (kafka_conf_text(conf, "group.id", group, err) < 0 ||
	    kafka_conf_text(conf, "enable.auto.commit", options->group != NULL ? "true" : "false", err) < 0)
		return -1;
	/* A member learns by its heartbeat that another came or went: for so long the partitions of one that left lie still. */
	if (kafka_conf_int(conf, "session.timeout.ms", queue->session_timeout_ms, err) < 0 ||
	    kafka_conf_int(conf, "heartbeat.interval.ms", queue->session_timeout_ms / 10, err) < 0)
		return -1;
	return options->instance != NULL ? kafka_conf_text(conf, "group.instance.id", options->instance, err) : 0;
}

static rd_kafka_t *handle_new(struct kafka_consumer *consumer, const struct consumer_options *options, struct err *err)
{
	rd_kafka_conf_t *conf = kafka_conf_new(consumer->queue, consumer_settings,
		sizeof(consumer_settings) / sizeof(consumer_settings[0]), err);

	if (conf == NULL)
		return NULL;
	if (conf_member(conf, consumer->queue, options, err) < 0) {
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	rd_kafka_conf_set_rebalance_cb(conf, kafka_group_on_rebalance);
	rd_kafka_conf_set_error_cb(conf, on_error);
	rd_kafka_conf_set_opaque(conf, consumer);
	return kafka_handle_new(RD_KAFKA_CONSUMER, conf, err);
}

static void copy_topics(struct kafka_consumer *consumer, const struct consumer_options *options)
{
	size_t more = 0;

	while (options->more != NULL && options->more[more] != NULL)
		more++;
	consumer->topics = mem_array(more + 1, sizeof(*consumer->topics));
	consumer->topics[0] = mem_strdup(options->topic != NULL ? options->topic : "");
	for (size_t i = 0; i < more; i++)
		consumer->topics[i + 1] = mem_strdup(options->more[i]);
	consumer->topic_count = more + 1;
}

static void consumer_free(struct kafka_consumer *consumer)
{
	for (size_t i = 0; i < consumer->topic_count; i++)
		free(consumer->topics[i]);
	free(consumer->topics);
	free(consumer->owned);
	free(consumer);
}

int kafka_consumer_open(struct queue *queue, const struct consumer_options *options, struct consumer **out, struct err *err)
{
	struct kafka_consumer *consumer = mem_zalloc(sizeof(*consumer));

	consumer->base.ops = queue->ops;
	consumer->queue = (struct kafka_queue *)queue;
	copy_topics(consumer, options);
	consumer->grouped = options->group != NULL;
	consumer->revoked = options->revoked;
	consumer->arg = options->arg;
	consumer->rk = handle_new(consumer, options, err);
	if (consumer->rk == NULL) {
		consumer_free(consumer);
		return -1;
	}
	rd_kafka_poll_set_consumer(consumer->rk);
	consumer->link = kafka_link_new(consumer->queue, consumer->rk, false, NULL);
	if (consumer->grouped && kafka_group_subscribe(consumer, err) < 0) {
		kafka_consumer_close(&consumer->base);
		return -1;
	}
	*out = &consumer->base;
	return 0;
}

static void *destroy(void *rk)
{
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return NULL;
}

/* librdkafka before 2.6.1 hangs here when the topic of a partition that we read was deleted: an error for us, in the partition's
 * queue, keeps the partition alive, which keeps its broker's thread (issue 4724). The handle is then left to the end of the
 * process. */
static bool destroy_in_time(rd_kafka_t *rk)
{
	pthread_t thread;
	struct timespec until;

	if (pthread_create(&thread, NULL, destroy, rk) != 0)
		return false;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CLOSE_MS / 1000;
	if (pthread_timedjoin_np(thread, NULL, &until) == 0)
		return true;
	pthread_detach(thread);
	return false;
}

void kafka_consumer_close(struct consumer *base)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;

	kafka_link_stop(consumer->link);
	if (!kafka_group_leave(consumer) || !destroy_in_time(consumer->rk)) {
		log_warn("consumer not closed in time", log_str("topic", consumer->topics[0]));
		return; /* its callbacks may still look at us */
	}
	kafka_link_free(consumer->link);
	consumer_free(consumer);
}
