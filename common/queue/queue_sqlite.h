/* queue_sqlite: what the files queue_sqlite*.c share: the embedded queue, a durable log in SQLite files on a local disk.
 * Nobody else includes this (but their test): SQLite's types end here.
 *
 *   queue_sqlite.c           the queue, its folder, the table of operations
 *   queue_sqlite_file.c      one SQLite file: opening, statements, errors
 *   queue_sqlite_headers.c   a record's headers as bytes, its key as a partition
 *   queue_sqlite_log.c       appending to one topic; retention, checkpoints
 *   queue_sqlite_producer.c  sending: a bounded queue, and a thread that commits what has gathered
 *   queue_sqlite_wake.c      datagrams that wake consumers
 *   queue_sqlite_seat.c      a place in a group: who owns which partition, by locks
 *   queue_sqlite_consumer.c  fetching; with queue_sqlite_group.c and queue_sqlite_fetch.c, see queue_sqlite_consumer.h
 *   queue_sqlite_offsets.c   where a group is: its file, set by an operator
 *   queue_sqlite_admin.c     topics, lag
 *
 * In embedded.folder:
 *
 *   <topic>.topic         records; written by producers, and by an operator who deletes some
 *   <group>.group         offsets; written by the group's consumers, and by an operator while there are none
 *   <group>@<topic>.lock  never written: a byte for each member, and one for each partition, see queue_sqlite_seat.c
 *   wake-*                sockets, one for each consumer, see queue_sqlite_wake.c
 *
 * All of it is WAL with synchronous=FULL: a transaction that was committed survives the loss of power. */
#ifndef FEEDMILL_QUEUE_QUEUE_SQLITE_H
#define FEEDMILL_QUEUE_QUEUE_SQLITE_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "common/base/metrics.h"
#include "common/queue/queue_ops.h"

#define SQLQ_PATH_MAX 4096

struct sqlq {
	struct queue base;
	char *folder; /* ends with '/' */
	char *prefix;
	int64_t partitions, message_timeout_ms;
	struct metric *sent[SENT_UNKNOWN + 1];
	struct metric *refused, *consumer_errors, *stopped;
};

bool sqlq_is_name(const char *name); /* one that can be part of a file's */
void sqlq_path(const struct sqlq *queue, const char *name, const char *suffix, char out[SQLQ_PATH_MAX]); /* with the prefix */

/* ---- one file */

enum sqlq_use {
	SQLQ_READ,   /* must be there; its last reader leaves the log alone */
	SQLQ_WRITE,  /* must be there */
	SQLQ_CREATE, /* made when it is not there */
};

struct sqlq_file {
	sqlite3 *db; /* NULL: not open */
	char *path;
	uint64_t device, inode; /* as it was opened */
	int64_t deadline_ms;    /* monotonic: how long a lock of another process is waited for; set before each statement */
	const _Atomic int64_t *give_up_ms; /* an earlier one, which may change meanwhile; NULL: none */
};

int sqlq_file_open(struct sqlq_file *file, const char *path, enum sqlq_use use, struct err *err);
void sqlq_file_close(struct sqlq_file *file); /* statements are finalized */
bool sqlq_file_is_there(const struct sqlq_file *file); /* false: removed or replaced under us */
sqlite3_stmt *sqlq_prepare(struct sqlq_file *file, const char *sql, struct err *err);
int sqlq_exec(struct sqlq_file *file, const char *sql, struct err *err);
int sqlq_step(struct sqlq_file *file, sqlite3_stmt *stmt, struct err *err); /* for one without rows: runs and resets it */
int sqlq_begin(struct sqlq_file *file, struct err *err); /* to write */
int sqlq_end(struct sqlq_file *file, int rc, struct err *err); /* commits, or rolls back when rc < 0 */
int sqlq_err(const struct sqlq_file *file, struct err *err, const char *doing); /* -1 */

/* ---- records */

/* Key of a record in its file: partition above, offset below. */
#define SQLQ_OFFSET_BITS 48
#define SQLQ_ID(partition, offset) (((int64_t)(partition) << SQLQ_OFFSET_BITS) | (offset))
#define SQLQ_OFFSET(id) ((id) & ((INT64_C(1) << SQLQ_OFFSET_BITS) - 1))

