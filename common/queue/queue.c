/* A call of queue.h goes in, the same call of the back end that was opened comes out. */
#include "common/queue/queue.h"

#include <stdio.h>
#include <string.h>

#include "common/queue/queue_ops.h"

/* Back ends by the value of queue.type; the first is the default. */
static const struct {
	const char *type;
	const struct queue_ops *ops;
} backends[] = {
	{ "kafka", &queue_kafka },
	{ "sqlite", &queue_sqlite },
};

static const struct queue_ops *backend_of(const char *type)
{
	for (size_t i = 0; type != NULL && i < sizeof(backends) / sizeof(backends[0]); i++) {
		if (strcmp(backends[i].type, type) == 0)
			return backends[i].ops;
	}
	return backends[0].ops;
}

void queue_describe(const struct settings *settings, struct buf *out)
{
	backend_of(settings->queue.type)->describe(settings, out);
}

int queue_open(const struct settings *settings, struct queue **out, struct err *err)
{
	if (topics_open(settings, err) < 0)
		return -1;
	return backend_of(settings->queue.type)->open(settings, out, err);
}

void queue_close(struct queue *queue)
{
	if (queue != NULL)
		queue->ops->close(queue);
}

const char *queue_library(void)
{
	return queue_kafka.library(); /* SQLite is named by store_library() */
}

int producer_open(struct queue *queue, int flags, struct producer **out, struct err *err)
{
	return queue->ops->producer_open(queue, flags, out, err);
}

int producer_send(struct producer *producer, const struct record *record, sent_fn *done, void *arg, struct err *err)
{
	return producer->ops->producer_send(producer, record, done, arg, err);
}

bool producer_ready(struct producer *producer, struct err *err)
{
	return producer->ops->producer_ready(producer, err);
}

int64_t producer_pending(const struct producer *producer)
{
	return producer->ops->producer_pending(producer);
}

int producer_flush(struct producer *producer, int64_t timeout_ms)
{
	return producer->ops->producer_flush(producer, timeout_ms);
}

void producer_close(struct producer *producer)
{
	if (producer != NULL)
		producer->ops->producer_close(producer);
}

int lossy_open(struct queue *queue, const char *topic, lost_fn *lost, void *arg, struct lossy **out, struct err *err)
{
	return queue->ops->lossy_open(queue, topic, lost, arg, out, err);
}

void lossy_send(struct lossy *lossy, struct slice line)
{
	lossy->ops->lossy_send(lossy, line);
}

void lossy_close(struct lossy *lossy)
{
	if (lossy != NULL)
		lossy->ops->lossy_close(lossy);
}

int consumer_open(struct queue *queue, const struct consumer_options *options, struct consumer **out, struct err *err)
{
	return queue->ops->consumer_open(queue, options, out, err);
}

int consumer_assign(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, int64_t timeout_ms, struct err *err)
{
	return consumer->ops->consumer_assign(consumer, topic, partition, offset, timeout_ms, err);
}

int consumer_assign_places(struct consumer *consumer, const char *topic, const struct queue_place *places, size_t count, struct err *err)
{
	return consumer->ops->consumer_assign_places(consumer, topic, places, count, err);
}

int consumer_poll(struct consumer *consumer, int64_t timeout_ms, struct record *out, struct err *err)
{
	return consumer->ops->consumer_poll(consumer, timeout_ms, out, err);
}

int consumer_store(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	return consumer->ops->consumer_store(consumer, topic, partition, offset, err);
}

int consumer_seek(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	return consumer->ops->consumer_seek(consumer, topic, partition, offset, err);
}

bool consumer_owns(const struct consumer *consumer, const char *topic, int32_t partition)
{
	return consumer->ops->consumer_owns(consumer, topic, partition);
}

size_t consumer_owned(const struct consumer *consumer)
{
	return consumer->ops->consumer_owned(consumer);
}

int consumer_pause(struct consumer *consumer, bool paused, struct err *err)
{
	return consumer->ops->consumer_pause(consumer, paused, err);
}

int consumer_hold(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	return consumer->ops->consumer_hold(consumer, topic, partition, offset, err);
}

int consumer_release(struct consumer *consumer, const char *topic, int32_t partition, struct err *err)
{
	return consumer->ops->consumer_release(consumer, topic, partition, err);
}

int consumer_begin(struct consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err)
{
	return consumer->ops->consumer_begin(consumer, beginnings, count, err);
}

int64_t consumer_begun(const struct consumer *consumer, const char *topic, int32_t partition)
{
	return consumer->ops->consumer_begun(consumer, topic, partition);
}

bool consumer_connected(const struct consumer *consumer)
{
	return consumer->ops->consumer_connected(consumer);
}

void consumer_close(struct consumer *consumer)
{
	if (consumer != NULL)
		consumer->ops->consumer_close(consumer);
}

int queue_topic_state(struct queue *queue, const char *topic, struct topic_state *out, int64_t timeout_ms, struct err *err)
{
	return queue->ops->topic_state(queue, topic, out, timeout_ms, err);
}

int queue_topic_create(struct queue *queue, const struct topic *topic, int64_t timeout_ms, struct err *err)
{
	return queue->ops->topic_create(queue, topic, timeout_ms, err);
}

int queue_lag(struct queue *queue, const char *group, const char *topic, struct partition_lag *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err)
{
	return queue->ops->lag(queue, group, topic, out, room, count, timeout_ms, err);
}

int queue_offsets_set(struct queue *queue, const char *group, const char *topic, const struct queue_place *places, size_t count,
	int64_t timeout_ms, struct err *err)
{
	return queue->ops->offsets_set(queue, group, topic, places, count, timeout_ms, err);
}

int queue_offsets_at(struct queue *queue, const char *topic, int64_t wall_ms, struct queue_place *places, size_t count, int64_t timeout_ms,
	struct err *err)
{
	return queue->ops->offsets_at(queue, topic, wall_ms, places, count, timeout_ms, err);
}

int queue_trim(struct queue *queue, const char *topic, const struct queue_place *place, int64_t timeout_ms, struct err *err)
{
	return queue->ops->trim(queue, topic, place, timeout_ms, err);
}
