/* Topics and groups go in, records come out in the order of each partition; the offsets of those that are done go back.
 *
 * A member takes its fair share of the partitions: it counts the members, gives up what is more than its share, takes what is
 * free while it has less. A partition is ours as long as we hold its lock, and nobody can take it from us: a process that is
 * stopped delays its partitions and finds them as they were. Reading is done in short statements of their own, so that the
 * writers' checkpoints never wait for a reader. All of it happens within consumer_poll(). */
#include "common/queue/queue_sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"

enum {
	FETCH_RECORDS = 1000,
	FETCH_BYTES = 256 << 10, /* what is fetched ahead, but for one record */
	LOOK_MS = 1000,          /* for new records, when no datagram came */
	BALANCE_MS = 500,        /* for members that came or died without a word */
	HURRY_MS = 100,          /* likewise, while partitions of our share are not free yet */
	JOIN_MS = 200,           /* between two tries to join */
	RETRY_MS = 100,          /* after an error while reading */
	COMMIT_MS = 1000,
	CHECK_MS = 1000,         /* that the topic's file is still there */
	COMMIT_WAIT_MS = 2000,   /* for another member that is committing */
	READ_WAIT_MS = 1000,     /* for a writer that is recovering the file */
	REPEAT_MS = 30000,       /* the same error is logged once in so long */
};

/* One topic that is read. */
struct source {
	char *topic;
	struct sqlq_file file;
	sqlite3_stmt *marks, *fetch;
	struct sqlq_door door;
	struct sqlq_seat seat;
	int32_t partitions;
	size_t owned_count; /* of the consumer's owned, those of this topic */
	bool look;    /* the ends of partitions may have changed */
	bool balance; /* members may have changed */
	int64_t look_ms, balance_ms, join_ms, check_ms; /* monotonic: when it is due anyway */
};

struct owned {
	struct source *source;
	int32_t partition;
	bool paused;
	bool held;
	bool stopped;               /* by an offset that is not there: must not be passed over */
	int64_t position;           /* next to be handed out */
	int64_t low, high;          /* of the partition, as last seen */
	int64_t stored, committed;  /* -1: none */
	int64_t begun;              /* found beside the group's offset */
};

struct sqlq_consumer {
	struct consumer base;
	const struct sqlq *queue;
	char *group; /* NULL: none */
	void (*revoked)(void *arg, const struct topic_partition *gone, size_t count, bool lost);
	void *arg;

	struct source *sources;
	size_t source_count;
	struct sqlq_file offsets; /* of the group */
	sqlite3_stmt *learn, *save;

	struct owned *owned;
	_Atomic size_t owned_count; /* changed by the polling thread alone */
	_Atomic bool joined, readable;
	size_t next;                /* in owned: whose turn it is to be fetched */
	struct sqlq_fetched *ahead; /* of one partition, in its order */
	struct source *ahead_of;    /* the topic of that */

	struct err lost; /* without a group: why nothing comes until the next assignment */
	int64_t commit_ms; /* monotonic: when it is due anyway */
	enum err_kind last_kind;
	int64_t last_error_ms;
};

/* Once in a while, the same trouble. */
static void complain(struct sqlq_consumer *consumer, const char *what, const struct err *err)
{
	int64_t now_ms = clock_mono_ms();

	metric_add(consumer->queue->consumer_errors, 1);
	if (err->kind == consumer->last_kind && now_ms - consumer->last_error_ms < REPEAT_MS)
		return;
	consumer->last_kind = err->kind;
	consumer->last_error_ms = now_ms;
	log_warn(what, log_str("topic", consumer->sources[0].topic), log_str("group", consumer->group), log_err(err));
}

static struct owned *find_owned(const struct sqlq_consumer *consumer, const struct source *source, int32_t partition)
{
	for (size_t i = 0; i < consumer->owned_count; i++) {
		if (consumer->owned[i].partition == partition && consumer->owned[i].source == source)
			return &consumer->owned[i];
	}
	return NULL;
}

/* ---- what was fetched ahead */

static void drop_ahead(struct sqlq_consumer *consumer)
{
	while (consumer->ahead != NULL) {
		struct sqlq_fetched *fetched = consumer->ahead;

		consumer->ahead = fetched->next;
		free(fetched);
	}
}

static void drop_ahead_of(struct sqlq_consumer *consumer, const struct owned *owned)
{
	if (consumer->ahead != NULL && consumer->ahead_of == owned->source && consumer->ahead->partition == owned->partition)
		drop_ahead(consumer);
}

