/* webhook_sign: the signature of a webhook call, as Standard Webhooks has it: HMAC-SHA256 with the bytes behind "whsec_" over
 * "<id>.<timestamp>.<body>", base64, after "v1,". Uses base64, sha256. */
#ifndef FEEDMILL_WORKERS_WEBHOOK_SIGN_H
#define FEEDMILL_WORKERS_WEBHOOK_SIGN_H

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

/* Adds the value of the header webhook-signature. -1: ERR_INVALID, the secret is none. */
int webhook_sign(struct buf *out, struct slice secret, struct slice id, int64_t timestamp_s, struct slice body, struct err *err);

#endif
