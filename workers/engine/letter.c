/* A rejected item, or one that is to come again, goes in; the record for its dead letter or retry topic comes out. */
#include "workers/engine/letter.h"

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

bool letter_cut(const struct record *letter, const char *worker, char topic[TOPIC_NAME_MAX], char cut[24], struct record *out)
{
	if (record_header_get(letter, HEADER_ORIGIN_OFFSET).data == NULL || record_header_get(letter, HEADER_WORKER).data == NULL)
		return false;
	topic_dead_letter(worker, topic);
	*out = (struct record){ .topic = topic, .partition = -1 };
	out->key = first_bytes(letter->key, LETTER_CUT);
	out->value = first_bytes(letter->value, LETTER_CUT);
	for (size_t i = 0; i < letter->header_count; i++)
		if (record_header_of_letter(letter->headers[i].name) && strcmp(letter->headers[i].name, HEADER_CUT) != 0)
			record_header_add(out, letter->headers[i].name, letter->headers[i].value);
	record_header_add(out, HEADER_CUT, number_text(cut, (int64_t)letter->value.len));
	return true;
}

size_t letter_stage(const char *worker, const char *topic)
{
	char name[TOPIC_NAME_MAX];

	for (size_t stage = 0; stage < topics_delays()->count; stage++) {
		topic_retry(worker, stage, name);
		if (strcmp(name, topic) == 0)
			return stage + 1;
	}
	return 0;
}

static int64_t header_number(const struct record *record, const char *name, int64_t otherwise)
{
	int64_t number;

	return str_int64(record_header_get(record, name), &number) ? number : otherwise;
}

int64_t letter_due_ms(const struct record *record)
{
	return header_number(record, HEADER_DUE, record->timestamp_ms);
}

unsigned letter_tries(const struct record *record)
{
	const int64_t tries = header_number(record, HEADER_ATTEMPTS, 0);

	return tries > 0 && tries < INT32_MAX ? (unsigned)tries : 0;
}

/* Where the record was first; headers of that name count on our own retry topics alone. */
static void add_origin(struct letter *letter, const char *worker, const struct record *origin)
{
	static const char *const names[] = { HEADER_ORIGIN_TOPIC, HEADER_ORIGIN_PARTITION, HEADER_ORIGIN_OFFSET, HEADER_ORIGIN_TIMESTAMP };
	const struct slice here[] = { slice_of(origin->topic), number_text(letter->partition, origin->partition),
		number_text(letter->offset, origin->offset), number_text(letter->timestamp, origin->timestamp_ms) };
	const bool is_known = letter_stage(worker, origin->topic) > 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct slice there = record_header_get(origin, names[i]);

		record_header_add(&letter->record, names[i], is_known && there.data != NULL ? there : here[i]);
	}
}

/* Ours first: where the headers are too many, the reason is not what gets lost. A letter that was replayed and died again carries its
 * last origin. */
static void write_letter(struct letter *letter, const char *worker, const struct item *item, int64_t due_ms)
{
	const struct record *origin = item->record;
	struct record *record = &letter->record;

	record->topic = letter->topic;
	record->partition = -1;
	record->key = origin->key;
	record->value = origin->value;
	record->handle = origin->handle; /* headers beyond those that are seen here */
	record->release = origin->release;
	add_origin(letter, worker, origin);
	record_header_add(record, HEADER_ATTEMPTS, number_text(letter->tries, item->tries));
	record_header_add(record, HEADER_ERROR, slice_of(item->why.message));
	record_header_add(record, HEADER_WORKER, slice_of(worker));
	if (due_ms > 0)
		record_header_add(record, HEADER_DUE, number_text(letter->due, due_ms));
	for (size_t i = 0; i < origin->header_count; i++)
		if (!record_header_of_letter(origin->headers[i].name))
			record_header_add(record, origin->headers[i].name, origin->headers[i].value);
}

void letter_dead(struct letter *letter, const char *worker, const struct item *item)
{
	memset(letter, 0, sizeof(*letter));
	topic_dead_letter(worker, letter->topic);
	write_letter(letter, worker, item, 0);
}

void letter_retry(struct letter *letter, const char *worker, const struct item *item, size_t stage, int64_t due_ms)
{
	memset(letter, 0, sizeof(*letter));
	topic_retry(worker, stage, letter->topic);
	write_letter(letter, worker, item, due_ms);
}
