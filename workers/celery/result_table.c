/* Rows go in from any thread, and into celery_taskmeta many at once; tasks whose rows are committed go to the inbox. */
#include "workers/celery/result_table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/store/rows.h"
#include "common/store/store.h"
#include "workers/celery/pickle.h"
#include "workers/celery/result_clean.h"
#include "workers/celery/task.h"

#define ROWS_A_COMMIT 200
#define POLL_MS 2000       /* how often job_revoked is looked at */
#define CLOCK_SLACK_MS 10000 /* a row of job_revoked may be committed so long after its time was taken */

struct result_table {
	const struct settings *settings;
	struct inbox *inbox;
	struct result_clean *clean;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct result_row *first, **last;
	size_t depth;
	struct buf news;         /* ids for result_table_news(), with commas */
	bool is_stopping, is_cleaning;
	int64_t stop_at;
	_Atomic bool is_well, has_read;

	struct store *store;     /* the thread's */
	struct backoff backoff;
	bool is_prepared, has_sequence, is_extended, has_children, has_stamps, is_mysql;
	int64_t seen_at;         /* job_revoked: newest row that was read */
	int64_t poll_at;
};

struct result_row *result_row_new(struct slice id, const char *status)
{
	struct result_row *row = mem_zalloc(sizeof(*row));

	snprintf(row->id, sizeof(row->id), "%.*s", (int)id.len, id.data);
	snprintf(row->status, sizeof(row->status), "%s", status);
	row->result = row->trace = row->name = row->args = row->kwargs = row->worker = row->queue = (struct buf)BUF_INIT;
	row->stamps = row->children = (struct buf)BUF_INIT;
	return row;
}

void result_row_free(struct result_row *row)
{
	if (row == NULL)
		return;
	buf_release(&row->result);
	buf_release(&row->trace);
	buf_release(&row->name);
	buf_release(&row->args);
	buf_release(&row->kwargs);
	buf_release(&row->worker);
	buf_release(&row->queue);
	buf_release(&row->stamps);
	buf_release(&row->children);
	free(row);
}

static struct slice bytes(const struct buf *b)
{
	return (struct slice){ b->data, b->len };
}

/* ---- the tables: as SQLAlchemy makes them for Celery, if nobody has */

static int count_rows(void *arg, const struct store_value *columns, size_t count)
{
	(void)columns;
	(void)count;
	(*(int *)arg)++;
	return 0;
}

static int is_there(struct result_table *t, const char *sql, bool *found, struct err *err)
{
	int rows = 0;

	if (store_query_once(t->store, sql, strlen(sql), count_rows, &rows, err) < 0)
		return -1;
	*found = rows > 0;
	return 0;
}

static int run_once(struct result_table *t, const char *sql, struct err *err)
{
	return store_query_once(t->store, sql, strlen(sql), NULL, NULL, err);
}

/* MariaDB's clients take ids from a sequence; MySQL's and SQLite's count by themselves. */
static int make_table(struct result_table *t, bool is_mariadb, struct err *err)
{
	static const char rest[] = "task_id VARCHAR(155) UNIQUE, status VARCHAR(50), result %1$s, date_done DATETIME, traceback TEXT, children %1$s";
	static const char extended[] = ", name VARCHAR(155), args %1$s, kwargs %1$s, worker VARCHAR(155), retries INTEGER, queue VARCHAR(155), stamps %1$s";
	const char *blob = t->is_mysql ? "LONGBLOB" : "BLOB";
	struct buf sql = BUF_INIT;
	int rc = 0;

	if (is_mariadb)
		rc = run_once(t, "CREATE SEQUENCE IF NOT EXISTS task_id_sequence START WITH 1 INCREMENT BY 1 NOCYCLE", err);
	buf_add_str(&sql, "CREATE TABLE IF NOT EXISTS celery_taskmeta (id ");
	buf_add_str(&sql, is_mariadb ? "INTEGER NOT NULL PRIMARY KEY, "
		: t->is_mysql ? "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, " : "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, ");
	buf_addf(&sql, rest, blob);
	if (t->settings->job.result_extended)
		buf_addf(&sql, extended, blob);
	buf_add_str(&sql, t->is_mysql ? ", INDEX (date_done)) DEFAULT CHARACTER SET utf8mb4" : ")");
	if (rc == 0)
		rc = run_once(t, sql.data, err);
	buf_release(&sql);
	return rc;
}