/* One that was fetched: the handle of its struct record. */
struct sqlq_fetched {
	struct sqlq_fetched *next;
	int32_t partition;
	int64_t offset, timestamp_ms;
	struct slice key, value, headers; /* in bytes */
	size_t size;                      /* of bytes */
	char bytes[];
};
void sqlq_fetched_release(void *fetched);

size_t sqlq_headers_size(const struct record *record);
void sqlq_headers_put(const struct record *record, char *out);
void sqlq_headers_get(struct slice bytes, struct record *out); /* the first RECORD_HEADERS_FETCHED */

/* ---- waking: a consumer listens, whoever has news for the consumers of a topic knocks */

enum sqlq_news { SQLQ_RECORDS = 1, SQLQ_MEMBERS = 2 };

#define SQLQ_SOCKET_NAME 64

struct sqlq_door {
	bool is_open;
	int folder, socket;
	char topic[16];                /* start of the names of its sockets */
	char own[SQLQ_SOCKET_NAME];    /* "": this one only knocks */
	char (*names)[SQLQ_SOCKET_NAME]; /* of the others, as last seen */
	size_t name_count, name_room;
	int64_t seen_ms;
	struct { int64_t s, ns; } changed; /* the folder, when last seen */
};

int sqlq_door_open(const struct sqlq *queue, const char *topic, bool listens, struct sqlq_door *out, struct err *err);
void sqlq_door_close(struct sqlq_door *door); /* safe on one that is zeroed */
void sqlq_door_knock(struct sqlq_door *door, enum sqlq_news news); /* all that listen; never blocks */
int sqlq_door_hear(struct sqlq_door *door);                        /* what came since, or'ed; never blocks */
#define SQLQ_DOORS_MAX 16 /* topics of one consumer */
void sqlq_doors_wait(const struct sqlq_door *const *doors, size_t count, int64_t timeout_ms); /* for news at one of them */

/* ---- a place in a group */

struct sqlq_seat {
	int fd; /* -1: none */
	int32_t number;
};

int sqlq_seat_take(const struct sqlq *queue, const char *group, const char *topic, struct sqlq_seat *out, struct err *err);
int sqlq_seat_bar(const struct sqlq *queue, const char *group, const char *topic, struct sqlq_seat *out, struct err *err); /* see there */
void sqlq_seat_leave(struct sqlq_seat *seat); /* with all partitions */
void sqlq_seat_count(const struct sqlq_seat *seat, int32_t *members, int32_t *rank); /* rank: members with a lower number */
bool sqlq_seat_own(const struct sqlq_seat *seat, int32_t partition); /* true also when it is ours already */
void sqlq_seat_give(const struct sqlq_seat *seat, int32_t partition);

int sqlq_offsets_open(const struct sqlq *queue, const char *group, struct sqlq_file *out, struct err *err); /* made when it is not there */
/* topic, partition, next, begun: how often the work from there on was begun, see consumer_begin() */
#define SQLQ_SAVE_OFFSET \
	"INSERT INTO offset (topic, partition, next, begun) VALUES (?, ?, ?, ?) " \
	"ON CONFLICT DO UPDATE SET next = excluded.next, begun = excluded.begun"

/* ---- appending */

/* A record on its way. */
struct sqlq_item {
	struct sqlq_item *next;
	sent_fn *done;
	void *arg;
	size_t topic; /* number of its log in the producer */
	int32_t partition;
	int64_t timestamp_ms, first_ms; /* first_ms: monotonic, of the call */
	struct slice key, value, headers; /* in bytes */
	size_t size;
	char bytes[];
};

struct sqlq_list {
	struct sqlq_item *first, **end;
};

struct sqlq_log {
	const struct sqlq *queue;
	const char *topic;
	struct sqlq_file file;
	sqlite3_stmt *high, *insert, *advance, *marks, *oldest, *cut, *raise, *probe;
	struct sqlq_door door;
	int64_t retention_ms;
	int64_t patience_ms; /* from the call to giving up, while another process holds the file */
	int64_t trim_ms; /* monotonic: when old records are looked for */
	int32_t trim_partition;
	int frames, checkpoint_at; /* of the WAL: how many there are, and at how many to do something about it */
	int64_t restart_ms;        /* monotonic: not before, the next wait for all readers */
};

