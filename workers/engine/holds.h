/* holds: which partitions of a thread stand still until a time: the record at their head is not due yet, or waits for another try
 * where it is. Memory only; the loop does what follows from it. */
#ifndef FEEDMILL_WORKERS_ENGINE_HOLDS_H
#define FEEDMILL_WORKERS_ENGINE_HOLDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/queue/queue.h"

struct hold {
	const char *topic; /* the consumer's */
	int32_t partition;
	int64_t offset;    /* of the record at the head */
	int64_t until_ms;  /* monotonic */
	bool is_firm;      /* the consumer holds it. Else it brings records that are let go, and has to be sought back in the end */
	bool is_on;        /* false: the time is over; kept so that the record is known when it comes */
	unsigned stage;    /* of a retry in place: delays that lie behind it; 0: the record was only not due */
	unsigned tries;    /* likewise: how often handle() had it */
};

struct holds {
	struct hold *list;
	size_t count, size;
};

void holds_release(struct holds *holds);

struct hold *holds_find(const struct holds *holds, const char *topic, int32_t partition); /* on or not; NULL: none */
bool holds_on(const struct holds *holds, const char *topic, int32_t partition);
void holds_put(struct holds *holds, const struct hold *hold); /* in place of the partition's last one */
/* A record of this place is taken: what is known of earlier ones is over. Returns what is known of this one, or NULL. */
const struct hold *holds_pass(struct holds *holds, const struct record *record);
void holds_forget(struct holds *holds, const struct topic_partition *gone, size_t count);

#endif
