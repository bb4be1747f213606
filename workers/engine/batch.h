/* batch: the outbox behind batch_emit(): copies of records that are sent when handle() has returned 0. */
#ifndef FEEDMILL_WORKERS_ENGINE_BATCH_H
#define FEEDMILL_WORKERS_ENGINE_BATCH_H

#include "workers/worker.h"

struct parcel;

struct outbox {
	struct parcel **parcels;
	size_t count, size;
};

void outbox_add(struct outbox *outbox, const struct record *record); /* copies all but `handle`, which stays borrowed */
const struct record *outbox_at(const struct outbox *outbox, size_t i);
void outbox_clear(struct outbox *outbox);   /* forgets the records, keeps the memory */
void outbox_release(struct outbox *outbox);

/* The trace id of a record for a log line, "" when it has none. */
void record_trace(const struct record *record, char out[33]);

#endif
