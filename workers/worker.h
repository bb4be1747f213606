/* worker: what one worker is to the engine. A worker file ends with its struct worker_ops; registry.c is the table.
 *
 * The engine (workers/engine) fetches records into a batch, lets the worker handle it, and settles it: offsets are
 * stored when the worker's effects are committed and its output records are acknowledged. A worker never touches offsets.
 *
 * handle() gets 1 … batch-size records of one thread, in order of each partition, and must be a function of the records and
 * the store: the same batch may come again, whole or in parts, after any failure, and then changes nothing.
 *   returns 0   effects are committed; each item has its outcome (DONE unless the worker said otherwise), and what was
 *               given to batch_emit() is sent
 *   returns -1  nothing was committed (or nobody knows); what was emitted is forgotten; by err->kind:
 *               ERR_UNAVAILABLE, ERR_FULL  the dependency is down: partitions pause, the same batch comes after a backoff
 *               ERR_CONFLICT, ERR_UNKNOWN  the same batch comes again soon; when that has no end it is halved, and the record that
 *                                          can't win alone is a RETRY
 *               ERR_INVALID                some record is wrong: the batch is halved until it is alone, and REJECTed
 *               ERR_FATAL                  the process drains and exits with 1 */
#ifndef FEEDMILL_WORKERS_WORKER_H
#define FEEDMILL_WORKERS_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/queue/queue.h"
#include "common/queue/record.h"

enum outcome {
	DONE,   /* effects are in place, or were before */
	RETRY,  /* this record can't be done now, others can: it comes again after the delays of the setting, then it is a dead letter.
	         * Its worker's row says how: see enum retries */
	REJECT, /* this record is wrong: to <worker>.dlq with the reason */
};

struct item {
	const struct record *record;
	enum outcome outcome;
	struct err why; /* for RETRY and REJECT */
	unsigned tries; /* how often handle() had it; the engine's, as is: */
	unsigned stage; /* how many delays of a retry in place lie behind it */
};

struct batch {
	struct item *items;
	size_t count;
	struct outbox *outbox;   /* what batch_emit() collected; the engine's */
	const struct consumer *consumer; /* whose partitions these are; NULL in unit tests: owned */
};

void batch_reject(struct batch *batch, size_t i, const struct err *why);
void batch_retry(struct batch *batch, size_t i, const struct err *why);

/* Sends a record when handle() has returned 0; copies. The trace of item i goes with it. */
void batch_emit(struct batch *batch, size_t i, const struct record *record);

/* All partitions of the batch are still this thread's. false: ROLLBACK and return ERR_CONFLICT. */
bool batch_still_owned(const struct batch *batch);

struct worker_ops {
	const struct worker_settings *(*settings)(const struct settings *settings); /* its rows of the settings table */
	/* One state a thread, with its own database connection (stores reconnect by themselves). */
	int (*open)(const struct settings *settings, void **state, struct err *err);
	/* What it depends on ("store", "search": its line in /readyz) is there and fits this program. Asked at start, before the
	 * first record, until it says 0 or ERR_FATAL, and now and then while there is nothing to do. */
	const char *dependency;
	int (*check)(void *state, struct err *err);
	int (*handle)(void *state, struct batch *batch, struct err *err);
	void (*close)(void *state); /* NULL is fine */
	bool (*is_on)(const struct settings *settings); /* of a sink: its settings are there; NULL: it always is */
	/* What is to be done now and then beside the records, on a thread of its own: every tend_s() seconds, 0: never. Other
	 * processes of this worker do the same. tend NULL: nothing. */
	int64_t (*tend_s)(const struct settings *settings);
	int (*tend)(const struct settings *settings, struct queue *queue, struct err *err);
};

/* What becomes of a RETRY. */
enum retries {
	RETRY_IN_PLACE, /* order counts: its partition waits for it. The worker says RETRY of all later records of the partition too */
	RETRY_BY_TOPIC, /* it goes to <worker>.retry.<delay>, and its partition goes on */
};

struct worker_entry {
	const char *name;  /* also the consumer group */
	const char *topic; /* that it reads */
	const char *writes;
	const struct worker_ops *ops;
	enum retries retries; /* consumer_group_table in topics.c agrees */
	/* A worker with several places to bring its records to has these in place of ops: each a row of its own, with a group of its own
	 * ("relay.redis"), so that one whose place is away does not hold up the others. The process runs those that are on. */
	const struct worker_entry *sinks;
	size_t sink_count;
	int (*run)(const struct settings *settings); /* runs itself, without the engine: the exit code; else NULL */
};

extern const struct worker_entry worker_table[];
extern const size_t worker_count;

const struct worker_entry *worker_find(const char *name); /* NULL: no such worker */

#endif
