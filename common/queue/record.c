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
