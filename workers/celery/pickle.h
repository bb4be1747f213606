/* pickle: JSON values as Python pickles, for the results' table. Writing alone: nothing is ever read from a pickle here.
 * Bytes, dates, decimals and uuids, as kombu (5.3 and later) has them in JSON, become what they are in Python. */
#ifndef FEEDMILL_WORKERS_CELERY_PICKLE_H
#define FEEDMILL_WORKERS_CELERY_PICKLE_H

#include "common/base/buf.h"
#include "common/base/json.h"

void pickle_write(struct buf *out, const struct json *node); /* protocol 2 */

#endif
