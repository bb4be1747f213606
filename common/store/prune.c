/* A moment goes in; rows of before it are deleted from the tables command, idempotency and fanout_chunk, or counted. */
#include "common/store/prune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/queue/backlog.h"
#include "common/queue/topics.h"
#include "common/store/idempotency.h"
#include "common/store/rows.h"

#define PARTITIONS_MAX 4096
#define CONFLICTS_MAX 20 /* in a row */
#define CONFLICT_MS 100
#define NOBODY "feedctl" /* a group that has never been there is at the beginning */

static int take_number(void *arg, const struct store_value *columns, size_t count)
{
	int64_t *number = arg;

	(void)count;
	*number = columns[0].number;
	return 0;
}

/* ---- commands: by the time when they were applied, which is behind that of their record */

static int count_commands(struct store *store, int64_t before_ms, int64_t *rows, struct err *err)
{
	char time[ROWS_TIME];
	const struct store_value values[] = { store_text(rows_time(before_ms, time)) };

	return store_query(store, "SELECT COUNT(*) FROM command WHERE applied_at < ?", values, 1, take_number, rows, err);
}

/* Two statements, because MySQL deletes from no table that it reads, and SQLite knows no DELETE … LIMIT. Rows of the last moment go
 * together. */
static int take_time(void *arg, const struct store_value *columns, size_t count)
{
	struct slice *last = arg;

	(void)count;
	if (columns[0].type == STORE_TEXT && columns[0].text.len < ROWS_TIME) {
		memcpy((char *)last->data, columns[0].text.data, columns[0].text.len);
		last->len = columns[0].text.len;
	}
	return 0;
}

static int some_commands(struct store *store, int64_t before_ms, size_t limit, int64_t *deleted, struct err *err)
{
	char time[ROWS_TIME], found[ROWS_TIME];
	struct slice last = { found, 0 };
	const struct store_value values[] = { store_text(rows_time(before_ms, time)), store_int((int64_t)limit) };
	struct store_value past;

	*deleted = 0;
	if (store_query(store,
		    "SELECT MAX(applied_at) FROM (SELECT applied_at FROM command WHERE applied_at < ? ORDER BY applied_at LIMIT ?) AS oldest",
		    values, 2, take_time, &last, err) < 0)
		return -1;
	if (last.len == 0)
		return 0;
	past = store_text(last);
	return store_run(store, "DELETE FROM command WHERE applied_at <= ?", &past, 1, deleted, err);
}

/* ---- requests: with a time of their own, by the database's clock */

static int count_requests(struct store *store, int64_t before_ms, int64_t *rows, struct err *err)
{
	char sql[128];

	(void)before_ms;
	snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM idempotency WHERE expires <= %s", store_now_ms(store));
	return store_query(store, sql, NULL, 0, take_number, rows, err);
}

static int some_requests(struct store *store, int64_t before_ms, size_t limit, int64_t *deleted, struct err *err)
{
	(void)before_ms;
	return idempotency_prune(store, limit, deleted, err);
}

/* ---- chunks that are done: by the time that the post's id carries. What is left says that the post has so many chunks
 * (outbound.chunks), and which of them are not done. */

static int count_chunks(struct store *store, int64_t before_ms, int64_t *rows, struct err *err)
{
	const struct store_value before = store_int(id_first_of(before_ms));

	return store_query(store, "SELECT COUNT(*) FROM fanout_chunk WHERE post_id < ? AND done = 1", &before, 1, take_number, rows, err);
}

static int take_last(void *arg, const struct store_value *columns, size_t count)
{
	struct store_value *last = arg;

	(void)count;
	last[0] = last[1] = store_int(columns[0].number);
	last[2] = store_int(columns[1].number);
	return 0;
}

