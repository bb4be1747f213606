/* Partitions and offsets of a consumer go in, to librdkafka; what is its own, and where each partition goes on, comes out. */
#include "common/queue/queue_kafka_consumer.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define SEEK_MS 10000

/* ---- topics */

/* Ours, for one of librdkafka's or of a caller's, which may be others' memory; NULL: none of ours. */
static const char *find_topic(const struct kafka_consumer *consumer, const char *name)
{
	for (size_t i = 0; i < consumer->topic_count; i++) {
		if (consumer->topics[i] == name || strcmp(consumer->topics[i], name) == 0)
			return consumer->topics[i];
	}
	return NULL;
}

const char *kafka_topic_of(const struct kafka_consumer *consumer, const char *name)
{
	const char *topic = find_topic(consumer, name + strlen(consumer->queue->prefix));

	return topic != NULL ? topic : consumer->topics[0]; /* we asked for no other */
}

/* ---- partitions */

struct owned *kafka_owned_find(const struct kafka_consumer *consumer, const char *topic, int32_t partition)
{
	topic = find_topic(consumer, topic);
	for (size_t i = 0; topic != NULL && i < consumer->owned_count; i++) {
		if (consumer->owned[i].partition == partition && consumer->owned[i].topic == topic)
			return &consumer->owned[i];
	}
	return NULL;
}

/* A number that consumer_begin() has kept with an offset. */
static const char begun_prefix[] = "begun ";

static int64_t begun_of(const rd_kafka_topic_partition_t *p)
{
	const size_t len = sizeof(begun_prefix) - 1;
	const struct slice text = { p->metadata, p->metadata_size };
	int64_t number;

	if (text.data == NULL || text.len <= len || memcmp(text.data, begun_prefix, len) != 0)
		return 0;
	return str_int64((struct slice){ text.data + len, text.len - len }, &number) && number > 0 ? number : 0;
}

void kafka_owned_set(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *partitions)
{
	size_t count = partitions != NULL ? (size_t)partitions->cnt : 0;

	atomic_store(&consumer->owned_count, 0);
	consumer->owned = mem_grow(consumer->owned, count, sizeof(*consumer->owned));
	for (size_t i = 0; i < count; i++)
		consumer->owned[i] = (struct owned){ .topic = kafka_topic_of(consumer, partitions->elems[i].topic),
			.partition = partitions->elems[i].partition, .stored = -1, .begun = begun_of(&partitions->elems[i]) };
	consumer->paused = false;
	atomic_store(&consumer->owned_count, count);
}

rd_kafka_topic_partition_t *kafka_place_add(const struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *list, const char *topic,
	int32_t partition, int64_t offset)
{
	char name[KAFKA_NAME_MAX];
	rd_kafka_topic_partition_t *added;

	kafka_name(consumer->queue, topic, name);
	added = rd_kafka_topic_partition_list_add(list, name, partition);
	added->offset = offset;
	return added;
}

rd_kafka_topic_partition_list_t *kafka_place_list(const struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

	kafka_place_add(consumer, list, topic, partition, offset);
	return list;
}

/* All that is owned and has been neither stopped nor held: those stay as they are. */
rd_kafka_topic_partition_list_t *kafka_owned_list(const struct kafka_consumer *consumer)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)consumer->owned_count + 1);

	for (size_t i = 0; i < consumer->owned_count; i++) {
		if (!consumer->owned[i].stopped && !consumer->owned[i].held)
			kafka_place_add(consumer, list, consumer->owned[i].topic, consumer->owned[i].partition, RD_KAFKA_OFFSET_INVALID);
	}
	return list;
}

/* ---- offsets, pauses */

static struct owned *ours(const struct kafka_consumer *consumer, const char *topic, int32_t partition, struct err *err)
{
	struct owned *owned = rd_kafka_assignment_lost(consumer->rk) ? NULL : kafka_owned_find(consumer, topic, partition);

	if (owned == NULL)
		err_set(err, ERR_CONFLICT, "partition %d of %s is not ours", (int)partition, topic);
	return owned;
}

typedef rd_kafka_resp_err_t places_fn(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list);

/* What librdkafka does to a list of places, done to one. */
static int do_to(struct kafka_consumer *consumer, places_fn *fn, const char *topic, int32_t partition, int64_t offset, const char *what, struct err *err)
{
	rd_kafka_topic_partition_list_t *list = kafka_place_list(consumer, topic, partition, offset);
	const rd_kafka_resp_err_t code = fn(consumer->rk, list);

	rd_kafka_topic_partition_list_destroy(list);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_err(err, code, what);
}

int kafka_consumer_store(struct consumer *base, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	struct owned *owned = ours(consumer, topic, partition, err);

	if (owned == NULL || do_to(consumer, rd_kafka_offsets_store, topic, partition, offset, "storing an offset", err) < 0)
		return -1;
	owned->stored = offset;
	return 0;
}

/* librdkafka 2.0 waits a thousandth of the time it is given here, so it is asked until the time is up. Asking again is
 * harmless: records from before the last question are dropped. */
