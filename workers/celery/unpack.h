/* unpack: bodies that were compressed (kombu's header `compression`) or written as base64. The only user of zlib. */
#ifndef FEEDMILL_WORKERS_CELERY_UNPACK_H
#define FEEDMILL_WORKERS_CELERY_UNPACK_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

/* How: "application/x-gzip" (a zlib stream, as kombu writes it) and its other names. ERR_INVALID: another, broken, larger than max. */
int unpack_zlib(struct slice how, struct slice packed, size_t max, struct buf *out, struct err *err);

int unpack_base64(struct slice text, struct buf *out, struct err *err); /* RFC 4648, line breaks allowed */

#endif
