/* Places and records go in, server-sent events come out; ids that clients send back go in, places come out. */
#include "api-gateway/events_message.h"

#include "api-gateway/events.h"

void events_message_place(struct buf *out, const int64_t *next, size_t count)
{
	buf_add_str(out, "id: 1");
	for (size_t p = 0; p < count; p++) {
		buf_add_char(out, '-');
		buf_add_int(out, next[p]);
	}
}

bool events_parse(struct slice id, struct events_place *out)
{
	struct slice place = slice_cut(&id, '/');
	int64_t version;

	*out = (struct events_place){ .count = 0 };
	if (!str_int64(slice_cut(&place, '-'), &version) || version != 1)
		return false;
	while (place.len > 0) {
		if (out->count == EVENTS_PARTITIONS || !str_int64(slice_cut(&place, '-'), &out->next[out->count]) || out->next[out->count] < 0)
			return false;
		out->count++;
	}
	return true;
}

/* The event's own id, its name, and its value, a line of data for each line. */
void events_message_text(struct buf *out, const struct record *record)
{
	const struct slice id = record_header_get(record, "ce_id"), type = record_header_get(record, "ce_type");
	struct slice rest = record->value;

	buf_add_char(out, '/');
	for (size_t i = 0; i < id.len; i++)
		if ((unsigned char)id.data[i] > ' ')
			buf_add_char(out, id.data[i]);
	if (slice_is(type, "product.created") || slice_is(type, "product.deleted"))
		buf_addf(out, "\nevent: %.*s", (int)type.len, type.data);
	do {
		const struct slice line = slice_cut(&rest, '\n');

		buf_add_str(out, "\ndata: ");
		for (size_t i = 0; i < line.len; i++)
			if (line.data[i] != '\r')
				buf_add_char(out, line.data[i]);
	} while (rest.len > 0);
	buf_add_str(out, "\n\n");
}
