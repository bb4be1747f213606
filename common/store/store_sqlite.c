/* Statements go in as text with values, rows come out by callback: the store in a SQLite file, for one machine.
 *
 * A transaction is the only writer from its begin on, so nothing it reads can change before it commits, and no two of them
 * meet. Readers outside of one see the last commit. */
#include "common/store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/store/store_ops.h"
#include "common/store/store_sqlite_db.h"

#define FILE_NAME "store.db"

struct sqlite_store {
	struct store base;
	struct sqlite_db db;
	struct buf text; /* of a built INSERT; kept for the next */
	struct store_value *row; /* of a result */
	size_t row_room;
};

static struct sqlite_store *of(struct store *store)
{
	return (struct sqlite_store *)store;
}

/* ---- values */

static int bind_bytes(struct sqlite_db *db, sqlite3_stmt *handle, int at, struct slice bytes, struct err *err)
{
	int code = sqlite3_bind_blob64(handle, at, bytes.data ? bytes.data : "", bytes.len, SQLITE_STATIC);

	return code == SQLITE_OK ? 0 : sqlite_db_fail(db, code, err);
}

static int bind_value(struct sqlite_db *db, sqlite3_stmt *handle, int at, const struct store_value *value, struct err *err)
{
	int code;

	if (value->type == STORE_TEXT)
		return sqlite_db_bind_text(db, handle, at, value->text, err);
	if (value->type == STORE_BYTES)
		return bind_bytes(db, handle, at, value->text, err);
	code = value->type == STORE_INT ? sqlite3_bind_int64(handle, at, value->number) : sqlite3_bind_null(handle, at);
	return code == SQLITE_OK ? 0 : sqlite_db_fail(db, code, err);
}

static int bind_all(struct sqlite_db *db, sqlite3_stmt *handle, const struct store_value *values, size_t count, struct err *err)
{
	if ((size_t)sqlite3_bind_parameter_count(handle) != count)
		return sqlite_db_refuse(db, ERR_FATAL, "a statement and its values do not fit", err);
	for (size_t i = 0; i < count; i++)
		if (bind_value(db, handle, (int)i + 1, &values[i], err) < 0)
			return -1;
	return 0;
}

static struct store_value column_value(sqlite3_stmt *handle, int i)
{
	const int type = sqlite3_column_type(handle, i);
	const void *data;

	if (type == SQLITE_NULL)
		return (struct store_value){ .type = STORE_NULL };
	if (type == SQLITE_INTEGER)
		return store_int(sqlite3_column_int64(handle, i));
	data = type == SQLITE_BLOB ? sqlite3_column_blob(handle, i) : sqlite3_column_text(handle, i);
	return store_text((struct slice){ data ? data : "", (size_t)sqlite3_column_bytes(handle, i) });
}

static const struct store_value *read_row(struct sqlite_store *s, sqlite3_stmt *handle, size_t count)
{
	if (count > s->row_room) {
		s->row = mem_grow(s->row, count, sizeof(*s->row));
		s->row_room = count;
	}
	for (size_t i = 0; i < count; i++)
		s->row[i] = column_value(handle, (int)i);
	return s->row;
}

/* ---- statements */

/* Runs to the end, or until the callback says stop; *stopped is what it said. */
static int step_all(struct sqlite_store *s, sqlite3_stmt *handle, store_row_fn *row, void *arg, int *stopped, struct err *err)
{
	int code;

	while ((code = sqlite3_step(handle)) == SQLITE_ROW) {
		const size_t count = (size_t)sqlite3_column_count(handle);

		if (!row)
			continue;
		s->db.is_busy = true;
		*stopped = row(arg, read_row(s, handle, count), count);
		s->db.is_busy = false;
		if (*stopped)
			return 0;
	}
	return code == SQLITE_DONE ? 0 : sqlite_db_fail(&s->db, code, err);
}

static int execute(struct sqlite_store *s, const char *sql, const struct store_value *values, size_t count, store_row_fn *row,
	void *arg, struct err *err)
{
	sqlite3_stmt *handle;
	int stopped = 0, rc;

	if (sqlite_db_enter(&s->db, err) < 0 || sqlite_db_prepare(&s->db, sql, strlen(sql), &handle, err) < 0)
		return -1;
	rc = bind_all(&s->db, handle, values, count, err);
	if (rc == 0)
		rc = step_all(s, handle, row, arg, &stopped, err);
	sqlite3_reset(handle); /* now: what it reads can't leave the log before */
	sqlite3_clear_bindings(handle);
	return rc < 0 || stopped ? -1 : 0;
}

static int sqlite_store_query(struct store *store, const char *sql, const struct store_value *values, size_t count,
	store_row_fn *row, void *arg, struct err *err)
{
	return execute(of(store), sql, values, count, row, arg, err);
}

static int sqlite_store_run(struct store *store, const char *sql, const struct store_value *values, size_t count,
	int64_t *changed, struct err *err)
{
	struct sqlite_store *s = of(store);

	if (execute(s, sql, values, count, NULL, NULL, err) < 0)
		return -1;
	if (changed)
		*changed = sqlite3_changes64(s->db.link);
	sqlite_db_tidy(&s->db);
	return 0;
}

static int sqlite_store_query_once(
	struct store *store, const char *sql, size_t len, store_row_fn *row, void *arg, struct err *err)
{
	struct sqlite_store *s = of(store);
	sqlite3_stmt *handle;
	int stopped = 0, rc;