/* ---- fetching */

/* In a group the partition stays ours and silent, and the others go on; without one there is somebody to be told. */
static void stop_partition(struct sqlq_consumer *consumer, struct owned *owned, const char *why)
{
	owned->stopped = true;
	drop_ahead_of(consumer, owned);
	if (consumer->group == NULL) {
		err_set(&consumer->lost, ERR_CONFLICT, "%s/%d can't be read on from offset %lld: %s", owned->source->topic,
			(int)owned->partition, (long long)owned->position, why);
		return;
	}
	metric_add(consumer->queue->stopped, 1);
	log_error("partition stopped", log_str("topic", owned->source->topic), log_int("partition", owned->partition),
		log_int("offset", owned->position), log_int("low", owned->low), log_int("high", owned->high), log_str("error", why),
		log_str("remedy", "records may be lost: compare with `feedctl lag`, then set the offset with `feedctl offsets`"));
}

static void see_marks(struct sqlq_consumer *consumer, struct owned *owned, int64_t low, int64_t high)
{
	owned->low = low;
	owned->high = high;
	if (!owned->stopped && (owned->position < low || owned->position > high))
		stop_partition(consumer, owned, "offset out of range");
}

static int read_marks(struct sqlq_consumer *consumer, struct source *source, struct err *err)
{
	int code;

	source->file.deadline_ms = clock_mono_ms() + READ_WAIT_MS;
	while ((code = sqlite3_step(source->marks)) == SQLITE_ROW) {
		struct owned *owned = find_owned(consumer, source, sqlite3_column_int(source->marks, 0));

		if (owned != NULL)
			see_marks(consumer, owned, sqlite3_column_int64(source->marks, 1), sqlite3_column_int64(source->marks, 2));
	}
	if (code != SQLITE_DONE)
		sqlq_err(&source->file, err, "reading where partitions end");
	sqlite3_reset(source->marks);
	return code == SQLITE_DONE ? 0 : -1;
}

static struct slice column(sqlite3_stmt *stmt, int at)
{
	const void *bytes = sqlite3_column_blob(stmt, at);

	if (sqlite3_column_type(stmt, at) == SQLITE_NULL)
		return SLICE_NONE;
	return (struct slice){ bytes != NULL ? bytes : "", (size_t)sqlite3_column_bytes(stmt, at) };
}

static struct slice put(char **at, struct slice bytes)
{
	struct slice copy = { *at, bytes.len };

	if (bytes.data == NULL)
		return SLICE_NONE;
	memcpy(*at, bytes.data, bytes.len);
	*at += bytes.len;
	return copy;
}

static struct sqlq_fetched *copy_row(sqlite3_stmt *stmt, int32_t partition)
{
	struct slice key = column(stmt, 2), value = column(stmt, 3), headers = column(stmt, 4);
	size_t size = key.len + value.len + headers.len;
	struct sqlq_fetched *fetched = mem_alloc(sizeof(*fetched) + size);
	char *at = fetched->bytes;

	*fetched = (struct sqlq_fetched){ .partition = partition, .size = size };
	fetched->offset = SQLQ_OFFSET(sqlite3_column_int64(stmt, 0));
	fetched->timestamp_ms = sqlite3_column_int64(stmt, 1);
	fetched->key = put(&at, key);
	fetched->value = put(&at, value);
	fetched->headers = put(&at, headers);
	return fetched;
}

/* Fetches records from the partition's position on. What is missing in a row is a sign of a deletion that passed us. */
static int fetch(struct sqlq_consumer *consumer, struct owned *owned, struct err *err)
{
	struct source *source = owned->source;
	struct sqlq_fetched **end = &consumer->ahead;
	int64_t expected = owned->position;
	size_t bytes = 0;
	int code = SQLITE_ROW;

	consumer->ahead_of = source;
	source->file.deadline_ms = clock_mono_ms() + READ_WAIT_MS;
	sqlite3_bind_int64(source->fetch, 1, SQLQ_ID(owned->partition, owned->position));
	sqlite3_bind_int64(source->fetch, 2, SQLQ_ID(owned->partition + 1, 0));
	sqlite3_bind_int(source->fetch, 3, FETCH_RECORDS);
	while (bytes < FETCH_BYTES && (code = sqlite3_step(source->fetch)) == SQLITE_ROW) {
		struct sqlq_fetched *fetched;

		if (SQLQ_OFFSET(sqlite3_column_int64(source->fetch, 0)) != expected++)
			break;
		fetched = copy_row(source->fetch, owned->partition);
		*end = fetched;
		end = &fetched->next;
		bytes += sizeof(*fetched) + fetched->size;
	}
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		sqlq_err(&source->file, err, "fetching");
	sqlite3_reset(source->fetch);
	if (code != SQLITE_ROW && code != SQLITE_DONE) {
		drop_ahead(consumer);
		return -1;
	}
	if (consumer->ahead == NULL) /* the marks say that there are some */
		stop_partition(consumer, owned, "the record at this offset is not there");
	return 0;
}

