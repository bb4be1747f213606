/* topics: every topic, in one table (topics.c): its name, partitions, retention. Uses base only.
 * Names here are without the prefix (setting kafka.topic_prefix); the queue puts it before them. */
#ifndef FEEDMILL_QUEUE_TOPICS_H
#define FEEDMILL_QUEUE_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/delays.h"
#include "common/base/err.h"
#include "common/base/settings.h"

#define TOPIC_POSTS "feed.posts"
#define TOPIC_COMMANDS "feed.commands"
#define TOPIC_CHUNKS "feed.chunks"
#define TOPIC_RESULTS "feed.results"
#define TOPIC_PRODUCT_EVENTS "product_events"

struct topic {
	const char *name;
	int partitions;       /* 0: setting kafka.partitions */
	int64_t retention_ms;
	int64_t max_bytes;    /* of a record, as it lies there (compressed) */
	const char *help;     /* key and value, one line */
};

extern const struct topic *const topic_table; /* the retry topics are at the end, once topics_open() has made them */
extern size_t topic_count;

/* Which group reads which topic: the workers' names (workers/registry.c agrees), for lag and dead letters. Behind them, a row for each
 * group and retry topic. */
struct consumer_group {
	const char *group;
	const char *topic;
	bool has_retries; /* "<group>.retry.<delay>" for each delay; false: what is to be done again is done where it is */
	bool is_retry;    /* this row's topic is one of those */
};

extern const struct consumer_group *const consumer_group_table;
extern size_t consumer_group_count;

/* Makes the retry topics of the setting worker.retry_delays part of the tables. queue_open() calls it, before there are threads.
 * -1: ERR_FATAL, no list of delays. */
int topics_open(const struct settings *settings, struct err *err);
const struct delays *topics_delays(void);

const struct topic *topic_find(const char *name); /* NULL: no such topic */

/* The topic of the gateway's request log, whose name is a setting and which no program reads or waits for: it is not in the
 * table. `name` points into settings; NULL: the log is off. -1: ERR_INVALID, no name for a topic, or that of another of ours. */
int topic_of_request_log(const struct settings *settings, struct topic *out, struct err *err);

/* "<group>.dlq": the dead letters of a consumer group. */
#define TOPIC_NAME_MAX 250
void topic_dead_letter(const char *group, char out[TOPIC_NAME_MAX]);

/* "<group>.retry.<delay>", by the delay's number. */
void topic_retry(const char *group, size_t stage, char out[TOPIC_NAME_MAX]);

#endif
