/* THE TABLE of workers: one line for each. The list is also the map of the system: what it reads, and where effects go. */
#include <string.h>

#include "common/queue/topics.h"
#include "workers/worker.h"

#define WORKERS(W) \
	/* name     reads           a RETRY is done  writes */ \
	W(command,  TOPIC_COMMANDS, RETRY_IN_PLACE, "store: participant, friend, product, command; product_events, feed.results") \
	W(fanout,   TOPIC_POSTS,    RETRY_BY_TOPIC, "store: outbound, inbound, fanout_chunk; feed.chunks, feed.results") \
	W(chunk,    TOPIC_CHUNKS,   RETRY_BY_TOPIC, "store: inbound, fanout_chunk; feed.results") \
	W(index,    TOPIC_POSTS,    RETRY_BY_TOPIC, "search: feed")

/* Where relay brings events to. */
#define SINKS(S) \
	S(rabbitmq, "RabbitMQ: a topic exchange") \
	S(redis,    "Redis: a channel") \
	S(webhook,  "store: webhook_delivery; signed requests to subscribers")

#define DECLARE(name, reads, retries, writes) extern const struct worker_ops name##_worker;
WORKERS(DECLARE)
#define DECLARE_SINK(name, writes) extern const struct worker_ops relay_##name##_sink;
SINKS(DECLARE_SINK)

#define SINK(name_, writes_) \
	{ .name = "relay." #name_, .topic = TOPIC_PRODUCT_EVENTS, .writes = writes_, .ops = &relay_##name_##_sink, .retries = RETRY_IN_PLACE },
static const struct worker_entry relay_sinks[] = { SINKS(SINK) };

/* Reads no topic, and runs itself. */
int job_worker_run(const struct settings *settings);

#define ROW(name_, reads, retries_, writes_) \
	{ .name = #name_, .topic = reads, .writes = writes_, .ops = &name_##_worker, .retries = retries_ },
const struct worker_entry worker_table[] = {
	WORKERS(ROW)
	{ .name = "relay", .topic = TOPIC_PRODUCT_EVENTS, .writes = "RabbitMQ, Redis, webhooks: product events", .sinks = relay_sinks,
		.sink_count = sizeof(relay_sinks) / sizeof(relay_sinks[0]) },
	{ .name = "job", .topic = "RabbitMQ", .writes = "results: rpc, database; celeryev; whatever its handlers do", .run = job_worker_run },
};
const size_t worker_count = sizeof(worker_table) / sizeof(worker_table[0]);

const struct worker_entry *worker_find(const char *name)
{
	for (size_t i = 0; i < worker_count; i++)
		if (strcmp(worker_table[i].name, name) == 0)
			return &worker_table[i];
	return NULL;
}
