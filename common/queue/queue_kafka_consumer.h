/* queue_kafka_consumer: what the files of a Kafka consumer share. Nobody else includes this.
 *
 *   queue_kafka_consumer.c  a consumer's life, fetching, errors; reading without a group
 *   queue_kafka_group.c     joining and leaving a group, the partitions that it gives and takes, commits
 *   queue_kafka_places.c    the partitions that are ours: offsets to store, pauses, holds, work that is begun */
#ifndef FEEDMILL_QUEUE_QUEUE_KAFKA_CONSUMER_H
#define FEEDMILL_QUEUE_QUEUE_KAFKA_CONSUMER_H

#include "common/queue/queue_kafka.h"

struct owned {
	const char *topic; /* one of the consumer's */
	int32_t partition;
	bool stopped; /* by an error that must not be passed over */
	bool held;
	int64_t held_at; /* where it goes on */
	int64_t stored;  /* -1: nothing yet */
	int64_t begun;   /* found beside the group's offset */
};

struct kafka_consumer {
	struct consumer base;
	const struct kafka_queue *queue;
	rd_kafka_t *rk;
	struct kafka_link *link;
	char **topics; /* without the prefix */
	size_t topic_count;
	bool grouped;
	bool paused;
	void (*revoked)(void *arg, const struct topic_partition *gone, size_t count, bool lost);
	void *arg;
	struct owned *owned;
	_Atomic size_t owned_count; /* changed by the polling thread alone */
	_Atomic bool joined;
	bool rejoin;       /* where the group is could not be learned: subscribe again */
	int64_t rejoin_ms; /* then; monotonic */
	bool fatal;
	struct err lost;   /* without a group: why nothing comes until the next assignment */
	size_t in_a_row;   /* records since the queue was empty */
	rd_kafka_resp_err_t last_error;
	int64_t last_error_ms;
};

/* ---- places */

const char *kafka_topic_of(const struct kafka_consumer *consumer, const char *name); /* ours, for a name with the prefix */
struct owned *kafka_owned_find(const struct kafka_consumer *consumer, const char *topic, int32_t partition); /* NULL: not ours */
void kafka_owned_set(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *partitions); /* NULL: none */
/* All that is owned and has been neither stopped nor held: those stay as they are. The caller destroys it. */
rd_kafka_topic_partition_list_t *kafka_owned_list(const struct kafka_consumer *consumer);
/* Of this one place; likewise. */
rd_kafka_topic_partition_list_t *kafka_place_list(const struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t offset);
rd_kafka_topic_partition_t *kafka_place_add(const struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *list, const char *topic,
	int32_t partition, int64_t offset);

/* ---- group */

int kafka_group_subscribe(struct kafka_consumer *consumer, struct err *err);
void kafka_group_join_soon(struct kafka_consumer *consumer); /* where the group is could not be learned */
int kafka_group_join(struct kafka_consumer *consumer, struct err *err); /* that, when its time has come */
void kafka_group_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *partitions, void *consumer);
/* These offsets, or what is stored (NULL), committed within a bounded time. */
rd_kafka_resp_err_t kafka_group_commit(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *offsets);
/* true: it has left, and nothing of librdkafka calls us any more. rd_kafka_consumer_close() would do the same without a limit. */
bool kafka_group_leave(struct kafka_consumer *consumer);

#endif
