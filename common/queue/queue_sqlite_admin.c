/* Names of topics and groups go in; topics that were made, their bounds and the offsets of groups come out. */
#include "common/queue/queue_sqlite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"

static int topic_path(const struct sqlq *queue, const char *topic, char out[SQLQ_PATH_MAX], struct err *err)
{
	if (!sqlq_is_name(topic))
		return err_set(err, ERR_INVALID, "\"%s\" is no name for a topic", topic);
	sqlq_path(queue, topic, ".topic", out);
	return 0;
}

/* ---- state */

/* Of a topic's file: a number from its only row, or 0 while it has none. */
static int64_t ask_number(struct sqlq_file *file, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	int64_t number = 0;

	if (sqlite3_prepare_v2(file->db, sql, -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
		number = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return number;
}

static int check_version(struct sqlq_file *file, int expected, struct err *err)
{
	int64_t version = ask_number(file, "PRAGMA user_version");

	if (version == expected)
		return 0;
	return err_set(err, ERR_FATAL, "%s has version %lld, this program knows %d", file->path, (long long)version, expected);
}

/* A file that is being made, or whose maker died, has no row yet. */
static int read_state(const struct sqlq *queue, const char *topic, struct topic_state *out, struct err *err)
{
	struct sqlq_file file = { 0 };
	char path[SQLQ_PATH_MAX];
	int rc = 0;

	*out = (struct topic_state){ 0 };
	if (topic_path(queue, topic, path, err) < 0)
		return -1;
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	if (sqlq_file_open(&file, path, SQLQ_READ, err) < 0)
		return -1;
	out->partitions = (int32_t)ask_number(&file, "SELECT partitions FROM topic");
	out->retention_ms = ask_number(&file, "SELECT retention_ms FROM topic");
	out->replication = 1;
	if (out->partitions > 0)
		rc = check_version(&file, SQLQ_SCHEMA_TOPIC, err);
	sqlq_file_close(&file);
	return rc;
}

int sqlq_topic_state(struct queue *base, const char *topic, struct topic_state *out, int64_t timeout_ms, struct err *err)
{
	struct topic_state state;

	(void)timeout_ms; /* nobody is far away */
	if (read_state((const struct sqlq *)base, topic, &state, err) < 0)
		return -1;
	*out = state;
	return 0;
}

int sqlq_log_partitions(const struct sqlq *queue, const char *topic, int32_t *out, struct err *err)
{
	struct topic_state state;

	if (read_state(queue, topic, &state, err) < 0)
		return -1;
	*out = state.partitions;
	return 0;
}

/* ---- making */

/* A record's id is its partition and offset together: see SQLQ_ID. */
static const char tables[] = "PRAGMA user_version = 1;"
			     "CREATE TABLE IF NOT EXISTS record (id INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL,"
			     " key BLOB, value BLOB, headers BLOB);"
			     "CREATE TABLE IF NOT EXISTS partition (id INTEGER PRIMARY KEY, low INTEGER NOT NULL, high INTEGER NOT NULL);"
			     "CREATE TABLE IF NOT EXISTS topic (partitions INTEGER NOT NULL, retention_ms INTEGER NOT NULL);";

static int fill(struct sqlq_file *file, int32_t partitions, int64_t retention_ms, struct err *err)
{
	char sql[320];

	if (sqlq_exec(file, tables, err) < 0)
		return -1;
	if (ask_number(file, "SELECT partitions FROM topic") > 0)
		return 0; /* another was quicker */
	snprintf(sql, sizeof(sql),
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %d)"
		"INSERT INTO partition SELECT i, 0, 0 FROM n; INSERT INTO topic VALUES (%d, %lld)",
		(int)partitions, (int)partitions, (long long)retention_ms);
	return sqlq_exec(file, sql, err);
}

/* Two may make the same file at once: one waits, then finds it made. */
static int make(const char *path, int32_t partitions, int64_t retention_ms, int64_t timeout_ms, struct err *err)
{
	struct sqlq_file file = { 0 };
	int rc = -1;

	if (sqlq_file_open(&file, path, SQLQ_CREATE, err) < 0)
		return -1;
	file.deadline_ms = clock_mono_ms() + timeout_ms;
	if (sqlq_begin(&file, err) == 0)
		rc = sqlq_end(&file, fill(&file, partitions, retention_ms, err), err);
	sqlq_file_close(&file);
	return rc;
}

int sqlq_topic_create(struct queue *base, const struct topic *topic, int64_t timeout_ms, struct err *err)
{
	const struct sqlq *queue = (const struct sqlq *)base;
	struct sqlq_door door = { 0 };
	struct topic_state state;
	char path[SQLQ_PATH_MAX];

	if (read_state(queue, topic->name, &state, err) < 0)
		return -1;
	if (state.partitions > 0)
		return 0;
	if (topic_path(queue, topic->name, path, err) < 0 ||
		make(path, topic->partitions > 0 ? topic->partitions : (int32_t)queue->partitions, topic->retention_ms, timeout_ms, err) < 0)
		return -1;
	if (sqlq_door_open(queue, topic->name, false, &door, err) < 0)
		return -1;
	sqlq_door_knock(&door, SQLQ_MEMBERS); /* who waited for it */
	sqlq_door_close(&door);
	return 0;
}

/* ---- lag */

static int read_bounds(const struct sqlq *queue, const char *topic, struct partition_lag *out, size_t room, struct err *err)
{
	struct sqlq_file file = { 0 };
	char path[SQLQ_PATH_MAX];
	sqlite3_stmt *stmt;
	size_t found = 0;
	int code = SQLITE_ERROR;

	sqlq_path(queue, topic, ".topic", path);
	if (sqlq_file_open(&file, path, SQLQ_READ, err) < 0)
		return -1;
	stmt = sqlq_prepare(&file, "SELECT id, low, high FROM partition ORDER BY id", err);
	while (stmt != NULL && found < room && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		out[found].partition = sqlite3_column_int(stmt, 0);
		out[found].low = sqlite3_column_int64(stmt, 1);
		out[found++].high = sqlite3_column_int64(stmt, 2);
	}
	if (stmt != NULL && found < room)
		sqlq_err(&file, err, "reading the bounds of partitions");
	sqlq_file_close(&file);
	return found == room ? 0 : -1;
}

static int read_offsets(struct sqlq_file *file, const char *topic, struct partition_lag *out, size_t count, struct err *err)
{
	sqlite3_stmt *stmt = sqlq_prepare(file, "SELECT partition, next FROM offset WHERE topic = ?", err);
	int code;

	if (stmt == NULL)
		return -1;
	sqlite3_bind_text(stmt, 1, topic, -1, SQLITE_STATIC);
	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		int64_t partition = sqlite3_column_int64(stmt, 0);

		if (partition >= 0 && partition < (int64_t)count)
			out[partition].committed = sqlite3_column_int64(stmt, 1);
	}
	return code == SQLITE_DONE ? 0 : sqlq_err(file, err, "reading offsets");
}

