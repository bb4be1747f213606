/* child: a process that runs one job after another, and what it and the worker say to each other over its socket: an order with
 * its texts behind it, and an answer with its texts behind it. Both ends are the same program on the same machine. */
#ifndef FEEDMILL_WORKERS_CELERY_CHILD_H
#define FEEDMILL_WORKERS_CELERY_CHILD_H

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/settings.h"
#include "workers/celery/request.h"
#include "workers/jobs/job.h"

struct child_order {
	uint32_t task_len, id_len, body_len;
	int64_t retries, soft_ms;
};

struct child_answer {
	uint32_t outcome, result_len, type_len, module_len, arguments_len, trace_len;
	int64_t delay_ms, max_retries, memory_kib;
};

int child_run(int fd, const struct settings *settings); /* until the other end is closed; the exit code */

void child_write_order(struct buf *out, const struct request *request, int64_t soft_ms);
/* bytes: what has come so far. 1: a whole answer, and *used bytes are done; 0: not yet; -1: no answer at all. */
int child_read_answer(struct slice bytes, struct job_reply *reply, size_t *used);

/* Runs the handler of an entry, whatever it does, to a reply. */
void child_handle(const struct job_call *call, struct job_reply *reply);

#endif