	if (sqlite_db_enter(&s->db, err) < 0 || sqlite_db_prepare_once(&s->db, sql, len, &handle, err) < 0)
		return -1;
	rc = bind_all(&s->db, handle, NULL, 0, err);
	if (rc == 0)
		rc = step_all(s, handle, row, arg, &stopped, err);
	sqlite3_finalize(handle);
	if (rc < 0 || stopped)
		return -1;
	sqlite_db_tidy(&s->db);
	return 0;
}

/* ---- many rows
 *
 * One statement, run for each row: there is no way to a server that more rows at once would save. */

static void sqlite_store_keep(struct slice column, struct buf *sql)
{
	(void)column; /* any key */
	buf_add_str(sql, " ON CONFLICT DO NOTHING");
}

static void write_insert(struct buf *b, enum store_insert how, const char *into, size_t columns)
{
	buf_reset(b);
	buf_addf(b, "INSERT INTO %s VALUES (", into);
	for (size_t i = 0; i < columns; i++)
		buf_add_str(b, i > 0 ? ",?" : "?");
	buf_add_char(b, ')');
	if (how == STORE_KEEP)
		sqlite_store_keep(SLICE_NONE, b);
}

static int insert_rows(struct sqlite_store *s, enum store_insert how, const char *into, const struct store_value *values,
	size_t columns, size_t rows, struct err *err)
{
	sqlite3_stmt *handle;
	int rc = 0;

	write_insert(&s->text, how, into, columns);
	if (sqlite_db_prepare(&s->db, s->text.data, s->text.len, &handle, err) < 0)
		return -1;
	for (size_t i = 0; i < rows && rc == 0; i++) {
		rc = bind_all(&s->db, handle, values + i * columns, columns, err);
		if (rc == 0)
			rc = step_all(s, handle, NULL, NULL, NULL, err);
		sqlite3_reset(handle);
	}
	sqlite3_clear_bindings(handle);
	return rc;
}

/* Outside of a transaction the rows are one, as a statement would be. */
static int sqlite_store_insert(struct store *store, enum store_insert how, const char *into, const struct store_value *values,
	size_t columns, size_t rows, struct err *err)
{
	struct sqlite_store *s = of(store);

	if (sqlite_db_enter(&s->db, err) < 0)
		return -1;
	if (s->db.in_transaction)
		return insert_rows(s, how, into, values, columns, rows, err);
	if (sqlite_db_begin(&s->db, err) < 0)
		return -1;
	if (insert_rows(s, how, into, values, columns, rows, err) == 0)
		return sqlite_db_commit(&s->db, err);
	sqlite_db_rollback(&s->db);
	return -1;
}

/* ---- transactions, life */

static int sqlite_store_begin(struct store *store, struct err *err)
{
	return sqlite_db_begin(&of(store)->db, err);
}

static int sqlite_store_commit(struct store *store, struct err *err)
{
	return sqlite_db_commit(&of(store)->db, err);
}

static void sqlite_store_rollback(struct store *store)
{
	sqlite_db_rollback(&of(store)->db);
}

static int sqlite_store_ping(struct store *store, struct err *err)
{
	static const char sql[] = "SELECT COUNT(*) FROM sqlite_schema"; /* looks at the file */

	return execute(of(store), sql, NULL, 0, NULL, NULL, err);
}

static int sqlite_store_lock(struct store *store, struct err *err)
{
	return sqlite_db_lock(&of(store)->db, err);
}

static void sqlite_store_unlock(struct store *store)
{
	sqlite_db_unlock(&of(store)->db);
}

static int sqlite_store_open(const struct settings *settings, struct store **out, struct err *err)
{
	struct sqlite_store *s = mem_zalloc(sizeof(*s));

	(void)err; /* connects later */
	s->base.ops = &store_sqlite_ops;
	s->text = (struct buf)BUF_INIT;
	sqlite_db_init(&s->db, settings, "database", FILE_NAME);
	*out = &s->base;
	return 0;
}

static void sqlite_store_close(struct store *store)
{
	struct sqlite_store *s = of(store);

	sqlite_db_release(&s->db);
	buf_release(&s->text);
	free(s->row);
	free(s);
}

static void sqlite_store_describe(const struct settings *settings, struct buf *out)
{
	buf_addf(out, "%s/%s", settings->embedded.folder, FILE_NAME);
}

static int sqlite_store_create(const struct settings *settings, bool *made, struct err *err)
{
	struct sqlite_db db;
	int rc;

	sqlite_db_init(&db, settings, "database", FILE_NAME);
	rc = sqlite_db_create(&db, made, err);
	sqlite_db_release(&db);
	return rc;
}

static const char *sqlite_store_library(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "sqlite %s", sqlite3_libversion());
	return text;
}

const struct store_ops store_sqlite_ops = {
	.dialect = "sqlite",
	.now_ms = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
	.for_update = "", /* whoever asks is the only writer already */
	.join = "CROSS JOIN",
	.keep = sqlite_store_keep,
	.library = sqlite_store_library,
	.describe = sqlite_store_describe,
	.create = sqlite_store_create,
	.open = sqlite_store_open,
	.close = sqlite_store_close,
	.ping = sqlite_store_ping,
	.begin = sqlite_store_begin,
	.commit = sqlite_store_commit,
	.rollback = sqlite_store_rollback,
	.query = sqlite_store_query,
	.run = sqlite_store_run,
	.query_once = sqlite_store_query_once,
	.insert = sqlite_store_insert,
	.lock = sqlite_store_lock,
	.unlock = sqlite_store_unlock,
};