/* The next partition in turn that has something to fetch. */
static struct owned *find_backlog(struct sqlq_consumer *consumer)
{
	size_t count = consumer->owned_count;

	for (size_t i = 0; i < count; i++) {
		struct owned *owned = &consumer->owned[(consumer->next + i) % count];

		if (!owned->paused && !owned->held && !owned->stopped && owned->position < owned->high) {
			consumer->next = (consumer->next + i + 1) % count;
			return owned;
		}
	}
	return NULL;
}

/* On trouble, not at once again. */
static int look(struct sqlq_consumer *consumer, struct source *source, struct err *err)
{
	if (source->owned_count == 0 || (!source->look && clock_mono_ms() < source->look_ms))
		return 0;
	source->look = false;
	source->look_ms = clock_mono_ms() + RETRY_MS;
	if (read_marks(consumer, source, err) < 0)
		return -1;
	source->look_ms = clock_mono_ms() + LOOK_MS;
	return 0;
}

static void fetch_ahead(struct sqlq_consumer *consumer)
{
	struct owned *owned = NULL;
	struct err err = ERR_INIT;
	int rc = 0;

	if (consumer->owned_count == 0)
		return;
	for (size_t i = 0; i < consumer->source_count && rc == 0; i++)
		rc = look(consumer, &consumer->sources[i], &err);
	if (rc == 0)
		owned = find_backlog(consumer);
	if (owned != NULL && fetch(consumer, owned, &err) < 0) {
		owned->source->look_ms = clock_mono_ms() + RETRY_MS;
		rc = -1;
	}
	atomic_store(&consumer->readable, rc == 0);
	if (rc < 0)
		complain(consumer, "records not read", &err);
}

static void hand_out(struct sqlq_consumer *consumer, struct record *out)
{
	struct sqlq_fetched *fetched = consumer->ahead;

	consumer->ahead = fetched->next;
	*out = (struct record){ .topic = consumer->ahead_of->topic, .partition = fetched->partition, .offset = fetched->offset };
	out->timestamp_ms = fetched->timestamp_ms;
	out->key = fetched->key;
	out->value = fetched->value;
	sqlq_headers_get(fetched->headers, out);
	out->handle = fetched;
	out->release = sqlq_fetched_release;
	find_owned(consumer, consumer->ahead_of, fetched->partition)->position = fetched->offset + 1;
}

/* ---- offsets of the group */

static int open_offsets(struct sqlq_consumer *consumer, struct err *err)
{
	struct sqlq_file *file = &consumer->offsets;

	if (file->db != NULL)
		return 0;
	if (sqlq_offsets_open(consumer->queue, consumer->group, file, err) < 0)
		return -1;
	consumer->learn = sqlq_prepare(file, "SELECT next, begun FROM offset WHERE topic = ? AND partition = ?", err);
	consumer->save = sqlq_prepare(file, SQLQ_SAVE_OFFSET, err);
	if (consumer->learn != NULL && consumer->save != NULL)
		return 0;
	sqlq_file_close(file);
	return -1;
}

/* -1 in *out: the group has not been there. */
static int learn(struct sqlq_consumer *consumer, const struct source *source, int32_t partition, int64_t *out, int64_t *begun, struct err *err)
{
	int code;

	consumer->offsets.deadline_ms = clock_mono_ms() + READ_WAIT_MS;
	sqlite3_bind_text(consumer->learn, 1, source->topic, -1, SQLITE_STATIC);
	sqlite3_bind_int(consumer->learn, 2, partition);
	code = sqlite3_step(consumer->learn);
	*begun = 0;
	if (code == SQLITE_ROW) {
		*out = sqlite3_column_int64(consumer->learn, 0);
		*begun = sqlite3_column_int64(consumer->learn, 1);
	} else if (code == SQLITE_DONE)
		*out = -1;
	else
		sqlq_err(&consumer->offsets, err, "reading the group's offset");
	sqlite3_reset(consumer->learn);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : -1;
}

