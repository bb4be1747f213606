/* elastic_bulk: the two texts of Elasticsearch's and OpenSearch's _bulk call: the lines that go out, the verdicts that come back.
 * Uses json, search. No I/O. */
#ifndef FEEDMILL_STORE_ELASTIC_BULK_H
#define FEEDMILL_STORE_ELASTIC_BULK_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/store/search.h"

/* What of the answer is asked for: all that bulk_read() reads. */
#define BULK_FILTER "took,errors,items.*.status,items.*.error.type,items.*.error.reason"

/* The two lines that create one document, each with its line break. */
void bulk_write(struct buf *out, const struct search_document *document);

/* Gives each document its result, from the items of the answer in order. -1, ERR_UNAVAILABLE: the index is not there or is closed,
 * or this is not the answer to these documents; results are then of no meaning. */
int bulk_read(struct slice answer, const char *index, struct search_document *documents, size_t count, struct err *err);

/* "the index X is not there: run `feedctl migrate`"; ERR_UNAVAILABLE; -1. */
int bulk_no_index(const char *index, struct err *err);

#endif
