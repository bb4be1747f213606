/* THE TABLE of workers: one line for each. The list is also the map of the system: what it reads, and where effects go. */
#include <string.h>

#include "common/queue/topics.h"
#include "workers/worker.h"

#define WORKERS(W) \
	/* name     reads           writes */ \
	W(command,  TOPIC_COMMANDS, "store: participant, friend, product, command; product_events, feed.results") \
	W(fanout,   TOPIC_POSTS,    "store: outbound, inbound, fanout_chunk; feed.chunks, feed.results") \
	W(chunk,    TOPIC_CHUNKS,   "store: inbound, fanout_chunk; feed.results") \
	W(index,    TOPIC_POSTS,    "search: feed")

#define DECLARE(name, reads, writes) extern const struct worker_ops name##_worker;
WORKERS(DECLARE)

#define ROW(name, reads, writes) { #name, reads, writes, &name##_worker },
const struct worker_entry worker_table[] = { WORKERS(ROW) };
const size_t worker_count = sizeof(worker_table) / sizeof(worker_table[0]);

const struct worker_entry *worker_find(const char *name)
{
	for (size_t i = 0; i < worker_count; i++)
		if (strcmp(worker_table[i].name, name) == 0)
			return &worker_table[i];
	return NULL;
}
