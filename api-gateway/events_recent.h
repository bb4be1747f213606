/* events_recent: the last product events, from which those who come back a little behind are served without a read of the topic.
 * Uses events_message, http_server. No lock of its own: its owner has one.
 *
 * It holds of each partition all records from base[p] up to next[p], without a gap, in the order in which they came. When it is full,
 * by count or by bytes, the oldest goes, of whatever partition, and that partition's base moves. */
#ifndef FEEDMILL_API_GATEWAY_EVENTS_RECENT_H
#define FEEDMILL_API_GATEWAY_EVENTS_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api-gateway/events.h"
#include "common/base/str.h"

#define EVENTS_RECENT 1024                 /* events */
#define EVENTS_RECENT_BYTES (1024 * 1024)  /* of their texts */

struct events_kept {
	int32_t partition;
	int64_t offset;
	char *text; /* of the message, but its place */
	size_t len;
};

struct events_recent {
	size_t partitions;
	int64_t base[EVENTS_PARTITIONS];
	int64_t next[EVENTS_PARTITIONS];
	struct events_kept kept[EVENTS_RECENT];
	size_t oldest, count, bytes;
};

/* Empty, with each partition at its place. Zeroed memory is one of no partition. */
void events_recent_begin(struct events_recent *recent, const int64_t *next, size_t partitions);
/* The record at `offset`, which comes behind all of its partition that came before. SLICE_NONE: one that nobody is told of. */
void events_recent_add(struct events_recent *recent, int32_t partition, int64_t offset, struct slice text);
bool events_recent_covers(const struct events_recent *recent, const int64_t *at); /* nothing that it lacks has gone from here */
/* Sends what the client lacks, at[] being where it is, and moves at[]. Ends early when the client does not take it. Leaves out the
 * partitions that it has to be brought up to base[] in first. false: the client is gone. */
bool events_recent_serve(const struct events_recent *recent, int64_t *at, struct http_stream *stream);
void events_recent_release(struct events_recent *recent);

#endif
