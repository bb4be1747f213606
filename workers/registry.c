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

/* Where relay brings events to. */
#define SINKS(S) \
	S(rabbitmq, "RabbitMQ: a topic exchange") \
	S(redis,    "Redis: a channel")

#define DECLARE(name, reads, writes) extern const struct worker_ops name##_worker;
WORKERS(DECLARE)
#define DECLARE_SINK(name, writes) extern const struct worker_ops relay_##name##_sink;
SINKS(DECLARE_SINK)

#define SINK(name, writes) { "relay." #name, TOPIC_PRODUCT_EVENTS, writes, &relay_##name##_sink, NULL, 0, NULL },
static const struct worker_entry relay_sinks[] = { SINKS(SINK) };

/* Reads no topic, and runs itself. */
int job_worker_run(const struct settings *settings);

#define ROW(name, reads, writes) { #name, reads, writes, &name##_worker, NULL, 0, NULL },
const struct worker_entry worker_table[] = {
	WORKERS(ROW)
	{ "relay", TOPIC_PRODUCT_EVENTS, "RabbitMQ, Redis, webhooks: product events", NULL, relay_sinks, sizeof(relay_sinks) / sizeof(relay_sinks[0]), NULL },
	{ "job", "RabbitMQ", "results: rpc, database; celeryev; whatever its handlers do", NULL, NULL, 0, job_worker_run },
};
const size_t worker_count = sizeof(worker_table) / sizeof(worker_table[0]);

const struct worker_entry *worker_find(const char *name)
{
	for (size_t i = 0; i < worker_count; i++)
		if (strcmp(worker_table[i].name, name) == 0)
			return &worker_table[i];
	return NULL;
}
