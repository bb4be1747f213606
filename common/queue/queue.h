/* queue: the log between the programs: topics of records, consumer groups with offsets. Two back ends, chosen by the setting
 * queue.type: queue_kafka.c, and the embedded queue_sqlite.c; each fills one struct queue_ops, at the end of its file.
 *
 * A `struct queue` is the way to one cluster; it makes producers and consumers. Topic and group names are without prefix.
 *
 * Producer: safe from any thread. queue_send() copies, never blocks, and reports later, exactly once a record, from the
 * producer's own thread: SENT_STORED (on disk on all in-sync replicas), SENT_NOT (certainly not stored) or SENT_UNKNOWN.
 * The callback must not block. A producer that meets a fatal error is replaced inside: what was under way is sent again
 * by the new one until message_timeout (so a record may be stored twice: readers go by ids), and only then reported.
 *
 * Consumer: one thread. In a group it starts at the group's offset, or at the beginning when the group has none; an offset out of
 * range stops that partition with an alarm in the log. Without a group it says so: consumer_poll(). Offsets move only by
 * consumer_store(). */
#ifndef FEEDMILL_QUEUE_QUEUE_H
#define FEEDMILL_QUEUE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/queue/record.h"

struct queue;
struct producer;
struct consumer;

/* Adds where the queue is, for people: "127.0.0.1:9092", ".feedmill". What it is, is the setting queue.type. */
void queue_describe(const struct settings *settings, struct buf *out);
int queue_open(const struct settings *settings, struct queue **out, struct err *err); /* connects to nothing yet */
void queue_close(struct queue *queue);

/* ---- producing */

enum sent { SENT_STORED, SENT_NOT, SENT_UNKNOWN };
typedef void sent_fn(void *arg, enum sent sent, const char *why); /* why: NULL when stored; borrowed */

enum {
	PRODUCER_LOW_LATENCY = 1, /* linger 0, whatever kafka.linger_ms says: for workers whose results are waited for */
	PRODUCER_PATIENT = 2,     /* no record is given up, whatever kafka.message_timeout_ms says: one that was, and sent again later,
	                           * would come behind records that were sent after it */
	PRODUCER_PACKED = 4,      /* compresses, and takes records as large as consumers get them, that came here compressed: to send one
	                           * of those again. The topic's limit is asked of the cluster */
};
int producer_open(struct queue *queue, int flags, struct producer **out, struct err *err);

/* done may be NULL. -1: certainly not stored, and done is not called: ERR_FULL (local queue full), ERR_UNAVAILABLE
 * (no broker in reach, or a topic of ours that was not made: said at once, not after a timeout), ERR_INVALID (too large, no such
 * partition, no topic of ours: never). */
int producer_send(struct producer *producer, const struct record *record, sent_fn *done, void *arg, struct err *err);

/* Metadata of all topics of ours seen, and a broker in reach now. NULL err is fine. */
bool producer_ready(struct producer *producer, struct err *err);
int64_t producer_pending(const struct producer *producer); /* records that are not reported yet */

/* Waits until all is reported or the time is up; what is left then is reported as SENT_UNKNOWN or SENT_NOT by close. */
int producer_flush(struct producer *producer, int64_t timeout_ms);
void producer_close(struct producer *producer);

/* ---- lines that may be lost: a log beside the work, with its own connections and a small queue of its own, so that it can
 * neither fill the producers' queues nor wait. The topic need not be there, now or ever. */

struct lossy;
/* Called for each line that could not go, from the sender's or a thread of the queue's; must not block. */
typedef void lost_fn(void *arg, const char *why);

int lossy_open(struct queue *queue, const char *topic, lost_fn *lost, void *arg, struct lossy **out, struct err *err);
void lossy_send(struct lossy *lossy, struct slice line); /* any thread; copies, never blocks */
void lossy_close(struct lossy *lossy);                   /* gives what waits a second to go; NULL is fine */

/* ---- consuming */

struct topic_partition {
	const char *topic; /* without the prefix; from a consumer: lives as long as the consumer */
	int32_t partition;
};

struct consumer_options {
	const char *group;    /* NULL: no group; consumer_assign() says what is read */
	const char *topic;
	const char *const *more; /* further topics of the group, with NULL at the end; NULL: none */
	const char *instance; /* group.instance.id, or NULL for a dynamic member; nothing to the embedded queue */
	/* Called from consumer_poll() and consumer_close() before partitions are taken away: finish or give up their records. `lost`: another
	 * member may have them already, nothing may be stored. After it returns, offsets stored so far are committed. */
	void (*revoked)(void *arg, const struct topic_partition *gone, size_t count, bool lost);
	void *arg;
};

