/* attempt: which records of a batch go into handle() next, what its return value means for them, and how long to wait before
 * the next try. No I/O: the loop does what is ruled here. */
#ifndef FEEDMILL_WORKERS_ENGINE_ATTEMPT_H
#define FEEDMILL_WORKERS_ENGINE_ATTEMPT_H

#include "common/base/backoff.h"
#include "workers/worker.h"

/* After so many conflicts in a row the batch is halved, to find the record that can't win; then each takes so many. */
#define ATTEMPT_CONFLICTS 20
#define ATTEMPT_CONFLICTS_MORE 2

enum ruling {
	RULING_TAKEN,  /* effects are committed, outcomes count: attempt_take() */
	RULING_AGAIN,  /* the same records again after the wait: lost a race */
	RULING_DOWN,   /* the same records again after the wait: something that the worker needs is away */
	RULING_HALVED, /* fewer records at once: one of them is wrong */
	RULING_WRONG,  /* this one record is wrong: its outcome is REJECT now, then attempt_take() */
	RULING_LOST,   /* this one record loses every race: its outcome is RETRY now, then attempt_take() */
	RULING_FATAL,
};

struct attempt {
	struct item *items;  /* still to do, in order */
	size_t count;
	size_t suspect;      /* some record among the first so many is wrong; 0: none known */
	unsigned conflicts;  /* in a row */
	bool is_halved_by_conflict;
	struct backoff down, conflict;
};

void attempt_start(struct attempt *attempt, struct item *items); /* nothing to do yet */
void attempt_add(struct attempt *attempt, const struct record *record); /* takes the next item */

size_t attempt_width(const struct attempt *attempt);  /* how many go now: the first so many items */
void attempt_prepare(struct attempt *attempt);        /* their outcomes: DONE until said otherwise */
enum ruling attempt_judge(struct attempt *attempt, int rc, const struct err *err, int64_t *wait_ms);

void attempt_take(struct attempt *attempt, size_t width); /* the first `width` items are worked off */
/* Drops the items for which gone() says so. */
void attempt_drop(struct attempt *attempt, bool (*gone)(const struct record *record, const void *arg), const void *arg);

#endif
