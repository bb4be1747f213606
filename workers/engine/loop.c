/* Records of one consumer go in, in batches; the worker's effects, its outputs, and stored offsets come out. */
#include "workers/engine/loop.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/stop.h"
#include "workers/engine/attempt.h"
#include "workers/engine/batch.h"
#include "workers/engine/deadletter.h"
#include "workers/engine/settle.h"

#define POLL_MS 100              /* longest sleep in the consumer: how late a stop signal is seen */
#define POLL_EVERY_MS 500        /* a wait longer than this is spent polling, so that the membership lives and rebalances go on */
#define DEPTH_MAX 16             /* batches whose outputs are not acknowledged */
#define BATCH_BYTES (4 << 20)    /* a batch of long records ends earlier */
#define SEND_PATIENCE_MS 30000   /* for room in the producer's queue */
#define REVOKE_PATIENCE_MS 5000  /* for acknowledgements when partitions are taken away; below the session timeout */
#define CHECK_EVERY_MS 5000      /* the dependency, while there is nothing to do */
#define COMPLAIN_EVERY_MS 30000  /* the same trouble in the log */

struct loop {
	struct loop_shared shared;
	const struct worker_ops *ops;
	const struct worker_settings *limits;
	size_t number;
	pthread_t thread;
	atomic_bool is_failed;
	struct pulse *pulse;
	char instance[256];

	void *state; /* the worker's */
	bool is_open;
	struct consumer *consumer;
	struct settler *settler;

	struct record *records; /* the batch as fetched; released when it is worked off */
	size_t fetched;
	struct item *items;
	struct attempt attempt; /* what of it is to do */
	struct outbox outbox;

	struct record *stash; /* records that came while we were waiting: the next batch begins with them */
	size_t stashed, stash_size;

	bool is_paused;
	int64_t polled_ms, checked_ms, complained_ms;
	bool is_down; /* the dependency; for one line in the log when it is back */
	struct backoff setback;
};

/* ---- the log: trouble that lasts is told now and then, not each time */

static bool may_complain(struct loop *loop)
{
	const int64_t now = clock_mono_ms();

	if (loop->complained_ms != 0 && now - loop->complained_ms < COMPLAIN_EVERY_MS)
		return false;
	loop->complained_ms = now;
	return true;
}

static void is_well(struct loop *loop)
{
	if (loop->is_down) {
		log_info("dependency is back", log_str("dependency", loop->ops->dependency), log_int("thread", (int64_t)loop->number));
		loop->complained_ms = 0;
	}
	loop->is_down = false;
	vitals_checked(loop->shared.vitals, loop->pulse, NULL);
}

static void is_unwell(struct loop *loop, const struct err *err, int64_t wait_ms)
{
	loop->is_down = true;
	vitals_checked(loop->shared.vitals, loop->pulse, err);
	if (may_complain(loop))
		log_warn("dependency is down, waiting", log_str("dependency", loop->ops->dependency), log_int("thread", (int64_t)loop->number),
			log_str("kind", err_kind_name(err->kind)), log_err(err), log_int("next_try_ms", wait_ms));
}

/* ---- waiting: the consumer is polled with its partitions paused, so that the membership lives */

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
static int pump(struct loop *loop, int64_t timeout_ms, struct err *err)
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

