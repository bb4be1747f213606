/* Tags of deliveries go in as they are done, few acknowledgements come out. */
#include "workers/celery/acks.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/mem.h"

enum { OPEN, DONE, GONE };

void acks_start(struct acks *a, uint64_t generation)
{
	a->generation = generation;
	a->first = a->next = 1;
	a->fresh_count = 0;
	if (a->states == NULL) {
		a->size = 64;
		a->states = mem_zalloc(a->size);
	}
}

void acks_release(struct acks *a)
{
	free(a->states);
	free(a->fresh);
	memset(a, 0, sizeof(*a));
}

static unsigned char *state(const struct acks *a, uint64_t tag)
{
	return &a->states[tag & (a->size - 1)];
}

static void grow(struct acks *a)
{
	unsigned char *states = mem_zalloc(a->size * 2);

	for (uint64_t tag = a->first; tag < a->next; tag++)
		states[tag & (a->size * 2 - 1)] = *state(a, tag);
	free(a->states);
	a->states = states;
	a->size *= 2;
}

void acks_seen(struct acks *a, uint64_t tag)
{
	while (a->next <= tag) {
		if (a->next - a->first == a->size)
			grow(a);
		*state(a, a->next) = a->next == tag ? OPEN : GONE; /* tags without a delivery: another consumer's */
		a->next++;
	}
}

static int is_open(const struct acks *a, uint64_t generation, uint64_t tag)
{
	return generation == a->generation && tag >= a->first && tag < a->next && *state(a, tag) == OPEN;
}

void acks_done(struct acks *a, uint64_t generation, uint64_t tag)
{
	if (!is_open(a, generation, tag))
		return;
	*state(a, tag) = DONE;
	if (a->fresh_count == a->fresh_size) {
		a->fresh_size = a->fresh_size > 0 ? a->fresh_size * 2 : 64;
		a->fresh = mem_grow(a->fresh, a->fresh_size, sizeof(*a->fresh));
	}
	a->fresh[a->fresh_count++] = tag;
}

void acks_gone(struct acks *a, uint64_t generation, uint64_t tag)
{
	if (is_open(a, generation, tag))
		*state(a, tag) = GONE;
}

int acks_flush(struct acks *a, struct amqp *amqp, struct err *err)
{
	uint64_t last = 0;
	int rc = 0;

	while (a->first < a->next && *state(a, a->first) != OPEN) {
		if (*state(a, a->first) == DONE)
			last = a->first;
		a->first++;
	}
	if (last > 0)
		rc = amqp_ack(amqp, a->generation, last, true, err);
	if (last > 0)
		FAULT_POINT("job.acked");
	for (size_t i = 0; i < a->fresh_count && rc == 0; i++) {
		if (a->fresh[i] < a->first || *state(a, a->fresh[i]) != DONE)
			continue;
		*state(a, a->fresh[i]) = GONE;
		rc = amqp_ack(amqp, a->generation, a->fresh[i], false, err);
	}
	a->fresh_count = 0;
	return rc;
}