static int has_column(struct result_table *t, const char *column, bool *found, struct err *err)
{
	struct buf sql = BUF_INIT;
	int rc;

	buf_addf(&sql, t->is_mysql
		? "SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'celery_taskmeta' AND column_name = %s"
		: "SELECT 1 FROM pragma_table_info('celery_taskmeta') WHERE name = %s", column);
	rc = is_there(t, sql.data, found, err);
	buf_release(&sql);
	return rc;
}

/* Older Celery's tables have no children and no stamps. */
static int look_at_columns(struct result_table *t, struct err *err)
{
	bool counts = true;

	if (t->is_mysql && has_column(t, "'id' AND extra LIKE '%auto_increment%'", &counts, err) < 0)
		return -1;
	t->has_sequence = !counts;
	return has_column(t, "'retries'", &t->is_extended, err) < 0 || has_column(t, "'children'", &t->has_children, err) < 0
		? -1 : has_column(t, "'stamps'", &t->has_stamps, err);
}

static int prepare(struct result_table *t, struct err *err)
{
	bool is_mariadb = false;

	if (t->is_prepared)
		return 0;
	t->is_mysql = strcmp(store_dialect(t->store), "mysql") == 0;
	if (t->is_mysql && is_there(t, "SELECT 1 FROM DUAL WHERE VERSION() LIKE '%MariaDB%'", &is_mariadb, err) < 0)
		return -1;
	if (make_table(t, is_mariadb, err) < 0 || look_at_columns(t, err) < 0)
		return -1;
	if (run_once(t, "CREATE TABLE IF NOT EXISTS job_revoked (task_id VARCHAR(155) NOT NULL PRIMARY KEY, at BIGINT NOT NULL)", err) < 0)
		return -1;
	t->is_prepared = true;
	return 0;
}

/* ---- a row */

static void encode(const struct result_table *t, const struct result_row *row, struct buf *out)
{
	struct err err = ERR_INIT;
	struct json *node;

	if (strcmp(t->settings->job.database_format, "json") == 0) {
		buf_add(out, row->result.data, row->result.len);
		return;
	}
	node = json_parse_answer(bytes(&row->result), &err);
	if (node != NULL)
		pickle_write(out, node);
	json_free(node);
}

#define COLUMNS_MAX 11
#define BLOB_MAX 65535 /* bytes */

struct column {
	const char *name;
	struct store_value value;
};

static struct store_value text_or_null(const struct buf *text)
{
	return text->len > 0 ? store_text(bytes(text)) : (struct store_value){ .type = STORE_NULL };
}

static struct store_value bytes_or_null(const struct buf *some)
{
	return some->len > 0 ? store_bytes(bytes(some)) : (struct store_value){ .type = STORE_NULL };
}

/* What a result is whole without: nothing rather than more than a table that Python made on MySQL takes. */
static struct store_value if_it_fits(const struct buf *some)
{
	return some->len <= BLOB_MAX ? bytes_or_null(some) : (struct store_value){ .type = STORE_NULL };
}

/* What the table has room for, but for id, task_id and status. done: of the time as text. */
static size_t fill_columns(const struct result_table *t, const struct result_row *row, const struct buf *value, char *done, struct column *out)
{
	const struct column all[] = {
		{ "result", store_bytes(bytes(value)) },
		{ "date_done", row->done_wall_ms > 0 ? store_text(rows_time(row->done_wall_ms, done)) : (struct store_value){ .type = STORE_NULL } },
		{ "traceback", text_or_null(&row->trace) },
		{ "name", text_or_null(&row->name) },
		{ "args", bytes_or_null(&row->args) },
		{ "kwargs", bytes_or_null(&row->kwargs) },
		{ "worker", text_or_null(&row->worker) },
		{ "retries", store_int(row->retries) },
		{ "queue", text_or_null(&row->queue) },
	};
	size_t count = t->is_extended ? 9 : 3;

	memcpy(out, all, count * sizeof(*out));
	if (t->has_children)
		out[count++] = (struct column){ "children", if_it_fits(&row->children) };
	if (t->has_stamps)
		out[count++] = (struct column){ "stamps", if_it_fits(&row->stamps) };
	return count;
}

