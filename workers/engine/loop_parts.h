/* loop_parts: a worker's thread inside: what its files share. Nobody but loop*.c includes this.
 *
 *   loop.c          its life: open, turns, revocations, close
 *   loop_fetch.c    records in hand: fetched, kept while waiting, put off until they are due
 *   loop_work.c     one batch: handle() and what follows from it
 *   loop_suspect.c  records that may be what ended the process before */
#ifndef FEEDMILL_WORKERS_ENGINE_LOOP_PARTS_H
#define FEEDMILL_WORKERS_ENGINE_LOOP_PARTS_H

#include <pthread.h>

#include "common/queue/topics.h"
#include "workers/engine/attempt.h"
#include "workers/engine/batch.h"
#include "workers/engine/holds.h"
#include "workers/engine/loop.h"
#include "workers/engine/settle.h"

#define POLL_MS 100              /* longest sleep in the consumer: how late a stop signal is seen */
#define POLL_EVERY_MS 500        /* a wait longer than this is spent polling, so that the membership lives and rebalances go on */

/* A partition whose first records since we have it may be what ended the process. */
struct suspect {
	const char *topic;
	int32_t partition;
	int64_t tries;     /* begun and not ended, as found; a record alone that has too many is given up */
	int64_t from;      /* where the batch in hand begins; -1: it has none of the partition */
	bool is_first;     /* no record of it was handled yet: `tries` are of the next one */
	size_t alone;      /* so many more records go one at a time */
	int64_t since_ms;  /* monotonic: its first record was handled; 0: not yet */
	bool is_over;
};

struct loop {
	struct loop_shared shared;
	const struct worker_ops *ops;
	const struct worker_settings *limits;
	size_t number;
	pthread_t thread;
	atomic_bool is_failed;
	struct pulse *pulse;
	char instance[256];
	char retry_topics[DELAYS_MAX][TOPIC_NAME_MAX];
	const char *more_topics[DELAYS_MAX + 1];

	void *state; /* the worker's */
	bool is_open;
	struct consumer *consumer;
	struct settler *settler;

	struct record *records; /* the batch as fetched; released when it is worked off */
	size_t fetched;
	bool is_busy; /* the last batch had more than one */
	struct item *items;
	struct attempt attempt; /* what of it is to do */
	struct outbox outbox;

	struct record *stash; /* records that came while we were waiting: the next batch begins with them */
	size_t stashed, stash_size;

	struct holds holds;
	struct suspect *suspects; /* a row for each partition that a record came of, since we have it */
	size_t suspect_count, suspect_size;
	bool is_wary; /* the last batch was of suspects: it is settled before the next one begins */

	bool is_paused;
	int64_t polled_ms, checked_ms, complained_ms;
	bool is_down; /* the dependency; for one line in the log when it is back */
	struct backoff setback;
};

/* ---- loop.c: the log of trouble that lasts, which is told now and then, not each time */

bool loop_may_complain(struct loop *loop);
void loop_well(struct loop *loop);
void loop_unwell(struct loop *loop, const struct err *err, int64_t wait_ms);

/* ---- loop_fetch.c */

/* Up to `batch` records that are due, or what has come linger_ms after the first (at once, when the last batch had one), into the
 * attempt. */
int loop_fetch(struct loop *loop, struct err *err);
void loop_release_fetched(struct loop *loop);
void loop_keep_first(struct loop *loop); /* of what was fetched; the others come next */
/* Waits with the consumer polled and its partitions paused, so that the membership lives. Ends at a stop request. */
int loop_rest(struct loop *loop, int64_t wait_ms, struct err *err);
int loop_pump(struct loop *loop, int64_t timeout_ms, struct err *err); /* one such poll */
void loop_hold(struct loop *loop, const struct hold *hold); /* the partition stands still until then, and goes on with the hold's record */
void loop_drop_stashed(struct loop *loop, bool (*gone)(const struct record *record, const void *arg), const void *arg);
bool loop_is_held(const struct record *record, const void *loop); /* it is the one that its partition waits with, or behind it */

/* ---- loop_work.c */

int loop_work_off(struct loop *loop, struct err *err);

/* ---- loop_suspect.c */

size_t loop_batch_limit(struct loop *loop); /* records of the next batch at most */
void loop_meet_suspects(struct loop *loop);       /* the fetched batch: it may have to be shortened */
/* Before and after handle() has the first `width` records. true: the only one of them is given up, `why` says so, and is not handled. */
bool loop_suspects_begin(struct loop *loop, size_t width, struct err *why);
void loop_suspects_end(struct loop *loop, size_t width, bool is_done); /* before the items are taken from the attempt */
void loop_forget_suspects(struct loop *loop, const struct topic_partition *gone, size_t count);

#endif
