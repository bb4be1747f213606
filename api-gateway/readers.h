/* readers: threads that ask the store and the search engine, so that no HTTP thread ever waits for them. Uses store, search.
 *
 * There are gateway.readers of them, each with connections of its own. What they are to do waits in queues of bounded
 * length, and no longer than each has time to: then it is handed back, whatever the threads hang on. Searches get half of the threads at most, so that a search engine that hangs leaves the rest to the store. */
#ifndef FEEDMILL_API_GATEWAY_READERS_H
#define FEEDMILL_API_GATEWAY_READERS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/store/search.h"
#include "common/store/store.h"

struct reader {
	struct store *store;
	struct search *search;
};

enum read_from {
	READ_ANSWER, /* comes first: an answer that is to be kept in the store before it is given; the request is done */
	READ_STORE,
	READ_SEARCH,
	READ_FROM_COUNT,
};
/* reader NULL: nothing was asked, because the time was up or the gateway stops; must not block then. */
typedef void read_fn(const struct reader *reader, void *arg);

struct readers;

int readers_open(const struct settings *settings, struct readers **out, struct err *err);
/* `read` is called on another thread, later, once: on a reader's, or without one when none was free by begin_by_ms (monotonic
 * clock). -1: ERR_FULL, it will not be called. */
int readers_add(struct readers *readers, enum read_from from, read_fn *read, void *arg, int64_t begin_by_ms, struct err *err);
size_t readers_busy(struct readers *readers); /* reads that wait or are under way */
void readers_stop(struct readers *readers);   /* begins no more: what waits is handed back at once, what comes is ERR_FULL */
void readers_close(struct readers *readers);  /* waits for reads under way; NULL is fine */

#endif
