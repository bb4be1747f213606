/* The name of a worker goes in; its process runs until it is asked to stop. */
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/http/http_client.h"
#include "common/http/http_server.h"
#include "common/queue/queue.h"
#include "common/store/store.h"
#include "workers/engine/engine.h"
#include "workers/worker.h"

#define MEMORY_POOLS 4      /* of malloc, for a dozen threads, most of them librdkafka's */
#define LARGE_BYTES 131072  /* what was fetched at once, or a long statement */

/* One line for each worker that reads topics, and is always wanted: name, topic, where its effects go; or for each of the others.
 * Lives until the next call. */
static const char *list(bool of_topics)
{
	static struct buf text = BUF_INIT;

	buf_reset(&text);
	for (size_t i = 0; i < worker_count; i++)
		if ((worker_table[i].run == NULL) == of_topics)
			buf_addf(&text, "%-9s %-15s %s\n", worker_table[i].name, worker_table[i].topic, worker_table[i].writes);
	return text.data;
}

static const char *details(void)
{
	static struct buf text = BUF_INIT;

	buf_reset(&text);
	buf_addf(&text, "NAME is one of (with the topic that it reads, and what it writes):\n%s"
		"feed-worker --list prints this table alone.\n"
		"NAME-REPLICA, such as fanout-2, runs the same worker: the rest is for lists of processes.\n"
		"Where RabbitMQ runs (setting amqp.url), there is also:\n", list(true));
	buf_add_str(&text, list(false));
	return text.data;
}

static const char *libraries(void)
{
	static struct buf text = BUF_INIT;

	buf_reset(&text);
	buf_addf(&text, "%s, %s, %s, %s", queue_library(), store_library(), http_client_library(), http_server_library());
	return text.data;
}

static const char *names(void)
{
	static struct buf text = BUF_INIT;

	buf_reset(&text);
	for (size_t i = 0; i < worker_count; i++)
		buf_addf(&text, "%s%s", i > 0 ? ", " : "", worker_table[i].name);
	return text.data;
}

/* "fanout-2" is the worker fanout: what follows the dash tells replicas apart in lists of processes and units, no more. */
static const struct worker_entry *find(const char *word)
{
	const char *dash = strchr(word, '-');
	char name[64];

	snprintf(name, sizeof(name), "%.*s", dash != NULL && dash[1] != '\0' ? (int)(dash - word) : (int)strlen(word), word);
	return worker_find(name);
}

static int run(const struct settings *settings, int argc, char **argv)
{
	const struct worker_entry *entry;

	if (argc != 1)
		return program_usage("one worker a process, please: %s", names());
	entry = find(argv[0]);
	if (entry == NULL)
		return program_usage("no worker is called \"%s\"; there are: %s", argv[0], names());
	mem_keep_little(MEMORY_POOLS, LARGE_BYTES);
	return entry->run != NULL ? entry->run(settings) : engine_run(entry, settings);
}

static const struct program feed_worker = {
	.name = "feed-worker",
	.summary = "runs one worker: takes records from its topic and brings about what they say",
	.synopsis = "NAME[-REPLICA]",
	.details = details,
	.libraries = libraries,
	.run = run,
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return fputs(list(true), stdout) < 0;
	return program_main(&feed_worker, argc, argv);
}