static int ask_group(const struct sqlq *queue, const char *group, const char *topic, struct partition_lag *out, size_t count, struct err *err)
{
	struct sqlq_file file = { 0 };
	char path[SQLQ_PATH_MAX];
	int rc = 0;

	sqlq_path(queue, group, ".group", path);
	if (!sqlq_is_name(group) || (access(path, F_OK) < 0 && errno == ENOENT))
		return 0;
	if (sqlq_file_open(&file, path, SQLQ_READ, err) < 0)
		return -1;
	if (ask_number(&file, "SELECT count(*) FROM sqlite_schema WHERE name = 'offset'") > 0)
		rc = read_offsets(&file, topic, out, count, err);
	sqlq_file_close(&file);
	return rc;
}

/* The group's offsets are read before the bounds, so that a group is never seen ahead of its topic. */
int sqlq_lag(struct queue *base, const char *group, const char *topic, struct partition_lag *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err)
{
	const struct sqlq *queue = (const struct sqlq *)base;
	struct topic_state state;
	size_t partitions;

	(void)timeout_ms;
	if (read_state(queue, topic, &state, err) < 0)
		return -1;
	if (state.partitions == 0)
		return err_set(err, ERR_INVALID, "no topic %s%s: `feedctl topics` makes it", queue->prefix, topic);
	partitions = (size_t)state.partitions < room ? (size_t)state.partitions : room;
	for (size_t i = 0; i < partitions; i++)
		out[i].committed = -1;
	if (ask_group(queue, group, topic, out, partitions, err) < 0 || read_bounds(queue, topic, out, partitions, err) < 0)
		return -1;
	*count = partitions;
	return 0;
}

/* ---- times */

/* Times need not rise from one record to the next: the first in their order counts. */
static int find_time(struct sqlq_file *file, sqlite3_stmt *stmt, int64_t wall_ms, struct queue_place *place, struct err *err)
{
	int code;

	sqlite3_bind_int64(stmt, 1, SQLQ_ID(place->partition, 0));
	sqlite3_bind_int64(stmt, 2, SQLQ_ID(place->partition + 1, 0));
	sqlite3_bind_int64(stmt, 3, wall_ms);
	sqlite3_bind_int(stmt, 4, place->partition);
	code = sqlite3_step(stmt);
	if (code == SQLITE_ROW)
		place->offset = SQLQ_OFFSET(sqlite3_column_int64(stmt, 0));
	else if (code == SQLITE_DONE)
		err_set(err, ERR_INVALID, "%s: no partition %d", file->path, (int)place->partition);
	else
		sqlq_err(file, err, "looking for a time");
	sqlite3_reset(stmt);
	return code == SQLITE_ROW ? 0 : -1;
}

int sqlq_offsets_at(struct queue *base, const char *topic, int64_t wall_ms, struct queue_place *places, size_t count, int64_t timeout_ms,
	struct err *err)
{
	const struct sqlq *queue = (const struct sqlq *)base;
	struct sqlq_file file = { 0 };
	char path[SQLQ_PATH_MAX];
	sqlite3_stmt *stmt;
	int rc = -1;

	if (topic_path(queue, topic, path, err) < 0 || sqlq_file_open(&file, path, SQLQ_READ, err) < 0)
		return -1;
	file.deadline_ms = clock_mono_ms() + timeout_ms;
	stmt = sqlq_prepare(&file,
		"SELECT coalesce((SELECT id FROM record WHERE id >= ? AND id < ? AND timestamp_ms >= ? ORDER BY id LIMIT 1), high)"
		" FROM partition WHERE id = ?", err);
	if (stmt != NULL)
		rc = 0;
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = find_time(&file, stmt, wall_ms, &places[i], err);
	sqlq_file_close(&file);
	return rc;
}

/* ---- deleting records */

int sqlq_trim(struct queue *base, const char *topic, const struct queue_place *place, int64_t timeout_ms, struct err *err)
{
	struct sqlq_log log;
	int rc;

	if (!sqlq_is_name(topic))
		return err_set(err, ERR_INVALID, "\"%s\" is no name for a topic", topic);
	if (sqlq_log_open((const struct sqlq *)base, topic, false, timeout_ms, &log, err) < 0)
		return -1;
	rc = sqlq_log_cut(&log, place->partition, place->offset, timeout_ms, err);
	sqlq_log_close(&log);
	return rc;
}
