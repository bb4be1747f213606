/* Dead letters go in; the records that they were come out on the topics where they came from, and a mark behind each letter.
 *
 * A letter is marked when its record is stored, so one that was sent and not marked, because we died between, is sent again by
 * the next replay: workers go by ids, and a record that comes twice takes effect once. What dies again becomes a new letter. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/stop.h"
#include "ctl/dlq.h"

#define BATCH_MAX 100
#define BATCHES_A_SECOND 5 /* so that a stop or a death is never far from the last mark */
#define READY_MS 15000
#define FETCH_MS 15000
#define FLUSH_SPARE_MS 10000
#define TELL_MS 1000       /* progress at a terminal */
#define TELL_LOG_MS 10000

enum { UNDER_WAY, STORED, NOT_STORED };

/* A letter that was sent: written by the producer's thread too, so it does not move until the batch is settled. */
struct sent_letter {
	struct queue_place place;
	_Atomic int state;
};

struct replay {
	const struct dlq *dlq;
	const struct letters *letters;
	struct producer *producer, *packed; /* packed: for letters that were cut; NULL until there is one */
	struct consumer *origins;           /* likewise */
	struct sent_letter batch[BATCH_MAX];
	size_t count, batch_size;
	int64_t replayed, refused, unsent, unmarked;
	int64_t began_ms, told_ms;
};

/* ---- progress */

static void tell(struct replay *replay)
{
	const int64_t now_ms = clock_mono_ms();

	if (now_ms - replay->told_ms < (isatty(STDERR_FILENO) ? TELL_MS : TELL_LOG_MS))
		return;
	replay->told_ms = now_ms;
	fprintf(stderr, "%s: %" PRId64 " of %zu replayed, %" PRId64 " refused\n", letters_topic(replay->letters), replay->replayed,
		letters_count(replay->letters), replay->refused);
}

/* Waits until so many letters are due at the rate. */
static void keep_pace(const struct replay *replay)
{
	const int64_t done = replay->replayed + replay->unsent;
	const int64_t wait_ms = replay->began_ms + done * 1000 / replay->dlq->rate - clock_mono_ms();

	if (wait_ms > 0)
		stop_wait(wait_ms);
}

static void refuse(struct replay *replay, const struct record *letter, const struct err *why)
{
	char place[DLQ_PLACE];

	replay->refused++;
	dlq_place(replay->letters, &(struct queue_place){ letter->partition, letter->offset }, place);
	fprintf(stderr, "%s %s: not replayed: %s\n", letters_topic(replay->letters), place, why->message);
}

/* ---- sending, and marking what is stored */

static void on_sent(void *arg, enum sent sent, const char *why)
{
	struct sent_letter *letter = arg;

	(void)why;
	atomic_store(&letter->state, sent == SENT_STORED ? STORED : NOT_STORED);
}

static int wait_ready(struct producer *producer, struct err *err)
{
	const int64_t until_ms = clock_mono_ms() + READY_MS;

	while (!producer_ready(producer, err)) {
		if (clock_mono_ms() >= until_ms)
			return -1;
		err_clear(err);
		if (stop_wait(20))
			return err_set(err, ERR_UNAVAILABLE, "stopped");
	}
	return 0;
}

static int flush(struct replay *replay, struct producer *producer)
{
	return producer != NULL ? producer_flush(producer, replay->dlq->settings->kafka.message_timeout_ms + FLUSH_SPARE_MS) : 0;
}

static int mark(struct replay *replay, struct sent_letter *letter)
{
	char text[DLQ_PLACE];
	struct record record = { .topic = letters_topic(replay->letters), .partition = letter->place.partition };
	struct err err = ERR_INIT;

	snprintf(text, sizeof(text), "%d/%" PRId64, (int)letter->place.partition, letter->place.offset);
	record_header_add(&record, HEADER_REPLAYED, slice_of(text));
	atomic_store(&letter->state, UNDER_WAY);
	return producer_send(replay->producer, &record, on_sent, letter, &err);
}

/* Whatever was sent is known after this, and what is stored is marked. */
static void settle(struct replay *replay)
{
	size_t stored = 0;

	flush(replay, replay->producer);
	flush(replay, replay->packed);
	for (size_t i = 0; i < replay->count; i++) {
		struct sent_letter *letter = &replay->batch[i];

		if (atomic_load(&letter->state) != STORED) {
			replay->unsent++;
			continue;
		}
		replay->batch[stored].place = letter->place; /* never ahead of i */
		if (mark(replay, &replay->batch[stored]) < 0)
			replay->unmarked++;
		else
			stored++;
		replay->replayed++;
	}
	flush(replay, replay->producer);
	for (size_t i = 0; i < stored; i++)
		replay->unmarked += atomic_load(&replay->batch[i].state) != STORED;
	replay->count = 0;
	tell(replay);
}

