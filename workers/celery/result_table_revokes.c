/* Ids of revoked tasks go into job_revoked, those that other nodes have put there come out. */
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "workers/celery/result_table_parts.h"

#define POLL_MS 2000         /* how often it is looked at */
#define CLOCK_SLACK_MS 10000 /* a row may be committed so long after its time was taken */

int result_table_make_revokes(struct result_table *t, struct err *err)
{
	static const char sql[] = "CREATE TABLE IF NOT EXISTS job_revoked (task_id VARCHAR(155) NOT NULL PRIMARY KEY, at BIGINT NOT NULL)";

	return store_query_once(t->store, sql, strlen(sql), NULL, NULL, err);
}

/* The time is the database's, and that of the writing: all nodes look for what is new by it, whatever their clocks say. */
int result_table_write_revoke(struct result_table *t, const struct result_row *row, struct err *err)
{
	const struct store_value id = store_text(slice_of(row->id));

	return store_run(t->store, t->is_mysql
		? "INSERT INTO job_revoked (task_id, at) VALUES (?, CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)) ON DUPLICATE KEY UPDATE task_id = task_id"
		: "INSERT INTO job_revoked (task_id, at) VALUES (?, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)) ON CONFLICT (task_id) DO NOTHING",
		&id, 1, NULL, err);
}

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
void result_table_poll_revokes(struct result_table *t)
{
	const struct store_value since = store_int(t->seen_at - CLOCK_SLACK_MS);
	struct err err = ERR_INIT;

	if (!t->settings->job.durable_revokes || clock_mono_ms() < t->poll_at)
		return;
	t->poll_at = clock_mono_ms() + POLL_MS;
	if (result_table_prepare(t, &err) < 0 || store_query(t->store, "SELECT task_id, at FROM job_revoked WHERE at >= ? ORDER BY at", &since, 1, take_news, t, &err) < 0)
		log_debug("job_revoked can't be read", log_err(&err));
	else
		atomic_store(&t->has_read, true);
}

void result_table_forget_revokes(struct result_table *t)
{
	const struct store_value kept = store_int(clock_wall_ms() - t->settings->job.revokes_kept_s * 1000);
	struct err err = ERR_INIT;

	if (store_run(t->store, "DELETE FROM job_revoked WHERE at < ?", &kept, 1, NULL, &err) < 0)
		log_debug("old revokes are not deleted", log_err(&err));
}

/* ---- for others */

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
