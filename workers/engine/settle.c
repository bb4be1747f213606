/* Batches and the acknowledgements of their outputs go in, offsets to store come out, or partitions to go back in. */
#include "workers/engine/settle.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/mem.h"

struct mark {
	const char *topic;
	int32_t partition;
	int64_t from, to; /* first offset covered, and the one behind the last */
};

struct settlement {
	struct settler *settler;
	struct settlement *next;
	struct mark *marks;
	size_t mark_count;
	size_t unacked;
	bool is_sealed;
	bool is_failed;
	bool is_listed; /* else given up: the last acknowledgement frees it */
	char why[200];
	int64_t opened_mono_us;
};

struct settler {
	const struct settle_ops *ops;
	void *arg;
	struct settlement *oldest, *newest;
	size_t depth;
	pthread_mutex_t lock; /* of everything that an acknowledgement touches: unacked, is_failed, why, is_listed */
	pthread_cond_t acked;
};

struct settler *settler_new(const struct settle_ops *ops, void *arg)
{
	struct settler *settler = mem_zalloc(sizeof(*settler));

	settler->ops = ops;
	settler->arg = arg;
	pthread_mutex_init(&settler->lock, NULL);
	cond_init(&settler->acked);
	return settler;
}

static void settlement_free(struct settlement *settlement)
{
	free(settlement->marks);
	free(settlement);
}

/* Takes the oldest off the list; its acknowledgements may still be on the way. */
static void drop_oldest(struct settler *settler)
{
	struct settlement *oldest = settler->oldest;
	bool is_over;

	settler->oldest = oldest->next;
	if (settler->oldest == NULL)
		settler->newest = NULL;
	settler->depth--;
	pthread_mutex_lock(&settler->lock);
	oldest->is_listed = false;
	is_over = oldest->unacked == 0;
	pthread_mutex_unlock(&settler->lock);
	if (is_over)
		settlement_free(oldest);
}

void settler_free(struct settler *settler)
{
	if (settler == NULL)
		return;
	while (settler->oldest != NULL)
		drop_oldest(settler);
	pthread_cond_destroy(&settler->acked);
	pthread_mutex_destroy(&settler->lock);
	free(settler);
}

struct settlement *settle_open(struct settler *settler)
{
	struct settlement *settlement = mem_zalloc(sizeof(*settlement));

	settlement->settler = settler;
	settlement->is_listed = true;
	settlement->opened_mono_us = clock_mono_us();
	if (settler->newest == NULL)
		settler->oldest = settlement;
	else
		settler->newest->next = settlement;
	settler->newest = settlement;
	settler->depth++;
	return settlement;
}

static bool is_of(const struct mark *mark, const char *topic, int32_t partition)
{
	return mark->partition == partition && (mark->topic == topic || strcmp(mark->topic, topic) == 0);
}

/* A batch touches few partitions: a search from the end finds the one of the record before. */
static struct mark *mark_of(struct settlement *settlement, const char *topic, int32_t partition)
{
	for (size_t i = settlement->mark_count; i > 0; i--)
		if (is_of(&settlement->marks[i - 1], topic, partition))
			return &settlement->marks[i - 1];
	return NULL;
}

void settle_cover(struct settlement *settlement, const char *topic, int32_t partition, int64_t offset)
{
	struct mark *mark = mark_of(settlement, topic, partition);

	if (mark == NULL) {
		settlement->marks = mem_grow(settlement->marks, settlement->mark_count + 1, sizeof(*settlement->marks));
		mark = &settlement->marks[settlement->mark_count++];
		*mark = (struct mark){ topic, partition, offset, offset + 1 };
	}
	if (offset < mark->from)
		mark->from = offset;
	if (offset >= mark->to)
		mark->to = offset + 1;
}

void settle_uncover(struct settlement *settlement, const char *topic, int32_t partition, int64_t offset)
{
	struct mark *mark = mark_of(settlement, topic, partition);

	if (mark == NULL || offset >= mark->to)
		return;
	mark->to = offset;
	if (mark->to <= mark->from)
		*mark = settlement->marks[--settlement->mark_count];
}

/* With the lock held. */
static void set_failed(struct settlement *settlement, const char *why)
{
	if (!settlement->is_failed)
		snprintf(settlement->why, sizeof(settlement->why), "%s", why != NULL ? why : "output record not stored");
	settlement->is_failed = true;
}

/* On the producer's thread. */
static void on_sent(void *arg, enum sent sent, const char *why)
{
	struct settlement *settlement = arg;
	struct settler *settler = settlement->settler;
	bool is_over;

	pthread_mutex_lock(&settler->lock);
	if (sent != SENT_STORED)
		set_failed(settlement, why);
	is_over = --settlement->unacked == 0 && !settlement->is_listed;
	pthread_cond_signal(&settler->acked);
	pthread_mutex_unlock(&settler->lock);
	if (is_over)
		settlement_free(settlement);
}

