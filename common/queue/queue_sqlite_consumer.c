/* Topics and groups go in, records come out in the order of each partition; the offsets of those that are done go back.
 *
 * Reading is done in short statements of their own, so that the writers' checkpoints never wait for a reader. All of it happens within
 * consumer_poll(). */
#include "common/queue/queue_sqlite_consumer.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

enum {
	CHECK_MS = 1000,   /* that the topic's file is still there */
	REPEAT_MS = 30000, /* the same error is logged once in so long */
};

/* Once in a while, the same trouble. */
void sqlq_complain(struct sqlq_consumer *consumer, const char *what, const struct err *err)
{
	int64_t now_ms = clock_mono_ms();

	metric_add(consumer->queue->consumer_errors, 1);
	if (err->kind == consumer->last_kind && now_ms - consumer->last_error_ms < REPEAT_MS)
		return;
	consumer->last_kind = err->kind;
	consumer->last_error_ms = now_ms;
	log_warn(what, log_str("topic", consumer->sources[0].topic), log_str("group", consumer->group), log_err(err));
}

struct owned *sqlq_owned_find(const struct sqlq_consumer *consumer, const struct source *source, int32_t partition)
{
	for (size_t i = 0; i < consumer->owned_count; i++) {
		if (consumer->owned[i].partition == partition && consumer->owned[i].source == source)
			return &consumer->owned[i];
	}
	return NULL;
}

/* ---- polling */

static void hear(struct sqlq_consumer *consumer)
{
	for (size_t i = 0; i < consumer->source_count; i++) {
		struct source *source = &consumer->sources[i];
		int news = source->door.is_open ? sqlq_door_hear(&source->door) : 0;

		source->look = source->look || (news & SQLQ_RECORDS) != 0;
		source->balance = source->balance || (news & SQLQ_MEMBERS) != 0;
	}
}

static void care(struct sqlq_consumer *consumer, struct source *source, int64_t now_ms)
{
	if (source->file.db != NULL && now_ms >= source->check_ms) {
		source->check_ms = now_ms + CHECK_MS;
		if (!sqlq_file_is_there(&source->file))
			sqlq_group_lose(consumer, source);
	}
	if (consumer->group == NULL)
		return;
	if (source->seat.fd < 0)
		sqlq_group_join(consumer, source, now_ms);
	if (source->seat.fd >= 0 && consumer->offsets.db == NULL) { /* lost with another topic */
		struct err err = ERR_INIT;

		if (sqlq_group_open(consumer, &err) < 0)
			sqlq_complain(consumer, "offsets not opened", &err);
	}
	if (source->seat.fd >= 0 && consumer->offsets.db != NULL && (source->balance || now_ms >= source->balance_ms))
		sqlq_group_balance(consumer, source);
}

static void do_chores(struct sqlq_consumer *consumer, int64_t now_ms)
{
	for (size_t i = 0; i < consumer->source_count; i++)
		care(consumer, &consumer->sources[i], now_ms);
	if (consumer->group != NULL && now_ms >= consumer->commit_ms)
		sqlq_group_commit(consumer);
}

static int64_t min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t next_chore(const struct sqlq_consumer *consumer)
{
	int64_t next_ms = INT64_MAX;

	for (size_t i = 0; i < consumer->source_count; i++) {
		const struct source *source = &consumer->sources[i];

		if (source->owned_count > 0)
			next_ms = min(next_ms, source->look_ms);
		if (consumer->group != NULL)
			next_ms = min(next_ms, source->seat.fd < 0 ? source->join_ms : source->balance_ms);
	}
	for (size_t i = 0; i < consumer->owned_count; i++) {
		if (sqlq_owned_is_dirty(&consumer->owned[i]))
			return min(next_ms, consumer->commit_ms);
	}
	return next_ms;
}

static void wait_for_news(const struct sqlq_consumer *consumer, int64_t timeout_ms)
{
	const struct sqlq_door *doors[SQLQ_DOORS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < consumer->source_count; i++) {
		if (consumer->sources[i].door.is_open)
			doors[count++] = &consumer->sources[i].door;
	}
	sqlq_doors_wait(doors, count, timeout_ms);
}

