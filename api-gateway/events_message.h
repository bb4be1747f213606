/* events_message: the text of server-sent events for product events. Uses record.
 *
 * A message is its place, "id: 1-<next offset>-<next offset>…", which differs from client to client, and behind it what all get. */
#ifndef FEEDMILL_API_GATEWAY_EVENTS_MESSAGE_H
#define FEEDMILL_API_GATEWAY_EVENTS_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/queue/record.h"

void events_message_place(struct buf *out, const int64_t *next, size_t count); /* adds the place */
void events_message_text(struct buf *out, const struct record *record);        /* adds the rest: "/<event id>", name, data, the end */

#endif
