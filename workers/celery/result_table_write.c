/* Rows of results go in, and are written into the table, a SUCCESS that is there excepted: in one transaction, or none of them. */
#include <string.h>

#include "common/store/jobs.h"
#include "common/store/rows.h"
#include "workers/celery/result_table_parts.h"

#define COLUMNS_MAX 11
#define BLOB_MAX 65535 /* bytes */

struct column {
	const char *name;
	struct store_value value;
};

static struct store_value text_or_null(const struct buf *text)
{
	return text->len > 0 ? store_text(buf_slice(text)) : (struct store_value){ .type = STORE_NULL };
}

static struct store_value bytes_or_null(const struct buf *some)
{
	return some->len > 0 ? store_bytes(buf_slice(some)) : (struct store_value){ .type = STORE_NULL };
}

/* What a result is whole without: nothing rather than more than a table that Python made on MySQL takes. */
static struct store_value if_it_fits(const struct buf *some)
{
	return some->len <= BLOB_MAX ? bytes_or_null(some) : (struct store_value){ .type = STORE_NULL };
}

/* What the table has room for, but for id, task_id and status. done: of the time as text. */
static size_t fill_columns(const struct result_table *t, const struct result_row *row, char *done, struct column *out)
{
	const struct column all[] = {
		{ "result", store_bytes(buf_slice(&row->value)) },
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
	buf_add_str(sql, "INSERT INTO ");
	job_table_add(sql, t->settings->job.result_table);
	buf_addf(sql, " (%stask_id, status", t->has_sequence ? "id, " : "");
	for (size_t i = 0; i < count; i++)
		buf_addf(sql, ", %s", columns[i].name);
	buf_add_str(sql, ") VALUES (");
	if (t->has_sequence) {
		buf_add_str(sql, "NEXT VALUE FOR ");
		job_table_beside(sql, t->settings->job.result_table, RESULT_TABLE_SEQUENCE);
		buf_add_str(sql, ", ");
	}
	buf_add_str(sql, "?, ?");
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
	struct buf sql = BUF_INIT;
	char done[ROWS_TIME];
	size_t count;
	int rc;

	count = fill_columns(t, row, done, columns);
	write_statement(t, columns, count, &sql);
	for (size_t i = 0; i < count; i++)
		values[2 + i] = columns[i].value;
	rc = store_run(t->store, sql.data, values, 2 + count, NULL, err);
	buf_release(&sql);
	return rc;
}

static int write_row(struct result_table *t, const struct result_row *row, struct err *err)
{
	return row->is_revoke ? result_table_write_revoke(t, row, err) : write_result(t, row, err);
}

int result_table_write(struct result_table *t, struct result_row **rows, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) /* not while others wait for the rows that are locked */
		if (!rows[i]->is_revoke)
			result_row_encode(rows[i], t->settings->job.database_format);
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
