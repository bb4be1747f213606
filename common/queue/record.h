/* record: one record of a topic: key, value, headers. Uses base only.
 *
 * Everything in a struct record is borrowed. A fetched record lives until record_release(); one that is sent is copied by
 * the call. Header names are ASCII; values are bytes. */
#ifndef FEEDMILL_QUEUE_RECORD_H
#define FEEDMILL_QUEUE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

#define RECORD_HEADERS 24         /* of a record that we send */
#define RECORD_HEADERS_FETCHED 16 /* the first so many of one that is fetched, so that a dead letter has room for its own. The
                                   * others are not seen here; a record that is sent with `handle` and `release` of the one
                                   * that was fetched carries them behind its own */

struct record_header {
	const char *name;
	struct slice value; /* data NULL: a null value */
};

struct record {
	const char *topic;   /* without the prefix */
	int32_t partition;   /* to send: -1 for the partition of the key (murmur2, as Java producers) */
	int64_t offset;
	int64_t timestamp_ms; /* to send: 0 for now */
	struct slice key;    /* data NULL: no key */
	struct slice value;  /* data NULL: a tombstone */
	struct record_header headers[RECORD_HEADERS];
	size_t header_count;
	void *handle;        /* the queue's own, with its destructor: of several copies one is released */
	void (*release)(void *handle);
};

struct slice record_header_get(const struct record *record, const char *name); /* the last of that name; SLICE_NONE */
void record_header_add(struct record *record, const char *name, struct slice value); /* full: dropped */
void record_release(struct record *record); /* safe on a zeroed or released one */

uint32_t record_hash(struct slice key); /* murmur2, with the seed of Java's producers */
int32_t record_partition_of(struct slice key, int32_t partitions); /* where a record with this key goes */

/* Headers of ours. */
#define HEADER_TRACE "traceparent"
#define HEADER_REPLY "feedmill-reply"     /* number of the gateway that waits: partition of feed.results */
#define HEADER_COMMAND "feedmill-command" /* command id */
/* Headers of dead letters and of retries. */
#define HEADER_ORIGIN_TOPIC "feedmill-origin-topic"
#define HEADER_ORIGIN_PARTITION "feedmill-origin-partition"
#define HEADER_ORIGIN_OFFSET "feedmill-origin-offset"
#define HEADER_ORIGIN_TIMESTAMP "feedmill-origin-timestamp"
#define HEADER_ATTEMPTS "feedmill-attempts"
#define HEADER_ERROR "feedmill-error"
#define HEADER_WORKER "feedmill-worker"
#define HEADER_CUT "feedmill-cut" /* bytes that the value had, where it was too large to be kept whole */
#define HEADER_DUE "feedmill-due" /* of a retry: not before, milliseconds of wall clock */
bool record_header_of_letter(const char *name); /* one of those: not the record's own */
/* Header of a mark: a record without key and value that an operator's tool puts behind a dead letter, in its partition, when the
 * letter was sent again. The letter's "partition/offset". */
#define HEADER_REPLAYED "feedmill-replayed"

#endif