static int seek(struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	int64_t until_ms = clock_mono_ms() + SEEK_MS;
	rd_kafka_topic_partition_list_t *list = kafka_place_list(consumer, topic, partition, offset);
	rd_kafka_resp_err_t code;

	do {
		rd_kafka_error_t *error = rd_kafka_seek_partitions(consumer->rk, list, 1000);

		code = error != NULL ? rd_kafka_error_code(error) : list->elems[0].err;
		if (error != NULL)
			rd_kafka_error_destroy(error);
	} while ((code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR__STATE) && clock_mono_ms() < until_ms);
	rd_kafka_topic_partition_list_destroy(list);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_err(err, code, "seeking");
}

int kafka_consumer_seek(struct consumer *base, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	struct owned *owned = ours(consumer, topic, partition, err);

	if (owned == NULL)
		return -1;
	if (!owned->held)
		return seek(consumer, topic, partition, offset, err);
	owned->held_at = offset;
	return 0;
}

bool kafka_consumer_owns(const struct consumer *base, const char *topic, int32_t partition)
{
	const struct kafka_consumer *consumer = (const struct kafka_consumer *)base;

	return kafka_owned_find(consumer, topic, partition) != NULL && !rd_kafka_assignment_lost(consumer->rk);
}

size_t kafka_consumer_owned(const struct consumer *base)
{
	return atomic_load(&((const struct kafka_consumer *)base)->owned_count);
}

int kafka_consumer_pause(struct consumer *base, bool paused, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	rd_kafka_topic_partition_list_t *list = kafka_owned_list(consumer);
	rd_kafka_resp_err_t code;

	code = paused ? rd_kafka_pause_partitions(consumer->rk, list) : rd_kafka_resume_partitions(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		consumer->paused = paused;
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_err(err, code, paused ? "pausing" : "resuming");
}

int kafka_consumer_hold(struct consumer *base, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	struct owned *owned = ours(consumer, topic, partition, err);

	if (owned == NULL ||
		do_to(consumer, rd_kafka_pause_partitions, topic, partition, RD_KAFKA_OFFSET_INVALID, "pausing a partition", err) < 0)
		return -1;
	owned->held = true;
	owned->held_at = offset;
	return 0;
}

/* Sought while it is paused: a pause of librdkafka 2.0 remembers what was handed out last, and only a seek makes it forget. */
int kafka_consumer_release(struct consumer *base, const char *topic, int32_t partition, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	struct owned *owned = ours(consumer, topic, partition, err);

	if (owned == NULL)
		return -1;
	if (!owned->held)
		return 0;
	if (seek(consumer, topic, partition, owned->held_at, err) < 0)
		return -1;
	if (!consumer->paused && !owned->stopped &&
		do_to(consumer, rd_kafka_resume_partitions, topic, partition, RD_KAFKA_OFFSET_INVALID, "resuming a partition", err) < 0)
		return -1;
	owned->held = false;
	return 0;
}

/* ---- work that is begun */

static void add_beginning(const struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *list, const struct beginning *beginning)
{
	rd_kafka_topic_partition_t *p = kafka_place_add(consumer, list, beginning->topic, beginning->partition, beginning->offset);
	char text[sizeof(begun_prefix) + 24];

	if (beginning->tries <= 0)
		return;
	p->metadata_size = (size_t)snprintf(text, sizeof(text), "%s%lld", begun_prefix, (long long)beginning->tries);
	p->metadata = mem_strdup(text); /* the list's, which frees it */
}

int kafka_consumer_begin(struct consumer *base, const struct beginning *beginnings, size_t count, struct err *err)
{
	struct kafka_consumer *consumer = (struct kafka_consumer *)base;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)consumer->owned_count + 1);
	rd_kafka_resp_err_t code;
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		if (ours(consumer, beginnings[i].topic, beginnings[i].partition, err) == NULL)
			rc = -1;
		else
			add_beginning(consumer, list, &beginnings[i]);
	}
	for (size_t i = 0; i < consumer->owned_count; i++) {
		const struct owned *owned = &consumer->owned[i];
		char name[KAFKA_NAME_MAX];

		kafka_name(consumer->queue, owned->topic, name);
		if (owned->stored >= 0 && rd_kafka_topic_partition_list_find(list, name, owned->partition) == NULL)
			kafka_place_add(consumer, list, owned->topic, owned->partition, owned->stored);
	}
	code = rc == 0 && list->cnt > 0 ? kafka_group_commit(consumer, list) : RD_KAFKA_RESP_ERR_NO_ERROR;
	rd_kafka_topic_partition_list_destroy(list);
	return rc < 0 || code == RD_KAFKA_RESP_ERR_NO_ERROR ? rc : kafka_err(err, code, "committing");
}

int64_t kafka_consumer_begun(const struct consumer *base, const char *topic, int32_t partition)
{
	const struct owned *owned = kafka_owned_find((const struct kafka_consumer *)base, topic, partition);

	return owned != NULL ? owned->begun : 0;
}
