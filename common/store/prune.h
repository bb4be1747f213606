/* prune: takes away rows that nobody asks for any more, some at a time, each time in a short transaction of its own. Uses store,
 * queue.
 *
 * A ledger row may go when the record that it answers for can't come again: when it was written more than PRUNE_MARGIN_MS before the
 * oldest record that the topic still has, and before its retention. Kafka keeps records for longer than the retention, as long as
 * newer ones are in the same file. Any number of programs may prune at once: what one has deleted the other does not find, and
 * ERR_CONFLICT means that the other is at it. */
#ifndef FEEDMILL_STORE_PRUNE_H
#define FEEDMILL_STORE_PRUNE_H

#include "common/queue/queue.h"
#include "common/store/store.h"

#define PRUNE_MARGIN_MS INT64_C(86400000)
#define PRUNE_ROWS 500 /* that are deleted in one transaction */

struct prune_kind {
	const char *name;  /* "commands" */
	const char *topic; /* whose records the rows answer for; NULL: they have a time of their own */
	const char *what;  /* for people */
	/* Rows of before `before_ms` (wall clock; of no matter where there is no topic). */
	int (*count)(struct store *store, int64_t before_ms, int64_t *rows, struct err *err);
	int (*some)(struct store *store, int64_t before_ms, size_t limit, int64_t *deleted, struct err *err);
};

extern const struct prune_kind prune_table[];
extern const size_t prune_count;

/* Before when a kind's rows may go. ERR_UNAVAILABLE: the topic does not tell, so nothing may. */
int prune_before(const struct prune_kind *kind, struct queue *queue, int64_t timeout_ms, int64_t *before_ms, struct err *err);

/* All that may go, until is_over() says so, which is asked after each transaction with the sum so far. */
typedef bool prune_over_fn(void *arg, const struct prune_kind *kind, int64_t deleted);
int prune_all(const struct prune_kind *kind, struct store *store, int64_t before_ms, prune_over_fn *is_over, void *arg, struct err *err);

#endif