static bool is_dirty(const struct owned *owned)
{
	return owned->stored >= 0 && owned->stored != owned->committed;
}

static int save(struct sqlq_consumer *consumer, const struct owned *owned, int64_t next, int64_t begun, struct err *err)
{
	sqlite3_bind_text(consumer->save, 1, owned->source->topic, -1, SQLITE_STATIC);
	sqlite3_bind_int(consumer->save, 2, owned->partition);
	sqlite3_bind_int64(consumer->save, 3, next);
	sqlite3_bind_int64(consumer->save, 4, begun);
	return sqlq_step(&consumer->offsets, consumer->save, err);
}

/* The lock is asked for once more: what another has, its own offset alone moves. */
static int save_dirty(struct sqlq_consumer *consumer, struct err *err)
{
	for (size_t i = 0; i < consumer->owned_count; i++) {
		const struct owned *owned = &consumer->owned[i];

		if (is_dirty(owned) && sqlq_seat_own(&owned->source->seat, owned->partition) &&
			save(consumer, owned, owned->stored, 0, err) < 0)
			return -1;
	}
	return 0;
}

static struct owned *ours(const struct sqlq_consumer *consumer, const char *topic, int32_t partition, struct err *err)
{
	struct owned *owned = NULL;

	for (size_t i = 0; i < consumer->source_count && owned == NULL; i++) {
		if (strcmp(consumer->sources[i].topic, topic) == 0)
			owned = find_owned(consumer, &consumer->sources[i], partition);
	}
	if (owned == NULL && err != NULL)
		err_set(err, ERR_CONFLICT, "partition %d of %s is not ours", (int)partition, topic);
	return owned;
}

static int save_beginnings(struct sqlq_consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		struct owned *owned = ours(consumer, beginnings[i].topic, beginnings[i].partition, err);

		if (owned == NULL || save(consumer, owned, beginnings[i].offset, beginnings[i].tries, err) < 0)
			return -1;
	}
	return 0;
}

/* What is stored, and then these. */
static int commit_all(struct sqlq_consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err)
{
	int rc = save_dirty(consumer, err);

	return rc == 0 ? save_beginnings(consumer, beginnings, count, err) : rc;
}

static int commit_dirty(struct sqlq_consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err)
{
	struct sqlq_file *file = &consumer->offsets;

	file->deadline_ms = clock_mono_ms() + COMMIT_WAIT_MS;
	if (!sqlq_file_is_there(file))
		return err_set(err, ERR_UNAVAILABLE, "%s was removed while it was in use", file->path);
	if (sqlq_begin(file, err) < 0 || sqlq_end(file, commit_all(consumer, beginnings, count, err), err) < 0)
		return -1;
	for (size_t i = 0; i < consumer->owned_count; i++) {
		if (is_dirty(&consumer->owned[i]))
			consumer->owned[i].committed = consumer->owned[i].stored;
	}
	return 0;
}

/* An offset that is not committed is tried again; at worst its records come again. */
static void commit(struct sqlq_consumer *consumer)
{
	struct err err = ERR_INIT;
	bool dirty = false;

	consumer->commit_ms = clock_mono_ms() + COMMIT_MS;
	for (size_t i = 0; i < consumer->owned_count; i++)
		dirty = dirty || is_dirty(&consumer->owned[i]);
	if (dirty && consumer->offsets.db != NULL && commit_dirty(consumer, NULL, 0, &err) < 0)
		complain(consumer, "offsets not committed", &err);
}

/* ---- partitions */

static struct owned *add_owned(struct sqlq_consumer *consumer, struct source *source, int32_t partition, int64_t position, int64_t committed)
{
	size_t count = consumer->owned_count;

	consumer->owned = mem_grow(consumer->owned, count + 1, sizeof(*consumer->owned));
	consumer->owned[count] = (struct owned){ .source = source, .partition = partition, .position = position, .high = position, .low = position,
		.stored = -1, .committed = committed };
	atomic_store(&consumer->owned_count, count + 1);
	source->owned_count++;
	source->look = true;
	return &consumer->owned[count];
}

