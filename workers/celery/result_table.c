/* Rows go in from any thread, and into the table many at once; tasks whose rows are committed go to the inbox. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "workers/celery/result_table_parts.h"
#include "workers/celery/task.h"

#define ROWS_A_COMMIT 200
#define TURN_MS 2000 /* longest sleep: job_revoked is looked at then */

/* ---- writing */

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
		if (result_table_prepare(t, &err) == 0 && result_table_write(t, rows + at, width, &err) == 0) {
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
			result_row_fail(rows[at], &err);
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

static void clean(struct result_table *t)
{
	struct err err = ERR_INIT;

	if (result_table_prepare(t, &err) < 0)
		return;
	if (t->settings->job.result_expires_s > 0)
		result_clean_now(t->clean);
	result_table_forget_revokes(t);
}

/* ---- the thread */

static size_t take(struct result_table *t, struct result_row **rows, bool *is_cleaning)
{
	const int64_t until = clock_mono_ms() + TURN_MS;
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

		result_table_poll_revokes(t); /* first of all: no job is taken before */
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
