/* files: what handlers read and write: files below the folder job.files, or URLs that are on the public internet. A place is a
 * relative path, or a text that begins with http:// or https://. Nothing outside of the folder is in reach, by ".." or by a link. */
#ifndef FEEDMILL_WORKERS_JOBS_FILES_H
#define FEEDMILL_WORKERS_JOBS_FILES_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"
#include "workers/jobs/job.h"

/* The whole of it, at most job.file_max bytes; a URL has until the job's soft limit, at most 30 s. -1: ERR_INVALID (no such place, not
 * allowed, larger), ERR_UNAVAILABLE (try again). */
int files_read(const struct job_call *call, struct slice place, struct buf *out, struct err *err);
/* In place of what is there, in one step; a URL gets a PUT. */
int files_write(const struct job_call *call, struct slice place, const char *type, struct slice bytes, struct err *err);

#endif
