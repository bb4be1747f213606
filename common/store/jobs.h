/* jobs: results of jobs, as workers keep them in Celery's own table: celery_taskmeta(task_id, status, result, …), or as job.result_table calls
 * it. Uses store, model, signer.
 *
 * A table is named as settings have it: "name", or "database.name" for another database of the same server. They see to it that this is
 * letters, digits and _ alone; it may still be a word of SQL, and is quoted. */
#ifndef FEEDMILL_STORE_JOBS_H
#define FEEDMILL_STORE_JOBS_H

#include "common/base/buf.h"
#include "common/store/store.h"

struct signer;

struct job_state {
	const struct signer *signer; /* set by the caller, to read results that are signed, and by job.database_format those alone; NULL: they are not readable */
	bool found;
	char status[32];   /* Celery's: SUCCESS, FAILURE, REVOKED, STARTED, RETRY, … */
	bool is_readable;  /* else the result is a Python object of its own, or not signed as it should be */
	struct buf result; /* JSON; starts as BUF_INIT, the caller's to release */
};

/* A table that is not there yet has no rows. */
int job_state_read(struct store *store, const char *table, struct slice id, struct job_state *out, struct err *err);

/* As the gateway and feedctl show it: {"id", "status", "result" or "error"}; status: pending, started, retry, done, failed, revoked. */
void job_state_write(struct slice id, const struct job_state *state, struct buf *out);
const char *job_state_word(const char *status); /* that status of Celery's; NULL: it is none that is shown, which is pending */

/* For statements: the table's name; that of something else in the same database; and, of MySQL's information_schema, that it is this table. */
void job_table_add(struct buf *sql, const char *table);
void job_table_beside(struct buf *sql, const char *table, const char *name);
void job_table_where(struct buf *sql, const char *table);

#endif
