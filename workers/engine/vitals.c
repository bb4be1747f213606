/* Signs of life of a worker's threads go in; metrics and answers to health checks come out. */
#include "workers/engine/vitals.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/queue/topics.h"

#define STUCK_MS (5 * 60 * 1000) /* in one call, the worker's or the queue's: as long as Kafka waits for a member to poll */

static const char *const outcome_names[] = { [DONE] = "done", [RETRY] = "retry", [REJECT] = "reject" };

/* Both gauges are about the thread that is worst off. */
static double progress_age_s(void *arg)
{
	const struct vitals *vitals = arg;
	int64_t oldest = clock_mono_ms();

	for (size_t i = 0; i < vitals->pulse_count; i++) {
		const int64_t progress = atomic_load(&vitals->pulses[i].progress_ms);

		oldest = progress < oldest ? progress : oldest;
	}
	return (double)(clock_mono_ms() - oldest) / 1000;
}

double vitals_oldest_s(void *arg)
{
	const struct vitals *vitals = arg;
	const int64_t now = clock_wall_ms();
	const int64_t backlog = atomic_load(&vitals->backlog_oldest_ms);
	int64_t age = backlog > 0 && now > backlog ? now - backlog : 0;

	for (size_t i = 0; i < vitals->pulse_count; i++) {
		const int64_t oldest = atomic_load(&vitals->pulses[i].oldest_ms);

		if (oldest > 0 && now - oldest > age)
			age = now - oldest;
	}
	return (double)age / 1000;
}

static double retention_used(void *arg)
{
	const struct vitals *vitals = arg;

	return vitals->retention_ms > 0 ? vitals_oldest_s(arg) * 1000 / (double)vitals->retention_ms : 0;
}

/* ---- life cycle */

static const char *label(char out[96], const char *worker, const char *key, const char *value)
{
	if (key == NULL)
		snprintf(out, 96, "worker=\"%s\"", worker);
	else
		snprintf(out, 96, "worker=\"%s\",%s=\"%s\"", worker, key, value);
	return out;
}

static void make_counters(struct vitals *vitals)
{
	const char *worker = vitals->entry->name;
	char labels[96];

	for (int i = DONE; i <= REJECT; i++)
		vitals->outcomes[i] = metric_counter("feedmill_worker_records_total", label(labels, worker, "outcome", outcome_names[i]),
			"Records handled, by outcome.");
	for (int kind = ERR_INVALID; kind <= ERR_FATAL; kind++)
		vitals->failures[kind] = metric_counter("feedmill_worker_failures_total",
			label(labels, worker, "kind", err_kind_name((enum err_kind)kind)), "Batches that came to nothing and were tried again, by reason.");
	label(labels, worker, NULL, NULL);
	vitals->batches = metric_counter("feedmill_worker_batches_total", labels, "Batches fetched.");
	vitals->batch_records = metric_gauge("feedmill_worker_batch_records", labels, "Records of the last batch.");
	vitals->handle_seconds = metric_histogram("feedmill_worker_handle_seconds", labels, "Time in the worker's own code, by batch.");
	vitals->settle_seconds = metric_histogram("feedmill_worker_settle_seconds", labels,
		"Time from a batch's fetch until its offsets were stored.");
	vitals->unsettled = metric_gauge("feedmill_worker_unsettled_batches", labels, "Batches whose outputs are not acknowledged yet.");
	vitals->dead_letters = metric_counter("feedmill_worker_dead_letters_total", labels, "Records sent to the dead letter topic.");
	vitals->retries = metric_counter("feedmill_worker_retries_total", labels,
		"Records that could not be done and were put off: to a retry topic, or where order counts, in place.");
	vitals->held = metric_gauge("feedmill_worker_held_partitions", labels, "Partitions that stand still until their next record is due.");
	vitals->rewinds = metric_counter("feedmill_worker_rewinds_total", labels,
		"Times the thread went back because an output was not stored.");
	metric_gauge_read("feedmill_worker_progress_age_seconds", labels,
		"Time since the slowest thread got something done or found nothing to do.", progress_age_s, vitals);
	metric_gauge_read("feedmill_worker_oldest_unprocessed_seconds", labels, "Age of the oldest record that the group has not done.", vitals_oldest_s, vitals);
	metric_gauge_read("feedmill_worker_retention_used_ratio", labels,
		"Age of the oldest record that the group has not done, as a part of its topic's retention: at 1 records are lost.", retention_used, vitals);
}

