/* jobs: results of jobs, as workers keep them in Celery's own table: celery_taskmeta(task_id, status, result, …). Uses store, model. */
#ifndef FEEDMILL_STORE_JOBS_H
#define FEEDMILL_STORE_JOBS_H

#include "common/base/buf.h"
#include "common/store/store.h"

struct job_state {
	bool found;
	char status[32];   /* Celery's: SUCCESS, FAILURE, REVOKED, STARTED, RETRY, … */
	bool is_readable;  /* else the result is a Python object of its own */
	struct buf result; /* JSON; starts as BUF_INIT, the caller's to release */
};

/* A table that is not there yet has no rows. */
int job_state_read(struct store *store, struct slice id, struct job_state *out, struct err *err);

#endif
