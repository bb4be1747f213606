/* A worker and the settings go in, an exit code comes out when the process is asked to stop. */
#include "workers/engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/notify.h"
#include "common/base/packages.h"
#include "common/base/program.h"
#include "common/base/stop.h"
#include "common/http/admin.h"
#include "common/queue/queue.h"
#include "workers/engine/chores.h"
#include "workers/engine/loop.h"
#include "workers/engine/vitals.h"

#define TICK_MS 100
#define CLOSE_MS 10000               /* on top of the drain, for leaving the group and a batch in hand */
#define RETENTION_WARN_MS (60 * 1000)

/* What runs: the worker, or each of its sinks that is on. */
struct part {
	const struct worker_entry *entry;
	struct vitals vitals;
	struct chores *chores;
};
#define PARTS_MAX 8

struct engine {
	const struct worker_entry *entry;
	const struct settings *settings;
	struct queue *queue;
	struct producer *producer;
	struct admin *admin;
	struct part parts[PARTS_MAX];
	size_t part_count;
	struct loop **loops;
	size_t loop_count;
	bool is_ready;
	int64_t warned_ms;
};

static bool is_on(const struct worker_entry *entry, const struct settings *settings)
{
	return entry->ops->is_on == NULL || entry->ops->is_on(settings);
}

static size_t threads_of(const struct engine *engine, const struct part *part)
{
	return (size_t)part->entry->ops->settings(engine->settings)->threads;
}

static const char *shown(const char *setting)
{
	return setting != NULL && setting[0] != '\0' ? setting : NULL;
}

/* "rabbitmq=off redis webhook" */
static void list_sinks(const struct engine *engine, char *out, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < engine->entry->sink_count && len < size; i++) {
		const struct worker_entry *sink = &engine->entry->sinks[i];
		const char *dot = strrchr(sink->name, '.');

		len += (size_t)snprintf(out + len, size - len, "%s%s%s", i > 0 ? " " : "", dot != NULL ? dot + 1 : sink->name,
			is_on(sink, engine->settings) ? "" : "=off");
	}
}

static void log_start(const struct engine *engine)
{
	const struct worker_entry *first = engine->entry->sinks != NULL ? &engine->entry->sinks[0] : engine->entry;
	const struct worker_settings *limits = first->ops->settings(engine->settings);
	struct buf queue = BUF_INIT;
	char sinks[256] = "";

	queue_describe(engine->settings, &queue);
	list_sinks(engine, sinks, sizeof(sinks));
	log_info("start", log_str("version", FEEDMILL_VERSION), log_str("topic", engine->entry->topic), log_str("sinks", shown(sinks)),
		log_int("threads", limits->threads), log_int("batch", limits->batch), log_int("linger_ms", limits->linger_ms),
		log_str(engine->settings->queue.type, queue.data),
		log_str("topic_prefix", shown(engine->settings->kafka.topic_prefix)), log_str("instance", shown(engine->settings->instance)),
		log_int("admin_port", admin_port(engine->admin)));
	buf_release(&queue);
}

static int64_t sum(const struct engine *engine, enum outcome outcome)
{
	int64_t total = 0;

	for (size_t i = 0; i < engine->part_count; i++)
		total += metric_value(engine->parts[i].vitals.outcomes[outcome]);
	return total;
}

static void log_stop(const struct engine *engine, int code)
{
	int64_t batches = 0;

	for (size_t i = 0; i < engine->part_count; i++)
		batches += metric_value(engine->parts[i].vitals.batches);
	log_info("stop", log_int("done", sum(engine, DONE)), log_int("retried", sum(engine, RETRY)), log_int("rejected", sum(engine, REJECT)),
		log_int("batches", batches), log_int("code", code));
}

/* With several sinks: one that works is enough; none that is on: nothing is missing. */
static bool some_ready(const struct engine *engine)
{
	for (size_t i = 0; i < engine->part_count; i++)
		if (vitals_ready(&engine->parts[i].vitals))
			return true;
	return engine->part_count == 0;
}

static bool ask_sinks(void *arg, struct err *why)
{
	if (some_ready(arg))
		return true;
	err_set(why, ERR_UNAVAILABLE, "no sink is in order");
	return false;
}

static int start_part(struct engine *engine, struct part *part, struct err *err)
{
	const struct loop_shared shared = { part->entry, engine->settings, engine->queue, engine->producer, &part->vitals };

	for (size_t i = 0; i < part->vitals.pulse_count; i++) {
		if (loop_start(&shared, i, &engine->loops[engine->loop_count], err) < 0)
			return -1;
		engine->loop_count++;
	}
	return chores_start(part->entry, engine->settings, engine->queue, &part->vitals, &part->chores, err);
}

static int start(struct engine *engine, struct err *err)
{
	struct health_check checks[PARTS_MAX * VITALS_CHECKS + 1];
	size_t count = 0;

	for (size_t i = 0; i < engine->part_count; i++, count += VITALS_CHECKS)
		vitals_checks(&engine->parts[i].vitals, engine->entry->sinks != NULL, engine->settings->queue.type, &checks[count]);
	if (engine->entry->sinks != NULL)
		checks[count++] = (struct health_check){ .name = "sinks", .fatal = true, .ask = ask_sinks, .arg = engine };
	if (admin_start(engine->settings->worker_admin, checks, count, &engine->admin, err) < 0)
		return -1;
	log_start(engine);
	for (size_t i = 0; i < engine->part_count; i++)
		if (start_part(engine, &engine->parts[i], err) < 0)
			return -1;
	return 0;
}