int sqlq_consumer_poll(struct consumer *base, int64_t timeout_ms, struct record *out, struct err *err)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;
	int64_t until_ms = clock_mono_ms() + timeout_ms;

	for (;;) {
		if (consumer->ahead == NULL)
			hear(consumer);
		do_chores(consumer, clock_mono_ms());
		if (consumer->ahead == NULL)
			sqlq_ahead_fetch(consumer);
		if (consumer->ahead != NULL) {
			sqlq_ahead_hand_out(consumer, out);
			return 1;
		}
		if (consumer->lost.kind != ERR_NONE)
			return err_set(err, consumer->lost.kind, "%s", consumer->lost.message);
		if (clock_mono_ms() >= until_ms)
			return 0;
		wait_for_news(consumer, min(until_ms, next_chore(consumer)) - clock_mono_ms());
	}
}

/* ---- offsets, pauses */

int sqlq_consumer_store(struct consumer *base, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct owned *owned = sqlq_owned_ours((struct sqlq_consumer *)base, topic, partition, err);

	if (owned == NULL)
		return -1;
	owned->stored = offset;
	return 0;
}

int sqlq_consumer_seek(struct consumer *base, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;
	struct owned *owned = sqlq_owned_ours(consumer, topic, partition, err);

	if (owned == NULL)
		return -1;
	sqlq_ahead_drop_of(consumer, owned);
	owned->position = offset;
	owned->source->look = true;
	return 0;
}

bool sqlq_consumer_owns(const struct consumer *base, const char *topic, int32_t partition)
{
	return sqlq_owned_ours((const struct sqlq_consumer *)base, topic, partition, NULL) != NULL;
}

size_t sqlq_consumer_owned(const struct consumer *base)
{
	return atomic_load(&((const struct sqlq_consumer *)base)->owned_count);
}

int sqlq_consumer_pause(struct consumer *base, bool paused, struct err *err)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;

	(void)err;
	if (paused)
		sqlq_ahead_drop(consumer);
	for (size_t i = 0; i < consumer->owned_count; i++)
		consumer->owned[i].paused = paused;
	return 0;
}

/* Where it goes on is where it stands: a seek moves it meanwhile as ever. */
int sqlq_consumer_hold(struct consumer *base, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct owned *owned = sqlq_owned_ours((struct sqlq_consumer *)base, topic, partition, err);

	if (owned == NULL)
		return -1;
	owned->held = true;
	return sqlq_consumer_seek(base, topic, partition, offset, err);
}

int sqlq_consumer_release(struct consumer *base, const char *topic, int32_t partition, struct err *err)
{
	struct owned *owned = sqlq_owned_ours((struct sqlq_consumer *)base, topic, partition, err);

	if (owned == NULL)
		return -1;
	owned->held = false;
	return 0;
}

int sqlq_consumer_begin(struct consumer *base, const struct beginning *beginnings, size_t count, struct err *err)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;

	if (consumer->offsets.db == NULL)
		return err_set(err, ERR_CONFLICT, "the group is not joined");
	return sqlq_group_commit_all(consumer, beginnings, count, err);
}

int64_t sqlq_consumer_begun(const struct consumer *base, const char *topic, int32_t partition)
{
	const struct owned *owned = sqlq_owned_ours((const struct sqlq_consumer *)base, topic, partition, NULL);

	return owned != NULL ? owned->begun : 0;
}

bool sqlq_consumer_connected(const struct consumer *base)
{
	const struct sqlq_consumer *consumer = (const struct sqlq_consumer *)base;

	return atomic_load(&consumer->joined) && atomic_load(&consumer->readable);
}

/* ---- without a group */

static int start_at(struct sqlq_consumer *consumer, int32_t partition, int64_t offset, struct err *err)
{
	struct source *source = &consumer->sources[0];
	int code = SQLITE_ROW;
	int32_t found = 0;

	source->file.deadline_ms = clock_mono_ms() + SQLQ_READ_WAIT_MS;
	while ((code = sqlite3_step(source->marks)) == SQLITE_ROW) {
		int32_t number = sqlite3_column_int(source->marks, 0);
		int64_t low = sqlite3_column_int64(source->marks, 1), high = sqlite3_column_int64(source->marks, 2);

		if (partition != QUEUE_EVERY && partition != number)
			continue;
		sqlq_owned_add(consumer, source, number, offset == QUEUE_BEGINNING ? low : offset == QUEUE_END ? high : offset, -1);
		found++;
	}
	if (code != SQLITE_DONE)
		sqlq_err(&source->file, err, "asking where partitions begin and end");
	else if (found == 0)
		err_set(err, ERR_INVALID, "topic %s has no partition %d", source->topic, (int)partition);
	sqlite3_reset(source->marks);
	return code == SQLITE_DONE && found > 0 ? 0 : -1;
}

