/* unpack: bodies that were compressed (kombu's header `compression`) or written as base64. The only user of zlib, libbz2, liblzma,
 * libzstd and libbrotlidec. */
#ifndef FEEDMILL_WORKERS_CELERY_UNPACK_H
#define FEEDMILL_WORKERS_CELERY_UNPACK_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

/* How: "application/x-gzip" (a zlib stream, as kombu writes it), "application/x-bz2", "application/x-lzma" (xz, or lzma's own), "application/zstd",
 * "application/x-brotli", and their other names. ERR_INVALID: another, broken, larger than max. */
int unpack_compressed(struct slice how, struct slice packed, size_t max, struct buf *out, struct err *err);

int unpack_base64(struct slice text, struct buf *out, struct err *err); /* RFC 4648, line breaks allowed */

#endif
