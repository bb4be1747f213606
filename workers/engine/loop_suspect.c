/* The first records of a partition that was given to us go in; which of them ended their process too often comes out.
 *
 * A record that kills its worker (a bug in a library, memory without end) is not stored as done, so it comes again and kills the next.
 * Its process can't say so. Therefore, for the first seconds of a partition's work, the number of beginnings is committed beside the
 * offset before handle() is called, and taken back when it returns: what is found there at the next assignment was not survived.
 * Nobody else moves on meanwhile, so that the offset is that of the batch. When a batch was not survived twice its records go one at a
 * time, each counted alone; one that has reached the limit is a dead letter. Later, when the partition runs, nothing of this costs
 * anything: a crash then leads to an assignment, which begins at most a second of work before it. */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "workers/engine/loop_parts.h"

#define TOGETHER 2        /* so often a batch may end the process, until its records are looked at alone */
#define WATCHED_MS 3000   /* offsets are committed every second: what ended the process lies at most so far behind */
#define ALONE_MS 30000    /* where few records come, the next one may be of another time */

static struct suspect *find(const struct loop *loop, const struct record *record)
{
	for (size_t i = 0; i < loop->suspect_count; i++) {
		struct suspect *suspect = &loop->suspects[i];

		if (suspect->partition == record->partition && (suspect->topic == record->topic || strcmp(suspect->topic, record->topic) == 0))
			return suspect;
	}
	return NULL;
}

static struct suspect *meet(struct loop *loop, const struct record *record)
{
	struct suspect *suspect = find(loop, record);

	if (suspect != NULL)
		return suspect;
	if (loop->suspect_count == loop->suspect_size) {
		loop->suspect_size = loop->suspect_size > 0 ? loop->suspect_size * 2 : 8;
		loop->suspects = mem_grow(loop->suspects, loop->suspect_size, sizeof(*loop->suspects));
	}
	suspect = &loop->suspects[loop->suspect_count++];
	*suspect = (struct suspect){ .topic = record->topic, .partition = record->partition, .is_first = true, .from = -1 };
	suspect->tries = consumer_begun(loop->consumer, record->topic, record->partition);
	suspect->alone = suspect->tries >= TOGETHER ? (size_t)loop->limits->batch : 0;
	if (suspect->alone > 0)
		log_warn("records that ended the process are tried one at a time", log_str("topic", record->topic),
			log_int("partition", record->partition), log_int("offset", record->offset), log_int("tries", suspect->tries));
	return suspect;
}

static void look_again(struct suspect *suspect)
{
	const int64_t age_ms = suspect->since_ms > 0 ? clock_mono_ms() - suspect->since_ms : 0;

	if (age_ms > ALONE_MS)
		suspect->alone = 0;
	if (age_ms > WATCHED_MS && suspect->alone == 0)
		suspect->is_over = true;
}

size_t loop_batch_limit(struct loop *loop)
{
	size_t limit = (size_t)loop->limits->batch;

	for (size_t i = 0; i < loop->suspect_count; i++) {
		struct suspect *suspect = &loop->suspects[i];

		if (suspect->is_over)
			continue;
		look_again(suspect);
		limit = suspect->alone > 0 ? 1 : limit;
	}
	return limit;
}

/* Calls what for each watched partition of the first `width` items, with its first item. */
static void each_suspect(struct loop *loop, size_t width, void (*what)(struct suspect *suspect, const struct item *first, void *arg), void *arg)
{
	const struct record *before = NULL;

	for (size_t i = 0; i < width; i++) {
		const struct item *item = &loop->attempt.items[i];
		struct suspect *suspect;

		if (before != NULL && before->partition == item->record->partition && before->topic == item->record->topic)
			continue;
		before = item->record;
		suspect = meet(loop, item->record);
		if (!suspect->is_over)
			what(suspect, item, arg);
	}
}

/* A partition whose records do not stand together is visited more than once, in order. */
static void look_at(struct suspect *suspect, const struct item *first, void *arg)
{
	bool *is_watched = arg;

	look_again(suspect);
	if (suspect->from < 0)
		suspect->from = first->record->offset;
	*is_watched = *is_watched || !suspect->is_over;
}

void loop_meet_suspects(struct loop *loop)
{
	loop->is_wary = false;
	for (size_t i = 0; i < loop->suspect_count; i++)
		loop->suspects[i].from = -1;
	each_suspect(loop, loop->attempt.count, look_at, &loop->is_wary);
	if (loop->is_wary && loop->fetched > 1 && loop_batch_limit(loop) == 1)
		loop_keep_first(loop);
}

/* ---- counting */

struct count {
	struct beginning *list;
	size_t count;
	int64_t more; /* 1: work begins; 0: it has ended without success, and without killing us */
};

static void count_one(struct suspect *suspect, const struct item *first, void *arg)
{
	struct count *count = arg;
	const struct record *record = first->record;

	if (suspect->from < 0)
		return;
	for (size_t i = 0; i < count->count; i++)
		if (count->list[i].partition == record->partition && strcmp(count->list[i].topic, record->topic) == 0)
			return; /* its records do not stand together */
	/* What of this batch is done already is not settled: the offset stays at its beginning. */
	count->list = mem_grow(count->list, count->count + 1, sizeof(*count->list));
	count->list[count->count++] = (struct beginning){ record->topic, record->partition, suspect->from, suspect->tries + count->more };
}

/* Where it can't be counted the work goes on: a cluster that is away is no reason to stand still. */
static void commit_count(struct loop *loop, size_t width, int64_t more)
{
	struct count count = { .more = more };
	struct err err = ERR_INIT;

	each_suspect(loop, width, count_one, &count);
	if (count.count > 0 && consumer_begin(loop->consumer, count.list, count.count, &err) < 0)
		log_debug("beginning of work not counted", log_err(&err));
	free(count.list);
}

bool loop_suspects_begin(struct loop *loop, size_t width, struct err *why)
{
	const struct record *record = loop->attempt.items[0].record;
	const struct suspect *suspect;

	if (!loop->is_wary)
		return false;
	suspect = meet(loop, record);
	if (loop->fetched == 1 && !suspect->is_over && suspect->is_first && suspect->tries >= loop->shared.settings->crash_limit) {
		err_set(why, ERR_INVALID, "it ended its worker's process: begun %lld times, the last of them alone, and not finished",
			(long long)suspect->tries);
		return true;
	}
	commit_count(loop, width, 1);
	return false;
}

static void survive(struct suspect *suspect, const struct item *first, void *arg)
{
	(void)first;
	(void)arg;
	if (suspect->since_ms == 0)
		suspect->since_ms = clock_mono_ms();
	suspect->alone -= suspect->alone > 0;
	suspect->is_first = false;
	suspect->tries = suspect->alone > 0 ? TOGETHER : 0; /* those that follow are still of the batch that was not survived */
}

void loop_suspects_end(struct loop *loop, size_t width, bool is_done)
{
	if (loop->is_wary && is_done)
		each_suspect(loop, width, survive, NULL);
	else if (loop->is_wary)
		commit_count(loop, width, 0);
}

void loop_forget_suspects(struct loop *loop, const struct topic_partition *gone, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct record place = { .topic = gone[i].topic, .partition = gone[i].partition };
		struct suspect *suspect = find(loop, &place);

		if (suspect != NULL)
			*suspect = loop->suspects[--loop->suspect_count];
	}
}
