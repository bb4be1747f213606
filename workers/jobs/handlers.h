/* handlers: the functions behind the table of jobs; each is a job_fn, see job.h. */
#ifndef FEEDMILL_WORKERS_JOBS_HANDLERS_H
#define FEEDMILL_WORKERS_JOBS_HANDLERS_H

#include "workers/jobs/job.h"

job_fn job_echo, job_add, job_sleep, job_fail_always, job_flaky, job_crash;

#endif
