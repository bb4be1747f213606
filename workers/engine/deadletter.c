/* A rejected item goes in, the record for its dead letter topic comes out. */
#include "workers/engine/deadletter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static struct slice number_text(char out[24], int64_t number)
{
	snprintf(out, 24, "%" PRId64, number);
	return slice_of(out);
}

static struct slice first_bytes(struct slice bytes, size_t limit)
{
	if (bytes.len > limit)
		bytes.len = limit;
	return bytes;
}

bool dead_letter_cut(const struct record *letter, char cut[24], struct record *out)
{
	if (record_header_get(letter, HEADER_ORIGIN_OFFSET).data == NULL || record_header_get(letter, HEADER_WORKER).data == NULL)
		return false;
	*out = (struct record){ .topic = letter->topic, .partition = -1 };
	out->key = first_bytes(letter->key, DEAD_LETTER_CUT);
	out->value = first_bytes(letter->value, DEAD_LETTER_CUT);
	for (size_t i = 0; i < letter->header_count; i++)
		if (record_header_of_letter(letter->headers[i].name) && strcmp(letter->headers[i].name, HEADER_CUT) != 0)
			record_header_add(out, letter->headers[i].name, letter->headers[i].value);
	record_header_add(out, HEADER_CUT, number_text(cut, (int64_t)letter->value.len));
	return true;
}

void dead_letter_make(struct dead_letter *letter, const char *worker, const struct item *item)
{
	const struct record *origin = item->record;
	struct record *record = &letter->record;

	memset(letter, 0, sizeof(*letter));
	topic_dead_letter(worker, letter->topic);
	record->topic = letter->topic;
	record->partition = -1;
	record->key = origin->key;
	record->value = origin->value;
	record->handle = origin->handle; /* headers beyond those that are seen here */
	record->release = origin->release;
	/* Ours first: where the headers are too many, the reason is not what gets lost. A letter that was replayed and died again
	 * carries its last origin. */
	record_header_add(record, HEADER_ORIGIN_TOPIC, slice_of(origin->topic));
	record_header_add(record, HEADER_ORIGIN_PARTITION, number_text(letter->partition, origin->partition));
	record_header_add(record, HEADER_ORIGIN_OFFSET, number_text(letter->offset, origin->offset));
	record_header_add(record, HEADER_ORIGIN_TIMESTAMP, number_text(letter->timestamp, origin->timestamp_ms));
	record_header_add(record, HEADER_ATTEMPTS, number_text(letter->tries, item->tries));
	record_header_add(record, HEADER_ERROR, slice_of(item->why.message));
	record_header_add(record, HEADER_WORKER, slice_of(worker));
	for (size_t i = 0; i < origin->header_count; i++)
		if (!record_header_of_letter(origin->headers[i].name))
			record_header_add(record, origin->headers[i].name, origin->headers[i].value);
}
