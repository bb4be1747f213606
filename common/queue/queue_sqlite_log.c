/* Records go in, in the order in which they were sent; they are at the end of their partitions on disk when they come out.
 *
 * Readers are never in the way: they read what was committed before (WAL). The WAL is put back into the file by whoever writes:
 * as far as readers allow when it has grown by a little, and by waiting for readers (theirs are short) when it has grown much. A
 * topic's old records are deleted a few at a time, so that no sender waits for that. */
#include "common/queue/queue_sqlite.h"

#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

enum {
	/* Frames of the WAL, of 4 KiB each. */
	CHECKPOINT_FRAMES = 2000, /* 8 MiB */
	CHECKPOINT_STEP = 1000,   /* and again each time it has grown by so many */
	RESTART_FRAMES = 5000,    /* 20 MiB: writers wait too, until all readers are past it */
	RESTART_WAIT_MS = 500,
	RESTART_EVERY_MS = 1000,  /* a reader that is stopped must not stop the writers as well */

	TRIM_RECORDS = 500,       /* deleted in one transaction */
	TRIM_AGAIN_MS = 20,       /* while there are more */
	TRIM_EVERY_MS = 10000,
	CARE_WAIT_MS = 100,       /* for the lock of another writer, when there is no hurry */
};

/* ---- appending */

static int begin_partition(struct sqlq_log *log, int32_t partition, int64_t *high, struct err *err)
{
	int rc = -1;

	sqlite3_bind_int(log->high, 1, partition);
	if (sqlite3_step(log->high) == SQLITE_ROW) {
		*high = sqlite3_column_int64(log->high, 0);
		rc = 0;
	} else if (sqlite3_errcode(log->file.db) == SQLITE_DONE) {
		err_set(err, ERR_INVALID, "%s: no partition %d", log->file.path, (int)partition);
	} else {
		sqlq_err(&log->file, err, "reading the end of a partition");
	}
	sqlite3_reset(log->high);
	return rc;
}

static int end_partition(struct sqlq_log *log, int32_t partition, int64_t high, struct err *err)
{
	sqlite3_bind_int64(log->advance, 1, high);
	sqlite3_bind_int(log->advance, 2, partition);
	return sqlq_step(&log->file, log->advance, err);
}

static void bind_slice(sqlite3_stmt *stmt, int at, struct slice bytes)
{
	if (bytes.data == NULL)
		sqlite3_bind_null(stmt, at);
	else
		sqlite3_bind_blob64(stmt, at, bytes.data, bytes.len, SQLITE_STATIC);
}

static int insert(struct sqlq_log *log, const struct sqlq_item *item, int64_t offset, struct err *err)
{
	sqlite3_bind_int64(log->insert, 1, SQLQ_ID(item->partition, offset));
	sqlite3_bind_int64(log->insert, 2, item->timestamp_ms);
	bind_slice(log->insert, 3, item->key);
	bind_slice(log->insert, 4, item->value);
	bind_slice(log->insert, 5, item->headers);
	return sqlq_step(&log->file, log->insert, err);
}

/* One partition's records after the other's, each in the order of sending: pages are written once. */
static int insert_partition(struct sqlq_log *log, const struct sqlq_item *first, const struct sqlq_item *past, int32_t partition,
	struct err *err)
{
	int64_t high;

	if (begin_partition(log, partition, &high, err) < 0)
		return -1;
	for (const struct sqlq_item *item = first; item != past; item = item->next) {
		if (item->partition == partition && insert(log, item, high++, err) < 0)
			return -1;
	}
	return end_partition(log, partition, high, err);
}

static int insert_all(struct sqlq_log *log, const struct sqlq_item *first, const struct sqlq_item *past, struct err *err)
{
	int32_t partition = -1;

	for (;;) {
		int32_t next = INT32_MAX;

		for (const struct sqlq_item *item = first; item != past; item = item->next) {
			if (item->partition > partition && item->partition < next)
				next = item->partition;
		}
		if (next == INT32_MAX)
			return 0;
		if (insert_partition(log, first, past, next, err) < 0)
			return -1;
		partition = next;
	}
}