static int some_chunks(struct store *store, int64_t before_ms, size_t limit, int64_t *deleted, struct err *err)
{
	const struct store_value values[] = { store_int(id_first_of(before_ms)), store_int((int64_t)limit) };
	struct store_value last[3] = { { STORE_NULL, 0, SLICE_NONE } };

	*deleted = 0;
	if (store_query(store, "SELECT post_id, n FROM fanout_chunk WHERE post_id < ? AND done = 1 ORDER BY post_id, n LIMIT ?", values, 2,
		    take_last, last, err) < 0)
		return -1;
	if (last[0].type == STORE_NULL)
		return 0;
	return store_run(store, "DELETE FROM fanout_chunk WHERE done = 1 AND (post_id < ? OR (post_id = ? AND n <= ?))", last, 3, deleted, err);
}

/* ---- THE TABLE */

const struct prune_kind prune_table[] = {
	{ "commands", TOPIC_COMMANDS, "outcomes of commands", count_commands, some_commands },
	{ "requests", NULL, "answers to requests with an Idempotency-Key", count_requests, some_requests },
	{ "chunks", TOPIC_CHUNKS, "chunks of long friend lists that are done", count_chunks, some_chunks },
};
const size_t prune_count = sizeof(prune_table) / sizeof(prune_table[0]);

/* ---- when, and how much */

static int oldest_record(struct queue *queue, const char *topic, int64_t timeout_ms, int64_t *oldest_ms, struct err *err)
{
	struct partition_backlog *partitions = mem_array(PARTITIONS_MAX, sizeof(*partitions));
	size_t count = 0;
	int rc = backlog_ask(queue, NOBODY, topic, partitions, PARTITIONS_MAX, &count, timeout_ms, err);

	*oldest_ms = INT64_MAX;
	for (size_t i = 0; i < count && rc == 0; i++) {
		if (partitions[i].lag.low == partitions[i].lag.high)
			continue;
		if (partitions[i].oldest_ms <= 0)
			rc = err_set(err, ERR_UNAVAILABLE, "partition %zu of %s does not tell how old its first record is", i, topic);
		else if (partitions[i].oldest_ms < *oldest_ms)
			*oldest_ms = partitions[i].oldest_ms;
	}
	free(partitions);
	return rc;
}

int prune_before(const struct prune_kind *kind, struct queue *queue, int64_t timeout_ms, int64_t *before_ms, struct err *err)
{
	const int64_t now_ms = clock_wall_ms();
	struct topic_state topic;
	int64_t oldest_ms, before = now_ms;

	if (kind->topic == NULL) {
		*before_ms = now_ms;
		return 0;
	}
	if (queue_topic_state(queue, kind->topic, &topic, timeout_ms, err) < 0 ||
		oldest_record(queue, kind->topic, timeout_ms, &oldest_ms, err) < 0)
		return -1;
	if (topic.retention_ms > 0)
		before -= topic.retention_ms;
	if (oldest_ms < before)
		before = oldest_ms;
	*before_ms = topic.retention_ms < 0 && oldest_ms == INT64_MAX ? 0 : before - PRUNE_MARGIN_MS;
	return 0;
}

/* Another that prunes the same rows is waited for, a moment at a time. */
static bool may_try_again(struct store *store, unsigned *conflicts, struct err *err)
{
	store_rollback(store);
	if (err->kind != ERR_CONFLICT || ++*conflicts > CONFLICTS_MAX)
		return false;
	err_clear(err);
	nanosleep(&(struct timespec){ .tv_nsec = (long)(1 + rand_below(CONFLICT_MS)) * 1000000L }, NULL);
	return true;
}

/* A statement is a transaction where none is open. */
int prune_all(const struct prune_kind *kind, struct store *store, int64_t before_ms, prune_over_fn *is_over, void *arg, struct err *err)
{
	int64_t sum = 0, deleted;
	unsigned conflicts = 0;

	do {
		if (kind->some(store, before_ms, PRUNE_ROWS, &deleted, err) == 0) {
			sum += deleted;
			conflicts = 0;
		} else if (!may_try_again(store, &conflicts, err)) {
			return -1;
		} else {
			deleted = 1; /* there may be more */
		}
	} while (!is_over(arg, kind, sum) && deleted > 0);
	return 0;
}