/* A short wait is slept, not polled: pausing throws away what the consumer has fetched ahead. Ends at a stop request. */
static int rest(struct loop *loop, int64_t wait_ms, struct err *err)
{
	const int64_t deadline = clock_mono_ms() + wait_ms;
	int64_t left;

	while ((left = deadline - clock_mono_ms()) > 0 && !stop_requested()) {
		if (left < POLL_EVERY_MS && clock_mono_ms() - loop->polled_ms < POLL_EVERY_MS)
			stop_wait(left);
		else if (pump(loop, left < POLL_MS ? left : POLL_MS, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- what the settler does to the queue */

static int send_output(void *arg, const struct record *record, sent_fn *done, void *done_arg, struct err *err)
{
	const struct loop *loop = arg;

	return producer_send(loop->shared.producer, record, done, done_arg, err);
}

static void store_offset(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	const struct loop *loop = arg;
	struct err err = ERR_INIT;

	FAULT_POINT("worker.settled");
	if (consumer_store(loop->consumer, topic, partition, offset, &err) < 0)
		log_debug("offset not stored", log_str("topic", topic), log_int("partition", partition), log_int("offset", offset), log_err(&err));
	FAULT_POINT("worker.stored");
}

static int seek_back(void *arg, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	const struct loop *loop = arg;

	if (!consumer_owns(loop->consumer, topic, partition))
		return 0;
	return consumer_seek(loop->consumer, topic, partition, offset, err);
}

static void on_settled(void *arg, int64_t opened_mono_us)
{
	struct loop *loop = arg;

	metric_observe_us(loop->shared.vitals->settle_seconds, clock_mono_us() - opened_mono_us);
	backoff_reset(&loop->setback);
}

static const struct settle_ops settle_ops = {
	.send = send_output,
	.store = store_offset,
	.seek = seek_back,
	.settled = on_settled,
};

/* ---- partitions are taken away; called from within consumer_poll() and consumer_close() */

struct partitions {
	const struct topic_partition *list;
	size_t count;
};

static bool is_gone(const struct record *record, const void *arg)
{
	const struct partitions *gone = arg;

	for (size_t i = 0; i < gone->count; i++)
		if (gone->list[i].partition == record->partition && strcmp(gone->list[i].topic, record->topic) == 0)
			return true;
	return false;
}

static void drop_stashed(struct loop *loop, const struct partitions *gone)
{
	size_t kept = 0;

	for (size_t i = 0; i < loop->stashed; i++) {
		if (is_gone(&loop->stash[i], gone))
			record_release(&loop->stash[i]);
		else
			loop->stash[kept++] = loop->stash[i];
	}
	loop->stashed = kept;
}

static void collect_until(struct loop *loop, int64_t deadline_ms)
{
	struct err err = ERR_INIT;

	while (settle_collect(loop->settler, &err) == 0) {
		const int64_t left = deadline_ms - clock_mono_ms();

		if (left <= 0 || !settle_wait(loop->settler, left))
			break;
	}
}

static void on_revoked(void *arg, const struct topic_partition *list, size_t count, bool lost)
{
	struct loop *loop = arg;
	const struct partitions gone = { list, count };

	FAULT_POINT("worker.revoked");
	if (!lost)
		collect_until(loop, clock_mono_ms() + REVOKE_PATIENCE_MS);
	settle_forget(loop->settler, list, count);
	drop_stashed(loop, &gone);
	attempt_drop(&loop->attempt, is_gone, &gone);
	loop->is_paused = false; /* what comes next comes unpaused */
	log_debug("partitions taken away", log_int("thread", (int64_t)loop->number), log_int("partitions", (int64_t)count),
		log_str("lost", lost ? "yes" : "no"));
}

/* ---- fetch */

static void take(struct loop *loop, const struct record *record)
{
	struct record *kept = &loop->records[loop->fetched++];

	*kept = *record;
	attempt_add(&loop->attempt, kept);
}

static void take_stashed(struct loop *loop)
{
	size_t taken = 0;

	if (loop->stashed == 0)
		return;
	while (taken < loop->stashed && loop->fetched < (size_t)loop->limits->batch)
		take(loop, &loop->stash[taken++]);
	loop->stashed -= taken;
	memmove(loop->stash, loop->stash + taken, loop->stashed * sizeof(*loop->stash));
}

/* Up to `batch` records, or what has come linger_ms after the first. With linger 0 a record in hand never waits. */
static int fetch(struct loop *loop, struct err *err)
{
	int64_t deadline = 0;
	size_t bytes = 0;

	attempt_start(&loop->attempt, loop->items);
	take_stashed(loop);
	if (loop->fetched > 0)
		deadline = clock_mono_ms() + loop->limits->linger_ms;
	pause_all(loop, false);
	while (loop->fetched < (size_t)loop->limits->batch && bytes < BATCH_BYTES && !stop_requested()) {
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
			deadline = clock_mono_ms() + loop->limits->linger_ms;
		take(loop, &record);
		bytes += record.value.len;
	}
	beat(loop);
	return 0;
}

static void release_fetched(struct loop *loop)
{
	for (size_t i = 0; i < loop->fetched; i++)
		record_release(&loop->records[i]);
	loop->fetched = 0;
	loop->attempt.count = 0;
	atomic_store(&loop->pulse->oldest_ms, 0);
}

/* ---- handle */

/* A full producer queue is waited for; a dead letter that is too large goes cut; anything else that keeps an output from being
 * sent takes the partitions back. */
static int send_one(struct loop *loop, struct settlement *settlement, const struct record *output, struct err *err)
{
	const int64_t deadline = clock_mono_ms() + SEND_PATIENCE_MS;
	struct err why = ERR_INIT;
	struct record letter;
	char cut[24];

	while (settle_send(settlement, output, &why) < 0) {
		if (why.kind == ERR_INVALID && output != &letter && dead_letter_cut(output, cut, &letter)) {
			log_warn("dead letter cut", log_str("topic", output->topic), log_int("bytes", (int64_t)output->value.len), log_err(&why));
			output = &letter;
			continue;
		}
		if (why.kind != ERR_FULL || clock_mono_ms() > deadline || stop_requested()) {
			settle_fail(settlement, why.message);
			return 0;
		}
		if (rest(loop, 10, err) < 0)
			return -1;
	}
	FAULT_POINT("worker.sent");
	return 0;
}

static int send_outputs(struct loop *loop, struct settlement *settlement, struct err *err)
{
	for (size_t i = 0; i < loop->outbox.count; i++)
		if (send_one(loop, settlement, outbox_at(&loop->outbox, i), err) < 0)
			return -1;
	return 0;
}

static void bury(struct loop *loop, const struct item *item)
{
	const struct record *record = item->record;
	struct dead_letter letter;
	char trace[33];

	dead_letter_make(&letter, loop->shared.entry->name, item);
	outbox_add(&loop->outbox, &letter.record);
	metric_add(loop->shared.vitals->dead_letters, 1);
	record_trace(record, trace);
	log_warn("record rejected", log_str("topic", record->topic), log_int("partition", record->partition),
		log_int("offset", record->offset), log_str("reason", item->why.message), log_str("dead_letter", letter.topic),
		log_str("trace", trace[0] != '\0' ? trace : NULL));
}

/* At debug, the trail of each record: its trace, and where it was. */
static void tell(const struct item *item)
{
	static const char *const words[] = { [DONE] = "record done", [RETRY] = "record not done yet", [REJECT] = "record wrong" };
	char trace[33];

	if (!log_enabled(LOG_LEVEL_DEBUG))
		return;
	record_trace(item->record, trace);
	log_debug(words[item->outcome], log_str("topic", item->record->topic), log_int("partition", item->record->partition),
		log_int("offset", item->record->offset), log_str("trace", trace[0] != '\0' ? trace : NULL));
}

/* The first `width` items have their outcomes: what they gave out is sent, those that want another try stay. */
static int conclude(struct loop *loop, struct settlement *settlement, size_t width, int64_t *wait_ms, struct err *err)
{
	for (size_t i = 0; i < width; i++) {
		const struct item *item = &loop->attempt.items[i];

		metric_add(loop->shared.vitals->outcomes[item->outcome], 1);
		tell(item);
		if (item->outcome == REJECT)
			bury(loop, item);
		if (item->outcome == RETRY && may_complain(loop))
			log_warn("record waits for another try", log_int("partition", item->record->partition),
				log_int("offset", item->record->offset), log_int("tries", item->tries), log_err(&item->why));
	}
	*wait_ms = attempt_take(&loop->attempt, width);
	return send_outputs(loop, settlement, err);
}

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

/* One call of handle() and what follows from it. *wait_ms: how long to wait before the next. */
static int handle_once(struct loop *loop, struct settlement *settlement, int64_t *wait_ms, struct err *err)
{
	const size_t width = attempt_width(&loop->attempt);
	struct err why = ERR_INIT;
	enum ruling ruling;
	int rc = 0;

	attempt_prepare(&loop->attempt);
	ruling = attempt_judge(&loop->attempt, call_worker(loop, width, &why), &why, wait_ms);
	if (ruling == RULING_TAKEN || ruling == RULING_WRONG) {
		rc = conclude(loop, settlement, width, wait_ms, err);
		is_well(loop);
		atomic_store(&loop->pulse->progress_ms, clock_mono_ms());
	} else if (ruling == RULING_DOWN) {
		is_unwell(loop, &why, *wait_ms);
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
			store_offset(loop, record->topic, record->partition, record->offset + 1);
	}
	atomic_store(&loop->pulse->oldest_ms, oldest);
	metric_add(loop->shared.vitals->batches, 1);
	metric_set(loop->shared.vitals->batch_records, (int64_t)loop->attempt.count);
}

/* Works the fetched batch off. It is given up when a stop is asked for while something it needs is away: its offsets are
 * not stored, so that it comes again. */
static int work_off(struct loop *loop, struct err *err)
{
	struct settlement *settlement = settle_open(loop->settler);
	int64_t wait_ms = 0;

	note_batch(loop, settlement);
	while (loop->attempt.count > 0) {
		if (handle_once(loop, settlement, &wait_ms, err) < 0)
			return -1;
		if (wait_ms > 0 && loop->attempt.count > 0 && stop_requested())
			return 0;
		if (wait_ms > 0 && rest(loop, wait_ms, err) < 0)
			return -1;
	}
	settle_seal(settlement);
	return 0;
}

/* ---- settle */

/* Stashed records lie behind what comes again: they come again too, in their order. */
static void unstash(struct loop *loop)
{
	struct settlement *stashed = settle_open(loop->settler);

	for (size_t i = 0; i < loop->stashed; i++) {
		settle_cover(stashed, loop->stash[i].topic, loop->stash[i].partition, loop->stash[i].offset);
		record_release(&loop->stash[i]);
	}
	loop->stashed = 0;
}

/* Back to the first records whose outputs were not stored. */
static int go_back(struct loop *loop, const struct err *why, struct err *err)
{
	metric_add(loop->shared.vitals->rewinds, 1);
	if (may_complain(loop))
		log_warn("output not stored, going back", log_int("thread", (int64_t)loop->number), log_err(why));
	do {
		struct err seek = ERR_INIT;

		if (rest(loop, backoff_next_ms(&loop->setback), err) < 0)
			return -1;
		unstash(loop);
		if (settle_rewind(loop->settler, &seek) == 0)
			return 0;
		log_warn("seek failed", log_int("thread", (int64_t)loop->number), log_err(&seek));
	} while (!stop_requested());
	return 0;
}

/* Stores what can be stored, and makes room for the next batch. */
static int settle(struct loop *loop, struct err *err)
{
	struct err why = ERR_INIT;
	int rc;

	while ((rc = settle_collect(loop->settler, &why)) == 0 && settle_depth(loop->settler) >= DEPTH_MAX && !stop_requested())
		if (!settle_wait(loop->settler, POLL_MS) && clock_mono_ms() - loop->polled_ms > POLL_EVERY_MS && pump(loop, 0, err) < 0)
			return -1;
	metric_set(loop->shared.vitals->unsettled, (int64_t)settle_depth(loop->settler));
	return rc < 0 ? go_back(loop, &why, err) : 0;
}

/* Nothing to do: a time to ask how the dependency is. */
static int idle(struct loop *loop, struct err *err)
{
	const int64_t now = clock_mono_ms();
	struct err why = ERR_INIT;

	atomic_store(&loop->pulse->progress_ms, now);
	if (now - loop->checked_ms < CHECK_EVERY_MS)
		return 0;
	if (loop->ops->check(loop->state, &why) == 0)
		is_well(loop);
	else if (why.kind == ERR_FATAL)
		return err_set(err, ERR_FATAL, "%s", why.message);
	else
		is_unwell(loop, &why, CHECK_EVERY_MS);
	loop->checked_ms = clock_mono_ms();
	return 0;
}

static int turn(struct loop *loop, struct err *err)
{
	int rc;

	if (settle(loop, err) < 0)
		return -1;
	if (stop_requested())
		return 0;
	rc = fetch(loop, err);
	if (rc == 0 && loop->attempt.count > 0)
		rc = work_off(loop, err);
	else if (rc == 0 && loop->fetched == 0)
		rc = idle(loop, err);
	release_fetched(loop);
	return rc;
}

/* ---- life cycle */

/* The dependency must be there before the first record is taken; Kafka is not asked meanwhile. */
static int await_dependency(struct loop *loop, struct err *err)
{
	struct backoff backoff = { 100, 5000, 0 };

	while (!stop_requested()) {
		struct err why = ERR_INIT;
		int64_t wait_ms;

		if (loop->ops->check(loop->state, &why) == 0) {
			is_well(loop);
			loop->checked_ms = clock_mono_ms();
			return 0;
		}
		if (why.kind == ERR_FATAL || why.kind == ERR_INVALID)
			return err_set(err, ERR_FATAL, "%s", why.message);
		wait_ms = backoff_next_ms(&backoff);
		is_unwell(loop, &why, wait_ms);
		stop_wait(wait_ms);
	}
	return 0;
}

static int open_all(struct loop *loop, struct err *err)
{
	const struct loop_shared *shared = &loop->shared;
	const char *instance = shared->settings->instance;
	const bool is_static = instance != NULL && instance[0] != '\0';
	const struct consumer_options options = {
		.group = shared->entry->name,
		.topic = shared->entry->topic,
		.instance = is_static ? loop->instance : NULL,
		.revoked = on_revoked,
		.arg = loop,
	};

	snprintf(loop->instance, sizeof(loop->instance), "%s-%s-%zu", shared->entry->name, is_static ? instance : "", loop->number);
	if (loop->ops->open(shared->settings, &loop->state, err) < 0)
		return -1;
	loop->is_open = true;
	if (await_dependency(loop, err) < 0)
		return -1;
	if (stop_requested())
		return 0;
	return consumer_open(shared->queue, &options, &loop->consumer, err);
}

/* In reverse order, and safe on what was opened half. What is acknowledged in time is stored; the rest comes again. */
static void close_all(struct loop *loop)
{
	FAULT_POINT("worker.draining");
	collect_until(loop, clock_mono_ms() + loop->shared.settings->drain_timeout_ms);
	for (size_t i = 0; i < loop->stashed; i++)
		record_release(&loop->stash[i]);
	loop->stashed = 0;
	if (loop->consumer != NULL)
		consumer_close(loop->consumer);
	loop->consumer = NULL;
	FAULT_POINT("worker.left");
	atomic_store(&loop->pulse->is_connected, false);
	if (loop->is_open && loop->ops->close != NULL)
		loop->ops->close(loop->state);
	loop->is_open = false;
}

static void *loop_main(void *arg)
{
	struct loop *loop = arg;
	struct err err = ERR_INIT;
	int rc = open_all(loop, &err);

	while (rc == 0 && loop->consumer != NULL && !stop_requested())
		rc = turn(loop, &err);
	if (rc < 0) {
		log_error("worker can't go on", log_int("thread", (int64_t)loop->number), log_str("kind", err_kind_name(err.kind)), log_err(&err));
		atomic_store(&loop->is_failed, true);
		stop_request();
	}
	close_all(loop);
	return NULL;
}

int loop_start(const struct loop_shared *shared, size_t number, struct loop **out, struct err *err)
{
	struct loop *loop = mem_zalloc(sizeof(*loop));
	int rc;

	loop->shared = *shared;
	loop->ops = shared->entry->ops;
	loop->limits = loop->ops->settings(shared->settings);
	loop->number = number;
	loop->pulse = &shared->vitals->pulses[number];
	loop->settler = settler_new(&settle_ops, loop);
	loop->records = mem_array((size_t)loop->limits->batch, sizeof(*loop->records));
	loop->items = mem_array((size_t)loop->limits->batch, sizeof(*loop->items));
	loop->setback = (struct backoff){ 100, 5000, 0 };
	attempt_start(&loop->attempt, loop->items);
	rc = pthread_create(&loop->thread, NULL, loop_main, loop);
	if (rc != 0) {
		loop_free(loop);
		return err_set(err, ERR_FATAL, "can't start a thread: %s", strerror(rc));
	}
	*out = loop;
	return 0;
}

/* By the wall clock, because that is what the sanitizer for threads understands: a clock that steps makes it late or early once. */
int loop_join(struct loop *loop, int64_t deadline_mono_ms)
{
	const int64_t left = deadline_mono_ms - clock_mono_ms();
	const int64_t until_ms = clock_wall_ms() + (left > 0 ? left : 0);
	const struct timespec until = { (time_t)(until_ms / 1000), (long)(until_ms % 1000) * 1000000 };

	return pthread_timedjoin_np(loop->thread, NULL, &until) == 0 ? 0 : -1;
}

bool loop_failed(const struct loop *loop)
{
	return atomic_load(&loop->is_failed);
}

void loop_free(struct loop *loop)
{
	if (loop == NULL)
		return;
	settler_free(loop->settler);
	outbox_release(&loop->outbox);
	free(loop->stash);
	free(loop->records);
	free(loop->items);
	free(loop);
}
