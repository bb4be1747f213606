/* A librdkafka handle goes in; whether the cluster is in reach, and which of our topics it has, comes out.
 *
 * librdkafka says when all connections are gone, but not when one is back, and an idle connection that a broker closes looks
 * like a broker that died. So a thread asks for metadata: now and then, at once when the brokers are said to be down, and all
 * the time while they are. */
#include "common/queue/queue_kafka.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/mem.h"

enum {
	ASK_EVERY_MS = 5000,
	ASK_MISSING_MS = 500,   /* while a topic of ours is not there */
	ASK_AWAY_MS = 100,      /* between two questions while nobody answers */
	ANSWER_MS = 2000,       /* a healthy cluster answers in milliseconds; a collector's pause may last this long */
	ANSWER_SUSPECT_MS = 1000, /* connections are gone: enough to make a new one, also where the processors are busy */
	WAKE_MS = 500,
};

void kafka_link_alive(struct kafka_link *link)
{
	atomic_store_explicit(&link->alive_ms, clock_mono_ms(), memory_order_relaxed);
}

/* ---- what the cluster says of our topics */

static const struct rd_kafka_metadata_topic *find(const struct rd_kafka_metadata *seen, const char *name)
{
	for (int i = 0; i < seen->topic_cnt; i++) {
		if (strcmp(seen->topics[i].topic, name) == 0)
			return &seen->topics[i];
	}
	return NULL;
}

/* A topic handle is made when the topic is known to be there: naming it earlier may make some brokers create it. */
static void learn_topic(struct kafka_link *link, size_t i, const struct rd_kafka_metadata *seen)
{
	struct kafka_topic *topic = &link->topics[i];
	const struct rd_kafka_metadata_topic *found;
	char name[KAFKA_NAME_MAX];
	bool there;

	kafka_name(link->queue, topic_table[i].name, name);
	found = find(seen, name);
	there = found != NULL && found->err == RD_KAFKA_RESP_ERR_NO_ERROR && found->partition_cnt > 0;
	if (found != NULL && !there && kafka_kind(found->err) != ERR_INVALID)
		return; /* leaders are being elected, say: what we know stands */
	if (there && topic->topic == NULL)
		topic->topic = rd_kafka_topic_new(link->rk, name, NULL);
	if (there && topic->topic == NULL)
		return;
	atomic_store(&topic->partitions, there ? found->partition_cnt : 0);
}

static void learn(struct kafka_link *link, const struct rd_kafka_metadata *seen)
{
	size_t missing = 0;

	if (link->topics == NULL)
		return;
	for (size_t i = 0; i < topic_count; i++) {
		learn_topic(link, i, seen);
		missing += atomic_load(&link->topics[i].partitions) == 0;
	}
	atomic_store(&link->missing, missing);
}

/* ---- asking */

/* All topics are asked for while one is missing: asking for it by name may create it, and a subscription looks again only when
 * it hears of all. */
