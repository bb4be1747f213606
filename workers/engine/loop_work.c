/* A batch of records goes in; what handle() makes of it, its outputs, letters of records that it can't do, and holds come out. */
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/rand.h"
#include "common/base/stop.h"
#include "workers/engine/letter.h"
#include "workers/engine/loop_parts.h"

#define SEND_PATIENCE_MS 30000 /* for room in the producer's queue */

/* ---- outputs */

/* A full producer queue is waited for; a letter that is too large goes cut, to the dead letters; anything else that keeps an output
 * from being sent takes the partitions back. */
static int send_one(struct loop *loop, struct settlement *settlement, const struct record *output, struct err *err)
{
	const int64_t deadline = clock_mono_ms() + SEND_PATIENCE_MS;
	struct err why = ERR_INIT;
	struct record letter;
	char topic[TOPIC_NAME_MAX], cut[24];

	while (settle_send(settlement, output, &why) < 0) {
		if (why.kind == ERR_INVALID && output != &letter && letter_cut(output, loop->shared.entry->name, topic, cut, &letter)) {
			log_warn("dead letter cut", log_str("topic", output->topic), log_int("bytes", (int64_t)output->value.len), log_err(&why));
			output = &letter;
			continue;
		}
		if (why.kind != ERR_FULL || clock_mono_ms() > deadline || stop_requested()) {
			settle_fail(settlement, why.message);
			return 0;
		}
		if (loop_rest(loop, 10, err) < 0)
			return -1;
	}
	return 0;
}

static int send_outputs(struct loop *loop, struct settlement *settlement, struct err *err)
{
	for (size_t i = 0; i < loop->outbox.count; i++)
		if (send_one(loop, settlement, outbox_at(&loop->outbox, i), err) < 0)
			return -1;
	FAULT_POINT("worker.sent");
	return 0;
}

/* ---- what becomes of each record */

static const char *trace_of(const struct record *record, char out[33])
{
	record_trace(record, out);
	return out[0] != '\0' ? out : NULL;
}

static void bury(struct loop *loop, const struct item *item)
{
	const struct record *record = item->record;
	struct letter letter;
	char trace[33];

	letter_dead(&letter, loop->shared.entry->name, item);
	outbox_add(&loop->outbox, &letter.record);
	metric_add(loop->shared.vitals->dead_letters, 1);
	log_warn("record rejected", log_str("topic", record->topic), log_int("partition", record->partition),
		log_int("offset", record->offset), log_str("reason", item->why.message), log_str("dead_letter", letter.topic),
		log_str("trace", trace_of(record, trace)));
}

static void give_up(struct loop *loop, struct item *item)
{
	const struct err why = item->why;

	err_set(&item->why, why.kind, "given up after %u tries: %s", item->tries, why.message);
	bury(loop, item);
}

static void complain(struct loop *loop, const struct item *item, int64_t wait_ms)
{
	char trace[33];

	metric_add(loop->shared.vitals->retries, 1);
	if (loop_may_complain(loop))
		log_warn("record waits for another try", log_str("topic", item->record->topic), log_int("partition", item->record->partition),
			log_int("offset", item->record->offset), log_int("tries", item->tries), log_int("next_try_ms", wait_ms),
			log_err(&item->why), log_str("trace", trace_of(item->record, trace)));
}

static void put_off_by_topic(struct loop *loop, struct settlement *settlement, struct item *item)
{
	const char *worker = loop->shared.entry->name;
	const size_t stage = letter_stage(worker, item->record->topic);
	struct letter letter;
	int64_t wait_ms;

	(void)settlement;
	if (stage == topics_delays()->count) {
		give_up(loop, item);
		return;
	}
	wait_ms = topics_delays()->list[stage].ms;
	letter_retry(&letter, worker, item, stage, clock_wall_ms() + wait_ms);
	outbox_add(&loop->outbox, &letter.record);
	complain(loop, item, wait_ms);
}

/* Half of the delay, and some of the other half: many that failed together do not come together again. */
static void put_off_in_place(struct loop *loop, struct settlement *settlement, struct item *item)
{
	const struct record *record = item->record;
	struct hold hold = { .topic = record->topic, .partition = record->partition, .offset = record->offset, .tries = item->tries };
	int64_t delay_ms;

	if (item->stage == topics_delays()->count) {
		give_up(loop, item);
		return;
	}
	delay_ms = topics_delays()->list[item->stage].ms;
	hold.stage = item->stage + 1;
	delay_ms = delay_ms / 2 + (int64_t)rand_below((uint64_t)(delay_ms / 2) + 1);
	hold.until_ms = clock_mono_ms() + delay_ms;
	loop_hold(loop, &hold);
	settle_uncover(settlement, record->topic, record->partition, record->offset);
	complain(loop, item, delay_ms);
}

static void reject(struct loop *loop, struct settlement *settlement, struct item *item)
{
	(void)settlement;
	bury(loop, item);
}

typedef void become_fn(struct loop *loop, struct settlement *settlement, struct item *item);

static become_fn *const put_off[] = { [RETRY_IN_PLACE] = put_off_in_place, [RETRY_BY_TOPIC] = put_off_by_topic };

