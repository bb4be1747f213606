/* result_table: results in the table celery_taskmeta, as Celery's database back end reads and writes it, by a thread with a
 * connection of its own; and the revoked ids that are kept in job_revoked. Rows that come together are written together.
 *
 * A task with a row is reported to the inbox (NOTICE_STORED) once it is committed; task->store_failed when it can't be, because it
 * is too long for the column. While the database is away rows wait. A SUCCESS is never overwritten. */
#ifndef FEEDMILL_WORKERS_CELERY_RESULT_TABLE_H
#define FEEDMILL_WORKERS_CELERY_RESULT_TABLE_H

#include <stdbool.h>

#include "common/base/settings.h"
#include "common/base/str.h"
#include "workers/celery/inbox.h"

struct result_table;

/* A row: all texts are copies of its own. */
struct result_row {
	struct result_row *next;
	struct task *task;       /* that waits for it, or NULL */
	char id[256];
	char status[16];
	struct buf result;       /* JSON; empty: null */
	struct buf trace;
	struct buf name, args, kwargs, worker, queue, stamps; /* extended: where the table has these columns; args, kwargs and stamps are JSON */
	struct buf children;     /* JSON list; likewise */
	int64_t retries;
	int64_t done_wall_ms;    /* 0: not in a state that is an end */
	bool is_revoke;          /* only the id, for job_revoked */
	size_t place;            /* among those that are written with it */
};

struct result_row *result_row_new(struct slice id, const char *status);
void result_row_free(struct result_row *row);
/* By id, so that nodes take their locks in one order; of one id the later row stays the later. */
void result_rows_sort(struct result_row **rows, size_t count);

/* revoked: told of ids in job_revoked that were not known here; from the table's thread. May be NULL. */
struct result_table *result_table_start(const struct settings *settings, struct inbox *inbox);
void result_table_stop(struct result_table *table, int64_t wait_ms); /* NULL is fine */

void result_table_add(struct result_table *table, struct result_row *row); /* takes row; any thread */
void result_table_clean(struct result_table *table);                       /* delete what has expired */
size_t result_table_depth(struct result_table *table);
bool result_table_is_well(const struct result_table *table);

/* job_revoked was read since the start, and what was in it then is in the news; true as well where it is not kept. Any thread. */
bool result_table_knows_revokes(const struct result_table *table);

/* job_revoked: ids that other nodes have added since the last call; a JSON list, false: none. Any thread. */
bool result_table_news(struct result_table *table, struct buf *out);

#endif
