/* Records of one consumer go in, in batches; the worker's effects, its outputs, and stored offsets come out. */
#include "workers/engine/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/stop.h"
#include "workers/engine/loop_parts.h"

#define DEPTH_MAX 16             /* batches whose outputs are not acknowledged */
#define REVOKE_PATIENCE_MS 5000  /* for acknowledgements when partitions are taken away; below the session timeout */
#define CHECK_EVERY_MS 5000      /* the dependency, while there is nothing to do */
#define COMPLAIN_EVERY_MS 30000  /* the same trouble in the log */

/* ---- the log: trouble that lasts is told now and then, not each time */

bool loop_may_complain(struct loop *loop)
{
	const int64_t now = clock_mono_ms();

	if (loop->complained_ms != 0 && now - loop->complained_ms < COMPLAIN_EVERY_MS)
		return false;
	loop->complained_ms = now;
	return true;
}

void loop_well(struct loop *loop)
{
	if (loop->is_down) {
		log_info("dependency is back", log_str("dependency", loop->ops->dependency), log_int("thread", (int64_t)loop->number));
		loop->complained_ms = 0;
	}
	loop->is_down = false;
	vitals_checked(loop->shared.vitals, loop->pulse, NULL);
}

void loop_unwell(struct loop *loop, const struct err *err, int64_t wait_ms)
{
	loop->is_down = true;
	vitals_checked(loop->shared.vitals, loop->pulse, err);
	if (loop_may_complain(loop))
		log_warn("dependency is down, waiting", log_str("dependency", loop->ops->dependency), log_int("thread", (int64_t)loop->number),
			log_str("kind", err_kind_name(err->kind)), log_err(err), log_int("next_try_ms", wait_ms));
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
	struct hold *hold = holds_find(&loop->holds, topic, partition);

	if (!consumer_owns(loop->consumer, topic, partition))
		return 0;
	if (consumer_seek(loop->consumer, topic, partition, offset, err) < 0)
		return -1;
	if (hold != NULL && hold->is_on && !hold->is_firm && offset < hold->offset)
		hold->offset = offset; /* where it is sought to in the end */
	return 0;
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

static void collect_until(struct loop *loop, int64_t deadline_ms)
{
	struct err err = ERR_INIT;

	while (settle_collect(loop->settler, &err) == 0) {
		const int64_t left = deadline_ms - clock_mono_ms();

		if (left <= 0 || !settle_wait(loop->settler, left))
			break;
	}
}

static void forget_holds(struct loop *loop, const struct topic_partition *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (holds_on(&loop->holds, list[i].topic, list[i].partition))
			metric_add(loop->shared.vitals->held, -1);
	holds_forget(&loop->holds, list, count);
}

static void on_revoked(void *arg, const struct topic_partition *list, size_t count, bool lost)
{
	struct loop *loop = arg;
	const struct partitions gone = { list, count };

	FAULT_POINT("worker.revoked");
	if (!lost)
		collect_until(loop, clock_mono_ms() + REVOKE_PATIENCE_MS);
	settle_forget(loop->settler, list, count);
	loop_drop_stashed(loop, is_gone, &gone);
	forget_holds(loop, list, count);
	loop_forget_suspects(loop, list, count);
	attempt_drop(&loop->attempt, is_gone, &gone);
	loop->is_paused = false; /* what comes next comes unpaused */
	log_debug("partitions taken away", log_int("thread", (int64_t)loop->number), log_int("partitions", (int64_t)count),
		log_str("lost", lost ? "yes" : "no"));
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
	if (loop_may_complain(loop))
		log_warn("output not stored, going back", log_int("thread", (int64_t)loop->number), log_err(why));
	do {
		struct err seek = ERR_INIT;

		if (loop_rest(loop, backoff_next_ms(&loop->setback), err) < 0)
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
	const size_t depth = loop->is_wary ? 1 : DEPTH_MAX;
	struct err why = ERR_INIT;
	int rc;

	while ((rc = settle_collect(loop->settler, &why)) == 0 && settle_depth(loop->settler) >= depth && !stop_requested())
		if (!settle_wait(loop->settler, POLL_MS) && clock_mono_ms() - loop->polled_ms > POLL_EVERY_MS && loop_pump(loop, 0, err) < 0)
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
		loop_well(loop);
	else if (why.kind == ERR_FATAL)
		return err_set(err, ERR_FATAL, "%s", why.message);
	else
		loop_unwell(loop, &why, CHECK_EVERY_MS);
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
	rc = loop_fetch(loop, err);
	if (rc == 0 && loop->attempt.count > 0)
		loop_meet_suspects(loop);
	if (rc == 0 && loop->attempt.count > 0)
		rc = loop_work_off(loop, err);
	else if (rc == 0 && loop->fetched == 0)
		rc = idle(loop, err);
	loop_release_fetched(loop);
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
			loop_well(loop);
			loop->checked_ms = clock_mono_ms();
			return 0;
		}
		if (why.kind == ERR_FATAL || why.kind == ERR_INVALID)
			return err_set(err, ERR_FATAL, "%s", why.message);
		wait_ms = backoff_next_ms(&backoff);
		loop_unwell(loop, &why, wait_ms);
		stop_wait(wait_ms);
	}
	return 0;
}

/* The retry topics of the group, with NULL at the end; none where order counts. */
static const char *const *retry_topics(struct loop *loop)
{
	const size_t count = loop->shared.entry->retries == RETRY_BY_TOPIC ? topics_delays()->count : 0;

	for (size_t i = 0; i < count; i++) {
		topic_retry(loop->shared.entry->name, i, loop->retry_topics[i]);
		loop->more_topics[i] = loop->retry_topics[i];
	}
	loop->more_topics[count] = NULL;
	return loop->more_topics;
}

static int open_all(struct loop *loop, struct err *err)
{
	const struct loop_shared *shared = &loop->shared;
	const char *instance = shared->settings->instance;
	const bool is_static = instance != NULL && instance[0] != '\0';
	const struct consumer_options options = {
		.group = shared->entry->name,
		.topic = shared->entry->topic,
		.more = retry_topics(loop),
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
	holds_release(&loop->holds);
	free(loop->suspects);
	free(loop->stash);
	free(loop->records);
	free(loop->items);
	free(loop);
}