/* Records that are older than half of what their topic keeps are on the way to be lost: somebody has to know. */
static void watch_retention(struct engine *engine, struct part *part)
{
	const double oldest_s = vitals_oldest_s(&part->vitals);
	const int64_t now = clock_mono_ms();

	if (part->vitals.retention_ms <= 0 || oldest_s * 2000 < (double)part->vitals.retention_ms)
		return;
	if (engine->warned_ms != 0 && now - engine->warned_ms < RETENTION_WARN_MS)
		return;
	engine->warned_ms = now;
	log_warn("records are older than half of the topic's retention", log_str("group", part->entry->name),
		log_str("topic", part->entry->topic), log_int("oldest_s", (int64_t)oldest_s), log_int("retention_s", part->vitals.retention_ms / 1000));
}

/* A thread that waits for a dependency that is away still moves: only one that hangs in a call does not. */
static void watch_threads(struct engine *engine)
{
	int64_t since_ms;

	if (!engine->is_ready || !notify_is_due(&since_ms))
		return;
	for (size_t i = 0; i < engine->part_count; i++)
		if (!vitals_moved(&engine->parts[i].vitals, since_ms))
			return;
	notify_alive();
}

static void watch(struct engine *engine)
{
	while (!stop_wait(TICK_MS)) {
		const bool is_producing = producer_ready(engine->producer, NULL);

		for (size_t i = 0; i < engine->part_count; i++) {
			atomic_store(&engine->parts[i].vitals.is_producing, is_producing);
			watch_retention(engine, &engine->parts[i]);
		}
		if (!engine->is_ready && some_ready(engine)) {
			engine->is_ready = true;
			notify_ready();
			log_info("ready", log_int("admin_port", admin_port(engine->admin)));
		}
		watch_threads(engine);
	}
}

/* Every loop drains by itself. One that does not end (a call that never returns) can't be freed: the process leaves at once,
 * and what it had in hand comes again. */
static void join_loops(struct engine *engine, int *code)
{
	const int64_t deadline = clock_mono_ms() + engine->settings->drain_timeout_ms + CLOSE_MS;

	for (size_t i = 0; i < engine->loop_count; i++) {
		if (loop_join(engine->loops[i], deadline) < 0) {
			log_error("a thread does not end, leaving", log_int("thread", (int64_t)i));
			_exit(EXIT_FAILURE);
		}
		if (loop_failed(engine->loops[i]))
			*code = EXIT_FAILURE;
	}
}

static bool stop_chores(struct engine *engine)
{
	const int64_t deadline = clock_mono_ms() + CLOSE_MS;
	bool is_tidy = true;

	for (size_t i = 0; i < engine->part_count; i++)
		is_tidy &= chores_stop(engine->parts[i].chores, deadline);
	return is_tidy;
}

/* The producer is closed before the loops are freed: its last reports go to them. */
static void close_all(struct engine *engine)
{
	const bool is_tidy = stop_chores(engine);

	if (engine->admin != NULL)
		admin_stop(engine->admin);
	if (engine->producer != NULL) {
		producer_flush(engine->producer, engine->settings->drain_timeout_ms);
		producer_close(engine->producer);
	}
	for (size_t i = 0; i < engine->loop_count; i++)
		loop_free(engine->loops[i]);
	free(engine->loops);
	if (!is_tidy)
		return; /* its thread still looks at these */
	if (engine->queue != NULL)
		queue_close(engine->queue);
	for (size_t i = 0; i < engine->part_count; i++)
		vitals_release(&engine->parts[i].vitals);
}

static size_t add_part(struct engine *engine, const struct worker_entry *entry)
{
	struct part *part = &engine->parts[engine->part_count++];

	part->entry = entry;
	vitals_init(&part->vitals, entry, threads_of(engine, part));
	return part->vitals.pulse_count;
}

/* Returns how many threads there will be. */
static size_t add_parts(struct engine *engine)
{
	size_t threads = 0;

	if (engine->entry->sinks == NULL)
		return add_part(engine, engine->entry);
	for (size_t i = 0; i < engine->entry->sink_count && i < PARTS_MAX; i++)
		if (is_on(&engine->entry->sinks[i], engine->settings))
			threads += add_part(engine, &engine->entry->sinks[i]);
	return threads;
}

int engine_run(const struct worker_entry *entry, const struct settings *settings)
{
	struct engine engine = { .entry = entry, .settings = settings };
	struct err err = ERR_INIT;
	int code = EXIT_FAILURE;

	log_open("feed-worker", entry->name);
	packages_warn();
	engine.loops = mem_array(add_parts(&engine) + 1, sizeof(*engine.loops));
	if (queue_open(settings, &engine.queue, &err) < 0)
		goto out;
	if (producer_open(engine.queue, PRODUCER_LOW_LATENCY | PRODUCER_PATIENT, &engine.producer, &err) < 0)
		goto out;
	if (start(&engine, &err) < 0)
		goto out;
	code = EXIT_SUCCESS;
	watch(&engine);
	notify_stopping();
	log_info("draining");
out:
	if (code != EXIT_SUCCESS)
		log_error("can't start", log_err(&err));
	stop_request();
	join_loops(&engine, &code);
	log_stop(&engine, code);
	close_all(&engine);
	return code;
}