static void remove_owned(struct sqlq_consumer *consumer, const struct source *source, int32_t partition)
{
	struct owned *owned = find_owned(consumer, source, partition);
	size_t last = consumer->owned_count - 1;

	drop_ahead_of(consumer, owned);
	owned->source->owned_count--;
	*owned = consumer->owned[last];
	atomic_store(&consumer->owned_count, last);
}

/* First offset of a partition that the group has not been to. */
static int first_offset(struct source *source, int32_t partition, int64_t *out, struct err *err)
{
	int code;

	source->file.deadline_ms = clock_mono_ms() + READ_WAIT_MS;
	while ((code = sqlite3_step(source->marks)) == SQLITE_ROW) {
		if (sqlite3_column_int(source->marks, 0) == partition)
			break;
	}
	if (code == SQLITE_ROW)
		*out = sqlite3_column_int64(source->marks, 1);
	else
		sqlq_err(&source->file, err, "reading where a partition begins");
	sqlite3_reset(source->marks);
	return code == SQLITE_ROW ? 0 : -1;
}

/* Takes a partition when it is free. Where the group is is read after that: whoever had it has committed before. */
static bool take(struct sqlq_consumer *consumer, struct source *source, int32_t partition)
{
	struct err err = ERR_INIT;
	int64_t committed, begun, position;

	if (find_owned(consumer, source, partition) != NULL || !sqlq_seat_own(&source->seat, partition))
		return false;
	if (learn(consumer, source, partition, &committed, &begun, &err) < 0)
		goto fail;
	position = committed;
	if (committed < 0 && first_offset(source, partition, &position, &err) < 0)
		goto fail;
	add_owned(consumer, source, partition, position, committed)->begun = begun;
	FAULT_POINT("consumer.assigned");
	return true;
fail:
	sqlq_seat_give(&source->seat, partition);
	complain(consumer, "partition not taken", &err);
	return false;
}

/* Tells, commits, lets go: in this order. Those that stay come unpaused, as if they had been given anew. */
static void give_up(struct sqlq_consumer *consumer, struct source *source, const struct topic_partition *gone, size_t count)
{
	if (count == 0)
		return;
	if (consumer->revoked != NULL)
		consumer->revoked(consumer->arg, gone, count, false);
	commit(consumer);
	FAULT_POINT("consumer.committed");
	for (size_t i = 0; i < count; i++) {
		remove_owned(consumer, source, gone[i].partition);
		sqlq_seat_give(&source->seat, gone[i].partition);
	}
	for (size_t i = 0; i < consumer->owned_count; i++)
		consumer->owned[i].paused = false;
	sqlq_door_knock(&source->door, SQLQ_MEMBERS);
	log_debug("partitions given up", log_str("topic", source->topic), log_int("count", (int64_t)count));
}

/* The share of the member with this rank, and where it would stand if all shares lay in a row. */
struct share {
	int32_t first, count;
};

static struct share fair_share(int32_t partitions, int32_t members, int32_t rank)
{
	int32_t each = partitions / members, more = partitions % members;

	return (struct share){ rank * each + (rank < more ? rank : more), each + (rank < more) };
}

static bool is_within(struct share share, int32_t partition)
{
	return partition >= share.first && partition < share.first + share.count;
}

/* First those that are not in our row: after a while each member has its own. */
static void give_up_surplus(struct sqlq_consumer *consumer, struct source *source, struct share share)
{
	size_t surplus = source->owned_count - (size_t)share.count, chosen = 0;
	struct topic_partition *gone = mem_array(surplus, sizeof(*gone));

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < consumer->owned_count && chosen < surplus; i++) {
			const struct owned *owned = &consumer->owned[i];

			if (owned->source == source && is_within(share, owned->partition) == (pass == 1))
				gone[chosen++] = (struct topic_partition){ source->topic, owned->partition };
		}
	}
	give_up(consumer, source, gone, surplus);
	free(gone);
}

static void take_share(struct sqlq_consumer *consumer, struct source *source, struct share share)
{
	for (int32_t i = 0; i < source->partitions && source->owned_count < (size_t)share.count; i++)
		take(consumer, source, (share.first + i) % source->partitions);
}

static bool all_joined(const struct sqlq_consumer *consumer)
{
	for (size_t i = 0; i < consumer->source_count; i++) {
		if (consumer->sources[i].seat.fd < 0)
			return false;
	}
	return true;
}

