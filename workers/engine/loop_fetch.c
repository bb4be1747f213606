/* Records of the consumer go in; those that are due come out as a batch, the others wait in their topic or, while we wait ourselves,
 * here. */
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/stop.h"
#include "workers/engine/letter.h"
#include "workers/engine/loop_parts.h"

#define BATCH_BYTES (4 << 20) /* a batch of long records ends earlier */

/* ---- waiting */

static void stash(struct loop *loop, const struct record *record)
{
	if (loop->stashed == loop->stash_size) {
		loop->stash_size = loop->stash_size > 0 ? loop->stash_size * 2 : 16;
		loop->stash = mem_grow(loop->stash, loop->stash_size, sizeof(*loop->stash));
	}
	loop->stash[loop->stashed++] = *record;
}

static void pause_all(struct loop *loop, bool paused)
{
	struct err err = ERR_INIT;

	if (loop->is_paused == paused)
		return;
	if (consumer_pause(loop->consumer, paused, &err) < 0)
		log_debug("pause failed", log_err(&err)); /* a record may come: it is kept */
	else
		loop->is_paused = paused;
}

static void beat(struct loop *loop)
{
	loop->polled_ms = clock_mono_ms();
	atomic_store(&loop->pulse->beat_ms, loop->polled_ms);
	atomic_store(&loop->pulse->is_connected, consumer_connected(loop->consumer));
}

/* Partitions that are assigned meanwhile come unpaused and may bring a record: it is kept, and they are paused too. */
int loop_pump(struct loop *loop, int64_t timeout_ms, struct err *err)
{
	struct record record;
	int got;

	pause_all(loop, true);
	got = consumer_poll(loop->consumer, timeout_ms, &record, err);
	beat(loop);
	if (got > 0) {
		stash(loop, &record);
		loop->is_paused = false;
	}
	return got < 0 ? -1 : 0;
}

/* A short wait is slept, not polled: pausing throws away what the consumer has fetched ahead. */
int loop_rest(struct loop *loop, int64_t wait_ms, struct err *err)
{
	const int64_t deadline = clock_mono_ms() + wait_ms;
	int64_t left;

	while ((left = deadline - clock_mono_ms()) > 0 && !stop_requested()) {
		if (left < POLL_EVERY_MS && clock_mono_ms() - loop->polled_ms < POLL_EVERY_MS)
			stop_wait(left);
		else if (loop_pump(loop, left < POLL_MS ? left : POLL_MS, err) < 0)
			return -1;
	}
	return 0;
}

void loop_drop_stashed(struct loop *loop, bool (*gone)(const struct record *record, const void *arg), const void *arg)
{
	size_t kept = 0;

	for (size_t i = 0; i < loop->stashed; i++) {
		if (gone(&loop->stash[i], arg))
			record_release(&loop->stash[i]);
		else
			loop->stash[kept++] = loop->stash[i];
	}
	loop->stashed = kept;
}

/* ---- partitions that stand still */

bool loop_is_held(const struct record *record, const void *arg)
{
	const struct loop *loop = arg;
	const struct hold *hold = holds_find(&loop->holds, record->topic, record->partition);

	return hold != NULL && hold->is_on && record->offset >= hold->offset; /* what lies before it is in hand */
}

static bool is_fetched_behind(const struct record *record, const void *arg)
{
	const struct record *first = arg;

	return record->partition == first->partition && strcmp(record->topic, first->topic) == 0;
}

void loop_hold(struct loop *loop, const struct hold *hold)
{
	const struct record first = { .topic = hold->topic, .partition = hold->partition };
	struct hold on = *hold;
	struct err err = ERR_INIT;

	on.is_firm = consumer_hold(loop->consumer, hold->topic, hold->partition, hold->offset, &err) == 0;
	if (!on.is_firm && !consumer_owns(loop->consumer, hold->topic, hold->partition))
		return; /* whoever has it begins where we stored */
	if (!holds_on(&loop->holds, hold->topic, hold->partition))
		metric_add(loop->shared.vitals->held, 1);
	on.is_on = true;
	holds_put(&loop->holds, &on);
	loop_drop_stashed(loop, is_fetched_behind, &first); /* they come again behind it */
}

static int release(struct loop *loop, const struct hold *hold, struct err *err)
{
	if (hold->is_firm)
		return consumer_release(loop->consumer, hold->topic, hold->partition, err);
	return consumer_seek(loop->consumer, hold->topic, hold->partition, hold->offset, err);
}

/* Those whose time has come go on. */
static void release_due(struct loop *loop)
{
	const int64_t now = clock_mono_ms();

	for (size_t i = 0; i < loop->holds.count; i++) {
		struct hold *hold = &loop->holds.list[i];
		struct err err = ERR_INIT;

		if (!hold->is_on || hold->until_ms > now)
			continue;
		if (release(loop, hold, &err) < 0) {
			log_debug("partition not released", log_str("topic", hold->topic), log_int("partition", hold->partition), log_err(&err));
			hold->until_ms = now + POLL_EVERY_MS;
			continue;
		}
		hold->is_on = false;
		metric_add(loop->shared.vitals->held, -1);
	}
}

