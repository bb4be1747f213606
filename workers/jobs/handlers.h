/* handlers: the functions behind the table of jobs; each is a job_fn, see job.h. */
#ifndef FEEDMILL_WORKERS_JOBS_HANDLERS_H
#define FEEDMILL_WORKERS_JOBS_HANDLERS_H

#include "workers/jobs/job.h"

/* What a program or an endpoint is told of a call: {"id", "task", "args", "kwargs", "retries"}. */
void job_write_call(const struct job_call *call, struct buf *out);

/* A line that job_exec takes: fewer than 4096 bytes, and 64 words. */
bool job_exec_takes(struct slice line);

job_fn job_exec, job_http;
job_fn job_echo, job_add, job_sleep, job_fail_always, job_flaky, job_reject_always, job_ignore_always, job_crash;
job_fn job_email_send, job_webhook_deliver, job_image_resize, job_feed_post, job_feed_befriend;

#endif
