/* The clock and a leased gateway number go in, ids that rise strictly come out. */
#include "common/base/id.h"

#include <assert.h>

#include "common/base/clock.h"

#define SEQUENCE_BITS 7
#define GATEWAY_BITS 6
#define SEQUENCE_MASK ((INT64_C(1) << SEQUENCE_BITS) - 1)
#define MILLISECONDS_END (INT64_C(1) << 40)

void id_source_init(struct id_source *source)
{
	pthread_mutex_init(&source->lock, NULL);
	source->last = -1;
	source->until_ms = 0;
	source->gateway = 0;
}

void id_source_grant(struct id_source *source, int gateway, int64_t from_ms, int64_t until_ms)
{
	int64_t first = (from_ms > ID_EPOCH_MS ? from_ms - ID_EPOCH_MS : 0) << SEQUENCE_BITS;

	assert(gateway >= 0 && gateway < ID_GATEWAYS);
	pthread_mutex_lock(&source->lock);
	source->gateway = gateway;
	source->until_ms = until_ms;
	if (source->last < first - 1)
		source->last = first - 1;
	pthread_mutex_unlock(&source->lock);
}

/* Which of the two limits refused: now is the clock's time, wanted the next id's. */
static int refuse(int64_t now_ms, int64_t wanted_ms, int64_t until_ms, struct err *err)
{
	if (until_ms == 0)
		return err_set(err, ERR_UNAVAILABLE, "no gateway number is leased yet: no ids");
	if (wanted_ms - now_ms > ID_JUMP_MS || now_ms - until_ms > ID_JUMP_MS)
		return err_set(err, ERR_UNAVAILABLE, "the clock jumped: ids stand at %lld, lease until %lld, clock %lld (ms)",
			(long long)wanted_ms, (long long)until_ms, (long long)now_ms);
	return err_set(err, ERR_UNAVAILABLE, "the lease of the gateway number ended %lld ms ago: no ids",
		(long long)(wanted_ms - until_ms));
}

static int64_t compose(int64_t next, int gateway)
{
	return (next >> SEQUENCE_BITS) << (GATEWAY_BITS + SEQUENCE_BITS) | (int64_t)gateway << SEQUENCE_BITS | (next & SEQUENCE_MASK);
}

static int64_t first_that(int64_t next, int gateway, id_fits_fn *fits, void *arg)
{
	for (int64_t tried = next; tried <= next + SEQUENCE_MASK; tried++) {
		if (fits(compose(tried, gateway), arg))
			return tried;
	}
	return next;
}

int id_next(struct id_source *source, int64_t *id, struct err *err)
{
	return id_next_that(source, NULL, NULL, id, err);
}

int id_next_that(struct id_source *source, id_fits_fn *fits, void *arg, int64_t *id, struct err *err)
{
	int64_t now_ms = clock_wall_ms();
	int64_t next = now_ms > ID_EPOCH_MS ? (now_ms - ID_EPOCH_MS) << SEQUENCE_BITS : 0;
	int64_t next_ms, until_ms;
	int gateway;
	bool allowed;

	pthread_mutex_lock(&source->lock);
	if (next <= source->last)
		next = source->last + 1; /* a full millisecond, or a clock that stepped back */
	next_ms = (next >> SEQUENCE_BITS) + ID_EPOCH_MS;
	until_ms = source->until_ms;
	gateway = source->gateway;
	if (fits != NULL && next_ms - now_ms <= ID_AHEAD_MS) {
		next = first_that(next, gateway, fits, arg);
		next_ms = (next >> SEQUENCE_BITS) + ID_EPOCH_MS; /* may be a later one */
	}
	allowed = next_ms < until_ms && next_ms - now_ms <= ID_JUMP_MS && next_ms - ID_EPOCH_MS < MILLISECONDS_END;
	if (allowed)
		source->last = next;
	pthread_mutex_unlock(&source->lock);

	if (!allowed)
		return refuse(now_ms, next_ms, until_ms, err);
	*id = compose(next, gateway);
	return 0;
}

int64_t id_source_close(struct id_source *source)
{
	int64_t free_ms;

	pthread_mutex_lock(&source->lock);
	source->until_ms = 0;
	free_ms = (source->last >> SEQUENCE_BITS) + 1 + ID_EPOCH_MS;
	pthread_mutex_unlock(&source->lock);
	return free_ms;
}

int64_t id_time_ms(int64_t id)
{
	return (id >> (GATEWAY_BITS + SEQUENCE_BITS)) + ID_EPOCH_MS;
}

int64_t id_first_of(int64_t wall_ms)
{
	return wall_ms > ID_EPOCH_MS ? (wall_ms - ID_EPOCH_MS) << (GATEWAY_BITS + SEQUENCE_BITS) : 0;
}

int id_gateway(int64_t id)
{
	return (int)(id >> SEQUENCE_BITS & (ID_GATEWAYS - 1));
}
