/* request_log: a line on Kafka for each request on participants, friends, inbound and outbound that was answered well, for
 * analytics: `yyyy|MM|dd|HH|mm|entity|operation|milliseconds`, the time being that of the answer in the process's zone
 * (setting gateway.zone, as for `occurred` dates). Uses router, queue, metrics.
 *
 * Setting gateway.request_log_topic; empty: off. Nothing ever waits for the log: a line that can't go is dropped and counted
 * (feedmill_gateway_request_log_dropped_total). It has a small queue of its own, so that it takes no room from posts. */
#ifndef FEEDMILL_API_GATEWAY_REQUEST_LOG_H
#define FEEDMILL_API_GATEWAY_REQUEST_LOG_H

#include <stdint.h>

#include "api-gateway/router.h"
#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/queue/queue.h"

struct request_log;

/* *out is NULL when the log is off. Keeps queue. */
int request_log_open(const struct settings *settings, struct queue *queue, struct request_log **out, struct err *err);
void request_log_close(struct request_log *log); /* NULL is fine */

/* A request was answered. log NULL, route NULL, and routes that the log does not know are fine. Any thread. */
void request_log_add(struct request_log *log, const struct route *route, int status, int64_t took_us);

#endif
