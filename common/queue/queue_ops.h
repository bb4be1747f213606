/* queue_ops: what a back end of the queue fills in; queue.h says what each must do. Uses queue.h only.
 *
 * Each back end's own struct starts with one of the four below, so that queue.c finds the functions. A back end whose
 * open fails leaves nothing behind. */
#ifndef FEEDMILL_QUEUE_QUEUE_OPS_H
#define FEEDMILL_QUEUE_QUEUE_OPS_H

#include "common/queue/queue.h"
#include "common/queue/topics.h"

struct queue_ops {
	const char *(*library)(void); /* NULL: it is named elsewhere */
	void (*describe)(const struct settings *settings, struct buf *out);
	int (*open)(const struct settings *settings, struct queue **out, struct err *err);
	void (*close)(struct queue *queue);

	int (*producer_open)(struct queue *queue, int flags, struct producer **out, struct err *err);
	int (*producer_send)(struct producer *producer, const struct record *record, sent_fn *done, void *arg, struct err *err);
	bool (*producer_ready)(struct producer *producer, struct err *err);
	int64_t (*producer_pending)(const struct producer *producer);
	int (*producer_flush)(struct producer *producer, int64_t timeout_ms);
	void (*producer_close)(struct producer *producer);

	int (*lossy_open)(struct queue *queue, const char *topic, lost_fn *lost, void *arg, struct lossy **out, struct err *err);
	void (*lossy_send)(struct lossy *lossy, struct slice line);
	void (*lossy_close)(struct lossy *lossy);

	int (*consumer_open)(struct queue *queue, const struct consumer_options *options, struct consumer **out, struct err *err);
	int (*consumer_assign)(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, int64_t timeout_ms,
		struct err *err);
	int (*consumer_assign_places)(struct consumer *consumer, const char *topic, const struct queue_place *places, size_t count,
		struct err *err);
	int (*consumer_poll)(struct consumer *consumer, int64_t timeout_ms, struct record *out, struct err *err);
	int (*consumer_store)(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
	int (*consumer_seek)(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
	bool (*consumer_owns)(const struct consumer *consumer, const char *topic, int32_t partition);
	size_t (*consumer_owned)(const struct consumer *consumer);
	int (*consumer_pause)(struct consumer *consumer, bool paused, struct err *err);
	int (*consumer_hold)(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
	int (*consumer_release)(struct consumer *consumer, const char *topic, int32_t partition, struct err *err);
	int (*consumer_begin)(struct consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err);
	int64_t (*consumer_begun)(const struct consumer *consumer, const char *topic, int32_t partition);
	bool (*consumer_connected)(const struct consumer *consumer);
	void (*consumer_close)(struct consumer *consumer);

	int (*topic_state)(struct queue *queue, const char *topic, struct topic_state *out, int64_t timeout_ms, struct err *err);
	int (*topic_create)(struct queue *queue, const struct topic *topic, int64_t timeout_ms, struct err *err);
	int (*lag)(struct queue *queue, const char *group, const char *topic, struct partition_lag *out, size_t room, size_t *count,
		int64_t timeout_ms, struct err *err);
	int (*offsets_set)(struct queue *queue, const char *group, const char *topic, const struct queue_place *places, size_t count,
		int64_t timeout_ms, struct err *err);
	int (*offsets_at)(struct queue *queue, const char *topic, int64_t wall_ms, struct queue_place *places, size_t count, int64_t timeout_ms,
		struct err *err);
	int (*trim)(struct queue *queue, const char *topic, const struct queue_place *place, int64_t timeout_ms, struct err *err);
};

struct queue {
	const struct queue_ops *ops;
};

struct producer {
	const struct queue_ops *ops;
};

struct lossy {
	const struct queue_ops *ops;
};

struct consumer {
	const struct queue_ops *ops;
};

extern const struct queue_ops queue_kafka, queue_sqlite;

#endif