void vitals_init(struct vitals *vitals, const struct worker_entry *entry, size_t threads)
{
	const struct topic *topic = topic_find(entry->topic);

	*vitals = (struct vitals){ .entry = entry, .pulse_count = threads };
	vitals->retention_ms = topic != NULL ? topic->retention_ms : 0;
	vitals->pulses = mem_array(threads, sizeof(*vitals->pulses));
	pthread_mutex_init(&vitals->lock, NULL);
	for (size_t i = 0; i < threads; i++) {
		atomic_store(&vitals->pulses[i].progress_ms, clock_mono_ms());
		snprintf(vitals->pulses[i].why, sizeof(vitals->pulses[i].why), "not asked yet");
	}
	make_counters(vitals);
}

void vitals_release(struct vitals *vitals)
{
	pthread_mutex_destroy(&vitals->lock);
	free(vitals->pulses);
	vitals->pulses = NULL;
	vitals->pulse_count = 0;
}

void vitals_checked(struct vitals *vitals, struct pulse *pulse, const struct err *why)
{
	if (why != NULL) {
		pthread_mutex_lock(&vitals->lock);
		snprintf(pulse->why, sizeof(pulse->why), "%s", why->message);
		pthread_mutex_unlock(&vitals->lock);
	}
	atomic_store(&pulse->is_checked, why == NULL);
}

/* ---- checks */

static bool ask_kafka(void *arg, struct err *why)
{
	const struct vitals *vitals = arg;
	size_t away = 0;

	for (size_t i = 0; i < vitals->pulse_count; i++)
		away += !atomic_load(&vitals->pulses[i].is_connected);
	if (away > 0)
		err_set(why, ERR_UNAVAILABLE, "%zu of %zu threads have not joined the group %s", away, vitals->pulse_count, vitals->entry->name);
	else if (!atomic_load(&vitals->is_producing))
		err_set(why, ERR_UNAVAILABLE, "the producer does not see all topics");
	else
		return true;
	return false;
}

static bool ask_dependency(void *arg, struct err *why)
{
	struct vitals *vitals = arg;

	for (size_t i = 0; i < vitals->pulse_count; i++) {
		struct pulse *pulse = &vitals->pulses[i];

		if (atomic_load(&pulse->is_checked))
			continue;
		pthread_mutex_lock(&vitals->lock);
		err_set(why, ERR_UNAVAILABLE, "%s", pulse->why);
		pthread_mutex_unlock(&vitals->lock);
		return false;
	}
	return true;
}

static bool ask_progress(void *arg, struct err *why)
{
	const struct vitals *vitals = arg;
	const int64_t now = clock_mono_ms();

	for (size_t i = 0; i < vitals->pulse_count; i++) {
		const int64_t since = atomic_load(&vitals->pulses[i].handling_since_ms), beat = atomic_load(&vitals->pulses[i].beat_ms);

		if (since > 0 && now - since > STUCK_MS) {
			err_set(why, ERR_UNAVAILABLE, "thread %zu has been busy with one batch for %lld s", i, (long long)((now - since) / 1000));
			return false;
		}
		if (beat > 0 && now - beat > STUCK_MS) { /* one that has not begun yet waits for its dependency */
			err_set(why, ERR_UNAVAILABLE, "thread %zu has not come back from a call for %lld s", i, (long long)((now - beat) / 1000));
			return false;
		}
	}
	return true;
}

bool vitals_moved(const struct vitals *vitals, int64_t since_mono_ms)
{
	for (size_t i = 0; i < vitals->pulse_count; i++)
		if (atomic_load(&vitals->pulses[i].beat_ms) <= since_mono_ms)
			return false;
	return true;
}

bool vitals_ready(const struct vitals *vitals)
{
	for (size_t i = 0; i < vitals->pulse_count; i++)
		if (!atomic_load(&vitals->pulses[i].is_connected) || !atomic_load(&vitals->pulses[i].is_checked))
			return false;
	return atomic_load(&vitals->is_producing);
}

void vitals_checks(struct vitals *vitals, bool is_sink, const char *queue, struct health_check checks[VITALS_CHECKS])
{
	const char *what[VITALS_CHECKS] = { queue, vitals->entry->ops->dependency, "progress" };

	checks[0] = (struct health_check){ .fatal = !is_sink, .ask = ask_kafka };
	checks[1] = (struct health_check){ .fatal = !is_sink, .ask = ask_dependency };
	checks[2] = (struct health_check){ .fatal = true, .live = true, .ask = ask_progress };
	for (size_t i = 0; i < VITALS_CHECKS; i++) {
		snprintf(vitals->check_names[i], sizeof(vitals->check_names[i]), "%s%s%s", is_sink ? vitals->entry->name : "",
			is_sink ? "." : "", what[i]);
		checks[i].name = vitals->check_names[i];
		checks[i].arg = vitals;
	}
}
