/* Results that have expired go in, nothing comes out: they are deleted from Celery's tables, a few at a time. */
#include "workers/celery/result_clean.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/store/jobs.h"
#include "common/store/rows.h"

#define STEP_MS 10  /* between two steps: others want the database too */
#define TRIES_MAX 10 /* of one step, until the next time */

struct result_clean {
	const struct settings *settings;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t some;
	bool is_stopping, is_due;
};

struct range {
	int64_t last, expired; /* id of the last row, 0: none; how many of the rows have expired */
};

static int read_range(void *arg, const struct store_value *columns, size_t count)
{
	struct range *range = arg;

	(void)count;
	range->last = columns[0].type == STORE_NULL ? 0 : columns[0].number;
	range->expired = columns[1].number;
	return 0;
}

/* Along the primary key, which every table has: the one that Celery 5.6 makes has no index on date_done. The look locks nothing, and rows are
 * deleted only where there are some. */
int result_clean_step(struct store *store, const char *table, struct slice before, int64_t *id, bool *more, struct err *err)
{
	const struct store_value look[] = { store_text(before), store_int(*id), store_int(RESULT_CLEAN_ROWS) };
	struct range range = { 0, 0 };
	struct buf name = BUF_INIT, sql = BUF_INIT;
	int rc = -1;

	job_table_add(&name, table);
	buf_addf(&sql, "SELECT MAX(id), COUNT(CASE WHEN date_done < ? THEN 1 END) FROM "
		"(SELECT id, date_done FROM %s WHERE id > ? ORDER BY id LIMIT ?) AS step", name.data);
	if (store_query(store, sql.data, look, 3, read_range, &range, err) < 0)
		goto out;
	if (range.expired > 0) {
		const struct store_value old[] = { store_int(*id), store_int(range.last), store_text(before) };

		buf_reset(&sql);
		buf_addf(&sql, "DELETE FROM %s WHERE id > ? AND id <= ? AND date_done < ?", name.data);
		if (store_run(store, sql.data, old, 3, NULL, err) < 0)
			goto out;
	}
	*more = range.last != 0;
	if (*more)
		*id = range.last;
	rc = 0;
out:
	buf_release(&name);
	buf_release(&sql);
	return rc;
}

/* ---- the thread */

/* false: it is time to stop. */
static bool nap(struct result_clean *c, int64_t wait_ms)
{
	const int64_t until_ms = clock_mono_ms() + wait_ms;
	const struct timespec until = cond_until(until_ms);
	bool goes_on;
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	while (!c->is_stopping && rc == 0)
		rc = pthread_cond_timedwait(&c->some, &c->lock, &until);
	goes_on = !c->is_stopping;
	pthread_mutex_unlock(&c->lock);
	return goes_on;
}

static bool wait_until_due(struct result_clean *c)
{
	bool goes_on;

	pthread_mutex_lock(&c->lock);
	while (!c->is_stopping && !c->is_due)
		pthread_cond_wait(&c->some, &c->lock);
	c->is_due = false;
	goes_on = !c->is_stopping;
	pthread_mutex_unlock(&c->lock);
	return goes_on;
}

static void clean_table(struct result_clean *c, struct store *store, const char *table)
{
	struct backoff backoff = { .first_ms = 200, .limit_ms = 5000 };
	char text[ROWS_TIME];
	const struct slice before = rows_time(clock_wall_ms() - c->settings->job.result_expires_s * 1000, text);
	bool more = true;
	int64_t id = 0, wait_ms;
	int failures = 0;

	do {
		struct err err = ERR_INIT;

		if (result_clean_step(store, table, before, &id, &more, &err) == 0) {
			failures = 0;
			backoff_reset(&backoff);
			wait_ms = STEP_MS;
			continue;
		}
		if (++failures == TRIES_MAX) {
			log_warn("old results are not deleted", log_str("table", table), log_err(&err));
			return;
		}
		wait_ms = backoff_next_ms(&backoff);
	} while (more && nap(c, wait_ms));
}

static int note(void *arg, const struct store_value *columns, size_t count)
{
	(void)columns;
	(void)count;
	*(bool *)arg = true;
	return 0;
}

/* Only clients make it. */
static bool has_groups(struct store *store, const char *table)
{
	struct buf sql = BUF_INIT;
	struct err err = ERR_INIT;
	bool has = false;

	if (strcmp(store_dialect(store), "mysql") == 0) {
		buf_add_str(&sql, "SELECT 1 FROM information_schema.tables WHERE ");
		job_table_where(&sql, table);
	} else {
		buf_addf(&sql, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '%s'", table);
	}
	if (store_query_once(store, sql.data, sql.len, note, &has, &err) < 0)
		log_warn("old groups of results are not deleted", log_err(&err));
	buf_release(&sql);
	return has;
}

static void clean_all(struct result_clean *c, struct store *store)
{
	const struct job_settings *s = &c->settings->job;

	clean_table(c, store, s->result_table);
	if (has_groups(store, s->group_table))
		clean_table(c, store, s->group_table);
}

static void *run(void *arg)
{
	struct result_clean *c = arg;

	while (wait_until_due(c)) {
		struct store *store = NULL; /* for this time alone: it is seldom */
		struct err err = ERR_INIT;

		if (store_open(c->settings, &store, &err) < 0) {
			log_warn("old results are not deleted", log_err(&err));
			continue;
		}
		clean_all(c, store);
		store_close(store);
	}
	return NULL;
}

/* ---- for others */

struct result_clean *result_clean_start(const struct settings *settings)
{
	struct result_clean *c = mem_zalloc(sizeof(*c));

	c->settings = settings;
	pthread_mutex_init(&c->lock, NULL);
	cond_init(&c->some);
	if (pthread_create(&c->thread, NULL, run, c) != 0)
		abort();
	return c;
}

void result_clean_now(struct result_clean *c)
{
	pthread_mutex_lock(&c->lock);
	c->is_due = true;
	pthread_cond_signal(&c->some);
	pthread_mutex_unlock(&c->lock);
}

void result_clean_stop(struct result_clean *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	c->is_stopping = true;
	pthread_cond_signal(&c->some);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->some);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
