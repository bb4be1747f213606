/* A worker and the settings go in, an exit code comes out when the process is asked to stop. */
#include "workers/engine/engine.h"

#include <stdlib.h>
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
#include "workers/engine/loop.h"
#include "workers/engine/vitals.h"

#define TICK_MS 100
#define CLOSE_MS 10000               /* on top of the drain, for leaving the group and a batch in hand */
#define RETENTION_WARN_MS (60 * 1000)

struct engine {
	const struct worker_entry *entry;
	const struct settings *settings;
	struct queue *queue;
	struct producer *producer;
	struct admin *admin;
	struct vitals vitals;
	struct loop **loops;
	size_t loop_count;
	bool is_ready;
	int64_t warned_ms;
};

static const char *shown(const char *setting)
{
	return setting != NULL && setting[0] != '\0' ? setting : NULL;
}

static void log_start(const struct engine *engine)
{
	const struct worker_settings *limits = engine->entry->ops->settings(engine->settings);

	log_info("start", log_str("version", FEEDMILL_VERSION), log_str("topic", engine->entry->topic), log_int("threads", limits->threads),
		log_int("batch", limits->batch), log_int("linger_ms", limits->linger_ms), log_str("brokers", engine->settings->kafka.brokers),
		log_str("topic_prefix", shown(engine->settings->kafka.topic_prefix)), log_str("instance", shown(engine->settings->instance)),
		log_int("admin_port", admin_port(engine->admin)));
}

static void log_stop(const struct engine *engine, int code)
{
	const struct vitals *vitals = &engine->vitals;

	log_info("stop", log_int("done", metric_value(vitals->outcomes[DONE])), log_int("retried", metric_value(vitals->outcomes[RETRY])),
		log_int("rejected", metric_value(vitals->outcomes[REJECT])), log_int("batches", metric_value(vitals->batches)),
		log_int("code", code));
}

static int start(struct engine *engine, struct err *err)
{
	const struct loop_shared shared = { engine->entry, engine->settings, engine->queue, engine->producer, &engine->vitals };
	struct health_check checks[VITALS_CHECKS];

	vitals_checks(&engine->vitals, checks);
	if (admin_start(engine->settings->worker_admin, checks, VITALS_CHECKS, &engine->admin, err) < 0)
		return -1;
	log_start(engine);
	for (size_t i = 0; i < engine->vitals.pulse_count; i++) {
		if (loop_start(&shared, i, &engine->loops[i], err) < 0)
			return -1;
		engine->loop_count++;
	}
	return 0;
}

/* Records that are older than half of what their topic keeps are on the way to be lost: somebody has to know. */
static void watch_retention(struct engine *engine)
{
	const double oldest_s = vitals_oldest_s(&engine->vitals);
	const int64_t now = clock_mono_ms();

	if (engine->vitals.retention_ms <= 0 || oldest_s * 2000 < (double)engine->vitals.retention_ms)
		return;
	if (engine->warned_ms != 0 && now - engine->warned_ms < RETENTION_WARN_MS)
		return;
	engine->warned_ms = now;
	log_warn("records are older than half of the topic's retention", log_str("topic", engine->entry->topic),
		log_int("oldest_s", (int64_t)oldest_s), log_int("retention_s", engine->vitals.retention_ms / 1000));
}

/* A thread that waits for a dependency that is away still moves: only one that hangs in a call does not. */
static void watch_threads(struct engine *engine)
{
	int64_t since_ms;

	if (engine->is_ready && notify_is_due(&since_ms) && vitals_moved(&engine->vitals, since_ms))
		notify_alive();
}

static void watch(struct engine *engine)
{
	while (!stop_wait(TICK_MS)) {
		atomic_store(&engine->vitals.is_producing, producer_ready(engine->producer, NULL));
		watch_retention(engine);
		if (!engine->is_ready && vitals_ready(&engine->vitals)) {
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

/* The producer is closed before the loops are freed: its last reports go to them. */
static void close_all(struct engine *engine)
{
	if (engine->admin != NULL)
		admin_stop(engine->admin);
	if (engine->producer != NULL) {
		producer_flush(engine->producer, engine->settings->drain_timeout_ms);
		producer_close(engine->producer);
	}
	for (size_t i = 0; i < engine->loop_count; i++)
		loop_free(engine->loops[i]);
	free(engine->loops);
	if (engine->queue != NULL)
		queue_close(engine->queue);
	vitals_release(&engine->vitals);
}

int engine_run(const struct worker_entry *entry, const struct settings *settings)
{
	struct engine engine = { .entry = entry, .settings = settings };
	const size_t threads = (size_t)entry->ops->settings(settings)->threads;
	struct err err = ERR_INIT;
	int code = EXIT_FAILURE;

	log_open("feed-worker", entry->name);
	packages_warn();
	vitals_init(&engine.vitals, entry, threads);
	engine.loops = mem_array(threads, sizeof(*engine.loops));
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
