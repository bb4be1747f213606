/* events: product events for clients that listen (server-sent events): one thread follows the topic for all of them, another brings those up
 * to date that come back with the id of the last event they saw. Uses queue, http_server.
 *
 * An id is opaque to clients: "1-<offset>-<offset>…/<event id>", the next offset of each partition, so that any gateway can go on where
 * another stopped. Per product events come in order; after a break some may come again. */
#ifndef FEEDMILL_API_GATEWAY_EVENTS_H
#define FEEDMILL_API_GATEWAY_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/http/http_server.h"
#include "common/queue/queue.h"

#define EVENTS_PARTITIONS 256
#define EVENTS_WAITING (256 * 1024) /* bytes of one client that it has not taken; then it is dropped */

struct events;

struct events_place {
	int64_t next[EVENTS_PARTITIONS]; /* offset of each partition */
	size_t count;                    /* of those that were named; the others: from the beginning */
};
bool events_parse(struct slice id, struct events_place *out); /* false: no id of ours */

int events_open(const struct settings *settings, struct queue *queue, struct events **out, struct err *err);
/* Whether one more can listen: -1 ERR_UNAVAILABLE (the queue is not there yet, or the gateway stops), ERR_FULL. */
int events_room(struct events *events, struct err *err);
/* Takes the stream. place NULL: from now on. */
void events_add(struct events *events, struct http_stream *stream, const struct events_place *place);
size_t events_clients(struct events *events);
void events_stop(struct events *events);  /* ends all streams before it returns, and each that comes */
void events_close(struct events *events); /* NULL is fine */

#endif
