/* A group and a topic go in; its backlog comes out, with the time of the oldest record in it. */
#include "common/queue/backlog.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define POLL_MS 100
#define GAP_MS 2000 /* nothing comes from a topic that is in reach: the rest of the partition are no records (marks of transactions) */

static int64_t position_of(const struct partition_lag *lag)
{
	return lag->committed > lag->low ? lag->committed : lag->low;
}

static bool has_more(const struct partition_backlog *partition)
{
	return partition->position < partition->lag.high;
}

/* A place that is lost meanwhile is one that the next question finds elsewhere. */
static void read_time(struct consumer *consumer, const char *topic, struct partition_backlog *partition, int64_t until_ms)
{
	const int64_t began_ms = clock_mono_ms();
	struct err ignored = ERR_INIT;
	struct record record;
	int got = 0;

	if (consumer_assign(consumer, topic, partition->lag.partition, partition->position, POLL_MS, &ignored) < 0)
		return;
	while (got == 0 && clock_mono_ms() < until_ms && (clock_mono_ms() - began_ms < GAP_MS || !consumer_connected(consumer)))
		got = consumer_poll(consumer, POLL_MS, &record, &ignored);
	if (got <= 0)
		return;
	partition->oldest_ms = record.timestamp_ms;
	record_release(&record);
}

static int read_times(struct queue *queue, const char *topic, struct partition_backlog *partitions, size_t count, int64_t until_ms,
	struct err *err)
{
	const struct consumer_options options = { .topic = topic };
	struct consumer *consumer = NULL;

	for (size_t i = 0; i < count; i++) {
		if (!has_more(&partitions[i]))
			continue;
		if (consumer == NULL && consumer_open(queue, &options, &consumer, err) < 0)
			return -1;
		read_time(consumer, topic, &partitions[i], until_ms);
	}
	consumer_close(consumer);
	return 0;
}

int backlog_ask(struct queue *queue, const char *group, const char *topic, struct partition_backlog *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err)
{
	const int64_t until_ms = clock_mono_ms() + timeout_ms;
	struct partition_lag *lags = mem_array(room, sizeof(*lags));
	int rc = queue_lag(queue, group, topic, lags, room, count, timeout_ms, err);

	for (size_t i = 0; rc == 0 && i < *count; i++)
		out[i] = (struct partition_backlog){ lags[i], position_of(&lags[i]), 0 };
	if (rc == 0)
		rc = read_times(queue, topic, out, *count, until_ms, err);
	free(lags);
	return rc;
}

struct backlog backlog_sum(const struct partition_backlog *partitions, size_t count)
{
	struct backlog sum = { 0 };

	for (size_t i = 0; i < count; i++) {
		const struct partition_backlog *p = &partitions[i];

		sum.position += p->position;
		sum.end += p->lag.high;
		sum.lag += has_more(p) ? p->lag.high - p->position : 0;
		sum.lost += p->lag.committed >= 0 && p->lag.committed < p->lag.low ? p->lag.low - p->lag.committed : 0;
		sum.is_begun = sum.is_begun || p->lag.committed >= 0;
		sum.is_astray = sum.is_astray || p->position > p->lag.high;
		if (p->oldest_ms > 0 && (sum.oldest_ms == 0 || p->oldest_ms < sum.oldest_ms))
			sum.oldest_ms = p->oldest_ms;
	}
	return sum;
}

double backlog_used(const struct backlog *backlog, int64_t retention_ms, int64_t now_ms)
{
	if (backlog->oldest_ms <= 0 || retention_ms <= 0 || now_ms <= backlog->oldest_ms)
		return 0;
	return (double)(now_ms - backlog->oldest_ms) / (double)retention_ms;
}