/* A COMMIT that fails before its last frame is written has done nothing; after that nobody knows what a crash would bring back. */
static enum sent outcome_of_commit(const struct sqlq_log *log)
{
	int code = sqlite3_extended_errcode(log->file.db);

	return code == SQLITE_FULL || code == SQLITE_IOERR_WRITE || (code & 0xff) == SQLITE_BUSY ? SENT_NOT : SENT_UNKNOWN;
}

enum sent sqlq_log_append(struct sqlq_log *log, const struct sqlq_item *first, const struct sqlq_item *past, struct err *err)
{
	enum sent sent = SENT_NOT;

	log->file.deadline_ms = first->first_ms + log->patience_ms;
	if (!sqlq_file_is_there(&log->file)) {
		err_set(err, ERR_UNAVAILABLE, "%s was removed while it was in use; `feedctl topics` makes it anew", log->file.path);
		return SENT_NOT;
	}
	if (sqlq_begin(&log->file, err) < 0)
		return SENT_NOT;
	if (insert_all(log, first, past, err) < 0)
		goto out;
	if (sqlq_exec(&log->file, "COMMIT", err) < 0)
		sent = outcome_of_commit(log);
	else
		sent = SENT_STORED;
out:
	if (sent != SENT_STORED)
		sqlq_end(&log->file, -1, err);
	else
		sqlq_door_knock(&log->door, SQLQ_RECORDS);
	return sent;
}

int sqlq_log_probe(struct sqlq_log *log, struct err *err)
{
	log->file.deadline_ms = clock_mono_ms() + CARE_WAIT_MS;
	if (!sqlq_file_is_there(&log->file))
		return err_set(err, ERR_UNAVAILABLE, "%s was removed while it was in use; `feedctl topics` makes it anew", log->file.path);
	return sqlq_begin(&log->file, err) == 0 ? sqlq_end(&log->file, sqlq_step(&log->file, log->probe, err), err) : -1;
}

/* ---- retention */

/* Whether the partition's records before *past are too old, and are there more such? At most TRIM_RECORDS are looked at. */
static int find_old(struct sqlq_log *log, int32_t partition, int64_t low, int64_t high, int64_t *past, struct err *err)
{
	int64_t before_ms = clock_wall_ms() - log->retention_ms;
	int code;

	*past = low;
	sqlite3_bind_int64(log->oldest, 1, SQLQ_ID(partition, low));
	sqlite3_bind_int64(log->oldest, 2, SQLQ_ID(partition, high));
	sqlite3_bind_int(log->oldest, 3, TRIM_RECORDS);
	while ((code = sqlite3_step(log->oldest)) == SQLITE_ROW && sqlite3_column_int64(log->oldest, 1) < before_ms)
		*past = SQLQ_OFFSET(sqlite3_column_int64(log->oldest, 0)) + 1;
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		sqlq_err(&log->file, err, "looking for old records");
	sqlite3_reset(log->oldest);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : -1;
}

static int cut(struct sqlq_log *log, int32_t partition, int64_t low, int64_t past, struct err *err)
{
	sqlite3_bind_int64(log->cut, 1, SQLQ_ID(partition, low));
	sqlite3_bind_int64(log->cut, 2, SQLQ_ID(partition, past));
	sqlite3_bind_int64(log->raise, 1, past);
	sqlite3_bind_int(log->raise, 2, partition);
	return sqlq_step(&log->file, log->cut, err) == 0 ? sqlq_step(&log->file, log->raise, err) : -1;
}

/* The next partition with a number of at least *partition, and its bounds. 1, or 0: there is none. */
static int next_partition(struct sqlq_log *log, int32_t *partition, int64_t *low, int64_t *high, struct err *err)
{
	int code;

	sqlite3_bind_int(log->marks, 1, *partition);
	code = sqlite3_step(log->marks);
	if (code == SQLITE_ROW) {
		*partition = sqlite3_column_int(log->marks, 0);
		*low = sqlite3_column_int64(log->marks, 1);
		*high = sqlite3_column_int64(log->marks, 2);
	} else if (code != SQLITE_DONE) {
		sqlq_err(&log->file, err, "reading where partitions begin");
	}
	sqlite3_reset(log->marks);
	return code == SQLITE_ROW ? 1 : code == SQLITE_DONE ? 0 : -1;
}

