/* A record's headers go in and come out as bytes; its key goes in and the number of a partition comes out. */
#include "common/queue/queue_sqlite.h"

#include <stdlib.h>
#include <string.h>

/* Each header: length of the name (with its NUL), name, length of the value plus one (0: a null value), value. Lengths are four
 * bytes, the lowest first. A name keeps its NUL, so that a fetched record can point at it. */
enum { LENGTH = 4 };

static char *put_length(char *at, size_t length)
{
	for (int i = 0; i < LENGTH; i++)
		*at++ = (char)(length >> (8 * i) & 0xff);
	return at;
}

static char *put_bytes(char *at, const void *bytes, size_t len)
{
	if (len > 0)
		memcpy(at, bytes, len);
	return at + len;
}

/* Takes a length and so many bytes less `extra` from the rest; false: it ends before. */
static bool get(struct slice *rest, size_t extra, struct slice *out)
{
	size_t length = 0;

	if (rest->len < LENGTH)
		return false;
	for (int i = 0; i < LENGTH; i++)
		length |= (size_t)(unsigned char)rest->data[i] << (8 * i);
	*rest = (struct slice){ rest->data + LENGTH, rest->len - LENGTH };
	*out = SLICE_NONE;
	if (length < extra)
		return true;
	if (length - extra > rest->len)
		return false;
	*out = (struct slice){ rest->data, length - extra };
	*rest = (struct slice){ rest->data + out->len, rest->len - out->len };
	return true;
}

static bool get_header(struct slice *rest, struct record_header *out)
{
	struct slice name;

	if (!get(rest, 0, &name) || name.len == 0 || name.data[name.len - 1] != '\0' || !get(rest, 1, &out->value))
		return false;
	out->name = name.data;
	return true;
}

/* What a fetched record carries behind those that its reader saw. */
static struct slice unseen(const struct record *record)
{
	const struct sqlq_fetched *fetched = record->handle;
	struct record_header header;
	struct slice rest;

	if (fetched == NULL || record->release != sqlq_fetched_release)
		return SLICE_NONE;
	rest = fetched->headers;
	for (int i = 0; i < RECORD_HEADERS_FETCHED; i++) {
		if (!get_header(&rest, &header))
			return SLICE_NONE;
	}
	return rest;
}

size_t sqlq_headers_size(const struct record *record)
{
	size_t size = unseen(record).len;

	for (size_t i = 0; i < record->header_count; i++)
		size += LENGTH + strlen(record->headers[i].name) + 1 + LENGTH + record->headers[i].value.len;
	return size;
}

void sqlq_headers_put(const struct record *record, char *out)
{
	struct slice more = unseen(record);

	for (size_t i = 0; i < record->header_count; i++) {
		const struct record_header *header = &record->headers[i];
		size_t name = strlen(header->name) + 1;

		out = put_bytes(put_length(out, name), header->name, name);
		out = put_length(out, header->value.data != NULL ? header->value.len + 1 : 0);
		out = put_bytes(out, header->value.data, header->value.len);
	}
	put_bytes(out, more.data, more.len);
}

void sqlq_headers_get(struct slice bytes, struct record *out)
{
	struct record_header header;

	while (out->header_count < RECORD_HEADERS_FETCHED && get_header(&bytes, &header))
		record_header_add(out, header.name, header.value);
}

void sqlq_fetched_release(void *fetched)
{
	free(fetched);
}