int consumer_open(struct queue *queue, const struct consumer_options *options, struct consumer **out, struct err *err);

/* Without a group: reads one partition (or QUEUE_EVERY one) from `offset` on, or from where it ends at the time of the call
 * (QUEUE_END), which is asked for and fixed before this returns. In place of what was assigned before. */
#define QUEUE_BEGINNING (-2)
#define QUEUE_END (-1)
#define QUEUE_EVERY (-1)
int consumer_assign(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, int64_t timeout_ms, struct err *err);

struct queue_place {
	int32_t partition;
	int64_t offset;
};
/* The same for several partitions at once, each from an offset of its own (0 or more: it asks nobody for anything). None: nothing is read. */
int consumer_assign_places(struct consumer *consumer, const char *topic, const struct queue_place *places, size_t count, struct err *err);

/* The next record (1; see record_release()), none within the time (0), or -1: ERR_FATAL (fenced by a member with the same
 * instance id); without a group also ERR_CONFLICT: the place is lost (its records were deleted, or are corrupt, or the topic was
 * deleted), and nothing comes until consumer_assign() names another. A broker that is away is no error: it is none within the time. Must be called at least every
 * max.poll.interval (5 min) even when everything is paused. */
int consumer_poll(struct consumer *consumer, int64_t timeout_ms, struct record *out, struct err *err);

/* All records of the partition below `offset` are done. Committed in the background, on revocation and by close. */
int consumer_store(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
int consumer_seek(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
bool consumer_owns(const struct consumer *consumer, const char *topic, int32_t partition);
size_t consumer_owned(const struct consumer *consumer); /* how many partitions */
/* Pauses or resumes all that is owned; partitions that come later start unpaused, and so do all after some were taken away. */
int consumer_pause(struct consumer *consumer, bool paused, struct err *err);

/* Nothing comes from this partition, whatever is paused or resumed, until consumer_release(); then it goes on at `offset`, or where
 * consumer_seek() said meanwhile. A partition that is taken away and comes back is not held. */
int consumer_hold(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
int consumer_release(struct consumer *consumer, const char *topic, int32_t partition, struct err *err);

/* Counting the work that was begun and did not end, because its process died: the number lies beside the group's offset, and is gone
 * when the offset moves. */
struct beginning {
	const char *topic;
	int32_t partition;
	int64_t offset; /* of the first record of the work */
	int64_t tries;  /* the number to keep; 0: none */
};
/* Commits all that is stored, and these offsets with their numbers, before it returns. -1: nobody knows what of it was. */
int consumer_begin(struct consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err);
/* The number that was found beside the group's offset when the partition was given to us; 0: none. */
int64_t consumer_begun(const struct consumer *consumer, const char *topic, int32_t partition);

bool consumer_connected(const struct consumer *consumer); /* a broker answered lately, and the group is joined */
void consumer_close(struct consumer *consumer); /* commits what is stored, leaves the group; bounded in time */

/* ---- asking and administering */

struct topic_state {
	int32_t partitions; /* 0: the topic does not exist */
	int replication;
	int64_t retention_ms;
};
struct topic;
int queue_topic_state(struct queue *queue, const char *topic, struct topic_state *out, int64_t timeout_ms, struct err *err);
int queue_topic_create(struct queue *queue, const struct topic *topic, int64_t timeout_ms, struct err *err); /* there already: fine */

struct partition_lag {
	int32_t partition;
	int64_t committed; /* -1: none yet, the group starts at `low` */
	int64_t low, high; /* first offset kept, and the next to be written */
};
/* One entry a partition, at most `room` of them; *count says how many. */
int queue_lag(struct queue *queue, const char *group, const char *topic, struct partition_lag *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err);

/* ---- an operator's: where a group goes on, what a topic forgets */

/* The group goes on there, in each of these partitions. ERR_CONFLICT: it has members, who would not notice; nothing is set. */
int queue_offsets_set(struct queue *queue, const char *group, const char *topic, const struct queue_place *places, size_t count,
	int64_t timeout_ms, struct err *err);
/* places[].offset for places[].partition: of the first record that has this time or a later one, or the end. */
int queue_offsets_at(struct queue *queue, const char *topic, int64_t wall_ms, struct queue_place *places, size_t count, int64_t timeout_ms,
	struct err *err);
/* Deletes the partition's records below the offset. */
int queue_trim(struct queue *queue, const char *topic, const struct queue_place *place, int64_t timeout_ms, struct err *err);

const char *queue_library(void); /* "librdkafka 2.0.2"; SQLite is named by store_library() */

#endif
