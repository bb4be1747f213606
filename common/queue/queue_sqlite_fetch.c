/* Where partitions go on goes in, their next records come out, some fetched ahead. */
#include "common/queue/queue_sqlite_consumer.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

enum {
	FETCH_RECORDS = 1000,
	FETCH_BYTES = 256 << 10, /* what is fetched ahead, but for one record */
	LOOK_MS = 1000,          /* for new records, when no datagram came */
	RETRY_MS = 100,          /* after an error while reading */
};

/* ---- what was fetched ahead */

void sqlq_ahead_drop(struct sqlq_consumer *consumer)
{
	while (consumer->ahead != NULL) {
		struct sqlq_fetched *fetched = consumer->ahead;

		consumer->ahead = fetched->next;
		free(fetched);
	}
}

void sqlq_ahead_drop_of(struct sqlq_consumer *consumer, const struct owned *owned)
{
	if (consumer->ahead != NULL && consumer->ahead_of == owned->source && consumer->ahead->partition == owned->partition)
		sqlq_ahead_drop(consumer);
}

/* ---- fetching */

/* In a group the partition stays ours and silent, and the others go on; without one there is somebody to be told. */
static void stop_partition(struct sqlq_consumer *consumer, struct owned *owned, const char *why)
{
	owned->stopped = true;
	sqlq_ahead_drop_of(consumer, owned);
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

	source->file.deadline_ms = clock_mono_ms() + SQLQ_READ_WAIT_MS;
	while ((code = sqlite3_step(source->marks)) == SQLITE_ROW) {
		struct owned *owned = sqlq_owned_find(consumer, source, sqlite3_column_int(source->marks, 0));

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

static struct sqlq_fetched *copy_row(sqlite3_stmt *stmt, int32_t partition)
{
	struct slice key = column(stmt, 2), value = column(stmt, 3), headers = column(stmt, 4);
	size_t size = key.len + value.len + headers.len;
	struct sqlq_fetched *fetched = mem_alloc(sizeof(*fetched) + size);
	char *at = fetched->bytes;

	*fetched = (struct sqlq_fetched){ .partition = partition, .size = size };
	fetched->offset = SQLQ_OFFSET(sqlite3_column_int64(stmt, 0));
	fetched->timestamp_ms = sqlite3_column_int64(stmt, 1);
	fetched->key = slice_put(&at, key);
	fetched->value = slice_put(&at, value);
	fetched->headers = slice_put(&at, headers);
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
	source->file.deadline_ms = clock_mono_ms() + SQLQ_READ_WAIT_MS;
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
		sqlq_ahead_drop(consumer);
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

void sqlq_ahead_fetch(struct sqlq_consumer *consumer)
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
		sqlq_complain(consumer, "records not read", &err);
}

void sqlq_ahead_hand_out(struct sqlq_consumer *consumer, struct record *out)
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
	sqlq_owned_find(consumer, consumer->ahead_of, fetched->partition)->position = fetched->offset + 1;
}

/* ---- the topic */

int sqlq_source_open(const struct sqlq_consumer *consumer, struct source *source, struct err *err)
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
