/* A product's id and an action go in, the record of product_events that tells of it comes out. */
#include "ctl/event_reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/stop.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"

#define ASK_MS 10000
#define POLL_MS 500
#define PAUSE_MS 50
#define PARTITIONS_MAX 4096
#define ANY_GROUP "command" /* only the ends are of interest here, not what the group has committed */

struct event_reader {
	struct queue *queue;
	struct consumer *consumer;
	struct partition_lag *ends; /* now */
	int64_t *next;              /* the first offset of each that was not read */
	size_t count;
};

static int ask_ends(struct event_reader *reader, struct err *err)
{
	return queue_lag(reader->queue, ANY_GROUP, TOPIC_PRODUCT_EVENTS, reader->ends, PARTITIONS_MAX, &reader->count, ASK_MS, err);
}

int event_reader_open(const struct settings *settings, struct event_reader **out, struct err *err)
{
	const struct consumer_options options = { .topic = TOPIC_PRODUCT_EVENTS };
	struct event_reader *reader = mem_zalloc(sizeof(*reader));

	reader->ends = mem_array(PARTITIONS_MAX, sizeof(*reader->ends));
	reader->next = mem_array(PARTITIONS_MAX, sizeof(*reader->next));
	if (queue_open(settings, &reader->queue, err) < 0 || ask_ends(reader, err) < 0 ||
		consumer_open(reader->queue, &options, &reader->consumer, err) < 0) {
		event_reader_close(reader);
		return -1;
	}
	for (size_t i = 0; i < reader->count; i++)
		reader->next[i] = reader->ends[i].high;
	*out = reader;
	return 0;
}

void event_reader_close(struct event_reader *reader)
{
	if (reader == NULL)
		return;
	if (reader->consumer != NULL)
		consumer_close(reader->consumer);
	if (reader->queue != NULL)
		queue_close(reader->queue);
	free(reader->ends);
	free(reader->next);
	free(reader);
}

static bool is_it(const struct record *record, int64_t product, const char *action)
{
	struct err ignored = ERR_INIT;
	struct json *event = json_parse(record->value, &ignored);
	const struct json *id = json_get(event, "id");
	const struct json *word = json_get(event, "action");
	int64_t number = 0;
	bool is = id != NULL && json_int64(id, &number) && number == product && word != NULL && slice_is(json_string(word), action);

	json_free(event);
	return is;
}

static void keep(const struct record *record, struct event *out)
{
	struct slice id = record_header_get(record, "ce_id");

	out->partition = record->partition;
	out->offset = record->offset;
	snprintf(out->id, sizeof(out->id), "%.*s", (int)id.len, id.data != NULL ? id.data : "");
	buf_reset(&out->value);
	buf_add(&out->value, record->value.data, record->value.len);
}

/* Reads partition i from where it was left to where it ends. 1: found. */
static int read_partition(struct event_reader *reader, size_t i, int64_t product, const char *action, int64_t deadline, struct event *out,
	struct err *err)
{
	bool found = false;

	if (consumer_assign(reader->consumer, TOPIC_PRODUCT_EVENTS, reader->ends[i].partition, reader->next[i], ASK_MS, err) < 0)
		return -1;
	while (!found && reader->next[i] < reader->ends[i].high && clock_mono_ms() < deadline) {
		struct record record;
		int got = consumer_poll(reader->consumer, POLL_MS, &record, err);

		if (got < 0)
			return -1;
		if (got == 0)
			continue;
		found = is_it(&record, product, action);
		if (found)
			keep(&record, out);
		reader->next[i] = record.offset + 1;
		record_release(&record);
	}
	return found;
}

int event_reader_find(struct event_reader *reader, int64_t product, const char *action, int64_t timeout_ms, struct event *out, struct err *err)
{
	int64_t deadline = clock_mono_ms() + timeout_ms;

	do {
		if (ask_ends(reader, err) < 0)
			return -1;
		for (size_t i = 0; i < reader->count; i++) {
			int found = 0;

			if (reader->ends[i].high > reader->next[i])
				found = read_partition(reader, i, product, action, deadline, out, err);
			if (found != 0)
				return found > 0 ? 0 : -1;
		}
	} while (clock_mono_ms() < deadline && !stop_wait(PAUSE_MS));
	return err_set(err, ERR_UNAVAILABLE, "no event \"%s\" of product %" PRId64 " within %" PRId64 " ms", action, product, timeout_ms);
}