/* Deletes from one partition after the other, at most TRIM_RECORDS together: within one transaction. 1: there may be more. */
static int trim_some(struct sqlq_log *log, struct err *err)
{
	int64_t low, high, past;
	int64_t deleted = 0;
	int rc;

	while ((rc = next_partition(log, &log->trim_partition, &low, &high, err)) > 0) {
		if (find_old(log, log->trim_partition, low, high, &past, err) < 0)
			return -1;
		if (past > low && cut(log, log->trim_partition, low, past, err) < 0)
			return -1;
		deleted += past - low;
		if (deleted >= TRIM_RECORDS)
			return 1; /* this partition may have more */
		log->trim_partition++;
	}
	log->trim_partition = 0;
	return rc;
}

static void trim(struct sqlq_log *log)
{
	struct err err = ERR_INIT;
	int more;

	log->file.deadline_ms = clock_mono_ms() + CARE_WAIT_MS;
	if (sqlq_begin(&log->file, &err) < 0) {
		more = 0;
	} else {
		more = trim_some(log, &err);
		if (sqlq_end(&log->file, more < 0 ? -1 : 0, &err) < 0)
			more = 0;
	}
	if (err.kind != ERR_NONE)
		log_debug("old records not deleted", log_str("topic", log->topic), log_err(&err));
	log->trim_ms = clock_mono_ms() + (more > 0 ? TRIM_AGAIN_MS : TRIM_EVERY_MS);
}

/* ---- the WAL */

static int on_commit(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct sqlq_log *log = arg;

	(void)db, (void)name;
	if (frames < log->frames)
		log->checkpoint_at = CHECKPOINT_FRAMES; /* it has begun anew */
	log->frames = frames;
	return SQLITE_OK;
}

static int checkpoint(struct sqlq_log *log, int mode)
{
	return sqlite3_wal_checkpoint_v2(log->file.db, NULL, mode, NULL, NULL);
}

/* All that write do this when the WAL is long, before they write more: what each may add meanwhile is one transaction. Another's
 * checkpoint is waited for here, since SQLite waits for writers and readers alone. */
static void restart(struct sqlq_log *log, int64_t now_ms)
{
	int code;

	log->file.deadline_ms = now_ms + RESTART_WAIT_MS;
	while ((code = checkpoint(log, SQLITE_CHECKPOINT_RESTART)) == SQLITE_BUSY && clock_mono_ms() < log->file.deadline_ms)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	if (code == SQLITE_OK)
		return;
	log->restart_ms = clock_mono_ms() + RESTART_EVERY_MS;
	log_debug("log not written back", log_str("topic", log->topic), log_int("frames", log->frames),
		log_str("error", sqlite3_errmsg(log->file.db)));
}

static void shorten(struct sqlq_log *log, int64_t now_ms)
{
	if (log->frames >= RESTART_FRAMES && now_ms >= log->restart_ms) {
		restart(log, now_ms);
	} else if (log->frames >= log->checkpoint_at) {
		log->checkpoint_at = log->frames + CHECKPOINT_STEP;
		checkpoint(log, SQLITE_CHECKPOINT_PASSIVE); /* what it can't do the next one does */
	}
}

int64_t sqlq_log_care(struct sqlq_log *log)
{
	int64_t now_ms = clock_mono_ms();

	if (now_ms >= log->trim_ms)
		trim(log);
	shorten(log, now_ms);
	return log->trim_ms;
}

/* ---- deleting what somebody names */

