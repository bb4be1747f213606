/* idempotency_key: the request header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a string of RFC 8941, "…",
 * or, as many clients send it, the same without quotes. Uses base. */
#ifndef FEEDMILL_API_GATEWAY_IDEMPOTENCY_KEY_H
#define FEEDMILL_API_GATEWAY_IDEMPOTENCY_KEY_H

#include <stdbool.h>

#include "common/base/str.h"
#include "common/store/idempotency.h"

#define IDEMPOTENCY_KEY_HEADER "Idempotency-Key"

/* The key without quotes and escapes. false: it is empty, longer than 255 characters, or has others than visible ASCII (without
 * quotes also none of " , ; [ \ ]). */
bool idempotency_key_read(struct slice header, char out[IDEMPOTENCY_KEY]);

#endif