/* Records that are not released yet point at the topic's name: a new one only for another topic. */
static void set_topic(struct source *source, const char *topic)
{
	if (strcmp(source->topic, topic) == 0)
		return;
	sqlq_file_close(&source->file);
	sqlq_door_close(&source->door);
	free(source->topic);
	source->topic = mem_strdup(topic);
}

/* Nothing is assigned, and the topic is there to be read. */
static int change_topic(struct sqlq_consumer *consumer, const char *topic, struct err *err)
{
	struct source *source = &consumer->sources[0];

	sqlq_ahead_drop(consumer);
	err_clear(&consumer->lost);
	atomic_store(&consumer->owned_count, 0);
	source->owned_count = 0;
	if (!sqlq_is_name(topic))
		return err_set(err, ERR_INVALID, "\"%s\" is no name for a topic", topic);
	set_topic(source, topic);
	if (sqlq_source_open(consumer, source, err) < 0)
		return -1;
	if (!source->door.is_open && sqlq_door_open(consumer->queue, topic, true, &source->door, err) < 0)
		return -1;
	return 0;
}

int sqlq_consumer_assign(struct consumer *base, const char *topic, int32_t partition, int64_t offset, int64_t timeout_ms, struct err *err)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;

	(void)timeout_ms;
	if (change_topic(consumer, topic, err) < 0 || start_at(consumer, partition, offset, err) < 0)
		return -1;
	atomic_store(&consumer->joined, true);
	return 0;
}

int sqlq_consumer_assign_places(struct consumer *base, const char *topic, const struct queue_place *places, size_t count, struct err *err)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;

	if (change_topic(consumer, topic, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++)
		if (start_at(consumer, places[i].partition, places[i].offset, err) < 0)
			return -1;
	atomic_store(&consumer->joined, true);
	return 0;
}

/* ---- life */

static const char *topic_at(const struct consumer_options *options, size_t i)
{
	return i > 0 ? options->more[i - 1] : options->topic != NULL ? options->topic : "";
}

static int open_sources(struct sqlq_consumer *consumer, const struct consumer_options *options, struct err *err)
{
	size_t count = 1;

	while (options->more != NULL && options->more[count - 1] != NULL)
		count++;
	if (count > SQLQ_DOORS_MAX)
		return err_set(err, ERR_INVALID, "a consumer of more than %d topics", SQLQ_DOORS_MAX);
	consumer->sources = mem_array(count, sizeof(*consumer->sources));
	for (size_t i = 0; i < count; i++) {
		struct source *source = &consumer->sources[i];

		*source = (struct source){ .topic = mem_strdup(topic_at(options, i)), .seat.fd = -1 };
		consumer->source_count++;
		if (!sqlq_is_name(source->topic))
			return err_set(err, ERR_INVALID, "\"%s\" is no name for a topic", source->topic);
		if (source->topic[0] != '\0' && sqlq_door_open(consumer->queue, source->topic, true, &source->door, err) < 0)
			return -1;
	}
	return 0;
}

int sqlq_consumer_open(struct queue *queue, const struct consumer_options *options, struct consumer **out, struct err *err)
{
	struct sqlq_consumer *consumer = mem_zalloc(sizeof(*consumer));

	consumer->base.ops = queue->ops;
	consumer->queue = (const struct sqlq *)queue;
	consumer->group = options->group != NULL ? mem_strdup(options->group) : NULL;
	consumer->revoked = options->revoked;
	consumer->arg = options->arg;
	consumer->readable = true;
	consumer->commit_ms = clock_mono_ms() + SQLQ_COMMIT_MS;
	if (consumer->group != NULL && !sqlq_is_name(consumer->group)) {
		err_set(err, ERR_INVALID, "\"%s\" is no name for a group", consumer->group);
		sqlq_consumer_close(&consumer->base);
		return -1;
	}
	if (open_sources(consumer, options, err) < 0) {
		sqlq_consumer_close(&consumer->base);
		return -1;
	}
	*out = &consumer->base;
	return 0;
}

static void source_release(struct source *source)
{
	sqlq_door_close(&source->door);
	sqlq_file_close(&source->file);
	free(source->topic);
}

void sqlq_consumer_close(struct consumer *base)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;

	for (size_t i = 0; i < consumer->source_count; i++) {
		if (consumer->sources[i].seat.fd >= 0)
			sqlq_group_leave(consumer, &consumer->sources[i]);
	}
	sqlq_ahead_drop(consumer);
	for (size_t i = 0; i < consumer->source_count; i++)
		source_release(&consumer->sources[i]);
	sqlq_file_close(&consumer->offsets);
	free(consumer->sources);
	free(consumer->owned);
	free(consumer->group);
	free(consumer);
}
