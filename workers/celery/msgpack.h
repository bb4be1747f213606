/* msgpack: MessagePack, as kombu's serializer of that name writes and reads it, and JSON. The only user of msgpack-c: of its headers, nothing
 * of it is linked.
 *
 * Bytes are {"__type__": "bytes" or "base64", "__value__": text} in JSON, as kombu's own JSON has them. All else of kombu's types is nothing
 * that it can write in MessagePack, and goes from JSON to it as the object that it is there. */
#ifndef FEEDMILL_WORKERS_CELERY_MSGPACK_H
#define FEEDMILL_WORKERS_CELERY_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

#define MSGPACK_TYPE "application/x-msgpack"
#define MSGPACK_ENCODING "binary"

bool msgpack_is(struct slice content_type);

/* One value, whole, with nothing behind it. ERR_INVALID: it is broken, or has what JSON has not: NaN and infinities, texts that are not UTF-8
 * or have a NUL, names of members that are no texts, extension types; it is nested more than JSON_DEPTH levels deep, or has more than
 * max_values, or more than max_len bytes as JSON. What it claims to have and has not costs no memory. out: perhaps a part of it then.
 * A name that is twice in one map goes through: whoever reads the JSON refuses it. */
int msgpack_to_json(struct slice packed, size_t max_values, size_t max_len, struct buf *out, struct err *err);

/* false: it is no JSON, or has a whole number of more than 64 bits; out is as it was. */
bool msgpack_from_json(struct slice json, struct buf *out);

#endif