static void balance(struct sqlq_consumer *consumer, struct source *source)
{
	struct share share;
	int32_t members, rank;

	sqlq_seat_count(&source->seat, &members, &rank);
	share = fair_share(source->partitions, members, rank);
	if (source->owned_count > (size_t)share.count)
		give_up_surplus(consumer, source, share);
	else if (source->owned_count < (size_t)share.count)
		take_share(consumer, source, share);
	source->balance = false;
	source->balance_ms = clock_mono_ms() + (source->owned_count < (size_t)share.count ? HURRY_MS : BALANCE_MS);
	atomic_store(&consumer->joined, all_joined(consumer));
}

/* All partitions of the topic. */
static struct topic_partition *list_owned(const struct sqlq_consumer *consumer, const struct source *source, size_t *count)
{
	struct topic_partition *list = mem_array(source->owned_count + 1, sizeof(*list));

	*count = 0;
	for (size_t i = 0; i < consumer->owned_count; i++) {
		if (consumer->owned[i].source == source)
			list[(*count)++] = (struct topic_partition){ source->topic, consumer->owned[i].partition };
	}
	return list;
}

/* Somebody removed the folder: what is in our hands is nothing any more, and another may have made a new one. */
static void lose(struct sqlq_consumer *consumer, struct source *source)
{
	size_t count;
	struct topic_partition *gone = list_owned(consumer, source, &count);

	log_error("topic was removed while it was in use", log_str("topic", source->topic), log_str("group", consumer->group));
	if (consumer->revoked != NULL && count > 0)
		consumer->revoked(consumer->arg, gone, count, true);
	if (consumer->group == NULL)
		err_set(&consumer->lost, ERR_CONFLICT, "topic %s was removed while it was read", source->topic);
	for (size_t i = 0; i < count; i++)
		remove_owned(consumer, source, gone[i].partition);
	free(gone);
	atomic_store(&consumer->joined, false);
	sqlq_seat_leave(&source->seat);
	sqlq_file_close(&source->file);
	sqlq_file_close(&consumer->offsets);
}

/* ---- joining */

static int open_topic(const struct sqlq_consumer *consumer, struct source *source, struct err *err)
{
	char path[SQLQ_PATH_MAX];

	if (source->file.db != NULL)
		return 0;
	if (sqlq_log_partitions(consumer->queue, source->topic, &source->partitions, err) < 0)
		return -1;
	if (source->partitions == 0)
		return err_set(err, ERR_INVALID, "no topic %s%s: `feedctl topics` makes it", consumer->queue->prefix, source->topic);
	sqlq_path(consumer->queue, source->topic, ".topic", path);
	if (sqlq_file_open(&source->file, path, SQLQ_READ, err) < 0)
		return -1;
	source->marks = sqlq_prepare(&source->file, "SELECT id, low, high FROM partition ORDER BY id", err);
	source->fetch = sqlq_prepare(&source->file,
		"SELECT id, timestamp_ms, key, value, headers FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", err);
	if (source->marks != NULL && source->fetch != NULL)
		return 0;
	sqlq_file_close(&source->file);
	return -1;
}

static int join(struct sqlq_consumer *consumer, struct source *source, struct err *err)
{
	if (open_topic(consumer, source, err) < 0 || open_offsets(consumer, err) < 0)
		return -1;
	if (sqlq_seat_take(consumer->queue, consumer->group, source->topic, &source->seat, err) < 0)
		return -1;
	sqlq_door_knock(&source->door, SQLQ_MEMBERS);
	source->balance = true;
	return 0;
}

static void try_to_join(struct sqlq_consumer *consumer, struct source *source, int64_t now_ms)
{
	struct err err = ERR_INIT;

	if (now_ms < source->join_ms || join(consumer, source, &err) == 0)
		return;
	source->join_ms = now_ms + JOIN_MS;
	complain(consumer, "group not joined", &err);
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
			lose(consumer, source);
	}
	if (consumer->group == NULL)
		return;
	if (source->seat.fd < 0)
		try_to_join(consumer, source, now_ms);
	if (source->seat.fd >= 0 && consumer->offsets.db == NULL) { /* lost with another topic */
		struct err err = ERR_INIT;

		if (open_offsets(consumer, &err) < 0)
			complain(consumer, "offsets not opened", &err);
	}
	if (source->seat.fd >= 0 && consumer->offsets.db != NULL && (source->balance || now_ms >= source->balance_ms))
		balance(consumer, source);
}

