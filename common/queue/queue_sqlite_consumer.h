/* queue_sqlite_consumer: what the files of an embedded consumer share. Nobody else includes this.
 *
 *   queue_sqlite_consumer.c  a consumer's life, polling, offsets to store, pauses; reading without a group
 *   queue_sqlite_group.c     joining and leaving, the partitions that are ours, offsets in the group's file
 *   queue_sqlite_fetch.c     records, some ahead */
#ifndef FEEDMILL_QUEUE_QUEUE_SQLITE_CONSUMER_H
#define FEEDMILL_QUEUE_QUEUE_SQLITE_CONSUMER_H

#include "common/queue/queue_sqlite.h"

#define SQLQ_COMMIT_MS 1000    /* between two commits of a group's offsets */
#define SQLQ_READ_WAIT_MS 1000 /* for a writer that is recovering the file */

/* One topic that is read. */
struct source {
	char *topic;
	struct sqlq_file file;
	sqlite3_stmt *marks, *fetch;
	struct sqlq_door door;
	struct sqlq_seat seat;
	int32_t partitions;
	size_t owned_count; /* of the consumer's owned, those of this topic */
	bool look;    /* the ends of partitions may have changed */
	bool balance; /* members may have changed */
	int64_t look_ms, balance_ms, join_ms, check_ms; /* monotonic: when it is due anyway */
};

struct owned {
	struct source *source;
	int32_t partition;
	bool paused;
	bool held;
	bool stopped;               /* by an offset that is not there: must not be passed over */
	int64_t position;           /* next to be handed out */
	int64_t low, high;          /* of the partition, as last seen */
	int64_t stored, committed;  /* -1: none */
	int64_t begun;              /* found beside the group's offset */
};

struct sqlq_consumer {
	struct consumer base;
	const struct sqlq *queue;
	char *group; /* NULL: none */
	void (*revoked)(void *arg, const struct topic_partition *gone, size_t count, bool lost);
	void *arg;

	struct source *sources;
	size_t source_count;
	struct sqlq_file offsets; /* of the group */
	sqlite3_stmt *learn, *save;

	struct owned *owned;
	_Atomic size_t owned_count; /* changed by the polling thread alone */
	_Atomic bool joined, readable;
	size_t next;                /* in owned: whose turn it is to be fetched */
	struct sqlq_fetched *ahead; /* of one partition, in its order */
	struct source *ahead_of;    /* the topic of that */

	struct err lost; /* without a group: why nothing comes until the next assignment */
	int64_t commit_ms; /* monotonic: when it is due anyway */
	enum err_kind last_kind;
	int64_t last_error_ms;
};

void sqlq_complain(struct sqlq_consumer *consumer, const char *what, const struct err *err); /* once in a while, the same trouble */
struct owned *sqlq_owned_find(const struct sqlq_consumer *consumer, const struct source *source, int32_t partition); /* NULL: not ours */

/* ---- fetching */

int sqlq_source_open(const struct sqlq_consumer *consumer, struct source *source, struct err *err); /* nothing when it is open */
void sqlq_ahead_fetch(struct sqlq_consumer *consumer); /* while nothing is ahead; trouble is told, and tried again later */
void sqlq_ahead_hand_out(struct sqlq_consumer *consumer, struct record *out); /* the first of what is ahead; the caller releases it */
void sqlq_ahead_drop(struct sqlq_consumer *consumer);
void sqlq_ahead_drop_of(struct sqlq_consumer *consumer, const struct owned *owned);

/* ---- the group, and what is ours */

int sqlq_group_open(struct sqlq_consumer *consumer, struct err *err); /* the file of its offsets; nothing when it is open */
void sqlq_group_join(struct sqlq_consumer *consumer, struct source *source, int64_t now_ms); /* when it is time to try */
void sqlq_group_balance(struct sqlq_consumer *consumer, struct source *source); /* gives up or takes what our share asks for */
void sqlq_group_lose(struct sqlq_consumer *consumer, struct source *source); /* somebody removed the topic */
void sqlq_group_leave(struct sqlq_consumer *consumer, struct source *source);
/* What is stored; one that is not committed is tried again, and at worst its records come again. */
void sqlq_group_commit(struct sqlq_consumer *consumer);
/* What is stored, and then these beginnings. */
int sqlq_group_commit_all(struct sqlq_consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err);

struct owned *sqlq_owned_ours(const struct sqlq_consumer *consumer, const char *topic, int32_t partition, struct err *err); /* NULL: ERR_CONFLICT */
struct owned *sqlq_owned_add(struct sqlq_consumer *consumer, struct source *source, int32_t partition, int64_t position, int64_t committed);
bool sqlq_owned_is_dirty(const struct owned *owned); /* stored, and not committed */

#endif
