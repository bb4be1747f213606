/* results: outcomes of commands (and fan-outs of posts that are waited for) as they come in on feed.results. Uses queue.
 *
 * A thread reads one partition, that of this gateway's number, from where it ended when the number was taken. It is a wake-up
 * only: an outcome that nobody waits for, or that comes twice, is dropped, and one that is missed is in the ledger. So when the
 * place is lost (the topic keeps records for an hour, or was made again) it goes on at the end. */
#ifndef FEEDMILL_API_GATEWAY_RESULTS_H
#define FEEDMILL_API_GATEWAY_RESULTS_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/str.h"

struct queue;
struct results;

/* One outcome; body is JSON, the entity or the problem, borrowed. Must not block. */
typedef void outcome_fn(void *arg, struct slice command, bool is_done, struct slice body);

/* failed: the thread can't go on. */
int results_open(struct queue *queue, outcome_fn *outcome, void (*failed)(void *arg), void *arg, struct results **out, struct err *err);
void results_follow(struct results *results, int number); /* read that partition; it is assigned soon. Any thread */
int results_partition(const struct results *results);     /* what is read now: HEADER_REPLY; -1: nothing yet */
bool results_ready(const struct results *results, struct err *why);
int64_t results_beat_ms(const struct results *results);     /* when the thread made its last round, monotonic clock */
void results_close(struct results *results); /* NULL is fine */

#endif
