/* acks: which deliveries of one connection are done, so that many are acknowledged at once. Tags count from 1 on a connection; one of
 * an earlier connection is never acknowledged, because the broker has queued it again. */
#ifndef FEEDMILL_WORKERS_CELERY_ACKS_H
#define FEEDMILL_WORKERS_CELERY_ACKS_H

#include <stddef.h>
#include <stdint.h>

#include "common/queue/amqp.h"

struct acks {
	uint64_t generation;
	uint64_t first;        /* lowest tag that is not over */
	uint64_t next;         /* one past the highest that was seen */
	unsigned char *states; /* of first … next-1, a ring */
	size_t size;           /* a power of two */
	uint64_t *fresh;       /* done since the last flush */
	size_t fresh_count, fresh_size;
};

void acks_start(struct acks *acks, uint64_t generation); /* forgets all; also the first call */
void acks_release(struct acks *acks);
void acks_seen(struct acks *acks, uint64_t tag);         /* a delivery came */
void acks_done(struct acks *acks, uint64_t generation, uint64_t tag); /* acknowledge it with the next flush */
void acks_gone(struct acks *acks, uint64_t generation, uint64_t tag); /* it was rejected */
int acks_flush(struct acks *acks, struct amqp *amqp, struct err *err);

#endif
