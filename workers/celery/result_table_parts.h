/* result_table_parts: what the files of the results' table have in common; nobody else includes it. All of it belongs to the table's thread,
 * except for what says otherwise.
 *
 *   result_table          the thread: its queue, what it tries again, and what others may ask it
 *   result_table_make     the tables, made where nobody has
 *   result_table_write    rows become statements
 *   result_table_revokes  job_revoked: written, read by all nodes, and cleared */
#ifndef FEEDMILL_WORKERS_CELERY_RESULT_TABLE_PARTS_H
#define FEEDMILL_WORKERS_CELERY_RESULT_TABLE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/backoff.h"
#include "common/base/err.h"
#include "common/store/store.h"
#include "workers/celery/result_clean.h"
#include "workers/celery/result_table.h"

#define RESULT_TABLE_SEQUENCE "task_id_sequence" /* of MariaDB, beside the table, whatever that is called */

struct result_table {
	const struct settings *settings;
	struct inbox *inbox;
	struct result_clean *clean;
	pthread_t thread;
	_Atomic bool is_well, has_read; /* has_read: of job_revoked */

	pthread_mutex_t lock;    /* of what follows */
	pthread_cond_t some;
	struct result_row *first, **last;
	size_t depth;
	struct buf news;         /* ids for result_table_news(), with commas */
	bool is_stopping, is_cleaning;
	int64_t stop_at;

	struct store *store;     /* the thread's, as is all that follows */
	struct backoff backoff;
	bool is_prepared, has_sequence, is_extended, has_children, has_stamps, is_mysql;
	int64_t seen_at;         /* job_revoked: newest row that was read */
	int64_t poll_at;
};

int result_table_prepare(struct result_table *table, struct err *err); /* unless it was done on this connection */
int result_table_write(struct result_table *table, struct result_row **rows, size_t count, struct err *err); /* one transaction, which is over */

int result_table_make_revokes(struct result_table *table, struct err *err);
int result_table_write_revoke(struct result_table *table, const struct result_row *row, struct err *err);
void result_table_poll_revokes(struct result_table *table); /* now and then: it knows when */
void result_table_forget_revokes(struct result_table *table); /* older than job.revokes_kept_s */

#endif
