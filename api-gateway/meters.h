/* meters: what the gateway counts for /metrics; what became of records, the queue counts. Uses metrics. */
#ifndef FEEDMILL_API_GATEWAY_METERS_H
#define FEEDMILL_API_GATEWAY_METERS_H

#include <stdint.h>

#include "api-gateway/gateway.h"
#include "api-gateway/router.h"
#include "common/store/idempotency.h"

void meters_init(struct gateway *gateway); /* once, when all but the servers is open */

/* A request was answered; route NULL: it reached none. */
void meters_answered(const struct route *route, int status, int64_t took_us);

/* What came of an Idempotency-Key: an enum reserved, or */
#define KEY_NOT_KEPT (RESERVED_OTHER + 1) /* an answer went out and is not there for the next attempt */
#define KEY_EVENTS (KEY_NOT_KEPT + 1)
void meters_key(int event);

int64_t meters_total(void); /* answers so far */

#endif