static void write_statement(const struct result_table *t, const struct column *columns, size_t count, struct buf *sql)
{
	buf_addf(sql, "INSERT INTO celery_taskmeta (%stask_id, status", t->has_sequence ? "id, " : "");
	for (size_t i = 0; i < count; i++)
		buf_addf(sql, ", %s", columns[i].name);
	buf_addf(sql, ") VALUES (%s?, ?", t->has_sequence ? "NEXT VALUE FOR task_id_sequence, " : "");
	for (size_t i = 0; i < count; i++)
		buf_add_str(sql, ", ?");
	buf_add_str(sql, t->is_mysql ? ") ON DUPLICATE KEY UPDATE " : ") ON CONFLICT (task_id) DO UPDATE SET ");
	for (size_t i = 0; i < count; i++) {
		const char *name = columns[i].name;

		if (t->is_mysql)
			buf_addf(sql, "%s = IF(status = 'SUCCESS', %s, VALUES(%s)), ", name, name, name);
		else
			buf_addf(sql, "%s = CASE WHEN status = 'SUCCESS' THEN %s ELSE excluded.%s END, ", name, name, name);
	}
	/* Last: MySQL sets one after another. */
	buf_add_str(sql, t->is_mysql ? "status = IF(status = 'SUCCESS', status, VALUES(status))"
		: "status = CASE WHEN status = 'SUCCESS' THEN status ELSE excluded.status END");
}

static int write_result(struct result_table *t, const struct result_row *row, struct err *err)
{
	struct store_value values[2 + COLUMNS_MAX] = { store_text(slice_of(row->id)), store_text(slice_of(row->status)) };
	struct column columns[COLUMNS_MAX];
	struct buf value = BUF_INIT, sql = BUF_INIT;
	char done[ROWS_TIME];
	size_t count;
	int rc;

	encode(t, row, &value);
	count = fill_columns(t, row, &value, done, columns);
	write_statement(t, columns, count, &sql);
	for (size_t i = 0; i < count; i++)
		values[2 + i] = columns[i].value;
	rc = store_run(t->store, sql.data, values, 2 + count, NULL, err);
	buf_release(&value);
	buf_release(&sql);
	return rc;
}

/* The time is the database's, and that of the writing: all nodes look for what is new by it, whatever their clocks say. */
static int write_revoke(struct result_table *t, const struct result_row *row, struct err *err)
{
	const struct store_value id = store_text(slice_of(row->id));

	return store_run(t->store, t->is_mysql
		? "INSERT INTO job_revoked (task_id, at) VALUES (?, CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)) ON DUPLICATE KEY UPDATE task_id = task_id"
		: "INSERT INTO job_revoked (task_id, at) VALUES (?, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)) ON CONFLICT (task_id) DO NOTHING",
		&id, 1, NULL, err);
}

static int write_row(struct result_table *t, const struct result_row *row, struct err *err)
{
	return row->is_revoke ? write_revoke(t, row, err) : write_result(t, row, err);
}

/* ---- many rows */

static int compare_rows(const void *a, const void *b)
{
	const struct result_row *one = *(struct result_row *const *)a, *other = *(struct result_row *const *)b;
	const int order = strcmp(one->id, other->id);

	return order != 0 ? order : one->place < other->place ? -1 : one->place > other->place;
}

void result_rows_sort(struct result_row **rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		rows[i]->place = i;
	qsort(rows, count, sizeof(*rows), compare_rows);
}

