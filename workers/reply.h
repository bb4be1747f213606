/* reply: the result that a gateway waits for: a record of feed.results in the partition with its number. */
#ifndef FEEDMILL_WORKERS_REPLY_H
#define FEEDMILL_WORKERS_REPLY_H

#include "common/model/command.h"
#include "workers/worker.h"

bool reply_wanted(const struct record *record, int32_t *gateway); /* header HEADER_REPLY is there and a gateway's number */

/* What came of item i, to the gateway that waits for it; nothing when none does. */
void reply_emit(struct batch *batch, size_t i, const struct result *result);
/* A post has reached all friends: the result of its command. */
void reply_post_done(struct batch *batch, size_t i, int64_t post);

#endif
