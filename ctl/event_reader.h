/* event_reader: finds one event in product_events, as a subscriber would who begins to listen now. Uses queue. */
#ifndef FEEDMILL_CTL_EVENT_READER_H
#define FEEDMILL_CTL_EVENT_READER_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/settings.h"

struct event_reader;

/* Remembers where each partition ends now: what is written later is read. */
int event_reader_open(const struct settings *settings, struct event_reader **out, struct err *err);
void event_reader_close(struct event_reader *reader); /* NULL is fine */

struct event {
	int32_t partition;
	int64_t offset;
	char id[64];       /* header ce_id */
	struct buf value;
};

/* The next event with that product id and action. -1: none within the time, ERR_UNAVAILABLE. */
int event_reader_find(struct event_reader *reader, int64_t product, const char *action, int64_t timeout_ms, struct event *out, struct err *err);

#endif
