/* result_clean: deletes results that have expired from job.result_table, and groups of them that clients have saved from job.group_table, by
 * a thread with a connection of its own, so that results are not held up by it. */
#ifndef FEEDMILL_WORKERS_CELERY_RESULT_CLEAN_H
#define FEEDMILL_WORKERS_CELERY_RESULT_CLEAN_H

#include "common/base/settings.h"
#include "common/store/store.h"

#define RESULT_CLEAN_ROWS 1000 /* that one step looks at */

struct result_clean;

struct result_clean *result_clean_start(const struct settings *settings); /* settings stay the caller's; waits to be told */
void result_clean_now(struct result_clean *clean);                        /* the table is there; any thread */
void result_clean_stop(struct result_clean *clean);                       /* after the step under way; NULL is fine */

/* One step in a table, named as settings have it: deletes what was done before that time ("2026-11-21 19:00:00.000") of the RESULT_CLEAN_ROWS
 * rows that follow *id, and moves *id behind them. *more false: there are none left to look at. On failure *id stays. */
int result_clean_step(struct store *store, const char *table, struct slice before, int64_t *id, bool *more, struct err *err);

#endif
