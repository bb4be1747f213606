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

void record_release(struct record *record)
{
	if (record->release != NULL && record->handle != NULL)
		record->release(record->handle);
	*record = (struct record){ 0 };
}