static int send(struct replay *replay, struct producer *producer, const struct record *record, const struct queue_place *letter,
	struct err *err)
{
	struct sent_letter *sent = &replay->batch[replay->count];

	sent->place = *letter;
	atomic_store(&sent->state, UNDER_WAY);
	if (producer_send(producer, record, on_sent, sent, err) < 0) {
		if (err->kind != ERR_FULL)
			return -1;
		err_clear(err);
		flush(replay, producer); /* those of this batch are in its way */
		if (producer_send(producer, record, on_sent, sent, err) < 0)
			return -1;
	}
	replay->count++;
	return 0;
}

/* ---- the record that a letter was */

static int check_origin(const char *topic, struct err *err)
{
	const size_t len = strlen(topic);

	if (topic_find(topic) != NULL && (len < 4 || strcmp(topic + len - 4, ".dlq") != 0))
		return 0;
	return err_set(err, ERR_INVALID, "it came from %s, which is no topic of ours", topic);
}

/* Its own headers, without what the letter says of it; those beyond what we see come by the handle. */
static struct record original_of(const struct record *letter, const char *topic)
{
	struct record record = { .topic = topic, .partition = -1, .key = letter->key, .value = letter->value };

	record.handle = letter->handle;
	record.release = letter->release;
	for (size_t i = 0; i < letter->header_count; i++) {
		if (!record_header_of_letter(letter->headers[i].name))
			record_header_add(&record, letter->headers[i].name, letter->headers[i].value);
	}
	return record;
}

/* The letter has only the beginning: what is at its origin must be what it was cut from. */
static int check_same(const struct record *letter, const struct record *found, const struct queue_place *origin, int64_t length, struct err *err)
{
	int64_t written_ms = found->timestamp_ms;

	letter_number(letter, HEADER_ORIGIN_TIMESTAMP, &written_ms);
	if (found->partition == origin->partition && found->offset == origin->offset && found->timestamp_ms == written_ms &&
		found->value.len == (size_t)length && found->value.len >= letter->value.len && found->key.len >= letter->key.len &&
		(letter->value.len == 0 || memcmp(found->value.data, letter->value.data, letter->value.len) == 0))
		return 0;
	return err_set(err, ERR_INVALID, "it was cut, and what is at its origin now is another record");
}

/* ERR_INVALID: it is not there any more. */
static int fetch_origin(struct replay *replay, const char *topic, const struct queue_place *origin, struct record *out, struct err *err)
{
	const struct consumer_options options = { .topic = topic };
	struct partition_lag *bounds = mem_array((size_t)origin->partition + 1, sizeof(*bounds));
	size_t count = 0;
	int rc = -1, got;

	if (queue_lag(replay->dlq->queue, "feedctl", topic, bounds, (size_t)origin->partition + 1, &count, FETCH_MS, err) < 0)
		goto out;
	if ((size_t)origin->partition >= count || origin->offset < bounds[origin->partition].low ||
		origin->offset >= bounds[origin->partition].high) {
		err_set(err, ERR_INVALID, "it was cut, and the whole record is not at its origin %s/%d/%" PRId64 " any more", topic,
			(int)origin->partition, origin->offset);
		goto out;
	}
	if (replay->origins == NULL && consumer_open(replay->dlq->queue, &options, &replay->origins, err) < 0)
		goto out;
	if (consumer_assign(replay->origins, topic, origin->partition, origin->offset, FETCH_MS, err) < 0)
		goto out;
	got = consumer_poll(replay->origins, FETCH_MS, out, err);
	if (got > 0)
		rc = 0;
	else if (got == 0)
		err_set(err, ERR_UNAVAILABLE, "it was cut, and its origin does not answer");
out:
	free(bounds);
	return rc;
}

static int send_whole(struct replay *replay, const struct record *letter, const char *topic, const struct queue_place *origin, int64_t length,
	struct err *err)
{
	const struct queue_place place = { letter->partition, letter->offset };
	struct record found = { 0 };
	int rc = -1;

