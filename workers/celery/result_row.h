/* result_row: one result on its way into the results' table, or one revoked id on its way into job_revoked. */
#ifndef FEEDMILL_WORKERS_CELERY_RESULT_ROW_H
#define FEEDMILL_WORKERS_CELERY_RESULT_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

struct signer;
struct task;

/* All texts are copies of its own. */
struct result_row {
	struct result_row *next;
	struct task *task;       /* that waits for it, or NULL */
	char id[256];
	char status[16];
	struct buf result;       /* JSON; empty: null */
	struct buf value;        /* the result as the table keeps it; empty: not made yet */
	struct buf trace;
	struct buf name, args, kwargs, worker, queue, stamps; /* extended: where the table has these columns; args, kwargs and stamps are JSON */
	struct buf children;     /* JSON list; likewise */
	const struct signer *signer; /* result, args, kwargs, stamps and children are written signed by it; NULL: they are not */
	bool is_signed;          /* the last four are, by now */
	int64_t retries;
	int64_t done_wall_ms;    /* 0: not in a state that is an end */
	bool is_revoke;          /* only the id, for job_revoked */
	size_t place;            /* among those that are written with it */
};

struct result_row *result_row_new(struct slice id, const char *status);
void result_row_free(struct result_row *row); /* NULL is fine */

/* Makes the value by job.database_format, and signs what is beside it: each once, however often it is asked for, as a signature takes its time. */
void result_row_encode(struct result_row *row, const char *format);

/* A value that the table does not take becomes a FAILURE that says so. */
void result_row_fail(struct result_row *row, const struct err *why);

/* By id, so that nodes take their locks in one order; of one id the later row stays the later. */
void result_rows_sort(struct result_row **rows, size_t count);

#endif
