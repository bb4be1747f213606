/* pending: the requests that wait: for the delivery report of their record, then perhaps for its result. Uses base.
 *
 * Several threads want to answer one request: the producer's with a report, the results reader's, the sweeper's when the time
 * is up. Whoever takes the waiter out of the table answers, nobody else: every function that takes says so by its result.
 * A waiter is part of the request's own memory (struct call), which lives at least until it is taken. */
#ifndef FEEDMILL_API_GATEWAY_PENDING_H
#define FEEDMILL_API_GATEWAY_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"
#include "common/base/uuid.h"

struct waiter {
	char command[UUID_TEXT]; /* what it waits for */
	int64_t report_by_ms;    /* monotonic clock: until then the record should be reported, */
	int64_t answer_by_ms;    /* and until then, once it is reported as stored, its result is waited for */
	bool is_stored;          /* the table's, under its lock, from here on */
	bool is_waiting;
	struct waiter *next;
};

/* The time of a waiter was up and it was taken, its record being reported as stored or not: answer it. Called by the sweeper's
 * thread; must not block. */
typedef void expired_fn(struct waiter *waiter, bool is_stored);

struct pending;

struct pending *pending_new(expired_fn *expired); /* starts the sweeper */
void pending_free(struct pending *pending);       /* NULL is fine; nobody may wait any more, see pending_close() */

bool pending_add(struct pending *pending, struct waiter *waiter); /* false: closed, the waiter is the caller's */
bool pending_take(struct pending *pending, struct waiter *waiter); /* false: another has it */
struct waiter *pending_find(struct pending *pending, struct slice command); /* takes; NULL: nobody waits for that */
void pending_stored(struct pending *pending, struct waiter *waiter); /* its record is: from now answer_by_ms counts. Nothing when it was taken */

void pending_sweep(struct pending *pending, int64_t now_ms); /* what the sweeper does every PENDING_SWEEP_MS */
#define PENDING_SWEEP_MS 50

size_t pending_count(const struct pending *pending);
/* Takes no more, and lets all that wait expire now. */
void pending_close(struct pending *pending);

#endif