static size_t stage_of(const struct loop *loop, const struct record *record)
{
	const struct worker_entry *entry = loop->shared.entry;

	return strcmp(record->topic, entry->topic) == 0 ? 0 : letter_stage(entry->name, record->topic);
}

/* How long a record has to wait yet. One that was waited for already waits on for what the clock was slowed by meanwhile, but not for
 * what it was set back. */
static int64_t wait_of(const struct loop *loop, const struct record *record, const struct hold *known)
{
	const size_t stage = stage_of(loop, record);
	int64_t wait_ms, delay_ms;

	if (stage == 0)
		return 0;
	delay_ms = topics_delays()->list[stage - 1].ms;
	wait_ms = letter_due_ms(record) - clock_wall_ms();
	if (known != NULL && wait_ms > delay_ms / 100 + 1)
		return 0;
	return wait_ms < delay_ms ? wait_ms : delay_ms;
}

/* ---- the batch */

static void take(struct loop *loop, const struct record *record, const struct hold *known)
{
	struct record *kept = &loop->records[loop->fetched++];
	unsigned tries = known != NULL ? known->tries : 0;

	if (tries == 0 && stage_of(loop, record) > 0)
		tries = letter_tries(record);
	*kept = *record;
	attempt_add(&loop->attempt, kept);
	loop->attempt.items[loop->attempt.count - 1].tries = tries;
	loop->attempt.items[loop->attempt.count - 1].stage = known != NULL ? known->stage : 0;
}

/* A record is taken, or put off: then it comes again when it is due. Returns its bytes when it is taken. */
static size_t admit(struct loop *loop, struct record *record)
{
	const struct hold *known;
	struct hold hold;
	int64_t wait_ms;

	if (loop_is_held(record, loop)) {
		record_release(record);
		return 0;
	}
	known = holds_pass(&loop->holds, record);
	wait_ms = wait_of(loop, record, known);
	if (wait_ms <= 0) {
		take(loop, record, known);
		return record->value.len;
	}
	hold = (struct hold){ .topic = record->topic, .partition = record->partition, .offset = record->offset,
		.until_ms = clock_mono_ms() + wait_ms + 1 }; /* a millisecond had begun */
	loop_hold(loop, &hold);
	record_release(record);
	return 0;
}

/* What was kept while waiting comes first. */
static size_t take_stashed(struct loop *loop, size_t limit)
{
	size_t bytes = 0;

	while (loop->stashed > 0 && loop->fetched < limit) {
		struct record record = loop->stash[0];

		memmove(loop->stash, loop->stash + 1, --loop->stashed * sizeof(*loop->stash));
		bytes += admit(loop, &record);
	}
	return bytes;
}

/* What is in the consumer already is taken in any case. Only a batch that follows one of several records waits for more: at a rate
 * where records come one by one, waiting would cost each its time and save nothing. */
int loop_fetch(struct loop *loop, struct err *err)
{
	const size_t limit = loop_batch_limit(loop);
	const int64_t linger_ms = loop->is_busy ? loop->limits->linger_ms : 0;
	int64_t deadline = 0;
	size_t bytes;

	attempt_start(&loop->attempt, loop->items);
	release_due(loop);
	bytes = take_stashed(loop, limit);
	if (loop->fetched > 0)
		deadline = clock_mono_ms() + linger_ms;
	pause_all(loop, false);
	while (loop->fetched < limit && bytes < BATCH_BYTES && !stop_requested()) {
		const int64_t left = loop->fetched > 0 ? deadline - clock_mono_ms() : POLL_MS;
		struct record record;
		int got = consumer_poll(loop->consumer, left > 0 ? left : 0, &record, err);

		if (got < 0)
			return -1;
		if (got == 0 && (loop->fetched == 0 || left <= 0))
			break;
		if (got == 0)
			continue;
		if (loop->fetched == 0)
			deadline = clock_mono_ms() + linger_ms;
		bytes += admit(loop, &record);
	}
	loop->is_busy = loop->fetched > 1;
	beat(loop);
	return 0;
}

/* Items are in the order of the records that they are of. */
void loop_keep_first(struct loop *loop)
{
	const size_t more = loop->attempt.count - 1;
	size_t next = 0;

	if (loop->stashed + more > loop->stash_size) {
		loop->stash_size = loop->stashed + more;
		loop->stash = mem_grow(loop->stash, loop->stash_size, sizeof(*loop->stash));
	}
	memmove(loop->stash + more, loop->stash, loop->stashed * sizeof(*loop->stash));
	loop->stashed += more;
	for (size_t i = 0; i < loop->fetched; i++) {
		struct record *record = &loop->records[i];

		if (next >= loop->attempt.count || loop->attempt.items[next].record != record)
			record_release(record); /* its partition was taken away while the others were fetched */
		else if (next++ > 0)
			loop->stash[next - 2] = *record;
		else
			loop->records[0] = *record;
	}
	loop->fetched = loop->attempt.count = 1;
	loop->attempt.items[0].record = &loop->records[0];
}

void loop_release_fetched(struct loop *loop)
{
	for (size_t i = 0; i < loop->fetched; i++)
		record_release(&loop->records[i]);
	loop->fetched = 0;
	loop->attempt.count = 0;
	atomic_store(&loop->pulse->oldest_ms, 0);
}
