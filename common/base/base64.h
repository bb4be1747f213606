/* base64: RFC 4648, section 4, with padding. Uses buf. */
#ifndef FEEDMILL_BASE_BASE64_H
#define FEEDMILL_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/str.h"

void base64_encode(struct buf *out, const void *bytes, size_t len);
bool base64_decode(struct buf *out, struct slice text); /* false: not base64, out is as it was. Strict: no spaces, padding whole */

#endif