/* How many partitions the topic has, 0: it is not there. */
int sqlq_log_partitions(const struct sqlq *queue, const char *topic, int32_t *out, struct err *err);
int sqlq_log_open(const struct sqlq *queue, const char *topic, bool is_lossy, int64_t patience_ms, struct sqlq_log *out, struct err *err);
void sqlq_log_close(struct sqlq_log *log);
/* All of the list up to `past` in one transaction. What became of it comes back, err set unless it is SENT_STORED. */
enum sent sqlq_log_append(struct sqlq_log *log, const struct sqlq_item *first, const struct sqlq_item *past, struct err *err);
int sqlq_log_probe(struct sqlq_log *log, struct err *err); /* 0: it can be written again */
/* Deletes the partition's records below `past`, in small steps. */
int sqlq_log_cut(struct sqlq_log *log, int32_t partition, int64_t past, int64_t timeout_ms, struct err *err);
/* What is due besides: old records are deleted in small steps, the WAL is kept short. Returns when to come again (monotonic). */
int64_t sqlq_log_care(struct sqlq_log *log);

/* ---- back end */

#define SQLQ_SCHEMA_TOPIC 1 /* user_version of a topic's file */
#define SQLQ_SCHEMA_GROUP 2

int sqlq_producer_open(struct queue *queue, int flags, struct producer **out, struct err *err);
int sqlq_producer_send(struct producer *producer, const struct record *record, sent_fn *done, void *arg, struct err *err);
bool sqlq_producer_ready(struct producer *producer, struct err *err);
int64_t sqlq_producer_pending(const struct producer *producer);
int sqlq_producer_flush(struct producer *producer, int64_t timeout_ms);
void sqlq_producer_close(struct producer *producer);

int sqlq_lossy_open(struct queue *queue, const char *topic, lost_fn *lost, void *arg, struct lossy **out, struct err *err);
void sqlq_lossy_send(struct lossy *lossy, struct slice line);
void sqlq_lossy_close(struct lossy *lossy);

int sqlq_consumer_open(struct queue *queue, const struct consumer_options *options, struct consumer **out, struct err *err);
int sqlq_consumer_assign(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, int64_t timeout_ms,
	struct err *err);
int sqlq_consumer_assign_places(struct consumer *consumer, const char *topic, const struct queue_place *places, size_t count,
	struct err *err);
int sqlq_consumer_poll(struct consumer *consumer, int64_t timeout_ms, struct record *out, struct err *err);
int sqlq_consumer_store(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
int sqlq_consumer_seek(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
bool sqlq_consumer_owns(const struct consumer *consumer, const char *topic, int32_t partition);
size_t sqlq_consumer_owned(const struct consumer *consumer);
int sqlq_consumer_pause(struct consumer *consumer, bool paused, struct err *err);
int sqlq_consumer_hold(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err);
int sqlq_consumer_release(struct consumer *consumer, const char *topic, int32_t partition, struct err *err);
int sqlq_consumer_begin(struct consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err);
int64_t sqlq_consumer_begun(const struct consumer *consumer, const char *topic, int32_t partition);
bool sqlq_consumer_connected(const struct consumer *consumer);
void sqlq_consumer_close(struct consumer *consumer);

int sqlq_topic_state(struct queue *queue, const char *topic, struct topic_state *out, int64_t timeout_ms, struct err *err);
int sqlq_topic_create(struct queue *queue, const struct topic *topic, int64_t timeout_ms, struct err *err);
int sqlq_lag(struct queue *queue, const char *group, const char *topic, struct partition_lag *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err);
int sqlq_offsets_set(struct queue *queue, const char *group, const char *topic, const struct queue_place *places, size_t count,
	int64_t timeout_ms, struct err *err);
int sqlq_offsets_at(struct queue *queue, const char *topic, int64_t wall_ms, struct queue_place *places, size_t count, int64_t timeout_ms,
	struct err *err);
int sqlq_trim(struct queue *queue, const char *topic, const struct queue_place *place, int64_t timeout_ms, struct err *err);

#endif