static void ask(struct kafka_link *link, int timeout_ms)
{
	const struct rd_kafka_metadata *seen = NULL;
	int64_t began_ms = clock_mono_ms();
	bool all = atomic_load(&link->missing) > 0;

	if (rd_kafka_metadata(link->rk, all, NULL, &seen, timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR) {
		if (atomic_load(&link->alive_ms) < began_ms)
			atomic_store(&link->reachable, false);
		return;
	}
	learn(link, seen);
	rd_kafka_metadata_destroy(seen);
	kafka_link_alive(link);
	atomic_store(&link->reachable, true);
}

/* A broker's thread that stopped fetching because our queue was full sleeps up to a second, whatever has become of the
 * queue since (librdkafka before 2.2). A question to the partitions' leaders wakes it. */
static void wake_fetchers(struct kafka_link *link)
{
	rd_kafka_topic_partition_list_t *owned = NULL;

	if (rd_kafka_assignment(link->rk, &owned) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	for (int i = 0; i < owned->cnt; i++)
		owned->elems[i].offset = RD_KAFKA_OFFSET_END;
	if (owned->cnt > 0)
		rd_kafka_offsets_for_times(link->rk, owned, WAKE_MS);
	rd_kafka_topic_partition_list_destroy(owned);
}

static int pause_ms(const struct kafka_link *link)
{
	if (!atomic_load(&link->reachable))
		return ASK_AWAY_MS;
	return atomic_load(&link->missing) > 0 ? ASK_MISSING_MS : ASK_EVERY_MS;
}

/* With the lock held. Waits for something to do, until `when`; true: the time has come to ask. */
static bool wait_for_work(struct kafka_link *link, const struct timespec *when)
{
	while (!link->stop && !link->suspect && !link->nudged) {
		if (pthread_cond_timedwait(&link->wake, &link->lock, when) == ETIMEDOUT)
			return true;
	}
	return link->suspect;
}

static void *watch(void *arg)
{
	struct kafka_link *link = arg;
	struct timespec when = cond_until(clock_mono_ms());

	pthread_mutex_lock(&link->lock);
	while (!link->stop) {
		bool due = wait_for_work(link, &when);
		bool suspect = link->suspect;
		bool nudged = link->nudged;

		link->suspect = link->nudged = false;
		if (link->stop)
			break;
		pthread_mutex_unlock(&link->lock);
		if (nudged)
			wake_fetchers(link);
		if (due) {
			ask(link, suspect || !atomic_load(&link->reachable) ? ANSWER_SUSPECT_MS : ANSWER_MS);
			when = cond_until(clock_mono_ms() + pause_ms(link));
		}
		pthread_mutex_lock(&link->lock);
	}
	pthread_mutex_unlock(&link->lock);
	return NULL;
}

static void signal_watch(struct kafka_link *link, bool *flag)
{
	pthread_mutex_lock(&link->lock);
	*flag = true;
	pthread_cond_signal(&link->wake);
	pthread_mutex_unlock(&link->lock);
}

void kafka_link_suspect(struct kafka_link *link)
{
	signal_watch(link, &link->suspect);
}

void kafka_link_nudge(struct kafka_link *link)
{
	signal_watch(link, &link->nudged);
}

/* ---- life */

/* The previous one's thread may still be learning: a topic's handle is its own until partitions says that it is there. */
static void take_over(struct kafka_link *link, const struct kafka_link *previous)
{
	for (size_t i = 0; link->topics != NULL && i < topic_count; i++) {
		int32_t partitions = atomic_load(&previous->topics[i].partitions);
		char name[KAFKA_NAME_MAX];

		if (partitions == 0)
			continue;
		kafka_name(link->queue, topic_table[i].name, name);
		link->topics[i].topic = rd_kafka_topic_new(link->rk, name, NULL);
		atomic_store(&link->topics[i].partitions, link->topics[i].topic != NULL ? partitions : 0);
	}
	atomic_store(&link->missing, atomic_load(&previous->missing));
	atomic_store(&link->reachable, atomic_load(&previous->reachable));
}

struct kafka_link *kafka_link_new(const struct kafka_queue *queue, rd_kafka_t *rk, bool sends, const struct kafka_link *previous)
{
	struct kafka_link *link = mem_zalloc(sizeof(*link));

	link->rk = rk;
	link->queue = queue;
	if (sends)
		link->topics = mem_array(topic_count, sizeof(*link->topics));
	atomic_store(&link->missing, sends ? topic_count : 0);
	if (previous != NULL)
		take_over(link, previous);
	pthread_mutex_init(&link->lock, NULL);
	cond_init(&link->wake);
	if (pthread_create(&link->thread, NULL, watch, link) != 0)
		abort(); /* as mem: no thread, no process */
	return link;
}

void kafka_link_stop(struct kafka_link *link)
{
	signal_watch(link, &link->stop);
	pthread_join(link->thread, NULL);
}

void kafka_link_drop_topics(struct kafka_link *link)
{
	for (size_t i = 0; link->topics != NULL && i < topic_count; i++) {
		if (link->topics[i].topic != NULL)
			rd_kafka_topic_destroy(link->topics[i].topic);
		link->topics[i].topic = NULL;
	}
}

void kafka_link_free(struct kafka_link *link)
{
	pthread_cond_destroy(&link->wake);
	pthread_mutex_destroy(&link->lock);
	free(link->topics);
	free(link);
}
