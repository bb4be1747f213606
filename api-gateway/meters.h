/* meters: what the gateway counts for /metrics. Uses metrics. */
#ifndef FEEDMILL_API_GATEWAY_METERS_H
#define FEEDMILL_API_GATEWAY_METERS_H

#include <stdint.h>

#include "api-gateway/gateway.h"
#include "api-gateway/router.h"

void meters_init(struct gateway *gateway); /* once, when all but the servers is open */

/* A request was answered; route NULL: it reached none. */
void meters_answered(const struct route *route, int status, int64_t took_us);

/* What became of a record that was to be produced. */
enum meter_record { RECORD_STORED, RECORD_NOT, RECORD_UNKNOWN, RECORD_REFUSED, RECORD_OUTCOMES };
void meters_record(enum meter_record outcome);

#endif
