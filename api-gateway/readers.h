/* readers: threads that ask the store and the search engine, so that no HTTP thread ever waits for them. Uses store, search.
 *
 * There are gateway.readers of them, each with connections of its own. What they are to read waits in two queues of bounded
 * length. Searches get half of the threads at most, so that a search engine that hangs leaves the rest to the store. */
#ifndef FEEDMILL_API_GATEWAY_READERS_H
#define FEEDMILL_API_GATEWAY_READERS_H

#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/store/search.h"
#include "common/store/store.h"

struct reader {
	struct store *store;
	struct search *search;
};

enum read_from { READ_STORE, READ_SEARCH, READ_FROM_COUNT };
typedef void read_fn(const struct reader *reader, void *arg);

struct readers;

int readers_open(const struct settings *settings, struct readers **out, struct err *err);
/* `read` is called on a reader's thread, later. -1: ERR_FULL, it will not be. */
int readers_add(struct readers *readers, enum read_from from, read_fn *read, void *arg, struct err *err);
size_t readers_busy(struct readers *readers); /* reads that wait or are under way */
void readers_close(struct readers *readers);  /* does what waits first; NULL is fine */

#endif
