/* backlog: what a group has still to do of a topic, and since when the oldest of it waits. Uses queue.
 * The time of a record is known from the record alone: the first that is not done is fetched, from each partition that has one. */
#ifndef FEEDMILL_QUEUE_BACKLOG_H
#define FEEDMILL_QUEUE_BACKLOG_H

#include "common/queue/queue.h"

struct partition_backlog {
	struct partition_lag lag;
	int64_t position;  /* where the group goes on: at its offset, or at what is left of the beginning */
	int64_t oldest_ms; /* wall clock: when the record there was written; 0: there is none, or it did not come in time */
};

/* One entry a partition, at most `room` of them, as queue_lag(). */
int backlog_ask(struct queue *queue, const char *group, const char *topic, struct partition_backlog *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err);

struct backlog {
	int64_t position, end; /* sums of offsets */
	int64_t lag;           /* records that are not done */
	int64_t lost;          /* records that were deleted before they were done */
	int64_t oldest_ms;     /* the smallest; 0: none */
	bool is_begun;         /* the group has committed some offset */
	bool is_astray;        /* the group is behind the end of a partition: the topic is not the one it read */
};
struct backlog backlog_sum(const struct partition_backlog *partitions, size_t count);

/* Age of the oldest as a part of the retention: at 1 records are lost. 0 where nothing waits, or all is kept (retention_ms <= 0). */
double backlog_used(const struct backlog *backlog, int64_t retention_ms, int64_t now_ms);
#define BACKLOG_WARN 0.5

#endif