int settle_send(struct settlement *settlement, const struct record *output, struct err *err)
{
	struct settler *settler = settlement->settler;

	/* Counted first: the report may come before send() returns. */
	pthread_mutex_lock(&settler->lock);
	settlement->unacked++;
	pthread_mutex_unlock(&settler->lock);
	if (settler->ops->send(settler->arg, output, on_sent, settlement, err) == 0)
		return 0;
	pthread_mutex_lock(&settler->lock);
	settlement->unacked--;
	pthread_mutex_unlock(&settler->lock);
	return -1;
}

void settle_fail(struct settlement *settlement, const char *why)
{
	pthread_mutex_lock(&settlement->settler->lock);
	set_failed(settlement, why);
	pthread_mutex_unlock(&settlement->settler->lock);
}

void settle_seal(struct settlement *settlement)
{
	settlement->is_sealed = true;
}

/* A failure counts at once where something depends on it; without partitions there is nothing to go back to. With the lock held. */
static bool is_hopeless(const struct settlement *settlement)
{
	return settlement->is_failed && settlement->mark_count > 0 && settlement->is_sealed;
}

static bool is_through(const struct settlement *settlement)
{
	return settlement->is_sealed && (settlement->unacked == 0 || settlement->mark_count == 0);
}

static void store_marks(struct settler *settler, const struct settlement *settlement)
{
	for (size_t i = 0; i < settlement->mark_count; i++)
		settler->ops->store(settler->arg, settlement->marks[i].topic, settlement->marks[i].partition, settlement->marks[i].to);
	if (settlement->mark_count > 0 && settler->ops->settled != NULL)
		settler->ops->settled(settler->arg, settlement->opened_mono_us);
}

int settle_collect(struct settler *settler, struct err *err)
{
	struct settlement *oldest;

	while ((oldest = settler->oldest) != NULL) {
		bool hopeless, through;

		pthread_mutex_lock(&settler->lock);
		hopeless = is_hopeless(oldest);
		through = is_through(oldest);
		pthread_mutex_unlock(&settler->lock);
		if (hopeless)
			return err_set(err, ERR_UNAVAILABLE, "%s", oldest->why);
		if (!through)
			break;
		store_marks(settler, oldest);
		drop_oldest(settler);
	}
	return 0;
}

/* The first offset of the partition that is not settled: marks of later batches lie behind those of earlier ones, except
 * where a partition came back. */
static bool is_first(const struct settler *settler, const struct mark *mark)
{
	for (const struct settlement *s = settler->oldest; s != NULL; s = s->next)
		for (size_t i = 0; i < s->mark_count; i++)
			if (is_of(&s->marks[i], mark->topic, mark->partition) && s->marks[i].from < mark->from)
				return false;
	return true;
}

int settle_rewind(struct settler *settler, struct err *err)
{
	for (const struct settlement *s = settler->oldest; s != NULL; s = s->next)
		for (size_t i = 0; i < s->mark_count; i++)
			if (is_first(settler, &s->marks[i]) &&
				settler->ops->seek(settler->arg, s->marks[i].topic, s->marks[i].partition, s->marks[i].from, err) < 0)
				return -1;
	while (settler->oldest != NULL)
		drop_oldest(settler);
	return 0;
}

static bool is_among(const struct mark *mark, const struct topic_partition *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_of(mark, list[i].topic, list[i].partition))
			return true;
	return false;
}

void settle_forget(struct settler *settler, const struct topic_partition *gone, size_t count)
{
	for (struct settlement *s = settler->oldest; s != NULL; s = s->next) {
		size_t kept = 0;

		for (size_t i = 0; i < s->mark_count; i++)
			if (!is_among(&s->marks[i], gone, count))
				s->marks[kept++] = s->marks[i];
		s->mark_count = kept;
	}
}

size_t settle_depth(struct settler *settler)
{
	return settler->depth;
}

bool settle_wait(struct settler *settler, int64_t timeout_ms)
{
	const int64_t deadline_us = clock_mono_us() + timeout_ms * 1000;
	const struct timespec until = { (time_t)(deadline_us / 1000000), (long)(deadline_us % 1000000) * 1000 };
	const struct settlement *oldest = settler->oldest;
	bool is_due = false;
	int rc = 0;

	if (oldest == NULL || !oldest->is_sealed)
		return false;
	pthread_mutex_lock(&settler->lock);
	while (!(is_due = is_hopeless(oldest) || is_through(oldest)) && rc == 0)
		rc = pthread_cond_timedwait(&settler->acked, &settler->lock, &until);
	pthread_mutex_unlock(&settler->lock);
	return is_due;
}
