/* unpickle: a Python pickle of plain values (None, bool, numbers, str, list, tuple, dict), as Celery's database back end keeps
 * results, read as JSON. Uses base. Format: Python's pickletools, protocols 2 to 5.
 *
 * Nothing is ever called or made: an opcode that would is refused like any other that plain values do not need. One call is read, as what it
 * is called with: kombu.utils.json.object_hook, by which our worker writes {"__type__": T, "__value__": V}. */
#ifndef FEEDMILL_MODEL_UNPICKLE_H
#define FEEDMILL_MODEL_UNPICKLE_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

/* Adds a JSON text to out. ERR_INVALID: it is broken, or has other than plain values, and out is as it was. A number that JSON
 * does not have is null; a key that is no text becomes one. */
int unpickle(struct slice pickle, struct buf *out, struct err *err);

#endif