/* At debug, the trail of each record: its trace, and where it was. */
static void tell(const struct item *item)
{
	static const char *const words[] = { [DONE] = "record done", [RETRY] = "record not done yet", [REJECT] = "record wrong" };
	char trace[33];

	if (!log_enabled(LOG_LEVEL_DEBUG))
		return;
	log_debug(words[item->outcome], log_str("topic", item->record->topic), log_int("partition", item->record->partition),
		log_int("offset", item->record->offset), log_str("trace", trace_of(item->record, trace)));
}

/* The first `width` items have their outcomes: what they gave out is sent, those that can't be done go elsewhere, or make their
 * partition wait, and with it what is behind them. */
static int conclude(struct loop *loop, struct settlement *settlement, size_t width, struct err *err)
{
	become_fn *const becomes[] = { [RETRY] = put_off[loop->shared.entry->retries], [REJECT] = reject };

	for (size_t i = 0; i < width; i++) {
		struct item *item = &loop->attempt.items[i];

		if (loop_is_held(item->record, loop))
			continue;
		metric_add(loop->shared.vitals->outcomes[item->outcome], 1);
		tell(item);
		if (item->outcome != DONE)
			becomes[item->outcome](loop, settlement, item);
	}
	attempt_take(&loop->attempt, width);
	attempt_drop(&loop->attempt, loop_is_held, loop);
	return send_outputs(loop, settlement, err);
}

/* ---- handle */

static int call_worker(struct loop *loop, size_t width, struct err *err)
{
	struct batch batch = { loop->attempt.items, width, &loop->outbox, loop->consumer };
	const int64_t began_us = clock_mono_us();
	int rc;

	atomic_store(&loop->pulse->handling_since_ms, began_us / 1000 + 1);
	FAULT_POINT("worker.fetched");
	rc = loop->ops->handle(loop->state, &batch, err);
	FAULT_POINT("worker.handled");
	atomic_store(&loop->pulse->handling_since_ms, 0);
	metric_observe_us(loop->shared.vitals->handle_seconds, clock_mono_us() - began_us);
	if (rc < 0) {
		outbox_clear(&loop->outbox);
		metric_add(loop->shared.vitals->failures[err->kind != ERR_NONE ? err->kind : ERR_FATAL], 1);
	}
	return rc;
}

static int condemn(struct loop *loop, const struct err *why)
{
	struct item *item = &loop->attempt.items[0];

	item->outcome = REJECT;
	item->why = *why;
	return 0;
}

/* One call of handle() and what follows from it. *wait_ms: how long to wait before the next. */
static int handle_once(struct loop *loop, struct settlement *settlement, int64_t *wait_ms, struct err *err)
{
	const size_t width = attempt_width(&loop->attempt);
	struct err why = ERR_INIT;
	enum ruling ruling;
	bool is_over;
	int rc;

	attempt_prepare(&loop->attempt);
	if (loop_suspects_begin(loop, width, &why))
		rc = condemn(loop, &why);
	else
		rc = call_worker(loop, width, &why);
	ruling = attempt_judge(&loop->attempt, rc, &why, wait_ms);
	is_over = ruling == RULING_TAKEN || ruling == RULING_WRONG || ruling == RULING_LOST;
	loop_suspects_end(loop, width, is_over);
	rc = 0;
	if (is_over) {
		rc = conclude(loop, settlement, width, err);
		loop_well(loop);
		atomic_store(&loop->pulse->progress_ms, clock_mono_ms());
	} else if (ruling == RULING_DOWN) {
		loop_unwell(loop, &why, *wait_ms);
	} else if (ruling == RULING_FATAL) {
		rc = err_set(err, ERR_FATAL, "%s", why.message);
	}
	outbox_clear(&loop->outbox);
	return rc;
}

static void note_batch(struct loop *loop, struct settlement *settlement)
{
	int64_t oldest = 0;

	for (size_t i = 0; i < loop->attempt.count; i++) {
		const struct record *record = loop->attempt.items[i].record;

		oldest = oldest == 0 || record->timestamp_ms < oldest ? record->timestamp_ms : oldest;
		settle_cover(settlement, record->topic, record->partition, record->offset);
		if (SABOTAGED("offset"))
			consumer_store(loop->consumer, record->topic, record->partition, record->offset + 1, &(struct err){ ERR_NONE, "" });
	}
	atomic_store(&loop->pulse->oldest_ms, oldest);
	metric_add(loop->shared.vitals->batches, 1);
	metric_set(loop->shared.vitals->batch_records, (int64_t)loop->attempt.count);
}

/* Works the fetched batch off. It is given up when a stop is asked for while something it needs is away: its offsets are
 * not stored, so that it comes again. */
int loop_work_off(struct loop *loop, struct err *err)
{
	struct settlement *settlement = settle_open(loop->settler);
	int64_t wait_ms = 0;

	note_batch(loop, settlement);
	while (loop->attempt.count > 0) {
		if (handle_once(loop, settlement, &wait_ms, err) < 0)
			return -1;
		if (wait_ms > 0 && loop->attempt.count > 0 && stop_requested())
			return 0;
		if (wait_ms > 0 && loop_rest(loop, wait_ms, err) < 0)
			return -1;
	}
	settle_seal(settlement);
	return 0;
}
