/* A dead letter topic and a filter go in, the letters that pass it come out. */
#include "ctl/letters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/stop.h"

#define ASK_MS 8000
#define POLL_MS 200
#define GAP_MS 5000     /* nothing more comes from a topic that is in reach: what is left are no records */
#define SILENCE_MS 30000
#define ANY_GROUP "feedctl" /* the bounds are asked for, not what a group has committed */
#define PARTITIONS_MAX 4096

struct place_list {
	struct queue_place *places;
	size_t count, room;
};

struct letters {
	struct queue *queue;
	char topic[TOPIC_NAME_MAX];
	struct consumer *consumer;
	struct partition_lag *bounds;
	size_t partitions;
	struct place_list chosen, marks; /* sorted once all is read */
};

/* ---- places */

static void list_add(struct place_list *list, struct queue_place place)
{
	if (list->count == list->room) {
		list->room = list->room > 0 ? list->room * 2 : 64;
		list->places = mem_grow(list->places, list->room, sizeof(*list->places));
	}
	list->places[list->count++] = place;
}

static int compare(const void *a, const void *b)
{
	const struct queue_place *x = a, *y = b;

	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

static void list_sort(struct place_list *list)
{
	if (list->count > 0)
		qsort(list->places, list->count, sizeof(*list->places), compare);
}

static bool list_has(const struct place_list *list, const struct queue_place *place)
{
	return list->count > 0 && bsearch(place, list->places, list->count, sizeof(*list->places), compare) != NULL;
}

static struct queue_place place_of(const struct record *record)
{
	return (struct queue_place){ record->partition, record->offset };
}

/* ---- reading records in order */

typedef int record_fn(void *arg, const struct record *record, struct err *err);

/* Whoever leads the partitions answers. */
static int ask_leaders(const struct letters *letters, struct err *err)
{
	struct partition_lag *bounds = mem_array(PARTITIONS_MAX, sizeof(*bounds));
	size_t count;
	const int rc = queue_lag(letters->queue, ANY_GROUP, letters->topic, bounds, PARTITIONS_MAX, &count, ASK_MS, err);

	free(bounds);
	return rc;
}

/* 0: keep waiting, 1: nothing more will come, -1. Silence says that only behind an answer of the leaders: one that is away is silent too. */
static int judge_silence(const struct letters *letters, int64_t since_ms, int64_t *answered_ms, struct err *err)
{
	const int64_t now_ms = clock_mono_ms();

	if (stop_requested())
		return err_set(err, ERR_UNAVAILABLE, "stopped");
	if (now_ms - since_ms >= SILENCE_MS)
		return err_set(err, ERR_UNAVAILABLE, "reading %s: nothing comes", letters->topic);
	if (now_ms - since_ms < GAP_MS || !consumer_connected(letters->consumer))
		return 0;
	if (*answered_ms > 0)
		return now_ms - *answered_ms >= GAP_MS;
	if (ask_leaders(letters, err) < 0)
		return -1;
	*answered_ms = clock_mono_ms();
	return 0;
}

/* The records of a partition from an offset on, below another. */
static int read_run(struct letters *letters, int32_t partition, int64_t from, int64_t past, record_fn *fn, void *arg, struct err *err)
{
	int64_t heard_ms = clock_mono_ms(), answered_ms = 0; /* 0: not asked since */
	int rc = 0;

	if (from >= past)
		return 0;
	if (consumer_assign(letters->consumer, letters->topic, partition, from, ASK_MS, err) < 0)
		return -1;
	while (rc == 0 && from < past) {
		struct record record;
		int got = consumer_poll(letters->consumer, POLL_MS, &record, err);

		if (got < 0)
			return -1;
		if (got == 0) {
			int verdict = judge_silence(letters, heard_ms, &answered_ms, err);

			if (verdict != 0)
				return verdict < 0 ? -1 : 0;
			continue;
		}
		heard_ms = clock_mono_ms();
		answered_ms = 0;
		from = record.offset + 1;
		if (record.offset < past)
			rc = fn(arg, &record, err);
		record_release(&record);
	}
	return rc;
}

/* ---- the first reading: what there is */

struct first_reading {
	struct letters *letters;
	const struct letter_filter *filter;
};

static bool read_mark(struct slice text, struct queue_place *out)
{
	struct slice rest = text;
	struct slice partition = slice_cut(&rest, '/');
	int64_t number;

	if (!str_int64(partition, &number) || number < 0 || number > INT32_MAX || !str_int64(rest, &out->offset))
		return false;
	out->partition = (int32_t)number;
	return true;
}

static bool has_words(struct slice text, const char *words)
{
	const size_t len = strlen(words);

	for (size_t i = 0; i + len <= text.len; i++) {
		if (strncasecmp(text.data + i, words, len) == 0)
			return true;
	}
	return false;
}

static bool passes(const struct letter_filter *filter, const struct record *record)
{
	bool is_named = filter->place_count == 0;

	for (size_t i = 0; i < filter->place_count && !is_named; i++)
		is_named = filter->places[i].partition == record->partition && filter->places[i].offset == record->offset;
	return is_named && record->timestamp_ms >= filter->since_ms &&
		(filter->until_ms == 0 || record->timestamp_ms < filter->until_ms) &&
		(filter->key == NULL || (record->key.data != NULL && slice_is(record->key, filter->key))) &&
		(filter->error == NULL || has_words(record_header_get(record, HEADER_ERROR), filter->error));
}

static int take_note(void *arg, const struct record *record, struct err *err)
{
	const struct first_reading *reading = arg;
	struct queue_place mark;

	(void)err;
	if (read_mark(record_header_get(record, HEADER_REPLAYED), &mark))
		list_add(&reading->letters->marks, mark);
	else if (passes(reading->filter, record))
		list_add(&reading->letters->chosen, place_of(record));
	return 0;
}

static void drop_replayed(struct letters *letters)
{
	size_t kept = 0;

	for (size_t i = 0; i < letters->chosen.count; i++) {
		if (!list_has(&letters->marks, &letters->chosen.places[i]))
			letters->chosen.places[kept++] = letters->chosen.places[i];
	}
	letters->chosen.count = kept;
}

static int read_all(struct letters *letters, const struct letter_filter *filter, struct err *err)
{
	struct first_reading reading = { letters, filter };

	for (size_t i = 0; i < letters->partitions; i++) {
		const struct partition_lag *bounds = &letters->bounds[i];

		if (read_run(letters, bounds->partition, bounds->low, bounds->high, take_note, &reading, err) < 0)
			return -1;
	}
	list_sort(&letters->marks);
	list_sort(&letters->chosen);
	if (!filter->with_replayed)
		drop_replayed(letters);
	return 0;
}

int letters_open(struct queue *queue, const char *topic, const struct letter_filter *filter, struct letters **out, struct err *err)
{
	struct letters *letters = mem_zalloc(sizeof(*letters));
	const struct consumer_options options = { .topic = letters->topic };

	letters->queue = queue;
	snprintf(letters->topic, sizeof(letters->topic), "%s", topic);
	letters->bounds = mem_array(PARTITIONS_MAX, sizeof(*letters->bounds));
	if (queue_lag(queue, ANY_GROUP, topic, letters->bounds, PARTITIONS_MAX, &letters->partitions, ASK_MS, err) < 0 ||
		consumer_open(queue, &options, &letters->consumer, err) < 0 || read_all(letters, filter, err) < 0) {
		letters_close(letters);
		return -1;
	}
	*out = letters;
	return 0;
}

void letters_close(struct letters *letters)
{
	if (letters == NULL)
		return;
	consumer_close(letters->consumer);
	free(letters->bounds);
	free(letters->chosen.places);
	free(letters->marks.places);
	free(letters);
}

const char *letters_topic(const struct letters *letters)
{
	return letters->topic;
}

size_t letters_count(const struct letters *letters)
{
	return letters->chosen.count;
}

bool letters_in_partitions(const struct letters *letters)
{
	return letters->partitions > 1;
}

/* ---- the second: the letters themselves */

struct second_reading {
	const struct letters *letters;
	letter_fn *fn;
	void *arg;
};

static int give(void *arg, const struct record *record, struct err *err)
{
	const struct second_reading *reading = arg;
	const struct queue_place place = place_of(record);
	const struct letter letter = { record, list_has(&reading->letters->marks, &place) };

	return list_has(&reading->letters->chosen, &place) ? reading->fn(reading->arg, &letter, err) : 0;
}

/* The chosen letters of one partition lie together in the list. */
int letters_each(struct letters *letters, letter_fn *fn, void *arg, struct err *err)
{
	struct second_reading reading = { letters, fn, arg };
	const struct place_list *chosen = &letters->chosen;
	int rc = 0;

	for (size_t i = 0, past; i < chosen->count && rc == 0; i = past) {
		const struct queue_place *first = &chosen->places[i];

		for (past = i + 1; past < chosen->count && chosen->places[past].partition == first->partition;)
			past++;
		rc = read_run(letters, first->partition, first->offset, chosen->places[past - 1].offset + 1, give, &reading, err);
	}
	return rc;
}

/* ---- of one letter */

bool letter_number(const struct record *letter, const char *header, int64_t *out)
{
	return str_int64(record_header_get(letter, header), out);
}

bool letter_origin(const struct record *letter, char topic[TOPIC_NAME_MAX], struct queue_place *origin)
{
	struct slice name = record_header_get(letter, HEADER_ORIGIN_TOPIC);
	int64_t partition;

	if (name.data == NULL || name.len == 0 || name.len >= TOPIC_NAME_MAX || !letter_number(letter, HEADER_ORIGIN_PARTITION, &partition) ||
		!letter_number(letter, HEADER_ORIGIN_OFFSET, &origin->offset) || partition < 0 || partition > INT32_MAX || origin->offset < 0)
		return false;
	memcpy(topic, name.data, name.len);
	topic[name.len] = '\0';
	origin->partition = (int32_t)partition;
	return true;
}