static void do_chores(struct sqlq_consumer *consumer, int64_t now_ms)
{
	for (size_t i = 0; i < consumer->source_count; i++)
		care(consumer, &consumer->sources[i], now_ms);
	if (consumer->group != NULL && now_ms >= consumer->commit_ms)
		commit(consumer);
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
		if (is_dirty(&consumer->owned[i]))
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
			fetch_ahead(consumer);
		if (consumer->ahead != NULL) {
			hand_out(consumer, out);
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
	struct owned *owned = ours((struct sqlq_consumer *)base, topic, partition, err);

	if (owned == NULL)
		return -1;
	owned->stored = offset;
	return 0;
}

int sqlq_consumer_seek(struct consumer *base, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;
	struct owned *owned = ours(consumer, topic, partition, err);

	if (owned == NULL)
		return -1;
	drop_ahead_of(consumer, owned);
	owned->position = offset;
	owned->source->look = true;
	return 0;
}

bool sqlq_consumer_owns(const struct consumer *base, const char *topic, int32_t partition)
{
	return ours((const struct sqlq_consumer *)base, topic, partition, NULL) != NULL;
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
		drop_ahead(consumer);
	for (size_t i = 0; i < consumer->owned_count; i++)
		consumer->owned[i].paused = paused;
	return 0;
}

/* Where it goes on is where it stands: a seek moves it meanwhile as ever. */
int sqlq_consumer_hold(struct consumer *base, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	struct owned *owned = ours((struct sqlq_consumer *)base, topic, partition, err);

	if (owned == NULL)
		return -1;
	owned->held = true;
	return sqlq_consumer_seek(base, topic, partition, offset, err);
}

int sqlq_consumer_release(struct consumer *base, const char *topic, int32_t partition, struct err *err)
{
	struct owned *owned = ours((struct sqlq_consumer *)base, topic, partition, err);

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
	return commit_dirty(consumer, beginnings, count, err);
}

int64_t sqlq_consumer_begun(const struct consumer *base, const char *topic, int32_t partition)
{
	const struct owned *owned = ours((const struct sqlq_consumer *)base, topic, partition, NULL);

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

	source->file.deadline_ms = clock_mono_ms() + READ_WAIT_MS;
	while ((code = sqlite3_step(source->marks)) == SQLITE_ROW) {
		int32_t number = sqlite3_column_int(source->marks, 0);
		int64_t low = sqlite3_column_int64(source->marks, 1), high = sqlite3_column_int64(source->marks, 2);

		if (partition != QUEUE_EVERY && partition != number)
			continue;
		add_owned(consumer, source, number, offset == QUEUE_BEGINNING ? low : offset == QUEUE_END ? high : offset, -1);
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

int sqlq_consumer_assign(struct consumer *base, const char *topic, int32_t partition, int64_t offset, int64_t timeout_ms, struct err *err)
{
	struct sqlq_consumer *consumer = (struct sqlq_consumer *)base;
	struct source *source = &consumer->sources[0];

	(void)timeout_ms;
	drop_ahead(consumer);
	err_clear(&consumer->lost);
	atomic_store(&consumer->owned_count, 0);
	source->owned_count = 0;
	if (!sqlq_is_name(topic))
		return err_set(err, ERR_INVALID, "\"%s\" is no name for a topic", topic);
	set_topic(source, topic);
	if (open_topic(consumer, source, err) < 0)
		return -1;
	if (!source->door.is_open && sqlq_door_open(consumer->queue, topic, true, &source->door, err) < 0)
		return -1;
	if (start_at(consumer, partition, offset, err) < 0)
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
	consumer->commit_ms = clock_mono_ms() + COMMIT_MS;
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

static void leave(struct sqlq_consumer *consumer, struct source *source)
{
	size_t count;
	struct topic_partition *gone = list_owned(consumer, source, &count);

	give_up(consumer, source, gone, count);
	free(gone);
	sqlq_seat_leave(&source->seat);
	sqlq_door_knock(&source->door, SQLQ_MEMBERS);
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
			leave(consumer, &consumer->sources[i]);
	}
	drop_ahead(consumer);
	for (size_t i = 0; i < consumer->source_count; i++)
		source_release(&consumer->sources[i]);
	sqlq_file_close(&consumer->offsets);
	free(consumer->sources);
	free(consumer->owned);
	free(consumer->group);
	free(consumer);
}