static int write_rows(struct result_table *t, struct result_row **rows, size_t count, struct err *err)
{
	if (store_begin(t->store, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (write_row(t, rows[i], err) < 0) {
			store_rollback(t->store);
			return -1;
		}
	}
	return store_commit(t->store, err);
}

static void done(struct result_table *t, struct result_row *row, bool is_written)
{
	if (row->task != NULL) {
		row->task->store_failed = !is_written;
		inbox_add(t->inbox, row->task, NOTICE_STORED);
	}
	result_row_free(row);
	pthread_mutex_lock(&t->lock);
	t->depth--;
	pthread_mutex_unlock(&t->lock);
}

static bool is_wrong(const struct err *err)
{
	return err->kind == ERR_INVALID;
}

/* A value that the column does not take becomes a failure that says so. */
static void replace(struct result_row *row, const struct err *why)
{
	struct json_writer w = JSON_WRITER(&row->result);

	buf_reset(&row->result);
	snprintf(row->status, sizeof(row->status), "FAILURE");
	json_open(&w, NULL, '{');
	json_put_string(&w, "exc_type", slice_of("BackendStoreError"));
	json_open(&w, "exc_message", '[');
	json_put_string(&w, NULL, slice_of(why->message));
	json_close(&w, ']');
	json_put_string(&w, "exc_module", slice_of("celery.exceptions"));
	json_close(&w, '}');
}

static bool is_ending(struct result_table *t)
{
	bool is;

	pthread_mutex_lock(&t->lock);
	is = t->is_stopping && clock_mono_ms() >= t->stop_at;
	pthread_mutex_unlock(&t->lock);
	return is;
}

static void pause_for(struct result_table *t)
{
	const int64_t until = clock_mono_ms() + backoff_next_ms(&t->backoff);
	const struct timespec nap = { 0, 50 * 1000000 };

	while (clock_mono_ms() < until && !is_ending(t))
		nanosleep(&nap, NULL);
}

/* A new connection, with nothing prepared on it: MariaDB loses its way with a prepared NEXT VALUE when somebody makes the sequence
 * anew, and says something else each time. */
static void reopen(struct result_table *t)
{
	struct err err = ERR_INIT;

	store_close(t->store);
	t->store = NULL;
	t->is_prepared = false;
	if (store_open(t->settings, &t->store, &err) < 0)
		abort(); /* it connects to nothing, and the settings were fine before */
}

/* Until they are written: what a wait may help is tried for ever, a row that is wrong is found by writing them one by one. */
static void write_all(struct result_table *t, struct result_row **rows, size_t count)
{
	struct err err = ERR_INIT;
	size_t width = count, at = 0;

	result_rows_sort(rows, count);
	while (at < count && !is_ending(t)) {
		if (width > count - at)
			width = count - at;
		err_clear(&err);
		if (prepare(t, &err) == 0 && write_rows(t, rows + at, width, &err) == 0) {
			for (size_t i = 0; i < width; i++)
				done(t, rows[at + i], true);
			at += width;
			backoff_reset(&t->backoff);
			atomic_store(&t->is_well, true);
			continue;
		}
		if (is_wrong(&err) && width > 1) {
			width = 1;
		} else if (is_wrong(&err) && strcmp(rows[at]->status, "FAILURE") != 0 && !rows[at]->is_revoke) {
			log_warn("a result can't be stored", log_str("id", rows[at]->id), log_err(&err));
			replace(rows[at], &err);
		} else if (is_wrong(&err)) {
			done(t, rows[at++], false);
		} else {
			if (atomic_exchange(&t->is_well, false))
				log_warn("results can't be stored for now", log_err(&err));
			pause_for(t);
			if (err.kind != ERR_UNAVAILABLE && err.kind != ERR_CONFLICT)
				reopen(t);
		}
	}
	for (; at < count; at++)
		done(t, rows[at], false);
}

/* ---- what else the thread does */

static int take_news(void *arg, const struct store_value *columns, size_t count)
{
	struct result_table *t = arg;
	struct json_writer w = JSON_WRITER(&t->news);

	(void)count;
	if (columns[1].number > t->seen_at)
		t->seen_at = columns[1].number;
	pthread_mutex_lock(&t->lock);
	w.comma = t->news.len > 0;
	json_put_string(&w, NULL, columns[0].text);
	pthread_mutex_unlock(&t->lock);
	return 0;
}

/* All at first; then a little of what was read before is read again. */
static void poll_revokes(struct result_table *t)
{
	const struct store_value since = store_int(t->seen_at - CLOCK_SLACK_MS);
	struct err err = ERR_INIT;

	if (!t->settings->job.durable_revokes || clock_mono_ms() < t->poll_at)
		return;
	t->poll_at = clock_mono_ms() + POLL_MS;
	if (prepare(t, &err) < 0 || store_query(t->store, "SELECT task_id, at FROM job_revoked WHERE at >= ? ORDER BY at", &since, 1, take_news, t, &err) < 0)
		log_debug("job_revoked can't be read", log_err(&err));
	else
		atomic_store(&t->has_read, true);
}

static void clean(struct result_table *t)
{
	const struct store_value kept = store_int(clock_wall_ms() - t->settings->job.revokes_kept_s * 1000);
	struct err err = ERR_INIT;

	if (prepare(t, &err) < 0)
		return;
	if (t->settings->job.result_expires_s > 0)
		result_clean_now(t->clean);
	if (store_run(t->store, "DELETE FROM job_revoked WHERE at < ?", &kept, 1, NULL, &err) < 0)
		log_debug("old revokes are not deleted", log_err(&err));
}

/* ---- the thread */

static size_t take(struct result_table *t, struct result_row **rows, bool *is_cleaning)
{
	const int64_t until = clock_mono_ms() + POLL_MS;
	const struct timespec at = cond_until(until);
	size_t count = 0;

	pthread_mutex_lock(&t->lock);
	if (t->first == NULL && !t->is_stopping && !t->is_cleaning)
		pthread_cond_timedwait(&t->some, &t->lock, &at);
	while (t->first != NULL && count < ROWS_A_COMMIT) {
		rows[count++] = t->first;
		t->first = t->first->next;
	}
	if (t->first == NULL)
		t->last = &t->first;
	*is_cleaning = t->is_cleaning;
	t->is_cleaning = false;
	pthread_mutex_unlock(&t->lock);
	return count;
}

static bool is_over(struct result_table *t)
{
	bool over;

	pthread_mutex_lock(&t->lock);
	over = t->is_stopping && (t->first == NULL || clock_mono_ms() >= t->stop_at);
	pthread_mutex_unlock(&t->lock);
	return over;
}

static void *run(void *arg)
{
	struct result_table *t = arg;
	struct result_row *rows[ROWS_A_COMMIT];
	struct err err = ERR_INIT;
	bool is_cleaning;

	if (store_open(t->settings, &t->store, &err) < 0) {
		log_error("results can't be stored", log_err(&err));
		return NULL;
	}
	while (!is_over(t)) {
		size_t count;

		poll_revokes(t); /* first of all: no job is taken before */
		count = take(t, rows, &is_cleaning);
		if (count > 0)
			write_all(t, rows, count);
		if (is_cleaning)
			clean(t);
	}
	store_close(t->store);
	return NULL;
}

/* ---- for others */

struct result_table *result_table_start(const struct settings *settings, struct inbox *inbox)
{
	struct result_table *t = mem_zalloc(sizeof(*t));

	t->settings = settings;
	t->inbox = inbox;
	t->last = &t->first;
	t->news = (struct buf)BUF_INIT;
	t->backoff = (struct backoff){ .first_ms = 200, .limit_ms = 5000 };
	atomic_init(&t->is_well, true);
	atomic_init(&t->has_read, !settings->job.durable_revokes);
	pthread_mutex_init(&t->lock, NULL);
	cond_init(&t->some);
	t->clean = result_clean_start(settings);
	if (pthread_create(&t->thread, NULL, run, t) != 0)
		abort();
	return t;
}

void result_table_stop(struct result_table *t, int64_t wait_ms)
{
	if (t == NULL)
		return;
	pthread_mutex_lock(&t->lock);
	t->is_stopping = true;
	t->stop_at = clock_mono_ms() + wait_ms;
	pthread_cond_signal(&t->some);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	result_clean_stop(t->clean);
	while (t->first != NULL) {
		struct result_row *row = t->first;

		t->first = row->next;
		result_row_free(row);
	}
	buf_release(&t->news);
	pthread_cond_destroy(&t->some);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void result_table_add(struct result_table *t, struct result_row *row)
{
	row->next = NULL;
	pthread_mutex_lock(&t->lock);
	*t->last = row;
	t->last = &row->next;
	t->depth++;
	pthread_cond_signal(&t->some);
	pthread_mutex_unlock(&t->lock);
}

void result_table_clean(struct result_table *t)
{
	pthread_mutex_lock(&t->lock);
	t->is_cleaning = true;
	pthread_cond_signal(&t->some);
	pthread_mutex_unlock(&t->lock);
}

size_t result_table_depth(struct result_table *t)
{
	size_t depth;

	pthread_mutex_lock(&t->lock);
	depth = t->depth;
	pthread_mutex_unlock(&t->lock);
	return depth;
}

bool result_table_is_well(const struct result_table *t)
{
	return atomic_load(&t->is_well);
}

bool result_table_knows_revokes(const struct result_table *t)
{
	return atomic_load(&t->has_read);
}

bool result_table_news(struct result_table *t, struct buf *out)
{
	bool has;

	pthread_mutex_lock(&t->lock);
	has = t->news.len > 0;
	if (has)
		buf_addf(out, "[%s]", t->news.data);
	buf_reset(&t->news);
	pthread_mutex_unlock(&t->lock);
	return has;
}
