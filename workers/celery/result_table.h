/* result_table: results in job.result_table, as Celery's database back end reads and writes it, by a thread with a
 * connection of its own; and the revoked ids that are kept in job_revoked. Rows that come together are written together.
 *
 * A task with a row is reported to the inbox (NOTICE_STORED) once it is committed; task->store_failed when it can't be, because it
 * is too long for the column. While the database is away rows wait. A SUCCESS is never overwritten. */
#ifndef FEEDMILL_WORKERS_CELERY_RESULT_TABLE_H
#define FEEDMILL_WORKERS_CELERY_RESULT_TABLE_H

#include <stdbool.h>

#include "common/base/settings.h"
#include "workers/celery/inbox.h"
#include "workers/celery/result_row.h"

struct result_table;

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
