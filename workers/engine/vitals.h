/* vitals: what an operator sees of a worker process: metrics, and the checks behind /readyz and /healthz.
 *
 * Each thread has a pulse, which it alone writes and anyone reads; the counters belong to all. */
#ifndef FEEDMILL_WORKERS_ENGINE_VITALS_H
#define FEEDMILL_WORKERS_ENGINE_VITALS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/metrics.h"
#include "common/http/admin.h"
#include "workers/worker.h"

struct pulse {
	_Atomic int64_t handling_since_ms; /* monotonic; 0: not in handle() */
	_Atomic int64_t beat_ms;           /* monotonic: the thread was not inside a call that waits for somebody else */
	_Atomic int64_t progress_ms;       /* monotonic: a batch was handled, or there was nothing to do */
	_Atomic int64_t oldest_ms;         /* wall clock: time of the oldest record in hand; 0: none */
	_Atomic bool is_connected;         /* to Kafka, and the group is joined */
	_Atomic bool is_checked;           /* the dependency answers */
	char why[sizeof(((struct err *)0)->message)]; /* it does not; under the lock of vitals */
};

struct vitals {
	const struct worker_entry *entry;
	struct pulse *pulses;
	size_t pulse_count;
	pthread_mutex_t lock;
	_Atomic bool is_producing; /* the producer sees its topics */
	_Atomic int64_t backlog_oldest_ms; /* wall clock: time of the oldest record that the group has not done, when last asked; 0: none */
	int64_t retention_ms;      /* of the topic that is read; 0: unknown */

	struct metric *outcomes[REJECT + 1];
	struct metric *batches, *batch_records, *handle_seconds, *settle_seconds, *unsettled;
	struct metric *failures[ERR_FATAL + 1]; /* of handle(), by kind */
	struct metric *dead_letters, *rewinds;
	struct metric *retries; /* records that were put off */
	struct metric *held;    /* partitions of all threads that stand still until a record is due */
	char check_names[3][64];
};

void vitals_init(struct vitals *vitals, const struct worker_entry *entry, size_t threads); /* must not move afterwards */
void vitals_release(struct vitals *vitals); /* after the admin port is closed; metrics may not be rendered any more */

/* The dependency's state as a thread sees it: why NULL, it answers. */
void vitals_checked(struct vitals *vitals, struct pulse *pulse, const struct err *why);

bool vitals_moved(const struct vitals *vitals, int64_t since_mono_ms); /* every thread has, also one that waits for a dependency */
bool vitals_ready(const struct vitals *vitals); /* connected, dependency there: all threads */
double vitals_oldest_s(void *vitals);           /* how long the oldest record that is not done has been in the topic; 0: none */

/* Of a sink (is_sink) all but progress is shown and does not count: the others go on. */
#define VITALS_CHECKS 3
void vitals_checks(struct vitals *vitals, bool is_sink, const char *queue, struct health_check checks[VITALS_CHECKS]);

#endif
