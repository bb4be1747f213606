/* id: 53-bit ids, so that JavaScript keeps them exact. Uses clock.
 *
 *   40 bits milliseconds since 2024-01-01T00:00Z (until 2058) | 6 bits gateway number | 7 bits sequence
 *
 * Ids of one source rise strictly, across a clock that steps back too: a full millisecond borrows from the next.
 * No id is given at or past `until`, the end of the gateway number's lease (see common/store/store.h, lease). A source
 * that is more than ID_JUMP_MS away from the clock refuses, so that a wild clock step can't burn the range. */
#ifndef FEEDMILL_BASE_ID_H
#define FEEDMILL_BASE_ID_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

#define ID_EPOCH_MS INT64_C(1704067200000)
#define ID_JUMP_MS INT64_C(3600000)
#define ID_AHEAD_MS 16
#define ID_GATEWAYS 64

struct id_source {
	pthread_mutex_t lock;
	int64_t last;      /* milliseconds << 7 | sequence, of the last id given */
	int64_t until_ms;  /* wall clock */
	int gateway;       /* 0 … 63 */
};

void id_source_init(struct id_source *source);                              /* gives nothing before its first grant */
void id_source_grant(struct id_source *source, int gateway, int64_t from_ms, int64_t until_ms); /* a lease taken or renewed */
/* Safe from any thread. ERR_UNAVAILABLE: the lease has run out, or the clock jumped. */
int id_next(struct id_source *source, int64_t *id, struct err *err);
/* The next one that fits, of the 128 that follow; the next, where none does or ids are ID_AHEAD_MS ahead of the clock. `fits` is quick:
 * it is asked with the source locked. NULL: any does. */
typedef bool id_fits_fn(int64_t id, void *arg);
int id_next_that(struct id_source *source, id_fits_fn *fits, void *arg, int64_t *id, struct err *err);

/* Gives no id from now on; returns the wall clock millisecond from which on none was given: where the next holder may start. */
int64_t id_source_close(struct id_source *source);

int64_t id_time_ms(int64_t id); /* the wall clock time that it carries */
int64_t id_first_of(int64_t wall_ms); /* ids below it carry an earlier time */
int id_gateway(int64_t id);

#endif
