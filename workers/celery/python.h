/* python: JSON values as Python shows them, and exceptions as a Python client reads them. */
#ifndef FEEDMILL_WORKERS_CELERY_PYTHON_H
#define FEEDMILL_WORKERS_CELERY_PYTHON_H

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "workers/jobs/job.h"

void python_repr(struct buf *out, const struct json *node, size_t max); /* cut at max bytes, with "..." */
void python_repr_json(struct buf *out, struct slice json, size_t max);  /* of a text; what is no JSON is shown as it is */
void python_repr_text(struct buf *out, struct slice text);

void python_exception(struct buf *out, const struct job_reply *reply);      /* {"exc_type":…, "exc_message":[…], "exc_module":…} */
void python_exception_repr(struct buf *out, const struct job_reply *reply); /* ValueError('boom') */

#endif