	if (replay->packed == NULL && (producer_open(replay->dlq->queue, PRODUCER_LOW_LATENCY | PRODUCER_PACKED, &replay->packed, err) < 0 ||
		wait_ready(replay->packed, err) < 0))
		return -1;
	if (fetch_origin(replay, topic, origin, &found, err) < 0)
		return -1;
	if (check_same(letter, &found, origin, length, err) == 0) {
		struct record record = original_of(&found, topic);

		rc = send(replay, replay->packed, &record, &place, err);
	}
	record_release(&found);
	return rc;
}

static int send_letter(struct replay *replay, const struct record *letter, struct err *err)
{
	const struct queue_place place = { letter->partition, letter->offset };
	struct queue_place origin;
	char topic[TOPIC_NAME_MAX];
	struct record record;
	int64_t length;

	if (!letter_origin(letter, topic, &origin))
		return err_set(err, ERR_INVALID, "it does not say where it came from");
	if (check_origin(topic, err) < 0)
		return -1;
	if (letter_number(letter, HEADER_CUT, &length))
		return send_whole(replay, letter, topic, &origin, length, err);
	record = original_of(letter, topic);
	return send(replay, replay->producer, &record, &place, err);
}

/* ---- one topic */

/* 1 ends the reading: a stop was asked for. */
static int replay_one(void *arg, const struct letter *letter, struct err *err)
{
	struct replay *replay = arg;
	struct err why = ERR_INIT;

	if (stop_requested())
		return 1;
	if (send_letter(replay, letter->record, &why) < 0) {
		if (why.kind != ERR_INVALID && why.kind != ERR_CONFLICT)
			return err_set(err, why.kind, "%s", why.message);
		refuse(replay, letter->record, &why);
	}
	if (replay->count < replay->batch_size)
		return 0;
	settle(replay);
	if (replay->unsent + replay->unmarked > 0)
		return err_set(err, ERR_UNAVAILABLE, "Kafka does not take what is sent");
	keep_pace(replay);
	return 0;
}

static int replay_all(struct replay *replay, struct letters *letters, struct err *err)
{
	int rc;

	if (producer_open(replay->dlq->queue, PRODUCER_LOW_LATENCY, &replay->producer, err) < 0 || wait_ready(replay->producer, err) < 0)
		return -1;
	replay->began_ms = replay->told_ms = clock_mono_ms();
	rc = letters_each(letters, replay_one, replay, err);
	settle(replay);
	return rc < 0 ? -1 : 0;
}

static int sum_up(const struct replay *replay, int rc)
{
	const int64_t left = (int64_t)letters_count(replay->letters) - replay->replayed - replay->refused;

	printf("%s: %" PRId64 " replayed, %" PRId64 " refused", letters_topic(replay->letters), replay->replayed, replay->refused);
	if (left > 0)
		printf(", %" PRId64 " left: run it again", left);
	if (replay->unmarked > 0)
		printf(", %" PRId64 " of the replayed not marked: they would be sent again, which changes nothing", replay->unmarked);
	printf("\n");
	return rc == 0 && replay->refused == 0 && left == 0 && replay->unmarked == 0 ? 0 : 1;
}

static int dry_run(struct dlq *dlq, struct letters *letters, struct err *err)
{
	dlq_print_head();
	if (dlq_print(dlq, letters, err) < 0)
		return -1;
	printf("%s: %zu would be replayed\n", letters_topic(letters), letters_count(letters));
	return 0;
}

static size_t batch_size(int64_t rate)
{
	const int64_t size = rate / BATCHES_A_SECOND;

	return size < 1 ? 1 : size > BATCH_MAX ? BATCH_MAX : (size_t)size;
}

int dlq_replay(struct dlq *dlq, const char *topic, struct err *err)
{
	struct replay *replay = mem_zalloc(sizeof(*replay));
	struct letters *letters = NULL;
	int rc = -1;

	if (letters_open(dlq->queue, topic, &dlq->filter, &letters, err) < 0)
		goto out;
	if (dlq->is_dry) {
		rc = dry_run(dlq, letters, err);
		goto out;
	}
	replay->dlq = dlq;
	replay->letters = letters;
	replay->batch_size = batch_size(dlq->rate);
	rc = letters_count(letters) > 0 ? replay_all(replay, letters, err) : 0;
	if (sum_up(replay, rc) > 0 && rc == 0)
		rc = 1;
out:
	producer_close(replay->producer);
	producer_close(replay->packed);
	consumer_close(replay->origins);
	letters_close(letters);
	free(replay);
	return rc;
}
