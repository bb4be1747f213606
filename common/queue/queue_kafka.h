/* queue_kafka: what the files queue_kafka*.c share. Nobody else includes this (but their test): librdkafka's types end here.
 *
 *   queue_kafka.c           the queue, configurations, errors, the table of operations
 *   queue_kafka_link.c      one librdkafka handle, and a thread that knows whether the cluster is in reach
 *   queue_kafka_producer.c  sending; a producer is replaced after a fatal error
 *   queue_kafka_lossy.c     sending lines that may be lost
 *   queue_kafka_consumer.c  fetching; with queue_kafka_group.c and queue_kafka_places.c, see queue_kafka_consumer.h
 *   queue_kafka_admin.c     topics, lag, offsets of groups, deletion of records */
#ifndef FEEDMILL_QUEUE_QUEUE_KAFKA_H
#define FEEDMILL_QUEUE_QUEUE_KAFKA_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/base/metrics.h"
#include "common/queue/queue_ops.h"

struct kafka_queue {
	struct queue base;
	char *brokers;
	char *prefix;
	int64_t replication, partitions, message_timeout_ms, linger_ms, session_timeout_ms;
	struct metric *sent[SENT_UNKNOWN + 1];
	struct metric *refused, *replaced, *consumer_errors, *stopped;
	pthread_mutex_t lock; /* of admin */
	rd_kafka_t *admin;    /* made when first asked for */
};

#define KAFKA_NAME_MAX 320 /* prefix and name */
void kafka_name(const struct kafka_queue *queue, const char *name, char out[KAFKA_NAME_MAX]); /* with the prefix */

/* ---- configuration */

struct kafka_setting {
	const char *name;
	const char *value;
};

/* What all handles have in common, then these. NULL: librdkafka refuses one of them. */
rd_kafka_conf_t *kafka_conf_new(const struct kafka_queue *queue, const struct kafka_setting *settings, size_t count, struct err *err);
int kafka_conf_int(rd_kafka_conf_t *conf, const char *name, int64_t value, struct err *err);
int kafka_conf_text(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *err);
rd_kafka_t *kafka_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *err); /* takes conf */

enum err_kind kafka_kind(rd_kafka_resp_err_t code);
int kafka_err(struct err *err, rd_kafka_resp_err_t code, const char *doing); /* -1 */

/* ---- link */

/* A topic of topic_table as the cluster has it. `topic` is valid once partitions has been more than 0. */
struct kafka_topic {
	rd_kafka_topic_t *topic;
	_Atomic int32_t partitions; /* 0: not seen */
};

struct kafka_link {
	rd_kafka_t *rk;
	const struct kafka_queue *queue;
	struct kafka_topic *topics; /* as topic_table, or NULL: this link does not send */
	_Atomic bool reachable;
	_Atomic int64_t alive_ms;   /* monotonic: when a broker last did something for us */
	_Atomic size_t missing;     /* topics that the cluster does not have: of the table, or the one that is subscribed to */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop, suspect, nudged; /* under lock */
};

/* Takes rk. sends: with topic handles; previous (may be NULL): what it knew of the cluster is taken over. */
struct kafka_link *kafka_link_new(const struct kafka_queue *queue, rd_kafka_t *rk, bool sends, const struct kafka_link *previous);
void kafka_link_stop(struct kafka_link *link); /* ends the thread */
void kafka_link_free(struct kafka_link *link); /* after stop; the handle is the caller's to destroy, before this */
void kafka_link_suspect(struct kafka_link *link); /* brokers are said to be down: ask now */
void kafka_link_alive(struct kafka_link *link);
void kafka_link_nudge(struct kafka_link *link); /* wakes the threads that fetch, see consumer_poll() */
void kafka_link_drop_topics(struct kafka_link *link);

/* ---- back end */

int kafka_producer_open(struct queue *queue, int flags, struct producer **out, struct err *err);
int kafka_producer_send(struct producer *producer, const struct record *record, sent_fn *done, void *arg, struct err *err);
bool kafka_producer_ready(struct producer *producer, struct err *err);
int64_t kafka_producer_pending(const struct producer *producer);
int kafka_producer_flush(struct producer *producer, int64_t timeout_ms);
void kafka_producer_close(struct producer *producer);
rd_kafka_t *kafka_producer_handle(struct producer *producer); /* for the test of fatal errors; its own thread may replace it */

int kafka_lossy_open(struct queue *queue, const char *topic, lost_fn *lost, void *arg, struct lossy **out, struct err *err);
void kafka_lossy_send(struct lossy *lossy, struct slice line);
void kafka_lossy_close(struct lossy *lossy);

int kafka_consumer_open(struct queue *queue, const struct consumer_options *options, struct consumer **out, struct err *err);
int kafka_consumer_assign(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, int64_t timeout_ms,
	struct err *err);
int kafka_consumer_assign_places(struct consumer *consumer, const char *topic, const struct queue_place *places, size_t count,
	struct err *err);
int kafka_consumer_poll(struct consumer *consumer, int64_t timeout_ms, struct record *out, struct err *err);
int kafka_consumer_store(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
int kafka_consumer_seek(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
bool kafka_consumer_owns(const struct consumer *consumer, const char *topic, int32_t partition);
size_t kafka_consumer_owned(const struct consumer *consumer);
int kafka_consumer_pause(struct consumer *consumer, bool paused, struct err *err);
int kafka_consumer_hold(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
int kafka_consumer_release(struct consumer *consumer, const char *topic, int32_t partition, struct err *err);
int kafka_consumer_begin(struct consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err);
int64_t kafka_consumer_begun(const struct consumer *consumer, const char *topic, int32_t partition);
bool kafka_consumer_connected(const struct consumer *consumer);
void kafka_consumer_close(struct consumer *consumer);
void kafka_message_release(void *message); /* of a fetched record */

int kafka_topic_state(struct queue *queue, const char *topic, struct topic_state *out, int64_t timeout_ms, struct err *err);
int kafka_topic_create(struct queue *queue, const struct topic *topic, int64_t timeout_ms, struct err *err);
/* How many the topic has, 0: there is no such topic. Asks for all topics, since asking for one by name may make it. */
int kafka_partitions(const struct kafka_queue *queue, rd_kafka_t *rk, const char *name, int64_t timeout_ms, int32_t *out, struct err *err);
int kafka_lag(struct queue *queue, const char *group, const char *topic, struct partition_lag *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err);
int kafka_offsets_set(struct queue *queue, const char *group, const char *topic, const struct queue_place *places, size_t count,
	int64_t timeout_ms, struct err *err);
int kafka_offsets_at(struct queue *queue, const char *topic, int64_t wall_ms, struct queue_place *places, size_t count, int64_t timeout_ms,
	struct err *err);
int kafka_trim(struct queue *queue, const char *topic, const struct queue_place *place, int64_t timeout_ms, struct err *err);

#endif
