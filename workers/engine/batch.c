/* What a worker says about the records of its batch goes in; outcomes, and copies of the records to send, come out. */
#include "workers/engine/batch.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/trace.h"
#include "common/queue/queue.h"

/* One record with all that it points at, in one piece of memory. */
struct parcel {
	struct record record;
	char bytes[];
};

static void judge_item(struct batch *batch, size_t i, enum outcome outcome, const struct err *why)
{
	batch->items[i].outcome = outcome;
	batch->items[i].why = *why;
}

void batch_reject(struct batch *batch, size_t i, const struct err *why)
{
	judge_item(batch, i, REJECT, why);
}

void batch_retry(struct batch *batch, size_t i, const struct err *why)
{
	judge_item(batch, i, RETRY, why);
}

void batch_emit(struct batch *batch, size_t i, const struct record *record)
{
	struct record output = *record;
	struct trace parent, child;
	char text[TRACE_TEXT];

	if (trace_parse(record_header_get(batch->items[i].record, HEADER_TRACE), &parent)) {
		trace_child(&parent, &child);
		trace_format(&child, text);
		record_header_add(&output, HEADER_TRACE, slice_of(text));
	}
	outbox_add(batch->outbox, &output);
}

/* Records of one partition stand together, or nearly so: asking at each change is enough. */
bool batch_still_owned(const struct batch *batch)
{
	const struct record *before = NULL;

	if (batch->consumer == NULL)
		return true;
	for (size_t i = 0; i < batch->count; i++) {
		const struct record *record = batch->items[i].record;

		if ((before == NULL || before->partition != record->partition || before->topic != record->topic) &&
			!consumer_owns(batch->consumer, record->topic, record->partition))
			return false;
		before = record;
	}
	return true;
}

/* ---- the outbox */

static size_t parcel_size(const struct record *record)
{
	size_t size = sizeof(struct parcel) + strlen(record->topic) + 1 + record->key.len + record->value.len;

	for (size_t i = 0; i < record->header_count; i++)
		size += strlen(record->headers[i].name) + 1 + record->headers[i].value.len;
	return size;
}

static const char *put_text(char **at, const char *text)
{
	return slice_put(at, (struct slice){ text, strlen(text) + 1 }).data;
}

void outbox_add(struct outbox *outbox, const struct record *record)
{
	struct parcel *parcel = mem_alloc(parcel_size(record));
	struct record *copy = &parcel->record;
	char *at = parcel->bytes;

	*copy = *record;
	copy->topic = put_text(&at, record->topic);
	copy->key = slice_put(&at, record->key);
	copy->value = slice_put(&at, record->value);
	for (size_t i = 0; i < record->header_count; i++) {
		copy->headers[i].name = put_text(&at, record->headers[i].name);
		copy->headers[i].value = slice_put(&at, record->headers[i].value);
	}
	if (outbox->count == outbox->size) {
		outbox->size = outbox->size > 0 ? outbox->size * 2 : 64;
		outbox->parcels = mem_grow(outbox->parcels, outbox->size, sizeof(*outbox->parcels));
	}
	outbox->parcels[outbox->count++] = parcel;
}

const struct record *outbox_at(const struct outbox *outbox, size_t i)
{
	return &outbox->parcels[i]->record;
}

void outbox_clear(struct outbox *outbox)
{
	for (size_t i = 0; i < outbox->count; i++)
		free(outbox->parcels[i]);
	outbox->count = 0;
}

void outbox_release(struct outbox *outbox)
{
	outbox_clear(outbox);
	free(outbox->parcels);
	*outbox = (struct outbox){ NULL, 0, 0 };
}

void record_trace(const struct record *record, char out[33])
{
	struct trace trace;

	out[0] = '\0';
	if (trace_parse(record_header_get(record, HEADER_TRACE), &trace))
		trace_id_format(&trace, out);
}
