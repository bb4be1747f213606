/* settle: when the offsets of a batch may be stored: once its output records are acknowledged, and those of every batch before it.
 *
 * A settler is one thread's first-in-first-out of settlements, one for each batch. The thread goes on while acknowledgements
 * are outstanding; they alone come from another thread (the producer's). An output that is not stored fails its settlement:
 * nothing of it and of the later ones is stored, the partitions go back to the first offset that is not settled, and the same
 * records come again. Reaches the queue by functions, so that it is tested without one. */
#ifndef FEEDMILL_WORKERS_ENGINE_SETTLE_H
#define FEEDMILL_WORKERS_ENGINE_SETTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/queue/queue.h"

struct settler;
struct settlement;

struct settle_ops {
	int (*send)(void *arg, const struct record *record, sent_fn *done, void *done_arg, struct err *err); /* see producer_send() */
	void (*store)(void *arg, const char *topic, int32_t partition, int64_t offset); /* a failure only means a later replay */
	int (*seek)(void *arg, const char *topic, int32_t partition, int64_t offset, struct err *err); /* 0 also when the partition is not ours any more */
	void (*settled)(void *arg, int64_t opened_mono_us); /* a batch is through; may be NULL */
};

struct settler *settler_new(const struct settle_ops *ops, void *arg);
void settler_free(struct settler *settler); /* after the producer is closed: acknowledgements come until then. NULL is fine */

/* The settlement of a batch, behind all others. Lives until it is collected, forgotten or rewound. */
struct settlement *settle_open(struct settler *settler);
/* This record is part of it. `topic` is borrowed for as long as the settlement lives: the consumer's. */
void settle_cover(struct settlement *settlement, const char *topic, int32_t partition, int64_t offset);
/* This one, and those of its partition behind it, are not: they will come again. */
void settle_uncover(struct settlement *settlement, const char *topic, int32_t partition, int64_t offset);
int settle_send(struct settlement *settlement, const struct record *output, struct err *err); /* -1: not sent, nothing changed */
void settle_fail(struct settlement *settlement, const char *why); /* an output can't be sent */
void settle_seal(struct settlement *settlement); /* no more outputs */

/* Stores the offsets of what is settled, oldest first. -1: the oldest has failed (settle_rewind() is due). */
int settle_collect(struct settler *settler, struct err *err);
/* Seeks every partition to its first offset that is not settled, and forgets all settlements. -1: a seek failed, nothing is
 * forgotten, do it again. */
int settle_rewind(struct settler *settler, struct err *err);
/* These partitions are not ours any more: their offsets are neither stored nor sought. */
void settle_forget(struct settler *settler, const struct topic_partition *gone, size_t count);

size_t settle_depth(struct settler *settler); /* batches that are not through */
/* Waits until the oldest can be collected or has failed. false: the time was up, or there is nothing to wait for. */
bool settle_wait(struct settler *settler, int64_t timeout_ms);

#endif
