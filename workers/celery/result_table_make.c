/* A connection goes in; the tables that results and revokes are written into are there then, as SQLAlchemy makes them for Celery if nobody has. */
#include <string.h>

#include "common/store/jobs.h"
#include "workers/celery/result_table_parts.h"

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

static int make_sequence(struct result_table *t, struct err *err)
{
	struct buf sql = BUF_INIT;
	int rc;

	buf_add_str(&sql, "CREATE SEQUENCE IF NOT EXISTS ");
	job_table_beside(&sql, t->settings->job.result_table, RESULT_TABLE_SEQUENCE);
	buf_add_str(&sql, " START WITH 1 INCREMENT BY 1 NOCYCLE");
	rc = run_once(t, sql.data, err);
	buf_release(&sql);
	return rc;
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
		rc = make_sequence(t, err);
	buf_add_str(&sql, "CREATE TABLE IF NOT EXISTS ");
	job_table_add(&sql, t->settings->job.result_table);
	buf_add_str(&sql, is_mariadb ? " (id INTEGER NOT NULL PRIMARY KEY, "
		: t->is_mysql ? " (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, " : " (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, ");
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

	if (t->is_mysql) {
		buf_add_str(&sql, "SELECT 1 FROM information_schema.columns WHERE ");
		job_table_where(&sql, t->settings->job.result_table);
		buf_addf(&sql, " AND column_name = %s", column);
	} else {
		buf_addf(&sql, "SELECT 1 FROM pragma_table_info('%s') WHERE name = %s", t->settings->job.result_table, column);
	}
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

int result_table_prepare(struct result_table *t, struct err *err)
{
	bool is_mariadb = false;

	if (t->is_prepared)
		return 0;
	t->is_mysql = strcmp(store_dialect(t->store), "mysql") == 0;
	if (t->is_mysql && is_there(t, "SELECT 1 FROM DUAL WHERE VERSION() LIKE '%MariaDB%'", &is_mariadb, err) < 0)
		return -1;
	if (make_table(t, is_mariadb, err) < 0 || look_at_columns(t, err) < 0 || result_table_make_revokes(t, err) < 0)
		return -1;
	t->is_prepared = true;
	return 0;
}