/* A step of it, in a transaction. */
static int cut_some(struct sqlq_log *log, int32_t wanted, int64_t past, bool *more, struct err *err)
{
	int32_t partition = wanted;
	int64_t low, high;
	int found = next_partition(log, &partition, &low, &high, err);

	if (found < 0)
		return -1;
	if (found == 0 || partition != wanted || past > high)
		return err_set(err, ERR_INVALID, "partition %d of %s has not come to offset %lld", (int)wanted, log->topic, (long long)past);
	*more = past - low > TRIM_RECORDS;
	if (*more)
		past = low + TRIM_RECORDS;
	return past > low ? cut(log, wanted, low, past, err) : 0;
}

int sqlq_log_cut(struct sqlq_log *log, int32_t partition, int64_t past, int64_t timeout_ms, struct err *err)
{
	bool more = true;

	while (more) {
		log->file.deadline_ms = clock_mono_ms() + timeout_ms;
		if (sqlq_begin(&log->file, err) < 0 || sqlq_end(&log->file, cut_some(log, partition, past, &more, err), err) < 0)
			return -1;
		shorten(log, clock_mono_ms());
	}
	return 0;
}

/* ---- life */

static int32_t read_state(struct sqlq_file *file, int64_t *retention_ms, struct err *err)
{
	sqlite3_stmt *stmt = sqlq_prepare(file, "SELECT partitions, retention_ms FROM topic", err);
	int32_t partitions = -1;

	if (stmt == NULL)
		return -1;
	if (sqlite3_step(stmt) == SQLITE_ROW) {
		partitions = sqlite3_column_int(stmt, 0);
		*retention_ms = sqlite3_column_int64(stmt, 1);
	} else {
		sqlq_err(file, err, "reading the topic");
	}
	sqlite3_finalize(stmt);
	return partitions;
}

static bool prepare_all(struct sqlq_log *log, struct err *err)
{
	const struct {
		sqlite3_stmt **stmt;
		const char *sql;
	} statements[] = {
		{ &log->high, "SELECT high FROM partition WHERE id = ?" },
		{ &log->insert, "INSERT INTO record (id, timestamp_ms, key, value, headers) VALUES (?, ?, ?, ?, ?)" },
		{ &log->advance, "UPDATE partition SET high = ? WHERE id = ?" },
		{ &log->marks, "SELECT id, low, high FROM partition WHERE id >= ? ORDER BY id LIMIT 1" },
		{ &log->oldest, "SELECT id, timestamp_ms FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?" },
		{ &log->cut, "DELETE FROM record WHERE id >= ? AND id < ?" },
		{ &log->raise, "UPDATE partition SET low = ? WHERE id = ?" },
		{ &log->probe, "UPDATE partition SET high = high WHERE id = 0" },
	};

	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
		*statements[i].stmt = sqlq_prepare(&log->file, statements[i].sql, err);
		if (*statements[i].stmt == NULL)
			return false;
	}
	return true;
}

/* Lines that may be lost need not wait for the disk. */
int sqlq_log_open(const struct sqlq *queue, const char *topic, bool is_lossy, int64_t patience_ms, struct sqlq_log *out, struct err *err)
{
	char path[SQLQ_PATH_MAX];

	*out = (struct sqlq_log){ .queue = queue, .topic = topic, .patience_ms = patience_ms, .checkpoint_at = CHECKPOINT_FRAMES };
	sqlq_path(queue, topic, ".topic", path);
	if (sqlq_file_open(&out->file, path, SQLQ_WRITE, err) < 0)
		return -1;
	if ((is_lossy && sqlq_exec(&out->file, "PRAGMA synchronous = OFF", err) < 0) ||
		read_state(&out->file, &out->retention_ms, err) < 0 || !prepare_all(out, err) ||
		sqlq_door_open(queue, topic, false, &out->door, err) < 0) {
		sqlq_log_close(out);
		return -1;
	}
	sqlite3_wal_hook(out->file.db, on_commit, out); /* in place of SQLite's own checkpoints */
	return 0;
}

void sqlq_log_close(struct sqlq_log *log)
{
	sqlq_door_close(&log->door);
	sqlq_file_close(&log->file);
}
