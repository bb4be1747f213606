/* A record goes in; one of its headers, or the record with one more, comes out. */
#include "common/queue/record.h"

#include <string.h>

struct slice record_header_get(const struct record *record, const char *name)
{
	for (size_t i = record->header_count; i > 0; i--) {
		if (strcmp(record->headers[i - 1].name, name) == 0)
			return record->headers[i - 1].value;
	}
	return SLICE_NONE;
}

void record_header_add(struct record *record, const char *name, struct slice value)
{
	if (record->header_count >= RECORD_HEADERS)
		return;
	record->headers[record->header_count++] = (struct record_header){ name, value };
}

static const char *const letter_headers[] = {
	HEADER_ORIGIN_TOPIC,
	HEADER_ORIGIN_PARTITION,
	HEADER_ORIGIN_OFFSET,
	HEADER_ORIGIN_TIMESTAMP,
	HEADER_ATTEMPTS,
	HEADER_ERROR,
	HEADER_WORKER,
	HEADER_CUT,
	HEADER_DUE,
};

bool record_header_of_letter(const char *name)
{
	for (size_t i = 0; i < sizeof(letter_headers) / sizeof(letter_headers[0]); i++) {
		if (strcmp(letter_headers[i], name) == 0)
			return true;
	}
	return false;
}

void record_release(struct record *record)
{
	if (record->release != NULL && record->handle != NULL)
		record->release(record->handle);
	*record = (struct record){ 0 };
}

/* ---- partitions */

static uint32_t word(const unsigned char *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* MurmurHash2 with the seed of Java's Kafka client. */
uint32_t record_hash(struct slice key)
{
	const uint32_t mix = 0x5bd1e995;
	const unsigned char *at = (const unsigned char *)key.data;
	size_t len = key.len;
	uint32_t hash = 0x9747b28c ^ (uint32_t)len;

	for (; len >= 4; at += 4, len -= 4) {
		uint32_t k = word(at) * mix;

		hash = (hash * mix) ^ ((k ^ k >> 24) * mix);
	}
	for (size_t i = len; i > 0; i--)
		hash ^= (uint32_t)at[i - 1] << (8 * (i - 1));
	if (len > 0)
		hash *= mix;
	hash = (hash ^ hash >> 13) * mix;
	return hash ^ hash >> 15;
}

int32_t record_partition_of(struct slice key, int32_t partitions)
{
	return (int32_t)(record_hash(key) & 0x7fffffff) % partitions;
}
